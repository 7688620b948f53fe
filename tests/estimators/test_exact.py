"""Exact values of games whose values are known, and the weights that define them."""

from itertools import permutations
from math import comb, factorial

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import beta as beta_function

from tsds_jax.errors import InputError
from tsds_jax.estimators import enumerate_coalitions, semivalue_weights
from tsds_jax.games import TableGame


def table(players, worth):
    members = [[i for i in range(players) if code >> i & 1] for code in range(2**players)]
    return TableGame(jnp.asarray([worth(set(m)) for m in members], jnp.float32))


def shapley(game):
    return semivalue_weights("shapley", game.players) @ enumerate_coalitions(game).by_size


def test_the_glove_game_pays_the_scarce_glove():
    game = table(3, lambda s: float(0 in s and len(s) > 1))
    np.testing.assert_allclose(shapley(game), [2 / 3, 1 / 6, 1 / 6], atol=1e-6)


def test_the_airport_game_splits_each_stretch_among_those_who_use_it():
    costs = np.array([1.0, 3.0, 6.0, 10.0])
    game = table(4, lambda s: max((costs[i] for i in s), default=0.0))
    stretches = np.diff(costs, prepend=0)
    expected = [sum(stretches[j] / (4 - j) for j in range(i + 1)) for i in range(4)]
    np.testing.assert_allclose(shapley(game), expected, atol=1e-6)


def test_a_weighted_vote_gives_the_shapley_shubik_index():
    game = table(4, lambda s: float(sum([3, 2, 1, 1][i] for i in s) >= 4))
    np.testing.assert_allclose(shapley(game), np.array([6, 2, 2, 2]) / 12, atol=1e-6)


def test_an_additive_game_pays_each_its_own():
    own = np.array([0.5, -1.0, 2.0, 0.0, 3.0])
    np.testing.assert_allclose(shapley(table(5, lambda s: sum(own[i] for i in s))), own, atol=1e-5)


def test_enumeration_is_the_mean_over_all_permutations():
    utilities = np.random.default_rng(0).normal(size=2**5)
    game = TableGame(jnp.asarray(utilities, jnp.float32))
    values = np.zeros(5)
    for order in permutations(range(5)):
        code = 0
        for player in order:
            values[player] += utilities[code | 1 << player] - utilities[code]
            code |= 1 << player
    np.testing.assert_allclose(shapley(game), values / factorial(5), atol=1e-5)


def test_values_of_a_sum_of_games_are_the_sums_of_values():
    one, two = (np.random.default_rng(seed).normal(size=2**6).astype(np.float32) for seed in (1, 2))
    both = shapley(TableGame(jnp.asarray(one + two)))
    np.testing.assert_allclose(
        both, shapley(TableGame(jnp.asarray(one))) + shapley(TableGame(jnp.asarray(two))), atol=1e-5
    )


def test_the_mean_of_a_points_shapley_values_in_all_subsets_is_its_truncated_value():
    game = TableGame(jnp.asarray(np.random.default_rng(4).normal(size=2**6), jnp.float32))
    utilities = np.asarray(game.utilities)
    totals, counts = np.zeros(6), np.zeros(6)
    for code in range(2**6):
        members = [i for i in range(6) if code >> i & 1]
        if len(members) == 3:
            inside = [sum(1 << members[j] for j in range(3) if sub >> j & 1) for sub in range(8)]
            totals[members] += shapley(TableGame(jnp.asarray(utilities[inside])))
            counts[members] += 1
    exact = semivalue_weights("truncated", 6, size=3) @ enumerate_coalitions(game).by_size
    np.testing.assert_allclose(totals / counts, exact, atol=1e-5)


@pytest.mark.parametrize("players", [1, 2, 7])
def test_weights_are_those_of_their_definitions_and_sum_to_one(players):
    k = np.arange(players)
    choose = np.array([comb(players - 1, j) for j in k])
    np.testing.assert_allclose(semivalue_weights("beta", players, alpha=1, beta=1), 1 / players)
    np.testing.assert_allclose(
        semivalue_weights("beta", players, alpha=16, beta=1),
        choose * beta_function(1 + k, 16 + players - 1 - k) / beta_function(16, 1),
    )
    np.testing.assert_allclose(semivalue_weights("banzhaf", players), choose / 2 ** (players - 1))
    for kind in ("shapley", "beta", "banzhaf"):
        assert semivalue_weights(kind, players, alpha=4, beta=2).sum() == pytest.approx(1)


def test_beta_16_1_weighs_small_coalitions_more():
    weights = semivalue_weights("beta", 20, alpha=16, beta=1)
    assert (np.diff(weights) < 0).all()


def test_too_many_players_are_refused_by_name():
    with pytest.raises(InputError, match="17 points are too many to enumerate"):
        enumerate_coalitions(TableGame(jnp.zeros(2**17)))


def test_an_unknown_semivalue_is_refused():
    with pytest.raises(InputError, match="'nucleolus' is unknown"):
        semivalue_weights("nucleolus", 4)
