"""Running mean and standard error of each player's marginal contributions."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Sums over the marginal contributions sampled so far, in float64 whatever the game computes in.

    Contributions are added one by one in the order of their chains, so the sums depend neither on how many came
    in one call nor, beyond float64 rounding, on how many there are.

    Attributes:
      total: float64 ``[players]``.
      squares: float64 ``[players]``.
      counts: int64 ``[players]``.
    """

    total: np.ndarray
    squares: np.ndarray
    counts: np.ndarray

    @staticmethod
    def zeros(players: int) -> "Moments":
        """No contributions yet."""
        return Moments(np.zeros(players), np.zeros(players), np.zeros(players, np.int64))

    def add(self, players: np.ndarray, marginals: np.ndarray) -> "Moments":
        """With these players' contributions too (both of one shape)."""
        who, what = np.ravel(players), np.ravel(marginals).astype(np.float64)
        total, squares, counts = self.total.copy(), self.squares.copy(), self.counts.copy()
        np.add.at(total, who, what)
        np.add.at(squares, who, what**2)
        np.add.at(counts, who, 1)
        return Moments(total, squares, counts)

    @property
    def mean(self) -> np.ndarray:
        """Mean contribution ``[players]``; NaN for a player never drawn."""
        with np.errstate(invalid="ignore"):
            return self.total / self.counts

    @property
    def stderr(self) -> np.ndarray:
        """Standard error of the mean ``[players]``; NaN for a player drawn less than twice."""
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = (self.squares - self.total**2 / self.counts) / (self.counts - 1)
            return np.where(self.counts > 1, np.sqrt(np.maximum(variance, 0) / self.counts), np.nan)
