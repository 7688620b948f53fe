"""The game of QQP's size on an accelerator, and the peak of the device, which its rate is a share of."""

from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from measures.problem import synthetic, timed
from measures.rows import Large

import tsds_jax


def large(*, dry: bool) -> Large:
    """The game of QQP's size."""
    points, features, rows, coalitions = (3000, 16, 100, 20) if dry else (363_846, 128, 1000, 1000)
    data = synthetic(points, features, rows)

    def run(seed: int) -> Any:
        return tsds_jax.value(*data, utility="accuracy", estimator="add_one", samples=coalitions, seed=seed)

    found, first = timed(lambda: run(0))
    seconds = [timed(partial(run, repeat))[1] for repeat in range(1 if dry else 3)]
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    peak = matrix_peak(512 if dry else 8192)  # last: its matrices would count as the game's memory
    return Large(
        f"N = {points:,}, {features} features, 2 classes, {rows:,} validation rows, {coalitions:,} coalitions, "
        f"s = {found.subset_size} (synthetic features)",
        first,
        seconds,
        2.0 * points * rows * features * coalitions,
        peak,
        memory,
        found.unconverged,
    )


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
        # Several at once hide what it takes to start one.
        eight = partial(lambda product, a, b: jax.block_until_ready([product(a, b) for _ in range(8)]), product, a, b)
        seconds = [timed(eight)[1] for _ in range(5)]
        peak[name] = 8 * 2.0 * size**3 / median(seconds)
    return peak
