"""Descents in stages: lanes that need few steps, lanes that need many, and the search along the first step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from tsds_jax.games.binary import OneMoreLosses, Own
from tsds_jax.games.descent import descend_in_stages
from tsds_jax.games.newton import Minimum
from tsds_jax.games.products import dot


def counted(needed, steps):
    """Lanes that need so many steps: a stage takes as many as it may, and counts itself in the second number."""

    def some(lanes, start, stage):
        done = jnp.minimum(start[:, 0] + jnp.asarray(steps)[stage], needed[lanes])
        return Minimum(jnp.stack([done, start[:, 1] + 1], 1), done == needed[lanes])

    return jax.jit(lambda: descend_in_stages(some, jnp.zeros((len(needed), 2), int), len(steps)))()


@pytest.mark.parametrize("lanes", [1, 7, 8, 9, 40])
def test_every_lane_goes_through_as_many_stages_as_it_needs_and_no_more(lanes):
    needed = jnp.asarray(np.random.default_rng(lanes).integers(0, 14, lanes))
    found = counted(needed, (1, 4, 6))
    np.testing.assert_array_equal(found.parameters[:, 0], np.minimum(needed, 11))
    np.testing.assert_array_equal(found.parameters[:, 1], 1 + (needed > 1) + (needed > 5))
    np.testing.assert_array_equal(found.converged, needed <= 11)


def test_the_search_along_a_step_finds_the_lowest_point_between_nothing_and_the_step():
    rng = np.random.default_rng(0)
    rows, weight, logit = rng.normal(size=(30, 4)), rng.uniform(0.5, 2, 30), rng.normal(size=30)
    ridge, there = np.full(4, 0.1), 0.1 * rng.normal(size=4)
    own, own_logit = Own(rng.normal(size=(12, 4)), rng.integers(0, 2, 12), np.ones(12)), rng.normal(size=12)
    direction = rng.normal(size=(12, 4))

    def loss(lane, t):
        def change(x, logit, y, weight):  # of a weighted loss whose slope where t is 0 is (p - y) x
            moved = t * (x @ direction[lane])
            return np.sum(weight * (np.logaddexp(0, logit + moved) - y * moved))

        before = 1 / (1 + np.exp(-logit))
        step = t * direction[lane]
        return (
            change(rows, logit, before, weight)
            + change(own.x[lane][None], own_logit[lane], own.y[lane], own.weight[lane])
            + there @ step
            + ridge @ step**2 / 2
        )

    one = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), (rows, weight, logit, there, ridge))
    own32 = Own(jnp.asarray(own.x, jnp.float32), jnp.asarray(own.y), jnp.asarray(own.weight, jnp.float32))
    losses = OneMoreLosses(*one, jnp.ones(12, bool), own32, jnp.asarray(own_logit, jnp.float32), dot)
    lowest = np.array([minimize_scalar(lambda t, lane=lane: loss(lane, t)).x for lane in range(12)])
    # Steps from half as far as that to eight times; the shorter ones stay as they are.
    length = lowest * np.geomspace(0.5, 8, 12)
    found = losses.lowest_along(jnp.asarray(direction, jnp.float32), jnp.asarray(length, jnp.float32))
    for lane, (best, step) in enumerate(zip(lowest, length, strict=True)):
        best = step if abs(step) < abs(best) else best
        assert loss(lane, float(found[lane])) <= loss(lane, best) + 0.02 * (loss(lane, 0) - loss(lane, best))
