import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tsds_jax.encoders import BertEncoder, EncoderConfig, modeling
from tsds_jax.encoders.pooling import cls, last, mean, weighted_mean

CONFIG = EncoderConfig(
    model_type="bert",
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=16,
    type_vocab_size=2,
    hidden_act="gelu",
    layer_norm_eps=1e-12,
    hidden_dropout_prob=0.5,
    attention_probs_dropout_prob=0.5,
)


@pytest.fixture(scope="module")
def model() -> BertEncoder:
    return BertEncoder(CONFIG, rngs=nnx.Rngs(0))


@pytest.fixture
def batch() -> tuple[jax.Array, jax.Array, jax.Array]:
    ids = jnp.array(np.random.default_rng(0).integers(0, 50, (3, 8)))
    mask = jnp.array([[1] * 8, [1] * 5 + [0] * 3, [1] * 2 + [0] * 6])
    return ids, mask, jnp.zeros_like(ids)


def test_hidden_states_are_the_embeddings_and_each_layer(model, batch):
    states = model.hidden_states(*batch)
    assert [state.shape for state in states] == [(3, 8, 16)] * 3
    np.testing.assert_array_equal(model(*batch), states[-1])


def test_what_stands_at_padding_changes_nothing(model, batch):
    ids, mask, types = batch
    changed = jnp.where(mask == 1, ids, 49)
    for a, b in zip(model.hidden_states(ids, mask, types), model.hidden_states(changed, mask, types), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[mask == 1], np.asarray(b)[mask == 1])


def test_more_padding_changes_nothing(model, batch):
    wide = model(*batch)
    narrow = model(*(x[1:2, :5] for x in batch))
    np.testing.assert_allclose(wide[1, :5], narrow[0], atol=1e-6)


def test_a_row_of_padding_alone_gives_finite_states_and_zero_mean(model, batch):
    ids, _, types = batch
    mask = jnp.zeros_like(ids)
    hidden = model(ids, mask, types)
    assert np.isfinite(hidden).all()
    np.testing.assert_array_equal(mean(hidden, mask), 0)
    np.testing.assert_array_equal(weighted_mean(hidden, mask), 0)
    np.testing.assert_array_equal(last(hidden, mask), hidden[:, 0])


def test_dropout_is_off_unless_randomness_is_given(model, batch):
    np.testing.assert_array_equal(model(*batch), model(*batch))
    dropped = [np.asarray(model(*batch, rngs=nnx.Rngs(dropout=seed))) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert np.abs(dropped[0] - dropped[2]).max() > 0.1
    assert np.abs(dropped[0] - model(*batch)).max() > 0.1


def test_dropout_of_rate_zero_is_no_dropout(batch):
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertEncoder(config, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(model(*batch), model(*batch, rngs=nnx.Rngs(dropout=0)))


def test_every_layer_drops_by_a_mask_of_its_own(model, batch):
    # With one key for all, two calls on one stream would be equal; a stream counts its uses.
    rngs = nnx.Rngs(dropout=0)
    first, second = model(*batch, rngs=rngs), model(*batch, rngs=rngs)
    assert np.abs(first - second).max() > 0.1


def test_the_state_of_the_model_is_parameters_alone(model):
    assert all(isinstance(variable, nnx.Param) for _, variable in nnx.to_flat_state(nnx.state(model)))


def test_cls_is_the_first_token_and_mean_the_mean_over_tokens():
    hidden = jnp.arange(24.0).reshape(2, 4, 3)
    mask = jnp.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(cls(hidden, mask), hidden[:, 0])
    np.testing.assert_allclose(mean(hidden, mask), np.stack([hidden[0, :2].mean(0), hidden[1].mean(0)]))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "qwen3", "llama"])
def test_queries_a_few_at_a_time_see_and_give_what_all_at_once_do(of_family, family, monkeypatch):
    encoder = of_family(family)
    ids = jnp.asarray(np.random.default_rng(0).integers(5, 40, (3, 21)))
    mask = jnp.asarray(np.arange(21) < np.array([21, 13, 0])[:, None], jnp.int32)
    graph, params = nnx.split(encoder.model)

    def both():
        def total(params):
            states = nnx.merge(graph, params)(ids, mask, jnp.zeros_like(ids))
            return jnp.sum(jnp.where(mask[:, :, None] > 0, jnp.sin(states), 0)), states

        return jax.jit(jax.value_and_grad(total, has_aux=True))(params)

    (_, whole), whole_gradient = both()
    monkeypatch.setattr(modeling, "WHOLE", 8)
    monkeypatch.setattr(modeling, "SCORES", 3 * 4 * 21 * 5)  # five queries of four heads: the last block is short
    (_, some), gradient = both()
    np.testing.assert_allclose(some[:2], whole[:2], atol=1e-5)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(whole_gradient), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * max(1.0, float(jnp.abs(other).max())))


def test_the_memory_of_a_long_text_does_not_grow_with_the_square_of_its_tokens():
    tokens = 8192
    model = BertEncoder(dataclasses.replace(CONFIG, max_position_embeddings=tokens), rngs=nnx.Rngs(0))
    graph, params = nnx.split(model)
    shape = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
    run = jax.jit(lambda params, *batch: nnx.merge(graph, params)(*batch))
    memory = run.lower(params, shape, shape, shape).compile().memory_analysis()
    # Scores of all with all would be 1 GiB for a layer of four heads.
    assert memory.temp_size_in_bytes < 0.7 * 2**30
