"""The paper's estimator: marginal contributions along sampling chains, with truncation.

A chain walks its subset in order. Position ``i`` gives the player there the marginal contribution
``U(first i + 1) - U(first i)``. As in TMC Data Shapley (Ghorbani & Zou 2019), once a prefix's utility is within
``truncation`` of the whole chain's, the players after it get zero without a fit.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.estimators.chains import balanced_chains
from tsds_jax.estimators.estimate import Estimate
from tsds_jax.estimators.moments import Moments
from tsds_jax.games.game import Game


class Walk(NamedTuple):
    """Marginal contributions along chains.

    Attributes:
      marginals: float32 ``[chains, size]``, of the player at each position.
      fits: int32 ``[chains]``, utilities evaluated.
      truncated: int32 ``[chains]``, positions given zero by truncation.
      unconverged: int32 ``[chains]``, fits that stopped before their tolerance.
    """

    marginals: jax.Array
    fits: jax.Array
    truncated: jax.Array
    unconverged: jax.Array


def walk_chain(game: Game, order: jax.Array, truncation: jax.Array, block: int) -> Walk:
    """Walks one chain, ``block`` prefixes at a time, and stops after the block in which truncation sets in.

    Prefixes of a block are evaluated together, since they share their rows. A prefix is fitted from scratch, so its
    utility depends on which players it holds alone, never on the path to it.

    Args:
      game: the game.
      order: int32 ``[size]``, the chain's players.
      truncation: how close to the whole chain's utility counts as reached; 0 never truncates.
      block: prefixes evaluated together.
    """
    size = order.shape[0]
    blocks = -(-size // block)
    block = -(-size // blocks)  # the same number of blocks, with less left over in the last
    ends = game.prefix_utilities(order, jnp.array([0, size]))
    empty, full = ends.utility

    class State(NamedTuple):
        number: jax.Array
        before: jax.Array  # utility of the last prefix of the block before
        stopped: jax.Array
        marginals: jax.Array
        truncated: jax.Array
        unconverged: jax.Array

    def body(state: State) -> State:
        position = state.number * block + jnp.arange(block)
        after = game.prefix_utilities(order, jnp.minimum(position + 1, size))
        before = jnp.concatenate([state.before[None], after.utility[:-1]])
        # A share of rows is no exact float: a difference of just the tolerance must fall on one side everywhere.
        close = jnp.abs(full - before) < truncation - 1e-6
        stopped = state.stopped | (jnp.cumsum(close) > 0)
        marginal = jnp.where(stopped, 0.0, after.utility - before)
        return State(
            number=state.number + 1,
            before=after.utility[-1],
            stopped=stopped[-1],
            marginals=jax.lax.dynamic_update_slice(state.marginals, marginal, (state.number * block,)),
            truncated=state.truncated + jnp.sum(stopped & (position < size), dtype=jnp.int32),
            unconverged=state.unconverged + after.unconverged,
        )

    zero = jnp.zeros((), jnp.int32)
    start = State(zero, empty, jnp.zeros((), bool), jnp.zeros(blocks * block, empty.dtype), zero, ends.unconverged)
    end = jax.lax.while_loop(lambda state: (state.number < blocks) & ~state.stopped, body, start)
    return Walk(
        end.marginals[:size],
        2 + jnp.minimum(end.number * block, size),
        end.truncated + jnp.maximum(size - end.number * block, 0),
        end.unconverged,
    )


@partial(jax.jit, static_argnames=("block", "lanes"))
def walk_chains(game: Game, orders: jax.Array, truncation: jax.Array, *, block: int, lanes: int) -> Walk:
    """`walk_chain` over ``orders`` ``[chains, size]``, ``lanes`` chains at a time.

    One lane suits a CPU: its prefixes already fill the cores, and a chain that is truncated early frees them at
    once. An accelerator wants many lanes, which then all wait for the longest among them.
    """
    return jax.lax.map(lambda order: walk_chain(game, order, truncation, block), orders, batch_size=lanes)


def permutation(
    game: Game,
    *,
    subset_size: int,
    samples: int,
    seed: int,
    truncation: float = 1e-3,
    chunk: int | None = None,
    block: int = 64,
    lanes: int | None = None,
) -> Iterator[Estimate]:
    """Estimates every player's size-truncated Shapley value by sampling chains.

    Up to truncation, a chain's contributions are unbiased for

        phi_s(i) = (1/s) sum_{k<s} D_i(k),

    where ``D_i(k)`` is the mean marginal contribution of player ``i`` to a random coalition of ``k`` others; with
    ``subset_size == players`` that is the Shapley value.

    Args:
      game: the game.
      subset_size: players in a chain (s), from 1 to ``game.players``.
      samples: contributions wanted of every player; at least as many are drawn of each.
      seed: decides the chains.
      truncation: see `walk_chain`.
      chunk: chains in one compiled call; None takes about 2,048 prefixes. The estimate does not depend on it.
      block: prefixes of one chain fitted together.
      lanes: chains walked together; None takes 1 on a CPU and 16 elsewhere.

    Yields:
      An `Estimate` after each chunk.

    References:
      Schoch, Mishra and Ji, "Data Selection for Fine-tuning Large Language Models Using Transferred Shapley
      Values", ACL SRW 2023.
    """
    planned = -(-samples * game.players // subset_size)
    if lanes is None:
        lanes = 1 if jax.default_backend() == "cpu" else 16
    if chunk is None:
        chunk = max(lanes, 2048 // subset_size)
    chunk = min(chunk, planned)
    chains = balanced_chains(seed, game.players, subset_size)
    moments = Moments.zeros(game.players, subset_size)
    done = fits = truncated = unconverged = 0
    while done < planned:
        now = min(chunk, planned - done)
        orders = np.stack([next(chains) for _ in range(now)])
        # Every call has one shape, so there is one compilation: the last is filled up with chains not counted.
        padded = np.concatenate([orders, np.repeat(orders[:1], chunk - now, 0)])
        walk = jax.device_get(
            walk_chains(game, padded, jnp.float32(truncation), block=min(block, subset_size), lanes=lanes)
        )
        moments = moments.add(orders, np.arange(subset_size), walk.marginals[:now])
        done += now
        fits += int(walk.fits[:now].sum())
        truncated += int(walk.truncated[:now].sum())
        unconverged += int(walk.unconverged[:now].sum())
        yield Estimate(moments, done, fits, truncated, unconverged, planned)
