"""The encoders of the BERT family in Flax NNX: token ids in, one hidden state a layer out.

BERT (Devlin et al., 2019), RoBERTa (Liu et al., 2019) and XLM-RoBERTa (Conneau et al., 2020), which count positions
over what is not padding; DistilBERT (Sanh et al., 2019), without segments; ELECTRA (Clark et al., 2020), whose tables
may be narrower than its layers.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint

from tsds_jax.encoders.config import ACTIVATIONS, EncoderConfig
from tsds_jax.encoders.precision import dtype_of
from tsds_jax.runtime.environment import nvidia_capability

# The kernel of `fused_attention`.
FUSED: Literal["cudnn", "xla"] = "cudnn"

# So many tokens have their scores computed at once; of more so many numbers of them, a quarter of a GiB.
WHOLE, SCORES = 1024, 2**26


class Dropout(nnx.Module):
    """Zeros a share of the entries and scales up the others.

    Unlike `nnx.Dropout` it spends 16 random bits an entry, not 32, which halves its time; the rate is
    rounded to a multiple of 1 / 65,536, below 1.
    """

    def __init__(self, rate: float):
        """Keep the rate; there is no state."""
        self.rate = rate

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """The same shape back; x itself if rngs is None."""
        zeroed = min(round(self.rate * 65536), 65535)
        if rngs is None or zeroed == 0:
            return x
        words = jax.random.bits(rngs.dropout(), (-(-x.size // 2),), jnp.uint32)
        bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
        return jnp.where(bits >= zeroed, x * (65536 / (65536 - zeroed)), 0)


class Embeddings(nnx.Module):
    """Sum of the token's, the position's and, where there are any, the segment's vector, normalised."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Make the tables, [vocab | positions | types, narrow] each, and the map to the layers' width if it differs."""
        narrow = config.embedding_size or config.hidden_size
        self.words = nnx.Embed(config.vocab_size, narrow, rngs=rngs)
        self.positions = nnx.Embed(config.max_position_embeddings, narrow, rngs=rngs)
        self.types = nnx.Embed(config.type_vocab_size, narrow, rngs=rngs) if config.type_vocab_size else None
        self.norm = _layer_norm(config, narrow, rngs)
        self.project = nnx.Linear(narrow, config.hidden_size, rngs=rngs) if config.embedding_size else None
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.counted_from = config.pad_token_id if config.counts_positions else None

    def __call__(self, input_ids: jax.Array, token_type_ids: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens] twice -> [batch, tokens, width]."""
        positions = jnp.arange(input_ids.shape[-1])
        if self.counted_from is not None:
            token = input_ids != self.counted_from
            positions = jnp.cumsum(token, -1) * token + self.counted_from
        x = self.words(input_ids) + self.positions(positions)
        if self.types is not None:
            x += self.types(token_type_ids)
        # While half precision trains, tables stay whole.
        x = self.dropout(self.norm(x).astype(dtype_of(nnx.state(self.norm))), rngs)
        return x if self.project is None else each_token(self.project, x)


class SelfAttention(nnx.Module):
    """Multi-head attention in which every token sees every token that is not padding."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Make the four [width, width] maps."""
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.output = nnx.Linear(width, width, rngs=rngs)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens, width] and mask [batch, tokens] -> [batch, tokens, width]."""
        batch, tokens, width = x.shape
        head = width // self.heads

        fused = fused_attention(x.dtype, head) and (rngs is None or self.dropout.rate == 0)
        # Apart, or XLA makes one product of the first two on a GPU and adds their biases in a pass of its own.
        states = jax.lax.optimization_barrier((x, x, x)) if fused else (x, x, x)
        query, key, value = (
            each_token(f, state).reshape(batch, tokens, self.heads, head)
            for f, state in zip((self.query, self.key, self.value), states, strict=True)
        )
        if fused:
            # A row of padding alone sees its first token, for of nothing there is no sum to divide by.
            seen = jnp.maximum(jnp.sum(mask, 1, dtype=jnp.int32), 1)
            mixed = jax.nn.dot_product_attention(
                query,
                key,
                value,
                query_seq_lengths=jnp.full_like(seen, tokens),
                key_value_seq_lengths=seen,
                implementation=FUSED,
            )
            return each_token(self.output, mixed.reshape(x.shape))
        query, key, value = (y.swapaxes(1, 2) for y in (query, key, value))  # [batch, heads, tokens, head]

        def mixed_for(query: jax.Array, _: jax.Array) -> jax.Array:
            # In float32 to the weights of the sum, also where the parameters are in half precision.
            scores = jnp.matmul(query, key.mT, preferred_element_type=jnp.float32) * head**-0.5
            # The lowest finite number, not -inf: a row of padding alone must give no NaN.
            scores = jnp.where(mask[:, None, None, :] > 0, scores, jnp.finfo(scores.dtype).min)
            weights = self.dropout(jax.nn.softmax(scores, axis=-1), rngs).astype(value.dtype)
            return weights @ value

        mixed = for_queries(mixed_for, query, whole=rngs is not None and self.dropout.rate > 0)
        return each_token(self.output, mixed.swapaxes(1, 2).reshape(x.shape))


def for_queries(
    mixed_for: Callable[[jax.Array, jax.Array], jax.Array], query: jax.Array, *, whole: bool = False
) -> jax.Array:
    """What attention mixes for queries [..., tokens, head]: of many tokens for some queries at a time.

    The scores of all with all take the square of the tokens: 64 GiB of 16 heads and 32,768.

    Args:
      mixed_for: called with some queries [..., some, head] and their places [some]; gives as many [..., some, head].
      query: all of them.
      whole: whether all must be computed at once.
    """
    *lead, tokens, head = query.shape
    if whole or tokens <= WHOLE:
        return mixed_for(query, jnp.arange(tokens))
    some = min(tokens, max(1, SCORES // (math.prod(lead) * tokens)))
    blocks = -(-tokens // some)
    filled = jnp.pad(query, [(0, 0)] * len(lead) + [(0, blocks * some - tokens), (0, 0)])
    parts = jnp.moveaxis(filled.reshape(*lead, blocks, some, head), -3, 0)
    # Nor does a gradient keep the scores.
    block = jax.checkpoint(lambda part: mixed_for(*part))
    found = jax.lax.map(block, (parts, jnp.arange(blocks * some).reshape(blocks, some)))
    return jnp.moveaxis(found, 0, -3).reshape(filled.shape)[..., :tokens, :]


class Layer(nnx.Module):
    """Attention, then a feed-forward network on each token; a residual sum and a layer norm after both."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Make both parts and their norms."""
        self.attention = SelfAttention(config, rngs=rngs)
        self.attention_norm = _layer_norm(config, config.hidden_size, rngs)
        self.up = nnx.Linear(config.hidden_size, config.intermediate_size, rngs=rngs)
        self.down = nnx.Linear(config.intermediate_size, config.hidden_size, rngs=rngs)
        self.down_norm = _layer_norm(config, config.hidden_size, rngs)
        self.dropout = Dropout(config.hidden_dropout_prob)
        # DistilBERT was trained with none on what attention gives.
        self.attention_dropout = Dropout(0.0 if config.model_type == "distilbert" else config.hidden_dropout_prob)
        self.activation = config.hidden_act

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens, width] and mask [batch, tokens] -> [batch, tokens, width]."""
        attended = self.attention(x, mask, rngs)
        x = self.attention_norm(x + self.attention_dropout(attended, rngs))
        fed = each_token(self.down, ACTIVATIONS[self.activation](each_token(self.up, x)))
        return self.down_norm(x + self.dropout(fed, rngs))


class Transformer(nnx.Module):
    """What an encoder module of any family is called with, and gives.

    A family has its ``layers``, says by `embedded` what goes into the first, and by `finished` what becomes of what
    comes out of the last. All of its state is `nnx.Param`: dropout takes its randomness from the call, so a split of
    the model is its weights and nothing else.
    """

    layers: nnx.List

    def embedded(self, input_ids: jax.Array, token_type_ids: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens] twice -> [batch, tokens, width]."""
        raise NotImplementedError

    def finished(self, state: jax.Array) -> jax.Array:
        """[batch, tokens, width] of the last layer -> the same."""
        return state

    def hidden_states(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        rngs: nnx.Rngs | None = None,
        remat: bool = False,
    ) -> tuple[jax.Array, ...]:
        """The hidden state after the embeddings and after each layer, the last as the family finishes it.

        Args:
          input_ids: integers [batch, tokens].
          attention_mask: [batch, tokens], 1 for a token and 0 for padding, which is on the right.
          token_type_ids: integers [batch, tokens], the segment of each token; ignored where a family knows none.
          rngs: where dropout draws from; None turns dropout off.
          remat: keep nothing of what a layer computes but what it gives, and compute it again in the backward pass.

        Returns:
          ``num_hidden_layers + 1`` arrays [batch, tokens, width]. What stands at padding is of no use.
        """
        through = nnx.remat(_through) if remat else _through
        states = [self.embedded(input_ids, token_type_ids, rngs)]
        for layer in self.layers:
            states.append(in_rows(through(layer, states[-1], attention_mask, rngs)))
        return (*states[:-1], self.finished(states[-1]))

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        rngs: nnx.Rngs | None = None,
        remat: bool = False,
    ) -> jax.Array:
        """The last of `hidden_states`: [batch, tokens, width]."""
        return self.hidden_states(input_ids, attention_mask, token_type_ids, rngs=rngs, remat=remat)[-1]


class BertEncoder(Transformer):
    """An encoder of the BERT family without its pooler and heads."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Make a randomly initialised encoder; `params.load_model` makes one from a checkpoint."""
        self.embeddings = Embeddings(config, rngs=rngs)
        self.layers = nnx.List([Layer(config, rngs=rngs) for _ in range(config.num_hidden_layers)])

    def embedded(self, input_ids: jax.Array, token_type_ids: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """See `Embeddings`."""
        return self.embeddings(input_ids, token_type_ids, rngs)


def _through(layer: nnx.Module, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
    return layer(x, mask, rngs)


def in_rows(states: jax.Array) -> jax.Array:
    """The same, on an NVIDIA GPU with the numbers of a token side by side in memory.

    XLA lays out what a layer gives as a pooling behind the last likes it best, and then transposes in every layer.
    """
    if nvidia_capability(jax.devices()[0]) is None:
        return states
    return with_layout_constraint(states, Layout(tuple(range(states.ndim))))


def fused_attention(dtype: jnp.dtype, head: int) -> bool:
    """Whether scores, softmax and sum for heads of this width are one kernel that keeps no scores.

    So it is in bfloat16 on NVIDIA GPUs that have it, by cuDNN; it has no dropout here.
    """
    capability = nvidia_capability(jax.devices()[0])
    return dtype == jnp.bfloat16 and capability is not None and head % 8 == 0 and head <= 128


def _layer_norm(config: EncoderConfig, width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The fast variance, E[x^2] - E[x]^2, loses digits that an eps of 1e-12 does not hide.
    return nnx.LayerNorm(width, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


def each_token(linear: nnx.Linear, x: jax.Array) -> jax.Array:
    """The map of every token: [batch, tokens, in] -> [batch, tokens, out]."""
    # Batch and tokens as one dimension: XLA's gradient of a three-dimensional product transposes the
    # activations, which doubles its time on a CPU.
    return linear(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
