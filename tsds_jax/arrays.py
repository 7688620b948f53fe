"""Checks of the arrays and options that a user gives, before any long work."""

import math
from collections.abc import Sequence

import numpy as np

from tsds_jax.errors import InputError

# The largest feature: sums of its squares, and of distances, are finite in float32.
LARGEST = 1e15


def feature_matrix(x: object, name: str) -> np.ndarray:
    """``x`` as ``[points, features]`` that float32 can hold; of float64 and whole numbers all digits are kept.

    A column far from zero has its digits behind those that float32 keeps, until its offset is taken off.

    Raises:
      InputError: not a matrix of numbers, empty, or with a NaN or infinity, whose place is named.
    """
    try:
        array = np.asarray(x)
        if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            raise ValueError
        short = array.dtype.itemsize <= (2 if array.dtype.kind in "iu" else 4)  # float32 holds all of them
        array = array.astype(np.float32 if short else np.float64, copy=False)
    except (TypeError, ValueError):
        raise InputError(f"{name} holds no numbers: give an array [points, features] of floats") from None
    if array.ndim != 2:
        raise InputError(f"{name} has shape {list(array.shape)}: give [points, features]")
    if 0 in array.shape:
        raise InputError(f"{name} is empty, of shape {list(array.shape)}: give at least one row and one feature")
    largest = np.finfo(np.float32).max
    good = (array <= largest) & (array >= -largest)
    if not good.all():
        row, column = first_place(~good)
        with np.errstate(over="ignore"):
            found = np.float32(array[row, column])
        raise InputError(f"{name} is {found} at row {row}, feature {column}: remove or impute it (float32 is used)")
    return array


def first_place(bad: np.ndarray) -> tuple[np.intp, ...]:
    """The indices of the first entry that is true, without a list of all."""
    return np.unravel_index(np.argmax(bad), bad.shape)


def feature_matrices(x_train: object, x_val: object, *, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Both as `feature_matrix`, of one width.

    Raises:
      InputError: as there; another width, or a number that is further from zero than ``largest``.
    """
    x, x_rows = feature_matrix(x_train, "x_train"), feature_matrix(x_val, "x_val")
    for array, name in ((x, "x_train"), (x_rows, "x_val")):
        if max(array.max(), -array.min()) > largest:
            row, column = first_place(np.abs(array) > largest)
            raise InputError(
                f"{name} is {array[row, column]} at row {row}, feature {column}: scale features to at most {largest:g}"
            )
    if x.shape[1] != x_rows.shape[1]:
        raise InputError(f"x_val has {x_rows.shape[1]} features and x_train {x.shape[1]}: give both the same")
    return x, x_rows


def label_array(y: object, name: str, rows: int) -> np.ndarray:
    """``y`` as one label a row: an array of integers or of strings.

    Raises:
      InputError: another length or shape, a missing label, or labels that are neither integers nor strings.
    """
    if not isinstance(y, np.ndarray) and isinstance(y, Sequence) and len({isinstance(label, str) for label in y}) > 1:
        y = np.array(y, dtype=object)  # else NumPy turns the numbers among them into strings
    try:
        array = np.asarray(y)
    except ValueError:  # lists of unlike lengths
        raise InputError(f"{name} has lists of labels: give one label a row") from None
    if array.ndim != 1 or len(array) != rows:
        raise InputError(f"{name} has shape {list(array.shape)} for {rows} rows of features: give one label a row")
    if array.dtype.kind == "O":
        for row, label in enumerate(array):
            # A NaN is not even itself, pandas' NA does not say whether it is, and an array says it of each entry.
            if label is None or type(label).__name__ == "NAType" or (not hasattr(label, "__len__") and label != label):
                raise InputError(f"{name} has no label at row {row}: remove the row or label it")
            if not isinstance(label, str | int | np.integer):
                raise InputError(f"{name} is {str(label)[:60]!r} at row {row}: labels are integers or strings")
        kinds = {isinstance(label, str) for label in array}
        if len(kinds) > 1:
            row = next(i for i, label in enumerate(array) if isinstance(label, str) != isinstance(array[0], str))
            raise InputError(f"{name} mixes strings and integers, first at row {row}: use one type of label")
        array = array.astype(str) if kinds == {True} else _whole_labels(array, name)
    if array.dtype.kind == "U":
        blank = np.char.strip(array) == ""
        if blank.any():
            raise InputError(f"{name} is blank at row {int(np.argmax(blank))}: remove the row or label it")
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array) | (array != np.round(array))
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(f"{name} is {array[row]} at row {row}: labels are integers or strings")
    if array.dtype.kind in "fb" or array.dtype == np.uint64:
        array = _whole_labels(array, name)
    if array.dtype.kind not in "iuU":
        raise InputError(f"{name} has type {array.dtype}: labels are integers or strings")
    return array


def _whole_labels(labels: np.ndarray, name: str) -> np.ndarray:
    """Whole numbers as int64; raises InputError where their type may have rounded one, or an int64 does not hold it."""
    largest = 2.0 ** (np.finfo(labels.dtype).nmant + 1) - 1 if labels.dtype.kind == "f" else 2**63 - 1
    bad = (labels > largest) | (labels < -largest)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{name} is {labels[row]} at row {row}, too large for a number: give labels as strings")
    return labels.astype(np.int64)


def class_numbers(y: object, name: str, rows: int, classes: int) -> np.ndarray:
    """``y`` as one class from 0 to ``classes - 1`` a row, int32; raises InputError where it is something else."""
    given = np.asarray(y)
    try:
        with np.errstate(invalid="ignore"):  # infinite
            array = given.astype(np.int32)
        whole = given.shape == (rows,) and bool(np.all(array == given))
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise InputError(f"{name} must be one whole number for each of {rows} rows")
    bad = (array < 0) | (array >= classes)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{name} is {array[row]} at row {row}: classes are numbered from 0 to {classes - 1}")
    return array


def real_array(y: object, name: str, rows: int) -> np.ndarray:
    """``y`` as one finite number a row, float64.

    Raises:
      InputError: another length or shape, no numbers, or a NaN or infinity, whose row is named.
    """
    try:
        array = np.asarray(y, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} holds no numbers: a regression utility needs one a row") from None
    if array.shape != (rows,):
        raise InputError(f"{name} has shape {list(array.shape)} for {rows} rows of features: give one number a row")
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{name} is {array[row]} at row {row}: remove the row or give it a number")
    return array


def whole_numbers(given: object, name: str, count: int, what: str, *, below: bool = False) -> np.ndarray:
    """``given`` as one whole number for each of ``count``; raises InputError where it is something else.

    With ``below``, as one from 0 to ``count - 1``.
    """
    try:
        array = np.asarray(given)
    except ValueError:  # lists of unlike lengths
        array = np.zeros(())
    whole = array.shape == (count,) and array.dtype.kind in "iu"
    if not whole or (below and (array.min() < 0 or array.max() >= count)):
        start, end = (" from 0", f", less than {count}") if below else ("", "")
        raise InputError(f"{name} must be one whole number{start} for each of {what}{end}")
    return array


def encode_labels(train: np.ndarray, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes of the training labels, sorted, and both label arrays as int32 indices into them.

    Raises:
      InputError: one class only, or a validation label that training lacks.
    """
    classes, coded = np.unique(train, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"y_train has one class only, {classes[0].item()!r}: valuation needs two or more")
    if validation.dtype.kind == "U" and classes.dtype.kind != "U":
        raise InputError("y_val holds strings and y_train integers: use one type of label")
    if validation.dtype.kind != "U" and classes.dtype.kind == "U":
        raise InputError("y_val holds integers and y_train strings: use one type of label")
    place = np.minimum(np.searchsorted(classes, validation), len(classes) - 1)
    unseen = classes[place] != validation
    if unseen.any():
        row = int(np.argmax(unseen))
        raise InputError(
            f"y_val is {validation[row].item()!r} at row {row}, which y_train lacks: remove the row, or add that class"
        )
    return classes, coded.astype(np.int32), place.astype(np.int32)


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raises InputError unless ``value`` is among ``allowed``."""
    if value not in allowed:
        raise InputError(f"{name} {value!r:.60} is unknown: use one of {', '.join(allowed)}")


def is_number(value: object) -> bool:
    """Whether ``value``, as a JSON file or an option may hold it, is a finite number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number_in(name: str, value: object, low: float, high: float, *, whole: bool = True) -> None:
    """Raises InputError unless ``value`` is a number (a whole one by default) from ``low`` to ``high``."""
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        limit = f"from {low} to {high}" if np.isfinite(high) else f"of at least {low}"
        raise InputError(f"{name} is {value!r:.60}: give {kind} {limit}")


def without_ties(values: np.ndarray, seed: int) -> np.ndarray:
    """Each point's rank as its value, 0 for the lowest, equal ones in random order; one without a value (NaN) is last.

    Rows often come sorted by class: where many have the same value, as by out-of-bag shares, the order in which they
    came would remove one class first, and that is not what the values say.

    >>> without_ties(np.array([0.5, np.nan, -1.0]), 0).tolist()
    [1.0, 2.0, 0.0]
    """
    mixed = np.random.default_rng([seed, 2]).permutation(len(values))
    ranks = np.empty(len(values))
    ranks[mixed[np.argsort(values[mixed], kind="stable")]] = np.arange(len(values))
    return ranks
