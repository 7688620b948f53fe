"""Weights of a Hugging Face folder into an encoder and back: one table of names, filled strictly."""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from tsds_jax.encoders.families import Config, EncoderModule, new_encoder
from tsds_jax.encoders.heads import HEADS, HeadConfig, head_config
from tsds_jax.encoders.precision import set_table_dtype
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


def _weight_and_bias(checkpoint: str, path: str) -> dict[str, tuple[str, Transform]]:
    """The two names of a linear map, or of a layer norm (whose path ends so)."""
    weight = ("scale", _keep) if path.endswith("norm") else ("kernel", _transpose)
    return {
        f"{checkpoint}.weight": (f"{path}.{weight[0]}", weight[1]),
        f"{checkpoint}.bias": (f"{path}.bias", _keep),
    }


def _table(prefix: str, layer: str, parts: dict[str, str]) -> NameTable:
    """The table of a family whose checkpoints call layer i's ``parts`` (name in a `Layer` -> theirs) so."""
    names: dict[str, tuple[str, Transform]] = {
        "embeddings.word_embeddings.weight": ("embeddings.words.embedding", _keep),
        "embeddings.position_embeddings.weight": ("embeddings.positions.embedding", _keep),
        "embeddings.token_type_embeddings.weight": ("embeddings.types.embedding", _keep),
        **_weight_and_bias("embeddings.LayerNorm", "embeddings.norm"),
        **_weight_and_bias("embeddings_project", "embeddings.project"),
    }
    for ours, theirs in parts.items():
        names |= _weight_and_bias(f"{layer}.{{i}}.{theirs}", f"layers.{{i}}.{ours}")
    return NameTable(prefix, names)


def _rotary_table(ends: dict[str, str], parts: dict[str, str]) -> NameTable:
    """The same for a `RotaryEncoder`, with what comes before and after its layers."""
    names: dict[str, tuple[str, Transform]] = {f"{ends['words']}.weight": ("words.embedding", _keep)}
    for ours, theirs in ends.items():
        if ours != "words":
            names |= _weight_and_bias(theirs, ours)
    for ours, theirs in parts.items():
        names |= _weight_and_bias(f"layers.{{i}}.{theirs}", f"layers.{{i}}.{ours}")
    return NameTable("model.", names)


_BERT_PARTS = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "down_norm": "output.LayerNorm",
}

_DISTILBERT_PARTS = {
    "attention.query": "attention.q_lin",
    "attention.key": "attention.k_lin",
    "attention.value": "attention.v_lin",
    "attention.output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "down_norm": "output_layer_norm",
}

_DECODER = _rotary_table(
    {"words": "embed_tokens", "norm": "norm"},
    {
        "attention_norm": "input_layernorm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "attention.query_norm": "self_attn.q_norm",
        "attention.key_norm": "self_attn.k_norm",
        "feed_norm": "post_attention_layernorm",
        "feed.gate": "mlp.gate_proj",
        "feed.up": "mlp.up_proj",
        "feed.down": "mlp.down_proj",
    },
)

NAME_TABLES: dict[str, NameTable] = {
    "bert": _table("bert.", "encoder.layer", _BERT_PARTS),
    "roberta": _table("roberta.", "encoder.layer", _BERT_PARTS),
    "xlm-roberta": _table("roberta.", "encoder.layer", _BERT_PARTS),
    "camembert": _table("roberta.", "encoder.layer", _BERT_PARTS),
    "distilbert": _table("distilbert.", "transformer.layer", _DISTILBERT_PARTS),
    "electra": _table("electra.", "encoder.layer", _BERT_PARTS),
    "modernbert": _rotary_table(
        {"words": "embeddings.tok_embeddings", "words_norm": "embeddings.norm", "norm": "final_norm"},
        {
            "attention_norm": "attn_norm",
            "attention.qkv": "attn.Wqkv",
            "attention.output": "attn.Wo",
            "feed_norm": "mlp_norm",
            "feed.gate_and_up": "mlp.Wi",
            "feed.down": "mlp.Wo",
        },
    ),
    "llama": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
}

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


def conversion(model: str | Path) -> str:
    """How pickled weights of a folder, or of a model on the hub, become what is read here: for a message."""
    return (
        "convert its weights, where you trust them and have PyTorch, by "
        f"AutoModel.from_pretrained({str(model)!r}).save_pretrained(NEW_FOLDER), with its tokenizer"
    )


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
                f"{folder} holds pickled weights only, and a pickle can run any code when read: {conversion(folder)}"
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


# What safetensors calls the number types that a weight may be stored in.
_FLOATS = ("F64", "F32", "F16", "BF16")


def read_tensors(files: list[Path]) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Each tensor's name, with a function that reads it as float32: the others stay on disk."""
    for file in files:
        try:
            # Not framework="numpy", which cannot hold a bfloat16.
            with safe_open(file, framework="flax") as tensors:
                for key in tensors.keys():  # noqa: SIM118 -- a safe_open handle does not iterate
                    yield key, functools.partial(_read, tensors, key, file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file} cannot be read as safetensors: {str(error)[:60]}; fetch it again") from None


def _read(tensors: Any, key: str, file: Path) -> np.ndarray:
    stored = tensors.get_slice(key).get_dtype()
    if stored not in _FLOATS:
        # Quantised: the numbers mean nothing without their scales, which stand elsewhere.
        raise InputError(
            f"{file} stores {key} as {stored}, and a weight must be one of {', '.join(_FLOATS)}: save it so"
        )
    return np.asarray(tensors.get_tensor(key), dtype=np.float32)


class Loaded(NamedTuple):
    """What `load_model` reads of a folder.

    Attributes:
      model: the encoder.
      head: the tensors of a head that this project knows, by their canonical names and as they are stored.
      skipped: the keys of the checkpoint that there is no place for (other heads, a pooler, buffers).
    """

    model: EncoderModule
    head: dict[str, np.ndarray]
    skipped: tuple[str, ...]


def load_model(folder: Path, config: Config, settings: Mapping[str, Any], dtype: str = "float32") -> Loaded:
    """Build the encoder of a config and fill every parameter once from the folder's checkpoint.

    Nothing is initialised at random on the way. Weights become of that dtype, whatever they are stored in.

    Args:
      folder: with the checkpoint.
      config: what `read_config` reads there.
      settings: the config.json itself, for the head.
      dtype: of the weights.

    Raises:
      InputError: a parameter is missing, is there twice, has another shape than the config says, or
        the checkpoint has more layers; or its files cannot be read, or store a parameter as no float.
    """
    table = NAME_TABLES[config.model_type]
    heads = {name for head in HEADS for name in head_names(head_config(head, settings, config))}
    graphdef, abstract = nnx.split(nnx.eval_shape(lambda: new_encoder(config, rngs=nnx.Rngs(0))))
    empty = {".".join(map(str, path)): (path, param) for path, param in nnx.to_flat_state(abstract)}
    filled: dict[str, str] = {}
    values, found, skipped = [], {}, []
    for key, read in read_tensors(weight_files(folder)):
        canonical = canonical_name(key, table.prefix)
        match = match_name(canonical, table)
        if match is None:
            if canonical in heads and canonical not in found:
                found[canonical] = read()
            else:
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
        if name not in empty:  # a table or map that this config goes without
            skipped.append(key)
            continue
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
        values.append((path, param.replace(jnp.asarray(value, dtype))))
    missing = sorted(set(empty) - set(filled))
    if missing:
        wanted, _ = _checkpoint_name(empty[missing[0]][0], table)
        wrapped = next((f", but has {key}: save the model out of its wrapper" for key in skipped if wanted in key), "")
        raise InputError(
            f"the checkpoint in {folder} does not fit its config: nothing for {missing[0]} "
            f"({len(missing)} of {len(empty)} parameters are missing); it lacks {wanted}{wrapped}"
        )
    model = nnx.merge(graphdef, nnx.from_flat_state(values))
    set_table_dtype(model, dtype)
    return Loaded(model, found, tuple(sorted(skipped)))


def head_names(config: HeadConfig) -> dict[str, tuple[str, Transform]]:
    """Canonical checkpoint name -> path in a `Head`, and what to do to the array."""
    names: dict[str, tuple[str, Transform]] = {}
    for ours, theirs in config.parts.items():
        names |= _weight_and_bias(theirs, ours)
    return names


def encoder_tensors(model: EncoderModule, model_type: str) -> dict[str, np.ndarray]:
    """The encoder's weights as a checkpoint of its family has them, by their names without prefix."""
    tensors: dict[str, np.ndarray] = {}
    for path, param in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        name, transform = _checkpoint_name(path, NAME_TABLES[model_type])
        # Both transforms undo themselves. One at a time, so that the device holds no copy of all; and on the device, as
        # JAX keeps what it gave NumPy of an array, and the host would hold that and the transposed.
        tensors[name] = np.asarray(transform(param[...]))
    return tensors


def _checkpoint_name(path: tuple[Any, ...], table: NameTable) -> tuple[str, Transform]:
    """Of a parameter, its canonical name in a checkpoint of the family, and what was done to the array."""
    wanted = ".".join("{i}" if isinstance(part, int) else str(part) for part in path)
    name, transform = next((name, transform) for name, (path, transform) in table.names.items() if path == wanted)
    return name.format(i=next((part for part in path if isinstance(part, int)), "")), transform
