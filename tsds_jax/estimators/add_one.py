"""Add-one marginals: one fit of a random coalition values every point outside it."""

from array import array
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.estimators.estimate import Estimate, copied, no_end
from tsds_jax.estimators.moments import Moments
from tsds_jax.games.chunks import even_chunk, is_large, numbers_at_once
from tsds_jax.games.game import Game, by_player, own_part, plain_game
from tsds_jax.runtime.ahead import side_by_side
from tsds_jax.runtime.memory import halved, with_room
from tsds_jax.runtime.spread import ONE_DEVICE, WHOLE, Spread, along, over_all_devices

_TOGETHER = 16
# Calls at a time on a CPU: one leaves cores idle between its large operations.
_CPU_CALLS = 2
# The golden ratio's fraction of 2^32.
_GOLDEN = 2654435769
# Sizes are drawn with probability proportional to 1 / (size + 3), a third of them evenly.
_SHIFT, _EVEN = 3.0, 1 / 3


def size_chance(sizes: int) -> np.ndarray:
    """How likely coalitions of 0 to ``sizes - 1`` members are drawn, relative to even, float64 ``[sizes]``.

    What one point more changes varies about as ``1 / size``, so most of an even sample's noise comes from its few small
    coalitions. Sizes are drawn in proportion to that (Neyman allocation), mixed with even draws, and contributions
    weighted by the inverse: the same mean with less variance.

    Example:
      >>> size_chance(4).round(2).tolist()
      [1.27, 1.04, 0.89, 0.8]
    """
    falling = 1 / (np.arange(sizes) + _SHIFT)
    return _EVEN + (1 - _EVEN) * falling / falling.mean()


def spread_sizes(start: jax.Array, numbers: jax.Array, sizes: int) -> jax.Array:
    """The sizes of the coalitions of these rounds, int32: spread in proportion to `size_chance`, however many.

    Golden-ratio steps from ``start``, uint32, in whole numbers that wrap: of fractions a float32 has too few left
    behind a large number, and after some 10,000 rounds sizes would come in other proportions, after a million most
    never.

    Example:
      >>> numbers = jnp.arange(1_000_000, 1_000_400)
      >>> np.bincount(spread_sizes(jnp.uint32(0), numbers, 4)).tolist()  # see `size_chance`
      [127, 102, 90, 81]
    """
    ends = np.cumsum(size_chance(sizes)) / sizes * 2.0**32
    below = jnp.asarray(np.minimum(ends, 2.0**32 - 1).astype(np.uint32))
    place = start + numbers.astype(jnp.uint32) * np.uint32(_GOLDEN)
    return jnp.minimum(jnp.searchsorted(below, place, side="right"), sizes - 1).astype(jnp.int32)


class Round(NamedTuple):
    """The contributions to one coalition.

    Attributes:
      size: int32, its members.
      member: bool ``[players]``.
      marginals: float32 ``[players]``, ``U(S + i) - U(S)``; without meaning for members.
      unconverged: int32, fits that stopped before their tolerance.
      checked: int32, a player outside, drawn at random.
      exact: float32, its contribution from two fits of their own; 0 where the game's contributions are exact.
    """

    size: jax.Array
    member: jax.Array
    marginals: jax.Array
    unconverged: jax.Array
    checked: jax.Array
    exact: jax.Array


class _Drawn(NamedTuple):
    """A round's coalition: its number, an order of players of whom the first ``size`` are members."""

    number: jax.Array
    order: jax.Array
    size: jax.Array


class _Coalition(NamedTuple):
    """A round's coalition, fitted."""

    drawn: _Drawn
    model: Any
    exact: jax.Array  # see `Round`
    unconverged: jax.Array


@partial(jax.jit, static_argnames=("subset_size", "chunk", "half", "fits_ahead", "spread", "players"))
def add_one_rounds(
    game: Game,
    key: jax.Array,
    numbers: jax.Array,
    end: jax.Array,
    *,
    subset_size: int,
    chunk: int,
    half: bool = False,
    fits_ahead: bool = False,
    spread: Spread = ONE_DEVICE,
    players: int | None = None,
) -> tuple[Round, jax.Array | None]:
    """The rounds of these numbers, each device's one after another, and their contributions by validation row.

    Each device values all players, in its share of the rounds. Or, where ``spread.cuts``, each has some players alone:
    it fits its share of the coalitions, to members whose rows all devices send it, gets the fits of the others, and
    values its own players in all rounds.

    Round ``t`` draws its coalition from ``fold_in(key, t)``, and its size from ``0 .. subset_size - 1`` with the
    chances of `size_chance`, spread in proportion (`spread_sizes`).

    Args:
      game: the game.
      key: decides the coalitions.
      numbers: int32 ``[rounds]``, a multiple of the devices.
      end: int32, rounds from this number on are computed but left out of the contributions by row.
      subset_size: coalitions have fewer members.
      chunk: points valued together.
      half: whether every player is a member with probability one half instead, ``subset_size`` being all players.
      fits_ahead: whether the coalitions of all rounds are fitted first, and together: an accelerator waits for a small
        fit's many steps as long as for those of many. Takes the memory of all of them; only rounding depends on it.
      spread: the devices that share the rounds, and where it cuts the players too: then the game is `by_player`, the
        arrays with an entry for each `Spread.filled`.
      players: how many there are without such filling; None for all that the game has.

    Returns:
      `Round` with a leading axis; of a `RowGame` the sums of weighted contributions to each device's rounds, float32
      ``[devices, players, rows]``.
    """
    how: dict[str, Any] = {"subset_size": subset_size, "chunk": chunk, "half": half, "fits_ahead": fits_ahead}
    rounds = partial(_rounds, **how, players=game.players if players is None else players, spread=spread)
    if not spread.cuts:
        return spread.mapped(rounds, numbers, game, key, end)
    parts = by_player(game, lambda _: along(0), lambda _: WHOLE)
    found = Round._make((WHOLE, along(1), along(1), WHOLE, WHOLE, WHOLE))
    return spread.laid_out(rounds, (along(0), parts, WHOLE, WHOLE), (found, along(1)))(numbers, game, key, end)


def _rounds(
    numbers: jax.Array,
    game: Game,
    key: jax.Array,
    end: jax.Array,
    *,
    subset_size: int,
    chunk: int,
    half: bool,
    fits_ahead: bool,
    players: int,
    spread: Spread,
) -> tuple[Round, jax.Array | None]:
    # Of the players this device has `here`, from the `first` on.
    here = game.players
    first = spread.own() * here if spread.cuts else 0
    # The player behind the coalition in the random order is the one that is checked.
    length = min(subset_size, players)
    start = jax.random.bits(jax.random.fold_in(key, 2**31 - 1), dtype=jnp.uint32)
    chance = size_chance(subset_size)
    blocks = -(-here // chunk)
    points = jnp.minimum(jnp.arange(blocks * chunk), here - 1).reshape(blocks, chunk)

    def draw(number: jax.Array) -> _Drawn:
        own_key = jax.random.fold_in(key, number)
        order = _first_of_a_shuffle(own_key, players, length)
        if half:
            member = jax.random.bernoulli(jax.random.fold_in(own_key, 1), np.float32(0.5), (players,))
            return _Drawn(number, order, jnp.sum(member, dtype=jnp.int32))
        return _Drawn(number, order, spread_sizes(start, number, subset_size))

    def refit(among: Game, order: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One contribution by two fits of their own, and how many of these did not converge."""
        pair = among.prefix_utilities(order, jnp.minimum(jnp.stack([size, size + 1]), length))
        change = pair.utility[1] - pair.utility[0]
        # A coalition of everybody leaves nobody to check; it is left out later.
        checked = order[jnp.minimum(size, length - 1)]
        return jnp.sum(own_part(among, change, checked)), pair.unconverged

    check = getattr(game, "approximate", False)
    others = length if half else max(1, length - 1)

    def fitted(drawn: _Drawn, among: Game, order: jax.Array) -> _Coalition:
        """Of a game in which the coalition's players have these numbers."""
        fit = among.fit(order[:others], drawn.size)
        exact, failed = jnp.zeros(()), fit.unconverged
        if check:
            exact, refits_failed = refit(among, order, drawn.size)
            failed += refits_failed
        return _Coalition(drawn, fit.model, exact, failed)

    def drawn_and_fitted(number: jax.Array) -> _Coalition:
        drawn = draw(number)
        return fitted(drawn, game, drawn.order)

    def all_fitted() -> _Coalition:
        """All devices' rounds, each fitted where its number is, to rows that come from where its members are."""
        own = jax.lax.map(draw, numbers)
        orders = spread.collected(own.order)  # [all rounds, length]
        place, there = _places(orders, first, here)

        def sent(array: jax.Array) -> jax.Array:
            rows = jnp.where(there.reshape(there.shape + (1,) * (array.ndim - 1)), array[place], 0)
            return spread.added_up(rows, shared_out=True)

        games = by_player(game, sent, lambda array: array)  # [own rounds, length]

        def one(number: jax.Array) -> _Coalition:
            drawn = jax.tree.map(lambda part: part[number], own)
            return fitted(drawn, by_player(games, lambda array: array[number], lambda array: array), jnp.arange(length))

        which = jnp.arange(len(numbers))
        return spread.collected(jax.vmap(one)(which) if fits_ahead else jax.lax.map(one, which))

    def valued(by_row: jax.Array | None, given: Any) -> tuple[jax.Array | None, Round]:
        (number, order, size), model, exact, failed = (
            given if isinstance(given, _Coalition) else drawn_and_fitted(given)
        )
        found = jax.lax.map(lambda some: game.add_one_marginals(model, some), points)
        marginal, unconverged = (part.reshape(-1, *part.shape[2:])[:here] for part in found)
        place, there = _places(order, first, here)
        member = jnp.zeros(here, bool).at[jnp.where(there, place, here)].set(jnp.arange(length) < size, mode="drop")
        if by_row is not None:
            # Of whole numbers: 1 - size / players has lost the digits where nearly all are members.
            weight = 1.0 if half else players / (jnp.asarray(chance, jnp.float32)[size] * (players - size))
            by_row += jnp.where(member[:, None], 0.0, weight * (number < end) * marginal)
            marginal = jnp.sum(marginal, 1)
        counted = ~member & (first + jnp.arange(here) < players)
        stopped_early = jnp.sum(jnp.where(counted, unconverged, 0), dtype=jnp.int32)
        failed += spread.added_up(stopped_early) if spread.cuts else stopped_early
        checked = order[jnp.minimum(size, length - 1)]
        return by_row, Round(size, member, marginal, failed, checked, exact)

    rows = jax.eval_shape(
        lambda: game.add_one_marginals(game.fit(points[0, :1], points[0, 0]).model, points[0])
    ).marginal.shape[1:]
    # One after another: the memory of one coalition's contributions, however many rounds.
    begun = jnp.zeros((here, *rows)) if rows else None
    if spread.cuts:
        each = jax.tree.map(lambda part: part.reshape(spread.devices, -1, *part.shape[1:]), all_fitted())
        by_row, found = jax.lax.map(lambda some: jax.lax.scan(valued, begun, some), each)
        return jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), found), by_row
    by_row, found = jax.lax.scan(valued, begun, jax.vmap(drawn_and_fitted)(numbers) if fits_ahead else numbers)
    return found, None if by_row is None else by_row[None]


def _places(players: jax.Array, first: jax.Array | int, here: int) -> tuple[jax.Array, jax.Array]:
    """Where these players are among ``here`` from the first on, and whether they are there at all."""
    place = players - first
    return jnp.clip(place, 0, here - 1), (place >= 0) & (place < here)


def add_one(
    game: Game,
    *,
    subset_size: int,
    samples: int,
    seed: int,
    rows: int = 1,
    half: bool = False,
    chunk: int | None = None,
    cut: bool | None = None,
    since: dict[str, np.ndarray] | None = None,
    asks_end: Callable[[], bool] = no_end,
) -> Generator[Estimate, None, None]:
    """Estimates every player's size-truncated Shapley value from random coalitions, one fit each.

    Draws ``k`` from ``0 .. s - 1`` (see `size_chance`) and a coalition ``S`` of ``k`` players, and takes the marginal
    contribution ``U(S + i) - U(S)`` of *every* player outside. Their means, with each contribution weighted by the
    inverse of its chance of being taken, converge to the same phi_s as sampling chains, with one fit for all players
    where a chain has one a player.

    With ``half`` every player is a member with probability one half. A player outside such a coalition faces a random
    subset of all others, so plain means converge to the Banzhaf value.

    Where a game's contributions are approximate (``game.approximate``), one player a round, drawn at random among those
    outside, is valued by two fits of their own too. The mean difference estimates the mean bias of the values.

    Args:
      game: the game.
      subset_size: coalitions have fewer members than this (s), from 1 to ``game.players``; with ``half`` all players.
      samples: coalitions; a player gets a contribution of each that it is not in.
      seed: decides the coalitions.
      rows: numbers that the game holds for each point at a time, such as validation rows by classes, or its own
        features; bounds a chunk.
      half: see above.
      chunk: points valued together; None takes as many as keep ``chunk * rows`` under four million, which is 16 MiB an
        array (up to 4 GiB on an accelerator), or where a CPU makes two calls at a time (``game.side_by_side``) under
        half of that in each. Where the device has no memory left it is halved, with a warning. The estimate does not
        depend on it.
      cut: whether each device has its share of the players' rows alone, not all of them, and values these; of games
        with ``per_player``, without ``half``. None where the rows would fill a quarter of a device's memory. The
        estimate does not depend on it.
      since: see `Estimate.state`.
      asks_end: called behind each call, on the thread that makes them; see `Estimate.ends`.

    Yields:
      An `Estimate` after every 16 coalitions (of a `costly` game every one), and at the end.

    References:
      Wang and Jia, "Data Banzhaf", AISTATS 2023 (the Banzhaf value of data).
    """
    players = game.players
    if half and subset_size != players:
        raise ValueError(f"half draws from all {players} players, not {subset_size}")
    cuttable = not half and bool(getattr(game, "per_player", ()))
    if cut is None:
        cut = cuttable and any(jax.tree.leaves(by_player(game, is_large, lambda _: False)))
    if cut and not cuttable:
        raise ValueError(f"a {type(game).__name__}'s players cannot be cut here, or not with half")
    spread = over_all_devices(cuts=cut)
    here = -(-players // spread.devices) if spread.cuts else players
    on_cpu = jax.default_backend() == "cpu"
    # Devices that a CPU is taken for share its cores already, and an accelerator has one call after another.
    threads = _CPU_CALLS if on_cpu and spread.devices == 1 and getattr(game, "side_by_side", False) else 1
    at_once = even_chunk(here, threads * rows) if chunk is None else chunk
    # Rounds of each device in a call: a power of two, so that every sixteenth round is some device's last.
    together = min(_TOGETHER, 1 << (-(-samples // spread.devices) - 1).bit_length())
    while together > 1 and together * players > numbers_at_once():
        together //= 2
    every = _TOGETHER
    if getattr(plain_game(game), "costly", False):
        together = every = 1
    key = jax.random.key(seed)
    chance = None if half else size_chance(subset_size)
    # Of random halves the size is chance too, and says nothing: all contributions are kept as of one.
    moments = Moments.zeros(players, 1 if half else subset_size, outside=True, chance=chance)
    differences = array("d")  # three numbers a check
    by_row: np.ndarray | None = None
    start = fits = unconverged = 0
    check, refits = getattr(game, "approximate", False), getattr(game, "refits", False)
    key = spread.replicated(key)
    played = by_player(game, spread.filled, spread.replicated) if spread.cuts else spread.replicated(game)

    def arguments(first: int) -> tuple[Any, ...]:
        # The last call computes rounds beyond the plan, so that every call has one shape; they are left out.
        numbers = np.arange(first, first + together * spread.devices, dtype=np.int32)
        return played, key, numbers, np.int32(samples)

    how: dict[str, Any] = {"subset_size": subset_size, "half": half, "spread": spread, "players": players}
    how |= {"fits_ahead": not on_cpu and not half and fit_at_once(game, min(subset_size, players), together)}

    wide = jax.config.jax_enable_x64  # type: ignore[attr-defined]

    def call(first: int) -> tuple[int, bool, tuple[Round, jax.Array | None]]:
        # A thread begins with JAX's defaults, not with the contexts of the one that started it.
        with jax.enable_x64(wide):
            found = add_one_rounds(*arguments(first), chunk=at_once, **how)
            found = jax.block_until_ready(found) if on_cpu else found
            return first, asks_end(), found

    def fetched(start: int) -> Iterator[tuple[int, bool, Any, Any]]:
        """Calls from this round on: the number of the first round, a `Round` and contributions by row, as NumPy's."""
        nonlocal at_once
        if start < samples:
            at_once = with_room(lambda size: add_one_rounds.lower(*arguments(start), chunk=size, **how), at_once)
        while start < samples:
            calls = (partial(call, first) for first in range(start, samples, together * spread.devices))
            try:
                # On a thread of its own, for a call waits for the loops in it: the next rounds are computed while
                # these are added up.
                for first, ends, called in side_by_side(calls, threads):
                    found = jax.device_get(called)
                    start = first + together * spread.devices
                    yield first, ends, *found
                    del called, found  # contributions by row are large
            except jax.errors.JaxRuntimeError as error:
                at_once = halved(error, at_once, "points")

    def estimate(done: int, ends: bool = False) -> Estimate:
        # Of a point that was never drawn nothing is known, as of its value.
        mean = None if by_row is None else by_row / np.where(moments.weight > 0, moments.weight, np.nan)[:, None]
        checks = np.array(differences).reshape(-1, 3) if check else None
        state = {**moments.arrays(), "counted": np.array([done, fits, unconverged])}
        state |= {name: part for name, part in (("by_row", by_row), ("checks", checks)) if part is not None}
        return Estimate(moments, done, fits, 0, unconverged, samples, mean, checks, ends, state)

    if since is not None:
        since = copied(since)
        moments, by_row = Moments.from_arrays(since), since.get("by_row")
        differences = array("d", since["checks"].ravel() if check else ())
        start, fits, unconverged = since["counted"].tolist()
        yield estimate(start)
    for first, ends, rounds, split in fetched(start):
        for t in range(min(len(rounds.size), samples - first)):
            size, done = int(rounds.size[t]), first + t + 1
            fits += (3 if check else 1) + (players - size if refits else 0)
            unconverged += int(rounds.unconverged[t])
            if size < players:
                outside, marginals = ~rounds.member[t, :players], rounds.marginals[t, :players]
                moments.add_round(outside, 0 if half else size, marginals, first + t)
                if check:
                    difference = float(rounds.exact[t]) - float(rounds.marginals[t][rounds.checked[t]])
                    # What is checked is one player of those outside, however many these are.
                    differences.extend((size, difference, 1 - size / players if chance is None else 1 / chance[size]))
            if split is not None and ((t + 1) % together == 0 or done == samples):
                by_row = np.zeros(split.shape[1:])[:players] if by_row is None else by_row
                by_row += split[t // together, :players]
            if done % every == 0 or done == samples:
                yield estimate(done, ends)


def fit_at_once(game: Game, members: int, fits: int) -> bool:
    """Whether so many coalitions can be fitted together, by the numbers that a fit leaves: it takes a few times these.

    Example:
      >>> from tsds_jax.games import kernel_game
      >>> kernel = np.eye(600)
      >>> game = kernel_game(kernel, np.arange(600) % 2, kernel[:1], np.array([0]), classes=2)
      >>> fit_at_once(game, 9, fits=16), fit_at_once(game, 600, fits=16)
      (True, False)
    """
    # The game as an argument: of several devices its arrays are NumPy's here, which no order that is traced can index.
    kept = jax.eval_shape(lambda game: game.fit(jnp.arange(members), jnp.int32(members)).model, game)
    return fits * sum(array.size for array in jax.tree.leaves(kept)) <= numbers_at_once() // 4


def _first_of_a_shuffle(key: jax.Array, players: int, length: int) -> jax.Array:
    """So many different players in random order, int32 ``[length]``."""
    if 4 * length > players:
        return jax.random.permutation(key, players)[:length].astype(jnp.int32)
    # Whoever drew the largest numbers: no need to sort all of them.
    return jax.lax.top_k(jax.random.bits(key, (players,), jnp.uint32), length)[1].astype(jnp.int32)
