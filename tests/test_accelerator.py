"""What is computed otherwise on an accelerator than on a CPU; the tests run where JAX finds one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tsds_jax import value
from tsds_jax.encoders import EncoderConfig
from tsds_jax.encoders.families import new_encoder
from tsds_jax.encoders.precision import embed_in

on_gpu = pytest.mark.skipif(jax.default_backend() != "gpu", reason="JAX finds no GPU here")
on_accelerator = pytest.mark.skipif(jax.default_backend() == "cpu", reason="JAX finds no accelerator here")


def problem(features, points=400):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(points + 100, features)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=len(x)) > 0).astype(int)
    return x[:points], y[:points], x[points:], y[points:]


@on_accelerator
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


@on_accelerator
def test_chains_on_an_accelerator_find_the_utilities_of_fits_on_the_cpu():
    data = problem(8, points=120)
    options = {"estimator": "permutation", "subset_size": 60, "samples": 4, "truncation": 0, "utility": "probability"}
    found = value(*data, **options)
    with jax.default_device(jax.devices("cpu")[0]):
        expected = value(*data, **options)
    np.testing.assert_allclose(found.values, expected.values, atol=2e-5)


@on_gpu
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
    model = new_encoder(config, rngs=nnx.Rngs(0))
    embed_in(model, "bfloat16")
    graphdef, state = nnx.split(model)
    state = jax.tree.map(lambda weight: weight.astype(jnp.bfloat16), state)
    ids = jnp.asarray(np.random.default_rng(1).integers(5, 100, (4, 16)), jnp.int32)
    mask = (jnp.arange(16) < jnp.array([16, 9, 1, 0])[:, None]).astype(jnp.int32)

    def loss(state):
        hidden = nnx.merge(graphdef, state)(ids, mask, jnp.zeros_like(ids)).astype(jnp.float32)
        return jnp.sum((hidden * mask[:, :, None]) ** 2 * jnp.linspace(0, 1, 64)), hidden

    (_, hidden), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(state)
    jax.clear_caches()
    monkeypatch.setattr("tsds_jax.encoders.modeling.fused_attention", lambda query: False)
    (_, plain), plainly = jax.jit(jax.value_and_grad(lambda state: loss(state), has_aux=True))(state)
    assert bool(jnp.all(jnp.isfinite(hidden)))
    np.testing.assert_allclose(hidden[:3] * mask[:3, :, None], plain[:3] * mask[:3, :, None], atol=0.06)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(plainly), strict=True):
        one, other = np.asarray(one, np.float32), np.asarray(other, np.float32)
        assert np.linalg.norm(one - other) <= 0.05 * np.linalg.norm(other) + 1e-2
