"""A run folder's files, read and checked: everything the report may show comes through here."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tsds_jax.data.csvtext import parse_csv
from tsds_jax.errors import InputError
from tsds_jax.runtime.files import as_path

_COLUMNS = ("row", "label", "value", "stderr", "count", "rank", "kept")


@dataclass(frozen=True)
class Values:
    """``values.parquet``: one entry a training row, all of the same length.

    Attributes:
      row: 0-based row of the training data, int64.
      label: class name, strings.
      value: the value; NaN for a row that was never drawn.
      stderr: its standard error; NaN where it is not known.
      count: marginal contributions behind the value, int64.
      rank: 1 for the lowest value, int64.
      kept: whether the row is in the selection, bool.
      text: the text, or nothing if arrays were valued.
      text_pair: the second text of a pair, or nothing.
    """

    row: np.ndarray
    label: np.ndarray
    value: np.ndarray
    stderr: np.ndarray
    count: np.ndarray
    rank: np.ndarray
    kept: np.ndarray
    text: pa.ChunkedArray | None
    text_pair: pa.ChunkedArray | None

    def __len__(self) -> int:
        """Number of training rows."""
        return len(self.row)

    @property
    def valued(self) -> np.ndarray:
        """Which rows have a value: drawn at least once, and finite."""
        return np.isfinite(self.value) & (self.count > 0)


@dataclass(frozen=True)
class Curve:
    """The removal curve: the source classifier's score after the lowest-valued rows are left out.

    Attributes:
      removed: rows left out, ascending.
      score: validation score, in the utility's unit.
      difference: score minus the score with nothing left out.
      stderr: standard error of ``difference``, paired over validation rows.
    """

    removed: np.ndarray
    score: np.ndarray
    difference: np.ndarray
    stderr: np.ndarray


@dataclass(frozen=True)
class Cut:
    """``selection.json``: where the ranking was cut, and the curve that decided it."""

    rule: str
    removal_index: int
    utility: str
    majority_share: float | None
    curve: Curve
    cross_fitted: bool = False
    evidence: str = ""


@dataclass(frozen=True)
class Arm:
    """One fine-tuning: on all rows (``full``), the kept ones (``selection``) or as many at ``random``.

    Of several seeds scores are means, ``accuracies`` those that they are of, and steps and history the first's.
    """

    name: str
    rows: int | None
    accuracy: float
    macro_f1: float
    steps: int | None
    best_step: int | None
    seconds: float
    history: tuple[Mapping[str, float], ...]
    accuracies: tuple[float, ...] = ()


@dataclass(frozen=True)
class Difference:
    """``metric(a) - metric(b)`` of two arms on the same test rows, with its 95 % interval."""

    a: str
    b: str
    metric: str
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class FineTuning:
    """``finetune.json``."""

    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    test_rows: int | None
    seeds: int = 1

    def difference(self, a: str, b: str, metric: str = "accuracy") -> Difference | None:
        """The stated difference of two arms, or nothing if the file has none."""
        return next((d for d in self.differences if (d.a, d.b, d.metric) == (a, b, metric)), None)


@dataclass(frozen=True)
class Suspects:
    """``suspects.csv``: rows whose label is doubted, the most doubtful first; all of the same length.

    Attributes:
      row: 0-based row of the training data, as text, and so are the others.
      label: class name.
      suggested: the class that would fit better.
      probability: of that class.
      texts: the text of each row, and of pairs the second one.
    """

    row: Sequence[str]
    label: Sequence[str]
    suggested: Sequence[str]
    probability: np.ndarray
    texts: tuple[Sequence[str], ...]

    def __len__(self) -> int:
        """Number of doubted rows."""
        return len(self.row)


@dataclass(frozen=True)
class RunContents:
    """All that the report is made of.

    Attributes:
      name: the run folder's name.
      manifest: ``manifest.json`` as it is; any key may be missing.
      values: ``values.parquet``.
      cut: ``selection.json``.
      finetuning: ``finetune.json``, or nothing if fine-tuning was skipped; where no row was removed, the one training
        alone, which stands for all arms.
      suspects: ``suspects.csv``, or nothing if there is no such file.
      doubted_judges: rows of ``validation-suspects.csv``.
      finished: whether this is all that the run is to come to, and not what it has reached.
    """

    name: str
    manifest: Mapping[str, Any]
    values: Values
    cut: Cut
    finetuning: FineTuning | None
    suspects: Suspects | None = None
    doubted_judges: int = 0
    finished: bool = True

    @property
    def by_class(self) -> bool:
        """Whether rows were removed in the order of their place among their own class."""
        return part_of(self.manifest, "options").get("by_class") is True


def read_run(folder: Path | str) -> RunContents:
    """Read a run folder's manifest, values, selection and, if it is there, fine-tuning results.

    Args:
      folder: the folder that ``tsds run --out`` wrote.

    Raises:
      InputError: if a file is missing or cannot be used; the message names it and says what to do.

    >>> contents = read_run("run/")  # doctest: +SKIP
    >>> contents.cut.removal_index  # doctest: +SKIP
    210
    """
    folder = as_path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the folder that `tsds run --out` wrote")
    manifest = _json_object(folder / "manifest.json")
    stage = part_of(manifest, "identity").get("stage")
    if stage is not None:
        raise InputError(
            f"{folder} is a folder of `tsds {str(stage)[:20]}`, which has no report: give one of `tsds run`"
        )
    values = _values(folder / "values.parquet")
    cut, tuned, suspects = _cut(folder / "selection.json"), folder / "finetune.json", folder / "suspects.csv"
    finetuning = _finetuning(tuned) if tuned.exists() else None
    if finetuning is not None and values.kept.all():
        finetuning = replace(finetuning, arms=finetuning.arms[:1], differences=())
    doubted = read_suspects(suspects) if suspects.exists() else None
    judges = folder / "validation-suspects.csv"
    doubted_judges = len(read_suspects(judges)) if judges.exists() else 0
    finished = manifest.get("status") != "running"
    return RunContents(folder.resolve().name, manifest, values, cut, finetuning, doubted, doubted_judges, finished)


def _broken(path: Path, what: str) -> InputError:
    what = " ".join(what.split())
    return InputError(
        f"{path.name} in {path.parent} {what}: run the command that made the folder again "
        "(tsds run goes on with --resume)"
    )


def _json_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _broken(path, "is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(path, f"cannot be read as JSON ({str(error)[:60]})") from error
    if not isinstance(found, dict):
        raise _broken(path, f"holds a {type(found).__name__} where an object belongs")
    return found


def _values(path: Path) -> Values:
    if not path.exists():
        raise _broken(path, "is missing")
    try:
        # Not read_table: it takes folder names such as "seed=1" for columns.
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, f"cannot be read as Parquet ({str(error)[:60]})") from error
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise _broken(path, f"has no column {missing[0]!r}")
    if table.num_rows == 0:
        raise _broken(path, "has no rows")
    try:
        integers = {name: _column(table, name, pa.int64(), 0) for name in ("row", "count", "rank")}
        floats = {name: _column(table, name, pa.float64(), math.nan) for name in ("value", "stderr")}
        return Values(
            **integers,
            **floats,
            label=_column(table, "label", pa.string(), ""),
            kept=_column(table, "kept", pa.bool_(), False),
            text=_strings(table, "text"),
            text_pair=_strings(table, "text_pair"),
        )
    except pa.ArrowException as error:
        raise _broken(path, f"has a column of the wrong type ({str(error)[:60]})") from error


def _column(table: pa.Table, name: str, kind: pa.DataType, blank: object) -> np.ndarray:
    """A column as numpy, blanks filled, cast to the type the report counts on."""
    return table[name].cast(kind).fill_null(blank).to_numpy()


def _strings(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    return table[name].cast(pa.string()) if name in table.column_names else None


def _cut(path: Path) -> Cut:
    found = _json_object(path)
    curve = found.get("curve")
    if not isinstance(curve, dict):
        raise _broken(path, "has no object 'curve'")
    columns = {key: _numbers(path, curve, key) for key in ("removed", "score", "difference", "stderr")}
    lengths = {len(column) for column in columns.values()}
    if lengths == {0} or len(lengths) > 1:
        raise _broken(path, "has a curve whose lists are empty or differ in length")
    order = np.argsort(columns["removed"], kind="stable")
    return Cut(
        rule=str(found.get("rule", "")),
        removal_index=_integer(path, found, "removal_index"),
        utility=str(found.get("utility", "")),
        majority_share=None if found.get("majority_share") is None else _number(path, found, "majority_share"),
        curve=Curve(**{key: column[order] for key, column in columns.items()}),
        cross_fitted=found.get("cross_fitted") is True,
        evidence=str(found.get("evidence") or ""),
    )


def read_suspects(path: Path) -> Suspects:
    """``suspects.csv``, or a file like it.

    Raises:
      InputError: it cannot be read as one.
    """
    try:
        table = parse_csv(path.read_bytes(), str(path))
        columns = {name: table[name].to_pylist() for name in table.column_names}
        row, label, suggested = (columns[name] for name in ("row", "label", "suggested"))
        probability = np.array([float(entry) for entry in columns["probability"]])
        texts = tuple(columns[name] for name in ("text", "text_pair") if name in columns)
    except (OSError, InputError, KeyError, ValueError, TypeError) as error:
        raise _broken(path, f"cannot be read as suspects ({str(error)[:60]})") from error
    return Suspects(row, label, suggested, probability, texts)


def _finetuning(path: Path) -> FineTuning:
    found = _json_object(path)
    arms, differences = found.get("arms"), found.get("differences", [])
    if not _objects(arms) or not arms:
        raise _broken(path, "has no list of objects 'arms'")
    if not _objects(differences):
        raise _broken(path, "has a 'differences' that is not a list of objects")
    return FineTuning(
        arms=tuple(_arm(path, arm) for arm in arms),
        differences=tuple(
            Difference(
                a=str(d.get("a", "")),
                b=str(d.get("b", "")),
                metric=str(d.get("metric", "")),
                **{key: _number(path, d, key) for key in ("estimate", "low", "high")},
            )
            for d in differences
        ),
        test_rows=_whole(found.get("test_rows")),
        seeds=_whole(found.get("seeds")) or 1,
    )


def _arm(path: Path, arm: Mapping[str, Any]) -> Arm:
    history = arm.get("history") or []
    if not _objects(history):
        raise _broken(path, "has a 'history' that is not a list of objects")
    return Arm(
        name=str(arm.get("name", "")),
        rows=_whole(arm.get("rows")),
        accuracy=_number(path, arm, "accuracy"),
        macro_f1=_number(path, arm, "macro_f1"),
        steps=_whole(arm.get("steps")),
        best_step=_whole(arm.get("best_step")),
        seconds=as_float(arm.get("seconds")),
        history=tuple({str(k): as_float(v) for k, v in entry.items()} for entry in history),
        accuracies=tuple(map(as_float, arm.get("accuracies") or ())),
    )


def part_of(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A nested object; empty if it is missing or something else."""
    part = found.get(key)
    return part if isinstance(part, Mapping) else {}


def as_float(found: object) -> float:
    """A JSON number as a float; NaN for anything else, null included."""
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(found)
        except OverflowError:
            return math.nan
    return math.nan


def _whole(found: object) -> int | None:
    number = as_float(found)
    return int(number) if math.isfinite(number) else None


def _objects(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(entry, dict) for entry in found)


def _number(path: Path, found: Mapping[str, Any], key: str) -> float:
    """A number that has to be there; null stands for one that could not be computed."""
    if key not in found or (found[key] is not None and not isinstance(found[key], int | float)):
        raise _broken(path, f"has no number {key!r}")
    return as_float(found[key])


def _integer(path: Path, found: Mapping[str, Any], key: str) -> int:
    whole = _whole(found.get(key))
    if whole is None:
        raise _broken(path, f"has no integer {key!r}")
    return whole


def _numbers(path: Path, found: Mapping[str, Any], key: str) -> np.ndarray:
    entries = found.get(key)
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise _broken(path, f"has no list {key!r} in its curve")
    for place, entry in enumerate(entries):
        if entry is not None and not isinstance(entry, int | float):
            raise _broken(path, f"has {str(entry)[:60]!r} at place {place} of {key!r}, not a number")
    return np.array([as_float(entry) for entry in entries], dtype=np.float64)
