"""Leave-one-out: what each point changes for the regression fitted to all the others."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.chunks import even_chunk
from tsds_jax.games.logistic import LogisticGame
from tsds_jax.runtime.memory import halved


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
    # Fits to all points descend an eighth of them at a time (`descend_in_stages`).
    chunk = even_chunk(points, max(len(game.y_val), points // 8) * game.classes)
    model, unconverged = jax.jit(type(game).fit)(game, jnp.arange(points, dtype=jnp.int32), jnp.int32(points))
    without = dataclasses.replace(game, weight=-game.weight)
    marginals = jax.jit(type(game).add_one_marginals)
    changes, failed, done = np.empty(points), int(unconverged), 0
    while done < points:
        # The last chunk takes the last point over and over, so that all are of one shape.
        some = np.minimum(np.arange(done, done + chunk), points - 1)
        try:
            found = jax.device_get(marginals(without, model, jnp.asarray(some, jnp.int32)))
        except jax.errors.JaxRuntimeError as error:
            chunk = halved(error, chunk, "points")
            continue
        new = min(chunk, points - done)
        changes[done : done + new] = found.marginal[:new]
        failed += int(found.unconverged[:new].sum())
        done += new
    return -changes, failed
