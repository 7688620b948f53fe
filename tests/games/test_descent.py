"""Descents in stages: lanes that need few steps, and lanes that need many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsds_jax.games.descent import descend_in_stages
from tsds_jax.games.newton import Minimum


def counted(needed, steps, block=None):
    """Lanes that need so many steps: a stage takes as many as it may, and counts itself in the second number."""

    def some(lanes, start, stage):
        done = jnp.minimum(start[:, 0] + jnp.asarray(steps)[stage], needed[lanes])
        return Minimum(jnp.stack([done, start[:, 1] + 1], 1), done == needed[lanes])

    return jax.jit(lambda: descend_in_stages(some, jnp.zeros((len(needed), 2), int), len(steps), block))()


@pytest.mark.parametrize("lanes", [1, 7, 8, 9, 40])
def test_every_lane_goes_through_as_many_stages_as_it_needs_and_no_more(lanes):
    needed = jnp.asarray(np.random.default_rng(lanes).integers(0, 14, lanes))
    found = counted(needed, (1, 4, 6))
    np.testing.assert_array_equal(found.parameters[:, 0], np.minimum(needed, 11))
    np.testing.assert_array_equal(found.parameters[:, 1], 1 + (needed > 1) + (needed > 5))
    np.testing.assert_array_equal(found.converged, needed <= 11)


def test_lanes_that_all_begin_together_end_where_they_do_by_parts():
    needed = jnp.asarray(np.random.default_rng(0).integers(0, 14, 40))
    for one, other in zip(counted(needed, (1, 4, 6)), counted(needed, (1, 4, 6), block=4), strict=True):
        np.testing.assert_array_equal(one, other)
