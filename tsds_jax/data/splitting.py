"""Training, validation and test data over one set of classes, validation carved out where none is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from tsds_jax.arrays import number_in
from tsds_jax.data.columns import column, python_values, read_labels
from tsds_jax.data.loading import TextColumns, label_texts, load_data
from tsds_jax.data.marks import class_counts, group_codes, marked_rows, normalized, text_codes
from tsds_jax.data.messages import shorten
from tsds_jax.data.reading import Table, pick_split, read_source, split_names
from tsds_jax.data.textdata import Splits, Task, Text, TextData
from tsds_jax.errors import InputError


def load_splits(
    train: Any,
    validation: Any = None,
    test: Any = None,
    *,
    text: TextColumns | None = None,
    label: str | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    drop_overlap: bool = False,
    group: str | None = None,
    protect: str | None = None,
) -> Splits:
    """Read the data of a run.

    Where `train` has several splits (a `DatasetDict`, its folder, or a hub data set without ``@SPLIT``), its
    "train" split is used, and for what is not given its "validation" ("dev", "val") and "test" split. A test
    split of which no row has a label, as in GLUE, is left out. Without validation data, `validation_fraction`
    of the training rows is set apart by `carve_validation`.

    Args:
      train: any source that `load_data` takes.
      validation: any source, or None.
      test: any source, or None.
      text: the text column, or two of them; if not given, those of `train` if it is a `TextData`, else "text".
      label: the label column; if not given, that of `train` if it is a `TextData`, else "label".
      validation_fraction: share of the training rows to set apart, between 0 and 1.
      seed: of the draw of those rows.
      drop_overlap: remove training rows whose text stands in validation or test, and validation rows whose
        text stands in test.
      group: a column of documents, sources or annotators, which are set apart as a whole; None draws texts, whose
        copies stay together.
      protect: a column that marks training rows which stay there: they are not set apart, and `drop_overlap` may not
        remove them; see `marked_rows`.

    Raises:
      InputError: as `load_data`; `validation_fraction` is no number between 0 and 1, or `seed` no whole number from 0;
        a class or split would be left without rows; or a marked row would be removed.
    """
    _check_fraction("validation_fraction", validation_fraction)
    number_in("seed", seed, 0, np.inf)
    training, tables, text, label = read_training(train, text=text, label=label)
    training = load_data(training, role="train")  # what was read before may be for another task
    classes = training.classes

    def part(source: Any, role: str) -> TextData | None:
        if source is not None:
            return load_data(source, text=text, label=label, classes=classes, role=role)
        return own_split(tables, role, text=text, label=label, classes=classes)

    testing, validating = part(test, "test"), part(validation, "validation")
    set_apart = validating is None
    if validating is None:
        training, validating = carve_validation(
            training, fraction=validation_fraction, seed=seed, group=group, protect=protect
        )
    else:
        # Nothing is set apart by them, and a column that is not there is refused all the same.
        if group is not None:
            group_codes(training, group)
        if protect is not None:
            marked_rows(training, protect)
    splits = Splits(training, validating, testing, count_overlap(training, validating, testing), set_apart)
    return without_overlap(splits, protect) if drop_overlap else splits


def read_training(
    train: Any, *, text: TextColumns | None, label: str | None, task: Task = "classification"
) -> tuple[TextData, Mapping[str, Table], TextColumns | None, str | None]:
    """The training rows of a source, its other splits by name, and the columns of all rows.

    An only split is that of the training rows, whatever its name: it is no test split besides.
    """
    if isinstance(train, TextData):
        return train, {}, text or train.text_columns, label or train.label_column
    found = read_source(train)
    picked = pick_split(found, "train")
    others = {} if isinstance(found, Table) else {name: table for name, table in found.items() if table is not picked}
    return label_texts(picked, text=text, label=label, role="train", task=task), others, text, label


def own_split(
    tables: Mapping[str, Table],
    role: str,
    *,
    text: TextColumns | None,
    label: str | None,
    classes: Sequence[str] | None,
    task: Task = "classification",
) -> TextData | None:
    """The validation or test split of a data set that has several, or None: a test split without labels is none."""
    # By name only: of two splits the one that is left need not be for this.
    table = next((tables[name] for name in split_names(role) if name in tables), None)
    if table is None or (role == "test" and not _has_labels(table, label or "label", classes or (), task)):
        return None
    return label_texts(table, text=text, label=label, classes=classes, role=role, task=task)


def carve_validation(
    data: TextData, *, fraction: float, seed: int, group: str | None = None, protect: str | None = None
) -> tuple[TextData, TextData]:
    """Draw `fraction` of each class's rows for validation; both parts keep the order of the rows.

    Copies of a text stay together, whatever their labels, or a row would be judged by its own copy. A class of two or
    more texts has at least one in both parts, where that leaves every class a training row; a class of one text keeps
    it for training. With `group`, a column, whole groups are drawn instead, or rows would be judged by rows of their
    own document: texts or groups in random order, each that brings the classes' counts nearer to `fraction` of them
    and leaves every class a training row. Rows that `protect`, a column, marks stay, and so does what goes with them:
    `fraction` is of each class's other rows then, so that of few not all are set apart and some are left to remove.

    Raises:
      InputError: no class has two texts, or no group, or no row that is not marked, can be set apart; `fraction` is no
        number between 0 and 1, or `seed` no whole number from 0; or as `group_codes` and `marked_rows`.
    """
    _check_fraction("fraction", fraction)
    number_in("seed", seed, 0, np.inf)
    if data.task != "classification":
        raise InputError(f"{data.source}: only rows of a class each can be set apart, not of task {data.task}")
    generator = np.random.default_rng(seed)
    codes = text_codes(data) if group is None else group_codes(data, group)
    stay = None if protect is None else np.bincount(codes, marked_rows(data, protect)) > 0
    mask = _drawn_units(data.labels, codes, fraction, generator, least=int(group is None), stay=stay)[codes]
    if not mask.any() and stay is not None and stay.any():
        raise InputError(
            f"{data.source}: column {protect!r} leaves no {'row' if group is None else 'group'} that can be set apart;"
            " give validation data"
        )
    if not mask.any():
        raise InputError(
            f"{data.source}: no class has two rows of different text, so none can be set apart; give validation data"
            if group is None
            else f"{data.source}: no group of column {group!r} can be set apart, too large or the only one with some"
            " class; give validation data"
        )
    if group is not None and len(np.unique(codes[~mask])) < 2:
        raise InputError(
            f"{data.source}: setting {fraction:g} of the rows apart leaves one group of column {group!r} to value, for"
            " it has most rows; give validation data, or a column of smaller groups"
        )
    held = data.select(np.flatnonzero(mask))
    held = replace(held, source=f"{data.source} ({fraction:g} of the rows, set apart with seed {seed})")
    return data.select(np.flatnonzero(~mask)), held


def _drawn_units(
    labels: np.ndarray,
    codes: np.ndarray,
    fraction: float,
    generator: np.random.Generator,
    least: int = 0,
    stay: np.ndarray | None = None,
) -> np.ndarray:
    """Which units, groups or texts, are set apart, bool ``[units]``; with ``least`` 1 a row of each class, or most.

    None that is to ``stay``, bool ``[units]``: the goal is the fraction of the others.
    """
    label, count, start = class_counts(labels, codes)
    drawn = np.zeros(len(start) - 1, bool)
    stay = drawn.copy() if stay is None else stay
    free = np.bincount(labels[~stay[codes]], minlength=labels.max() + 1).tolist()
    goal, held = [max(fraction * rows, least) for rows in free], [0] * len(free)

    def offer(one: int, wanted: Callable[[list[tuple[int, int]]], bool]) -> None:
        if stay[one]:
            return
        own = slice(start[one], start[one + 1])
        brings = list(zip(label[own], count[own], strict=True))
        if wanted(brings) and all(held[at] + rows < free[at] for at, rows in brings):
            drawn[one] = True
            for at, rows in brings:
                held[at] += rows

    for one in generator.permutation(len(drawn)).tolist():
        # By how much the sum of squared distances falls.
        offer(one, lambda brings: sum(rows * (2 * (goal[at] - held[at]) - rows) for at, rows in brings) > 0)
    if least and not all(held[at] for at in set(label)):
        # A class all of whose texts have more copies than it should give away: the fewest that it can.
        for one in np.argsort(np.bincount(codes), kind="stable").tolist():
            offer(one, lambda brings: any(not held[at] for at, _ in brings))
    return drawn


def count_overlap(train: TextData, validation: TextData, test: TextData | None = None) -> dict[tuple[str, str], int]:
    """Rows of one split whose text stands in another, for each pair of splits that has any."""
    keys = {"train": _keys(train), "validation": _keys(validation), "test": _keys(test) if test else []}
    pairs = [("train", "validation"), ("train", "test"), ("validation", "test")]
    counts = {(one, other): len(_standing_in(keys[one], set(keys[other]))) for one, other in pairs}
    return {pair: count for pair, count in counts.items() if count}


def _check_fraction(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < 1:
        raise InputError(f"{name} is {shorten(value)}; it must lie between 0 and 1")


def _keys(data: TextData) -> list[Text]:
    return [normalized(text) for text in data.texts]


def _standing_in(keys: list[Text], others: set[Text]) -> list[int]:
    return [row for row, key in enumerate(keys) if key in others]


def without_overlap(splits: Splits, protect: str | None = None) -> Splits:
    """What ``drop_overlap`` of `load_splits` leaves of the splits; the same where no text stands in two.

    Raises:
      InputError: a class or split would be left without rows, or a row that ``protect`` marks would be removed.
    """
    if not splits.overlap:
        return splits
    train_keys, validation_keys = _keys(splits.train), _keys(splits.validation)
    test_keys = set(_keys(splits.test)) if splits.test else set()
    shared = _standing_in(train_keys, test_keys | set(validation_keys))
    if protect is not None:
        marked = marked_rows(splits.train, protect)
        for row in (row for row in shared if marked[row]):
            raise InputError(
                f"{splits.train.source}, row {splits.train.origin[row]}: column {protect!r} says that it must stay, but"
                " its text also stands in validation or test data: remove the mark, or do not use drop_overlap"
            )
    train = _drop(splits.train, shared, "training")
    validation = _drop(splits.validation, _standing_in(validation_keys, test_keys), "validation")
    empty = [name for name, count in train.class_counts.items() if not count and splits.train.class_counts[name]]
    if empty:
        raise InputError(
            f"{train.source}: no training row of class {shorten(empty[0])} is left without the rows that also"
            " stand in validation or test data; remove the duplicates or do not use drop_overlap"
        )
    return replace(splits, train=train, validation=validation, left_out=True)


def _drop(data: TextData, rows: list[int], role: str) -> TextData:
    if len(rows) == len(data):
        raise InputError(f"{data.source}: every {role} row stands in another split too; give other {role} data")
    return data.select(np.delete(np.arange(len(data)), rows)) if rows else data


def _has_labels(table: Table, label: str, classes: Sequence[str], task: Task) -> bool:
    """Whether any row has a label: hub test sets often carry -1 or null throughout, or no label column."""
    if label not in table.rows.column_names or not len(table.rows):
        return False
    if task != "classification":
        entries = [entry for entry in python_values(column(table.rows, label)) if entry is not None]
        return not all(task == "regression" and _is_minus_one(entry) for entry in entries)
    names = set(read_labels(column(table.rows, label), table.rows.features[label], label).names)
    return bool(names - ({"-1"} - set(classes)))


def _is_minus_one(entry: Any) -> bool:
    """Whether a number, or a string that spells one, is -1."""
    try:
        return float(entry) == -1
    except (TypeError, ValueError, OverflowError):
        return False
