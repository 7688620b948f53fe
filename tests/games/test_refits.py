"""Refits to parts of the points: what could not be fitted is said."""

import numpy as np
import pytest

from tsds_jax.evaluation import kept_curve
from tsds_jax.games import ridge_game
from tsds_jax.games.refits import refitted
from tsds_jax.selection import removal_curve
from tsds_jax.selection.doubts import doubts_about_cut


@pytest.mark.parametrize(("C", "fitted"), [(1.0, True), (1e20, False)])
def test_refits_that_do_not_converge_are_told_of(C, fitted):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(40, 2))
    y = (x[:, 0] > 0).astype(int)
    game = ridge_game(x, y, x, y, classes=2, C=C)
    _, converged = refitted(game, np.arange(40), np.array([10, 40]), lambda outcome: outcome.hit)
    assert converged == fitted
    assert kept_curve(game, np.arange(40.0), step=0.5).converged == fitted
    curve = removal_curve(game, np.arange(40), grid=0.25)
    assert curve.converged == fitted
    told = [words for words in doubts_about_cut(curve, y, ("no", "yes"), np.arange(40), y) if "refit" in words]
    about = "refits behind the removal curve did not converge: lower C, or bring the features to one scale"
    assert told == ([] if fitted else [about])
