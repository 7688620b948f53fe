"""Every game by every estimator, against enumeration, and enumeration against all orders of the players."""

from collections import deque
from itertools import permutations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsds_jax.estimators import add_one, banzhaf, enumerate_coalitions, permutation, semivalue_weights
from tsds_jax.estimators.permutation import walk_chains
from tsds_jax.games import TableGame, function_game, kernel_game, logistic_game, ridge_game

PLAYERS = 6


def data(classes):
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(PLAYERS + 30, 4)).astype(np.float32)
    y = np.argmax(x[:, : max(classes, 1)] + 0.7 * rng.gumbel(size=(len(x), max(classes, 1))), 1)
    y[:PLAYERS] = np.arange(PLAYERS) % max(classes, 1)
    y = y if classes else x @ rng.normal(size=4) + rng.normal(size=len(x))
    return x[:PLAYERS], y[:PLAYERS], x[PLAYERS:], y[PLAYERS:]


def kernel():
    x, y, x_val, y_val = data(2)
    return kernel_game(np.tanh(x @ x.T), y, np.tanh(x_val @ x.T), y_val, classes=2, utility="log_likelihood")


GAMES = {
    "logistic": lambda: logistic_game(*data(2), classes=2, utility="log_likelihood"),
    "logistic of three": lambda: logistic_game(*data(3), classes=3, utility="probability"),
    "ridge": lambda: ridge_game(*data(2), classes=2, utility="accuracy"),
    "ridge of three": lambda: ridge_game(*data(3), classes=3, utility="balanced_accuracy"),
    "ridge regression": lambda: ridge_game(*data(0), classes=0, utility="neg_mean_squared_error"),
    "kernel": kernel,
    "function": lambda: function_game(lambda members: np.tanh(members.sum() - 4) + len(members) ** 0.5, PLAYERS),
    "table": lambda: TableGame(jnp.asarray(np.random.default_rng(0).normal(size=2**PLAYERS), jnp.float32)),
}
ESTIMATORS = {
    "permutation": (
        "shapley",
        lambda game: permutation(game, subset_size=PLAYERS, samples=1200, seed=0, truncation=0.0),
    ),
    "add_one": ("shapley", lambda game: add_one(game, subset_size=PLAYERS, samples=1200, seed=0)),
    "banzhaf": ("banzhaf", lambda game: banzhaf(game, samples=1200, seed=0)),
    "banzhaf_add_one": ("banzhaf", lambda game: add_one(game, subset_size=PLAYERS, samples=1200, seed=0, half=True)),
}


@pytest.mark.slow
@pytest.mark.parametrize("game", ["logistic", "ridge"])
def test_with_64_bits_coalitions_are_of_every_size_as_with_32(game):
    drawn = []
    for wide in (False, True):
        with jax.enable_x64(wide):
            made = GAMES[game]()
            estimate = deque(add_one(made, subset_size=PLAYERS, samples=400, seed=0), maxlen=1)[0]
            drawn.append(estimate.moments.counts.sum(0))
            exact = enumerate_coalitions(made).by_size.mean(0)
            mean, error = estimate.moments.mean()
            assert np.abs((mean - exact) / error).max() < 4
    np.testing.assert_array_equal(*drawn)


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_the_mean_over_all_orders_is_the_enumerations_shapley_value(game):
    made = GAMES[game]()
    orders = np.array(list(permutations(range(PLAYERS))), np.int32)
    walk = walk_chains(made, orders, jnp.float32(0), block=PLAYERS, lanes=1)
    total = np.zeros(PLAYERS)
    np.add.at(total, orders, np.asarray(walk.marginals, np.float64))
    exact = enumerate_coalitions(made).by_size.mean(0)
    np.testing.assert_allclose(total / len(orders), exact, atol=1e-5)


def pair(game, estimator):
    """Not a slow one is each game by one estimator, and each estimator by two games."""
    quick = estimator == "add_one" or game in ("ridge", "table")
    return pytest.param(game, estimator, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("game", "estimator"), [pair(*both) for both in product(GAMES, ESTIMATORS)])
def test_every_estimator_converges_to_the_enumerated_values_of_every_game(game, estimator):
    made = GAMES[game]()
    kind, run = ESTIMATORS[estimator]
    exact = semivalue_weights(kind, PLAYERS) @ enumerate_coalitions(made).by_size
    estimate = deque(run(made), maxlen=1).pop()
    mean, error = estimate.moments.mean()
    assert estimate.unconverged == 0
    assert np.abs((mean - exact) / error).max() < 4.5
    assert error.max() < 0.35 * np.abs(exact).max()
