"""Sampling chains: the small random subsets on which TS-DShapley values points, drawn in balance."""

from collections.abc import Iterator
from functools import partial
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np


def balanced_chains(seed: int, players: int, size: int) -> Iterator[np.ndarray]:
    """Endless sampling chains, each an ordered random subset of ``size`` players.

    Pass ``p`` shuffles all players (its randomness is ``fold_in(key(seed), p)``) and cuts the shuffle into sets; the
    remainder opens the next pass, whose first set is filled up with players outside it. So after any number of
    chains two players' counts differ by at most one, and no player is left out, where independent subsets of 2 %
    miss 13 % of the players after 100 chains. Every set by itself is a uniformly random subset, since the procedure
    treats all players alike, and its players enter in an order drawn for this set alone: where a player stands in one
    chain says nothing of where it stands in another, so that its contributions are a sample of independent sizes.

    Args:
      seed: decides all chains.
      players: number of players.
      size: players in a chain, from 1 to ``players``.

    Yields:
      int32 ``[size]``, distinct players, in the order in which they enter the coalition.
    """
    carried = np.zeros(0, np.int32)
    for order, draws in _shuffles(seed, players, players + size - 1):
        if len(carried):
            # The carried players must not come twice in one set: they go behind those that fill it up. Being
            # moved makes them no likelier in any other, for the rest of the pass keeps its random order.
            fill = size - len(carried)
            waiting = np.isin(order, carried)
            ahead = order[~waiting][:fill]
            behind = order[~np.isin(order, ahead)]
            order = np.concatenate([carried, ahead, behind])
        whole = len(order) // size * size
        # As the shuffle left them, those carried would always enter first, and for passes on end where a set is most of
        # all players.
        entering = draws[:whole].reshape(-1, size).argsort(1)
        yield from np.take_along_axis(order[:whole].reshape(-1, size), entering, 1)
        carried = order[whole:]


def _shuffles(seed: int, players: int, draws: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The passes' shuffles, int32 ``[players]``, and random numbers; those of few players are made many at a time."""
    key = jax.random.key(seed)
    together = max(1, min(64, 4096 // players))
    for first in count(0, together):
        some = _some_shuffles(key, jnp.int32(first), players, draws, together)
        yield from zip(*map(np.asarray, some), strict=True)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _some_shuffles(
    key: jax.Array, first: jax.Array, players: int, draws: int, together: int
) -> tuple[jax.Array, jax.Array]:
    def one(number: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_order, of_draws = jax.random.split(jax.random.fold_in(key, number))
        order = jax.random.permutation(of_order, players).astype(jnp.int32)
        return order, jax.random.bits(of_draws, (draws,), jnp.uint32)

    return jax.vmap(one)(first + jnp.arange(together, dtype=jnp.int32))
