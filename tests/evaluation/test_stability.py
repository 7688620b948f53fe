"""Stability is the mean over pairs of runs of SciPy's correlations and of the lowest tenth's overlap."""

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from tsds_jax.errors import InputError
from tsds_jax.evaluation import stability


def test_it_is_the_mean_over_all_pairs():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=50)
    runs = [truth + rng.normal(size=50) for _ in range(3)]
    found = stability(runs)
    pairs = [(runs[0], runs[1]), (runs[0], runs[2]), (runs[1], runs[2])]
    assert found.spearman == pytest.approx(np.mean([spearmanr(*pair).statistic for pair in pairs]))
    assert found.kendall == pytest.approx(np.mean([kendalltau(*pair).statistic for pair in pairs]))
    lowest = [set(np.argsort(run)[:5]) for run in runs]
    expected = np.mean([len(lowest[a] & lowest[b]) / len(lowest[a] | lowest[b]) for a, b in ((0, 1), (0, 2), (1, 2))])
    assert found.lowest == pytest.approx(expected)


def test_equal_values_are_not_stable_for_their_order():
    assert stability([np.repeat([0.0, 1.0], [100, 100]) for _ in range(4)]).lowest < 0.4
    assert np.isnan(stability([np.zeros(20), np.arange(20.0)]).lowest)


def test_a_point_without_a_value_counts_as_the_highest():
    some = np.r_[np.nan, np.arange(19.0)]
    highest = np.r_[100.0, np.arange(19.0)]
    rest = np.random.default_rng(0).normal(size=20)
    assert stability([some, rest]) == stability([highest, rest])


def test_one_run_is_compared_with_nothing():
    with pytest.raises(InputError, match="there is 1: give at least two"):
        stability([np.arange(3.0)])
