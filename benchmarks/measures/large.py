"""The game of QQP's size on an accelerator, and the peaks of the device, which its rate is a share of."""

from functools import partial
from typing import Any

import jax
from measures.peaks import peaks
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
    reached = peaks(dry=dry)  # last: its arrays would count as the game's memory
    return Large(
        f"N = {points:,}, {features} features, 2 classes, {rows:,} validation rows, {coalitions:,} coalitions, "
        f"s = {found.subset_size} (synthetic features)",
        first,
        seconds,
        2.0 * points * rows * features * coalitions,
        reached.products,
        memory,
        found.unconverged,
        moved(points, features, rows, coalitions),
        reached.memory,
    )


def moved(points: int, features: int, rows: int, coalitions: int) -> float:
    """Bytes of what the counted products read and write, in float32.

    For each coalition once: what each point's fit changes and the validation rows, and the logits of all rows by all
    points' fits, which a kernel of its own for the product has to write. That something reads these again is not
    counted, nor are the fits.
    """
    return 4.0 * coalitions * (points * features + rows * features + points * rows)
