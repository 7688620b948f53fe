"""What holds of every family, shown on tiny models of each with one tokenizer."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from datasets import Dataset
from flax import nnx

from tsds_jax.encoders import RotaryConfig, config_from_dict, load_encoder
from tsds_jax.encoders.families import new_encoder
from tsds_jax.encoders.rotary import frequencies
from tsds_jax.encoders.rotary_config import Rotation
from tsds_jax.errors import InputError
from tsds_jax.finetuning import finetune
from tsds_jax.options import FineTuneOptions

FAMILIES = sorted(folder.name for folder in (Path(__file__).parents[1] / "golden").iterdir() if folder.is_dir())
TEXTS = ["a good film", "the plot was slow and the actors were not so good , but the music was fine", "boring .", "a"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_is_that_of_its_text_alone_without_padding(of_family, family):
    encoder = of_family(family)
    values = encoder.embed(TEXTS * 20, pooling="last")
    for row, text in enumerate(TEXTS):
        ids = np.array([encoder.tokenizer(text)["input_ids"]])
        np.testing.assert_allclose(values[row], encoder.hidden_states(ids)[-1][0, -1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["distilbert", "electra", "modernbert", "qwen3"])
def test_fine_tuning_reaches_every_parameter_that_the_texts_use(of_family, family):
    encoder = of_family(family)
    data = Dataset.from_dict({"text": TEXTS * 8, "label": ["good", "bad", "bad", "good"] * 8})
    options = FineTuneOptions(steps=2, batch_size=8, max_length=16, dropout=0.1, learning_rate=1e-2)
    tuned = finetune(encoder, data, options=options)
    before, after = (nnx.to_flat_state(nnx.state(model)) for model in (encoder.model, tuned.model.module.encoder))
    for (path, old), (_, new) in zip(before, after, strict=True):
        assert np.isfinite(new[...]).all()
        assert np.abs(np.asarray(new[...]) - np.asarray(old[...])).max() > 0, path


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_decoders_token_sees_nothing_after_it(of_family, family):
    encoder = of_family(family)
    ids = np.arange(5, 17)[None]
    changed = np.where(np.arange(12) < 7, ids, 60)
    for a, b in zip(encoder.hidden_states(ids), encoder.hidden_states(changed), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[:, :7], np.asarray(b)[:, :7])
        assert np.abs(np.asarray(a)[:, 7:] - np.asarray(b)[:, 7:]).max() > 0


def test_dropout_is_on_only_with_randomness_and_at_the_rate_asked_for(of_family):
    encoder = of_family("modernbert")
    config = encoder.config.with_dropout(0.4)
    assert (config.mlp_dropout, config.attention_probs_dropout_prob, config.embedding_dropout) == (0.4,) * 3
    model = new_encoder(config, rngs=nnx.Rngs(0))
    ids = np.arange(5, 17)[None]
    plain, dropped = (
        jax.jit(lambda rngs: model(ids, np.ones_like(ids), np.zeros_like(ids), rngs=rngs))(rngs)
        for rngs in (None, nnx.Rngs(dropout=0))
    )
    assert np.abs(plain - dropped).max() > 0.1


def test_fast_turns_are_kept_and_slow_ones_divided_as_llama_3_does():
    plain = frequencies(Rotation(500_000.0), 128)
    slowed = frequencies(Rotation(500_000.0, "llama3", factor=8.0, low=1.0, high=4.0, trained=8192), 128)
    turns = 8192 * plain / (2 * np.pi)
    np.testing.assert_array_equal(slowed[turns > 4], plain[turns > 4])
    np.testing.assert_allclose(slowed[turns < 1], plain[turns < 1] / 8, rtol=1e-6)
    between = (turns >= 1) & (turns <= 4)
    assert between.any()
    assert ((slowed < plain) & (slowed > plain / 8))[between].all()
    np.testing.assert_allclose(frequencies(Rotation(10.0, "linear", factor=2.0), 8), frequencies(Rotation(10.0), 8) / 2)


def test_older_and_newer_names_of_the_rope_settings_read_alike():
    older = {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    newer = {"model_type": "llama", "rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}}
    assert config_from_dict(older) == config_from_dict(newer)
    kinds = ["full_attention", "sliding_attention"] * 11
    older = config_from_dict({"model_type": "modernbert", "global_rope_theta": 9.0})
    assert [rotation.theta for rotation in older.rotations[:4]] == [9.0, 10_000.0, 10_000.0, 9.0]
    assert older.windows[:4] == (None, 64, 64, None)
    assert config_from_dict({"model_type": "modernbert", "layer_types": kinds}).windows == (None, 64) * 11


LINEAR = {"rope_type": "linear", "factor": 2.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("family", "values", "rotation"),
    [
        ("llama", {"rope_scaling": LINEAR, "rope_parameters": {"rope_theta": 9.0}}, Rotation(1e4, "linear", 2.0)),
        ("llama", {"rope_scaling": LLAMA3, "max_position_embeddings": 99}, Rotation(1e4, "llama3", 8.0, trained=99)),
        ("modernbert", {"rope_scaling": LINEAR}, Rotation(16e4, "linear", 2.0)),
        ("modernbert", {"rope_scaling": {"type": "linear", "factor": 2.0}}, Rotation(16e4, factor=2.0)),
    ],
)
def test_the_settings_of_rope_that_count_are_those_that_count_in_transformers(family, values, rotation):
    assert config_from_dict({"model_type": family, **values}).rotations[0] == rotation


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("llama", {"is_causal": False}),
        ("qwen2", {"is_causal": False}),
        ("qwen3", {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}),
        ("llama", {"rope_parameters": LLAMA3}),
        ("modernbert", {"rope_parameters": None, "rope_scaling": LINEAR}),
        ("modernbert", {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    ],
)
def test_a_setting_of_a_config_changes_the_states_as_it_does_in_pytorch(of_family, family, values):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    path = of_family(family).folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    model = transformers.AutoModel.from_pretrained(path.parent, attn_implementation="eager").eval()
    ids, mask = np.arange(5, 29).reshape(2, 12), np.arange(12) < np.array([[12], [7]])
    with torch.no_grad():
        theirs = model(torch.tensor(ids), attention_mask=torch.tensor(mask.astype(int))).last_hidden_state.numpy()
    ours = load_encoder(path.parent).hidden_states(ids, mask.astype(int))[-1]
    np.testing.assert_allclose(np.asarray(ours)[mask], theirs[mask], atol=1e-5)


@pytest.mark.parametrize("pad", [None, -1, 10**6])
def test_a_decoder_has_no_use_for_the_token_of_padding(pad):
    assert config_from_dict({"model_type": "llama", "pad_token_id": pad}) == config_from_dict({"model_type": "llama"})


@pytest.mark.parametrize(
    "said",
    [
        {"use_sliding_window": True, "max_window_layers": 32},
        {"use_sliding_window": True, "sliding_window": None},
        {"use_sliding_window": True, "layer_types": ["full_attention"] * 32},
    ],
)
@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_window_that_no_layer_has_is_none(said, family):
    config = {"model_type": family}
    assert config_from_dict(config | said) == config_from_dict(config)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "qwen2", "use_sliding_window": True}, ["use_sliding_window"]),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 31}, ["use_sliding_window"]),
        ({"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention"]}, ["layer_types"]),
        ({"model_type": "llama", "rope_scaling": {"rope_type": "yarn"}}, ["yarn", "llama3"]),
        ({"model_type": "modernbert", "rope_scaling": {"rope_type": "yarn"}}, ["yarn", "llama3"]),
        (
            {"model_type": "llama", "rope_scaling": {"type": "yarn"}, "rope_parameters": {"rope_type": "default"}},
            ["yarn", "llama3"],
        ),
        ({"model_type": "llama", "rope_scaling": LLAMA3, "max_position_embeddings": "many"}, ["positive", "many"]),
        ({"model_type": "llama", "rope_parameters": {"rope_theta": "fast"}}, ["rope", "fast"]),
        ({"model_type": "llama", "rope_parameters": {"rope_theta": -1.0}}, ["rope", "-1.0"]),
        ({"model_type": "llama", "rope_parameters": {"partial_rotary_factor": 0.5}}, ["partial_rotary_factor"]),
        ({"model_type": "llama", "num_key_value_heads": 5}, ["num_key_value_heads", "5"]),
        ({"model_type": "llama", "head_dim": 7}, ["head_dim", "7"]),
        ({"model_type": "llama", "hidden_size": "wide"}, ["hidden_size", "wide"]),
        ({"model_type": "llama", "hidden_size": 100}, ["hidden_size", "100", "multiple"]),
        ({"model_type": "qwen3", "hidden_act": "swish3"}, ["hidden_act", "swish3", "silu"]),
        ({"model_type": "modernbert", "layer_types": ["full_attention"]}, ["layer_types", "22"]),
        ({"model_type": "modernbert", "norm_eps": 0}, ["norm_eps", "0"]),
        ({"model_type": "modernbert", "mlp_dropout": 1.0}, ["mlp_dropout", "1.0"]),
        ({"model_type": "modernbert", "global_attn_every_n_layers": 0}, ["global_attn_every_n_layers", "0"]),
        ({"model_type": "modernbert", "rope_parameters": 3}, ["rope", "3"]),
        ({"model_type": "modernbert", "layer_types": [["full_attention"]] * 22}, ["layer_types", "22"]),
        ({"model_type": "modernbert", "hidden_activation": ["gelu"]}, ["hidden_act", "gelu"]),
        ({"model_type": "modernbert", "layer_types": 3}, ["layer_types", "22"]),
        ({"model_type": ["llama"]}, ["model_type", "supported: bert"]),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_with_its_name(values, words):
    with pytest.raises(InputError) as caught:
        config_from_dict(values)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_a_family_with_rotary_positions_is_refused_where_it_is_unknown():
    with pytest.raises(InputError, match="'bert' is not supported; supported: modernbert"):
        RotaryConfig.from_dict({"model_type": "bert"})
