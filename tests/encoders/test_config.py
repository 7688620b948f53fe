import dataclasses
import json

import pytest

from tsds_jax.encoders import EncoderConfig, config_from_dict, read_config
from tsds_jax.errors import InputError

BERT = {"model_type": "bert"}


def test_a_bert_config_with_nothing_else_is_bert_base():
    config = EncoderConfig.from_dict(BERT)
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (768, 12, 30522)
    assert config.layer_norm_eps == 1e-12
    assert config.hidden_act == "gelu"


def test_values_of_the_file_win_over_the_defaults(folder):
    values = json.loads((folder / "config.json").read_text())
    values |= {"layer_norm_eps": 1e-5, "hidden_dropout_prob": 0.25, "attention_probs_dropout_prob": 0}
    (folder / "config.json").write_text(json.dumps(values))
    config = read_config(folder)
    assert (config.hidden_size, config.num_hidden_layers, config.max_tokens) == (32, 2, 64)
    assert (config.layer_norm_eps, config.hidden_dropout_prob) == (1e-5, 0.25)
    assert config.attention_probs_dropout_prob == 0


def test_a_config_is_hashable_so_that_it_can_be_static_under_jit():
    config = EncoderConfig.from_dict(BERT)
    assert hash(config) == hash(dataclasses.replace(config))


def test_each_family_has_its_own_names_and_defaults():
    distilbert = EncoderConfig.from_dict({"model_type": "distilbert", "n_layers": 3, "dim": 24, "n_heads": 2})
    assert (distilbert.num_hidden_layers, distilbert.hidden_size, distilbert.type_vocab_size) == (3, 24, 0)
    assert distilbert.max_tokens == 512
    roberta = EncoderConfig.from_dict({"model_type": "roberta", "max_position_embeddings": 514})
    assert (roberta.max_tokens, roberta.pad_token_id) == (512, 1)
    assert EncoderConfig.from_dict({"model_type": "bert", "pad_token_id": None}).pad_token_id == 0
    electra = EncoderConfig.from_dict({"model_type": "electra"})
    assert (electra.embedding_size, electra.hidden_size) == (128, 256)
    assert EncoderConfig.from_dict({"model_type": "electra", "embedding_size": 256}).embedding_size is None


def test_of_two_names_for_a_size_of_a_distilbert_the_common_one_counts_as_in_transformers():
    own = {"dim": 48, "n_heads": 12, "n_layers": 6}
    common = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 3}
    expected = config_from_dict({"model_type": "distilbert", "dim": 24, "n_heads": 2, "n_layers": 3})
    for values in (common, own | common, common | own):
        assert config_from_dict({"model_type": "distilbert", **values}) == expected
    # And no other: transformers knows that size by one name.
    assert config_from_dict({"model_type": "distilbert", "intermediate_size": 7}).intermediate_size == 3072


def test_a_distilbert_has_no_segments_and_one_epsilon_whatever_a_file_of_bert_has_left_in_its_config():
    left = {"type_vocab_size": 2, "layer_norm_eps": 1e-5}
    assert config_from_dict({"model_type": "distilbert", **left}) == config_from_dict({"model_type": "distilbert"})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "t5"}, ["t5", "supported: bert, roberta"]),
        ({}, ["None", "supported: bert"]),
        (BERT | {"hidden_act": "swiglu"}, ["hidden_act", "swiglu", "gelu"]),
        (
            BERT | {"position_embedding_type": "relative_key"},
            ["position_embedding_type", "relative_key", "absolute"],
        ),
        (BERT | {"is_decoder": True}, ["is_decoder"]),
        (BERT | {"hidden_size": 100, "num_attention_heads": 12}, ["100", "12", "multiple"]),
        (BERT | {"vocab_size": 0}, ["vocab_size", "0"]),
        (BERT | {"num_hidden_layers": "six"}, ["num_hidden_layers", "six"]),
        (BERT | {"num_hidden_layers": True}, ["num_hidden_layers", "True"]),
        (BERT | {"hidden_dropout_prob": 1.0}, ["hidden_dropout_prob", "1.0"]),
        (BERT | {"layer_norm_eps": float("nan")}, ["layer_norm_eps", "nan"]),
        (BERT | {"pad_token_id": -1}, ["pad_token_id", "-1"]),
        (BERT | {"pad_token_id": 40000}, ["pad_token_id", "40000", "vocab_size"]),
        ({"model_type": "roberta", "max_position_embeddings": 2}, ["max_position_embeddings", "padding"]),
        ({"model_type": "electra", "embedding_size": 0}, ["embedding_size", "0"]),
        (BERT | {"hidden_act": None}, ["hidden_act", "None"]),
        (BERT | {"quantization_config": {"quant_method": "bitsandbytes"}}, ["quantization_config", "dequantize()"]),
        ({"model_type": "qwen3", "quantization_config": {}}, ["quantization_config", "dequantize()"]),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_with_its_name(values, words):
    with pytest.raises(InputError) as caught:
        config_from_dict(values)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert "\n" not in message


@pytest.mark.parametrize("content", ["{", "[1, 2]", None])
def test_a_folder_without_a_readable_config_is_refused(folder, content):
    path = folder / "config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        read_config(folder)
