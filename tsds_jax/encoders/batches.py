"""Texts into batches of at most six shapes, while the next texts are still being tokenised."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from tsds_jax.encoders.tokens import Batch, Tokenised, pad

# Each length is one compilation.
RUNGS = 6
# No text is padded to fewer tokens.
SHORTEST = 24
# Above 1: finer among short lengths, where most texts are, than a geometric ladder.
_BEND = 1.2
# Accelerators multiply matrices in tiles of this many rows.
_MULTIPLE = 8


class Filled(NamedTuple):
    """Texts of one length bucket as one batch.

    Attributes:
      rows: [up to the batch's rows], which texts; the batch's further rows are padding alone.
      batch: the padded arrays [rows, tokens].
    """

    rows: np.ndarray
    batch: Batch


def ladder(limit: int) -> tuple[int, ...]:
    """The lengths that texts are padded to: at most six, decided by the most tokens of a text alone.

    ``24 (limit / 24)^((k / 5)^1.2)`` for k = 0 .. 5, rounded to multiples of 8, the last being the limit itself.

    Example:
      >>> ladder(128), ladder(512)
      ((24, 32, 40, 56, 88, 128), (24, 40, 64, 128, 248, 512))
    """
    steps = (np.arange(RUNGS) / (RUNGS - 1)) ** _BEND
    rungs = np.rint(SHORTEST * (limit / SHORTEST) ** steps / _MULTIPLE).astype(int) * _MULTIPLE
    return (*sorted({rung for rung in rungs[:-1].tolist() if 0 < rung < limit}), limit)


def fill_batches(portions: Iterable[Tokenised], sizes: Mapping[int, int]) -> Iterator[Filled]:
    """Batches of texts of like length, each as soon as it is full, and at the end those that are not.

    A text's bucket, and so the shape of its batch, follows from its own length, never from the other texts.

    Args:
      portions: the texts, in order.
      sizes: a bucket's length -> the rows of its batches.
    """
    lengths = sorted(sizes)
    queues: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {length: [] for length in lengths}

    def emptied(length: int) -> Filled:
        rows, ids, types = zip(*queues[length], strict=True)
        queues[length].clear()
        tokens = Tokenised(list(ids), list(types), 0)
        return Filled(np.array(rows), pad(tokens, range(len(rows)), length, sizes[length]))

    row = 0
    for portion in portions:
        for ids, types in zip(portion.ids, portion.types, strict=True):
            length = lengths[bisect_left(lengths, len(ids))]
            queues[length].append((row, ids, types))
            row += 1
            if len(queues[length]) == sizes[length]:
                yield emptied(length)
    for length in reversed(lengths):
        if queues[length]:
            yield emptied(length)
