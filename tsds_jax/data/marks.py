"""What other columns, and texts that are alike, say of training rows: groups, marks, numbers and duplicates."""

from collections.abc import Hashable, Iterable

import numpy as np

from tsds_jax.data.columns import column, python_values
from tsds_jax.data.messages import listing, shorten
from tsds_jax.data.textdata import Text, TextData
from tsds_jax.errors import InputError

_YES, _NO = {"1", "true", "yes"}, {"0", "false", "no", ""}


def group_codes(data: TextData, name: str) -> np.ndarray:
    """The group of each row, int64 ``[rows]`` from 0, by the values of a column.

    Raises:
      InputError: there is no such column, a row has no value, or all have the same.
    """
    values = group_names(data, name)
    for row, value in enumerate(values):
        if not value:
            raise InputError(
                f"{data.source}, row {data.origin[row]}: column {name!r} names no group; give one or remove the row"
            )
    # An array of strings would take as much for each as for the longest.
    number = {value: place for place, value in enumerate(sorted(set(values)))}
    if len(number) < 2:
        raise InputError(f"{data.source}: all rows are of one group by column {name!r}; give a column with several")
    return np.fromiter((number[value] for value in values), np.int64, len(values))


def group_names(data: TextData, name: str) -> list[str]:
    """What a column names each row's group; nothing where it names none, by null, NaN or blanks.

    A whole float is the integer: a column of integers becomes one of floats by a single row without one.

    Raises:
      InputError: there is no such column.
    """

    def named(value: object) -> str:
        if value is None or value != value:
            return ""
        return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()

    return [named(value) for value in _values(data, name)]


def shared_groups(data: TextData, others: TextData, name: str) -> int:
    """How many groups by the values of a column have rows in both; none where one of them has no such column."""
    if any(name not in part.rows.column_names for part in (data, others)):
        return 0
    here, there = (set(group_names(part, name)) for part in (data, others))
    return len((here & there) - {""})


def class_counts(labels: np.ndarray, groups: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """Which classes each group has, and how many rows of each: as many entries as there are, few of many classes.

    In lists, which a loop over groups goes through in a fraction of the time that arrays take.

    Args:
      labels: int ``[rows]``, from 0.
      groups: int ``[rows]``, from 0.

    Returns:
      Class and rows of each entry, ``[entries]``, and where each group's begin, ``[groups + 1]``.

    Example:
      >>> class_counts(np.array([2, 0, 2, 2]), np.array([0, 1, 0, 1]))
      ([2, 0, 2], [2, 1, 1], [0, 1, 3])
    """
    classes = int(labels.max()) + 1
    pair, count = np.unique(groups.astype(np.int64) * classes + labels, return_counts=True)
    group, label = np.divmod(pair, classes)
    return label.tolist(), count.tolist(), np.searchsorted(group, np.arange(groups.max() + 2)).tolist()


def marked_rows(data: TextData, name: str) -> np.ndarray:
    """Which rows a column marks, bool ``[rows]``: 1, true or yes; not 0, false, no, nothing or null.

    Raises:
      InputError: there is no such column, or a row holds something else.
    """
    found = np.zeros(len(data), bool)
    for row, value in enumerate(_values(data, name)):
        word = "" if value is None else str(value).strip().casefold().removesuffix(".0")
        if word not in _YES | _NO:
            raise InputError(
                f"{data.source}, row {data.origin[row]}: column {name!r} holds {shorten(value)}; write 1, true or yes"
                " for rows that are marked, and 0, false, no or nothing for the others"
            )
        found[row] = word in _YES
    return found


def numbers(data: TextData, name: str) -> np.ndarray:
    """The numbers of a column, float64 ``[rows]``; NaN where there is none.

    Raises:
      InputError: there is no such column, a row holds something else, or no row has a number.
    """
    found = np.full(len(data), np.nan)
    for row, value in enumerate(_values(data, name)):
        if value is None or not str(value).strip():
            continue
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{data.source}, row {data.origin[row]}: column {name!r} holds {shorten(value)}; write a number or"
                " nothing"
            ) from None
    if not np.isfinite(found).any():
        raise InputError(f"{data.source}: column {name!r} holds no number; give another column")
    return found


def normalized(text: Text) -> Text:
    """What counts as the same text: no regard to case, or to the amount and kind of whitespace."""
    if isinstance(text, tuple):
        return (" ".join(text[0].casefold().split()), " ".join(text[1].casefold().split()))
    return " ".join(text.casefold().split())


def codes_of(keys: Iterable[Hashable]) -> np.ndarray:
    """A number for each key, int64 ``[keys]``, from 0 in order of appearance: the same for equal ones."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, len(first)) for key in keys], np.int64)


def text_codes(data: TextData) -> np.ndarray:
    """A number for each row, int64 ``[rows]`` from 0, the same for rows of the same text, whatever their labels.

    Texts are compared as in `duplicate_codes`.
    """
    return codes_of(map(normalized, data.texts))


def duplicate_codes(data: TextData) -> np.ndarray:
    """A number for each row, int64 ``[rows]`` from 0, the same for rows of the same text and label.

    Texts are compared without regard to case and whitespace. The same text with another label is another row: one of
    the two labels is wrong.
    """
    return codes_of(zip(map(normalized, data.texts), data.labels.tolist(), strict=True))


def _values(data: TextData, name: str) -> list:
    if name not in data.rows.column_names:
        raise InputError(f"{data.source}: no column {name!r}; it has {listing(data.rows.column_names)}")
    return python_values(column(data.rows, name))
