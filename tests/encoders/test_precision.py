"""bfloat16 gives nearly the vectors of float32, and is refused where there is none."""

import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import ndtr

from tsds_jax.encoders import load_encoder
from tsds_jax.encoders.config import gelu
from tsds_jax.encoders.precision import check_dtype
from tsds_jax.errors import InputError

FAMILIES = sorted(folder.name for folder in (Path(__file__).parents[1] / "golden").iterdir() if folder.is_dir())
TEXTS = ["a good film", "the plot was slow and the actors were not so good , but the music was fine", "boring .", "a"]


def device(platform, kind, capability=None):
    more = {} if capability is None else {"compute_capability": capability}
    return SimpleNamespace(platform=platform, device_kind=kind, **more)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_in_bfloat16_are_float32_arrays_close_to_those_in_float32(of_family, family):
    exact, coarse = of_family(family), of_family(family, dtype="bfloat16")
    assert (exact.dtype, coarse.dtype) == ("float32", "bfloat16")
    assert exact.fingerprint() != coarse.fingerprint()
    layers = tuple(range(exact.config.num_hidden_layers + 1))
    one, other = exact.embed(TEXTS, layer=layers), coarse.embed(TEXTS, layer=layers)
    assert other.dtype == np.float32
    for a, b in zip(np.split(one, len(layers), 1), np.split(other, len(layers), 1), strict=True):
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 0.99
        assert 0 < np.linalg.norm(a - b, axis=1).max() < 0.05 * np.linalg.norm(a, axis=1).max()
    states = coarse.hidden_states(np.arange(5, 17)[None])
    assert {str(state.dtype) for state in states} == {"bfloat16"}


@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3"])
def test_weights_are_held_and_multiplied_in_bfloat16_but_norms_and_softmax_are_in_float32(of_family, family):
    model = of_family(family, dtype="bfloat16").model
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(nnx.state(model))} == {"bfloat16"}
    ids = jnp.arange(5, 17)[None]
    program = str(jax.make_jaxpr(lambda ids: model(ids, jnp.ones_like(ids), jnp.zeros_like(ids)))(ids))
    assert re.search(r"bf16\[[\d,]*\] = dot_general", program)
    for operation in ("exp", "rsqrt"):
        assert re.search(rf":f32\[[\d,]*\] = {operation}\b", program)
        assert not re.search(rf":bf16\[[\d,]*\] = {operation}\b", program)


def test_means_over_tokens_keep_the_digits_that_bfloat16_has_not(golden):
    coarse = load_encoder(golden, dtype="bfloat16")
    for pooling, rounded in (("cls", True), ("last", True), ("mean", False), ("weighted_mean", False)):
        values = coarse.embed(["the film was good " * 20], pooling=pooling)
        assert (values == values.astype(jnp.bfloat16)).all() == rounded


def test_a_dtype_that_is_not_supported_is_refused_with_those_that_are(golden):
    for dtype in ("float16", None, 32):
        with pytest.raises(InputError, match=r"dtype .* is not supported; supported: float32, bfloat16"):
            load_encoder(golden, dtype=dtype)


def test_in_bfloat16_a_token_behind_padding_is_refused_by_its_row(golden):
    ids, mask = np.full((3, 4), 5), np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])
    coarse = load_encoder(golden, dtype="bfloat16")
    coarse.hidden_states(ids[:2], mask[:2])
    with pytest.raises(InputError, match=r"row 2 has a token behind padding.*pad on the right"):
        coarse.hidden_states(ids, mask)
    load_encoder(golden).hidden_states(ids, mask)


def test_bfloat16_is_refused_by_the_name_of_a_device_that_lacks_it():
    old = device("gpu", "Tesla T4", "7.5")
    check_dtype("float32", old)
    with pytest.raises(InputError, match=r"bfloat16: Tesla T4 \(compute capability 7.5\).*give dtype float32"):
        check_dtype("bfloat16", old)


@pytest.mark.parametrize(
    "one",
    [
        device("gpu", "NVIDIA A100", "8.0"),
        device("gpu", "NVIDIA B200", "10.0"),
        device("gpu", "AMD Instinct MI250X", "gfx90a"),
        device("cpu", "cpu"),
        device("tpu", "TPU v4"),
    ],
    ids=lambda one: one.device_kind,
)
def test_bfloat16_is_taken_by_devices_that_have_it(one):
    check_dtype("bfloat16", one)


def test_gelu_in_bfloat16_is_the_exact_one_up_to_its_rounding():
    every = np.arange(2**16, dtype=np.uint16).view(jnp.bfloat16)
    x = every[np.abs(every.astype(np.float32)) < 1e4]
    exact = x.astype(np.float64) * ndtr(x.astype(np.float64))
    found = np.asarray(jax.jit(gelu)(x), np.float64)
    # Half a unit in the last of eight binary digits, and what the fit leaves.
    assert np.all(np.abs(found - exact) <= 2**-8 * np.abs(exact) + 3e-5)
