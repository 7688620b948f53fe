"""How alike the rankings of several runs are."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau, spearmanr

from tsds_jax.arrays import without_ties
from tsds_jax.errors import InputError


class Stability(NamedTuple):
    """Means over all pairs of runs; NaN where all values of a run are the same.

    Attributes:
      spearman: rank correlation.
      kendall: Kendall's tau.
      lowest: Jaccard index of the lowest tenth: points in both over points in either; of equal values some at random.
    """

    spearman: float
    kendall: float
    lowest: float


def stability(runs: Sequence[np.ndarray]) -> Stability:
    """Compares runs of one method on the same points with different seeds.

    Args:
      runs: values ``[points]`` of each, at least two; a point that has none (NaN) counts as the highest.

    Raises:
      InputError: fewer than two runs, or of different points.

    Example:
      >>> stability([np.arange(20.0), np.arange(20.0) ** 3])
      Stability(spearman=1.0, kendall=1.0, lowest=1.0)
    """
    if len(runs) < 2:
        raise InputError(f"stability compares runs, and there is {len(runs)}: give at least two")
    shapes = {np.shape(run) for run in runs}
    if len(shapes) > 1:
        raise InputError(f"runs have the shapes {sorted(shapes)}: give values of the same points")
    runs = [np.where(np.isnan(run), np.inf, run) for run in np.asarray(runs, np.float64)]
    size = max(1, len(runs[0]) // 10)
    # Ties are broken for each run apart: in the order of the points, equal values would look stable.
    ranks = [without_ties(run, number) for number, run in enumerate(runs)]
    lowest = [set(np.argsort(rank)[:size].tolist()) for rank in ranks]
    pairs = list(combinations(range(len(runs)), 2))
    # Of a run whose values are all the same SciPy says so, once a pair.
    ranked = all(np.min(run) < np.max(run) for run in runs)
    found = [
        (
            spearmanr(runs[a], runs[b]).statistic if ranked else np.nan,
            kendalltau(runs[a], runs[b]).statistic if ranked else np.nan,
            len(lowest[a] & lowest[b]) / len(lowest[a] | lowest[b]) if ranked else np.nan,
        )
        for a, b in pairs
    ]
    return Stability(*(float(mean) for mean in np.mean(found, 0)))
