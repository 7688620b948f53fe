"""The sizes and settings of an encoder, read from the `config.json` of a Hugging Face folder."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from tsds_jax.errors import InputError


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU: x times the normal distribution function of x.

    By erf, where `jax.nn.gelu` takes erfc: half the time on a CPU, and what the checkpoints were made with.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}

# One entry a model_type: the value of every field that its config.json may leave out.
FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "bert": {
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    },
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is made of. Field names are those of a BERT `config.json`.

    Attributes:
      model_type: the family, a key of `FAMILY_DEFAULTS`.
      vocab_size: token ids run from 0 to ``vocab_size - 1``.
      hidden_size: width of a representation.
      num_hidden_layers: layers after the embeddings.
      num_attention_heads: heads a layer; must divide ``hidden_size``.
      intermediate_size: inner width of the feed-forward part of a layer.
      max_position_embeddings: the most tokens that a text may have, special tokens included.
      type_vocab_size: segments told apart by ``token_type_ids``.
      hidden_act: a key of `ACTIVATIONS`; ``"gelu"`` is the exact one, by the error function.
      layer_norm_eps: added to the variance in every layer norm.
      hidden_dropout_prob: dropout after the embeddings and after both parts of a layer.
      attention_probs_dropout_prob: dropout on the attention weights.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str
    layer_norm_eps: float
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float

    def __post_init__(self) -> None:
        """Refuse sizes and settings that make no encoder."""
        for name in _SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"the encoder config's {name} must be a positive whole number, not {value!r:.60}")
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"the encoder config's hidden_size {self.hidden_size} is not a multiple of its "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise InputError(
                f"the encoder config's hidden_act {self.hidden_act!r:.60} is not supported; "
                f"supported: {', '.join(ACTIVATIONS)}"
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < 1:
                raise InputError(f"the encoder config's {name} must be at least 0 and below 1, not {value!r:.60}")
        if not _is_number(self.layer_norm_eps) or not 0 < self.layer_norm_eps < 1:
            raise InputError(
                f"the encoder config's layer_norm_eps must be from 0 to 1, not {self.layer_norm_eps!r:.60}"
            )

    @property
    def max_tokens(self) -> int:
        """The most tokens of one text, special tokens included."""
        return self.max_position_embeddings

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EncoderConfig":
        """Read the fields of a Hugging Face config; keys that an encoder has no use for are left alone.

        Raises:
          InputError: the model_type or a setting that changes the computation is not supported, or a
            size makes no sense.

        Example:
          >>> EncoderConfig.from_dict({"model_type": "bert", "num_hidden_layers": 6}).num_hidden_layers
          6
        """
        model_type = values.get("model_type")
        if model_type not in FAMILY_DEFAULTS:
            raise InputError(f"model_type {model_type!r:.60} is not supported; supported: {', '.join(FAMILY_DEFAULTS)}")
        position = values.get("position_embedding_type", "absolute")
        if position != "absolute":
            raise InputError(f"position_embedding_type {position!r:.60} is not supported; supported: absolute")
        for flag in ("is_decoder", "add_cross_attention"):
            if values.get(flag):
                raise InputError(f"the encoder config has {flag} set; only an encoder is supported here")
        defaults = FAMILY_DEFAULTS[model_type]
        return cls(model_type=model_type, **{name: values.get(name, defaults[name]) for name in defaults})

    @classmethod
    def from_folder(cls, folder: str | Path) -> "EncoderConfig":
        """Read `config.json` of a Hugging Face folder.

        Raises:
          InputError: no readable `config.json` there, or `from_dict` refuses it.
        """
        path = Path(folder) / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{folder} has no config.json; give the folder of a Hugging Face model") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as JSON: {str(error)[:60]}") from None
        if not isinstance(values, dict):
            raise InputError(f"{path} holds no JSON object; give the folder of a Hugging Face model")
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
