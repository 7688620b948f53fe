"""Exact values of small games, by evaluating every coalition."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import comb

from tsds_jax.errors import InputError
from tsds_jax.games.game import Game, PrefixUtilities, coalition_utility

MAX_PLAYERS = 16


class Enumeration(NamedTuple):
    """All there is to know of a game's marginal contributions.

    Attributes:
      by_size: float64 ``[sizes, players]``; entry ``(k, i)`` is ``D_i(k)``, the mean marginal contribution of
        player ``i`` to the coalitions of ``k`` others.
      fits: utilities evaluated, ``2 ** players``.
      unconverged: fits among them that stopped before their tolerance.
    """

    by_size: np.ndarray
    fits: int
    unconverged: int


def enumerate_coalitions(game: Game) -> Enumeration:
    """Mean marginal contributions by coalition size, from all ``2 ** players`` utilities.

    A semivalue is then ``weights @ by_size`` with `semivalue_weights`.

    Raises:
      InputError: the game has more than 16 players.
    """
    players = game.players
    if players > MAX_PLAYERS:
        raise InputError(
            f"{players} points are too many to enumerate: use at most {MAX_PLAYERS}, or estimator='permutation'"
        )
    codes = np.arange(2**players)
    members = ((codes[:, None] >> np.arange(players)) & 1).astype(bool)
    found = jax.device_get(_utilities(game, jnp.asarray(members)))
    utilities = found.utility[:, 0].astype(np.float64)
    sizes = members.sum(1)
    by_size = np.zeros((players, players))
    for player in range(players):
        without = codes[~members[:, player]]
        marginal = utilities[without | (1 << player)] - utilities[without]
        by_size[:, player] = np.bincount(sizes[without], marginal, players)
    return Enumeration(
        by_size / comb(players - 1, np.arange(players))[:, None], len(codes), int(found.unconverged.sum())
    )


@partial(jax.jit, static_argnames="batch")
def _utilities(game: Game, members: jax.Array, batch: int = 256) -> PrefixUtilities:
    return jax.lax.map(lambda coalition: coalition_utility(game, coalition), members, batch_size=batch)
