import dataclasses
import json

import numpy as np
import pandas
import pytest

from tsds_jax.encoders import POOLINGS, embed, load_encoder
from tsds_jax.encoders.tokens import tokenise
from tsds_jax.errors import InputError, TsdsError

TEXTS = [
    "a good film",
    "the plot was slow and the actors were not so good, but the music was very fine",
    "a",
    "boring.",
    "the dog and the cat " * 5,
    "lovely",
] + [f"the film is {word} and {other}" for word in ("good", "bad") for other in ("warm", "cold", "unfunny")]


def by_hand(encoder, text, layer=-1, pooling="mean"):
    """One text without padding: its ids straight through the model."""
    columns = [[side] for side in text] if isinstance(text, tuple) else [[text]]
    tokens = encoder.tokenizer(*columns, return_token_type_ids=True, return_tensors="np")
    hidden = np.asarray(encoder.hidden_states(tokens["input_ids"], None, tokens["token_type_ids"])[layer][0])
    weights = np.arange(1, len(hidden) + 1)[:, None]
    return {
        "mean": hidden.mean(axis=0),
        "weighted_mean": (weights * hidden).sum(axis=0) / weights.sum(),
        "cls": hidden[0],
        "last": hidden[-1],
    }[pooling]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("layer", [0, 1, 2, -1, -2, -3])
def test_a_vector_is_the_pooled_hidden_state_of_its_layer(encoder, layer, pooling):
    values = encoder.embed(TEXTS, layer=layer, pooling=pooling)
    assert values.dtype == np.float32
    expected = np.stack([by_hand(encoder, text, layer, pooling) for text in TEXTS])
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_several_layers_are_set_side_by_side(encoder):
    both = encoder.embed(TEXTS, layer=(-1, 0))
    np.testing.assert_allclose(both, np.hstack([encoder.embed(TEXTS), encoder.embed(TEXTS, layer=0)]), atol=1e-6)


def test_rows_of_a_table_that_begin_at_any_number_are_texts(encoder):
    texts = ["a good film", "bad", "the plot was slow"]
    some = pandas.Series(texts, index=[7.5, 3.0, 1.0])
    np.testing.assert_array_equal(encoder.embed(some), encoder.embed(texts))


def test_pairs_go_in_as_two_segments(encoder):
    pairs = [("a good film", "the plot"), ("bad", "a dull scene with no music"), ("", "a")]
    expected = np.stack([by_hand(encoder, pair) for pair in pairs])
    np.testing.assert_allclose(encoder.embed(pairs), expected, atol=1e-5)
    assert np.abs(encoder.embed(pairs) - encoder.embed([" ".join(pair) for pair in pairs])).max() > 1e-3


def test_a_vector_depends_neither_on_the_other_texts_nor_on_their_order(encoder):
    together = encoder.embed(TEXTS)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    np.testing.assert_array_equal(encoder.embed([TEXTS[i] for i in order]), together[order])
    alone = np.concatenate([encoder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_changes_no_vector(encoder, batch_size):
    np.testing.assert_allclose(encoder.embed(TEXTS, batch_size=batch_size), encoder.embed(TEXTS), atol=1e-5)


def test_long_texts_are_cut_and_counted(encoder):
    result = embed(encoder, ["a good film " * 30, "a good film"], max_length=8)
    assert result.truncated == 1
    assert result.tokens == 8 + 5
    np.testing.assert_allclose(result.values[0], by_hand(encoder, "a good film a good film"), atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_cut_texts_are_counted_where_the_tokenizer_adds_no_token_of_its_own(folder, side):
    written = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(written | {"post_processor": None}), "utf-8")
    encoder = load_encoder(folder)
    encoder.tokenizer.truncation_side = side
    texts = ["a good film " * 30, "a good film", "the plot was slow and dull a"]
    cut, whole = (tokenise(encoder.tokenizer, texts, limit, encoder.config) for limit in (7, 128))
    assert [len(ids) for ids in whole.ids] == [90, 3, 7]
    assert (cut.truncated, whole.truncated) == (1, 0)
    np.testing.assert_array_equal(cut.ids[0], whole.ids[0][:7] if side == "right" else whole.ids[0][-7:])
    assert [list(ids) for ids in cut.ids[1:]] == [list(ids) for ids in whole.ids[1:]]


def test_the_encoders_own_limit_is_the_default(encoder):
    result = embed(encoder, ["film " * 62, "film " * 63])
    assert result.truncated == 1
    assert result.tokens == 128


def test_no_text_gives_no_row(encoder):
    assert encoder.embed([]).shape == (0, 32)


def test_progress_goes_up_to_the_number_of_texts(encoder):
    events = []
    found = embed(encoder, TEXTS, batch_size=2, progress=events.append)
    assert events[-1].detail == f"{found.tokens} tokens"
    done = [event.done for event in events]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, len(TEXTS))
    assert {(event.stage, event.total, event.unit) for event in events} == {("embed", len(TEXTS), "texts")}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a", None], ["row 1", "None"]),
        ([("a", "b"), "c"], ["row 1", "pair", "'c'"]),
        ([("a", "b"), ("a", None)], ["row 1", "pair"]),
        (["a", ("a", "b")], ["row 1"]),
        ("one text", ["list"]),
        (["a", " \n"], ["row 1", "empty"]),
        ([("a", ""), ("", "")], ["row 1", "empty"]),
    ],
)
def test_the_first_row_that_is_no_text_is_named(encoder, texts, words):
    with pytest.raises(InputError) as caught:
        encoder.embed(texts)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "sum"}, ["'sum'", "cls, mean, weighted_mean, last"]),
        ({"layer": 3}, ["layer", "-3", "2"]),
        ({"layer": -4}, ["layer", "-4"]),
        ({"layer": (0, 3)}, ["layer", "(0, 3)"]),
        ({"layer": ()}, ["layer", "no layer"]),
        ({"max_length": 65}, ["max_length", "64", "65"]),
        ({"max_length": 2}, ["max_length", "2"]),
        ({"batch_size": 0}, ["batch_size", "0"]),
    ],
)
def test_an_option_out_of_range_is_named(encoder, options, words):
    with pytest.raises(InputError) as caught:
        encoder.embed(["a"], **options)
    assert all(word in str(caught.value) for word in words)


def test_an_option_that_there_is_none_of_is_a_type_error(encoder):
    with pytest.raises(TypeError, match="batchsize"):
        encoder.embed(["a"], batchsize=2)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(encoder):
    with pytest.raises(InputError, match=r"row 1 .*vocab_size is 30"):
        tokenise(encoder.tokenizer, ["a the", "table"], 16, dataclasses.replace(encoder.config, vocab_size=30))


def test_a_tokenizer_of_more_segments_is_refused_and_where_there_are_none_they_are_ignored(encoder):
    one, none = (dataclasses.replace(encoder.config, type_vocab_size=count) for count in (1, 0))
    with pytest.raises(InputError, match=r"row 0 has the segment id 1.*type_vocab_size is 1"):
        tokenise(encoder.tokenizer, [("a", "the")], 16, one)
    assert len(tokenise(encoder.tokenizer, [("a", "the")], 16, none).ids) == 1


def test_weights_that_give_nan_are_reported_with_the_row(folder):
    from safetensors.numpy import load_file, save_file

    from tsds_jax.encoders import load_encoder

    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][0] = np.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(TsdsError, match="row 0"):
        load_encoder(folder).embed(["a"])
