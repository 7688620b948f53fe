"""From the hidden states of a text's tokens to one vector."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.errors import InputError

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


POOLINGS: dict[str, Pooling] = {"cls": cls, "mean": mean}


def pooling_named(name: str) -> Pooling:
    """The pooling function of that name.

    Raises:
      InputError: there is none.
    """
    if name not in POOLINGS:
        raise InputError(f"pooling {name!r:.60} is not known; choose one of {', '.join(POOLINGS)}")
    return POOLINGS[name]
