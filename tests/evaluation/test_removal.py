"""Curves over the points that are kept are scikit-learn's scores; the weighted drop follows from them."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

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
