"""Exact values of games whose values are known, and the weights that define them."""

from math import comb

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import beta as beta_function

from tsds_jax.errors import InputError
from tsds_jax.estimators import enumerate_coalitions, semivalue_weights
from tsds_jax.games import TableGame
from tsds_jax.valuation import value_game


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


@pytest.mark.parametrize("size", [1, 3, 6])
def test_enumeration_is_the_mean_over_all_permutations_also_of_their_first_positions(
    random_table, all_permutations, size
):
    game = random_table(6)
    found = semivalue_weights("truncated", 6, size=size) @ enumerate_coalitions(game).by_size
    np.testing.assert_allclose(found, all_permutations(np.asarray(game.utilities), size), atol=1e-6)


@pytest.mark.parametrize("players", [2, 3, 8])
def test_the_mean_alignment_games_closed_form_is_its_enumeration(mean_alignment, players):
    game, by_size = mean_alignment(players)
    np.testing.assert_allclose(enumerate_coalitions(game).by_size, by_size, atol=2e-5)


def test_each_player_of_a_game_with_parts_is_valued_by_its_own_part(parts_table):
    game = parts_table(6, 3, picked=True)
    found = enumerate_coalitions(game)
    each = [enumerate_coalitions(TableGame(game.utilities[:, part])).by_size for part in range(3)]
    for player, part in enumerate(np.asarray(game.part)):
        np.testing.assert_allclose(found.by_size[:, player], each[part][:, player], atol=1e-6)
    assert found.by_row is None


def test_parts_that_add_up_are_kept_apart_and_their_sum_is_the_value(parts_table):
    game = parts_table(5, 4, picked=False)
    found = enumerate_coalitions(game)
    assert found.by_row.shape == (5, 5, 4)
    whole = enumerate_coalitions(TableGame(game.utilities.sum(1)))
    np.testing.assert_allclose(found.by_row.sum(2), whole.by_size, atol=1e-6)
    np.testing.assert_allclose(found.by_size, whole.by_size, atol=1e-6)
    one = enumerate_coalitions(TableGame(game.utilities[:, 2]))
    np.testing.assert_allclose(found.by_row[:, :, 2], one.by_size, atol=1e-6)


def test_sixteen_players_are_enumerated():
    own = np.linspace(-1, 2, 16)
    codes = np.arange(2**16)
    game = TableGame(jnp.asarray(((codes[:, None] >> np.arange(16)) & 1) @ own, jnp.float32))
    np.testing.assert_allclose(shapley(game), own, atol=1e-5)


def test_an_unknown_semivalue_is_refused():
    with pytest.raises(InputError, match="'nucleolus' is unknown"):
        semivalue_weights("nucleolus", 4)


def test_a_table_of_numbers_beyond_32_bits_keeps_their_size():
    assert value_game(TableGame(np.array([0, 3_000_000_000])), estimator="exact").values.tolist() == [3e9]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
@pytest.mark.parametrize("estimator", ["exact", "add_one", "permutation"])
def test_a_table_of_whole_numbers_or_booleans_is_one_of_numbers(dtype, estimator):
    table = np.array([0, 1, 1, 0], dtype)  # who comes second takes back what the first had, which is below zero
    found = value_game(TableGame(table), estimator=estimator, samples=64)
    expected = value_game(TableGame(table.astype(np.float32)), estimator=estimator, samples=64)
    np.testing.assert_array_equal(found.values, expected.values)
    assert (np.abs(found.values) <= 1).all()
