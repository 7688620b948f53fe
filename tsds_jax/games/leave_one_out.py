"""Leave-one-out: what each point changes for the regression fitted to all the others."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.chunks import even_chunk
from tsds_jax.games.logistic import LogisticGame
from tsds_jax.runtime.memory import in_batches


def leave_one_out(game: LogisticGame) -> tuple[np.ndarray, int]:
    """``U(all) - U(all but i)`` for every point, and how many fits did not converge.

    A fit without a point is one with a further copy of it whose weight is negative. So it starts from the fit of all, a
    Newton step away, and descends until it is within 1e-3 of its minimum, relative to its largest parameter.

    Args:
      game: of logistic regression.

    Returns:
      float64 ``[points]`` in units of the utility, and a count.
    """
    points = game.players
    # Half of what there might be: every one of these fits passes over all points.
    chunk = even_chunk(points, 2 * game.numbers_added(points))
    model, unconverged = jax.jit(type(game).fit)(game, jnp.arange(points, dtype=jnp.int32), jnp.int32(points))
    without = dataclasses.replace(game, weight=-game.weight)
    marginals = jax.jit(type(game).add_one_marginals)
    found = in_batches(partial(marginals, without, model), np.arange(points, dtype=np.int32), chunk, "points")
    return -found.marginal.astype(np.float64), int(unconverged) + int(found.unconverged.sum())
