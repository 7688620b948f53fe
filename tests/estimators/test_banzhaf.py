"""Maximum sample reuse against enumeration."""

from collections import deque

import jax.numpy as jnp
import numpy as np

import tsds_jax as tsds
from tsds_jax.estimators import enumerate_coalitions, semivalue_weights
from tsds_jax.estimators.banzhaf import banzhaf
from tsds_jax.games import TableGame, by_row, ridge_game


def last(estimates):
    return deque(estimates, maxlen=1).pop()


def test_values_converge_to_the_banzhaf_values_within_their_standard_errors():
    game = TableGame(jnp.asarray(np.random.default_rng(0).normal(size=2**8), jnp.float32))
    exact = semivalue_weights("banzhaf", 8) @ enumerate_coalitions(game).by_size
    moments = last(banzhaf(game, samples=4000, seed=1)).moments
    mean, error = moments.mean()
    assert np.abs((mean - exact) / error).max() < 4
    even, odd = moments.halves()
    np.testing.assert_allclose((even + odd) / 2, mean, atol=0.02)


def test_intervals_cover_the_value_in_about_95_percent_of_runs():
    game = TableGame(jnp.asarray(np.random.default_rng(0).normal(size=2**8), jnp.float32))
    exact = semivalue_weights("banzhaf", 8) @ enumerate_coalitions(game).by_size
    inside = []
    for seed in range(60):
        mean, error = last(banzhaf(game, samples=208, seed=seed)).moments.mean()
        inside.append(np.abs(mean - exact) < 1.96 * error)
    assert 0.92 < np.mean(inside) < 0.98


def test_a_check_counts_as_many_players_as_are_outside():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), rng.integers(0, 2, 20)
    v = tsds.value(x, y, x, y, estimator="banzhaf_add_one", samples=16)
    np.testing.assert_allclose(v.checks[:, 2], 1 - v.checks[:, 0] / 20)
    assert np.ptp(v.checks[:, 2]) > 0


def test_class_wise_utilities_count_for_their_own_class():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), np.arange(30) % 2
    x[:, 0] += y
    game = ridge_game(x[:9], y[:9], x[9:], y[9:], classes=2, utility="class_wise")
    exact = semivalue_weights("banzhaf", 9) @ enumerate_coalitions(game).by_size
    mean, error = last(banzhaf(game, samples=2000, seed=0)).moments.mean()
    assert np.abs((mean - exact) / error).max() < 4


def test_a_utility_split_by_row_counts_whole_though_rows_are_as_many_as_players():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 3)), np.arange(24) % 2
    game = ridge_game(x[:12], y[:12], x[12:], y[12:], classes=2, utility="probability")
    whole, split = (last(banzhaf(one, samples=64, seed=0)).moments.mean()[0] for one in (game, by_row(game)))
    np.testing.assert_allclose(split, whole, atol=1e-6)
