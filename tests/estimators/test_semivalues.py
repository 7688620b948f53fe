"""Semivalues of one run's moments: what weights over coalition sizes make of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsds_jax.errors import InputError
from tsds_jax.estimators import enumerate_coalitions, permutation, semivalue_weights


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 100_000),
    st.sampled_from(["shapley", "truncated", "beta", "banzhaf"]),
    st.floats(0.5, 64),
    st.floats(0.5, 64),
)
def test_weights_are_never_negative_and_sum_to_one(players, kind, alpha, beta):
    weights = semivalue_weights(kind, players, alpha=alpha, beta=beta, size=max(1, players // 3))
    assert weights.shape == (players,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "how"), [("shapley", {}), ("beta", {"alpha": 4, "beta": 1}), ("banzhaf", {}), ("truncated", {"size": 3})]
)
def test_one_run_of_chains_gives_every_semivalue(random_table, last, kind, how):
    game = random_table(8)
    weights = semivalue_weights(kind, 8, **how)
    moments = last(permutation(game, subset_size=8, samples=3000, seed=1, truncation=0.0, chunk=300)).moments
    mean, error = moments.mean(weights)
    assert np.abs((mean - weights @ enumerate_coalitions(game).by_size) / error).max() < 4


def test_a_size_beyond_the_players_is_refused():
    with pytest.raises(InputError, match="size 9 is not a chain's: use 1 to the number of players, 8"):
        semivalue_weights("truncated", 8, size=9)
