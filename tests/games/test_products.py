"""Products in full precision, by units that have less."""

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games import products


def test_one_product_of_three_parts_in_tf32_has_the_digits_of_one_in_float32(monkeypatch):
    if jax.default_backend() == "cpu":
        # As a TF32 unit takes its numbers: what lies behind ten digits is cut off.
        def cut(array):
            bits = jax.lax.bitcast_convert_type(array, jnp.uint32) & jnp.uint32(0xFFFFE000)
            return jax.lax.bitcast_convert_type(bits, jnp.float32)

        monkeypatch.setattr(products, "near", lambda what, a, b: jnp.einsum(what, cut(a), cut(b)))
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(300, 129)), rng.normal(size=(50, 129))
    left, right = np.float32(left), np.float32(right)
    exact = left.astype(np.float64) @ right.T.astype(np.float64)
    size = np.abs(left).astype(np.float64) @ np.abs(right).T
    error = np.abs(products.in_three(jnp.asarray(left), jnp.asarray(right)) - exact)
    assert np.max(error / size) < 5e-7
    # The plain product in TF32 is a thousand times as far off.
    assert np.max(np.abs(products.near("lf,rf->lr", left, right) - exact) / size) > 1e-5
