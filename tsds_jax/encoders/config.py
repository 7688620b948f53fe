"""The sizes and settings of an encoder, read from the `config.json` of a Hugging Face folder."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tsds_jax.arrays import is_number
from tsds_jax.errors import InputError


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU: x times the normal distribution function of x.

    By erf, where `jax.nn.gelu` takes erfc: half the time on a CPU, and what the checkpoints were made with. A gradient
    computes it again from x: on a CPU to keep more than x for it takes longer. In bfloat16, whose digits 1 + erf would
    lose left of zero, it is ``x sigmoid(x p(x^2))`` in float32 with p fitted to it: within 2.6e-5, and less work.
    """
    if x.dtype == jnp.bfloat16:
        wide = x.astype(jnp.float32)
        square = jnp.minimum(wide * wide, 36.0)  # where p, and all of the function but a line, ends
        slope = 1.59501574 + square * (7.40113199e-2 - 7.03037872e-4 * square)
        return (wide * jax.nn.sigmoid(wide * slope)).astype(x.dtype)
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


class Family(NamedTuple):
    """What the checkpoints of one ``model_type`` have in common.

    Attributes:
      defaults: the value of every field that a config.json may leave out.
      keys: field -> its key in config.json, where that has another name.
      fixed: fields that no config.json decides: such a key is another family's, left behind.
      common: fields whose own name a config.json may have too; it is the one that counts, as in transformers.
      counts_positions: whether positions are counted over what is not padding, from the padding's id + 1 on, so that
        the table of positions is longer than a text may be.
    """

    defaults: dict[str, Any]
    keys: Mapping[str, str] = MappingProxyType({})
    fixed: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    counts_positions: bool = False


_BERT = {
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
    "pad_token_id": 0,
}

_ROBERTA = _BERT | {"vocab_size": 50265, "pad_token_id": 1}

FAMILIES: dict[str, Family] = {
    "bert": Family(_BERT),
    "roberta": Family(_ROBERTA, counts_positions=True),
    "xlm-roberta": Family(_ROBERTA | {"vocab_size": 30522}, counts_positions=True),
    "camembert": Family(_ROBERTA | {"vocab_size": 30522}, counts_positions=True),
    "distilbert": Family(
        _BERT | {"num_hidden_layers": 6, "type_vocab_size": 0},
        keys={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
        },
        fixed=("type_vocab_size", "layer_norm_eps"),
        common=("hidden_size", "num_hidden_layers", "num_attention_heads"),
    ),
    "electra": Family(
        _BERT | {"embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
    ),
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is made of. Field names are those of a BERT `config.json`.

    Attributes:
      model_type: the family, a key of `FAMILIES`.
      vocab_size: token ids run from 0 to ``vocab_size - 1``.
      hidden_size: width of a representation.
      num_hidden_layers: layers after the embeddings.
      num_attention_heads: heads a layer; must divide ``hidden_size``.
      intermediate_size: inner width of the feed-forward part of a layer.
      max_position_embeddings: rows of the table of positions; see `max_tokens`.
      type_vocab_size: segments told apart by ``token_type_ids``; 0 if the family knows none and ignores them.
      hidden_act: a key of `ACTIVATIONS`; ``"gelu"`` is the exact one, by the error function.
      layer_norm_eps: added to the variance in every layer norm.
      hidden_dropout_prob: dropout after the embeddings and after both parts of a layer.
      attention_probs_dropout_prob: dropout on the attention weights.
      pad_token_id: the token that fills up a text.
      embedding_size: width of the tables of tokens, positions and segments, which a linear map takes to
        ``hidden_size``; None where there is no such map.
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
    pad_token_id: int = 0
    embedding_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes and settings that make no encoder."""
        check_numbers(
            self,
            least={"type_vocab_size": 0, "pad_token_id": 0},
            rates=("hidden_dropout_prob", "attention_probs_dropout_prob"),
            small=("layer_norm_eps",),
        )
        if self.embedding_size is not None and (not isinstance(self.embedding_size, int) or self.embedding_size < 1):
            raise InputError(
                f"the encoder config's embedding_size must be a positive whole number, not {self.embedding_size!r:.60}"
            )
        if self.pad_token_id >= self.vocab_size:
            raise InputError(
                f"the encoder config's pad_token_id {self.pad_token_id} is not below its vocab_size {self.vocab_size}"
            )
        if self.max_tokens < 1:
            raise InputError(
                f"the encoder config's max_position_embeddings {self.max_position_embeddings} leave no position for a "
                f"token after the padding's, {self.pad_token_id}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"the encoder config's hidden_size {self.hidden_size} is not a multiple of its "
                f"num_attention_heads {self.num_attention_heads}"
            )
        check_activation(self.hidden_act)

    @property
    def max_tokens(self) -> int:
        """The most tokens of one text, special tokens included."""
        return self.max_position_embeddings - (self.pad_token_id + 1 if self.counts_positions else 0)

    def with_dropout(self, rate: float) -> "EncoderConfig":
        """The same with that rate wherever there is dropout."""
        return dataclasses.replace(self, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)

    @property
    def counts_positions(self) -> bool:
        """Whether positions are counted over what is not padding; see `Family`."""
        return FAMILIES[self.model_type].counts_positions

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
        if not isinstance(model_type, str) or model_type not in FAMILIES:
            raise InputError(f"model_type {model_type!r:.60} is not supported; supported: {', '.join(FAMILIES)}")
        position = values.get("position_embedding_type", "absolute")
        if position != "absolute":
            raise InputError(f"position_embedding_type {position!r:.60} is not supported; supported: absolute")
        for flag in ("is_decoder", "add_cross_attention"):
            if values.get(flag):
                raise InputError(f"the encoder config has {flag} set; only an encoder is supported here")
        family = FAMILIES[model_type]
        named = {name: key for name, key in family.keys.items() if name not in family.common or name not in values}
        asked = {name: named.get(name, name) for name in family.defaults if name not in family.fixed}
        given = family.defaults | {name: values[key] for name, key in asked.items() if key in values}
        if given["pad_token_id"] is None and not family.counts_positions:
            given["pad_token_id"] = family.defaults["pad_token_id"]  # padding is masked, whatever it is
        if given.get("embedding_size") == given["hidden_size"]:
            given["embedding_size"] = None  # as wide as the layers: there is no map
        return cls(model_type=model_type, **given)


# What every config has, each at least 1.
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)


def read_json(path: Path) -> Mapping[str, Any]:
    """The object in a folder's config.json.

    Raises:
      InputError: it cannot be read, or there is no JSON object in it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"it cannot be read as JSON: {str(error)[:60]}") from None
    if not isinstance(values, dict):
        raise InputError("it holds no JSON object; give the folder of a Hugging Face model")
    return values


def check_numbers(config: Any, *, least: Mapping[str, int], rates: Iterable[str], small: Iterable[str]) -> None:
    """Refuse a config's sizes, at least 1 or as `least` says, its dropout rates and what norms add."""
    for name, smallest in (dict.fromkeys(SIZES, 1) | dict(least)).items():
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
            wanted = "a positive whole number" if smallest == 1 else f"a whole number, {smallest} or more"
            raise InputError(f"the encoder config's {name} must be {wanted}, not {value!r:.60}")
    for name in rates:
        value = getattr(config, name)
        if not is_number(value) or not 0 <= value < 1:
            raise InputError(f"the encoder config's {name} must be at least 0 and below 1, not {value!r:.60}")
    for name in small:
        value = getattr(config, name)
        if not is_number(value) or not 0 < value < 1:
            raise InputError(f"the encoder config's {name} must be from 0 to 1, not {value!r:.60}")


def check_activation(name: object, key: str = "hidden_act") -> None:
    """Refuse what is no key of `ACTIVATIONS`."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise InputError(
            f"the encoder config's {key} {name!r:.60} is not supported; supported: {', '.join(ACTIVATIONS)}"
        )
