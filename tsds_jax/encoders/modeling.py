"""The BERT encoder (Devlin et al., 2019) in Flax NNX: token ids in, one hidden state a layer out."""

import jax
import jax.numpy as jnp
from flax import nnx

from tsds_jax.encoders.config import ACTIVATIONS, EncoderConfig


class Dropout(nnx.Module):
    """Zeros a share of the entries and scales up the others.

    Unlike `nnx.Dropout` it spends 16 random bits an entry, not 32, which halves its time; the rate is
    rounded to a multiple of 1 / 65,536.
    """

    def __init__(self, rate: float):
        """Keep the rate; there is no state."""
        self.rate = rate

    def __call__(self, x: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """The same shape back; x itself if rngs is None."""
        zeroed = round(self.rate * 65536)
        if rngs is None or zeroed == 0:
            return x
        words = jax.random.bits(rngs.dropout(), (-(-x.size // 2),), jnp.uint32)
        bits = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
        return jnp.where(bits >= zeroed, x * (65536 / (65536 - zeroed)), 0)


class Embeddings(nnx.Module):
    """Sum of the token's, the position's and the segment's vector, normalised."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Make the three tables, [vocab | positions | types, width] each."""
        self.words = nnx.Embed(config.vocab_size, config.hidden_size, rngs=rngs)
        self.positions = nnx.Embed(config.max_position_embeddings, config.hidden_size, rngs=rngs)
        self.types = nnx.Embed(config.type_vocab_size, config.hidden_size, rngs=rngs)
        self.norm = _layer_norm(config, rngs)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def __call__(self, input_ids: jax.Array, token_type_ids: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens] twice -> [batch, tokens, width]."""
        positions = jnp.arange(input_ids.shape[-1])
        x = self.words(input_ids) + self.positions(positions) + self.types(token_type_ids)
        return self.dropout(self.norm(x), rngs)


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

        def by_head(y: jax.Array) -> jax.Array:  # [batch, heads, tokens, head]
            return y.reshape(batch, tokens, self.heads, head).swapaxes(1, 2)

        query, key, value = (by_head(_each_token(f, x)) for f in (self.query, self.key, self.value))
        scores = query @ key.mT * head**-0.5
        # The lowest finite number, not -inf: a row of padding alone must give no NaN.
        scores = jnp.where(mask[:, None, None, :] > 0, scores, jnp.finfo(scores.dtype).min)
        weights = self.dropout(jax.nn.softmax(scores, axis=-1), rngs)
        return _each_token(self.output, (weights @ value).swapaxes(1, 2).reshape(x.shape))


class Layer(nnx.Module):
    """Attention, then a feed-forward network on each token; a residual sum and a layer norm after both."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Make both parts and their norms."""
        self.attention = SelfAttention(config, rngs=rngs)
        self.attention_norm = _layer_norm(config, rngs)
        self.up = nnx.Linear(config.hidden_size, config.intermediate_size, rngs=rngs)
        self.down = nnx.Linear(config.intermediate_size, config.hidden_size, rngs=rngs)
        self.down_norm = _layer_norm(config, rngs)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.activation = config.hidden_act

    def __call__(self, x: jax.Array, mask: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        """[batch, tokens, width] and mask [batch, tokens] -> [batch, tokens, width]."""
        attended = self.attention(x, mask, rngs)
        x = self.attention_norm(x + self.dropout(attended, rngs))
        fed = _each_token(self.down, ACTIVATIONS[self.activation](_each_token(self.up, x)))
        return self.down_norm(x + self.dropout(fed, rngs))


class BertEncoder(nnx.Module):
    """BERT without its pooler and heads.

    All of its state is `nnx.Param`: dropout takes its randomness from the call, so a split of the
    model is its weights and nothing else.
    """

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Make a randomly initialised encoder; `params.load_model` makes one from a checkpoint."""
        self.embeddings = Embeddings(config, rngs=rngs)
        self.layers = nnx.List([Layer(config, rngs=rngs) for _ in range(config.num_hidden_layers)])

    def hidden_states(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[jax.Array, ...]:
        """The hidden state after the embeddings and after each layer.

        Args:
          input_ids: integers [batch, tokens].
          attention_mask: [batch, tokens], 1 for a token and 0 for padding.
          token_type_ids: integers [batch, tokens], the segment of each token.
          rngs: where dropout draws from; None turns dropout off.

        Returns:
          ``num_hidden_layers + 1`` arrays [batch, tokens, width]. What stands at padding is of no use.
        """
        states = [self.embeddings(input_ids, token_type_ids, rngs)]
        for layer in self.layers:
            states.append(layer(states[-1], attention_mask, rngs))
        return tuple(states)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """The last of `hidden_states`: [batch, tokens, width]."""
        return self.hidden_states(input_ids, attention_mask, token_type_ids, rngs=rngs)[-1]


def _layer_norm(config: EncoderConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The fast variance, E[x^2] - E[x]^2, loses digits that an eps of 1e-12 does not hide.
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


def _each_token(linear: nnx.Linear, x: jax.Array) -> jax.Array:
    # Batch and tokens as one dimension: XLA's gradient of a three-dimensional product transposes the
    # activations, which doubles its time on a CPU.
    return linear(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
