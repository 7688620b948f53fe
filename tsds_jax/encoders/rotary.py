"""Transformers with rotary positions in Flax NNX: ModernBERT, and Llama, Qwen2 and Qwen3 as feature extractors.

ModernBERT (Warner et al., 2024) sees all or nearby tokens by turns, Llama (Touvron et al., 2023; Dubey et al., 2024),
Qwen2 and Qwen3 (Yang et al., 2024, 2025) only what comes before, or where ``is_causal`` is false all. They norm what
goes into a layer's two parts, not the sum that comes out, gate their feed-forward part, and turn queries and keys by
their position (Su et al., 2021).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tsds_jax.encoders.config import ACTIVATIONS
from tsds_jax.encoders.modeling import Dropout, Transformer, each_token, for_queries
from tsds_jax.encoders.precision import dtype_of
from tsds_jax.encoders.rotary_config import RotaryConfig, Rotation


def frequencies(rotation: Rotation, width: int) -> np.ndarray:
    """Radians a position of each pair of a head's entries, float32 ``[width / 2]``.

    ``theta^(-2 i / width)``, slowed down as ``rotation.kind`` says. Llama 3's way: with ``turns`` how often a pair
    turns over the positions first trained on, those below ``low`` are divided by ``factor``, those above ``high`` kept,
    and those between blended linearly in ``turns``.
    """
    plain = rotation.theta ** -(np.arange(0, width, 2, dtype=np.float64) / width)
    if rotation.kind == "linear":
        plain = plain / rotation.factor
    elif rotation.kind == "llama3":
        turns = rotation.trained * plain / (2 * math.pi)
        kept = np.clip((turns - rotation.low) / (rotation.high - rotation.low), 0.0, 1.0)
        plain = kept * plain + (1 - kept) * plain / rotation.factor
    return plain.astype(np.float32)


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Each head's entries, paired i with i + half, turned by its token's position: [batch, heads, tokens, width]."""
    tokens, width = x.shape[-2:]
    angles = jnp.arange(tokens, dtype=jnp.float32)[:, None] * frequencies(rotation, width)
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


class RotaryAttention(nnx.Module):
    """Multi-head attention with rotary positions; several heads of queries may share one of keys and values."""

    def __init__(self, config: RotaryConfig, layer: int, *, rngs: nnx.Rngs):
        """Make the maps, queries', keys' and values' in one where the family has them so."""
        width, head = config.hidden_size, config.head_dim
        self.heads, self.shared, self.head = config.num_attention_heads, config.num_key_value_heads, head
        self.rotation, self.window, self.causal = config.rotations[layer], config.windows[layer], config.causal
        sizes = (self.heads * head, self.shared * head, self.shared * head)
        if config.fused:
            self.qkv = nnx.Linear(width, sum(sizes), use_bias=config.qkv_bias, rngs=rngs)
        else:
            self.query, self.key, self.value = (
                nnx.Linear(width, size, use_bias=config.qkv_bias, rngs=rngs) for size in sizes
            )
        self.fused = config.fused
        self.query_norm = norm(config, head, rngs) if config.head_norm else None
        self.key_norm = norm(config, head, rngs) if config.head_norm else None
        self.output = nnx.Linear(sizes[0], width, use_bias=config.output_bias, rngs=rngs)
        self.dropout = Dropout(config.attention_probs_dropout_prob)
        self.output_dropout = Dropout(config.attention_probs_dropout_prob if config.fused else 0.0)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens, width] and mask [batch, tokens] -> [batch, tokens, width]."""
        batch, tokens, _ = x.shape
        if self.fused:
            query, key, value = jnp.split(each_token(self.qkv, x), 3, -1)
        else:
            query, key, value = (each_token(map_, x) for map_ in (self.query, self.key, self.value))

        def by_head(y: jax.Array, heads: int) -> jax.Array:  # [batch, heads, tokens, head]
            return y.reshape(batch, tokens, heads, self.head).swapaxes(1, 2)

        query, key, value = by_head(query, self.heads), by_head(key, self.shared), by_head(value, self.shared)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        query, key = rotate(query, self.rotation), rotate(key, self.rotation)
        # Queries' heads in groups, one for each head of keys and values.
        group = self.heads // self.shared

        def mixed_for(query: jax.Array, place: jax.Array) -> jax.Array:  # [batch, shared, group, some, head]
            together = (batch, self.shared, group * len(place))
            # In float32 to the weights of the sum, also where the parameters are in half precision.
            scores = jnp.matmul(query.reshape(*together, -1), key.mT, preferred_element_type=jnp.float32)
            scores = (scores * self.head**-0.5).reshape(batch, self.shared, group, len(place), tokens)
            # The lowest finite number, not -inf: a row of padding alone must give no NaN.
            scores = jnp.where(self.seen(mask, place)[:, None, None], scores, jnp.finfo(scores.dtype).min)
            weights = self.dropout(jax.nn.softmax(scores, axis=-1), rngs).astype(value.dtype)
            return (weights.reshape(*together, tokens) @ value).reshape(query.shape)

        query = query.reshape(batch, self.shared, group, tokens, self.head)
        mixed = for_queries(mixed_for, query, whole=rngs is not None and self.dropout.rate > 0)
        mixed = mixed.reshape(batch, self.heads, tokens, self.head).swapaxes(1, 2).reshape(batch, tokens, -1)
        return self.output_dropout(each_token(self.output, mixed), rngs)

    def seen(self, mask: jax.Array, place: jax.Array) -> jax.Array:
        """Which tokens those at some places see, bool [batch, some, tokens]; [batch, 1, tokens] where all see the same.

        Computed where it is used: as a constant it was an array of tokens by tokens in the program for each layer.
        """
        seen = mask[:, None, :] > 0
        ahead = jnp.arange(mask.shape[1])[None, :] - place[:, None]
        if self.window is not None:
            seen = seen & (jnp.abs(ahead) <= self.window)
        return seen & (ahead <= 0) if self.causal else seen


class GatedFeedForward(nnx.Module):
    """``down(act(gate x) * up x)`` on each token."""

    def __init__(self, config: RotaryConfig, *, rngs: nnx.Rngs):
        """Make the maps, gate and up in one where the family has them so."""
        width, inner = config.hidden_size, config.intermediate_size
        if config.fused:
            self.gate_and_up = nnx.Linear(width, 2 * inner, use_bias=config.mlp_bias, rngs=rngs)
        else:
            self.gate, self.up = (nnx.Linear(width, inner, use_bias=config.mlp_bias, rngs=rngs) for _ in range(2))
        self.fused = config.fused
        self.down = nnx.Linear(inner, width, use_bias=config.mlp_bias, rngs=rngs)
        self.dropout = Dropout(config.mlp_dropout)
        self.activation = config.hidden_act

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens, width] -> the same."""
        if self.fused:
            gate, up = jnp.split(each_token(self.gate_and_up, x), 2, -1)
        else:
            gate, up = each_token(self.gate, x), each_token(self.up, x)
        return each_token(self.down, self.dropout(ACTIVATIONS[self.activation](gate) * up, rngs))


class RotaryLayer(nnx.Module):
    """Attention, then a gated feed-forward network, each on a normed copy and added to what came in."""

    def __init__(self, config: RotaryConfig, layer: int, *, rngs: nnx.Rngs):
        """Make both parts and their norms."""
        # What comes out of normed embeddings needs no other norm.
        self.attention_norm = None if config.fused and layer == 0 else norm(config, config.hidden_size, rngs)
        self.attention = RotaryAttention(config, layer, rngs=rngs)
        self.feed_norm = norm(config, config.hidden_size, rngs)
        self.feed = GatedFeedForward(config, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens, width] and mask [batch, tokens] -> [batch, tokens, width]."""
        x = x + self.attention(x if self.attention_norm is None else self.attention_norm(x), mask, rngs)
        return x + self.feed(self.feed_norm(x), rngs)


class RotaryEncoder(Transformer):
    """A transformer with rotary positions, without its heads; padding must stand behind the tokens."""

    def __init__(self, config: RotaryConfig, *, rngs: nnx.Rngs):
        """Make a randomly initialised one; `params.load_model` makes one from a checkpoint."""
        self.words = nnx.Embed(config.vocab_size, config.hidden_size, rngs=rngs)
        self.words_norm = norm(config, config.hidden_size, rngs) if config.fused else None
        self.dropout = Dropout(config.embedding_dropout)
        self.layers = nnx.List([RotaryLayer(config, layer, rngs=rngs) for layer in range(config.num_hidden_layers)])
        self.norm = norm(config, config.hidden_size, rngs)

    def embedded(self, input_ids: jax.Array, token_type_ids: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """The tokens' vectors, normed where the family does so; there are no segments."""
        x = self.words(input_ids)
        x = x if self.words_norm is None else self.words_norm(x)
        # While half precision trains, tables stay whole.
        return self.dropout(x.astype(dtype_of(nnx.state(self.norm))), rngs)

    def finished(self, state: jax.Array) -> jax.Array:
        """The last layer's sum, normed."""
        return self.norm(state)


def norm(config: RotaryConfig, width: int, rngs: nnx.Rngs) -> nnx.Module:
    """The family's norm of vectors of that width."""
    if config.root_mean_square:
        return nnx.RMSNorm(width, epsilon=config.norm_eps, use_fast_variance=False, rngs=rngs)
    return nnx.LayerNorm(width, epsilon=config.norm_eps, use_bias=config.norm_bias, use_fast_variance=False, rngs=rngs)
