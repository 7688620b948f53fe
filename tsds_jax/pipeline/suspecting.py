"""Which labels to look at again: of any labelled texts, without values or validation rows."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tsds_jax.data import TextData, load_data
from tsds_jax.data.csvtext import format_csv
from tsds_jax.encoders import Encoder, load_encoder
from tsds_jax.errors import InputError
from tsds_jax.finetuning import check_fits, checked_options
from tsds_jax.options import SUSPECTED, FineTuneOptions, SelectOptions, select_options
from tsds_jax.pipeline.checks import (
    check_cache,
    check_classes,
    check_for_comparison,
    check_representation,
    check_representing,
    check_select_options,
    judged_apart,
    pooled_by,
)
from tsds_jax.pipeline.representing import represent
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
    options: SelectOptions | None = None,
    finetuning: FineTuneOptions | None = None,
    cache: str | os.PathLike | None = None,
    progress: ProgressFn = silent,
    **changes: Any,
) -> DoubtedLabels:
    """Labels that a classifier on the model's representations doubts, of rows that it was not fitted to.

    That is `suspected_labels` of the mean-pooled (or as the model says) token vectors in their first principal
    components: what `select` lists too, here of all rows, for no row is set apart to judge others. Copies of a text, or
    rows of one group, do not judge each other. With ``represent_by="fine_tuned"`` the model passes over the rows and
    their labels once before: that takes as long as to fine-tune it, and more wrong labels are found.

    Args:
      data: as ``train`` of `select`.
      model: folder, cached or hub name of a language model, or a loaded `Encoder`.
      text: see `select`.
      label: see `select`.
      options: how to represent and doubt; None takes the defaults.
      finetuning: how the model passes over the rows, where it does; its epochs and steps have no use here.
      cache: see `select`.
      progress: called while the model passes over the rows, and while they are embedded.
      **changes: over ``options``, of `SelectOptions` ``pooling``, ``layer``, ``max_length``, ``represent_by``, ``pca``,
        ``C``, ``group`` and ``seed``.

    Raises:
      InputError: something given cannot be used.

    Example:
      >>> doubted = suspects("train.csv", model="models/minilm")
      >>> len(doubted.rows) == len(doubted.suggested)
      True
    """
    settings = select_options(options, changes, SUSPECTED, "suspects")
    check_select_options(settings)
    if settings.represent_by == "cross_fitted":
        raise InputError("represent_by 'cross_fitted' takes validation rows: use 'fine_tuned' here, or tsds select")
    finetuning = finetuning or FineTuneOptions(seed=settings.seed)
    check_for_comparison(finetuning)
    finetuning = checked_options(finetuning)
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
    if settings.represent_by != "pretrained":
        check_fits(finetuning, encoder)
    check_representing(settings, encoder, finetuning)
    nobody = rows.select(np.zeros(0, np.int64))
    found = represent(rows, nobody, encoder, settings, finetuning, cache, progress)
    doubted = suspected_labels(found["train"], rows.labels, C=settings.C, seed=settings.seed, units=units)
    return DoubtedLabels(rows, doubted, int(found["truncated"]))


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
