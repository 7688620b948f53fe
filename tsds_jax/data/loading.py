"""Reading, with every check that can be made before long work: each row has a text and a known class."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from tsds_jax.data.columns import (
    Labels,
    column,
    order_classes,
    read_label_sets,
    read_labels,
    read_numbers,
    read_texts,
)
from tsds_jax.data.csvtext import separated_by
from tsds_jax.data.messages import Problem, listing, shorten
from tsds_jax.data.reading import Table, pick_split, read_source
from tsds_jax.data.textdata import Task, TextData
from tsds_jax.errors import InputError

TextColumns = str | Sequence[str]
_LABELS = {"classification": "one class a row", "multi_label": "any number of classes a row", "regression": "numbers"}


def load_data(
    source: Any,
    *,
    text: TextColumns | None = None,
    label: str | None = None,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    role: str = "train",
    task: Task = "classification",
) -> TextData:
    """Read labelled texts and check every row.

    Args:
      source: a `datasets.Dataset` or `DatasetDict`; a path to a .csv, .tsv, .jsonl (.ndjson, .json) or
        .parquet file or to a `save_to_disk` folder; a hub name ``NAME[:CONFIG][@SPLIT]``; or a `TextData`,
        which is returned as it is (with `classes`, its labels are renumbered to them). An existing path wins
        over a hub name.
      text: the text column, or two columns for sentence pairs; "text" if not given.
      label: the label column; "label" if not given. Integers, whole floats, booleans, strings and
        `ClassLabel` values all become class names, so that 1 in a Parquet file and "1" in a csv file are one
        class.
      split: which split of a `DatasetDict`, folder or hub data set. If not given: the only one, or the one
        named after `role`.
      classes: the class names that labels may have, in order (for validation and test: those of the training
        data). If not given they are the labels found: in number order if all are integers, else sorted.
      role: "train", "validation" or "test", for messages and the choice of a split.
      task: "classification", one class a row; "multi_label", any number of classes a row: a list, or a string of names
        joined by `|`; "regression", numbers to be predicted: integers, floats, or strings that spell one.

    Returns:
      The texts, labels and rows, in the order of the source.

    Raises:
      InputError: the source cannot be read, a column is missing, there are no rows, a text is blank, a label
        is missing, of another type or not among `classes`, or training data has only one class. The message
        names the first such row, counted from 0.

    Example:
      >>> from datasets import Dataset
      >>> data = load_data(Dataset.from_dict({"text": ["good", "bad"], "label": [1, 0]}))
      >>> data.classes, data.labels.tolist()
      (('0', '1'), [1, 0])
    """
    if isinstance(source, TextData):
        if task != source.task:
            raise InputError(
                f"{source.source} ({_role(role)}): labels must be {_LABELS[task]} here, and are {_LABELS[source.task]}"
            )
        return source if classes is None else with_classes(source, classes, role)
    table = pick_split(read_source(source, split=split), role)
    return label_texts(table, text=text, label=label, classes=classes, role=role, task=task)


def load_texts(source: Any, *, text: TextColumns | None = None) -> list[str] | list[tuple[str, str]]:
    """The texts alone, checked as in `load_data`, of a source that needs no labels (`tsds embed`)."""
    if isinstance(source, TextData):
        return list(source.texts)  # type: ignore[return-value]
    table = pick_split(read_source(source), "train")
    columns = _text_columns(text)
    _require_columns(table, columns, "train")
    texts, problem = _texts(table, columns)
    if problem:
        _raise(problem, table, "train")
    return texts


def label_texts(
    table: Table,
    *,
    text: TextColumns | None = None,
    label: str | None = None,
    classes: Sequence[str] | None = None,
    role: str = "train",
    task: Task = "classification",
) -> TextData:
    """The second half of `load_data`: from a table that was read to checked texts and labels."""
    text_columns = _text_columns(text)
    label_column = label or "label"
    if label_column in text_columns:
        raise InputError(f"column {label_column!r} cannot be both text and label; name two different columns")
    _require_columns(table, (*text_columns, label_column), role)
    texts, text_problem = _texts(table, text_columns)
    values, feature = column(table.rows, label_column), table.rows.features[label_column]
    about = (text_columns, label_column, table.name, table.format)
    if task == "regression":
        numbers, problem = read_numbers(values, label_column)
        _raise_first([text_problem, problem], table, role)
        return TextData(table.rows, texts, numbers, (), *about)
    if task == "multi_label":
        sets, problem = read_label_sets(values, feature, label_column)
        names = {name for found in sets for name in found}
        known = order_classes(list(names)) if classes is None else tuple(classes)
        position = {name: place for place, name in enumerate(known)}
        strange = next(((row, name) for row, found in enumerate(sets) for name in found if name not in position), None)
        _raise_first([text_problem, problem, strange and _strange(*strange, known)], table, role)
        if not known:
            raise InputError(f"{table.name} ({_role(role)}): no row has a class in column {label_column!r}")
        held = np.zeros((len(sets), len(known)), bool)
        for row, found in enumerate(sets):
            held[row, [position[name] for name in found]] = True
        if classes is None and known == ("0", "1") and held.all():  # else a row of them names a class twice
            raise InputError(
                f"{table.name} ({_role(role)}): every row has both 0 and 1 in column {label_column!r}; give the names"
                " of the row's classes, not a 0 or 1 for each class"
            )
        return TextData(table.rows, texts, held, known, *about)
    labels = read_labels(values, feature, label_column)
    known = order_classes(labels.names) if classes is None else tuple(classes)
    _raise_first([text_problem, labels.problem, _unknown_label(labels, known)], table, role)
    if role == "train" and classes is None and len(known) < 2:
        raise InputError(
            f"{table.name} ({_role(role)}): all {len(texts)} labels in column {label_column!r} are "
            f"{shorten(known[0])}; training data needs at least two classes"
        )
    position = {name: place for place, name in enumerate(known)}
    places = np.array([position.get(name, -1) for name in labels.names], np.int32)
    return TextData(table.rows, texts, places[labels.codes], known, *about)


def with_classes(data: TextData, classes: Sequence[str], role: str = "validation") -> TextData:
    """The same data with labels numbered by `classes`; `InputError` for a row of a class not among them."""
    known = tuple(classes)
    if known == data.classes:
        return data
    if data.task == "multi_label":
        for place, name in enumerate(data.classes):
            if name not in known and data.labels[:, place].any():
                row = int(data.origin[data.labels[:, place].argmax()])
                _raise(_strange(row, name, known), Table(data.rows, data.source, data.format), role)
        columns = [
            data.labels[:, data.classes.index(name)] if name in data.classes else np.zeros(len(data), bool)
            for name in known
        ]
        return replace(data, labels=np.stack(columns, 1), classes=known)
    codes = np.asarray(data.labels, np.int64)
    problem = _unknown_label(Labels(list(data.classes), codes, None), known)
    if problem:
        _raise(problem._replace(row=int(data.origin[problem.row])), Table(data.rows, data.source, data.format), role)
    position = {name: place for place, name in enumerate(known)}
    places = np.array([position.get(name, -1) for name in data.classes], np.int32)
    return replace(data, labels=places[codes], classes=known)


def _text_columns(text: TextColumns | None) -> tuple[str, ...]:
    columns = ("text",) if text is None else tuple(text) if isinstance(text, tuple | list) else (text,)
    if not all(isinstance(name, str) for name in columns):
        raise InputError(f"text is {shorten(text)}; give the name of one column, or of two for pairs")
    if not 1 <= len(columns) <= 2 or len(set(columns)) != len(columns):
        raise InputError(f"text names {listing(columns)}; give one column, or two different ones for pairs")
    return columns


def _require_columns(table: Table, columns: Sequence[str], role: str) -> None:
    present = table.rows.column_names
    # Rows first: a .jsonl file without rows has no columns either.
    if len(table.rows) == 0:
        raise InputError(f"{table.name} ({_role(role)}): has no rows; give a source with at least one")
    way_out = (len(present) == 1 and separated_by(present[0])) or "name the right ones with text= and label="
    for name in columns:
        if name not in present:
            raise InputError(
                f"{table.name} ({_role(role)}): no column {shorten(name)}; it has {listing(present)}: {way_out}"
            )


def _texts(table: Table, columns: tuple[str, ...]) -> tuple[list[str] | list[tuple[str, str]], Problem | None]:
    found = [read_texts(column(table.rows, name), name) for name in columns]
    problem = min((trouble for _, trouble in found if trouble), key=lambda trouble: trouble.row, default=None)
    if len(found) == 1:
        return found[0][0], problem
    return list(zip(found[0][0], found[1][0], strict=True)), problem


def _unknown_label(labels: Labels, known: tuple[str, ...]) -> Problem | None:
    allowed = set(known)
    strange = [code for code, name in enumerate(labels.names) if name not in allowed]
    rows = np.flatnonzero(np.isin(labels.codes, strange))
    if not rows.size:
        return None
    row = int(rows[0])
    return _strange(row, labels.names[labels.codes[row]], known)


def _strange(row: int, name: str, known: tuple[str, ...]) -> Problem:
    return Problem(row, f"label {shorten(name)} is not a class of the training data, which has {listing(known)}")


def _raise_first(problems: Sequence[Problem | None], table: Table, role: str) -> None:
    first = min((problem for problem in problems if problem), key=lambda problem: problem.row, default=None)
    if first:
        _raise(first, table, role)


def _raise(problem: Problem, table: Table, role: str) -> NoReturn:
    raise InputError(f"{table.name} ({_role(role)}), row {problem.row}: {problem.message}")


def _role(role: str) -> str:
    return "training data" if role == "train" else f"{role} data"
