"""Balanced sampling chains: nobody left out, nobody twice, everybody alike."""

from itertools import islice

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from tsds_jax.estimators.chains import balanced_chains


@pytest.mark.parametrize(("players", "size"), [(10, 3), (7, 7), (5, 4), (100, 8), (6, 1)])
def test_counts_stay_within_one_of_each_other_and_no_chain_repeats_a_player(players, size):
    counts = np.zeros(players, int)
    for chain in islice(balanced_chains(0, players, size), 60):
        assert len(set(chain.tolist())) == size
        counts[chain] += 1
        assert np.ptp(counts) <= 1


@pytest.mark.parametrize(("players", "size"), [(9, 8), (10, 4)])
def test_where_a_player_stands_in_one_chain_says_nothing_of_where_it_stands_in_its_next(players, size):
    pairs = np.zeros((size, size), int)
    for seed in range(300):
        last = {}
        for chain in islice(balanced_chains(seed, players, size), 12):
            for place, player in enumerate(chain.tolist()):
                if player in last:
                    pairs[last[player], place] += 1
                last[player] = place
    assert chi2_contingency(pairs).pvalue > 1e-3


def test_a_seed_decides_the_chains_and_another_changes_them():
    one, again, other = (list(islice(balanced_chains(seed, 20, 6), 9)) for seed in (4, 4, 5))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_every_position_of_a_chain_is_uniform_also_where_a_remainder_is_carried():
    positions = np.zeros((3, 4), int)  # chain 1 opens with the player that pass 0 left over
    for seed in range(2000):
        chain = list(islice(balanced_chains(seed, 4, 3), 2))[1]
        positions[np.arange(3), chain] += 1
    assert chisquare(positions, axis=1).pvalue.min() > 1e-3
