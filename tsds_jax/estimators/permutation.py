"""The paper's estimator: marginal contributions along sampling chains, with truncation.

A chain walks its subset in order. Position ``i`` gives the player there the marginal contribution
``U(first i + 1) - U(first i)``. As in TMC Data Shapley (Ghorbani & Zou 2019), once a prefix's utility is within
``truncation`` of the whole chain's, the players after it get zero without a fit.
"""

from collections.abc import Callable, Generator
from functools import partial
from itertools import islice
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.estimators.chains import balanced_chains
from tsds_jax.estimators.estimate import Estimate, copied, no_end
from tsds_jax.estimators.moments import Moments
from tsds_jax.games.chunks import numbers_at_once
from tsds_jax.games.game import Game, own_part, part_of, plain_game, utility
from tsds_jax.runtime.memory import halved, with_room
from tsds_jax.runtime.spread import ONE_DEVICE, Spread, over_all_devices

# Prefixes in one compiled call where nothing is asked: long enough to hide the call, short enough to show progress.
_CALL = 2048
# Chains that an accelerator walks together.
_LANES = 128


class Walk(NamedTuple):
    """Marginal contributions along chains.

    Attributes:
      marginals: float32 ``[chains, size]``, of the player at each position; of a `RowGame` ``[chains, size, rows]``.
      fits: int32 ``[chains]``, utilities evaluated.
      truncated: int32 ``[chains]``, positions given zero by truncation.
      unconverged: int32 ``[chains]``, fits that stopped before their tolerance.
    """

    marginals: jax.Array
    fits: jax.Array
    truncated: jax.Array
    unconverged: jax.Array


class _Block(NamedTuple):
    """What one block of a chain's prefixes brings.

    Attributes:
      marginals: ``[block, ...]``, behind the chain's end without meaning.
      last: utility of the block's last prefix.
      done: whether the chain ends here, or is truncated.
      truncated: contributions given zero here, and all those behind where the chain is done.
      unconverged: fits that stopped before their tolerance.
    """

    marginals: jax.Array
    last: jax.Array
    done: jax.Array
    truncated: jax.Array
    unconverged: jax.Array


@partial(jax.jit, static_argnames=("block", "lanes", "spread"))
def walk_chains(
    game: Game, orders: jax.Array, truncation: jax.Array, *, block: int, lanes: int, spread: Spread = ONE_DEVICE
) -> Walk:
    """Walks chains, on each device ``lanes`` at a time, ``block`` prefixes of each at a time.

    Prefixes of a block are evaluated together, since they share their rows. A prefix is fitted from scratch, so its
    utility depends on which players it holds alone, never on the path to it. A lane whose chain is at its end, or is
    truncated, takes the next chain that waits: lanes stand idle only behind the last one. One lane suits a CPU, whose
    cores a block fills already; an accelerator wants many.

    Args:
      game: the game. Where it says which part of its utilities counts for each player, that is the player's
        contribution, and truncation waits for all parts. Where it does not (a `RowGame`), all are kept, and
        truncation looks at their sum.
      orders: int32 ``[chains, size]``, each chain's players; a multiple of the devices.
      truncation: how close to the whole chain's utility counts as reached, in the game's ``unit``; 0 never truncates.
      block: prefixes of a chain evaluated together.
      lanes: chains walked together.
      spread: the devices that share the chains.
    """
    return spread.mapped(partial(_walk, block=block, lanes=lanes), orders, game, truncation)


def _walk(orders: jax.Array, game: Game, truncation: jax.Array, *, block: int, lanes: int) -> Walk:
    chains, size = orders.shape
    blocks = -(-size // block)
    block = -(-size // blocks)  # the same number of blocks, with less left over in the last
    walk = (_one_lane if lanes == 1 else partial(_lanes, lanes=min(lanes, chains)))(
        game, orders, truncation, blocks=blocks, block=block
    )
    marginals = walk.marginals.reshape(chains, blocks * block, *walk.marginals.shape[3:])[:, :size]
    return walk._replace(marginals=marginals)


def _one_lane(game: Game, orders: jax.Array, truncation: jax.Array, *, blocks: int, block: int) -> Walk:
    """Chains one after another, so that what a chain's blocks share is computed once a chain."""
    size = orders.shape[1]

    def walk_one(order: jax.Array) -> Walk:
        ends = game.prefix_utilities(order, jnp.array([0, size]))
        empty, full = ends.utility

        def body(state: tuple[jax.Array, _Block]) -> tuple[jax.Array, _Block]:
            number, now = state
            new = _walk_block(game, order, full, number, now.last, truncation, block, True)
            return number + 1, _Block(
                now.marginals.at[number].set(new.marginals),
                new.last,
                new.done,
                now.truncated + new.truncated,
                now.unconverged + new.unconverged,
            )

        zero = jnp.zeros((), jnp.int32)
        marginals = jnp.zeros((blocks, block, *_kept(game, empty)), empty.dtype)
        start = (zero, _Block(marginals, empty, jnp.zeros((), bool), zero, ends.unconverged))
        number, end = jax.lax.while_loop(lambda state: ~state[1].done, body, start)
        return Walk(end.marginals, 2 + jnp.minimum(number * block, size), end.truncated, end.unconverged)

    return jax.lax.map(walk_one, orders)


def _lanes(game: Game, orders: jax.Array, truncation: jax.Array, *, blocks: int, block: int, lanes: int) -> Walk:
    """Chains in several lanes, refilled from those that wait."""
    chains, size = orders.shape
    ends = jax.lax.map(lambda order: game.prefix_utilities(order, jnp.array([0, size])), orders, batch_size=lanes)
    empty, full = ends.utility[:, 0], ends.utility[:, 1]

    class State(NamedTuple):
        waiting: jax.Array  # the first chain that no lane has taken
        chain: jax.Array  # of each lane; ``chains`` where none is left
        number: jax.Array  # of its next block
        before: jax.Array  # utility of the last prefix of the block before
        walk: Walk  # with one row more, for lanes without a chain

    def body(state: State) -> State:
        chain, number, walk = state.chain, state.number, state.walk
        busy, known = chain < chains, jnp.minimum(chain, chains - 1)
        step = jax.vmap(
            lambda order, full, number, before, busy: _walk_block(
                game, order, full, number, before, truncation, block, busy
            )
        )
        new = step(orders[known], full[known], number, state.before, busy)
        done = new.done & busy
        walk = Walk(
            walk.marginals.at[chain, number].set(new.marginals),
            walk.fits.at[chain].set(2 + jnp.minimum((number + 1) * block, size)),
            walk.truncated.at[chain].add(new.truncated),
            walk.unconverged.at[chain].add(new.unconverged),
        )
        taken = jnp.minimum(state.waiting - 1 + jnp.cumsum(done, dtype=jnp.int32), chains)
        fresh = done.reshape(done.shape + (1,) * (new.last.ndim - 1))
        return State(
            waiting=jnp.minimum(state.waiting + jnp.sum(done, dtype=jnp.int32), chains),
            chain=jnp.where(done, taken, chain),
            number=jnp.where(done, 0, number + 1),
            before=jnp.where(fresh, empty[jnp.minimum(taken, chains - 1)], new.last),
            walk=walk,
        )

    zeros = jnp.zeros(chains + 1, jnp.int32)
    marginals = jnp.zeros((chains + 1, blocks, block, *_kept(game, empty[0])), empty.dtype)
    walk = Walk(marginals, zeros, zeros, zeros.at[:chains].add(ends.unconverged))
    first = jnp.arange(lanes, dtype=jnp.int32)
    start = State(jnp.int32(lanes), first, jnp.zeros(lanes, jnp.int32), empty[:lanes], walk)
    end = jax.lax.while_loop(lambda state: jnp.any(state.chain < chains), body, start)
    return Walk(*(array[:chains] for array in end.walk))


def _walk_block(
    game: Game,
    order: jax.Array,
    full: jax.Array,
    number: jax.Array,
    before: jax.Array,
    truncation: jax.Array,
    block: int,
    busy: jax.Array | bool,
) -> _Block:
    """The block of this number of one chain; ``before`` is the last utility of the block before."""
    size = order.shape[0]
    position = number * block + jnp.arange(block)
    # Where there is no chain, prefixes are empty, and so at once done: nobody waits for an idle lane.
    after = game.prefix_utilities(order, jnp.where(busy, jnp.minimum(position + 1, size), 0))
    utilities = jnp.concatenate([before[None], after.utility])
    # A share of rows is no exact float: a difference of just the tolerance must fall on one side everywhere.
    close = _difference(game, full - utilities) < truncation - jnp.minimum(1e-6, 1e-3 * truncation)
    stopped = jnp.cumsum(close) > 0
    done = stopped[-1] | ((number + 1) * block >= size)
    change = own_part(game, utilities[1:] - utilities[:-1], order[jnp.minimum(position, size - 1)])
    zeroed = stopped[:-1].reshape(block, *[1] * (change.ndim - 1))
    truncated = jnp.sum(stopped[:-1] & (position < size), dtype=jnp.int32)
    behind = jnp.maximum(size - (number + 1) * block, 0)
    return _Block(
        jnp.where(zeroed, 0.0, change),
        after.utility[-1],
        done,
        truncated + jnp.where(done, behind, 0),
        after.unconverged,
    )


def _difference(game: Game, change: jax.Array) -> jax.Array:
    """The size of changes of utility, ``[sizes]`` or ``[sizes, parts]``, as truncation sees it: ``[sizes]``."""
    if part_of(game) is not None:
        return jnp.max(jnp.abs(change), -1)
    return jnp.abs(change if change.ndim == 1 else jnp.sum(change, -1)) / getattr(game, "unit", 1.0)


def _kept(game: Game, utility: jax.Array) -> tuple[int, ...]:
    """Trailing axes of contributions, of a game with this utility of one coalition."""
    return utility.shape if part_of(game) is None else ()


def _numbers(game: Game) -> int:
    """Numbers that a contribution is kept as: one, or as many as there are parts of the utility."""
    if part_of(game) is not None:
        return 1
    # A jitted function keeps what it has traced: the next run of a game of this shape traces nothing.
    return utility.eval_shape(game, jax.ShapeDtypeStruct((game.players,), bool)).size


def chain_lanes(numbers: int) -> int:
    """Chains that are best walked together, where each holds arrays of so many numbers."""
    return 1 if jax.default_backend() == "cpu" else max(1, min(_LANES, numbers_at_once() // numbers))


def permutation(
    game: Game,
    *,
    subset_size: int,
    samples: int,
    seed: int,
    truncation: float = 1e-3,
    antithetic: bool = False,
    chunk: int | None = None,
    block: int = 64,
    lanes: int | None = None,
    since: dict[str, np.ndarray] | None = None,
    asks_end: Callable[[], bool] = no_end,
) -> Generator[Estimate, None, None]:
    """Estimates every player's size-truncated Shapley value by sampling chains.

    Up to truncation, a chain's contributions are unbiased for

        phi_s(i) = (1/s) sum_{k<s} D_i(k),

    where ``D_i(k)`` is the mean marginal contribution of player ``i`` to a random coalition of ``k`` others; with
    ``subset_size == players`` that is the Shapley value. Halves of the moments hold every other contribution of each
    player.

    Args:
      game: the game.
      subset_size: players in a chain (s), from 1 to ``game.players``.
      samples: contributions wanted of every player; at least as many are drawn of each.
      seed: decides the chains.
      truncation: see `walk_chains`.
      antithetic: whether every chain is also walked backwards. A player who came early comes late, so that the two
        contributions differ in opposite ways and their mean varies less. The pair is one round, two contributions.
      chunk: rounds in one compiled call, or the next multiple of the devices; None takes about 2,048 prefixes for each
        of them, fewer where contributions are split by many rows. The estimates do not depend on it.
      block: prefixes of one chain fitted together.
      lanes: chains walked together on a device; None takes 1 on a CPU, and elsewhere up to 128, and half as many
        where the device has no memory left, with a warning. Only rounding depends on it.
      since: see `Estimate.state`.
      asks_end: see `add_one`.

    Yields:
      An `Estimate` whenever every player has been drawn once more, to the remainder of a pass, and at the end.

    References:
      Schoch, Mishra and Ji, "Data Selection for Fine-tuning Large Language Models Using Transferred Shapley
      Values", ACL SRW 2023. Mitchell, Cooper, Frank and Holmes, "Sampling Permutations for Shapley Value
      Estimation", JMLR 2022 (antithetic pairs).
    """
    players = game.players
    each = 2 if antithetic else 1  # chains in a round
    planned = ceil(ceil(samples / each) * players / subset_size)
    pass_rounds = ceil(players / subset_size)
    if lanes is None:
        # A regression's classes are none, and it holds one number for each.
        lanes = chain_lanes(block * subset_size * max(1, getattr(game, "classes", 1)))
    spread = over_all_devices()
    if chunk is None:
        most = numbers_at_once() // (subset_size * each * _numbers(game))
        chunk = max(1 if lanes == 1 else 4 * lanes // each, _CALL // (subset_size * each))
        chunk = spread.devices * (1 if getattr(plain_game(game), "costly", False) else max(1, min(chunk, most)))
    chunk = -(-min(chunk, planned) // spread.devices) * spread.devices
    lanes = min(lanes, chunk * each // spread.devices)
    played = spread.replicated(game)
    moments = Moments.zeros(players, subset_size, antithetic=antithetic)
    occurrence = np.zeros(players, np.int64)
    by_row = None
    done = fits = truncated = unconverged = 0
    ends = False

    how: dict[str, Any] = {"block": min(block, subset_size), "spread": spread}

    def walked(orders: np.ndarray, lanes: int) -> tuple[Walk, int]:
        """What chains find, and how many there was memory for together."""
        arguments = (played, orders, np.float32(truncation))
        if done == start:
            lanes = with_room(lambda size: walk_chains.lower(*arguments, lanes=size, **how), lanes)
        while True:
            try:
                return jax.device_get(walk_chains(*arguments, lanes=lanes, **how)), lanes
            except jax.errors.JaxRuntimeError as error:
                lanes = halved(error, lanes, "chains")

    def estimate() -> Estimate:
        split = None if by_row is None else by_row / moments.drawn[:, None]
        counted = np.array([done, fits, truncated, unconverged])
        state = {**moments.arrays(), "counted": counted, "occurrence": occurrence}
        state |= {} if by_row is None else {"by_row": by_row}
        return Estimate(moments, done, fits, truncated, unconverged, planned, split, ends=ends, state=state)

    if since is not None:
        since = copied(since)
        moments, by_row, occurrence = Moments.from_arrays(since), since.get("by_row"), since["occurrence"]
        done, fits, truncated, unconverged = since["counted"].tolist()
        yield estimate()
    start, drawn = done, islice(balanced_chains(seed, players, subset_size), done, None)
    while done < planned:
        # Every call has one shape, so there is one compilation: the last may compute rounds that are left out.
        rounds = np.stack(list(islice(drawn, chunk)))
        orders = np.stack([rounds, rounds[:, ::-1]][:each], 1)
        walk, lanes = walked(orders.reshape(-1, subset_size), lanes)
        ends = asks_end()
        walk = Walk(*(array.reshape(chunk, each, *array.shape[1:]) for array in walk))
        if walk.marginals.ndim > 3 and by_row is None:
            by_row = np.zeros((players, walk.marginals.shape[3]))
        begin, end = done, min(done + chunk, planned)
        while done < end:
            until = min(end, (done // pass_rounds + 1) * pass_rounds)
            now = slice(done - begin, until - begin)
            marginals = np.asarray(walk.marginals[now], np.float64)
            if by_row is not None:
                for order, contributions in zip(orders[now], marginals, strict=True):
                    for one, its in zip(order, contributions, strict=True):
                        by_row[one] += its
                marginals = marginals.sum(3)
            turn = occurrence[rounds[now]] + _repeats(rounds[now])
            turns = np.stack([turn, turn[:, ::-1]][:each], 1)
            partners = marginals[:, ::-1, ::-1] if antithetic else None
            moments.add(orders[now], np.arange(subset_size), marginals, turns, partners)
            np.add.at(occurrence, rounds[now].ravel(), 1)
            done = until
            fits += int(walk.fits[now].sum())
            truncated += int(walk.truncated[now].sum())
            unconverged += int(walk.unconverged[now].sum())
            if done % pass_rounds == 0 or done == planned:
                yield estimate()


def _repeats(rounds: np.ndarray) -> np.ndarray:
    """How often each player of these rounds has occurred in them before, in the shape of ``rounds``."""
    flat = rounds.ravel()
    place = np.argsort(flat, kind="stable")
    first = np.flatnonzero(np.diff(flat[place], prepend=-1))
    found = np.empty(len(flat), np.int64)
    found[place] = np.arange(len(flat)) - np.repeat(first, np.diff(first, append=len(flat)))
    return found.reshape(rounds.shape)
