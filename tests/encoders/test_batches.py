"""Texts are tokenised while the device works, in batches of few shapes."""

import dataclasses
import importlib
import itertools

import jax
import numpy as np
import pytest

from tsds_jax.encoders.batches import fill_batches, ladder
from tsds_jax.encoders.tokens import PORTION, Tokenised
from tsds_jax.errors import InputError

# The package's `embed` is the function.
embedding = importlib.import_module("tsds_jax.encoders.embed")
encode = embedding._encode


class Watched:
    """A tokenizer that notes how many texts it was given each time."""

    def __init__(self, tokenizer):
        self.tokenizer, self.calls = tokenizer, []

    def __call__(self, texts, *more, **how):
        self.calls.append(len(texts))
        return self.tokenizer(texts, *more, **how)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


@pytest.fixture
def watched(encoder):
    """The same encoder with such a tokenizer."""
    again = dataclasses.replace(encoder)
    vars(again)["tokenizer"] = Watched(encoder.tokenizer)
    return again


@pytest.mark.parametrize("limit", [4, 16, 24, 40, 64, 128, 510, 512, 514, 2048, 8192, 32768])
def test_a_ladder_has_at_most_six_increasing_lengths_and_ends_at_the_limit(limit):
    rungs = ladder(limit)
    assert len(rungs) <= 6
    assert rungs[-1] == limit
    assert list(rungs) == sorted(set(rungs))
    assert all(rung > 0 and rung % 8 == 0 for rung in rungs[:-1])


def test_tweets_are_padded_by_less_than_a_third():
    # Tokens of the tweets: 5 % have up to 13, half up to 33, 95 % up to 52 (bert-base-uncased's tokenizer).
    lengths = np.interp(np.linspace(0, 100, 1001), [0, 5, 25, 50, 75, 95, 99, 100], [5, 13, 25, 33, 40, 52, 60, 139])
    for limit in (128, 512):
        rungs, cut = np.array(ladder(limit)), np.minimum(lengths, limit)
        assert rungs[np.searchsorted(rungs, cut)].sum() / cut.sum() < 4 / 3


def test_texts_of_all_lengths_take_at_most_six_compilations(encoder):
    texts = ["the film " * count for count in range(1, 40)]
    jax.clear_caches()
    encoder.embed(texts)
    assert encode._cache_size() == len(ladder(64)) <= 6
    encoder.embed(texts[::-1] * 3)
    assert encode._cache_size() == len(ladder(64))


def test_every_text_is_in_one_batch_of_its_own_buckets_shape():
    lengths = np.random.default_rng(0).integers(1, 101, 500)
    ids = [np.full(length, row, np.int32) for row, length in enumerate(lengths)]
    portions = (Tokenised(ids[start : start + 64], ids[start : start + 64], 0) for start in range(0, 500, 64))
    sizes = {16: 16, 32: 8, 64: 4, 100: 2}
    batches = list(fill_batches(portions, sizes))
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(500))
    for rows, batch in batches:
        size, length = batch.input_ids.shape
        assert size == sizes[length]
        assert all(length == min(bucket for bucket in sizes if bucket >= lengths[row]) for row in rows)
        for place, row in enumerate(rows):
            assert batch.attention_mask[place].sum() == lengths[row]
            assert (batch.input_ids[place, : lengths[row]] == row).all()
        assert batch.attention_mask[len(rows) :].sum() == 0


def test_the_device_works_before_all_texts_are_tokenised(watched):
    tokenised = []
    watched.embed(["a good film"] * 10 * PORTION, progress=lambda _: tokenised.append(sum(watched.tokenizer.calls)))
    assert tokenised[1] <= 4 * PORTION
    assert tokenised[-1] == 10 * PORTION


def test_long_texts_go_to_the_tokenizer_in_smaller_portions(watched):
    watched.embed(["film " * 50_000] * 5 + ["a"] * 3)
    assert watched.tokenizer.calls == [2, 2, 4]


def test_a_batch_is_fetched_only_when_the_next_has_been_submitted(encoder, monkeypatch):
    log, numbers = [], itertools.count()

    class Vectors:
        def __init__(self, vectors):
            self.vectors, self.number = vectors, next(numbers)
            log.append(f"submitted {self.number}")

        def __array__(self, dtype=None, copy=None):
            log.append(f"fetched {self.number}")
            return np.asarray(self.vectors)

    monkeypatch.setattr(embedding, "_encode", lambda *how: Vectors(encode(*how)))
    encoder.embed(["a good film"] * 9, batch_size=3)
    assert log == ["submitted 0", "submitted 1", "fetched 0", "submitted 2", "fetched 1", "fetched 2"]


@pytest.mark.parametrize("bad", [None, " "])
def test_every_row_is_checked_before_the_first_is_tokenised(watched, bad):
    with pytest.raises(InputError, match="row 5000"):
        watched.embed(["a film"] * 5000 + [bad])
    assert watched.tokenizer.calls == []


def test_a_token_that_the_encoder_does_not_know_is_told_with_its_row_among_all(encoder):
    small = dataclasses.replace(encoder, config=dataclasses.replace(encoder.config, vocab_size=30))
    with pytest.raises(InputError, match=r"row 2500 .*vocab_size is 30"):
        small.embed(["a the"] * 2500 + ["table"] + ["a the"] * 100)


def test_the_lengths_of_all_texts_are_counted_once():
    tokens = Tokenised([np.zeros(3, np.int32), np.zeros(5, np.int32)], [], 0)
    assert tokens.lengths.tolist() == [3, 5]
    assert tokens.lengths is tokens.lengths
