"""Products of arrays in full float32 precision, which the games' fits and utilities are made of."""

from functools import partial

import jax
import jax.numpy as jnp

# Hopper multiplies float32 matrices in TF32 unless told otherwise; fits need the digits.
dot = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)

# For what is small beside what it is added to, or only points the way: TF32 where there is such a unit, whose rounding
# (2^-11) is relative to the small part alone. On a CPU the same as `dot`.
near = partial(jnp.einsum, precision=jax.lax.Precision.HIGH)


def row_sums(values: jax.Array) -> jax.Array:
    """Sums over the last axis, on a CPU a product with ones: it runs a sum fused with what is summed one by one."""
    if jax.default_backend() != "cpu":
        return jnp.sum(values, -1)
    return dot("...i,i->...", values, jnp.ones(values.shape[-1], values.dtype))
