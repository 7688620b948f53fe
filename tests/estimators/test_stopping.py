"""Stopping: reliability from halves, the plan it leads to, and runs that reach what was wanted or say they did not."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsds_jax.estimators import enumerate_coalitions, permutation
from tsds_jax.estimators.moments import Moments
from tsds_jax.estimators.stopping import Stopping, plan, run_until, split_half_reliability, top_overlap
from tsds_jax.games import TableGame


def halves(lam, rounds, players=20_000, seed=0):
    """Values of two halves whose noise a round is ``lam`` times the values' variance, and the whole run's."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=players)
    even, odd = true + np.sqrt(2 * lam / rounds) * rng.normal(size=(2, players))
    return true, even, odd


def noisy_game(players=11, seed=0, noise=0.35):
    """Each player's own worth, and noise on every coalition."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=players)
    codes = np.arange(2**players)
    additive = ((codes[:, None] >> np.arange(players)) & 1) @ own
    return TableGame(jnp.asarray(additive + noise * players * rng.normal(size=len(codes)), jnp.float32))


@pytest.mark.parametrize(("lam", "rounds"), [(10, 4), (10, 40), (2, 50)])
def test_reliability_is_the_correlation_with_another_run_of_the_same_length(lam, rounds):
    _, even, odd = halves(lam, rounds)
    expected = rounds / (rounds + lam)
    assert split_half_reliability(even, odd) == pytest.approx(expected, abs=0.03)  # ranks, not values
    assert plan(expected, rounds, 0.9) == pytest.approx(9 * lam)


def test_the_correlation_with_the_converged_values_is_about_the_root_of_the_reliability():
    true, even, odd = halves(5, 20)
    found = np.corrcoef((even + odd) / 2, true)[0, 1]
    assert found == pytest.approx(np.sqrt(split_half_reliability(even, odd)), abs=0.01)


def test_halves_that_disagree_or_hold_no_ranking_have_no_reliability():
    up = np.arange(50.0)
    assert split_half_reliability(up, -up) == 0
    assert split_half_reliability(up, np.zeros(50)) == 0
    assert split_half_reliability(np.full(3, np.nan), np.ones(3)) == 0
    assert split_half_reliability(up, up) == pytest.approx(1)


def test_players_without_a_value_in_a_half_are_left_out():
    even, odd = np.array([1.0, np.nan, 2, 3, 4]), np.array([1.0, 5, 2, 3, np.nan])
    assert split_half_reliability(even, odd) == pytest.approx(1)
    assert top_overlap(even, odd, 0.34) == pytest.approx(1)


def test_overlap_is_the_common_share_of_the_lowest_and_ties_count_as_chance_would():
    even = np.arange(100.0)
    assert top_overlap(even, even, 0.1) == 1
    assert top_overlap(even, -even, 0.1) == 0
    assert top_overlap(even, np.where(even < 5, even + 50, even), 0.1) == pytest.approx(0.5)
    assert top_overlap(np.zeros(100), np.zeros(100), 0.1) == pytest.approx(0.1)
    assert top_overlap(even, np.zeros(100), 0.1) == pytest.approx(0.1)


@given(st.floats(0.01, 0.99), st.integers(1, 1000), st.floats(0.01, 0.99))
def test_a_plan_for_the_reliability_there_is_asks_for_no_more_and_a_higher_target_for_more(reliability, rounds, target):
    assert plan(reliability, rounds, reliability) == pytest.approx(rounds, rel=1e-4)
    assert plan(reliability, rounds, target) <= plan(reliability, rounds, (1 + target) / 2)


def test_a_pilot_of_pure_noise_has_no_plan():
    assert plan(0.0, 10, 0.9) == np.inf


def moments_of(even, odd, rounds):
    moments = Moments.zeros(len(even), 1)
    for number in range(rounds):
        moments.add(np.arange(len(even)), 0, (even, odd)[number % 2], number)
    return moments


def test_a_look_plans_the_next_within_reach_and_never_past_the_budget():
    _, even, odd = halves(20, 10)  # reliability a third: 0.8 is 80 rounds away
    moments, stopping = moments_of(even, odd, 10), Stopping(0.8)
    assert stopping.decide(moments, 10, 1000).next == 40
    assert stopping.decide(moments, 10, 30).next == 30
    assert stopping.decide(moments, 30, 1000).next == 120
    assert stopping.decide(moments, 10, 10).reason == "budget"
    assert Stopping(0.2).decide(moments, 10, 10).reason == "reliability"


def test_a_wanted_overlap_is_waited_for_besides():
    _, even, odd = halves(1, 20)
    moments = moments_of(even, odd, 20)
    check = Stopping(0.8, top_overlap=0.99).decide(moments, 20, 1000)
    assert check.reason is None
    assert check.next == 25
    assert check.top_overlap < 0.99
    assert Stopping(0.8, top_overlap=0.5).decide(moments, 20, 1000).reason == "reliability"


def test_a_run_stops_where_its_values_are_as_near_the_exact_ones_as_was_wanted():
    correlations, rounds = [], []
    for seed in range(6):
        game = noisy_game(seed=seed)
        exact = enumerate_coalitions(game).by_size.mean(0)
        run = permutation(game, subset_size=11, samples=4000, seed=seed, truncation=0.0, chunk=50)
        *_, (estimate, check) = run_until(run, Stopping(0.9, pilot=8))
        assert check.reason == "reliability"
        assert check.reliability >= 0.9
        assert check.rounds == estimate.rounds < estimate.planned
        rounds.append(estimate.rounds)
        correlations.append(np.corrcoef(estimate.moments.mean()[0], exact)[0, 1])
    # With eleven players a single run may be lucky; the correlation to expect is the root of the reliability, .95.
    assert np.mean(correlations) > 0.9
    assert len(set(rounds)) > 1


def test_a_run_that_does_not_get_there_ends_at_its_budget_and_says_so():
    run = permutation(noisy_game(noise=3.0), subset_size=11, samples=40, seed=0, truncation=0.0)
    *_, (estimate, check) = run_until(run, Stopping(0.999))
    assert check.reason == "budget"
    assert estimate.rounds == estimate.planned == check.rounds
    assert check.reliability < 0.999


def test_a_budget_below_the_pilot_is_still_looked_at():
    run = permutation(noisy_game(), subset_size=11, samples=3, seed=0, truncation=0.0)
    *_, (estimate, check) = run_until(run, Stopping(0.9, pilot=8))
    assert estimate.rounds == 3
    assert check.reason == "budget"


def test_where_a_run_stops_does_not_depend_on_the_chunk():
    game = noisy_game(noise=0.2)
    found = []
    for chunk in (1, 7, 64):
        run = permutation(game, subset_size=7, samples=1000, seed=3, truncation=0.0, chunk=chunk)
        *_, (estimate, check) = run_until(run, Stopping(0.9, pilot=8))
        found.append((estimate.rounds, estimate.fits, check, *estimate.moments.mean()[0]))
    assert found[0] == found[1] == found[2]
    assert found[0][2].reason == "reliability"
