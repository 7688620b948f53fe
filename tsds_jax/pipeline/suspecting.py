"""Which labels to look at again: of any labelled texts, without values, validation rows or fine-tuning."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tsds_jax.data import TextData, load_data
from tsds_jax.data.csvtext import format_csv
from tsds_jax.encoders import Encoder, embed, fit_pca, load_encoder
from tsds_jax.errors import InputError
from tsds_jax.options import SUSPECTED, SelectOptions, build
from tsds_jax.pipeline.checks import (
    check_cache,
    check_classes,
    check_representation,
    check_select_options,
    judged_apart,
    pooled_by,
)
from tsds_jax.runtime.files import atomic, check_new_file
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.selection import Suspects, suspected_labels


@dataclass(frozen=True, eq=False)
class DoubtedLabels:
    """Rows whose label is doubted.

    Attributes:
      data: all rows that were asked about.
      suspects: of these, as points, with the class that would fit as its place in ``data.classes``.
      truncated: texts that were cut to be represented.
    """

    data: TextData
    suspects: Suspects
    truncated: int

    def __repr__(self) -> str:
        """In a line, for a notebook."""
        return f"DoubtedLabels({len(self.suspects.points)} of {len(self.data)} rows)"

    @property
    def rows(self) -> TextData:
        """The doubted rows, most doubtful first."""
        return self.data.select(self.suspects.points)

    @property
    def suggested(self) -> list[str]:
        """The class that would fit each of them better."""
        return [self.data.classes[label] for label in self.suspects.suggested]

    def save(self, file: str | os.PathLike) -> Path:
        """Writes a new csv file: row (of the source, from 0), text, label, suggested, both probabilities.

        Raises:
          InputError: the name does not end in .csv, there is such a file, or it cannot be written.
        """
        path = check_new_file(file, ".csv")
        write_suspects(path, self.data, self.suspects)
        return path


def suspects(
    data: Any,
    *,
    model: str | os.PathLike | Encoder,
    text: Any = None,
    label: str | None = None,
    cache: str | os.PathLike | None = None,
    progress: ProgressFn = silent,
    **options: Any,
) -> DoubtedLabels:
    """Labels that a classifier on the model's representations doubts, of rows that it was not fitted to.

    That is `suspected_labels` of the mean-pooled (or as the model says) token vectors in their first principal
    components: what `select` lists too, here of all rows, for no row is set apart to judge others. Copies of a text, or
    rows of one group, do not judge each other.

    Args:
      data: as ``train`` of `select`.
      model: folder, cached or hub name of a language model, or a loaded `Encoder`.
      text: see `select`.
      label: see `select`.
      cache: see `select`.
      progress: called while texts are embedded.
      **options: of `SelectOptions` ``pooling``, ``layer``, ``max_length``, ``pca``, ``C``, ``group`` and ``seed``.

    Raises:
      InputError: something given cannot be used.

    Example:
      >>> doubted = suspects("train.csv", model="models/minilm")
      >>> len(doubted.rows) == len(doubted.suggested)
      True
    """
    for name in options.keys() - set(SUSPECTED):
        raise InputError(f"suspects has no option {name!r}: use {', '.join(SUSPECTED)}")
    settings = build(SelectOptions, options)
    check_select_options(settings)
    check_cache(cache)
    rows = load_data(data, text=text, label=label)
    check_classes(rows)
    if len(np.unique(rows.labels)) < 2:
        raise InputError(f"{rows.source}: its rows have one class only: give rows of two or more")
    units = judged_apart(rows, settings)
    progress(Progress("data", len(rows), len(rows), "rows"))
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    settings = pooled_by(encoder, settings)
    check_representation(len(rows), encoder, settings)
    how: dict[str, Any] = {"pooling": settings.pooling, "layer": settings.layer, "max_length": settings.max_length}
    found = embed(encoder, rows.texts, **how, cache=cache, progress=progress)
    x = fit_pca(found.values, settings.pca).transform(found.values) if settings.pca else found.values
    doubted = suspected_labels(x, rows.labels, C=settings.C, seed=settings.seed, units=units)
    return DoubtedLabels(rows, doubted, found.truncated)


def columns_about(data: TextData) -> dict[str, Any]:
    """What tells a row: its place in the source, its text or texts, its label."""
    texts: dict[str, Any] = {"text": list(data.texts)}
    if len(data.text_columns) == 2:
        texts = dict(zip(("text", "text_pair"), map(list, zip(*data.texts, strict=True)), strict=True))
    return {"row": data.origin, **texts, "label": data.label_names}


def write_suspects(file: Path, data: TextData, suspects: Suspects, kept: np.ndarray | None = None) -> None:
    """A csv file of the doubted rows, most doubtful first; with ``kept``, bool ``[rows]``, a column of that too."""
    doubted = {
        **{name: [column[row] for row in suspects.points] for name, column in columns_about(data).items()},
        "suggested": [data.classes[label] for label in suspects.suggested],
        "probability": [f"{share:.4f}" for share in suspects.probability],
        "probability_of_label": [f"{share:.4f}" for share in suspects.own],
        **({} if kept is None else {"kept": [str(kept[row]).lower() for row in suspects.points]}),
    }
    table = pa.table({name: pa.array([str(entry) for entry in column]) for name, column in doubted.items()})
    with atomic(file) as temporary:
        Path(temporary).write_bytes(format_csv(table, ","))
