"""How much is computed at once: what fits into a CPU's caches, or fills an accelerator."""

import jax

# Numbers in one array: 16 MiB of float32, or 2 GiB.
_CPU, _ACCELERATOR = 2**22, 2**29


def numbers_at_once() -> int:
    """Numbers in the largest array that is made at once; above it, work goes chunk by chunk."""
    return _CPU if jax.default_backend() == "cpu" else _ACCELERATOR


def even_chunk(entries: int, numbers: int) -> int:
    """How many of the entries, of so many numbers each, are computed together: about as many in every chunk.

    Example:
      >>> even_chunk(10, numbers_at_once() // 7)
      5
    """
    chunks = -(-entries // max(1, numbers_at_once() // max(numbers, 1)))
    return -(-entries // max(1, chunks))
