"""The transfer: which points to remove, read off the source classifier's removal curve."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import number_in, one_of
from tsds_jax.errors import InputError
from tsds_jax.games.logistic import LogisticGame
from tsds_jax.games.utilities import row_scores

RULES = ("argmax", "one_se")
DEFAULT_RULE = "one_se"
DEFAULT_STEP = 0.02
DEFAULT_LARGEST = 0.5


@dataclass(frozen=True)
class RemovalCurve:
    """How the source classifier does on the validation rows as the lowest valued points are removed.

    Attributes:
      removed: int64 ``[cuts]``, points removed, from 0 upwards.
      score: float64 ``[cuts]``, the utility of the rest.
      difference: float64 ``[cuts]``, score minus the score with nothing removed.
      stderr: float64 ``[cuts]``, standard error of that difference over validation rows, each row paired with itself.
      utility: which utility.
    """

    removed: np.ndarray
    score: np.ndarray
    difference: np.ndarray
    stderr: np.ndarray
    utility: str


def removal_curve(
    game: LogisticGame, ranking: np.ndarray, *, step: float = DEFAULT_STEP, largest: float = DEFAULT_LARGEST
) -> RemovalCurve:
    """Refits the source classifier with ever more of the lowest valued points removed.

    Args:
      game: training points as players, and the validation rows.
      ranking: ``[points]``, from the lowest value to the highest, as `Valuation.ranking`.
      step: share of the points between two cuts.
      largest: largest share removed.

    Raises:
      InputError: an option out of range, a ranking that is none, or a cut that leaves one class only.
    """
    number_in("step", step, 1e-4, 1, whole=False)
    number_in("largest", largest, step, 0.99, whole=False)
    points = game.players
    if not np.array_equal(np.sort(ranking), np.arange(points)):
        raise InputError(f"ranking is no order of the {points} training points: give each point's number once")
    shares = np.arange(round(largest / step) + 1) * step
    removed = np.unique(np.round(shares * points).astype(np.int64))
    # What is kept after a cut is a prefix of the order from the highest value to the lowest.
    order = jnp.asarray(ranking[::-1].copy(), jnp.int32)
    outcome, _ = jax.jit(LogisticGame.prefix_outcomes)(game, order, jnp.asarray(points - removed, jnp.int32))
    scores = np.asarray(row_scores(game.utility, outcome), np.float64)
    weight = np.asarray(game.row_weight, np.float64)
    paired = scores - scores[0]
    difference = paired @ weight
    stderr = np.sqrt(((paired - difference[:, None]) ** 2) @ weight**2)
    return RemovalCurve(removed, scores @ weight, difference, stderr, game.utility)


def removal_index(curve: RemovalCurve, rule: str = DEFAULT_RULE) -> int:
    """How many points to remove.

    ``"argmax"``, the paper's: where the curve is highest, the fewest in a tie. ``"one_se"``: the fewest whose score is
    within one standard error of the highest. The error is that of the highest score's difference from removing
    nothing, so where the best cut is not one standard error better than none, nothing is removed. The maximum of a
    noisy curve tends to lie too far out; this rule costs little where it does not.

    Example:
      >>> import numpy as np
      >>> score = np.array([0.70, 0.74, 0.75])
      >>> curve = RemovalCurve(np.array([0, 5, 10]), score, score - 0.70, np.array([0, 0.01, 0.02]), "accuracy")
      >>> removal_index(curve, "argmax"), removal_index(curve, "one_se")
      (10, 5)
    """
    one_of("rule", rule, RULES)
    best = int(np.argmax(curve.score))
    if rule == "argmax":
        return int(curve.removed[best])
    return int(curve.removed[np.argmax(curve.score >= curve.score[best] - curve.stderr[best])])
