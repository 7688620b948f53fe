"""From the hidden states of a text's tokens to one vector."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Pooling = Callable[[jax.Array, jax.Array | np.ndarray], jax.Array]


def cls(hidden: jax.Array, mask: jax.Array | np.ndarray) -> jax.Array:
    """The first token's state: [batch, tokens, width] -> [batch, width]."""
    return hidden[:, 0]


def mean(hidden: jax.Array, mask: jax.Array | np.ndarray) -> jax.Array:
    """The mean over the tokens that are not padding: [batch, tokens, width] -> [batch, width].

    A row of padding alone gives zeros.
    """
    weights = jnp.asarray(mask, dtype=hidden.dtype)
    total = jnp.einsum("btw,bt->bw", hidden, weights)
    return total / jnp.maximum(weights.sum(axis=1, keepdims=True), 1)


def weighted_mean(hidden: jax.Array, mask: jax.Array | np.ndarray) -> jax.Array:
    """The mean in which the k-th token weighs k, for models whose later tokens have seen more (Muennighoff, 2022).

    ``[batch, tokens, width] -> [batch, width]``; a row of padding alone gives zeros.
    """
    there = jnp.asarray(mask, dtype=hidden.dtype)
    return mean(hidden, jnp.cumsum(there, 1) * there)


def last(hidden: jax.Array, mask: jax.Array | np.ndarray) -> jax.Array:
    """The last token that is not padding: [batch, tokens, width] -> [batch, width].

    A row of padding alone gives its first token.
    """
    there = jnp.asarray(mask) > 0
    place = jnp.max(jnp.where(there, jnp.arange(there.shape[1]), 0), 1)
    return jnp.take_along_axis(hidden, place[:, None, None], 1)[:, 0]


POOLINGS: dict[str, Pooling] = {"cls": cls, "mean": mean, "weighted_mean": weighted_mean, "last": last}
