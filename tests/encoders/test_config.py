import dataclasses
import json

import pytest

from tsds_jax.encoders import EncoderConfig
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
    config = EncoderConfig.from_folder(folder)
    assert (config.hidden_size, config.num_hidden_layers, config.max_tokens) == (32, 2, 64)
    assert (config.layer_norm_eps, config.hidden_dropout_prob) == (1e-5, 0.25)
    assert config.attention_probs_dropout_prob == 0


def test_a_config_is_hashable_so_that_it_can_be_static_under_jit():
    config = EncoderConfig.from_dict(BERT)
    assert hash(config) == hash(dataclasses.replace(config))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "t5"}, ["t5", "supported: bert"]),
        ({}, ["None", "supported: bert"]),
        (BERT | {"hidden_act": "silu"}, ["hidden_act", "silu", "gelu"]),
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
        (BERT | {"hidden_act": None}, ["hidden_act", "None"]),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_with_its_name(values, words):
    with pytest.raises(InputError) as caught:
        EncoderConfig.from_dict(values)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert "\n" not in message


@pytest.mark.parametrize("content", ["{", "[1, 2]", None])
def test_a_folder_without_a_readable_config_is_refused(folder, content):
    path = folder / "config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        EncoderConfig.from_folder(folder)
