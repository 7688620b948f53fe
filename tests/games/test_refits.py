"""Refits to parts of the points: what could not be fitted is said."""

import warnings

import numpy as np
import pytest

from tsds_jax.games import ridge_game
from tsds_jax.games.refits import refitted


@pytest.mark.parametrize(("C", "fitted"), [(1.0, True), (1e20, False)])
def test_refits_that_do_not_converge_are_told_of(C, fitted):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(40, 2))
    y = (x[:, 0] > 0).astype(int)
    game = ridge_game(x, y, x, y, classes=2, C=C)
    with warnings.catch_warnings(record=True, action="always") as told:
        refitted(game, np.arange(40), np.array([10, 40]), lambda outcome: outcome.hit)
    assert ["did not converge: lower C" in str(one.message) for one in told] == ([] if fitted else [True])
