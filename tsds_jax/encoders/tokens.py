"""Texts into token ids, and ids into padded arrays."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tsds_jax.encoders.families import Config
from tsds_jax.errors import InputError

Texts = Sequence[str] | Sequence[tuple[str, str]]

# Texts go to the tokenizer in portions, since its answer for a text takes far more room than the ids: so many texts, or
# fewer where they are long.
PORTION = 1024
_PORTION_CHARACTERS = 1 << 18


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """Texts as token ids.

    Attributes:
      ids: one int32 array [tokens] a text, special tokens included.
      types: the segment of each token, in the same shape.
      truncated: how many texts were cut at the length limit.
    """

    ids: list[np.ndarray]
    types: list[np.ndarray]
    truncated: int

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """[texts], tokens of each."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)


class Batch(NamedTuple):
    """What an encoder takes, padded on the right: three int32 arrays [rows, tokens]."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray


def token_limit(config: Config, max_length: int | None) -> int:
    """The most tokens of a text: max_length, or what the encoder can take.

    Raises:
      InputError: max_length is not a whole number from 4 to what the encoder can take.
    """
    if max_length is None:
        return config.max_tokens
    if isinstance(max_length, bool) or not isinstance(max_length, int) or not 4 <= max_length <= config.max_tokens:
        raise InputError(
            f"max_length must be a whole number from 4 to {config.max_tokens}, the encoder's limit; "
            f"it is {max_length!r:.60}"
        )
    return max_length


def tokenise(tokenizer: Any, texts: Texts, limit: int, config: Config) -> Tokenised:
    """Token ids of texts or of pairs of texts, cut to `limit` tokens.

    Raises:
      InputError: a row is not a string (or a pair of them, as the first row is), or the tokenizer gives
        a token or a segment that the encoder does not know.
    """
    check_texts(texts)
    portions = list(token_portions(tokenizer, texts, limit, config))
    return Tokenised(
        [ids for portion in portions for ids in portion.ids],
        [types for portion in portions for types in portion.types],
        sum(portion.truncated for portion in portions),
    )


def token_portions(tokenizer: Any, texts: Texts, limit: int, config: Config, first: int = 0) -> Iterator[Tokenised]:
    """The same a portion at a time, in the order of the texts, which `check_texts` has passed.

    Raises:
      InputError: the tokenizer gives a token or a segment that the encoder does not know; the row is counted over all
        texts, of which these begin with number ``first``.
    """
    for portion in _portions(texts):
        columns = (
            [list(portion)] if isinstance(portion[0], str) else [list(side) for side in zip(*portion, strict=True)]
        )
        # One that adds no token of its own stops reading at the limit and says nothing of what it leaves: it is asked
        # for one more.
        more = len(columns) == 1 and tokenizer.num_special_tokens_to_add(pair=False) == 0
        encoded = tokenizer(
            *columns,
            truncation=True,
            max_length=limit + more,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        if encoded.encodings is None:
            raise InputError("the tokenizer is not a fast one; save a tokenizer.json in the model's folder")
        ids = [np.array(row, dtype=np.int32) for row in encoded["input_ids"]]
        types = [np.array(row, dtype=np.int32) for row in encoded["token_type_ids"]]
        for kind, arrays, name in (("token", ids, "vocab_size"), ("segment", types, "type_vocab_size")):
            _check_ids(arrays, first, kind, name, getattr(config, name))
        cut = sum(bool(encoding.overflowing) for encoding in encoded.encodings)
        if more:
            cut = sum(len(row) > limit for row in ids)
            kept = slice(-limit, None) if tokenizer.truncation_side == "left" else slice(limit)
            ids, types = ([row[kept] for row in rows] for rows in (ids, types))
        yield Tokenised(ids, types, cut)
        first += len(portion)


def _portions(texts: Texts) -> Iterator[list[Any]]:
    portion: list[Any] = []
    characters = 0
    for text in texts:
        portion.append(text)
        characters += len(text) if isinstance(text, str) else sum(map(len, text))
        if len(portion) == PORTION or characters >= _PORTION_CHARACTERS:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion


def _check_ids(arrays: list[np.ndarray], first: int, kind: str, name: str, known: int) -> None:
    """Refuse ids that the encoder has no vector for; without a table of segments they are ignored."""
    for row, array in enumerate(arrays, first):
        if known and array.size and array.max() >= known:
            raise InputError(
                f"the tokenizer does not fit the encoder: row {row} has the {kind} id {array.max()}, "
                f"and the encoder's {name} is {known}"
            )


def check_texts(texts: Texts) -> None:
    """Refuse the first row that is no text, or no pair of texts where the first row is no text, or that is empty."""
    if isinstance(texts, str):
        raise InputError("texts must be a list of texts, not one text; put it in a list")
    # What a table or a dictionary gives one after another are the names of its columns.
    if isinstance(texts, Mapping) or hasattr(texts, "columns"):
        raise InputError("texts must be a list of texts, or of pairs, not a table; give a column, or two zipped")
    pairs = len(texts) > 0 and not isinstance(next(iter(texts)), str)
    for row, text in enumerate(texts):
        if pairs:
            good = isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(side, str) for side in text)
        else:
            good = isinstance(text, str)
        if not good:
            wanted = "a pair of texts" if pairs else "a text"
            raise InputError(f"row {row} is not {wanted} but {text!r:.60}; drop it or fill it in")
        sides = list(text) if pairs else [str(text)]
        if not any(side.strip() for side in sides):
            raise InputError(f"row {row} is empty; drop it or fill it in")
        try:
            "".join(sides).encode()
        except UnicodeEncodeError:
            raise InputError(f"row {row} holds half of a surrogate pair, which is no character; remove it") from None


def pad(tokenised: Tokenised, rows: Sequence[int] | np.ndarray, length: int, size: int) -> Batch:
    """The given texts as one batch [size, length]; rows that are not filled are padding alone."""
    batch = Batch(*(np.zeros((size, length), dtype=np.int32) for _ in range(3)))
    for place, row in enumerate(rows):
        tokens = len(tokenised.ids[row])
        batch.input_ids[place, :tokens] = tokenised.ids[row]
        batch.attention_mask[place, :tokens] = 1
        batch.token_type_ids[place, :tokens] = tokenised.types[row]
    return batch
