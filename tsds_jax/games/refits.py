"""Refits of a game's model to prefixes of one order, as many at a time as there is memory for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.errors import InputError
from tsds_jax.games.chunks import even_chunk
from tsds_jax.games.logistic import LogisticGame
from tsds_jax.games.outcomes import OutcomeGame
from tsds_jax.games.utilities import REGRESSION_UTILITIES
from tsds_jax.runtime.memory import in_batches


def check_counts_hits(game: OutcomeGame) -> None:
    """Raise InputError for a game of regressions, whose outcomes are right of no row."""
    if game.utility in REGRESSION_UTILITIES:
        raise InputError(
            f"a curve counts the rows that a game is right about, and one of {game.utility} has no classes"
        )


def refitted(game: OutcomeGame, order: np.ndarray, sizes: np.ndarray, read: Callable[[Any], Any]) -> tuple[Any, bool]:
    """What is ``read`` of the outcomes of ``order[:k]`` for each ``k`` in ``sizes``, float64 with an axis of sizes.

    And whether all of these fits converged: none stopped before its tolerance, or was damped.

    Args:
      game: of training points, and rows to say something of.
      order: int ``[points]``.
      sizes: int ``[sizes]``.
      read: arrays ``[some, rows]`` of an outcome of so many sizes.

    Raises:
      TsdsError: the device has no memory for a single refit.

    Example:
      >>> from tsds_jax.games import ridge_game
      >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
      >>> game = ridge_game(x, y, x, y, classes=2)
      >>> hits, converged = refitted(game, np.arange(3), np.array([2, 3]), lambda outcome: outcome.hit)
      >>> hits.mean(1).tolist(), converged
      ([1.0, 1.0], True)
    """
    ordered = jnp.asarray(np.array(order), jnp.int32)
    outcomes = jax.jit(type(game).prefix_outcomes)
    # A regression holds a number for each point and class while it is fitted; other games pass over the points once for
    # all sizes together.
    numbers, most = 0, len(sizes)
    if isinstance(game, LogisticGame):
        numbers, most = game.players * game.classes, min(most, game.fits_at_once)
    batch = min(most, even_chunk(len(sizes), numbers))

    def some_refits(some: np.ndarray) -> tuple[Any, jax.Array]:
        outcome, unconverged = outcomes(game, ordered, some)
        return read(outcome), jnp.broadcast_to(unconverged > 0, some.shape)

    found, failed = in_batches(some_refits, np.asarray(sizes, np.int32), batch, "refits")
    return jax.tree.map(lambda part: part.astype(np.float64), found), not failed.any()
