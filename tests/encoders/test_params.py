import json
import re
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from tsds_jax.encoders import load_encoder
from tsds_jax.encoders.params import encoder_tensors
from tsds_jax.errors import InputError

Tensors = dict[str, np.ndarray]


def rewrite(folder: Path, change) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


def reconfigure(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def weights(model) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model))]


def assert_same_weights(a, b) -> None:
    for one, other in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(one, other)


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_tensor_is_used_or_kept_for_a_head_or_listed_as_skipped(folder):
    rewrite(folder, lambda tensors: tensors | {"cls.predictions.bias": np.zeros(3, np.float32)})
    tensors = load_file(folder / "model.safetensors")
    made = load_encoder(folder)
    assert made.skipped == ("cls.predictions.bias",)
    assert sorted(made.head) == ["pooler.dense.bias", "pooler.dense.weight"]
    used = sum(tensor.size for key, tensor in tensors.items() if key not in (*made.skipped, *made.head))
    assert made.parameters == used


def test_every_parameter_is_filled_from_the_checkpoint(folder, encoder):
    rewrite(folder, lambda tensors: {key: np.full_like(tensor, 7) for key, tensor in tensors.items()})
    assert all((leaf == 7).all() for leaf in weights(load_encoder(folder).model))


def prefixed(tensors: Tensors) -> Tensors:
    head = {
        "classifier.weight": np.zeros((2, 32), np.float32),
        "bert.embeddings.position_ids": np.arange(64)[None],
    }
    return {f"bert.{key}": tensor for key, tensor in tensors.items() if not key.startswith("pooler")} | head


def old_names(tensors: Tensors) -> Tensors:
    new = {}
    for key, tensor in tensors.items():
        key = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        new[key] = tensor
    return new


@pytest.mark.parametrize(
    ("change", "skipped"),
    [
        (prefixed, ("bert.embeddings.position_ids",)),
        (old_names, ()),
    ],
)
def test_other_names_of_the_same_weights_load_alike(folder, encoder, change, skipped):
    rewrite(folder, change)
    other = load_encoder(folder)
    assert_same_weights(encoder.model, other.model)
    assert other.skipped == skipped


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_weights_become_float32(folder, encoder, dtype):
    rewrite(folder, lambda tensors: {key: tensor.astype(dtype) for key, tensor in tensors.items()})
    for half, whole in zip(weights(load_encoder(folder).model), weights(encoder.model), strict=True):
        assert half.dtype == np.float32
        np.testing.assert_array_equal(half, whole.astype(dtype).astype(np.float32))


@pytest.mark.parametrize(("dtype", "stored"), [(np.int8, "I8"), (ml_dtypes.float8_e4m3fn, "F8_E4M3")])
def test_weights_that_are_no_floats_are_refused_with_their_name(folder, dtype, stored):
    key = "encoder.layer.0.attention.self.query.weight"
    rewrite(folder, lambda tensors: tensors | {key: tensors[key].astype(dtype)})
    assert f"model.safetensors stores {key} as {stored}" in refused(folder)


def shard(folder: Path) -> dict[str, str]:
    tensors = load_file(folder / "model.safetensors")
    weight_map = {key: f"model-0000{number % 2 + 1}-of-00002.safetensors" for number, key in enumerate(tensors)}
    for file in set(weight_map.values()):
        save_file({key: tensors[key] for key in tensors if weight_map[key] == file}, folder / file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return weight_map


def test_shards_load_as_one_file_does(folder, encoder):
    shard(folder)
    assert_same_weights(encoder.model, load_encoder(folder).model)


def test_a_missing_shard_is_named(folder):
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in refused(folder)


@pytest.mark.parametrize("index", ["{", "{}", '{"weight_map": ["a"]}', '{"weight_map": {"a": 3}}'])
def test_an_index_that_is_none_is_refused(folder, index):
    shard(folder)
    (folder / "model.safetensors.index.json").write_text(index)
    assert "index" in refused(folder)


def test_a_shard_outside_the_folder_is_refused(folder):
    (folder / "model.safetensors").rename(folder.parent / "x.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    assert "own folder" in refused(folder)


def test_a_missing_parameter_is_named(folder):
    key = "encoder.layer.1.output.dense.bias"
    rewrite(folder, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != key})
    message = refused(folder)
    assert "layers.1.down.bias" in message
    assert "does not fit its config" in message
    assert message.endswith(f"it lacks {key}")


def test_weights_of_a_wrapped_model_are_told_by_the_name_that_they_stand_under(folder):
    rewrite(folder, lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()})
    first = "embeddings.LayerNorm.bias"
    assert refused(folder).endswith(f"lacks {first}, but has module.{first}: save the model out of its wrapper")


def test_a_wrong_shape_is_named_with_both_shapes_as_stored(folder):
    reconfigure(folder, intermediate_size=40)
    message = refused(folder)
    assert "does not fit its config" in message
    assert re.search(r"encoder\.layer\.\d\.(intermediate|output)\.dense", message)
    assert "48" in message
    assert "40" in message


def test_a_square_map_is_transposed_so_that_x_w_matches_pytorch(encoder, golden):
    stored = load_file(golden / "model.safetensors")["encoder.layer.0.attention.self.query.weight"]
    np.testing.assert_array_equal(encoder.model.layers[0].attention.query.kernel[...], stored.T)


def test_tensors_to_save_are_numpys_so_that_a_device_holds_no_second_copy_of_them(of_family, golden):
    stored = load_file(golden / "model.safetensors")
    for dtype in ("float32", "bfloat16"):
        for name, tensor in encoder_tensors(of_family("bert", dtype=dtype).model, "bert").items():
            assert isinstance(tensor, np.ndarray), name
            np.testing.assert_array_equal(tensor, stored[name].astype(tensor.dtype))
            assert tensor.dtype.name == dtype


def test_more_layers_than_the_config_has_are_refused(folder):
    reconfigure(folder, num_hidden_layers=1)
    assert "encoder.layer.1" in refused(folder)


def test_a_parameter_given_twice_is_refused(folder):
    key = "embeddings.LayerNorm.weight"
    rewrite(folder, lambda tensors: tensors | {f"bert.{key}": tensors[key] + 1})
    message = refused(folder)
    assert f"bert.{key}" in message
    assert "same parameter" in message


def test_pickled_weights_are_refused_with_the_way_to_convert(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refused(folder)
    assert "pickle" in message
    assert "save_pretrained" in message


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in refused(folder)


def test_a_broken_safetensors_file_is_refused(folder):
    (folder / "model.safetensors").write_bytes(b"not tensors at all")
    assert "safetensors" in refused(folder)
