"""How well values find points that are known to be wrong."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from tsds_jax.errors import InputError


class Detection(NamedTuple):
    """What low values say of wrong points.

    Attributes:
      auroc: probability that a wrong point has a lower value than a right one, ties counting half.
      average_precision: mean over the wrong points of the share of wrong ones among all with values as low.
      f1: when the n lowest points are called wrong, n of them being wrong in all, so that precision is recall; of
        points of one value at the edge each counts by its share.
    """

    auroc: float
    average_precision: float
    f1: float


def detection(values: np.ndarray, wrong: np.ndarray) -> Detection:
    """Compares a ranking from the lowest value upwards with what is known to be wrong.

    Args:
      values: ``[points]``; a point that has none (NaN) counts as the least suspicious.
      wrong: bool ``[points]``.

    Raises:
      InputError: no point is wrong, or all are; or not one value a point.

    Example:
      >>> detection(np.array([0.1, -0.5, 0.3, -0.2]), np.array([False, True, False, False]))
      Detection(auroc=1.0, average_precision=1.0, f1=1.0)
    """
    wrong, values = np.asarray(wrong, bool), np.asarray(values, np.float64)
    if wrong.ndim != 1 or values.shape != wrong.shape:
        raise InputError(f"values have shape {list(values.shape)}, wrong {list(wrong.shape)}: give one of each a point")
    count, points = int(wrong.sum()), len(wrong)
    if count in (0, points):
        raise InputError(f"{count} of {points} points are wrong: detection needs some of both kinds")
    suspicion = -np.nan_to_num(values, nan=np.inf)
    rank = rankdata(suspicion)
    auroc = (rank[wrong].sum() - count * (count + 1) / 2) / (count * (points - count))
    # Points as suspicious or more, all and the wrong ones among them; those of one value come together.
    order = np.sort(suspicion)
    all_above = points - np.searchsorted(order, suspicion[wrong], side="left")
    wrong_above = count - np.searchsorted(np.sort(suspicion[wrong]), suspicion[wrong], side="left")
    # Of those of the value at which as many are called wrong as are, each is called so as likely as another.
    edge = order[-count]
    above, at = suspicion > edge, suspicion == edge
    found = wrong[above].sum() + wrong[at].mean() * (count - above.sum())
    return Detection(float(auroc), float(np.mean(wrong_above / all_above)), float(found / count))
