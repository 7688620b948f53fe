"""Sums over sampled marginal contributions, by player and coalition size, from which every semivalue follows."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Contributions of the average player that join a player's own in each bin: more of them hide who is noisier than most.
_BORROWED = 1
# Bins times players beyond which bins are wider, for their sums would take 800 MB.
_CELLS = 2**24
# Players whose means are computed together.
_AT_ONCE = 4096
# Contributions of like weight from which an error can be told: of fewer, a spread says nothing of what it is.
_FEWEST = 1.5


def size_bins(sizes: int, alike: int = 2) -> np.ndarray:
    """Edges of bins over coalition sizes ``0 .. sizes - 1``, narrow at both ends, where semivalues differ most.

    The first ``2 * alike`` sizes from either end have a bin each; from there widths double every ``alike`` bins. Bins
    are symmetric: size ``k`` is in the mirror image of the bin of ``sizes - 1 - k``.

    Returns:
      int64 ``[bins + 1]``, from 0 to ``sizes``.

    Example:
      >>> size_bins(20)
      array([ 0,  1,  2,  3,  4,  6,  8, 12, 14, 16, 17, 18, 19, 20])
    """
    rising = list(range(2 * alike + 1))
    width = 2
    while rising[-1] < sizes / 2:
        rising += [rising[-1] + width * (number + 1) for number in range(alike)]
        width *= 2
    lower = [edge for edge in rising if edge <= sizes / 2]
    return np.unique([*lower, *(sizes - edge for edge in lower)])


class Known(NamedTuple):
    """What samples say of a mean contribution; see `Moments.known`.

    Attributes:
      mean: float64 ``[players]``.
      stderr: float64 ``[players]``, its standard error.
      freedom: float64 ``[players]``, that error's degrees of freedom.
    """

    mean: np.ndarray
    stderr: np.ndarray
    freedom: np.ndarray


@dataclass(frozen=True)
class Moments:
    """Sums over the marginal contributions sampled so far, in float64 whatever the game computes in.

    Contributions ``m`` are kept apart by bins of coalition size and, where it matters, by the half of the run they
    belong to (whether their round's number is even), so that two independent values of every player can be compared.
    They are added one after another in the order of their rounds: sums do not depend on how many came in one call.
    They take 48 bytes a bin and player, of chains 32 (40 in pairs), and of chains `mean` some three times that while
    it runs. There are 8 bins for 8 sizes, 25 for 132, 32 for 512 and 63 for 100,000: for 100,000 players and sizes to
    512, 154 MB. Where they would take 800 MB, bins are half as many: what `semivalue` takes as one is wider then.

    Attributes:
      edges: int64 ``[bins + 1]``, bin ``b`` holds coalition sizes ``edges[b] .. edges[b + 1] - 1``.
      total: float64 ``[2, bins, players]``, sums of ``v m``, ``v`` a contribution's weight (see ``mass``).
      squares: float64 ``[bins, players]``, sums of ``(v m)^2``.
      counts: int32 ``[2, bins, players]``.
      mass: float64 ``[2, bins, players]``, sums of ``v = 1 / (chance (1 - size / players))``, the inverse chance of
        being sampled, where a coalition values every player outside it; None where every contribution weighs one.
      cross: float64 ``[bins, players]``, sums of ``m`` times the contribution of the same player in the reverse of
        the chain; None without antithetic pairs.
      chance: float64 ``[sizes]``, how likely each coalition size is drawn, relative to even; None where all are alike.
      average: float64 ``[4, bins]``, of the mean contribution to each round's coalition: sums of ``v m``,
        ``(v m)^2``, one and ``v``, with ``v = 1 / chance``; None where rounds are no coalitions.
    """

    edges: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    counts: np.ndarray
    mass: np.ndarray | None = None
    cross: np.ndarray | None = None
    chance: np.ndarray | None = None
    average: np.ndarray | None = None

    @staticmethod
    def zeros(
        players: int,
        sizes: int,
        *,
        outside: bool = False,
        antithetic: bool = False,
        chance: np.ndarray | None = None,
    ) -> "Moments":
        """No contributions yet, of coalitions of 0 to ``sizes - 1``.

        Args:
          players: number of players.
          sizes: coalition sizes.
          outside: whether a round is one coalition, of a size spread evenly over all sizes from round to round, that
            values every player outside it. Otherwise a player's coalition sizes are independent draws.
          antithetic: whether contributions come in pairs, of a chain and of its reverse.
          chance: ``[sizes]``, of mean one, how likely each size is drawn (with ``outside``); None for all alike.
        """
        edges = size_bins(sizes)
        if players * (len(edges) - 1) > _CELLS:
            edges = size_bins(sizes, alike=1)
        shape = (2, len(edges) - 1, players)
        return Moments(
            edges,
            np.zeros(shape),
            np.zeros(shape[1:]),
            np.zeros(shape, np.int32),
            np.zeros(shape) if outside else None,
            np.zeros(shape[1:]) if antithetic else None,
            None if chance is None else np.asarray(chance, np.float64),
            np.zeros((4, len(edges) - 1)) if outside else None,
        )

    @property
    def sizes(self) -> int:
        """Coalition sizes sampled from: 0 to one less."""
        return int(self.edges[-1])

    @property
    def players(self) -> int:
        """Number of players."""
        return self.total.shape[2]

    @property
    def drawn(self) -> np.ndarray:
        """Contributions sampled of each player, int64 ``[players]``."""
        return self.counts.sum((0, 1), dtype=np.int64)

    @property
    def weight(self) -> np.ndarray:
        """Sum of the weights of each player's contributions, float64 ``[players]``: ``drawn`` where each weighs one."""
        return (self.counts if self.mass is None else self.mass).sum((0, 1)).astype(np.float64)

    def add(
        self,
        players: np.ndarray,
        sizes: np.ndarray,
        marginals: np.ndarray,
        rounds: np.ndarray | int,
        partners: np.ndarray | None = None,
    ) -> None:
        """Adds contributions of a run of chains (`zeros` without ``outside``), in place.

        Args:
          players: who made each contribution. This and what follows broadcast to one shape.
          sizes: the size of the coalition it was made to.
          marginals: the contributions.
          rounds: the number of the round; its parity says which half.
          partners: the same player's contribution in the other chain of an antithetic pair.
        """
        bins = np.searchsorted(self.edges, sizes, side="right") - 1
        what = np.asarray(marginals, np.float64)
        half, bins, players, what = np.broadcast_arrays(np.asarray(rounds) % 2, bins, players, what)
        whole = (bins * self.players + players).ravel()
        place = whole + half.ravel() * self.squares.size
        flat = what.ravel()
        np.add.at(self.total.reshape(-1), place, flat)
        np.add.at(self.squares.reshape(-1), whole, flat * flat)
        np.add.at(self.counts.reshape(-1), place, 1)
        if self.cross is not None:
            other = np.broadcast_to(np.asarray(partners, np.float64), what.shape).ravel()
            np.add.at(self.cross.reshape(-1), whole, flat * other)

    def add_round(self, outside: np.ndarray, size: int, marginals: np.ndarray, number: int) -> None:
        """Adds the contributions to one coalition of a run of coalitions (`zeros` with ``outside``), in place.

        Args:
          outside: bool ``[players]``, who is not in the coalition: somebody.
          size: its members.
          marginals: ``[players]``; what it says of members is left out, whatever it is.
          number: of the round.
        """
        assert self.average is not None
        assert self.mass is not None
        half, place = number % 2, int(np.searchsorted(self.edges, size, side="right")) - 1
        what = np.where(outside, np.asarray(marginals, np.float64), 0.0)
        chance = 1.0 if self.chance is None else float(self.chance[size])
        alike, weight = 1 / chance, 1 / (chance * (1 - size / self.players))
        mean = alike * what.sum() / np.sum(outside)
        self.average[:, place] += mean, mean * mean, 1.0, alike
        what *= weight
        self.mass[half, place] += weight * outside
        self.total[half, place] += what
        self.squares[place] += what * what
        self.counts[half, place] += outside

    def mean(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean contribution under weights over coalition sizes, and its standard error; see `known`."""
        found = self.known(weights)
        return found.mean, found.stderr

    def known(self, weights: np.ndarray | None = None) -> "Known":
        """Mean contribution under weights over coalition sizes, its standard error, and how far that is known itself.

        With ``w_k`` the weight of size ``k`` (equal by default, which is the size-truncated Shapley value), and
        contributions ``m`` of weight ``v`` sampled at sizes ``k``, it is the ratio

            mu = sum(w_k v m) / sum(w_k v)

        over the samples. Within a bin ``w`` is taken at its mean over the bin's sizes, which is all that is not exact.

        The error is that of a ratio, ``sqrt(E[sum(w_k v (m - mu))^2]) / sum(w_k v)``. It takes rounds as independent:
        at 300 contributions a player ``mu +- 1.96`` errors hold the value that endless sampling converges to in 93 to
        97 % of all cases. Where chains are drawn, sizes are part of the chance, and in chains of hundreds most of the
        noise comes from contributions so rare that a player may have none of them (those to coalitions of 0 or 1, far
        larger than all others). So each bin is taken to have as many contributions as sizes drawn evenly have there,
        and their mean square is the player's own together with one contribution of the average player's; the two
        chains of an antithetic pair count as one draw. Such errors are a little wide below 300 contributions: there
        they hold in some 97 %. Where coalitions value all outside them, sizes are spread evenly over the rounds, so
        only what varies within a bin counts, wherever a bin has two contributions or more. What truncation, or a
        game's approximate marginals, add is bias, and not part of it.

        Of a short run bins hold few contributions, and what these say of the error is itself uncertain. Where
        coalitions value all outside them the variance is a sum ``V = sum_b V_b`` over bins, each estimated from its
        own ``n_b`` contributions: it has some ``V^2 / sum_b V_b^2 / (n_b - 1)`` degrees of freedom (Satterthwaite,
        Biometrics Bulletin 1946). Where chains are drawn a player's squares are pooled with everybody's: infinitely
        many.

        Args:
          weights: ``[sizes]``, or longer; what it says of sizes that were never sampled is left out.

        Returns:
          NaN for a player with no sample of weight (mean), or with fewer than 1.5 (error): those of weights ``v`` count
          as ``(sum v)^2 / sum v^2``, so two alike are enough, and two of which one has next to no weight are not.
        """
        share = self._share(weights)
        # A few players at a time stay in a CPU's caches. Where chains are drawn all players count in each one's error.
        width = self.players if self.mass is None else _AT_ONCE
        some = [self._known_of(share, slice(first, first + width)) for first in range(0, self.players, width)]
        return Known(*(np.concatenate(parts) for parts in zip(*some, strict=True)))

    def _known_of(self, share: np.ndarray, players: slice) -> "Known":
        """`known` of these players."""
        total, counts = (part[..., players].sum(0) for part in (self.total, self.counts))
        squares = self.squares[:, players]
        mass = counts if self.mass is None else self.mass[..., players].sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            weight = np.sum(share * mass, 0)
            mu = np.sum(share * total, 0) / weight
            # A contribution's weight hardly varies within a bin: sums of v^2 m and v^2 follow from those of v m and v.
            heavy = 1.0 if self.mass is None else np.where(counts > 0, mass / counts, 1.0)
            spread = squares - 2 * mu * heavy * total + mu**2 * heavy * mass
            effective = share**2 * heavy * mass
            spread = share**2 * spread
            if self.cross is not None:
                # A pair is one draw of weight ``w + w'``, the weights of its two sizes, which add up to the last.
                both = share * share[::-1]
                spread += both * (self.cross[:, players] - mu * (total + total[::-1]) + mu**2 * counts)
                effective = effective + both * counts
            effective = weight**2 / np.sum(effective, 0)
            if self.mass is None:
                spread = self._expected(spread, counts)
            spread = spread * effective / (effective - 1)
            if self.mass is not None:
                within = share**2 * self._within(mu, total, squares, counts, mass)
                spread = np.where(counts > 1, within, spread)
            variance = np.sum(spread, 0)
            error = np.sqrt(np.maximum(variance, 0)) / weight
            freedom = np.full(len(mu), np.inf)
            if self.mass is not None:
                doubt = np.sum(spread**2 / np.maximum(counts - 1, 1), 0)
                freedom = np.where(doubt > 0, variance**2 / doubt, np.inf)
            enough = effective >= _FEWEST
        return Known(mu, np.where(enough, error, np.nan), freedom)

    def common_error(self, weights: np.ndarray | None = None) -> float:
        """Standard error of the mean of all values under weights over coalition sizes: noise that all have in common.

        A coalition values everybody outside it, so what is peculiar to it moves all their values alike, and none
        against another. It is 0 where every contribution is of a draw of its own.
        """
        if self.average is None:
            return 0.0
        total, squares, counts, mass = self.average[:, None, :, None]  # of one player, in one half
        return float(Moments(self.edges, total, squares[0], counts, mass, chance=self.chance).known(weights).stderr[0])

    def halves(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`mean`'s values from the even rounds alone and from the odd ones alone, two float64 ``[players]``."""
        share = self._share(weights)
        mass = self.counts if self.mass is None else self.mass
        with np.errstate(invalid="ignore", divide="ignore"):
            # Without arrays of all products, which would be as large as the sums themselves.
            worth, weight = (np.einsum("b,hbp->hp", share[:, 0], part) for part in (self.total, mass))
            even, odd = worth / weight
        return even, odd

    def of(self, players: np.ndarray) -> "Moments":
        """Those of these players, int ``[some]``, each as often as it is named."""
        apart = ("edges", "chance", "average")
        return Moments(**{name: a if name in apart else a[..., players] for name, a in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name, to be saved; `from_arrays` is the way back."""
        return {name: array for name, array in vars(self).items() if array is not None}

    @staticmethod
    def from_arrays(arrays: dict[str, np.ndarray]) -> "Moments":
        """What `arrays` was called on; other entries, such as those of a file with more in it, are left out."""
        names = Moments.__dataclass_fields__
        return Moments(**{name: np.asarray(arrays[name]) for name in names if name in arrays})

    def _share(self, weights: np.ndarray | None) -> np.ndarray:
        """The mean weight in each bin, ``[bins, 1]``."""
        if weights is None:
            return np.ones((len(self.edges) - 1, 1))
        if len(weights) < self.sizes:
            raise ValueError(f"{len(weights)} weights for {self.sizes} coalition sizes")
        width = np.diff(self.edges)
        return (np.add.reduceat(np.asarray(weights, np.float64)[: self.sizes], self.edges[:-1]) / width)[:, None]

    def _expected(self, spread: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The ``spread`` to expect in each bin of sizes that were drawn evenly, ``[bins, players]``.

        It may be negative in a bin, where an antithetic pair's contributions offset each other.
        """
        pooled = np.nansum(spread, 1, keepdims=True) / np.maximum(counts.sum(1, keepdims=True), 1)
        square = (spread + _BORROWED * pooled) / (counts + _BORROWED)
        return counts.sum(0) * np.diff(self.edges)[:, None] / self.sizes * square

    def _within(self, mu, total, squares, counts, mass) -> np.ndarray:
        """What evenly spread sizes leave of the spread: contributions about their bin's mean, ``[bins, players]``.

        That a player is outside the coalition remains chance. It moves the sum by ``bin's mean - mu`` with variance
        ``1 / (1 - size / players) - 1`` a round, so next to nothing where coalitions are small.
        """
        mean = total / mass
        about = np.maximum(squares - total**2 / counts, 0) * counts / (counts - 1)
        chance = np.ones(self.sizes) if self.chance is None else self.chance
        drawn = (np.add.reduceat(chance, self.edges[:-1]) / np.diff(self.edges))[:, None]
        left_out = np.maximum(mass / counts * drawn - 1, 0)
        return about + left_out / drawn * mass * (mean - mu) ** 2
