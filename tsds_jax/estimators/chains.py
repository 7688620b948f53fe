"""Sampling chains: the small random subsets on which TS-DShapley values points, drawn in balance."""

from collections.abc import Iterator
from functools import partial
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np


def balanced_chains(seed: int, players: int, size: int) -> Iterator[np.ndarray]:
    """Endless sampling chains, each an ordered random subset of ``size`` players.

    Pass ``p`` shuffles all players (its randomness is ``fold_in(key(seed), p)``) and cuts the shuffle into chains; the
    remainder opens the next pass, whose first chain is filled up with players outside it. So after any number of
    chains two players' counts differ by at most one, and no player is left out, where independent subsets of 2 %
    miss 13 % of the players after 100 chains. Every chain by itself is a uniformly random ordered subset, since
    the procedure treats all players alike.

    Args:
      seed: decides all chains.
      players: number of players.
      size: players in a chain, from 1 to ``players``.

    Yields:
      int32 ``[size]``, distinct players, in the order in which they enter the coalition.
    """
    carried = np.zeros(0, np.int32)
    for order in _shuffles(seed, players):
        if len(carried):
            # The carried players must not come twice in one chain: they go behind those that fill it up. Being
            # moved makes them no likelier anywhere else, for the rest of the pass keeps its random order.
            fill = size - len(carried)
            waiting = np.isin(order, carried)
            ahead = order[~waiting][:fill]
            behind = order[~np.isin(order, ahead)]
            order = np.concatenate([carried, ahead, behind])
        whole = len(order) // size * size
        yield from order[:whole].reshape(-1, size)
        carried = order[whole:]


def _shuffles(seed: int, players: int) -> Iterator[np.ndarray]:
    """The passes' shuffles, int32 ``[players]`` each; those of few players are made many at a time."""
    key = jax.random.key(seed)
    together = max(1, min(64, 4096 // players))
    for first in count(0, together):
        yield from np.asarray(_some_shuffles(key, jnp.int32(first), players, together))


@partial(jax.jit, static_argnums=(2, 3))
def _some_shuffles(key: jax.Array, first: jax.Array, players: int, together: int) -> jax.Array:
    numbers = first + jnp.arange(together, dtype=jnp.int32)
    return jax.vmap(lambda number: jax.random.permutation(jax.random.fold_in(key, number), players))(numbers).astype(
        jnp.int32
    )
