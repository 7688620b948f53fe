"""Sums over sampled marginal contributions, by player and coalition size, from which every semivalue follows."""

from dataclasses import dataclass, replace

import numpy as np


def size_bins(sizes: int) -> np.ndarray:
    """Edges of bins over coalition sizes ``0 .. sizes - 1``, narrow at both ends, where semivalues differ most.

    Sizes 0 to 3 from either end have a bin each; from there widths double every two bins.

    Returns:
      int64 ``[bins + 1]``, from 0 to ``sizes``.

    Example:
      >>> size_bins(20)
      array([ 0,  1,  2,  3,  4,  6,  8, 10, 12, 14, 16, 17, 18, 19, 20])
    """
    rising = [0, 1, 2, 3, 4]
    width = 2
    while rising[-1] < sizes / 2:
        rising += [rising[-1] + width, rising[-1] + 2 * width]
        width *= 2
    lower = [edge for edge in rising if edge <= sizes / 2]
    return np.unique([*lower, *(sizes - edge for edge in lower)])


@dataclass(frozen=True)
class Moments:
    """Sums over the marginal contributions sampled so far, in float64 whatever the game computes in.

    Contributions are added in the order of their chains or coalitions, so the sums depend neither on how many came in
    one call nor, beyond float64 rounding, on how many there are.

    Attributes:
      edges: int64 ``[bins + 1]``, bin ``b`` holds coalition sizes ``edges[b] .. edges[b + 1] - 1``.
      weight: float64 ``[bins]``, what a contribution counts, the inverse of its chance of being sampled: 1 in chains,
        ``1 / (1 - size / players)`` where a coalition values all who are not in it.
      total: float64 ``[bins, players]``, sums of contributions.
      squares: float64 ``[bins, players]``.
      counts: int64 ``[bins, players]``.
    """

    edges: np.ndarray
    weight: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    counts: np.ndarray

    @staticmethod
    def zeros(players: int, sizes: int, *, outside: bool = False) -> "Moments":
        """No contributions yet, of coalitions of 0 to ``sizes - 1``.

        Args:
          players: number of players.
          sizes: coalition sizes.
          outside: whether a coalition values every player outside it, and not one player alone.
        """
        edges = size_bins(sizes)
        middle = (edges[:-1] + edges[1:] - 1) / 2
        weight = 1 / (1 - middle / players) if outside else np.ones(len(middle))
        shape = (len(middle), players)
        return Moments(edges, weight, np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64))

    def add(self, players: np.ndarray, sizes: np.ndarray, marginals: np.ndarray) -> "Moments":
        """With these contributions too; the three arrays broadcast to one shape.

        The sums are changed in place, and this object must not be used again.
        """
        bins = np.searchsorted(self.edges, sizes, side="right") - 1
        bins, players, what = np.broadcast_arrays(bins, players, np.asarray(marginals, np.float64))
        place = (bins.ravel(), players.ravel())
        np.add.at(self.total, place, what.ravel())
        np.add.at(self.squares, place, what.ravel() ** 2)
        np.add.at(self.counts, place, 1)
        return replace(self)

    def mean(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean contribution under weights over coalition sizes, and its standard error.

        With ``w_k`` the weight of size ``k`` (equal by default, which is the size-truncated Shapley value) and
        contributions ``m`` sampled at sizes ``k``, uniform over sizes, the ratio

            sum(w_k m) / sum(w_k)

        over the samples, each also by its bin's ``weight``. Within a bin ``w`` is taken at its mean. The error treats
        samples as independent.

        Args:
          weights: ``[sizes]``.

        Returns:
          Two float64 ``[players]``; NaN for a player with no sample of weight (value) or fewer than two (error).
        """
        width = np.diff(self.edges)
        share = np.ones(len(width)) if weights is None else np.add.reduceat(weights, self.edges[:-1]) / width
        each = (share * self.weight)[:, None]
        mass = np.sum(each * self.counts, 0)
        drawn = np.sum(self.counts * (each > 0), 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.sum(each * self.total, 0) / mass
            spread = np.sum(each**2 * (self.squares - 2 * mean * self.total + mean**2 * self.counts), 0)
            error = np.sqrt(np.maximum(spread, 0) * drawn / (drawn - 1)) / mass
        return mean, np.where(drawn > 1, error, np.nan)
