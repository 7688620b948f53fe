"""Moments against plain averages of the same contributions, and standard errors against many runs."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from tsds_jax.estimators import enumerate_coalitions, permutation, semivalue_weights
from tsds_jax.estimators.add_one import size_chance
from tsds_jax.estimators.moments import Moments, size_bins
from tsds_jax.games import TableGame


def moments_of(players, sizes, *given, antithetic=False):
    """Moments of chains with these contributions."""
    moments = Moments.zeros(players, sizes, antithetic=antithetic)
    moments.add(*given)
    return moments


def contributions(players, sizes, rounds, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, players, rounds), rng.integers(0, sizes, rounds), rng.normal(size=rounds), np.arange(rounds)


@given(st.integers(1, 5000), st.integers(1, 2))
def test_bins_part_the_sizes_and_are_symmetric_and_single_at_both_ends(sizes, alike):
    edges = size_bins(sizes, alike)
    assert edges[0] == 0
    assert edges[-1] == sizes
    assert (np.diff(edges) > 0).all()
    np.testing.assert_array_equal(edges, sizes - edges[::-1])
    single = 2 * alike
    ends = [*range(single), *range(sizes - single, sizes)]
    assert all({k, k + 1} <= set(edges) for k in ends if 0 <= k < sizes) or sizes < 2 * single
    assert len(edges) <= 9 + 4 * np.log2(sizes)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 200), st.integers(0, 9))
def test_the_mean_is_the_plain_average_and_an_error_needs_two_contributions(players, sizes, rounds, seed):
    who, size, what, number = contributions(players, sizes, rounds, seed)
    mean, error = moments_of(players, sizes, who, size, what, number).mean()
    for player in range(players):
        own = what[who == player]
        assert mean[player] == pytest.approx(own.mean() if len(own) else np.nan, abs=1e-12, nan_ok=True)
        assert np.isfinite(error[player]) == (len(own) > 1)


@pytest.mark.parametrize(("players", "sizes", "rounds", "within"), [(1, 1, 7, 1e-9), (5, 40, 40_000, 0.05)])
def test_the_error_of_one_size_or_of_many_contributions_is_the_usual_one(players, sizes, rounds, within):
    who, size, what, number = contributions(players, sizes, rounds)
    error = moments_of(players, sizes, who, size, what / (1 + size), number).mean()[1]
    for player in range(players):
        own = (what / (1 + size))[who == player]
        assert error[player] == pytest.approx(own.std(ddof=1) / np.sqrt(len(own)), rel=within)


@pytest.mark.parametrize("samples", [16, 50])
def test_errors_of_antithetic_chains_hold_under_weights_that_tell_a_pairs_two_sizes_apart(samples):
    players, sizes = 400, 64
    rng = np.random.default_rng(samples)
    size = rng.integers(0, sizes, (1, players, samples // 2))
    size = np.concatenate([size, sizes - 1 - size])
    who, what = np.broadcast_to(np.arange(players)[:, None], size.shape), rng.normal(size=size.shape)
    moments = moments_of(players, sizes, who, size, what, np.arange(samples // 2), what[::-1], antithetic=True)
    mean, error = moments.mean(semivalue_weights("beta", sizes, alpha=16, beta=1))
    known = np.isfinite(error)
    assert known.mean() > 0.9
    assert (error[known] > 0).all()
    assert 0.92 < np.mean(np.abs(mean - 0)[known] < 1.96 * error[known]) < 0.98


def test_contributions_of_which_one_alone_has_weight_have_no_error():
    moments = Moments.zeros(30, 20, outside=True)
    for number, size in enumerate((1, 18)):
        moments.add_round(np.arange(30) >= size, size, np.full(30, 1.0 + number), number)
    weights = np.where(np.arange(20) == 1, 1.0, 1e-12)
    np.testing.assert_array_equal(moments.mean(weights)[1], np.full(30, np.nan))
    assert np.isfinite(moments.mean()[1][18:]).all()


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("samples", [50, 100, 300])
def test_intervals_hold_the_value_where_it_rests_on_contributions_that_most_players_have_none_of(samples, antithetic):
    players, sizes = 400, 200
    rng = np.random.default_rng(samples)
    rounds = samples // 2 if antithetic else samples
    size = rng.integers(0, sizes, (1, players, rounds))
    if antithetic:
        size = np.concatenate([size, sizes - 1 - size])
    who = np.broadcast_to(np.arange(players)[:, None], size.shape)
    sign = np.where(who % 2, 0.3, -0.3)
    what = np.where(size == 0, sign, 0.0) + rng.normal(size=size.shape) * np.where(size == 1, 0.2, 0.01)
    given = (who, size, what, np.arange(rounds), what[::-1] if antithetic else None)
    mean, error = moments_of(players, sizes, *given, antithetic=antithetic).mean()
    exact = np.where(np.arange(players) % 2, 0.3, -0.3) / sizes
    assert 0.92 < np.mean(np.abs(mean - exact) < 1.96 * error) < 0.98


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=4), st.booleans())
def test_sums_do_not_depend_on_how_many_contributions_come_at_a_time(cuts, antithetic):
    who, size, what, number = contributions(5, 5, 60)
    given = (who, size, what, number, what[::-1])
    whole = moments_of(5, 5, *given, antithetic=antithetic)
    parts = Moments.zeros(5, 5, antithetic=antithetic)
    edges = [0, *sorted(cuts), 60]
    for a, b in pairwise(edges):
        parts.add(*(array[a:b] for array in given))
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(parts.arrays()[name], array)


def test_halves_hold_every_other_round_and_together_are_the_mean():
    who, size, what, number = contributions(4, 6, 400)
    moments = moments_of(4, 6, who, size, what, number)
    even, odd = moments.halves()
    np.testing.assert_allclose(even, [what[(who == i) & (number % 2 == 0)].mean() for i in range(4)])
    np.testing.assert_allclose(odd, [what[(who == i) & (number % 2 == 1)].mean() for i in range(4)])
    counts = moments.counts.sum(1)
    np.testing.assert_allclose((even * counts[0] + odd * counts[1]) / counts.sum(0), moments.mean()[0])


@pytest.mark.parametrize("chance", [None, size_chance(30)])
def test_a_round_of_a_coalition_is_the_sum_of_its_weighed_contributions_and_says_nothing_of_members(chance):
    rng = np.random.default_rng(0)
    rounds = Moments.zeros(30, 30, outside=True, chance=chance)
    singly, weights = Moments.zeros(30, 30), Moments.zeros(30, 30)
    means, inverse = [], []
    for number in range(20):
        size = int(rng.integers(0, 30))
        free = np.ones(30, bool)
        free[rng.permutation(30)[:size]] = False
        marginals = np.where(free, rng.normal(size=30), np.nan).astype(np.float32)
        rounds.add_round(free, size, marginals, number)
        inverse.append(1.0 if chance is None else 1 / chance[size])
        own, weight = marginals[free].astype(np.float64), inverse[-1] / (1 - size / 30)
        singly.add(np.flatnonzero(free), size, weight * own, number)
        weights.add(np.flatnonzero(free), size, weight, number)
        means.append(inverse[-1] * own.mean())
    for name in ("edges", "total", "squares", "counts"):
        np.testing.assert_allclose(rounds.arrays()[name], singly.arrays()[name], atol=1e-12)
    np.testing.assert_allclose(rounds.mass, weights.total, atol=1e-12)
    squares = np.square(means).sum()
    np.testing.assert_allclose(rounds.average.sum(1), [np.sum(means), squares, 20, np.sum(inverse)], atol=1e-12)
    assert rounds.drawn.dtype == np.int64


def test_the_error_that_all_have_in_common_is_that_of_their_mean():
    """Contributions of which a part is the round's own, alike for everybody."""
    rng, players, means, errors = np.random.default_rng(0), 200, [], []
    for _ in range(200):
        moments = Moments.zeros(players, 4, outside=True)
        for number in range(32):
            what = 0.5 * rng.normal() + rng.normal(size=players) + np.arange(players)
            moments.add_round(np.arange(players) >= number % 4, number % 4, what, number)
        means.append(moments.mean()[0].mean())
        errors.append(moments.common_error())
    assert np.mean(np.square(errors)) == pytest.approx(np.var(means), rel=0.2)
    assert Moments.zeros(3, 4).common_error() == 0


def test_semivalue_weights_weigh_sizes_and_what_they_say_of_sizes_never_sampled_is_left_out():
    who, size, what, number = contributions(3, 7, 900)
    moments = moments_of(3, 7, who, size, what, number)
    weights = np.array([1.0, 4, 0, 2, 0, 0, 3])  # every size up to 7 has its own bin
    wanted = [np.average(what[who == i], weights=weights[size[who == i]]) for i in range(3)]
    np.testing.assert_allclose(moments.mean(weights)[0], wanted)
    np.testing.assert_allclose(moments.mean(np.append(weights, [10, 10]))[0], wanted)
    with pytest.raises(ValueError, match="6 weights for 7 coalition sizes"):
        moments.mean(weights[:6])


@pytest.mark.parametrize("kind", ["chains", "antithetic chains", "coalitions"])
def test_arrays_lead_back_to_the_same_moments(kind, tmp_path):
    who, size, what, number = contributions(4, 4, 50)
    if kind == "coalitions":
        moments = few_rounds(np.random.default_rng(0), 4, 4, 50)
    else:
        moments = moments_of(4, 4, who, size, what, number, what[::-1], antithetic=kind == "antithetic chains")
    np.savez(tmp_path / "moments.npz", values=np.zeros(4), **moments.arrays())
    with np.load(tmp_path / "moments.npz", allow_pickle=False) as stored:
        again = Moments.from_arrays(dict(stored))
    for one, other in zip(again.mean(), moments.mean(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.arrays().keys() == moments.arrays().keys()


def test_nobody_drawn_has_no_value_and_one_draw_no_error():
    mean, error = moments_of(3, 4, np.array([0, 1, 1]), 2, np.array([1.0, 2.0, 3.0]), 0).mean()
    np.testing.assert_array_equal(mean, [1, 2.5, np.nan])
    np.testing.assert_array_equal(np.isnan(error), [True, False, True])


def test_coalitions_of_even_sizes_with_all_outside_valued_lead_to_the_closed_form(mean_alignment):
    game, by_size = mean_alignment(1000)
    rng = np.random.default_rng(0)
    value = jax.jit(lambda order, size: game.add_one_marginals(game.fit(order, size).model, jnp.arange(1000)).marginal)
    for sizes in (40, 200, 1000):
        moments = Moments.zeros(1000, sizes, outside=True)
        for number in range(400):
            size = int((0.3 + number * 0.6180339887498949) % 1 * sizes)
            order = rng.permutation(1000)
            outside = np.ones(1000, bool)
            outside[order[:size]] = False
            moments.add_round(outside, size, value(order[:sizes], size), number)
        mean, error = moments.mean()
        exact = by_size[:sizes].mean(0)
        # One coalition values everyone, so that errors of different players go together.
        assert np.mean(np.abs(mean - exact) < 1.96 * error) > 0.93
        assert sizes == 1000 or np.corrcoef(mean, exact)[0, 1] > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("antithetic", [False, True])
def test_95_percent_intervals_hold_the_exact_value_93_to_97_percent_of_the_time(random_table, last, antithetic):
    game = random_table(6, seed=2)
    exact = enumerate_coalitions(game).by_size
    held = {"truncated": [], "shapley": []}
    for seed in range(350):
        estimate = last(
            permutation(game, subset_size=6, samples=100, seed=seed, truncation=0.0, antithetic=antithetic, chunk=100)
        )
        for kind, found in held.items():
            weights = semivalue_weights(kind, 6, size=4)
            mean, error = estimate.moments.mean(weights)
            found.append(np.abs(mean - weights @ exact) < 1.96 * error)
    for found in held.values():
        assert 0.93 < np.mean(found) < 0.97


def test_intervals_of_coalitions_that_value_all_outside_hold_the_exact_value_as_often():
    rng = np.random.default_rng(0)
    codes = np.arange(2**9)
    utilities = np.sqrt(np.bitwise_count(codes)) + 0.3 * rng.normal(size=len(codes))
    exact = enumerate_coalitions(TableGame(jnp.asarray(utilities, jnp.float32))).by_size[:6].mean(0)
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        moments, start = Moments.zeros(9, 6, outside=True), rng.random()
        for number in range(200):
            size = int((start + number * 0.6180339887498949) % 1 * 6)
            members = rng.permutation(9)[:size]
            outside = np.ones(9, bool)
            outside[members] = False
            coalition = np.sum(1 << members)
            moments.add_round(outside, size, utilities[coalition | (1 << np.arange(9))] - utilities[coalition], number)
        mean, error = moments.mean()
        held.append(np.abs(mean - exact) < 1.96 * error)
    assert 0.93 < np.mean(held) < 0.97


def test_many_players_have_wider_bins_and_the_same_values(monkeypatch):
    given = contributions(5, 40, 600)
    fine = moments_of(5, 40, *given)
    monkeypatch.setattr("tsds_jax.estimators.moments._CELLS", 5 * (len(fine.edges) - 2))
    coarse = moments_of(5, 40, *given)
    assert len(coarse.edges) < 0.75 * len(fine.edges)
    np.testing.assert_allclose(coarse.mean()[0], fine.mean()[0], rtol=1e-12)
    np.testing.assert_allclose(coarse.halves(), fine.halves(), rtol=1e-12)
    np.testing.assert_array_equal(coarse.drawn, fine.drawn)


def few_rounds(rng, players, sizes, rounds):
    """Moments of contributions that are normal about zero, the noisier the smaller the coalition."""
    moments, start = Moments.zeros(players, sizes, outside=True), rng.random()
    for number in range(rounds):
        size = int((start + number * 0.6180339887498949) % 1 * sizes)
        outside = np.ones(players, bool)
        outside[rng.permutation(players)[:size]] = False
        moments.add_round(outside, size, rng.normal(size=players) / (1 + size), number)
    return moments


def test_students_intervals_hold_the_mean_of_a_short_run_where_normal_ones_are_too_short():
    held = {"normal": [], "student": []}
    for seed in range(150):
        found = few_rounds(np.random.default_rng(seed), 200, 12, 30).known()
        error = np.abs(found.mean)
        held["normal"].append(error < 1.96 * found.stderr)
        held["student"].append(error < student.ppf(0.975, found.freedom) * found.stderr)
    assert np.mean(held["normal"]) < 0.92
    assert 0.93 < np.mean(held["student"]) < 0.97


def test_degrees_of_freedom_grow_with_the_run_and_are_those_of_one_bin_where_there_is_one():
    short, long = (few_rounds(np.random.default_rng(0), 50, 20, rounds).known().freedom for rounds in (40, 400))
    assert np.median(long) > 8 * np.median(short)
    # 1,000 players, so that hardly anyone is ever inside the coalition of one size.
    moments = Moments.zeros(1000, 1, outside=True)
    for number in range(9):
        moments.add_round(np.ones(1000, bool), 0, np.random.default_rng(number).normal(size=1000), number)
    np.testing.assert_allclose(moments.known().freedom, 8)
    chains = moments_of(3, 2, np.arange(3).repeat(2), np.tile([0, 1], 3), np.arange(6.0), 0)
    assert np.isinf(chains.known().freedom).all()
