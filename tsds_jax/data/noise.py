"""Labels made wrong on purpose, so that a method can be asked to find them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tsds_jax.arrays import one_of
from tsds_jax.data.columns import arrow_table, stored_labels
from tsds_jax.data.reading import dataset_of
from tsds_jax.data.textdata import TextData
from tsds_jax.errors import InputError

NOISES = ("uniform", "class_dependent")


def flip_labels(data: TextData, share: float, seed: int, noise: str = "uniform") -> tuple[TextData, np.ndarray]:
    """Give a random `share` of the rows another class.

    Args:
      data: at least two classes.
      share: from 0 to 1; round(share * rows) labels are flipped.
      seed: of the choice of rows and of their new classes.
      noise: "uniform", each other class being equally likely; or "class_dependent": classes stand in a random circle,
        each is mistaken only for the next, and of two neighbours the second half as often as the first.

    Returns:
      The data with `labels` and the label column of `rows` changed alike, and a bool [rows] that is True
      where the label was flipped.

    Raises:
      InputError: `share` outside 0 to 1, an unknown noise, or fewer than two classes.
    """
    one_of("noise", noise, NOISES)
    if not 0 <= share <= 1:
        raise InputError(f"share is {share}; the share of labels to flip lies between 0 and 1")
    if len(data.classes) < 2:
        raise InputError(f"{data.source}: labels of one class cannot be flipped; give data of two classes")
    generator = np.random.default_rng(seed)
    flipped = np.zeros(len(data), bool)
    classes = len(data.classes)
    if noise == "uniform":
        flipped[generator.choice(len(data), round(share * len(data)), replace=False)] = True
        # A step of 1 .. classes - 1 around the circle of classes never ends where it began.
        steps = generator.integers(1, classes, size=len(data))
        labels = np.where(flipped, (data.labels + steps) % classes, data.labels).astype(np.int32)
    else:
        circle = generator.permutation(classes)
        place = np.argsort(circle)[data.labels]
        weight = np.where(place % 2 == 0, 1.0, 0.5)
        rows = generator.choice(len(data), round(share * len(data)), replace=False, p=weight / weight.sum())
        flipped[rows] = True
        labels = np.where(flipped, circle[(place + 1) % classes], data.labels).astype(np.int32)
    return _relabel(data, labels, flipped, f"flip-{noise}-{share}-{seed}"), flipped


def _relabel(data: TextData, labels: np.ndarray, changed: np.ndarray, mark: str) -> TextData:
    table: pa.Table = arrow_table(data.rows)
    place = table.column_names.index(data.label_column)
    field = table.schema.field(place)
    names = [data.classes[label] for label in labels]
    values = stored_labels(names, data.rows.features[data.label_column], field.type)
    # The unchanged rows keep the value they had, such as 1.0 for the class "1".
    mixed = pc.if_else(pa.array(changed), values, table[place].combine_chunks())
    rows = dataset_of(table.set_column(place, field, mixed), f"{data.rows._fingerprint} {mark}".encode(), data.source)
    return replace(data, rows=rows, labels=labels)
