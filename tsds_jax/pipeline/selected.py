"""What `select` gives, and the files that it becomes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tsds_jax.data import TextData, file_name, write_rows
from tsds_jax.pipeline.suspecting import columns_about, write_suspects
from tsds_jax.pipeline.target_check import TargetCheck, as_json
from tsds_jax.report import write_report
from tsds_jax.runtime.files import as_path, atomic
from tsds_jax.runtime.folder import RunFolder, check_outside, open_run
from tsds_jax.runtime.processes import own_place
from tsds_jax.selection import RemovalCurve, RemovalOrder, Suspects
from tsds_jax.valuation import Valuation


@dataclass(frozen=True, eq=False)
class Selection:
    """Which training rows to keep, and why.

    Attributes:
      train: the training rows that were valued.
      valuation: their values, one a row (with groups, that of the row's group).
      order: the order in which rows are removed.
      curve: the removal curve.
      rule: what chose the removal index: the option ``rule``, or ``"count"``, ``"share"``, ``"below"`` or, where the
        cut was checked on the model, ``"target"``.
      removal_index: how many rows are removed.
      suspects: rows whose label the source classifier doubts; for relabelling, whatever is removed.
      validation: the validation rows, which judge all of them.
      doubted_judges: those of the validation rows whose label is doubted likewise.
      manifest: what the run folder's manifest says of data, options, versions and timings.
      set_apart: the validation rows, where they were drawn from the given training rows.
      check: the check on the target, where there was one.
    """

    train: TextData
    valuation: Valuation
    order: RemovalOrder
    curve: RemovalCurve
    rule: str
    removal_index: int
    suspects: Suspects
    validation: TextData
    doubted_judges: Suspects
    manifest: Mapping[str, Any]
    set_apart: TextData | None = None
    check: TargetCheck | None = None

    def __repr__(self) -> str:
        """In a line, for a notebook."""
        rows, removed = len(self.train), self.removal_index
        return f"Selection(keeps {rows - removed} of {rows} rows, removes {removed} by {self.rule!r})"

    @property
    def removed_rows(self) -> np.ndarray:
        """Removed row numbers, lowest value first, int64."""
        return self.order.points[: self.removal_index]

    @property
    def kept_rows(self) -> np.ndarray:
        """Kept row numbers in the order of the data, int64."""
        return np.sort(self.order.points[self.removal_index :])

    @property
    def kept(self) -> TextData:
        """The rows to train on, in the order of the data."""
        return self.train.select(self.kept_rows)

    @property
    def removed(self) -> TextData:
        """The removed rows, lowest value first."""
        return self.train.select(self.removed_rows)

    def save(self, folder: str | os.PathLike, *, overwrite: bool = False) -> Path:
        """Writes the kept rows, their values, doubted labels, the cut, a manifest and report.html.

        Raises:
          InputError: the folder holds another run (unless ``overwrite``) or other files, or what the selection was
            made from.
        """
        sources = [about["source"] for about in self.manifest["data"].values() if about]
        check_outside(folder, [*sources, self.manifest["model"]["name"]], overwrite=overwrite)
        with own_place(folder) as path:
            run = open_run(path, self.manifest["identity"], overwrite=overwrite)
            write_selection(run, self)
            run.write_json("manifest.json", {**self.manifest, "status": "running"})
            write_report(path, ends=True)
            run.write_json("manifest.json", {**self.manifest, "status": "finished"})
        return as_path(folder)


def write_selection(run: RunFolder, selection: Selection) -> None:
    """Values, doubted labels, selection.json and the kept rows; whole again on a resumed run, and the same."""
    train, validation = selection.train, selection.validation
    kept = np.zeros(len(train), bool)
    kept[selection.kept_rows] = True
    write_values(run.path, selection.valuation, columns_about(train), kept, selection.suspects, train.classes)
    write_suspects(run.path / "suspects.csv", train, selection.suspects, kept)
    write_suspects(run.path / "validation-suspects.csv", validation, selection.doubted_judges)
    curve = selection.curve
    run.write_json(
        "selection.json",
        {
            "rule": selection.rule,
            "removal_index": selection.removal_index,
            "cross_fitted": curve.cross_fitted,
            "check": selection.check and as_json(selection.check),
            "evidence": "" if selection.check is None else str(selection.check),
            "utility": curve.utility,
            "majority_share": selection.manifest["majority_share"],
            "curve": {
                name: getattr(curve, name).tolist() for name in ("removed", "score", "difference", "stderr", "accuracy")
            },
        },
    )
    for name, rows in (("kept", selection.kept), ("validation", selection.set_apart)):
        if rows is not None:
            # Of the same run, but columns that it does not ask for may have changed since.
            run.remove(file_name(rows, name))
            write_rows(rows, run.path, name)


def write_values(
    folder: Path,
    valuation: Valuation,
    about: Mapping[str, Any],
    kept: np.ndarray | None = None,
    suspects: Suspects | None = None,
    classes: Sequence[str] = (),
) -> None:
    """Writes values.parquet: what is ``about`` each row, value, stderr, count, rank (1 = lowest), kept.

    With ``suspects`` also how probable each label is to a classifier that had not seen it, and of doubted ones, which
    of the ``classes`` would fit better; nothing where that is not known.
    """
    points = len(valuation.values)
    rank = np.empty(points, np.int64)
    rank[valuation.ranking] = np.arange(1, points + 1)
    table = pa.table(
        {
            **about,
            "value": valuation.values,
            "stderr": valuation.stderr,
            "count": valuation.counts,
            "rank": rank,
            **({} if kept is None else {"kept": kept}),
            **({} if suspects is None else _doubts(suspects, classes)),
        }
    )
    with atomic(folder / "values.parquet") as temporary:
        pq.write_table(table, temporary)


def _doubts(suspects: Suspects, classes: Sequence[str]) -> dict[str, Any]:
    suggested: list[str | None] = [None] * len(suspects.belief)
    for point, label in zip(suspects.points.tolist(), suspects.suggested.tolist(), strict=True):
        suggested[point] = classes[label]
    belief = pa.array(suspects.belief, mask=np.isnan(suspects.belief))
    return {"probability_of_label": belief, "suggested": pa.array(suggested, pa.string())}
