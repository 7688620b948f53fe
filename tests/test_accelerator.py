"""Claims that an accelerator's own ways of computing could break: run them wherever JAX finds one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tsds_jax import value
from tsds_jax.encoders import EncoderConfig
from tsds_jax.encoders.families import new_encoder
from tsds_jax.encoders.precision import set_table_dtype


def problem(features, points=400):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(points + 100, features)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=len(x)) > 0).astype(int)
    return x[:points], y[:points], x[points:], y[points:]


@pytest.mark.slow
@pytest.mark.parametrize("features", [5, 32])
@pytest.mark.parametrize("utility", ["accuracy", "log_likelihood"])
def test_values_by_add_one_are_those_of_exact_refits_up_to_a_hundredth_of_their_spread(features, utility):
    data = problem(features)
    found = value(*data, utility=utility, samples=64, subset_size=100)
    # Every contribution checked beside two fits of its own.
    difference = found.checks[:, 1]
    assert len(difference) == 64
    assert np.abs(difference).max() < (3e-3 if utility == "log_likelihood" else 0.011)  # one row of a hundred
    assert abs(found.bias) < 0.01 * found.values.std()
    assert found.unconverged == 0


@pytest.mark.slow
def test_attention_in_one_kernel_is_the_plain_one_with_padding_and_its_gradient(monkeypatch):
    config = EncoderConfig.from_dict(
        {
            "model_type": "bert",
            "vocab_size": 100,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "max_position_embeddings": 32,
        }
    )
    # The kernel takes bfloat16 alone. On a CPU XLA's function of the same arguments stands in for it, in float32.
    on_gpu = jax.default_backend() == "gpu"
    dtype, tolerance = ("bfloat16", 2e-2) if on_gpu else ("float32", 1e-5)
    model = new_encoder(config, rngs=nnx.Rngs(0))
    set_table_dtype(model, dtype)
    graphdef, state = nnx.split(model)
    state = jax.tree.map(lambda weight: weight.astype(dtype), state)
    ids = jnp.asarray(np.random.default_rng(1).integers(5, 100, (4, 16)), jnp.int32)
    mask = (jnp.arange(16) < jnp.array([16, 9, 1, 0])[:, None]).astype(jnp.int32)

    def loss(state):
        hidden = nnx.merge(graphdef, state)(ids, mask, jnp.zeros_like(ids)).astype(jnp.float32)
        return jnp.sum((hidden * mask[:, :, None]) ** 2 * jnp.linspace(0, 1, 64)), hidden

    def found(fused):
        with monkeypatch.context() as patched:
            patched.setattr("tsds_jax.encoders.modeling.fused_attention", lambda *_: fused)
            if not on_gpu:
                patched.setattr("tsds_jax.encoders.modeling.FUSED", "xla")
            jax.clear_caches()
            (_, hidden), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(state)
        return hidden, gradient

    (hidden, gradient), (plain, plainly) = found(True), found(False)
    assert bool(jnp.all(jnp.isfinite(hidden)))
    for one, other in ((hidden * mask[:, :, None], plain * mask[:, :, None]), (gradient, plainly)):
        one, other = (np.concatenate([np.ravel(x).astype(float) for x in jax.tree.leaves(y)]) for y in (one, other))
        assert np.linalg.norm(one - other) <= tolerance * np.linalg.norm(other)
