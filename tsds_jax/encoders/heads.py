"""What stands on an encoder to classify or score a text: a family's own head, or a pooling under one linear map.

A family's own head is that of its ``ForSequenceClassification`` model in transformers, under the same names in a
checkpoint, so that a model fine-tuned here is one there and the other way round.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from tsds_jax.arrays import one_of
from tsds_jax.encoders.config import ACTIVATIONS, EncoderConfig, check_activation
from tsds_jax.encoders.families import Config
from tsds_jax.encoders.modeling import Dropout
from tsds_jax.encoders.pooling import POOLINGS
from tsds_jax.errors import InputError

# What a head may be called for: the family's own, or a pooling's name.
HEADS = ("own", *POOLINGS)


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """What a head is made of.

    Attributes:
      pooling: how a text's tokens become one vector, a key of `POOLINGS`.
      width: of the encoder's hidden state.
      out: name in a checkpoint of the map onto the outputs.
      out_bias: whether it has a bias.
      dropout: rate before it.
      dense: name of a square map before it; None where there is none, and then the next three have no use.
      dense_bias: whether that has a bias.
      activation: after it, a key of `ACTIVATIONS`.
      drops_twice: whether there is dropout before it too.
      norm: name of a layer norm after the activation; None where there is none.
      norm_bias: whether that has a bias.
      norm_eps: added to its variance.
      pad: of a decoder's own head: the token that the last one is looked for before, -1 where none is known; None in
        all other heads.
    """

    pooling: str
    width: int
    out: str
    out_bias: bool = True
    dropout: float = 0.0
    dense: str | None = None
    dense_bias: bool = True
    activation: str = "tanh"
    drops_twice: bool = False
    norm: str | None = None
    norm_bias: bool = False
    norm_eps: float = 1e-5
    pad: int | None = None

    @property
    def parts(self) -> dict[str, str]:
        """The head's maps and norm: name in a `Head` -> name in a checkpoint."""
        named = {"dense": self.dense, "norm": self.norm, "out": self.out}
        return {ours: theirs for ours, theirs in named.items() if theirs is not None}


def head_config(head: str, settings: Mapping[str, Any], config: Config) -> HeadConfig:
    """The head of that name on an encoder.

    Args:
      head: ``"own"``, the family's, or a pooling's name: that pooling, dropout and one linear map.
      settings: the encoder's config.json as it was read.
      config: the same, as the encoder takes it.

    Raises:
      InputError: there is no such head, or a setting of it is not supported.

    Example:
      >>> from tsds_jax.encoders import config_from_dict
      >>> head_config("own", {}, config_from_dict({"model_type": "roberta"})).dense
      'classifier.dense'
    """
    one_of("head", head, HEADS)
    return _own(settings, config) if head == "own" else _linear(head, config)


def _linear(pooling: str, config: Config) -> HeadConfig:
    rate = config.hidden_dropout_prob if isinstance(config, EncoderConfig) else config.mlp_dropout
    return HeadConfig(pooling, config.hidden_size, "linear_head", dropout=rate)


def _own(settings: Mapping[str, Any], config: Config) -> HeadConfig:
    width = config.hidden_size
    if not isinstance(config, EncoderConfig):
        if config.model_type != "modernbert":
            pad = settings.get("pad_token_id")
            return HeadConfig("last", width, "score", out_bias=False, pad=pad if isinstance(pad, int) else -1)
        activation = settings.get("classifier_activation", "gelu")
        check_activation(activation, "classifier_activation")
        pooling = settings.get("classifier_pooling", "cls")
        one_of("the encoder config's classifier_pooling", pooling, tuple(POOLINGS))
        return HeadConfig(
            pooling=pooling,
            width=width,
            out="classifier",
            dropout=_rate(settings, "classifier_dropout", 0.0),
            dense="head.dense",
            dense_bias=bool(settings.get("classifier_bias", False)),
            activation=activation,
            norm="head.norm",
            norm_bias=config.norm_bias,
            norm_eps=config.norm_eps,
        )
    if config.model_type == "distilbert":
        rate = _rate(settings, "seq_classif_dropout", 0.2)
        return HeadConfig("cls", width, "classifier", dropout=rate, dense="pre_classifier", activation="relu")
    rate = _rate(settings, "classifier_dropout", config.hidden_dropout_prob)
    if config.model_type == "bert":
        return HeadConfig("cls", width, "classifier", dropout=rate, dense="pooler.dense")
    activation = "gelu" if config.model_type == "electra" else "tanh"
    return HeadConfig(
        "cls",
        width,
        "classifier.out_proj",
        dropout=rate,
        dense="classifier.dense",
        activation=activation,
        drops_twice=True,
    )


def _rate(settings: Mapping[str, Any], key: str, default: float) -> float:
    rate = settings.get(key)
    if rate is None:
        return default
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise InputError(f"the encoder config's {key} must be at least 0 and below 1, not {rate!r:.60}")
    return float(rate)


class Head(nnx.Module):
    """Pooling, the family's dense map where it has one, dropout, and a linear map onto the outputs."""

    def __init__(self, config: HeadConfig, outputs: int, *, rngs: nnx.Rngs):
        """Make it with random weights."""
        width = config.width
        self.dense = nnx.Linear(width, width, use_bias=config.dense_bias, rngs=rngs) if config.dense else None
        self.norm = (
            nnx.LayerNorm(width, epsilon=config.norm_eps, use_bias=config.norm_bias, use_fast_variance=False, rngs=rngs)
            if config.norm
            else None
        )
        self.out = nnx.Linear(width, outputs, use_bias=config.out_bias, rngs=rngs)
        self.dropout = Dropout(config.dropout)
        self.config = config

    def __call__(self, hidden: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens, width] and mask [batch, tokens] -> [batch, outputs]."""
        x = POOLINGS[self.config.pooling](hidden, mask)
        if self.dense is not None:
            x = self.dense(self.dropout(x, rngs) if self.config.drops_twice else x)
            x = ACTIVATIONS[self.config.activation](x)
        if self.norm is not None:
            x = self.norm(x)
        return self.out(self.dropout(x, rngs))
