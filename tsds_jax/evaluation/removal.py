"""Removal and addition curves: how a classifier does on test rows with ever fewer, or more, of the points."""

from typing import NamedTuple

import numpy as np

from tsds_jax.arrays import number_in, without_ties
from tsds_jax.errors import InputError
from tsds_jax.games.outcomes import OutcomeGame
from tsds_jax.games.refits import check_counts_hits, refitted


class KeptCurve(NamedTuple):
    """Test accuracy of the source classifier fitted to a share of the points.

    Read from 1 downwards, ``best`` is the curve of removing the lowest values first, and ``worst`` that of removing the
    highest first; read upwards they are the curves of adding the highest, and the lowest, first.

    Attributes:
      share: float64 ``[steps]``, the share that is kept, rising to 1.
      best: float64 ``[steps]``, accuracy with the highest values kept.
      worst: float64 ``[steps]``, accuracy with the lowest values kept.
      converged: whether all refits did: none stopped before its tolerance, or was damped.
    """

    share: np.ndarray
    best: np.ndarray
    worst: np.ndarray
    converged: bool = True

    @property
    def weighted_drop(self) -> float:
        """Weighted accuracy drop: ``sum_j (a_0 - a_j) / j`` over the steps ``j`` of removing the highest values first.

        The larger, the more the first points that go are missed. From Schoch, Xu and Ji, "CS-Shapley", NeurIPS 2022,
        with steps of this curve in place of single points.
        """
        fallen = self.worst[-1] - self.worst[::-1][1:]
        return float(np.sum(fallen / np.arange(1, len(fallen) + 1)))


def kept_curve(game: OutcomeGame, values: np.ndarray, *, step: float = 0.05, seed: int = 0) -> KeptCurve:
    """Refits the source classifier on the points of the highest, and of the lowest, values.

    Args:
      game: training points, and test rows in place of validation rows.
      values: ``[points]``; a point that has none (NaN) counts as the highest.
      step: share of the points between two fits, or the next share of which the whole is a multiple.
      seed: decides the order of points of the same value, see `without_ties`.

    Raises:
      InputError: a step out of range, values of other points, or a game of regressions.
    """
    number_in("step", step, 1e-4, 1, whole=False)
    check_counts_hits(game)
    values = np.asarray(values, np.float64)
    if values.shape != (game.players,):
        raise InputError(f"values have shape {list(values.shape)} for {game.players} points: give each point one")
    points, steps = game.players, round(1 / step)
    shares = np.arange(1, steps + 1) / steps
    sizes = np.maximum(np.round(shares * points).astype(np.int64), 1)
    ranking = np.argsort(without_ties(values, seed))

    (best, one), (worst, other) = (
        refitted(game, order, sizes, lambda outcome: outcome.hit) for order in (ranking[::-1], ranking)
    )
    return KeptCurve(sizes / points, best.mean(1), worst.mean(1), one and other)
