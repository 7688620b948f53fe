"""From values to the rows to remove: the order, the curve, and the cut."""

from typing import NamedTuple

import numpy as np

from tsds_jax.games.held_out import stratified_folds
from tsds_jax.options import SelectOptions
from tsds_jax.runtime.folder import Keep, keep_nothing
from tsds_jax.selection.curve import RemovalCurve, SourceGame, crossed_curve, ordered_curve, wanted_cuts
from tsds_jax.selection.limits import Limits, RemovalOrder
from tsds_jax.selection.rules import removal_index
from tsds_jax.valuation import Valuation

# Parts of the validation rows in cross-fitting: with more, the cuts were no better.
FOLDS = 2


class Choice(NamedTuple):
    """What is to be removed, and by what it was decided.

    Attributes:
      order: of removal.
      curve: the removal curve.
      rule: what chose: the rule, or ``"count"``, ``"share"`` or ``"below"``.
      removal_index: how many points are removed.
      missed: how many more were wanted, but the limits allow no more, or what is next goes together and is more.
      crossed: for each fold of the validation rows the order of removal by the rows outside it; none without folds.
    """

    order: RemovalOrder
    curve: RemovalCurve
    rule: str
    removal_index: int
    missed: int
    crossed: tuple[RemovalOrder, ...] = ()

    @property
    def removed_points(self) -> np.ndarray:
        """The points to remove, lowest value first, int64."""
        return self.order.points[: self.removal_index]

    @property
    def kept_points(self) -> np.ndarray:
        """The points to keep, in the order of the data, int64."""
        return np.sort(self.order.points[self.removal_index :])


def validation_folds(options: SelectOptions, labels: np.ndarray, units: np.ndarray | None = None) -> np.ndarray | None:
    """The part that each validation row is in, int64 ``[rows]``; None where the rule does without.

    Args:
      options: ``rule``, and ``seed``, which draws the parts.
      labels: int ``[rows]``; each part has its share of every class.
      units: int ``[rows]``, rows of one unit are in one part; None where every row is by itself.
    """
    return stratified_folds(labels, FOLDS, options.seed, units) if options.rule == "cross_fitted" else None


def choose(
    game: SourceGame,
    valuation: Valuation,
    limits: Limits,
    folds: np.ndarray | None,
    options: SelectOptions,
    keep: Keep = keep_nothing,
    *,
    units: np.ndarray | None = None,
) -> Choice:
    """The order of removal, the removal curve in it, and the cut that the options say or that the rule chooses.

    Args:
      game: of the source classifier.
      valuation: of the points; with folds, split by them.
      limits: what the removal respects.
      folds: of the validation rows, see `validation_folds`.
      options: the rule, the grid, or how many rows are to go; ``seed`` draws the order of rows of the same value.
      keep: stores the refits behind the curve.
      units: of the validation rows, see `validation_folds`; rows of one unit say what they say together.
    """
    order = limits.removal_order(valuation.values, options.seed)
    wanted = wanted_cuts(len(valuation.values), options.grid, options.largest_cut)
    asked = _asked_for(valuation.values, limits, order, options)
    if asked is not None:
        wanted = np.union1d(wanted, asked[1])  # so that its score is measured too, not read off between others
    crossed: tuple[RemovalOrder, ...] = ()
    if folds is None:
        curve = ordered_curve(game, order, wanted, keep, units=units)
    else:
        assert valuation.by_row is not None
        by_others = valuation.by_row.sum(1)[:, None] - valuation.by_row
        by_others[np.isnan(valuation.values)] = np.nan  # of which nothing is known: the last to go, here too
        crossed = tuple(limits.removal_order(by_others[:, fold], options.seed) for fold in range(FOLDS))
        curve = crossed_curve(game, order, folds, crossed, wanted, keep, units=units)
    return Choice(order, curve, *(asked or (options.rule, removal_index(curve, options.rule), 0)), crossed)


def _asked_for(
    values: np.ndarray, limits: Limits, order: RemovalOrder, options: SelectOptions
) -> tuple[str, int, int] | None:
    """What says how many points go in place of a rule, how many, and how many more the limits forbid; None: a rule."""
    if options.remove_below is not None:
        value = limits.unit_values(values)
        below = value[order.points[: order.ends[-1]]] < options.remove_below
        index = int(np.argmin(np.append(below, False)))  # the first that is not
        return "below", index, int(np.sum(value < options.remove_below)) - index
    if options.remove_count is not None:
        rule, target = "count", options.remove_count
    elif options.remove_share is not None:
        rule, target = "share", int(options.remove_share * len(values) + 1e-9)
    else:
        return None
    index = int(order.cuts(np.array([target]))[0])
    return rule, index, target - index
