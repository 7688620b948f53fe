"""Factorisations against NumPy, and that any number of them at once comes to an end."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsds_jax.games.factors import cholesky, inverse, solve_lower


def positive(*shape):
    x = np.random.default_rng(0).normal(size=(*shape, 3 * shape[-1])).astype(np.float32)
    return x @ np.swapaxes(x, -1, -2)


@pytest.mark.parametrize("lanes", [(), (3,), (2, 3)])
@pytest.mark.parametrize("mapped", [False, True])
def test_factors_solutions_and_inverses_are_numpys_in_every_lane(lanes, mapped):
    lanes = (4, *lanes) if mapped else lanes
    matrix = positive(*lanes, 7)
    right = np.random.default_rng(1).normal(size=(*lanes, 7, 2)).astype(np.float32)

    def all_three(matrix, right):
        factor = cholesky(matrix)
        return factor, solve_lower(factor, solve_lower(factor, right), transpose=True), inverse(matrix)

    found = (jax.vmap(all_three) if mapped else all_three)(jnp.asarray(matrix), jnp.asarray(right))
    expected = np.linalg.cholesky(matrix), np.linalg.solve(matrix, right), np.linalg.inv(matrix)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_matrix_that_is_not_positive_gives_nan_and_harms_no_other():
    both = jnp.stack([jnp.eye(3), -jnp.eye(3)])
    assert np.isfinite(inverse(both)[0]).all()
    assert np.isnan(inverse(both)[1]).any()


@pytest.mark.slow
def test_batches_of_fits_that_meet_come_to_an_end():
    """A process of its own, for where LAPACK gets whole batches on a CPU (jaxlib 0.10, 0.11.0) nothing in it ends."""
    script = """
import jax, jax.numpy as jnp, numpy as np
from tsds_jax.games import logistic_game
rng = np.random.default_rng(0)
x = rng.normal(size=(120, 32)); y = (x[:, 0] + rng.logistic(size=120) > 0).astype(int)
game = logistic_game(x, y, x, y, classes=2)
orders = jnp.asarray(rng.permuted(np.tile(np.arange(120), (4, 64, 1)), axis=2), jnp.int32)
fits = jax.jit(lambda game, orders: [jax.vmap(lambda o: game.fit(o, 100).unconverged)(some) for some in orders])
for _ in range(10):
    assert not np.any(fits(game, orders))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_game_of_ones_own_that_gives_lapack_batches_is_valued_to_the_end():
    """By one call at a time: two of them wait for each other for good."""
    script = """
from dataclasses import dataclass
import jax, jax.numpy as jnp, numpy as np
from tsds_jax.games.game import Fitted, Marginals, PrefixUtilities
import tsds_jax as tsds
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LeastSquares:
    x: jax.Array
    y: jax.Array
    @property
    def players(self):
        return len(self.y)
    def worth(self, weight):
        factor = jnp.linalg.cholesky(jnp.einsum("lp,pf,pg->lfg", weight, self.x, self.x) + jnp.eye(self.x.shape[1]))
        right = (weight * self.y) @ self.x
        found = jax.vmap(lambda one, of: jax.scipy.linalg.cho_solve((one, True), of))(factor, right)
        return -jnp.mean((found @ self.x.T - self.y) ** 2, 1)
    def prefix_utilities(self, order, sizes):
        member = jnp.zeros((len(sizes), self.players)).at[:, order].set(1.0 * (jnp.arange(len(order)) < sizes[:, None]))
        return PrefixUtilities(self.worth(member), jnp.int32(0))
    def fit(self, order, size):
        member = jnp.zeros(self.players).at[order].set(1.0 * (jnp.arange(len(order)) < size))
        return Fitted(member, jnp.int32(0))
    def add_one_marginals(self, model, points):
        more = model + jax.nn.one_hot(points, self.players)
        return Marginals(self.worth(more) - self.worth(model[None]), jnp.zeros(len(points), jnp.int32))
rng = np.random.default_rng(0)
x = rng.normal(size=(200, 24)).astype(np.float32)
game = LeastSquares(jnp.asarray(x), jnp.asarray(x[:, 0]))
assert np.isfinite(tsds.value_game(game, subset_size=40, samples=320).values).all()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
