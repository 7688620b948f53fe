"""From a column as it was stored to what a run needs: texts, and a class name, a number or a set of classes a row.

All readers look at every row and report the first that cannot be used instead of raising, so that the
caller can name the first bad row over several columns.
"""

import contextlib
import json
import math
import re
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset

from tsds_jax.data.messages import Problem, shorten

# Bytes that a column with 32-bit offsets can hold.
_LARGEST_OFFSET = 2**31 - 1
# Views, columns with such offsets, and what both are with 64-bit ones.
_WIDER = ((pa.string_view(), pa.string(), pa.large_string()), (pa.binary_view(), pa.binary(), pa.large_binary()))
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class Labels(NamedTuple):
    """One class name a row, stored as positions.

    Attributes:
      names: the distinct class names, in order of appearance.
      codes: int64 [rows], positions in `names`; -1 where the row has a problem.
      problem: the first row without a usable label, or None.
    """

    names: list[str]
    codes: np.ndarray
    problem: Problem | None


def arrow_table(rows: Dataset, columns: list[str] | None = None) -> pa.Table:
    """All columns of `rows`, or those named, in Arrow and in order, whatever output format was set on it."""
    table = rows.data.table if columns is None else rows.data.table.select(columns)
    if rows._indices is None:
        return table
    # Of a million selected rows, rows[:] gathers slice by slice: 10 s where take needs 0.1 s.
    return _takeable(table).take(rows._indices.column(0))


def _takeable(table: pa.Table) -> pa.Table:
    """The table, with 64-bit offsets where Arrow's `take` can do nothing with a column as it is.

    It has no kernel for views, and joins all chunks of a column first, which 32-bit offsets hold to 2 GiB only.
    """
    for place, field in enumerate(table.schema):
        values = table.column(place)
        for view, narrow, wide in _WIDER:
            if field.type == view or (field.type == narrow and values.nbytes >= _LARGEST_OFFSET):
                table = table.set_column(place, field.with_type(wide), values.cast(wide))
    return table


def column(rows: Dataset, name: str) -> pa.ChunkedArray:
    """One column of `rows` in Arrow."""
    return arrow_table(rows, [name]).column(0)


def read_texts(values: pa.ChunkedArray, name: str) -> tuple[list[str], Problem | None]:
    """The texts of a column, and the first row whose text is missing, blank or not a text."""
    texts = python_values(values)
    if _is_string(values.type) and not values.null_count:
        return texts, next((_blank(row, name) for row, text in enumerate(texts) if not text.strip()), None)
    for row, text in enumerate(texts):
        if text is None:
            return texts, Problem(row, f"column {name!r} is empty (null); {_give_or_remove('a text')}")
        if not isinstance(text, str):
            return texts, Problem(
                row, f"column {name!r} holds {_kind(text)} {shorten(text)}, not a text; store it as a string"
            )
        if not text.strip():
            return texts, _blank(row, name)
    return texts, None


def read_labels(values: pa.ChunkedArray, feature: Any, name: str) -> Labels:
    """The class name of every row: integers, whole floats and decimals, booleans and strings become `str`.

    A `ClassLabel` column gives its names. Null, NaN, a blank string or name and a `ClassLabel` of -1 are missing.
    """
    if _is_scalar(values.type):
        return _labels_by_distinct_value(values, feature, name)
    return _labels_row_by_row(python_values(values), name)


def read_numbers(values: pa.ChunkedArray, name: str) -> tuple[np.ndarray, Problem | None]:
    """The number of every row, float32 [rows], and the first row that holds no finite one.

    Integers, floats, decimals and strings that spell one are numbers; booleans, null, NaN and infinities are none.
    """
    numbers = np.zeros(len(values), np.float32)
    for row, value in enumerate(python_values(values)):
        number = math.nan
        if not isinstance(value, bool) and isinstance(value, str | int | float | Decimal):
            with contextlib.suppress(ValueError, OverflowError):
                number = float(np.float32(value))
        if not math.isfinite(number):
            return numbers, Problem(
                row, f"column {name!r} holds {shorten(value)}, not a finite number; {_give_or_remove('a number')}"
            )
        numbers[row] = number
    return numbers, None


def read_label_sets(values: pa.ChunkedArray, feature: Any, name: str) -> tuple[list[list[str]], Problem | None]:
    """The class names of every row, and the first row that cannot be used.

    A row is a list of what `read_labels` takes, or a string of class names joined by `|`; an empty one has no class.
    One that names a class twice is no set, but most likely a 0 or 1 for each class.
    """
    inner = getattr(feature, "feature", None)
    sets: list[list[str]] = []
    for row, value in enumerate(python_values(values)):
        parts = value
        if isinstance(value, str):
            parts = [part.strip() for part in value.split("|")] if value.strip() else []
        if not isinstance(parts, list):
            held = "null" if value is None else f"{_kind(value)} {shorten(value)}"
            return sets, Problem(row, f"column {name!r} holds {held}; give a list of classes, or names joined by '|'")
        read = [_class_name(part, inner, name) for part in parts]
        trouble = next((trouble for _, trouble in read if trouble), None)
        if trouble:
            return sets, Problem(row, trouble)
        names = [text for text, _ in read]
        twice = next((text for place, text in enumerate(names) if text in names[:place]), None)
        if twice is not None:
            return sets, Problem(
                row,
                f"column {name!r} names class {shorten(twice)} twice; give the names of the row's classes, not a 0 or 1"
                " for each class",
            )
        sets.append(names)
    return sets, None


def order_classes(names: list[str]) -> tuple[str, ...]:
    """Class names in number order if all are integers, else sorted as text.

    >>> order_classes(["10", "9"]), order_classes(["10", "9", "b"])
    (('9', '10'), ('10', '9', 'b'))
    """
    if all(_INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def stored_labels(names: list[str], feature: Any, storage: pa.DataType) -> pa.Array:
    """The inverse of `read_labels`: class names as the values that a column of this type would hold."""
    if isinstance(feature, ClassLabel):
        return pa.array([feature.str2int(name) for name in names], pa.int64()).cast(storage)
    if pa.types.is_boolean(storage):
        return pa.array([name == "True" for name in names], storage)
    if pa.types.is_integer(storage) or pa.types.is_floating(storage) or pa.types.is_decimal(storage):
        return pa.array([int(name) for name in names], pa.int64()).cast(storage)
    return pa.array(names, pa.string()).cast(storage)


def python_values(values: pa.ChunkedArray) -> list[Any]:
    """A column as Python values; JSON columns are decoded to what the JSON said."""
    if is_json(values.type):
        texts = (text for chunk in values.chunks for text in chunk.storage.to_pylist())
        return [None if text is None else json.loads(text) for text in texts]
    return values.to_pylist()


def is_json(kind: pa.DataType) -> bool:
    """Whether a column holds JSON text (Arrow's `arrow.json`), as mixed columns of a .jsonl file do."""
    return getattr(kind, "extension_name", "") == "arrow.json"


def _labels_by_distinct_value(values: pa.ChunkedArray, feature: Any, name: str) -> Labels:
    # Each distinct value is looked at once: a million rows of two classes take milliseconds.
    encoded = values.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    distinct = encoded.dictionary.to_pylist()
    read = [_class_name(value, feature, name) for value in distinct]
    names = list(dict.fromkeys(text for text, trouble in read if not trouble))
    position = {text: place for place, text in enumerate(names)}
    places = np.array([-1 if trouble else position[text] for text, trouble in read] + [-1], np.int64)
    result = places[codes]  # code -1, a null, reads the last place
    bad = np.flatnonzero(result < 0)
    if not bad.size:
        return Labels(names, result, None)
    row = int(bad[0])
    value = None if codes[row] < 0 else distinct[codes[row]]
    return Labels(names, result, Problem(row, _class_name(value, feature, name)[1]))


def _labels_row_by_row(values: list[Any], name: str) -> Labels:
    """Columns that Arrow cannot type: mixed values, lists, records. The first value sets the type."""
    names: dict[str, int] = {}
    codes = np.full(len(values), -1, np.int64)
    first: tuple[int, type] | None = None
    problem: Problem | None = None  # the first; the names behind it count all the same
    for row, value in enumerate(values):
        text, trouble = _class_name(value, None, name)
        if trouble:
            problem = problem or Problem(row, trouble)
            continue
        # A whole float and an integer name the same class; a boolean, though an int to Python, does not.
        kind = int if isinstance(value, float) else type(value)
        first = first or (row, kind)
        if kind is not first[1]:
            problem = problem or Problem(
                row,
                f"column {name!r} holds {_kind(value)} {shorten(value)}, but row {first[0]} holds "
                f"{_kind(values[first[0]])} {shorten(values[first[0]])}; write all labels as one type",
            )
            continue
        codes[row] = names.setdefault(text, len(names))
    return Labels(list(names), codes, problem)


def _class_name(value: Any, feature: Any, name: str) -> tuple[str, str]:
    """(class name, "") or ("", what is wrong with the value)."""
    missing = f"column {name!r} has no label ({{}}); {_give_or_remove('a label')}"
    if value is None:
        return "", missing.format("null")
    if isinstance(feature, ClassLabel):
        if value == -1:
            return "", missing.format("-1, the mark for unlabelled rows")
        if 0 <= value < (feature.num_classes or 0):
            value = feature.int2str(value)
            return (value, "") if value.strip() else ("", missing.format("an empty string"))
        return "", f"column {name!r} holds {value}, but its ClassLabel has {feature.num_classes} names"
    if isinstance(value, float | Decimal):
        if value != value:
            return "", missing.format("NaN")
        if value % 1 != 0:
            return (
                "",
                f"column {name!r} holds the fraction {value}; a label is an integer or a string",
            )
        return str(int(value)), ""
    if isinstance(value, str):
        return (value, "") if value.strip() else ("", missing.format("an empty string"))
    if isinstance(value, bool | int):
        return str(value), ""
    return "", f"column {name!r} holds {_kind(value)} {shorten(value)}; a label is an integer or a string"


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_scalar(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_float32(kind)
        or pa.types.is_float64(kind)
    )


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "the boolean"
    if isinstance(value, int | float):
        return "the number"
    if isinstance(value, str):
        return "the string"
    return "the list" if isinstance(value, list) else "the record" if isinstance(value, dict) else "the value"


def _blank(row: int, name: str) -> Problem:
    return Problem(row, f"column {name!r} is empty or only whitespace; {_give_or_remove('a text')}")


def _give_or_remove(what: str) -> str:
    return f"give the row {what} or remove it"
