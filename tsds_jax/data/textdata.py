"""Texts, their labels and the rows they came from: what every stage after reading works with."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from datasets import Dataset

from tsds_jax.data.messages import counted

Format = Literal["csv", "tsv", "jsonl", "parquet", "dataset"]
# What is learned from labels: one class a row, any number of them, or a number.
Task = Literal["classification", "multi_label", "regression"]
Text = str | tuple[str, str]


@dataclass(frozen=True, eq=False)
class TextData:
    """Labelled texts with all columns of their source, so that kept rows can be written back as they came.

    Attributes:
      rows: every column of every row, in the source's order and types.
      texts: one string a row, or one (first, second) tuple a row for sentence pairs.
      labels: int32 [rows], positions in `classes`; bool [rows, classes], where a row may have any number of them; or,
        without classes, float32 [rows], numbers to be predicted.
      classes: the class names; none where the labels are numbers.
      text_columns: the one or two columns that the texts came from.
      label_column: the column that the labels came from.
      source: the file, folder or hub name, as messages and manifests name it.
      format: what `write_rows` writes: "csv", "tsv", "jsonl", "parquet" or "dataset" (`save_to_disk`).
      origin: int64 [rows], the row of the source that each row was, from 0; 0 .. rows - 1 if not given. Selections
        keep it, so that a row can be found again in the source.

    Example:
      >>> rows = Dataset.from_dict({"text": ["good", "bad", "dire"], "label": ["pos", "neg", "neg"]})
      >>> labels = np.array([1, 0, 0], np.int32)
      >>> data = TextData(rows, rows["text"][:], labels, ("neg", "pos"), ("text",), "label")
      >>> data.select([0, 2]).label_names, data.class_counts
      (['pos', 'neg'], {'neg': 2, 'pos': 1})
    """

    rows: Dataset
    texts: Sequence[str] | Sequence[tuple[str, str]]
    labels: np.ndarray
    classes: tuple[str, ...]
    text_columns: tuple[str, ...]
    label_column: str
    source: str = "memory"
    format: Format = "dataset"
    origin: np.ndarray = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self):
        """Refuse parts of different lengths: every later index would point at the wrong row."""
        if not len(self.rows) == len(self.texts) == len(self.labels):
            raise ValueError(f"{len(self.rows)} rows, {len(self.texts)} texts and {len(self.labels)} labels")
        origin = np.arange(len(self.rows)) if self.origin is None else self.origin
        if len(origin) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows and {len(origin)} places in the source")
        object.__setattr__(self, "origin", np.asarray(origin, np.int64))

    def __repr__(self) -> str:
        """In a line, for a notebook."""
        counts = self.class_counts
        classes = "numbers" if not counts else f"{len(counts)} classes" if len(counts) > 10 else str(counts)
        return f"TextData({len(self)} rows of {self.source!r}, {classes})"

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.texts)

    @property
    def task(self) -> Task:
        """What is learned from the labels."""
        if not self.classes:
            return "regression"
        return "multi_label" if self.labels.ndim == 2 else "classification"

    @property
    def label_names(self) -> list[str]:
        """The class name of every row, several joined by `|`, or its number in words."""
        if self.task == "regression":
            return [repr(float(label)) for label in self.labels]
        if self.task == "multi_label":
            return ["|".join(itertools.compress(self.classes, row)) for row in self.labels.tolist()]
        return [self.classes[label] for label in self.labels.tolist()]

    @property
    def class_counts(self) -> dict[str, int]:
        """Rows of each class, in the order of `classes`; a class without rows counts 0."""
        if not self.classes:
            return {}
        several = self.task == "multi_label"
        counts = self.labels.sum(0) if several else np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def select(self, indices: Sequence[int] | np.ndarray) -> "TextData":
        """The rows at these positions, in this order. `classes` stays as it is.

        Raises:
          IndexError: a position outside 0 .. rows - 1, or a boolean mask (use `np.flatnonzero(mask)`).
        """
        at = np.asarray(indices, dtype=np.int64 if len(indices) == 0 else None)
        if at.ndim != 1 or at.dtype.kind not in "iu":
            raise IndexError(f"row positions are whole numbers in one dimension, not {at.dtype} {at.shape}")
        if at.size and (at.min() < 0 or at.max() >= len(self)):
            raise IndexError(f"row positions go from 0 to {len(self) - 1}, got {at.min()} to {at.max()}")
        return replace(
            self,
            rows=self.rows.select(at.astype(np.int64), keep_in_memory=True),
            texts=[self.texts[place] for place in at.tolist()],
            labels=self.labels[at],
            origin=self.origin[at],
        )

    def fingerprint(self) -> str:
        """SHA-256 (hex) over texts, labels and classes: the same for the same data in any format."""
        flat = [part for text in self.texts for part in ((text,) if isinstance(text, str) else text)]
        encoded = [part.encode("utf-8", "surrogatepass") for part in flat]
        digest = hashlib.sha256()
        # The lengths keep ("ab", "c") apart from ("a", "bc").
        head = [list(self.classes), len(self), len(flat)]
        digest.update(json.dumps(head).encode())
        digest.update(np.array([len(part) for part in encoded], "<i8").tobytes())
        digest.update(b"".join(encoded))
        digest.update(np.asarray(self.labels).astype("<i4" if self.classes else "<f4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Splits:
    """Training, validation and (if there is one) test data over the same classes.

    Attributes:
      train: what is valued, selected from and fine-tuned on.
      validation: what coalitions are scored on.
      test: what the fine-tuned models are compared on, or None.
      overlap: ("train", "validation") -> rows of the first whose text also stands in the second, for the
        pairs of splits where there are any. Texts are compared without regard to case and whitespace. The
        counts are those before `load_splits(..., drop_overlap=True)` drops the rows.
      set_apart: whether the validation rows were drawn from the training rows.
      left_out: whether rows with such texts were dropped, of the first of the two.
    """

    train: TextData
    validation: TextData
    test: TextData | None = None
    overlap: dict[tuple[str, str], int] = field(default_factory=dict)
    set_apart: bool = False
    left_out: bool = False

    def shared_texts(self) -> list[str]:
        """A sentence on each pair of splits with texts in common."""
        found = []
        for (one, other), count in self.overlap.items():
            stand, were = ("stands", "was") if count == 1 else ("stand", "were")
            end = f", and {were} left out" if self.left_out else ""
            found.append(f"{counted(count, f'{one} text')} also {stand} in the {other} rows{end}")
        return found
