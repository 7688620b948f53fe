"""The removal curve: how the source classifier does as ever more of the lowest valued points are removed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tsds_jax.arrays import number_in
from tsds_jax.errors import InputError
from tsds_jax.games import KernelGame, LogisticGame, RidgeGame
from tsds_jax.games.refits import check_counts_hits, refitted
from tsds_jax.games.utilities import row_scores
from tsds_jax.runtime.folder import Arrays, Keep, keep_nothing
from tsds_jax.selection.limits import RemovalOrder

SourceGame = LogisticGame | RidgeGame | KernelGame


@dataclass(frozen=True)
class RemovalCurve:
    """How the source classifier does on the validation rows as the lowest valued points are removed.

    Attributes:
      removed: int64 ``[cuts]``, points removed, from 0 upwards.
      score: float64 ``[cuts]``, the utility of the rest.
      difference: float64 ``[cuts]``, score minus the score with nothing removed.
      stderr: float64 ``[cuts]``, standard error of that difference over validation rows, each row paired with itself.
      accuracy: float64 ``[cuts]``, share of validation rows that the rest gets right, whatever the utility.
      accuracy_stderr: float64 ``[cuts]``, standard error of its difference from nothing removed, paired likewise.
      utility: which utility.
      cross_fitted: whether each validation row was scored by values that it had no part in.
    """

    removed: np.ndarray
    score: np.ndarray
    difference: np.ndarray
    stderr: np.ndarray
    accuracy: np.ndarray
    accuracy_stderr: np.ndarray
    utility: str
    cross_fitted: bool = False


def removal_curve(
    game: SourceGame, ranking: np.ndarray, *, grid: float = 0.02, largest_cut: float = 0.5
) -> RemovalCurve:
    """Refits the source classifier with ever more of the lowest valued points removed.

    The curve ends before a cut that would take the last point of a class: what is left could not be compared.

    Args:
      game: training points as players, and the validation rows, as `tsds_jax.games.logistic_game` or ``ridge_game``
        makes it.
      ranking: ``[points]``, from the lowest value to the highest, as `Valuation.ranking`.
      grid: share of the points between two cuts.
      largest_cut: largest share removed.

    Raises:
      InputError: an option out of range, a ranking that is none, or a game of regressions.
    """
    check_cuts(grid, largest_cut)
    check_counts_hits(game)
    points = game.players
    if not np.array_equal(np.sort(ranking), np.arange(points)):
        raise InputError(f"ranking is no order of the {points} training points: give each point's number once")
    labels = np.asarray(game.y)[ranking[::-1]]  # in the order from the highest value to the lowest
    complete = np.max([np.argmax(labels == label) for label in np.unique(labels)]) + 1  # the fewest with every class
    wanted = wanted_cuts(points, grid, largest_cut)
    order = RemovalOrder(np.asarray(ranking), np.arange(points - complete + 1))
    return ordered_curve(game, order, wanted[wanted <= points - complete])


def ordered_curve(game: SourceGame, order: RemovalOrder, wanted: np.ndarray, keep: Keep = keep_nothing) -> RemovalCurve:
    """`removal_curve` in an order that respects limits.

    Args:
      game: the game.
      order: of removal.
      wanted: int64 ``[cuts]``, points to remove; from 0 upwards.
      keep: stores the refits' scores as "curve".
    """
    removed = np.unique(order.cuts(wanted))
    found = keep("curve", partial(_by_row, game, order, removed))
    return _curve(game, removed, found["scores"], found["hits"], cross_fitted=False)


def crossed_curve(
    game: SourceGame,
    order: RemovalOrder,
    folds: np.ndarray,
    crossed: Sequence[RemovalOrder],
    wanted: np.ndarray,
    keep: Keep = keep_nothing,
) -> RemovalCurve:
    """The removal curve with every validation row scored by values that it had no part in.

    A validation row of fold ``f`` is scored after removals in the order ``crossed[f]``, which the rows of the other
    folds decided. So a cut is not rewarded for what is peculiar to the rows that chose it.

    Args:
      game: the game.
      order: of removal by all rows, for which cuts are counted.
      folds: int ``[rows]``, the fold of each validation row.
      crossed: for each fold, the order by the rows outside it.
      wanted: see `ordered_curve`.
      keep: stores each order's scores as "curve-0" and so on.
    """
    scores = hits = np.empty((0, 0))
    for fold, of in enumerate(crossed):
        own = keep(f"curve-{fold}", partial(_by_row, game, of, of.cuts(wanted)))
        scores = own["scores"] if fold == 0 else np.where(folds == fold, own["scores"], scores)
        hits = own["hits"] if fold == 0 else np.where(folds == fold, own["hits"], hits)
    removed, first = np.unique(order.cuts(wanted), return_index=True)
    return _curve(game, removed, scores[first], hits[first], cross_fitted=True)


def wanted_cuts(points: int, grid: float, largest_cut: float) -> np.ndarray:
    """How many points to remove at each cut of a grid of shares, int64, from 0 upwards."""
    shares = np.arange(int(np.floor(largest_cut / grid + 1e-9)) + 1) * grid
    return np.unique(np.floor(shares * points + 1e-9).astype(np.int64))


def check_cuts(grid: float, largest_cut: float) -> None:
    """Raises InputError for a grid or a largest cut that is out of range."""
    number_in("grid", grid, 1e-4, 0.99, whole=False)
    number_in("largest_cut", largest_cut, grid, 0.99, whole=False)


def _by_row(game: SourceGame, order: RemovalOrder, removed: np.ndarray) -> Arrays:
    """The utility's "scores" and the "hits" of each validation row after each cut, float64 ``[cuts, rows]``."""
    # What is kept after a cut is a prefix of the reversed order.
    return refitted(
        game,
        order.points[::-1],
        game.players - removed,
        lambda outcome: {"scores": row_scores(game.utility, outcome), "hits": outcome.hit},
    )


def _curve(
    game: SourceGame, removed: np.ndarray, scores: np.ndarray, hits: np.ndarray, *, cross_fitted: bool
) -> RemovalCurve:
    weight = np.asarray(game.row_weight, np.float64)
    paired = scores - scores[0]
    error = _paired_error(paired, game)
    about = (hits.mean(1), (hits - hits[0]).std(1) / np.sqrt(hits.shape[1]), game.utility, cross_fitted)
    return RemovalCurve(removed, scores @ weight, paired @ weight, error, *about)


def _paired_error(paired: np.ndarray, game: SourceGame) -> np.ndarray:
    """Standard error of ``paired @ row_weight``, ``[cuts]``, from the spread of rows about their weighted mean.

    Balanced accuracy is a mean of class means, each with its own spread; other utilities have one group of rows. A
    class of one row shows no spread, though its mean is the least certain of all: it is given the variance of the rows
    of the other classes about their means, pooled; where all classes are of one row, that of these rows.
    """
    weight = np.asarray(game.row_weight, np.float64)
    groups = np.asarray(game.y_val) if game.utility == "balanced_accuracy" else np.zeros(len(weight), int)
    variance, pooled, freedom = np.zeros(len(paired)), np.zeros(len(paired)), 0
    alone = np.zeros(len(weight), bool)
    for group in np.unique(groups):
        of = (groups == group) & (weight > 0)
        if of.sum() == 1:
            alone |= of
        elif of.any():
            mean = np.average(paired[:, of], axis=1, weights=weight[of])
            square = (paired[:, of] - mean[:, None]) ** 2
            variance += square @ weight[of] ** 2
            pooled += square.sum(1)
            freedom += int(of.sum()) - 1
    if not freedom and alone.sum() > 1:
        pooled, freedom = paired[:, alone].var(1, ddof=1), 1
    variance += np.sum(weight[alone] ** 2) * pooled / max(freedom, 1)
    return np.sqrt(variance)
