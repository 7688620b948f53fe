"""Data Banzhaf by maximum sample reuse: every coalition's utility counts for every player."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from tsds_jax.estimators.estimate import Estimate, copied, no_end
from tsds_jax.estimators.moments import Known
from tsds_jax.games.game import Game, PrefixUtilities, coalition_utility, part_of, plain_game
from tsds_jax.runtime.spread import Spread, over_all_devices

_TOGETHER = 16


@dataclass(frozen=True)
class InAndOut:
    """Sums over coalitions' utilities, of each player apart by half of the run and by whether it was a member.

    Attributes:
      counts: int64 ``[2 halves, 2, players]``, coalitions without the player and with it.
      total: float64, the same shape, sums of their utilities.
      squares: float64, the same shape.
    """

    counts: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @staticmethod
    def zeros(players: int) -> "InAndOut":
        """No coalitions yet."""
        shape = (2, 2, players)
        return InAndOut(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape))

    def add(self, member: np.ndarray, utility: np.ndarray, number: int) -> None:
        """With one coalition too, in place: ``member`` bool ``[players]``, ``utility`` for each, its number."""
        for inside, who in enumerate((~member, member)):
            self.counts[number % 2, inside] += who
            self.total[number % 2, inside] += np.where(who, utility, 0.0)
            self.squares[number % 2, inside] += np.where(who, utility**2, 0.0)

    @property
    def drawn(self) -> np.ndarray:
        """Coalitions that say something of each player, int64 ``[players]``: all."""
        return self.counts.sum((0, 1))

    def mean(self, weights: None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean utility with the player less that without, and its standard error; see `known`."""
        found = self.known(weights)
        return found.mean, found.stderr

    def known(self, weights: None = None) -> Known:
        """As `Moments.known`; the degrees of freedom are Welch's, of the two means' difference."""
        counts, total, squares = (array.sum(0) for array in (self.counts, self.total, self.squares))
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / counts
            spread = np.maximum(squares / counts - mean**2, 0) / (counts - 1)
            doubt = np.sum(spread**2 / (counts - 1), 0)
            freedom = np.where(doubt > 0, spread.sum(0) ** 2 / doubt, np.inf)
        return Known(mean[1] - mean[0], np.where(np.all(counts > 1, 0), np.sqrt(spread.sum(0)), np.nan), freedom)

    def halves(self, weights: None = None) -> tuple[np.ndarray, np.ndarray]:
        """The same mean differences from even and from odd rounds alone."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.total / self.counts
        return mean[0, 1] - mean[0, 0], mean[1, 1] - mean[1, 0]

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name, to be saved."""
        return dict(vars(self))


def banzhaf(
    game: Game,
    *,
    samples: int,
    seed: int,
    since: dict[str, np.ndarray] | None = None,
    asks_end: Callable[[], bool] = no_end,
) -> Generator[Estimate, None, None]:
    """Estimates every player's Banzhaf value from coalitions that each player joins with probability one half.

    The value is the mean utility of the coalitions with the player less that of those without it: one fit serves all
    players (maximum sample reuse). Round ``t`` draws from ``fold_in(key(seed), t)``.

    Args:
      game: the game.
      samples: coalitions.
      seed: decides them.
      since: see `Estimate.state`.
      asks_end: see `add_one`.

    Yields:
      An `Estimate` after every 16 coalitions (of a `costly` game every one), and at the end, whose ``moments`` are
      `InAndOut`.

    References:
      Wang and Jia, "Data Banzhaf: A Robust Data Valuation Framework for Machine Learning", AISTATS 2023.
    """
    spread = over_all_devices()
    played, key = spread.replicated((game, jax.random.key(seed)))
    every = 1 if getattr(plain_game(game), "costly", False) else _TOGETHER
    together = spread.devices * min(every, -(-samples // spread.devices))
    sums = InAndOut.zeros(game.players)
    own = part_of(game)
    part = None if own is None else np.asarray(own)
    start = unconverged = 0
    ends = False

    def estimate(done: int) -> Estimate:
        state = {**sums.arrays(), "counted": np.array([done, unconverged])}
        return Estimate(sums, done, done, 0, unconverged, samples, ends=ends, state=state)

    if since is not None:
        since = copied(since)
        start, unconverged = since.pop("counted").tolist()
        sums = InAndOut(**since)
        yield estimate(start)
    for first in range(start, samples, together):
        numbers = np.arange(first, first + together, dtype=np.int32)
        members, found = jax.device_get(_coalitions(played, key, numbers, spread))
        ends = asks_end()
        for t in range(min(together, samples - first)):
            utility = found.utility[t, 0].astype(np.float64)
            # Parts that are nobody's own add up.
            sums.add(members[t], utility.sum() if part is None else utility[part], first + t)
            unconverged += int(found.unconverged[t])
            done = first + t + 1
            if done % every == 0 or done == samples:
                yield estimate(done)


@partial(jax.jit, static_argnames="spread")
def _coalitions(game: Game, key: jax.Array, numbers: jax.Array, spread: Spread) -> tuple[jax.Array, PrefixUtilities]:
    def some(numbers: jax.Array, game: Game, key: jax.Array) -> tuple[jax.Array, PrefixUtilities]:
        def one(number: jax.Array) -> tuple[jax.Array, PrefixUtilities]:
            member = jax.random.bernoulli(jax.random.fold_in(key, number), np.float32(0.5), (game.players,))
            return member, coalition_utility(game, member)

        return jax.lax.map(one, numbers)

    return spread.mapped(some, numbers, game, key)
