"""Sampling chains: the small random subsets on which TS-DShapley values points, drawn in balance."""

from collections.abc import Iterator

import jax
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
    key = jax.random.key(seed)
    shuffled = jax.jit(jax.random.permutation, static_argnums=1)
    carried = np.zeros(0, np.int32)
    number = 0
    while True:
        order = np.asarray(shuffled(jax.random.fold_in(key, number), players), np.int32)
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
        number += 1
