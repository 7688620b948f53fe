"""Small games of known values, shared by the estimators' tests."""

from collections import deque
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tsds_jax.games import TableGame
from tsds_jax.games.game import Fitted, Marginals, PrefixUtilities, own_part


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MeanAlignmentGame:
    """``U(S) = 2 a . mean(S) - |mean(S)|^2`` of the members' vectors, 0 for nobody: no additive game, nor a small one.

    Attributes:
      vectors: ``[players, width]``.
      direction: ``[width]``, a.
    """

    vectors: jax.Array
    direction: jax.Array

    @property
    def players(self) -> int:
        return self.vectors.shape[0]

    def worth(self, total: jax.Array, size: jax.Array) -> jax.Array:
        mean = total / jnp.maximum(size, 1)[..., None]
        return jnp.sum(mean * (2 * self.direction - mean), -1)

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        running = jnp.cumsum(self.vectors[order], 0)
        total = jnp.where(sizes[:, None] > 0, running[jnp.maximum(sizes - 1, 0)], 0.0)
        return PrefixUtilities(self.worth(total, sizes), jnp.zeros((), jnp.int32))

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        member = jnp.arange(order.shape[0]) < size
        return Fitted((jnp.sum(self.vectors[order] * member[:, None], 0), size), jnp.zeros((), jnp.int32))

    def add_one_marginals(self, model: Any, points: jax.Array) -> Marginals:
        total, size = model
        after = self.worth(total + self.vectors[points], jnp.broadcast_to(size + 1, points.shape))
        return Marginals(after - self.worth(total, size), jnp.zeros(points.shape, jnp.int32))


def mean_alignment_by_size(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """``D_i(k)``, float64 ``[sizes, players]``, from the first two moments of a sum of ``k`` others drawn at random.

    With ``others`` their sum and ``square`` the sum of their squared lengths, ``E[T] = k others / (n - 1)`` and
    ``E|T|^2 = k square / (n - 1) + k (k - 1) (|others|^2 - square) / ((n - 1) (n - 2))``. Shapley and size-truncated
    values are means over ``k``, through which run harmonic sums.
    """
    players = len(vectors)
    k = np.arange(players)[:, None]
    lengths = np.sum(vectors**2, 1)
    others, square = vectors.sum(0) - vectors, lengths.sum() - lengths
    mean = others / (players - 1)
    pairs = (np.sum(others**2, 1) - square) / ((players - 1) * max(players - 2, 1))
    total = k * square / (players - 1) + k * (k - 1) * pairs
    before = np.where(k > 0, 2 * mean @ direction - total / np.maximum(k, 1) ** 2, 0.0)
    together = total + 2 * k * np.sum(vectors * mean, 1) + lengths
    after = 2 * (k * (mean @ direction) + vectors @ direction) / (k + 1) - together / (k + 1) ** 2
    return after - before


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PartsTable:
    """Utilities of several parts, listed for each coalition.

    Attributes:
      utilities: ``[2 ** players, parts]``.
      part: int32 ``[players]``, which part counts for each player; None where parts add up.
    """

    utilities: jax.Array
    part: jax.Array | None

    @property
    def players(self) -> int:
        return self.utilities.shape[0].bit_length() - 1

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        coalitions = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(jnp.left_shift(1, order.astype(jnp.int32)))])
        return PrefixUtilities(self.utilities[coalitions[sizes]], jnp.zeros((), jnp.int32))

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        bits = jnp.left_shift(1, order.astype(jnp.int32))
        return Fitted(jnp.sum(jnp.where(jnp.arange(len(order)) < size, bits, 0)), jnp.zeros((), jnp.int32))

    def add_one_marginals(self, model: Any, points: jax.Array) -> Marginals:
        change = self.utilities[model | jnp.left_shift(1, points.astype(jnp.int32))] - self.utilities[model]
        return Marginals(own_part(self, change, points), jnp.zeros(points.shape, jnp.int32))


@pytest.fixture(scope="session")
def mean_alignment():
    """Makes a `MeanAlignmentGame` of so many players, with its exact ``D_i(k)``: ``make(players, seed=0)``."""

    def make(players: int, seed: int = 0, width: int = 5) -> tuple[MeanAlignmentGame, np.ndarray]:
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=width)
        vectors = rng.normal(size=(players, width)) + direction
        game = MeanAlignmentGame(jnp.asarray(vectors, jnp.float32), jnp.asarray(direction, jnp.float32))
        return game, mean_alignment_by_size(vectors, direction)

    return make


@pytest.fixture(scope="session")
def parts_table():
    """Makes a `PartsTable` of random utilities: ``make(players, parts, seed=0, picked=True)``."""

    def make(players: int, parts: int, seed: int = 0, *, picked: bool) -> PartsTable:
        rng = np.random.default_rng(seed)
        utilities = jnp.asarray(rng.normal(size=(2**players, parts)), jnp.float32)
        return PartsTable(utilities, jnp.asarray(rng.integers(0, parts, players), jnp.int32) if picked else None)

    return make


@pytest.fixture(scope="session")
def all_permutations():
    """The Shapley-like mean over all ``n!`` orders of utilities by coalition: ``mean(utilities [2 ** n], size=n)``.

    Only the first ``size`` positions of each order count, which makes it the size-truncated value.
    """

    def mean(utilities: np.ndarray, size: int | None = None) -> np.ndarray:
        players = len(utilities).bit_length() - 1
        orders = np.array(list(permutations(range(players))))[:, : size or players]
        codes = np.cumsum(1 << orders, 1)
        before = np.concatenate([np.zeros((len(orders), 1), int), codes[:, :-1]], 1)
        marginals = utilities[codes].astype(np.float64) - utilities[before]
        return np.bincount(orders.ravel(), marginals.ravel(), players) / np.bincount(orders.ravel(), minlength=players)

    return mean


@pytest.fixture(scope="session")
def random_table():
    """A `TableGame` of independent normal utilities: ``make(players=8, seed=0)``."""

    def make(players: int = 8, seed: int = 0) -> TableGame:
        return TableGame(jnp.asarray(np.random.default_rng(seed).normal(size=2**players), jnp.float32))

    return make


@pytest.fixture(scope="session")
def last():
    """The last of a run's estimates."""
    return lambda estimates: deque(estimates, maxlen=1).pop()
