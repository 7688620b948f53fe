"""Add-one marginals: one fit of a random coalition values every point outside it."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.estimators.estimate import Estimate
from tsds_jax.estimators.moments import Moments
from tsds_jax.games.game import Game

# Numbers in one array of contributions by validation rows: the memory of a chunk of points, in floats.
_CHUNK_NUMBERS = 2**22
_GOLDEN = (5**0.5 - 1) / 2


class Round(NamedTuple):
    """The contributions to one coalition.

    Attributes:
      size: int32 scalar, its members.
      member: bool ``[players]``.
      marginals: float32 ``[players]``, ``U(S + i) - U(S)``; without meaning for members.
    """

    size: jax.Array
    member: jax.Array
    marginals: jax.Array


@partial(jax.jit, static_argnames=("subset_size", "chunk"))
def add_one_rounds(game: Game, key: jax.Array, numbers: jax.Array, *, subset_size: int, chunk: int) -> Round:
    """The rounds of these numbers, int32 ``[rounds]``, one after another.

    Round ``t`` draws its coalition from ``fold_in(key, t)``, and its size from a golden-ratio sequence: uniform over
    ``0 .. subset_size - 1``, and evenly spread however many rounds there are.
    """
    players = game.players
    length = max(1, subset_size - 1)
    start = jax.random.uniform(jax.random.fold_in(key, 2**31 - 1))
    blocks = -(-players // chunk)
    points = jnp.minimum(jnp.arange(blocks * chunk), players - 1).reshape(blocks, chunk)

    def one(number: jax.Array) -> Round:
        place = (start + number * _GOLDEN) % 1.0
        size = jnp.minimum((place * subset_size).astype(jnp.int32), subset_size - 1)
        order = jax.random.permutation(jax.random.fold_in(key, number), players)[:length].astype(jnp.int32)
        fit = game.fit(order, size)
        marginals = jax.lax.map(lambda some: game.add_one_marginals(fit, some), points).reshape(-1)[:players]
        member = jnp.zeros(players, bool).at[order].set(jnp.arange(length) < size)
        return Round(size, member, marginals)

    return jax.lax.map(one, numbers)


def add_one(
    game: Game, *, subset_size: int, samples: int, seed: int, rows: int = 1, chunk: int | None = None
) -> Iterator[Estimate]:
    """Estimates every player's size-truncated Shapley value from random coalitions, one fit each.

    Draws ``k`` uniformly from ``0 .. s - 1`` and a coalition ``S`` of ``k`` players, and takes the marginal
    contribution ``U(S + i) - U(S)`` of *every* player outside. Their means, with each contribution weighted by the
    inverse of its chance ``1 - k / players`` of being taken, converge to the same phi_s as sampling chains, with one
    fit for all players where a chain has one a player. Both depend on the game's `add_one_marginals`: where these are
    approximate, so is the estimate.

    Args:
      game: the game.
      subset_size: coalitions have fewer members than this (s), from 1 to ``game.players``.
      samples: coalitions; a player gets a contribution of each that it is not in.
      seed: decides the coalitions.
      rows: numbers that the game holds for each point at a time, such as validation rows by classes; bounds a chunk.
      chunk: points valued together; None takes as many as keep ``chunk * rows`` under four million. The estimate does
        not depend on it.

    Yields:
      An `Estimate` after every few coalitions.
    """
    players = game.players
    if chunk is None:
        chunk = max(1, min(players, _CHUNK_NUMBERS // rows))
    together = max(1, min(samples, _CHUNK_NUMBERS // players, 16))
    key = jax.random.key(seed)
    moments = Moments.zeros(players, subset_size, outside=True)
    for first in range(0, samples, together):
        numbers = np.arange(first, first + together, dtype=np.int32)
        rounds = jax.device_get(add_one_rounds(game, key, numbers, subset_size=subset_size, chunk=chunk))
        # The last call computes rounds beyond the plan, so that every call has one shape; they are left out.
        for t in range(min(together, samples - first)):
            outside = np.flatnonzero(~rounds.member[t])
            moments = moments.add(outside, rounds.size[t], rounds.marginals[t][outside])
        done = min(first + together, samples)
        yield Estimate(moments, done, done, 0, 0, samples)
