"""The removal index: how many points to remove, read off a removal curve."""

import numpy as np

from tsds_jax.arrays import one_of
from tsds_jax.selection.curve import RemovalCurve

RULES = ("cross_fitted", "one_se", "argmax")


def removal_index(curve: RemovalCurve, rule: str | None = None) -> int:
    """How many points to remove; none is always a candidate.

    Where no rule is given it is ``"cross_fitted"`` of a cross-fitted curve and ``"one_se"`` of another.

    ``"argmax"``, the paper's: where the curve is highest, the fewest in a tie.

    ``"one_se"``: the fewest whose score is within one standard error of the highest. The error is that of the highest
    score's difference from removing nothing, so where the best cut is not one standard error better than none, nothing
    is removed.

    ``"cross_fitted"``: of the differences from removing nothing, each but the first averaged with its neighbours on the
    grid, the largest decides, if it is more than the same average of their standard errors, which its own does not
    exceed; else nothing is removed. It is meant for a cross-fitted curve (as `select` and `select_points` make it),
    where the gain of a cut is not flattered by rows that also valued the points. On tweets it lost the least of the
    three where removing was a mistake (benchmarks/rules.py).

    Example:
      >>> import numpy as np
      >>> score = np.array([0.70, 0.74, 0.75, 0.72])
      >>> error = np.array([0, 0.01, 0.02, 0.02])
      >>> curve = RemovalCurve(np.array([0, 5, 10, 15]), score, score - 0.70, error, score, error, "accuracy")
      >>> removal_index(curve, "argmax"), removal_index(curve, "one_se"), removal_index(curve)
      (10, 5, 5)
    """
    rule = rule or ("cross_fitted" if curve.cross_fitted else "one_se")
    one_of("rule", rule, RULES)
    if rule == "cross_fitted":
        smooth = _smoothed(curve.difference)
        best = int(np.argmax(smooth))
        return int(curve.removed[best]) if smooth[best] > _smoothed(curve.stderr)[best] else 0
    best = int(np.argmax(curve.score))
    if rule == "argmax":
        return int(curve.removed[best])
    return int(curve.removed[np.argmax(curve.score >= curve.score[best] - curve.stderr[best])])


def _smoothed(of_cuts: np.ndarray) -> np.ndarray:
    """Each but the first averaged with its neighbours, the first (which removes nothing) not among them."""
    found = np.zeros(len(of_cuts))
    for place in range(1, len(found)):
        found[place] = of_cuts[max(1, place - 1) : place + 2].mean()
    return found
