"""Sampling chains against exact values, and what must not change them."""

from collections import deque

import jax.numpy as jnp
import numpy as np
import pytest

from tsds_jax.estimators import enumerate_coalitions, permutation, semivalue_weights
from tsds_jax.estimators.permutation import walk_chain, walk_chains
from tsds_jax.games import TableGame, logistic_game, utility


def last(estimates):
    return deque(estimates, maxlen=1).pop()


def random_table(players=8, seed=0):
    return TableGame(jnp.asarray(np.random.default_rng(seed).normal(size=2**players), jnp.float32))


def small_logistic(points=40, classes=2, utility="accuracy", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points + 50, 4))
    y = np.argmax(x[:, :classes] + 0.7 * rng.gumbel(size=(points + 50, classes)), 1)
    return logistic_game(x[:points], y[:points], x[points:], y[points:], classes=classes, utility=utility)


@pytest.mark.parametrize("size", [3, 5, 8])
def test_chains_estimate_the_size_truncated_value_within_their_standard_errors(size):
    game = random_table()
    exact = semivalue_weights("truncated", 8, size=size) @ enumerate_coalitions(game).by_size
    estimate = last(permutation(game, subset_size=size, samples=4000, seed=1, truncation=0.0))
    error = (estimate.moments.mean()[0] - exact) / estimate.moments.mean()[1]
    assert np.abs(error).max() < 4
    assert np.sqrt(np.mean(error**2)) < 2


def test_logistic_chains_estimate_the_exact_value():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(9, 2)), np.array([0, 1] * 4 + [0])
    game = logistic_game(x, y, x + 0.3, y, classes=2, utility="log_likelihood")
    exact = semivalue_weights("truncated", 9, size=5) @ enumerate_coalitions(game).by_size
    estimate = last(permutation(game, subset_size=5, samples=1500, seed=1, truncation=0.0))
    assert np.abs((estimate.moments.mean()[0] - exact) / estimate.moments.mean()[1]).max() < 4


@pytest.mark.parametrize("block", [1, 5, 64])
def test_a_chains_marginals_sum_to_what_the_whole_chain_is_worth(block):
    game = small_logistic(utility="log_likelihood")
    order = jnp.asarray(np.random.default_rng(0).permutation(40)[:13])
    walk = walk_chain(game, order, jnp.float32(0), block)
    members = jnp.zeros(40, bool).at[order].set(True)
    worth = utility(game, members) - utility(game, jnp.zeros(40, bool))
    assert float(walk.marginals.sum()) == pytest.approx(float(worth), abs=1e-5)


def test_truncation_gives_zero_from_the_first_prefix_within_tolerance_on():
    game = small_logistic()
    order, tolerance = jnp.arange(40), 0.05
    utilities = np.asarray(game.prefix_utilities(order, jnp.arange(41)).utility)
    first = int(np.argmax(np.abs(utilities[-1] - utilities) < tolerance))
    assert 0 < first < 39
    for block in (1, 7, 64):
        walk = walk_chain(game, order, jnp.float32(tolerance), block)
        np.testing.assert_allclose(walk.marginals[:first], np.diff(utilities)[:first], atol=1e-6)
        assert not np.asarray(walk.marginals[first:]).any()
        assert int(walk.truncated) == 40 - first
        assert int(walk.fits) <= 2 + -(-(first + 1) // block) * block


def test_the_estimate_depends_neither_on_chunk_nor_lanes_nor_block():
    game = small_logistic(classes=3)

    def means(**how):
        return last(permutation(game, subset_size=12, samples=6, seed=3, **how)).moments.mean()[0]

    plain = means(chunk=1, lanes=1)
    np.testing.assert_array_equal(means(chunk=7, lanes=1), plain)
    np.testing.assert_allclose(means(chunk=6, lanes=4), plain, atol=1e-6)
    np.testing.assert_allclose(means(block=5), plain, atol=1e-6)


def test_a_run_compiles_once():
    game = small_logistic(points=37)
    before = walk_chains._cache_size()
    last(permutation(game, subset_size=10, samples=5, seed=0, chunk=4))
    assert walk_chains._cache_size() == before + 1
    last(permutation(game, subset_size=10, samples=9, seed=5, chunk=4, truncation=0.0))
    assert walk_chains._cache_size() == before + 1


def test_duplicated_points_get_equal_values_and_a_point_that_changes_nothing_gets_zero():
    table = np.random.default_rng(3).normal(size=2**6)
    codes = np.arange(2**6)
    swapped = (codes & ~3) | ((codes & 1) << 1) | ((codes >> 1) & 1)
    table = (table + table[swapped])[codes & ~(1 << 5)]  # players 0 and 1 alike, player 5 null
    game = TableGame(jnp.asarray(table, jnp.float32))
    exact = enumerate_coalitions(game).by_size.mean(0)
    assert exact[0] == pytest.approx(exact[1], abs=1e-6)
    assert exact[5] == pytest.approx(0, abs=1e-6)
    mean, error = last(permutation(game, subset_size=6, samples=3000, seed=0, truncation=0.0)).moments.mean()
    assert mean[5] == pytest.approx(0, abs=1e-6)
    assert abs(mean[0] - mean[1]) < 4 * np.hypot(*error[:2])


def test_every_point_is_drawn_as_often_as_asked_or_once_more():
    counts = last(permutation(random_table(7), subset_size=3, samples=11, seed=0)).moments.counts.sum(0)
    assert set(counts.tolist()) <= {11, 12}


def test_a_difference_of_just_the_tolerance_is_not_close_whatever_the_rounding():
    # Shares of 1,000 rows: |k/1000 - (k+1)/1000| in float32 falls on either side of 0.001.
    shares = (np.arange(1, 1000) / 1000).astype(np.float32)
    for one, other in zip(shares[:-1:37], shares[1::37], strict=True):
        game = TableGame(jnp.asarray([0.0, one, 0.0, other]))
        walk = walk_chain(game, jnp.array([0, 1]), jnp.float32(1e-3), 2)
        assert int(walk.truncated) == 0
        assert float(walk.marginals[1]) == pytest.approx(1e-3, abs=1e-6)
