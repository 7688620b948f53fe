"""How often 95 % intervals hold the values of endless sampling, on real text."""

from pathlib import Path
from typing import Any

import numpy as np
from measures.problem import Arrays
from measures.rows import Coverage
from measures.until import SUBSET, TRIAL_SAMPLES, converged

import tsds_jax

# Estimator, samples, runs.
RUNS = (
    ("add_one", 64, 60),
    ("add_one", 128, 40),
    ("add_one", 300, 20),
    ("permutation", 100, 5),
    ("permutation", 300, 5),
    ("antithetic permutation", 100, 5),
    ("antithetic permutation", 300, 5),
)


def coverage(data: Arrays, cache: Path, *, quick: bool) -> list[Coverage]:
    """Share of the points, by run, whose interval holds the mean of a run that is many times longer.

    The longer run's own noise, known from its halves, is added to the intervals.
    """
    reference = converged(data, cache, "add_one", TRIAL_SAMPLES if quick else 16_000)
    noise = np.sqrt(np.mean((reference.halves[0] - reference.halves[1]) ** 2) / 4)
    rows = []
    for estimator, samples, runs in RUNS[::3] if quick else RUNS:
        shares = []
        for seed in range(2 if quick else runs):
            options: dict[str, Any] = {"samples": samples, "subset_size": SUBSET, "seed": seed, "truncation": 0.0}
            options["utility"] = "accuracy"
            if estimator.startswith("antithetic"):
                options["antithetic"] = True
            v = tsds_jax.value(*data, estimator=estimator.split()[-1], **options)
            half = np.hypot(v.interval()[1] - v.values, 1.96 * noise)
            shares.append(float(np.mean(np.abs(v.values - reference.values) < half)))
        rows.append(Coverage(f"{estimator}, {samples} samples, s = {SUBSET}", len(data.x), reference.about, shares))
    return rows
