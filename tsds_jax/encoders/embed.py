"""Texts into one vector each: tokenised and batched by length while the device encodes and pools."""

import dataclasses
import functools
import itertools
import math
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import number_in
from tsds_jax.encoders.batches import SHORTEST, fill_batches, ladder
from tsds_jax.encoders.cache import Counts, Entry, Since, cache_key, check_room, read_entry, write_entry
from tsds_jax.encoders.pooling import POOLINGS
from tsds_jax.encoders.precision import exact_products
from tsds_jax.encoders.structure import Structure, split_model
from tsds_jax.encoders.tokens import Batch, Texts, Tokenised, check_texts, token_limit, token_portions
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.options import plain
from tsds_jax.runtime.ahead import ahead, one_behind
from tsds_jax.runtime.files import as_path
from tsds_jax.runtime.memory import halved
from tsds_jax.runtime.processes import any_says, first_says, is_first
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.runtime.spread import Spread, over_all_devices

if TYPE_CHECKING:
    from tsds_jax.encoders.load import Encoder

# 1,024 tokens keep two cores busy, and larger batches only pad more; an accelerator wants many more.
CPU_BATCH_TOKENS = 1024
DEVICE_BATCH_TOKENS = 32768
# Batches in a section of the texts, about: each section is finished before the next, and from there a cut run goes on.
# Of larger encoders than one of so many parameters, which are slower, fewer, but enough to fill most.
SECTION, _SMALL, _LEAST = 512, 25_000_000, 32
# Characters in a token of most texts; of others a section is shorter or longer.
_CHARACTERS = 4


@dataclasses.dataclass(frozen=True)
class Representations:
    """What `embed` gives.

    Attributes:
      values: float32 [texts, width], in the order of the texts; several layers' vectors side by side. Memory-mapped
        and read-only where a cache was given.
      truncated: how many texts were cut at the length limit.
      tokens: tokens encoded, special tokens included and padding left out.
    """

    values: np.ndarray
    truncated: int
    tokens: int


def embed(
    encoder: "Encoder",
    texts: Texts,
    *,
    pooling: str | None = None,
    layer: int | Sequence[int] = -1,
    max_length: int | None = None,
    batch_size: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    progress: ProgressFn = silent,
) -> Representations:
    """Encode texts, or pairs of texts, in batches of a few fixed shapes.

    A text's vector does not depend on the other texts, nor on their order. Texts are tokenised in portions while the
    device works, so that the tokens of all of them are never held; there are at most six compilations, see `ladder`.

    Args:
      encoder: from `load_encoder`.
      texts: strings, or pairs of strings that the tokenizer joins.
      pooling: a key of `POOLINGS`: "mean" over the text's tokens, "weighted_mean", "cls", the first token, or "last";
        by default `Encoder.pooling`, as the model was trained to be read.
      layer: whose hidden state: 0 the embeddings, 1 the first layer, -1 the last. Of several, such as ``(-1, -2)``, the
        pooled vectors are set side by side.
      max_length: tokens that a longer text is cut to; by default all that the encoder can take
        (a sentence encoder's ``max_seq_length``, which may be less, is not read).
      batch_size: rows of a batch, rounded up to a multiple of the devices, those of all processes, which share them; by
        default as many as make 1,024 tokens a device (32,768 on an accelerator), and half as many where a device has no
        memory left, with a warning.
      cache: a folder, made where it does not exist, that keeps the vectors: asked again for the same texts, with the
        same encoder and options, they come from there as a read-only memory-mapped array, and nothing is computed.
        Where an earlier call was killed or interrupted, this one goes on from what it had marked as written (one
        process alone does; several begin anew).
      checkpoint_every: seconds between such marks, of which one comes at the earliest when some dozens of batches are
        done, of small encoders some hundreds.
      progress: called after each batch.

    Raises:
      InputError: an option is out of range, a row is not a text, or the cache cannot be written.

    Example:
      >>> from tsds_jax import load_encoder
      >>> encoder = load_encoder("models/minilm")
      >>> embed(encoder, ["a text", "another"]).values.shape == (2, encoder.config.hidden_size)
      True
    """
    pooling = encoder.chosen_pooling(pooling)
    layers = _layer_indices(plain(layer), encoder.config.num_hidden_layers)
    limit = token_limit(encoder.config, plain(max_length))
    if batch_size is not None:
        number_in("batch_size", batch_size, 1, math.inf)
    number_in("checkpoint_every", checkpoint_every, 0, math.inf, whole=False)
    check_texts(texts)
    # What stands in brackets behind a pandas Series is a label, and no place.
    if hasattr(texts, "iloc"):
        texts = cast("Texts", list(texts))
    how = _How(pooling, layers, limit)
    shape = len(texts), len(layers) * encoder.config.hidden_size

    def fill(values: np.ndarray, since: Since, mark: Callable[[Since], None]) -> Counts:
        return _fill(values, encoder, texts, how, batch_size, progress, since, mark)

    def filled() -> Entry:
        values = np.zeros(shape, dtype=np.float32)
        return Entry(values, fill(values, Since(0, {"truncated": 0, "tokens": 0}), lambda reached: None))

    if cache is None or len(texts) == 0:
        made = filled()
        return Representations(made.values, **made.counts)
    file = as_path(cache) / f"{cache_key(encoder.fingerprint(), texts, how._asdict())}.npy"
    entry = read_entry(file, shape)
    (missing,) = any_says(entry is None)
    if entry is None or missing:
        # Several processes share each batch, and only the first has what an earlier one wrote.
        alone = jax.process_count() == 1
        if not alone and (refused := first_says(_refusal(file, shape))):
            raise InputError(refused)  # in all of them, which else would wait for what the first never does
        entry = write_entry(file, shape, fill, checkpoint_every, go_on=alone) if is_first() else filled()
    else:
        progress(Progress("embed", len(texts), len(texts), "texts", "from the cache"))
    return Representations(entry.values, **entry.counts)


def _refusal(file: Path, shape: tuple[int, int]) -> str:
    """Why this process, if it is the one that writes, cannot write such an array there; empty where it can."""
    try:
        if is_first():
            check_room(file, shape)
    except InputError as error:
        return str(error)
    return ""


class _How(NamedTuple):
    """What of the options decides the vectors."""

    pooling: str
    layers: tuple[int, ...]
    max_length: int


def _fill(
    values: np.ndarray,
    encoder: "Encoder",
    texts: Texts,
    how: _How,
    batch_size: int | None,
    progress: ProgressFn,
    since: Since,
    mark: Callable[[Since], None],
) -> Counts:
    """Write each text's vector into its row of values; how many texts were cut, and how many tokens there were."""
    reached, done, truncated, tokens = since, 0, 0, 0
    progress(Progress("embed", since.rows, len(texts), "texts"))

    def tokenised(since: int, tokens: int) -> Iterator[tuple[int, Tokenised]]:
        for first, end in _sections(texts, since, how.max_length, tokens):
            for portion in token_portions(encoder.tokenizer, texts[first:end], how.max_length, encoder.config, first):
                yield first, portion

    def counted(portions: Iterator[tuple[int, Tokenised]]) -> Iterator[Tokenised]:
        nonlocal truncated
        for _, portion in portions:
            truncated += portion.truncated
            yield portion

    spread = over_all_devices()
    structure, weights = split_model(encoder.model)
    batches = min(SECTION, max(_LEAST, SECTION * _SMALL // encoder.parameters))
    weights = spread.replicated(weights)

    def encoded(batch: Batch) -> jax.Array:
        return _encode(structure, weights, spread.by_rows(batch), how.pooling, how.layers, spread)

    def go_on(sizes: dict[int, int]) -> None:
        nonlocal reached, done, truncated, tokens
        done, truncated, tokens = reached.rows, reached.counts.get("truncated", 0), reached.counts.get("tokens", 0)
        # Batches are filled anew in each section, so that a run that goes on after one has the batches of one that did
        # not stop.
        section = _section_tokens(sizes, batches, batch_tokens() * spread.devices)
        for first, portions in itertools.groupby(ahead(tokenised(done, section)), operator.itemgetter(0)):
            submitted = (
                (first + rows, batch, encoded(batch)) for rows, batch in fill_batches(counted(portions), sizes)
            )
            for rows, batch, vectors in one_behind(submitted):
                values[rows] = _finite(np.asarray(vectors)[: len(rows)], rows)
                tokens += int(batch.attention_mask.sum())
                done += len(rows)
                progress(Progress("embed", done, len(texts), "texts", f"{tokens:,} tokens"))
            reached = Since(done, {"truncated": truncated, "tokens": tokens})
            mark(reached)

    with_room_for_rows(go_on, batch_rows(how.max_length, batch_size, spread.devices), spread.devices)
    return reached.counts


def _section_tokens(sizes: dict[int, int], batches: int, usual: int) -> int:
    """Tokens of a section: of so many batches, so that its last ones, one of each length not full, cost little.

    A batch's are those of the longest texts that there are batches of, and no more than ``usual``: most texts are far
    shorter than the longest that an encoder takes, and until a section ends a cut run has nothing of it. Where batches
    were asked to be large it is four of each length at least.
    """
    tokens = [length * rows for length, rows in sizes.items()]
    return batches * max(tokens) if max(tokens) <= usual else max(batches * usual, 4 * sum(tokens))


def _sections(texts: Texts, since: int, limit: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Sections of the texts, first and end, from row ``since`` on, of some ``tokens`` each with padding."""
    first, so_far = since, 0.0
    for row in range(since, len(texts)):
        text = texts[row]
        characters = len(text) if isinstance(text, str) else sum(map(len, text))
        so_far += min(max(characters / _CHARACTERS, SHORTEST), limit)
        if so_far >= tokens:
            yield first, row + 1
            first, so_far = row + 1, 0.0
    if first < len(texts):
        yield first, len(texts)


def with_room_for_rows(compute: Callable[[dict[int, int]], None], sizes: dict[int, int], devices: int) -> None:
    """``compute(sizes)`` with batches of these sizes, or again with half as many rows while a device's memory is full.

    Args:
      compute: what goes through batches; the sizes are for `fill_batches`.
      sizes: from `batch_rows`.
      devices: that share them.

    Raises:
      TsdsError: see `halved`.
    """
    while True:
        try:
            return compute(sizes)
        except jax.errors.JaxRuntimeError as error:
            halved(error, max(sizes.values()) // devices, "rows", "a lower max_length")
            sizes = {length: -(-rows // (2 * devices)) * devices for length, rows in sizes.items()}


def batch_rows(limit: int, batch_size: int | None, devices: int) -> dict[int, int]:
    """The rows of a batch of each length of the ladder, a multiple of the devices: for `fill_batches`."""
    if batch_size is not None:
        return dict.fromkeys(ladder(limit), -(-batch_size // devices) * devices)
    return {length: max(1, batch_tokens() // length) * devices for length in ladder(limit)}


def _finite(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise TsdsError(f"the encoder gives a NaN or an infinity for row {rows[bad].min()}; check its weights")
    return vectors


def batch_tokens() -> int:
    """Tokens of a batch, padding included, that suit the device in use."""
    return CPU_BATCH_TOKENS if jax.default_backend() == "cpu" else DEVICE_BATCH_TOKENS


@functools.partial(jax.jit, static_argnames=("structure", "pooling", "layers", "spread"))
def _encode(
    structure: Structure, weights: list[jax.Array], batch: Batch, pooling: str, layers: tuple[int, ...], spread: Spread
) -> jax.Array:
    with exact_products(weights):
        # The layers above those asked for are never computed: their results are not used.
        hidden = structure.merge(weights).hidden_states(*batch)
        states = [hidden[layer].astype(jnp.float32) for layer in layers]
        return spread.joined(jnp.concatenate([POOLINGS[pooling](one, batch.attention_mask) for one in states], 1))


def _layer_indices(layer: int | Sequence[int], layers: int) -> tuple[int, ...]:
    wanted = tuple(layer) if isinstance(layer, Sequence) else (layer,)
    for one in wanted:
        if isinstance(one, bool) or not isinstance(one, int) or not -layers - 1 <= one <= layers:
            raise InputError(
                f"layer must be a whole number from {-layers - 1} to {layers} (0: the embeddings, -1: the last), "
                f"or several, not {layer!r:.60}"
            )
    if not wanted:
        raise InputError("layer names no layer; give one, or several")
    return tuple(one % (layers + 1) for one in wanted)
