"""From arrays to the points to remove: values, and the cut that a rule or the options make of them."""

import os
from typing import Any

import numpy as np

from tsds_jax.arrays import feature_matrix, label_array, number_in, one_of
from tsds_jax.errors import InputError
from tsds_jax.games import UTILITIES
from tsds_jax.options import CHOSEN, VALUED, SelectOptions, select_options
from tsds_jax.runtime.progress import ProgressFn, silent
from tsds_jax.selection.choice import FOLDS, Choice, choose, validation_folds
from tsds_jax.selection.curve import check_cuts
from tsds_jax.selection.limits import Limits
from tsds_jax.selection.rules import RULES
from tsds_jax.valuation import Valuation, check_value_options, source_game, value


def select_points(
    x_train: object,
    y_train: object,
    x_val: object,
    y_val: object,
    *,
    units: object = None,
    row_units: object = None,
    options: SelectOptions | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: float = 60.0,
    progress: ProgressFn = silent,
    **changes: Any,
) -> tuple[Valuation, Choice]:
    """Values points, and says which of the lowest to remove: `select` of arrays, without the check on a model.

    Args:
      x_train: ``[points, features]``, as in `value`; so are the other arrays.
      y_train: ``[points]`` labels.
      x_val: ``[rows, features]``, which value the points and choose the cut: by the default rule each half of the rows
        judges removals that the other half decides.
      y_val: ``[rows]`` labels.
      units: ``[points]``, the same for points that are removed together, such as copies; None where each is by itself.
      row_units: ``[rows]``, the same for validation rows that say what they say together.
      options: how to value and to cut; None takes the defaults.
      checkpoint: see `value`.
      checkpoint_every: see `value`.
      progress: see `value`.
      **changes: over ``options``, of `SelectOptions` those that say how to value (``utility``, ``estimator``,
        ``samples``, ``seed``, ...) and how to cut: ``rule``, ``grid``, ``largest_cut``, ``remove_count``,
        ``remove_share``, ``remove_below``, ``class_floor`` and ``by_class``.

    Returns:
      The values, and the choice: how many of which points, and the removal curve behind it.

    Raises:
      InputError: an array or option that cannot be used.

    Example:
      >>> x = np.linspace(-2, 2, 40)[:, None]
      >>> y = (x[:, 0] > 0).astype(int)
      >>> wrong = y.copy()
      >>> wrong[[1, 38]] = 1 - wrong[[1, 38]]
      >>> _, choice = select_points(x, wrong, x, y, remove_count=2)
      >>> sorted(choice.removed_points.tolist())
      [1, 38]
    """
    settings = select_options(options, changes, (*VALUED, *CHOSEN), "select_points")
    check_choice(settings)
    labels = label_array(y_train, "y_train", len(feature_matrix(x_train, "x_train")))
    of_class, unit = (
        np.unique(some, return_inverse=True)[1]
        for some in (labels, np.arange(len(labels)) if units is None else label_array(units, "units", len(labels)))
    )
    limits = Limits(of_class, unit, np.zeros(len(labels), bool), settings.class_floor, settings.by_class)
    if limits.removal_order(np.zeros(len(labels))).ends[-1] == 0:
        raise InputError("no point may be removed: loosen class_floor or units")
    rows = label_array(y_val, "y_val", len(feature_matrix(x_val, "x_val")))
    together = None if row_units is None else label_array(row_units, "row_units", len(rows))
    kept = {"checkpoint": checkpoint, "checkpoint_every": checkpoint_every}
    return value_and_choose(x_train, labels, x_val, rows, limits, settings, units=together, progress=progress, **kept)


def value_and_choose(
    x: object,
    labels: np.ndarray,
    x_val: object,
    labels_val: np.ndarray,
    limits: Limits,
    settings: SelectOptions,
    *,
    units: np.ndarray | None,
    **how: Any,
) -> tuple[Valuation, Choice]:
    """`value`, and `choose` by the same rows, as checked options say.

    Args:
      x: ``[points, features]``.
      labels: ``[points]``.
      x_val: ``[rows, features]``.
      labels_val: ``[rows]``.
      limits: what a removal respects.
      settings: how to value and to cut.
      units: ``[rows]``, see `validation_folds`.
      **how: what else `value` is told.
    """
    folds = validation_folds(settings, labels_val, units)
    check_folds(folds, len(labels_val))
    valued = value_options(settings)
    found = value(x, labels, x_val, labels_val, **valued, row_groups=folds, **how)
    told = {name: valued[name] for name in ("source", "utility", "C")}
    game = source_game(x, labels, x_val, labels_val, **told)
    return found, choose(game, found, limits, folds, settings, units=units)


def value_options(settings: SelectOptions) -> dict[str, Any]:
    """Those of `value`."""
    return {name: getattr(settings, name) for name in VALUED}


def check_folds(folds: np.ndarray | None, rows: int) -> None:
    """Raises InputError where so many validation rows, or their `validation_folds`, are too few to judge."""
    if rows < 2 or (folds is not None and len(np.unique(folds)) < FOLDS):
        raise InputError(
            f"{rows} validation rows cannot judge: give more that are no copies of each other"
            + ("" if folds is None else " (or use rule 'one_se')")
        )


def check_choice(settings: SelectOptions) -> None:
    """Raises InputError for options of values and of the cut that are unknown, out of range or at odds."""
    check_value_options(**value_options(settings))
    one_of("rule", settings.rule, RULES)
    one_of("utility", settings.utility, UTILITIES)  # others have no rows that are right
    check_cuts(settings.grid, settings.largest_cut)
    if settings.rule == "cross_fitted":
        for name, what in (("utility", "class_wise"), ("estimator", "banzhaf")):
            if getattr(settings, name) == what:
                raise InputError(
                    f"rule 'cross_fitted' splits values by validation row, {name} {what!r} cannot: use rule 'one_se'"
                )
    amounts = [name for name in ("remove_count", "remove_share", "remove_below") if getattr(settings, name) is not None]
    if len(amounts) > 1:
        raise InputError(f"{' and '.join(amounts)} both say how many rows to remove: give one of them")
    if settings.remove_count is not None:
        number_in("remove_count", settings.remove_count, 0, np.inf)
    if settings.remove_share is not None:
        number_in("remove_share", settings.remove_share, 0, 0.99, whole=False)
    if settings.remove_below is not None:
        number_in("remove_below", settings.remove_below, -1e30, 1e30, whole=False)
        if settings.by_class:
            raise InputError("remove_below and by_class order the rows in two ways: give one of them")
    number_in("class_floor", settings.class_floor, 0, 1, whole=False)
