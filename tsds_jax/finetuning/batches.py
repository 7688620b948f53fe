"""Which rows a gradient step is made of, and in which shape they go to the device."""

import itertools
from collections.abc import Iterator

import numpy as np

from tsds_jax.encoders.tokens import Batch, Tokenised, pad

# The most batches whose rows are sorted by length together.
STRETCH = 16
# A length counts as up to this much longer there: sorted exactly, few rows would make the same batches every epoch.
ROUGHNESS = 1.1
# Finer than for embedding, as a step costs three times as much and a batch is as long as its longest text.
TRAINING_LADDER = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def draw_batches(lengths: np.ndarray, batch_size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """The rows of each step: one shuffle after another, cut into full batches of texts of like length.

    The shuffles are one stream, so at the end every row was used as often as any other, give or take one. Each stretch
    of it, of at most 16 batches and within one shuffle, is roughly sorted by length before it is cut, and its batches
    come in random order: a batch is as long as its longest text, and of random tweets two fifths would be padding. A
    batch that one shuffle ends and the next begins is not sorted, and takes from the next those rows that it lacks.
    So no batch repeats a row if there are `batch_size` rows; if there are fewer, it repeats all alike, give or take
    one.

    Args:
      lengths: tokens of each row, ``[rows]``.
      batch_size: rows of a step.
      steps: batches to draw.
      seed: decides them.
    """
    rows, left = len(lengths), steps
    begun = np.empty(0, dtype=np.int64)  # what the last shuffle left over, for a batch across two of them
    for epoch in itertools.count():
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(rows)
        if len(begun) or batch_size > rows:
            begun = np.concatenate([begun, np.tile(np.arange(rows), (batch_size - len(begun)) // rows)])
            rarest_first = order[np.argsort(np.bincount(begun, minlength=rows)[order], kind="stable")]
            taken = rarest_first[: batch_size - len(begun)]
            yield np.concatenate([begun, taken])
            left -= 1
            # The rest stays shuffled: by rarity, the same rows would be left over again and again.
            order = order[~np.isin(order, taken)]
        full = min(len(order) // batch_size, left)
        for stretch in np.array_split(order[: full * batch_size].reshape(full, batch_size), -(-full // STRETCH) or 1):
            members = stretch.ravel()
            rough = lengths[members] * generator.uniform(1.0, ROUGHNESS, members.size)
            yield from generator.permutation(members[np.argsort(rough)].reshape(stretch.shape))
        left -= full
        if left == 0:
            return
        begun = order[full * batch_size :]


def training_batch(
    tokens: Tokenised, rows: np.ndarray, limit: int, parts: int, multiple: int
) -> tuple[Batch, np.ndarray]:
    """The rows of a step, padded to a length of the ladder and cut into parts.

    Args:
      tokens: of all rows.
      rows: those of the step.
      limit: the most tokens of a text.
      parts: how many parts, ``accumulate``.
      multiple: of which the rows of a part must be, the number of devices.

    Returns:
      Arrays [parts, rows of a part, tokens], and the place in ``rows`` of each of their rows, -1 for one of padding
      alone: int64 [parts, rows of a part].
    """
    longest = max(len(tokens.ids[row]) for row in rows)
    length = next(length for length in lengths_up_to(limit) if length >= longest)
    unit = parts * multiple
    size = -(-len(rows) // unit) * unit
    places = np.full(size, -1)
    places[: len(rows)] = np.arange(len(rows))
    padded = pad(tokens, rows, length, size)
    return Batch(*(array.reshape(parts, -1, length) for array in padded)), places.reshape(parts, -1)


def lengths_up_to(limit: int) -> list[int]:
    """The lengths that batches are padded to: the ladder below the limit, then the limit itself.

    A ladder that ends below the limit goes on by doubling.
    """
    rungs = list(TRAINING_LADDER)
    while rungs[-1] < limit:
        rungs.append(rungs[-1] * 2)
    return [rung for rung in rungs if rung < limit] + [limit]
