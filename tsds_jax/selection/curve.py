"""The transfer: which points to remove, read off the source classifier's removal curve."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import number_in, one_of
from tsds_jax.errors import InputError
from tsds_jax.games import KernelGame, LogisticGame, RidgeGame
from tsds_jax.games.utilities import row_scores

RULES = ("argmax", "one_se")


@dataclass(frozen=True)
class RemovalCurve:
    """How the source classifier does on the validation rows as the lowest valued points are removed.

    Attributes:
      removed: int64 ``[cuts]``, points removed, from 0 upwards.
      score: float64 ``[cuts]``, the utility of the rest.
      difference: float64 ``[cuts]``, score minus the score with nothing removed.
      stderr: float64 ``[cuts]``, standard error of that difference over validation rows, each row paired with itself.
      accuracy: float64 ``[cuts]``, share of validation rows that the rest gets right, whatever the utility.
      utility: which utility.
    """

    removed: np.ndarray
    score: np.ndarray
    difference: np.ndarray
    stderr: np.ndarray
    accuracy: np.ndarray
    utility: str


def removal_curve(
    game: LogisticGame | RidgeGame | KernelGame, ranking: np.ndarray, *, grid: float = 0.02, largest_cut: float = 0.5
) -> RemovalCurve:
    """Refits the source classifier with ever more of the lowest valued points removed.

    The curve ends before a cut that would take the last point of a class: what is left could not be compared.

    Args:
      game: training points as players, and the validation rows; see `tsds_jax.source_game`.
      ranking: ``[points]``, from the lowest value to the highest, as `Valuation.ranking`.
      grid: share of the points between two cuts.
      largest_cut: largest share removed.

    Raises:
      InputError: an option out of range, or a ranking that is none.
    """
    check_cuts(grid, largest_cut)
    points = game.players
    if not np.array_equal(np.sort(ranking), np.arange(points)):
        raise InputError(f"ranking is no order of the {points} training points: give each point's number once")
    shares = np.arange(int(np.floor(largest_cut / grid + 1e-9)) + 1) * grid
    removed = np.unique(np.floor(shares * points + 1e-9).astype(np.int64))
    labels = np.asarray(game.y)[ranking[::-1]]  # in the order from the highest value to the lowest
    complete = np.max([np.argmax(labels == label) for label in np.unique(labels)]) + 1  # the fewest with every class
    removed = removed[points - removed >= complete]
    # What is kept after a cut is a prefix of that order.
    order = jnp.asarray(ranking[::-1].copy(), jnp.int32)
    outcome, _ = jax.jit(type(game).prefix_outcomes)(game, order, jnp.asarray(points - removed, jnp.int32))
    scores = np.asarray(row_scores(game.utility, outcome), np.float64)
    weight = np.asarray(game.row_weight, np.float64)
    accuracy = np.asarray(outcome.hit, np.float64).mean(1)
    paired = scores - scores[0]
    difference = paired @ weight
    return RemovalCurve(removed, scores @ weight, difference, _paired_error(paired, game), accuracy, game.utility)


def check_cuts(grid: float, largest_cut: float) -> None:
    """Raises InputError for a grid or a largest cut that is out of range."""
    number_in("grid", grid, 1e-4, 0.99, whole=False)
    number_in("largest_cut", largest_cut, grid, 0.99, whole=False)


def _paired_error(paired: np.ndarray, game: LogisticGame | RidgeGame | KernelGame) -> np.ndarray:
    """Standard error of ``paired @ row_weight``, ``[cuts]``, from the spread of rows about their weighted mean.

    Balanced accuracy is a mean of class means, each with its own spread; other utilities have one group of rows.
    """
    weight = np.asarray(game.row_weight, np.float64)
    groups = np.asarray(game.y_val) if game.utility == "balanced_accuracy" else np.zeros(len(weight), int)
    variance = np.zeros(len(paired))
    for group in np.unique(groups):
        of = groups == group
        if weight[of].any():
            mean = np.average(paired[:, of], axis=1, weights=weight[of])
            variance += (paired[:, of] - mean[:, None]) ** 2 @ weight[of] ** 2
    return np.sqrt(variance)


def removal_index(curve: RemovalCurve, rule: str = "one_se") -> int:
    """How many points to remove.

    ``"argmax"``, the paper's: where the curve is highest, the fewest in a tie. ``"one_se"``: the fewest whose score is
    within one standard error of the highest. The error is that of the highest score's difference from removing
    nothing, so where the best cut is not one standard error better than none, nothing is removed. The maximum of a
    noisy curve tends to lie too far out; this rule costs little where it does not.

    Example:
      >>> import numpy as np
      >>> score = np.array([0.70, 0.74, 0.75])
      >>> error = np.array([0, 0.01, 0.02])
      >>> curve = RemovalCurve(np.array([0, 5, 10]), score, score - 0.70, error, score, "accuracy")
      >>> removal_index(curve, "argmax"), removal_index(curve, "one_se")
      (10, 5)
    """
    one_of("rule", rule, RULES)
    best = int(np.argmax(curve.score))
    if rule == "argmax":
        return int(curve.removed[best])
    return int(curve.removed[np.argmax(curve.score >= curve.score[best] - curve.stderr[best])])
