"""A run that goes on from where another was cut gives what an uncut one gives, to the bit."""

import io

import jax.numpy as jnp
import numpy as np
import pytest

from tsds_jax.estimators import Stopping, add_one, banzhaf, permutation, run_until
from tsds_jax.games import TableGame, by_row, logistic_game, ridge_game

RNG = np.random.default_rng(0)
X, X_VAL = RNG.normal(size=(30, 3)).astype(np.float32), RNG.normal(size=(20, 3)).astype(np.float32)
Y, Y_VAL = (X[:, 0] > 0).astype(int), (X_VAL[:, 0] > 0).astype(int)
LOGISTIC = logistic_game(X, Y, X_VAL, Y_VAL, classes=2, utility="log_likelihood")
RIDGE = ridge_game(X, Y, X_VAL, Y_VAL, classes=2, utility="accuracy")
TABLE = TableGame(jnp.asarray(RNG.normal(size=2**6), jnp.float32))

# Numbers of samples that neither a call nor a pass of chains divides.
RUNS = {
    "add_one, with checks": lambda since: add_one(LOGISTIC, subset_size=8, samples=40, seed=3, since=since),
    "add_one": lambda since: add_one(RIDGE, subset_size=8, samples=40, seed=3, since=since),
    "add_one by row": lambda since: add_one(by_row(LOGISTIC), subset_size=8, samples=40, seed=3, since=since),
    "banzhaf_add_one": lambda since: add_one(RIDGE, subset_size=30, samples=40, seed=3, half=True, since=since),
    "banzhaf": lambda since: banzhaf(TABLE, samples=40, seed=3, since=since),
    "permutation": lambda since: permutation(RIDGE, subset_size=8, samples=9, seed=3, chunk=5, since=since),
    "antithetic": lambda since: permutation(
        RIDGE, subset_size=7, samples=9, seed=3, antithetic=True, chunk=4, since=since
    ),
    "permutation by row": lambda since: permutation(
        by_row(LOGISTIC), subset_size=8, samples=5, seed=3, chunk=3, since=since
    ),
}


def kept(state):
    """What a file would hold."""
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_from_any_estimate_to_the_same_bits(name):
    run = RUNS[name]
    states = [kept(estimate.state) for estimate in run(None)]
    assert len(states) > 2
    for place, state in enumerate(states):
        again = [kept(estimate.state) for estimate in run(state)]
        assert len(again) == len(states) - place
        for one, other in zip(again, states[place:], strict=True):
            same(one, other)


def test_what_it_goes_on_from_is_left_as_it_was():
    first = next(iter(RUNS["permutation by row"](None)))
    state = kept(first.state)
    before = kept(state)
    for _ in RUNS["permutation by row"](state):
        pass
    same(state, before)


def test_a_run_that_stops_where_it_is_reliable_stops_there_too_when_it_goes_on():
    stopping = Stopping(0.98, pilot=32)

    def looked(since, following):
        estimates = add_one(RIDGE, subset_size=8, samples=2000, seed=0, since=since)
        return [(e.rounds, check, kept(e.state)) for e, check in run_until(estimates, stopping, following)]

    whole = looked(None, None)
    end, check, last = whole[-1]
    assert 32 < end < 2000
    for _, seen, state in whole[:: max(1, len(whole) // 6)]:
        rounds, again, found = looked(state, stopping.pilot if seen is None else seen.next)[-1]
        assert (rounds, again) == (end, check)
        same(found, last)
