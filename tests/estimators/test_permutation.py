"""Sampling chains against exact values, and what must not change them."""

import sys
from dataclasses import dataclass
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsds_jax.estimators import enumerate_coalitions, permutation, semivalue_weights
from tsds_jax.estimators.chains import balanced_chains
from tsds_jax.estimators.permutation import _numbers, chain_lanes, walk_chains
from tsds_jax.games import TableGame, by_row, group_game, ridge_game
from tsds_jax.games.game import PrefixUtilities

GROUPS = np.arange(40) // 2
AS_THE_GAME_SAYS = {"truncation": 0.0}


def prefix_worths(game, order):
    return np.asarray(game.prefix_utilities(jnp.asarray(order), jnp.arange(len(order) + 1)).utility)


def test_how_many_numbers_a_contribution_has_is_traced_once_for_games_of_one_shape(random_table, monkeypatch):
    looked, traced = TableGame.prefix_utilities, []
    monkeypatch.setattr(TableGame, "prefix_utilities", lambda *given: traced.append(0) or looked(*given))
    jax.clear_caches()
    assert [_numbers(random_table()) for _ in range(3)] == [1, 1, 1]
    assert len(traced) == 1


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("size", [3, 5, 8])
def test_chains_estimate_the_size_truncated_value_within_their_standard_errors(random_table, last, size, antithetic):
    game = random_table()
    exact = semivalue_weights("truncated", 8, size=size) @ enumerate_coalitions(game).by_size
    estimate = last(
        permutation(game, subset_size=size, samples=4000, seed=1, antithetic=antithetic, chunk=400, **AS_THE_GAME_SAYS)
    )
    mean, error = estimate.moments.mean()
    assert np.abs((mean - exact) / error).max() < 4
    assert np.sqrt(np.mean(((mean - exact) / error) ** 2)) < 2


def test_standard_errors_are_the_spread_over_seeds_where_a_chain_is_nearly_all_players(last):
    sizes = [code.bit_count() for code in range(2**9)]
    worth = np.append(0, np.cumsum(1 / np.arange(1, 10)))
    game = TableGame(jnp.asarray(worth[sizes], jnp.float32))
    away = []
    for seed in range(60):
        estimate = last(permutation(game, subset_size=8, samples=64, seed=seed, **AS_THE_GAME_SAYS))
        mean, error = estimate.moments.mean()
        away.append((mean - worth[8] / 8) / error)
    assert 0.75 < np.mean(np.square(away)) < 1.25
    assert np.mean(np.abs(away) < 1.96) > 0.92


@pytest.mark.parametrize("size", [4, 6])
def test_chains_estimate_the_mean_over_all_permutations(random_table, all_permutations, last, size):
    game = random_table(6, seed=5)
    exact = all_permutations(np.asarray(game.utilities), size)
    mean, error = last(permutation(game, subset_size=size, samples=4000, seed=1, **AS_THE_GAME_SAYS)).moments.mean()
    assert np.abs((mean - exact) / error).max() < 4


@pytest.mark.parametrize("antithetic", [False, True])
def test_a_thousand_players_values_are_those_of_the_closed_form(mean_alignment, last, antithetic):
    game, by_size = mean_alignment(1000)
    exact = by_size[:20].mean(0)
    run = permutation(game, subset_size=20, samples=300, seed=2, antithetic=antithetic, **AS_THE_GAME_SAYS)
    mean, error = last(run).moments.mean()
    # Those few contributions that are far larger than others are rare, so normal quantiles hold only nearly.
    assert np.mean(np.abs(mean - exact) < 1.96 * error) > 0.9
    assert np.corrcoef(mean, exact)[0, 1] > 0.9
    assert abs(mean.mean() - exact.mean()) < 0.05 * exact.std()


def test_contributions_to_coalitions_of_each_size_to_a_thousand_are_those_of_the_closed_form(mean_alignment, last):
    game, by_size = mean_alignment(1000)
    moments = last(permutation(game, subset_size=1000, samples=60, seed=2, **AS_THE_GAME_SAYS)).moments
    total, counts = moments.total.sum((0, 2)), moments.counts.sum((0, 2))
    squares = moments.squares.sum(1)
    exact = np.add.reduceat(by_size, moments.edges[:-1]).mean(1) / np.diff(moments.edges)
    error = np.sqrt((squares / counts - (total / counts) ** 2) / counts)
    assert (np.abs(total / counts - exact) < 4 * error).all()


def test_antithetic_pairs_vary_less_where_early_and_late_contributions_differ(last):
    codes = np.arange(2**8)
    worth = np.log1p(((codes[:, None] >> np.arange(8)) & 1) @ np.linspace(1, 4, 8))
    game = TableGame(jnp.asarray(worth, jnp.float32))
    exact = enumerate_coalitions(game).by_size.mean(0)
    errors, away = {}, {}
    for antithetic in (False, True):
        run = permutation(game, subset_size=8, samples=600, seed=0, antithetic=antithetic, **AS_THE_GAME_SAYS)
        mean, errors[antithetic] = last(run).moments.mean()
        away[antithetic] = np.sqrt(np.mean((mean - exact) ** 2))
        assert np.abs((mean - exact) / errors[antithetic]).max() < 4
    assert (errors[True] < 0.9 * errors[False]).all()
    assert away[True] < away[False]


def test_an_antithetic_pair_is_one_round_of_two_contributions_in_one_half(last, random_table):
    estimate = last(permutation(random_table(7), subset_size=3, samples=8, seed=0, antithetic=True, chunk=3))
    assert estimate.rounds == estimate.planned == 10  # 4 pairs for each of 7, three at a time
    counts = estimate.moments.counts
    assert (counts.sum((0, 1)) >= 8).all()
    assert (counts.sum(1) % 2 == 0).all()
    np.testing.assert_array_equal(counts, counts[:, ::-1])


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("block", [1, 5, 64])
def test_a_chains_marginals_sum_to_what_the_whole_chain_is_worth(mean_alignment, block, lanes):
    game, _ = mean_alignment(40)
    orders = np.stack([np.random.default_rng(seed).permutation(40)[:13] for seed in range(5)])
    walk = walk_chains(game, orders, jnp.float32(0), block=block, lanes=lanes)
    for order, marginals in zip(orders, walk.marginals, strict=True):
        worths = prefix_worths(game, order)
        np.testing.assert_allclose(marginals, np.diff(worths), atol=2e-6)
        assert float(marginals.sum()) == pytest.approx(float(worths[-1] - worths[0]), abs=1e-5)
    np.testing.assert_array_equal(walk.fits, 2 + 13)


@pytest.mark.parametrize(("players", "size"), [(12, 4), (12, 12), (9, 3)])
def test_one_balanced_passs_contributions_sum_to_what_its_chains_are_worth(mean_alignment, last, players, size):
    game, _ = mean_alignment(players)
    estimate = last(permutation(game, subset_size=size, samples=1, seed=4, **AS_THE_GAME_SAYS))
    chains = islice(balanced_chains(4, players, size), players // size)
    worths = [prefix_worths(game, chain)[[0, -1]] for chain in chains]
    expected = sum(float(whole - empty) for empty, whole in worths)
    assert estimate.moments.mean()[0].sum() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("lanes", [1, 4])
def test_truncation_gives_zero_from_the_first_prefix_within_tolerance_on(mean_alignment, lanes):
    game, _ = mean_alignment(40)
    tolerance = 0.05
    orders = np.stack([np.random.default_rng(seed).permutation(40) for seed in range(6)])
    for block in (1, 7):
        walk = walk_chains(game, orders, jnp.float32(tolerance), block=block, lanes=lanes)
        step = -(-40 // -(-40 // block))
        for t, order in enumerate(orders):
            worths = prefix_worths(game, order)
            first = int(np.argmax(np.abs(worths[-1] - worths) < tolerance))
            assert 0 < first < 39
            np.testing.assert_allclose(walk.marginals[t, :first], np.diff(worths)[:first], atol=1e-6)
            assert not np.asarray(walk.marginals[t, first:]).any()
            assert int(walk.truncated[t]) == 40 - first
            assert int(walk.fits[t]) == 2 + min(40, -(-first // step) * step)


@pytest.mark.parametrize("tolerance", [1e-7, 1e-6, 1e-3, 0.5])
def test_a_tolerance_of_any_size_ends_a_walk_where_the_rest_changes_nothing(last, tolerance):
    three = np.array([bits.bit_count() for bits in range(2**6)])
    game = TableGame(jnp.asarray(np.minimum(three, 3), jnp.float32))
    found = last(permutation(game, subset_size=6, samples=4, seed=0, truncation=tolerance, block=2))
    assert found.truncated == 4 * 3


def test_fewer_chains_make_a_call_where_contributions_are_split_by_many_rows(monkeypatch, last):
    x, y = np.random.default_rng(0).normal(size=(16, 2)), np.arange(16) % 2
    game = by_row(ridge_game(x, y, x, y, classes=2))

    def walked():
        calls = []
        found = last(permutation(game, subset_size=8, samples=6, seed=0, asks_end=lambda: bool(calls.append(1))))
        return found, len(calls)

    whole, at_once = walked()
    module = sys.modules["tsds_jax.estimators.permutation"]  # the name in the package is the function
    monkeypatch.setattr(module, "numbers_at_once", lambda: 3 * 8 * 16)
    parts, several = walked()
    assert (at_once, several) == (1, 4)  # 12 chains, then three a call
    np.testing.assert_allclose(parts.by_row, whole.by_row, atol=1e-6)
    np.testing.assert_array_equal(parts.moments.counts, whole.moments.counts)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["points", "rows", "groups"])
@pytest.mark.parametrize("factor", [1e-4, 1e3])
def test_where_a_chain_is_truncated_does_not_depend_on_the_unit_of_regression_targets(last, kind, factor):
    rng = np.random.default_rng(0)
    x, x_val = rng.normal(size=(40, 3)), rng.normal(size=(20, 3))
    y, y_val = (some @ [1.0, -2, 0.5] + 0.3 * rng.normal(size=len(some)) for some in (x, x_val))

    def found(factor, utility="neg_mean_squared_error"):
        game = ridge_game(x, factor * y, x_val, factor * y_val, classes=0, utility=utility)
        game = {"points": lambda: game, "rows": lambda: by_row(game), "groups": lambda: group_game(game, GROUPS)}[
            kind
        ]()
        return last(permutation(game, subset_size=20, samples=8, seed=1, truncation=0.02, block=5))

    one, other = found(1.0), found(factor)
    assert 0 < one.truncated < 0.9 * one.moments.drawn.sum()
    assert other.truncated == one.truncated
    np.testing.assert_allclose(
        other.moments.mean()[0], factor**2 * one.moments.mean()[0], rtol=1e-3, atol=1e-6 * factor**2
    )
    if kind == "points":
        # It means what it means for r2, where nothing is clipped.
        assert found(factor, "r2").truncated == pytest.approx(one.truncated, rel=0.1)


def assert_same(one, other, exactly=True):
    close = np.testing.assert_array_equal if exactly else lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)
    assert one[1:6] == other[1:6]
    for name, array in one.moments.arrays().items():
        close(array, other.moments.arrays()[name])


@pytest.mark.parametrize("antithetic", [False, True])
def test_estimates_are_the_same_at_any_chunk_and_lanes_only_round(mean_alignment, antithetic):
    game, _ = mean_alignment(40)

    def every(**how):
        run = permutation(game, subset_size=12, samples=6, seed=3, truncation=0.05, antithetic=antithetic, **how)
        return [(estimate[1:-1], estimate.moments.mean(), estimate) for estimate in run]

    plain = every(chunk=1, lanes=1, block=6)
    assert [about[0] for about, *_ in plain] == ([4, 8, 10] if antithetic else [4, 8, 12, 16, 20])
    for how in ({"chunk": 7, "lanes": 1}, {"chunk": 100, "lanes": 1}, {"chunk": 7, "lanes": 4}):
        found = every(block=6, **how)
        assert [about for about, *_ in found] == [about for about, *_ in plain]
        for (_, means, _), (_, expected, _) in zip(found, plain, strict=True):
            for one, other in zip(means, expected, strict=True):
                np.testing.assert_allclose(one, other, atol=0 if how["lanes"] == 1 else 1e-6)
        assert_same(found[-1][2], plain[-1][2], exactly=how["lanes"] == 1)


def test_blocks_change_only_how_much_is_fitted_behind_a_truncation(mean_alignment, last):
    game, _ = mean_alignment(40)
    whole = last(permutation(game, subset_size=12, samples=6, seed=3, truncation=0.05))
    for block in (1, 5):
        found = last(permutation(game, subset_size=12, samples=6, seed=3, truncation=0.05, block=block))
        np.testing.assert_allclose(found.moments.mean()[0], whole.moments.mean()[0], atol=1e-6)
        assert found.truncated == whole.truncated > 0
        assert found.fits < whole.fits


TRACES = []


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CountedGame:
    """The number of members, and a note for each time that it is traced."""

    own: jax.Array

    @property
    def players(self):
        return self.own.shape[0]

    def prefix_utilities(self, order, sizes):
        TRACES.append(sizes.shape)
        running = jnp.concatenate([jnp.zeros(1), jnp.cumsum(self.own[order])])
        return PrefixUtilities(running[sizes], jnp.zeros((), jnp.int32))


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_run_compiles_once_and_another_of_its_shape_not_at_all(last, lanes):
    game = CountedGame(jnp.ones(37))
    before, traces = walk_chains._cache_size(), len(TRACES)
    last(permutation(game, subset_size=10, samples=5, seed=0, chunk=4, lanes=lanes))
    assert walk_chains._cache_size() == before + 1
    first = len(TRACES) - traces
    assert 2 <= first <= 6  # the ends and a block, each looked at a few times within one compilation
    last(permutation(game, subset_size=10, samples=9, seed=5, chunk=4, lanes=lanes, truncation=0.5))
    last(permutation(CountedGame(jnp.arange(37.0)), subset_size=10, samples=3, seed=5, chunk=4, lanes=lanes))
    assert walk_chains._cache_size() == before + 1
    assert len(TRACES) - traces == first


def test_duplicated_points_get_equal_values_and_a_point_that_changes_nothing_gets_zero(last):
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


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000), st.booleans())
def test_of_the_same_chains_the_value_of_a_sum_of_games_is_the_sum_of_values(one, two, antithetic):
    tables = [np.random.default_rng([seed, k]).normal(size=2**6) for k, seed in enumerate((one, two))]

    def values(table):
        game = TableGame(jnp.asarray(table, jnp.float32))
        how = {"samples": 4, "seed": one, "truncation": 0.0, "antithetic": antithetic}
        *_, estimate = permutation(game, subset_size=4, chunk=3, **how)
        return estimate.moments.mean()[0]

    np.testing.assert_allclose(values(sum(tables)), values(tables[0]) + values(tables[1]), atol=1e-5)


@pytest.mark.parametrize(("players", "size", "samples"), [(1, 1, 3), (5, 2, 9), (7, 3, 11), (7, 5, 1), (7, 7, 4)])
def test_every_point_is_drawn_as_often_as_asked_or_once_more_half_of_it_in_each_half(players, size, samples):
    game = TableGame(jnp.zeros(2**players))
    *_, estimate = permutation(game, subset_size=size, samples=samples, seed=0, chunk=3)
    counts = estimate.moments.counts.sum(1)
    assert set(counts.sum(0).tolist()) <= {samples, samples + 1}
    assert (np.abs(counts[0] - counts[1]) <= 1).all()


@pytest.mark.parametrize("lanes", [1, 4])
def test_in_a_game_with_parts_each_player_gets_its_own_and_truncation_waits_for_all(parts_table, lanes, last):
    game = parts_table(7, 3, picked=True)
    exact = enumerate_coalitions(game).by_size[:5].mean(0)
    run = permutation(game, subset_size=5, samples=3000, seed=0, truncation=0.0, lanes=lanes, chunk=300)
    estimate = last(run)
    mean, error = estimate.moments.mean()
    assert np.abs((mean - exact) / error).max() < 4
    assert estimate.by_row is None
    order = np.random.default_rng(0).permutation(7)
    utilities = prefix_worths(game, order)
    walk = walk_chains(game, order[None], jnp.float32(1.2), block=2, lanes=lanes)
    first = int(np.argmax(np.abs(utilities[-1] - utilities).max(1) < 1.2))
    picked = np.diff(utilities, axis=0)[np.arange(7), np.asarray(game.part)[order]]
    np.testing.assert_allclose(walk.marginals[0], np.where(np.arange(7) < first, picked, 0), atol=1e-6)


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("lanes", [1, 4])
def test_parts_that_add_up_are_estimated_one_by_one_and_sum_to_the_value(parts_table, lanes, antithetic, last):
    game = parts_table(6, 4, picked=False)
    how = {"subset_size": 4, "samples": 40, "seed": 0, "truncation": 0.4, "antithetic": antithetic, "chunk": 13}
    estimate = last(permutation(game, lanes=lanes, **how))
    assert estimate.by_row.shape == (6, 4)
    np.testing.assert_allclose(estimate.by_row.sum(1), estimate.moments.mean()[0], atol=1e-12)
    whole = last(permutation(TableGame(game.utilities.sum(1)), lanes=lanes, **how))
    np.testing.assert_allclose(whole.moments.mean()[0], estimate.moments.mean()[0], atol=1e-6)
    assert whole[1:6] == estimate[1:6]
    one = last(permutation(TableGame(game.utilities[:, 2]), **{**how, "truncation": 0.0}))
    every = last(permutation(game, lanes=lanes, **{**how, "truncation": 0.0}))
    np.testing.assert_allclose(every.by_row[:, 2], one.moments.mean()[0], atol=1e-6)


def test_a_regression_which_has_no_classes_has_lanes_on_an_accelerator(monkeypatch, last):
    game, numbers = ridge_game(np.eye(4), np.arange(4.0), np.eye(4), np.arange(4.0), classes=None, utility="r2"), []
    # Its package has a function of the module's name.
    module = sys.modules["tsds_jax.estimators.permutation"]
    monkeypatch.setattr(module, "chain_lanes", lambda number: numbers.append(number) or 1)
    last(permutation(game, subset_size=3, samples=2, seed=0, block=2))
    assert numbers == [2 * 3]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert chain_lanes(*numbers) > 1


def test_a_difference_of_just_the_tolerance_is_not_close_whatever_the_rounding():
    # Shares of 1,000 rows: |k/1000 - (k+1)/1000| in float32 falls on either side of 0.001.
    shares = (np.arange(1, 1000) / 1000).astype(np.float32)
    for one, other in zip(shares[:-1:37], shares[1::37], strict=True):
        game = TableGame(jnp.asarray([0.0, one, 0.0, other]))
        walk = walk_chains(game, jnp.array([[0, 1]]), jnp.float32(1e-3), block=2, lanes=1)
        assert int(walk.truncated[0]) == 0
        assert float(walk.marginals[0, 1]) == pytest.approx(1e-3, abs=1e-6)
