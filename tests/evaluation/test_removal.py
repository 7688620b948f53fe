"""Curves over the points that are kept are scikit-learn's scores; the weighted drop follows from them."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import tsds_jax as tsds
from tsds_jax.arrays import without_ties
from tsds_jax.evaluation import KeptCurve, kept_curve
from tsds_jax.valuation import source_game

RNG = np.random.default_rng(0)
X, X_TEST = RNG.normal(size=(80, 3)), RNG.normal(size=(150, 3))
Y, Y_TEST = (X[:, 0] + RNG.normal(size=80) > 0).astype(int), (X_TEST[:, 0] > 0).astype(int)


def test_each_step_is_scikit_learns_score_on_what_is_kept():
    values = RNG.normal(size=80)
    curve = kept_curve(source_game(X, Y, X_TEST, Y_TEST), values, step=0.25)
    assert curve.share.tolist() == [0.25, 0.5, 0.75, 1.0]
    ranking = np.argsort(values)
    for place, size in enumerate((20, 40, 60, 80)):
        for order, found in ((ranking[::-1], curve.best), (ranking, curve.worst)):
            fit = LogisticRegression(tol=1e-8).fit(X[order[:size]], Y[order[:size]])
            assert found[place] == pytest.approx(fit.score(X_TEST, Y_TEST), abs=1e-6)
    assert curve.best[-1] == curve.worst[-1]


@pytest.mark.parametrize(("step", "steps"), [(0.3, 3), (0.4, 2), (0.15, 7), (1, 1)])
def test_a_step_of_which_the_whole_is_no_multiple_ends_at_the_whole(step, steps):
    curve = kept_curve(source_game(X, Y, X_TEST, Y_TEST), np.arange(80.0), step=step)
    assert (len(curve.share), curve.share[-1]) == (steps, 1)


def test_points_of_the_same_value_go_in_no_order_of_theirs():
    order = np.argsort(Y, kind="stable")
    curve = kept_curve(source_game(X[order], Y[order], X_TEST, Y_TEST), np.zeros(80), step=0.5)
    # In their order either half would be of nearly one class.
    assert min(curve.best[0], curve.worst[0]) > 0.7


def test_a_step_out_of_range_is_refused():
    with pytest.raises(tsds.InputError, match="step is 0: give a number from"):
        kept_curve(source_game(X, Y, X_TEST, Y_TEST), np.arange(80.0), step=0)


def test_values_of_other_points_and_games_of_regressions_are_refused():
    with pytest.raises(tsds.InputError, match=r"values have shape \[50\] for 80 points"):
        kept_curve(source_game(X, Y, X_TEST, Y_TEST), np.arange(50.0))
    with pytest.raises(tsds.InputError, match="one of r2 has no classes"):
        kept_curve(source_game(X, X[:, 0], X_TEST, X_TEST[:, 0], source="ridge", utility="r2"), np.arange(80.0))


def test_the_weighted_drop_counts_early_losses_more():
    share = np.array([0.25, 0.5, 0.75, 1.0])
    early = KeptCurve(share, share, np.array([0.6, 0.6, 0.6, 0.8]))
    late = KeptCurve(share, share, np.array([0.6, 0.8, 0.8, 0.8]))
    assert early.weighted_drop == pytest.approx(0.2 * (1 + 1 / 2 + 1 / 3))
    assert late.weighted_drop == pytest.approx(0.2 / 3)


def test_good_values_drop_more_than_random_ones():
    good = -np.abs(Y - (X[:, 0] > 0)) + 0.1 * RNG.normal(size=80)
    game = source_game(X, Y, X_TEST, Y_TEST)
    assert kept_curve(game, good).weighted_drop > kept_curve(game, RNG.normal(size=80)).weighted_drop + 0.05


def test_equal_values_go_in_random_order_and_not_as_the_rows_came():
    values = np.repeat([1.0, np.nan, 0.0], 40)
    ranks = without_ties(values, 0)
    assert sorted(ranks) == list(range(120))
    assert set(ranks[80:]) == set(range(40))
    assert set(ranks[40:80]) == set(range(80, 120))
    assert abs(np.corrcoef(ranks[80:], np.arange(40))[0, 1]) < 0.5
    assert (without_ties(values, 1) != ranks).any()
    np.testing.assert_array_equal(without_ties(values, 0), ranks)
    single = np.random.default_rng(3).normal(size=9)
    np.testing.assert_array_equal(without_ties(single, 0), single.argsort().argsort())
