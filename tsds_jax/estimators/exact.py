"""Exact values of small games, by evaluating every coalition."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import comb

from tsds_jax.errors import InputError
from tsds_jax.games.chunks import numbers_at_once
from tsds_jax.games.game import Game, PrefixUtilities, coalition_utility, part_of, plain_game

MAX_PLAYERS = 16
# Validation rows whose utilities' differences are taken together: 70 MB of 16 players.
_ROWS = 256


class Enumeration(NamedTuple):
    """All there is to know of a game's marginal contributions.

    Attributes:
      by_size: float64 ``[sizes, players]``; entry ``(k, i)`` is ``D_i(k)``, the mean marginal contribution of
        player ``i`` to the coalitions of ``k`` others.
      fits: utilities evaluated, ``2 ** players``.
      unconverged: fits among them that stopped before their tolerance.
      by_row: float64 ``[sizes, players, rows]`` of a `RowGame`, the same split by validation row; None otherwise.
    """

    by_size: np.ndarray
    fits: int
    unconverged: int
    by_row: np.ndarray | None = None


def enumerate_coalitions(game: Game) -> Enumeration:
    """Mean marginal contributions by coalition size, from all ``2 ** players`` utilities.

    A semivalue is then ``weights @ by_size`` with `semivalue_weights`. Where the game says which part of its
    utilities counts for each player (class-wise), that part is taken; where it does not (a `RowGame`), parts add up.

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
    found = jax.device_get(_utilities(game, jnp.asarray(members), together=_together(game)))
    utilities = found.utility[:, 0]
    part = part_of(game)
    by_row = None
    if part is not None:
        by_size = np.stack([_by_size(utilities[:, part[player]], members, player) for player in range(players)], 1)
    elif utilities.ndim == 1:
        by_size = np.stack([_by_size(utilities, members, player) for player in range(players)], 1)
    else:
        by_row = np.empty((players, players, utilities.shape[1]))
        for first in range(0, utilities.shape[1], _ROWS):  # of all rows at once the differences would be three times
            some = np.s_[..., first : first + _ROWS]  # what the utilities are
            by_row[some] = np.stack([_by_size(utilities[some], members, player) for player in range(players)], 1)
        by_size = by_row.sum(2)
    return Enumeration(by_size, len(codes), int(found.unconverged.sum()), by_row)


def _by_size(utilities: np.ndarray, members: np.ndarray, player: int) -> np.ndarray:
    """Mean of the player's marginal contributions at each size, ``[sizes, ...]``, of utilities ``[codes, ...]``."""
    without = np.flatnonzero(~members[:, player])
    marginal = utilities[without | (1 << player)].astype(np.float64) - utilities[without]
    sizes = members[without].sum(1)
    order = np.argsort(sizes, kind="stable")
    many = comb(members.shape[1] - 1, np.arange(members.shape[1]))
    first = np.concatenate([[0], np.cumsum(many)[:-1]]).astype(np.int64)
    return np.add.reduceat(marginal[order], first, 0) / many.reshape(-1, *[1] * (marginal.ndim - 1))


def _together(game: Game) -> int:
    """How many coalitions are fitted at a time: a power of two, or those that are left would be compiled anew."""
    # Of groups each coalition has as many rows as their points.
    rows, plain = len(getattr(game, "members", ())) or game.players, plain_game(game)
    # Of what a fit says of validation rows there is an entry for each row, class and member.
    said = max(1, np.size(getattr(plain, "y_val", 0))) * int(getattr(plain, "classes", 1) or 1) * 2 * MAX_PLAYERS
    fits = getattr(plain, "fits_at_once", 256)
    most = min(256, 256 * MAX_PLAYERS // rows, fits, 16 * numbers_at_once() // said)
    return 1 << (max(1, most).bit_length() - 1)


@partial(jax.jit, static_argnames="together")
def _utilities(game: Game, members: jax.Array, *, together: int) -> PrefixUtilities:
    one = partial(coalition_utility, game)
    return jax.lax.map(one, members, batch_size=together if together > 1 else None)
