"""What a device reaches at most: in products of matrices, and in a stream through its memory."""

from functools import partial
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from measures.problem import timed

# Calls started before one is waited for, which hides what it takes to start one; and how often that is timed.
AT_ONCE, TIMES = 8, 5


class Peaks(NamedTuple):
    """What was reached.

    Attributes:
      products: FLOP a second of square matrix products, by precision.
      memory: bytes a second, read and written.
    """

    products: dict[str, float]
    memory: float


def peaks(*, dry: bool) -> Peaks:
    """Of matrices of 256 MiB and a stream of 1 GiB, far more than any cache holds; of a dry run of small ones."""
    return Peaks(matrix_peak(512 if dry else 8192), memory_peak(2**20 if dry else 2**28))


def matrix_peak(size: int) -> dict[str, float]:
    """FLOP a second of square matrix products: full float32, float32 as the device takes it (TF32), bfloat16."""
    kinds: dict[str, tuple[Any, jax.lax.Precision]] = {
        "float32": (jnp.float32, jax.lax.Precision.HIGHEST),
        "float32 at default precision": (jnp.float32, jax.lax.Precision.DEFAULT),
        "bfloat16": (jnp.bfloat16, jax.lax.Precision.DEFAULT),
    }
    peak = {}
    for name, (dtype, precision) in kinds.items():
        a, b = (jax.random.normal(jax.random.key(seed), (size, size), dtype) for seed in range(2))
        product = jax.jit(partial(jnp.matmul, precision=precision))
        jax.block_until_ready(product(a, b))
        several = partial(
            lambda product, a, b: jax.block_until_ready([product(a, b) for _ in range(AT_ONCE)]), product, a, b
        )
        seconds = [timed(several)[1] for _ in range(TIMES)]
        peak[name] = AT_ONCE * 2.0 * size**3 / median(seconds)
    return peak


def memory_peak(count: int) -> float:
    """Bytes a second that `stream` reads and writes of so many float32 numbers."""
    numbers = stream(jnp.zeros(count, jnp.float32), 1)
    seconds = []
    for _ in range(TIMES):
        numbers, one = timed(partial(stream, numbers, AT_ONCE))
        seconds.append(one)
    return AT_ONCE * 2.0 * numbers.nbytes / median(seconds)


def stream(numbers: jax.Array, calls: int) -> jax.Array:
    """One added to every number, so many times; the numbers are given away.

    Each time is a program of its own, which needs all that the one before wrote: XLA can leave out none of it. It
    writes where it reads, so that a processor need not read first what it will write elsewhere, uncounted.
    """
    for _ in range(calls):
        numbers = one_more(numbers)
    return jax.block_until_ready(numbers)


@partial(jax.jit, donate_argnums=0)
def one_more(numbers: jax.Array) -> jax.Array:
    """All numbers read, and as many written."""
    return numbers + 1
