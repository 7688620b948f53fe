"""The sizes and settings of a transformer with rotary positions: ModernBERT, and the decoders Llama, Qwen2, Qwen3."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from tsds_jax.encoders.config import SIZES, check_activation, check_numbers
from tsds_jax.errors import InputError


class Rotation(NamedTuple):
    """How fast a layer's pairs of entries turn from position to position.

    Attributes:
      theta: pair i of a head of d entries turns by ``theta^(-2 i / d)`` a position.
      kind: ``"default"``; ``"linear"``, slower by ``factor``; ``"llama3"``, slow turns slower by ``factor``.
      factor: see ``kind``.
      low: of llama3: what turns fewer times than this over ``trained`` positions is slowed down.
      high: of llama3: what turns more often is left alone; in between the two are blended.
      trained: of llama3: positions that the model was first trained on.
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    trained: int = 8192


@dataclasses.dataclass(frozen=True)
class RotaryConfig:
    """What a transformer with rotary positions is made of; read by `RotaryConfig.from_dict`.

    Attributes:
      model_type: a key of `ROTARY_FAMILIES`.
      vocab_size: token ids run from 0 to ``vocab_size - 1``.
      hidden_size: width of a representation.
      num_hidden_layers: layers after the embeddings.
      num_attention_heads: heads a layer.
      num_key_value_heads: heads that keys and values have; must divide the former. Each serves as many queries' heads.
      head_dim: width of a head, an even number.
      intermediate_size: inner width of the gated feed-forward part.
      max_position_embeddings: the most tokens that a text may have.
      hidden_act: a key of `ACTIVATIONS`.
      norm_eps: added to the variance, or the mean square, in every norm.
      rotations: one a layer.
      windows: one a layer: how many positions away a token may be to be seen, or None for all.
      causal: whether a token sees only itself and those before it.
      root_mean_square: whether norms divide by the root of the mean square (RMSNorm) and take no mean off.
      norm_bias: whether layer norms have a bias.
      head_norm: whether queries and keys are normed, head by head.
      fused: whether one map gives queries, keys and values, and one the feed-forward part's two halves; besides,
        embeddings are then normed, and the first layer's attention is not.
      qkv_bias: whether the maps to queries, keys and values have a bias.
      output_bias: whether attention's last map has one.
      mlp_bias: whether the feed-forward maps have one.
      embedding_dropout: after the embeddings.
      attention_probs_dropout_prob: on the attention weights, and where ``fused`` on what attention gives.
      mlp_dropout: inside the feed-forward part.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int
    hidden_act: str
    norm_eps: float
    rotations: tuple[Rotation, ...]
    windows: tuple[int | None, ...]
    causal: bool
    root_mean_square: bool
    norm_bias: bool
    head_norm: bool
    fused: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    embedding_dropout: float
    attention_probs_dropout_prob: float
    mlp_dropout: float

    # Segments are not known.
    type_vocab_size = 0

    def __post_init__(self) -> None:
        """Refuse sizes and settings that make no transformer."""
        check_numbers(
            self,
            least={"num_key_value_heads": 1, "head_dim": 2},
            rates=("embedding_dropout", "attention_probs_dropout_prob", "mlp_dropout"),
            small=("norm_eps",),
        )
        if self.num_attention_heads % self.num_key_value_heads:
            raise InputError(
                f"the encoder config's num_attention_heads {self.num_attention_heads} is not a multiple of its "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise InputError(f"the encoder config's head_dim must be even for rotary positions, not {self.head_dim}")

    @property
    def max_tokens(self) -> int:
        """The most tokens of one text, special tokens included."""
        return self.max_position_embeddings

    def with_dropout(self, rate: float) -> "RotaryConfig":
        """The same with that rate wherever there is dropout."""
        return dataclasses.replace(self, embedding_dropout=rate, attention_probs_dropout_prob=rate, mlp_dropout=rate)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RotaryConfig":
        """Read the fields of a Hugging Face config; keys that a transformer has no use for are left alone.

        Raises:
          InputError: the model_type or a setting that changes the computation is not supported, or a size makes no
            sense.

        Example:
          >>> RotaryConfig.from_dict({"model_type": "qwen3", "num_hidden_layers": 2}).head_dim
          128
        """
        model_type = values.get("model_type")
        if model_type not in ROTARY_FAMILIES:
            raise InputError(f"model_type {model_type!r:.60} is not supported; supported: {', '.join(ROTARY_FAMILIES)}")
        read = {name: values.get(name, value) for name, value in ROTARY_FAMILIES[model_type].items()}
        _check_counts(read)
        common = {name: read[name] for name in SIZES} | {"attention_probs_dropout_prob": read["attention_dropout"]}
        family = _modernbert if model_type == "modernbert" else _decoder
        return cls(model_type=model_type, **common, **family(values, read))


_DECODER = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "head_dim": None,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "attention_dropout": 0.0,
}
_QWEN = {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
}

# The value of every key that a config.json may leave out.
ROTARY_FAMILIES: dict[str, dict[str, Any]] = {
    "modernbert": {
        "vocab_size": 50368,
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "hidden_activation": "gelu",
        "max_position_embeddings": 8192,
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
        "mlp_bias": False,
        "mlp_dropout": 0.0,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
    },
    "llama": _DECODER
    | {
        "vocab_size": 32000,
        "intermediate_size": 11008,
        "num_key_value_heads": None,
        "max_position_embeddings": 2048,
        "attention_bias": False,
        "mlp_bias": False,
    },
    "qwen2": _DECODER | _QWEN,
    "qwen3": _DECODER | _QWEN | {"head_dim": 128, "attention_bias": False},
}


def _check_counts(read: Mapping[str, Any]) -> None:
    """Refuse, before anything is computed with them, sizes that are no positive whole numbers."""
    for name in (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
        "local_attention",
        "global_attn_every_n_layers",
    ):
        value = read.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"the encoder config's {name} must be a positive whole number, not {value!r:.60}")
    key = "hidden_activation" if "hidden_activation" in read else "hidden_act"
    check_activation(read.get(key), key)


def _modernbert(values: Mapping[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    layers, every = read["num_hidden_layers"], read["global_attn_every_n_layers"]
    kinds = values.get("layer_types") or [
        "sliding_attention" if layer % every else "full_attention" for layer in range(layers)
    ]
    known = {"full_attention": ("global_rope_theta", 160_000.0), "sliding_attention": ("local_rope_theta", 10_000.0)}
    if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in list(known) for kind in kinds):
        raise InputError(f"the encoder config's layer_types must be {layers} of {', '.join(known)}")
    given = _object(values, "rope_parameters")
    # As transformers has it: the older name's settings are for both kinds of layers, all but a ``type`` of old.
    plain, scaling = {"rope_type": "default"}, _object(values, "rope_scaling")
    turns = {
        kind: _rotation({"rope_theta": values.get(key, theta)} | (_object(given, kind) or plain) | scaling, read)
        for kind, (key, theta) in known.items()
    }
    window = read["local_attention"] // 2
    return {
        "num_key_value_heads": read["num_attention_heads"],
        "head_dim": _head(read),
        "hidden_act": read["hidden_activation"],
        "norm_eps": read["norm_eps"],
        "rotations": tuple(turns[kind] for kind in kinds),
        "windows": tuple(window if kind == "sliding_attention" else None for kind in kinds),
        "causal": False,
        "root_mean_square": False,
        "norm_bias": bool(read["norm_bias"]),
        "head_norm": False,
        "fused": True,
        "qkv_bias": bool(read["attention_bias"]),
        "output_bias": bool(read["attention_bias"]),
        "mlp_bias": bool(read["mlp_bias"]),
        "embedding_dropout": read["embedding_dropout"],
        "mlp_dropout": read["mlp_dropout"],
    }


def _decoder(values: Mapping[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    kinds = values.get("layer_types")
    # As transformers reads it: of layers without a kind, those from max_window_layers on have a window.
    slides = read.get("use_sliding_window") and values.get("sliding_window", 4096) is not None
    first = values.get("max_window_layers", 28)
    windowed = slides and not (isinstance(first, int) and first >= read["num_hidden_layers"])
    if "sliding_attention" in kinds if kinds else windowed:
        raise InputError(
            "the encoder config has layers of sliding attention (use_sliding_window, layer_types); only full attention"
            " is supported here"
        )
    if "AutoModel" in _object(values, "auto_map") and "is_causal" not in values:
        # Several embedders are such files: the same weights, read in both directions.
        raise InputError(
            "the encoder config has an auto_map: the model is run by code of its own, which is not read here, and may"
            " see what follows a token too; write is_causal, true or false, into config.json"
        )
    qwen2 = values["model_type"] == "qwen2"
    # Of both names transformers takes the older.
    given = _object(values, "rope_scaling") or _object(values, "rope_parameters")
    turn = _rotation({"rope_theta": values.get("rope_theta", 10_000.0)} | given, read)
    layers = read["num_hidden_layers"]
    return {
        "num_key_value_heads": read["num_key_value_heads"] or read["num_attention_heads"],
        "head_dim": read["head_dim"] or _head(read),
        "hidden_act": read["hidden_act"],
        "norm_eps": read["rms_norm_eps"],
        "rotations": (turn,) * layers,
        "windows": (None,) * layers,
        "causal": bool(values.get("is_causal", True)),
        "root_mean_square": True,
        "norm_bias": False,
        "head_norm": values["model_type"] == "qwen3",
        "fused": False,
        "qkv_bias": qwen2 or bool(read["attention_bias"]),
        "output_bias": not qwen2 and bool(read["attention_bias"]),
        "mlp_bias": bool(read.get("mlp_bias", False)),
        "embedding_dropout": 0.0,
        "mlp_dropout": 0.0,
    }


def _head(read: Mapping[str, Any]) -> int:
    width, heads = read["hidden_size"], read["num_attention_heads"]
    if width % heads:
        raise InputError(
            f"the encoder config's hidden_size {width} is not a multiple of its num_attention_heads {heads}"
        )
    return width // heads


def _object(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A part of a config that holds settings of its own; empty where it is left out or null."""
    part = values.get(key) or {}
    if not isinstance(part, dict):
        raise InputError(f"the encoder config's {key} must hold settings by name, not {part!r:.60}")
    return part


def _rotation(given: Mapping[str, Any], read: Mapping[str, Any]) -> Rotation:
    """From the keys of ``rope_parameters``, or of its older name ``rope_scaling``, and the sizes that were read."""
    kind = given.get("rope_type", given.get("type", "default"))
    # It stretches what is longer than the limit, and nothing longer is taken here.
    kind = "default" if kind == "dynamic" else kind
    if kind not in ("default", "linear", "llama3"):
        raise InputError(f"rope_type {kind!r:.60} is not supported; supported: default, dynamic, linear, llama3")
    if given.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError("partial_rotary_factor is not supported; every entry of a head turns here")
    positions = read["max_position_embeddings"] if kind == "llama3" else 8192
    try:
        found = Rotation(
            float(given["rope_theta"]),
            kind,
            float(given.get("factor", 1.0)),
            float(given.get("low_freq_factor", 1.0)),
            float(given.get("high_freq_factor", 4.0)),
            int(given.get("original_max_position_embeddings", positions)),
        )
    except (TypeError, ValueError):
        raise InputError(f"the encoder config's rope parameters must be numbers, not {dict(given)!r:.120}") from None
    if not (found.theta > 0 and found.factor > 0 and 0 < found.low < found.high and found.trained > 0):
        raise InputError(f"the encoder config's rope parameters make no rotation: {dict(given)!r:.120}")
    return found
