"""How much is computed at once: what fits into a CPU's caches, or fills an accelerator."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.fused import LANES
from tsds_jax.runtime.memory import device_memory

# Numbers in one array on a CPU: 16 MiB of float32.
_CPU = 2**22
# On an accelerator at most so many, 4 GiB, and so many bytes of its free memory for each: a dozen such arrays fit.
_MOST, _BYTES = 2**30, 64
# Free memory is told in such parts of all of it: other numbers compile other programs, a little more in use does not.
_PARTS = 8
# Numbers in an array of matrices, at least: 256 MiB of float32.
_MATRICES = 2**26
# Orders longer than this are cut where no prefix reaches, to one of so many lengths: each is compiled.
_LONG, _CUTS = 512, 3
# Its memory where it does not say.
_UNKNOWN = 2**34
# An array of more than such a part of a device's memory is cut, if it can be.
_LARGE = 4


def numbers_at_once() -> int:
    """Numbers in the largest array that is made at once; above it, work goes chunk by chunk."""
    if jax.default_backend() == "cpu":
        return _CPU
    memory, used = device_memory() or (_UNKNOWN, 0)
    if jax.process_count() > 1:
        # Processes of one job run the same programs, and what is free differs between them.
        return min(_MOST, memory // 2 // _BYTES)
    part = max(1, memory // _PARTS)
    free = max(1, (memory - used) // part) * part
    return min(_MOST, free // _BYTES)


def matrices_at_once(features: int) -> int:
    """How many matrices ``[features, features]`` one array holds; a fit takes a handful of such arrays.

    Example:
      >>> matrices_at_once(2**12)
      4
    """
    return max(1, max(_MATRICES, numbers_at_once() // 4) // features**2)


def cut_short(fitted: Callable[[int], Any], length: int, most: jax.Array) -> Any:
    """``fitted`` of the first rows of ``length``, at least ``most`` of them: short prefixes do not pay for long ones.

    Args:
      fitted: maps a number of rows to arrays of one shape.
      length: rows of the order.
      most: the longest prefix.
    """
    # Mapped over chains, as on an accelerator, all lengths would be computed.
    if length <= _LONG or jax.default_backend() != "cpu":
        return fitted(length)
    ends = [-(-length * part // _CUTS) for part in range(1, _CUTS + 1)]
    return jax.lax.switch(sum(most > end for end in ends[:-1]), [partial(fitted, end) for end in ends])


def is_large(array: Any) -> bool:
    """Whether the array leaves a device little room for anything else, and there are several to cut it for.

    Devices that a CPU is taken for have its memory in common: none of their arrays is.
    """
    memory = device_memory()
    return memory is not None and jax.device_count() > 1 and array.nbytes > memory[0] // _LARGE


def held(array: np.ndarray) -> Any:
    """The array on the device; of one that is large (`is_large`) the device will have a part."""
    return array if is_large(array) else jnp.asarray(array)


def even_chunk(entries: int, numbers: int) -> int:
    """How many of the entries, of so many numbers each, are computed together: about as many in every chunk.

    On an accelerator a multiple of what its kernels take, unless fewer fit: there may be more than there are entries.

    Example:
      >>> even_chunk(10, numbers_at_once() // 7)
      5
    """
    chunks = -(-entries // max(1, numbers_at_once() // max(numbers, 1)))
    even = -(-entries // max(1, chunks))
    return even if jax.default_backend() == "cpu" or even < LANES else -(-even // LANES) * LANES


def fit_in_batches(fitted: Callable[[jax.Array], Any], fits: int, features: int, numbers: int = 1) -> Any:
    """``fitted`` of the numbers of so many fits, together as many as `matrices_at_once`, or as of ``numbers`` each."""
    each = max(-(-numbers_at_once() // matrices_at_once(features)), numbers)
    return map_in_batches(fitted, jnp.arange(fits), each)


def map_in_batches(function: Callable[[jax.Array], Any], entries: jax.Array, numbers: int) -> Any:
    """``function`` of many entries, ``numbers`` each, as many at a time as make arrays of `numbers_at_once`."""
    batch = even_chunk(len(entries), numbers)
    if len(entries) <= batch:
        return function(entries)
    # Equal batches: lax.map compiles its function once more for a remainder.
    count = -(-len(entries) // batch)
    padded = jnp.concatenate([entries, jnp.broadcast_to(entries[:1], (count * batch - len(entries),))])
    found = jax.lax.map(function, padded.reshape(count, batch))
    return jax.tree.map(lambda part: part.reshape(count * batch, *part.shape[2:])[: len(entries)], found)
