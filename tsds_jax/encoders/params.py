"""Weights of a Hugging Face folder into an encoder: one table of names, filled strictly."""

import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from tsds_jax.encoders.config import EncoderConfig
from tsds_jax.encoders.modeling import BertEncoder
from tsds_jax.errors import InputError

Transform = Callable[[np.ndarray], np.ndarray]


def _keep(x: np.ndarray) -> np.ndarray:
    return x


def _transpose(x: np.ndarray) -> np.ndarray:
    # PyTorch stores a linear map as [out, in], Flax as [in, out].
    return x.T


class NameTable(NamedTuple):
    """How a family's checkpoint names map to the parameters of the module.

    Attributes:
      prefix: what a checkpoint of a model with a head puts before every name of the encoder.
      names: checkpoint name, with ``{i}`` for the layer -> path in the module, and what to do to the array.
    """

    prefix: str
    names: dict[str, tuple[str, Transform]]


BERT = NameTable(
    prefix="bert.",
    names={
        "embeddings.word_embeddings.weight": ("embeddings.words.embedding", _keep),
        "embeddings.position_embeddings.weight": ("embeddings.positions.embedding", _keep),
        "embeddings.token_type_embeddings.weight": ("embeddings.types.embedding", _keep),
        "embeddings.LayerNorm.weight": ("embeddings.norm.scale", _keep),
        "embeddings.LayerNorm.bias": ("embeddings.norm.bias", _keep),
        "encoder.layer.{i}.attention.self.query.weight": ("layers.{i}.attention.query.kernel", _transpose),
        "encoder.layer.{i}.attention.self.query.bias": ("layers.{i}.attention.query.bias", _keep),
        "encoder.layer.{i}.attention.self.key.weight": ("layers.{i}.attention.key.kernel", _transpose),
        "encoder.layer.{i}.attention.self.key.bias": ("layers.{i}.attention.key.bias", _keep),
        "encoder.layer.{i}.attention.self.value.weight": ("layers.{i}.attention.value.kernel", _transpose),
        "encoder.layer.{i}.attention.self.value.bias": ("layers.{i}.attention.value.bias", _keep),
        "encoder.layer.{i}.attention.output.dense.weight": ("layers.{i}.attention.output.kernel", _transpose),
        "encoder.layer.{i}.attention.output.dense.bias": ("layers.{i}.attention.output.bias", _keep),
        "encoder.layer.{i}.attention.output.LayerNorm.weight": ("layers.{i}.attention_norm.scale", _keep),
        "encoder.layer.{i}.attention.output.LayerNorm.bias": ("layers.{i}.attention_norm.bias", _keep),
        "encoder.layer.{i}.intermediate.dense.weight": ("layers.{i}.up.kernel", _transpose),
        "encoder.layer.{i}.intermediate.dense.bias": ("layers.{i}.up.bias", _keep),
        "encoder.layer.{i}.output.dense.weight": ("layers.{i}.down.kernel", _transpose),
        "encoder.layer.{i}.output.dense.bias": ("layers.{i}.down.bias", _keep),
        "encoder.layer.{i}.output.LayerNorm.weight": ("layers.{i}.down_norm.scale", _keep),
        "encoder.layer.{i}.output.LayerNorm.bias": ("layers.{i}.down_norm.bias", _keep),
    },
)

NAME_TABLES: dict[str, NameTable] = {"bert": BERT}

# TensorFlow's names for a layer norm's weight and bias, kept by the oldest checkpoints.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def canonical_name(key: str, prefix: str) -> str:
    """A checkpoint's key without its prefix, with today's name for the parts of a layer norm."""
    name = key.removeprefix(prefix)
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name


def match_name(name: str, table: NameTable) -> tuple[str, Transform, int | None] | None:
    """Where a canonical name goes, as (path in the module, transform, layer); None if the table lacks it."""
    layer = re.search(r"\.(\d+)\.", name)
    pattern = name if layer is None else name[: layer.start(1)] + "{i}" + name[layer.end(1) :]
    if pattern not in table.names:
        return None
    path, transform = table.names[pattern]
    return (path, transform, None) if layer is None else (path.format(i=layer[1]), transform, int(layer[1]))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder: one file, or the shards that its index names.

    Raises:
      InputError: there is none, or a shard is missing.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.ckpt")):
            raise InputError(
                f"{folder} holds pickled weights only, and a pickle can run any code when read: convert them "
                f"to safetensors, where you trust them and have PyTorch, by "
                f"AutoModel.from_pretrained({str(folder)!r}).save_pretrained(NEW_FOLDER)"
            )
        raise InputError(
            f"{folder} holds no model.safetensors and no model.safetensors.index.json; save the model there"
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        shards = [folder / name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{index} is not a safetensors index: it has no readable weight_map") from None
    for name, shard in zip(names, shards, strict=True):
        if Path(name).name != name:
            raise InputError(f"{index} names the shard {name!r:.60}, which does not lie in its own folder")
        if not shard.is_file():
            raise InputError(f"{index} names the shard {name!r:.60}, which is not there; complete the folder")
    return shards


def read_tensors(files: list[Path]) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Each tensor's name, with a function that reads it as float32: the others stay on disk."""
    for file in files:
        try:
            # Not framework="numpy", which cannot hold a bfloat16.
            with safe_open(file, framework="flax") as tensors:
                for key in tensors.keys():  # noqa: SIM118 -- a safe_open handle does not iterate
                    yield key, functools.partial(_read, tensors, key)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file} cannot be read as safetensors: {str(error)[:60]}; fetch it again") from None


def _read(tensors: Any, key: str) -> np.ndarray:
    return np.asarray(tensors.get_tensor(key), dtype=np.float32)


def load_model(folder: Path, config: EncoderConfig) -> tuple[BertEncoder, tuple[str, ...]]:
    """Build the encoder of a config and fill every parameter once from the folder's checkpoint.

    Nothing is initialised at random on the way. Weights in half precision become float32.

    Returns:
      The encoder, and the keys of the checkpoint that it has no place for (a pooler, a head, buffers).

    Raises:
      InputError: a parameter is missing, is there twice, has another shape than the config says, or
        the checkpoint has more layers; or its files cannot be read.
    """
    table = NAME_TABLES[config.model_type]
    graphdef, abstract = nnx.split(nnx.eval_shape(lambda: BertEncoder(config, rngs=nnx.Rngs(0))))
    empty = {".".join(map(str, path)): (path, param) for path, param in nnx.to_flat_state(abstract)}
    filled: dict[str, str] = {}
    values, skipped = [], []
    for key, read in read_tensors(weight_files(folder)):
        match = match_name(canonical_name(key, table.prefix), table)
        if match is None:
            skipped.append(key)
            continue
        name, transform, layer = match
        if layer is not None and layer >= config.num_hidden_layers:
            raise InputError(
                f"the checkpoint in {folder} does not fit its config: it has {key}, and num_hidden_layers is "
                f"{config.num_hidden_layers}"
            )
        if name in filled:
            raise InputError(f"the checkpoint in {folder} gives the same parameter as {filled[name]} and as {key}")
        path, param = empty[name]
        value, wanted = transform(read()), param.shape
        if value.shape != wanted:
            # Transposed back: the two shapes are compared as the checkpoint's author knows them.
            stored, asked = (value.T.shape, wanted[::-1]) if transform is _transpose else (value.shape, wanted)
            raise InputError(
                f"the checkpoint in {folder} does not fit its config: {key} has the shape {stored}, "
                f"the config asks for {asked}"
            )
        filled[name] = key
        values.append((path, param.replace(jnp.asarray(value))))
    missing = sorted(set(empty) - set(filled))
    if missing:
        raise InputError(
            f"the checkpoint in {folder} does not fit its config: nothing for {missing[0]} "
            f"({len(missing)} of {len(empty)} parameters are missing)"
        )
    return nnx.merge(graphdef, nnx.from_flat_state(values)), tuple(sorted(skipped))


def parameter_count(model: nnx.Module) -> int:
    """How many numbers the module's parameters hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
