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
from tsds_jax.runtime.files import Arrays
from tsds_jax.runtime.folder import Keep, keep_nothing
from tsds_jax.selection.limits import RemovalOrder

# A class of fewer validation rows may show no spread by chance.
_FEW = 5

SourceGame = LogisticGame | RidgeGame | KernelGame


@dataclass(frozen=True)
class RemovalCurve:
    """How the source classifier does on the validation rows as the lowest valued points are removed.

    Attributes:
      removed: int64 ``[cuts]``, points removed, from 0 upwards.
      score: float64 ``[cuts]``, the utility of the rest.
      difference: float64 ``[cuts]``, score minus the score with nothing removed.
      stderr: float64 ``[cuts]``, standard error of that difference over validation rows, each row paired with itself;
        rows of one unit are one draw together.
      accuracy: float64 ``[cuts]``, share of validation rows that the rest gets right, whatever the utility.
      accuracy_stderr: float64 ``[cuts]``, standard error of its difference from nothing removed, paired likewise.
      utility: which utility.
      cross_fitted: whether each validation row was scored by values that it had no part in.
      independent_rows: how many rows by themselves say as much of the accuracy with nothing removed as these rows do,
        some of which belong together; None where all are by themselves.
      converged: whether all refits did: none stopped before its tolerance, or was damped.
    """

    removed: np.ndarray
    score: np.ndarray
    difference: np.ndarray
    stderr: np.ndarray
    accuracy: np.ndarray
    accuracy_stderr: np.ndarray
    utility: str
    cross_fitted: bool = False
    independent_rows: int | None = None
    converged: bool = True


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


def ordered_curve(
    game: SourceGame,
    order: RemovalOrder,
    wanted: np.ndarray,
    keep: Keep = keep_nothing,
    *,
    units: np.ndarray | None = None,
) -> RemovalCurve:
    """`removal_curve` in an order that respects limits.

    Args:
      game: the game.
      order: of removal.
      wanted: int64 ``[cuts]``, points to remove; from 0 upwards.
      keep: stores the refits' scores as "curve".
      units: int ``[rows]``, validation rows of one unit (copies, a document's) say what they say together; None where
        every row is by itself.
    """
    removed = np.unique(order.cuts(wanted))
    found = keep("curve", partial(_by_row, game, order, removed))
    return _curve(game, removed, found["scores"], found["hits"], units, bool(found["converged"]), cross_fitted=False)


def crossed_curve(
    game: SourceGame,
    order: RemovalOrder,
    folds: np.ndarray,
    crossed: Sequence[RemovalOrder],
    wanted: np.ndarray,
    keep: Keep = keep_nothing,
    *,
    units: np.ndarray | None = None,
) -> RemovalCurve:
    """The removal curve with every validation row scored by values that it had no part in.

    A validation row of fold ``f`` is scored after removals in the order ``crossed[f]``, which the rows of the other
    folds decided: about so many, see `RemovalOrder.near`. So a cut is not rewarded for what is peculiar to the rows
    that chose it.

    Args:
      game: the game.
      order: of removal by all rows, for which cuts are counted.
      folds: int ``[rows]``, the fold of each validation row.
      crossed: for each fold, the order by the rows outside it.
      wanted: see `ordered_curve`.
      keep: stores each order's scores as "curve-by-0" and so on.
      units: see `ordered_curve`.
    """
    scores = hits = np.empty((0, 0))
    removed, converged = np.unique(order.cuts(wanted)), True
    for fold, of in enumerate(crossed):
        own = keep(f"curve-by-{fold}", partial(_near_by_row, game, of, removed))
        scores = own["scores"] if fold == 0 else np.where(folds == fold, own["scores"], scores)
        hits = own["hits"] if fold == 0 else np.where(folds == fold, own["hits"], hits)
        converged = converged and bool(own["converged"])
    return _curve(game, removed, scores, hits, units, converged, cross_fitted=True)


def wanted_cuts(points: int, grid: float, largest_cut: float) -> np.ndarray:
    """How many points to remove at each cut of a grid of shares, int64, from 0 upwards."""
    shares = np.arange(int(np.floor(largest_cut / grid + 1e-9)) + 1) * grid
    return np.unique(np.floor(shares * points + 1e-9).astype(np.int64))


def check_cuts(grid: float, largest_cut: float) -> None:
    """Raises InputError for a grid or a largest cut that is out of range."""
    number_in("grid", grid, 1e-4, 0.99, whole=False)
    number_in("largest_cut", largest_cut, grid, 0.99, whole=False)


def _by_row(game: SourceGame, order: RemovalOrder, removed: np.ndarray) -> Arrays:
    """The utility's "scores" and the "hits" of each validation row after each cut, float64 ``[cuts, rows]``.

    And whether all refits "converged".
    """
    # What is kept after a cut is a prefix of the reversed order.
    found, converged = refitted(
        game,
        order.points[::-1],
        game.players - removed,
        lambda outcome: {"scores": row_scores(game.utility, outcome), "hits": outcome.hit},
    )
    return {**found, "converged": np.asarray(converged)}


def _near_by_row(game: SourceGame, order: RemovalOrder, wanted: np.ndarray) -> Arrays:
    """`_by_row` without about as many as wanted, where a unit that is too large for that stands in the way."""
    cuts = order.cuts(wanted)
    found = _by_row(game, order, cuts)
    for place, (cut, number) in enumerate(zip(cuts.tolist(), wanted.tolist(), strict=True)):
        near = order.near(number)
        if len(near) != cut:
            kept = np.setdiff1d(order.points, near)
            first = RemovalOrder(np.concatenate([near, kept]), np.array([0, len(near)]))
            other = _by_row(game, first, np.array([len(near)]))
            for name in ("scores", "hits"):
                found[name][place] = other[name][0]
            found["converged"] = found["converged"] & other["converged"]
    return found


def _curve(
    game: SourceGame,
    removed: np.ndarray,
    scores: np.ndarray,
    hits: np.ndarray,
    units: np.ndarray | None,
    converged: bool,
    *,
    cross_fitted: bool,
) -> RemovalCurve:
    weight = np.asarray(game.row_weight, np.float64)
    paired, change = scores - scores[0], hits - hits[0]
    alike = np.full(len(weight), 1 / len(weight))
    one_group = np.zeros(len(weight), int)
    of_accuracy = _standard_error(change, alike, one_group, units)
    independent = None
    if units is not None:
        alone, together = (_standard_error(hits[:1], alike, one_group, some)[0] for some in (None, units))
        independent = len(weight) if together <= alone else max(1, round(len(weight) * (alone / together) ** 2))
    # Class by class it is the accuracy.
    utility = "accuracy" if game.utility == "class_wise" else game.utility
    about = (hits.mean(1), of_accuracy, utility, cross_fitted, independent, converged)
    return RemovalCurve(removed, scores @ weight, paired @ weight, _paired_error(paired, game, units), *about)


def _paired_error(paired: np.ndarray, game: SourceGame, units: np.ndarray | None = None) -> np.ndarray:
    """Standard error of ``paired @ row_weight``, ``[cuts]``.

    Balanced accuracy is a mean of class means, each with its own spread; other utilities have one group of rows.
    """
    weight = np.asarray(game.row_weight, np.float64)
    groups = np.asarray(game.y_val, np.int64) if game.utility == "balanced_accuracy" else np.zeros(len(weight), int)
    return _standard_error(paired, weight, groups, units)


def _standard_error(paired: np.ndarray, weight: np.ndarray, groups: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Standard error of ``paired @ weight``, ``[cuts]``, from the spread of units about their group's weighted mean.

    A unit's rows in a group are as one, of their mean and of their weights together; what a unit's rows in several
    groups have in common is in the error too. A group of one unit shows no spread, and one of few little by chance,
    though their means are the least certain of all: they are given the variance of the units of all groups about their
    means at least, pooled; where all groups are of one unit, that of these units. Of one unit alone nothing is known,
    and its rows are taken each by itself.

    Args:
      paired: ``[cuts, rows]``.
      weight: ``[rows]``.
      groups: int ``[rows]``.
      units: int ``[rows]``; None where every row is by itself.
    """
    counts = weight > 0
    paired, weight, groups = paired[:, counts], weight[counts], groups[counts]
    units = np.arange(len(weight)) if units is None or len(np.unique(units[counts])) == 1 else units[counts]
    _, unit = np.unique(units, return_inverse=True)
    cells, cell = np.unique(groups * len(unit) + unit, return_inverse=True)
    group, unit = np.unique(cells // len(unit), return_inverse=True)[1], cells % len(unit)
    share = np.bincount(cell, weight)
    mean = _sums(paired * weight, cell) / share
    away = mean - (_sums(mean * share, group) / np.bincount(group, share))[:, group]
    freedom = len(cells) - group.max() - 1
    about = away if freedom else mean - mean.mean(1, keepdims=True)
    pooled = (about**2).sum(1) / (freedom or max(len(cells) - 1, 1))
    size = np.bincount(group)
    spread = away * share * np.sqrt(size / np.maximum(size - 1, 1))[group]
    lacking = np.maximum(pooled[:, None] * np.bincount(group, share**2) - _sums(spread**2, group), 0)
    return np.sqrt((_sums(spread, unit) ** 2).sum(1) + lacking[:, size < _FEW].sum(1))


def _sums(rows: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Sums of columns of ``[cuts, columns]`` by their place, ``[cuts, places]``."""
    return np.stack([np.bincount(place, row) for row in rows])
