"""Encoders of random weights in bfloat16 on a GPU: sequences a second, and the shares of what the device reaches.

Both sides have the same weights, and their vectors must agree before anything is timed. Arithmetic and bytes are those
of the layers' products of matrices, attention being one: what stands between two products can be computed where either
ends or begins. XLA's own count would say nothing of the kernels that it calls on a GPU.
"""

import functools
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import numpy as np
from flax import nnx
from measures.checked import relative
from measures.peaks import Peaks, peaks
from measures.problem import in_turn, say, timed
from measures.rows import Encoded

from tsds_jax.encoders import POOLINGS, EncoderConfig
from tsds_jax.encoders.families import new_encoder
from tsds_jax.encoders.params import encoder_tensors
from tsds_jax.encoders.precision import exact_products, set_table_dtype
from tsds_jax.encoders.tokens import Batch

# Batches started before one is waited for.
AT_ONCE = 8
KINDS: dict[str, dict[str, Any]] = {
    "BERT": {"model_type": "bert"},
    "RoBERTa": {
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
}
# In place of the sizes of a base model, in a trial.
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
# How far vectors may differ, over their root mean square. On a CPU those of BERT-base do by 1e-6 and 0.02, and in
# bfloat16 either side's by 0.04 from what they are in float32; of other layers in another order they do by 0.7.
MOST = {"float32": 1e-4, "bfloat16": 0.1}


def on_gpu(rows: int, *, repeats: int, quick: bool) -> list[Encoded]:
    """Encoders of the sizes of BERT-base and RoBERTa-base; of a trial small ones, on whatever device there is."""
    if jax.default_backend() != "gpu" and not quick:
        say("gpu: JAX sees no GPU here, nothing measured")
        return []
    reached = peaks(dry=quick)
    size, others, length = ("small", SMALL, 32) if quick else ("base", {}, 128)
    ready = [
        checked_sides(f"{name}-{size}", values | others, rows, length, reached, repeats=repeats)
        for name, values in KINDS.items()
    ]
    return [measure() for measure in ready]


def checked_sides(
    name: str,
    values: dict[str, Any],
    rows: int,
    length: int,
    reached: Peaks,
    *,
    repeats: int,
    dtype: str = "bfloat16",
) -> Callable[[], Encoded]:
    """What measures batches of so many full rows, beside PyTorch unless a GPU is there for JAX alone.

    Apart, so that all encoders agree before the first is timed, which an error would lose.
    """
    config = EncoderConfig.from_dict(values)
    ids = np.random.default_rng(0).integers(5, config.vocab_size, (rows, length)).astype(np.int32)
    batch = Batch(ids, np.ones_like(ids), np.zeros_like(ids))
    model = drawn(config)
    ours, theirs = _ours(model, batch, dtype), _theirs(model, values, batch, dtype)
    vectors, first = timed(ours)
    sides: dict[str, Callable[[int], float]] = {"ours": lambda _: timed(ours)[1] / AT_ONCE}
    check = None
    if theirs:
        side, run = theirs
        check = relative(np.asarray(vectors, np.float32), run().float().cpu().numpy(), MOST[dtype])
        sides[side] = lambda _: timed(run)[1] / AT_ONCE

    def encoded() -> Encoded:
        seconds = in_turn(repeats, sides)
        peak = reached.products[dtype]
        return Encoded(
            f"{name}, {dtype}, {rows} x {length} tokens",
            {side: [rows / some for some in of] for side, of in seconds.items()},
            first,
            {side: flop(config, rows, length) / median(of) / peak for side, of in seconds.items()},
            peak,
            moved(config, rows, length, np.dtype(dtype).itemsize) / rows,
            reached.memory,
            check,
        )

    return encoded


def drawn(config: EncoderConfig) -> nnx.Module:
    """An encoder in float32 with 0.02 times normal numbers for weights, added to one where a norm scales by them.

    No bias is zero and no scale is one, so that none that is taken for another goes unseen.
    """
    model = new_encoder(config, rngs=nnx.Rngs(0))
    some = nnx.to_flat_state(nnx.state(model))
    redrawn = [
        (path, param.replace((path[-1] == "scale") + 0.02 * jax.random.normal(jax.random.key(number), param.shape)))
        for number, (path, param) in enumerate(some)
    ]
    nnx.update(model, nnx.from_flat_state(redrawn))
    return model


def flop(config: EncoderConfig, rows: int, length: int) -> float:
    """Multiplications and additions of the layers' matrix products."""
    width, inner = config.hidden_size, config.intermediate_size
    a_token = 2 * (4 * width**2 + 2 * width * inner) + 4 * length * width
    return float(config.num_hidden_layers) * rows * length * a_token


def moved(config: EncoderConfig, rows: int, length: int, itemsize: int) -> float:
    """Bytes that these products read and write, each number once a product.

    Queries, keys and values read one input together; of attention the scores need not leave the chip.
    """
    width, inner = config.hidden_size, config.intermediate_size
    weights = 4 * width**2 + 2 * width * inner
    # Into and out of: queries, keys and values; attention; its output map; the two maps of the feed-forward network.
    a_token = (1 + 3) * width + (3 + 1) * width + (1 + 1) * width + 2 * (width + inner)
    return float(config.num_hidden_layers) * itemsize * (weights + rows * length * a_token)


def _ours(model: nnx.Module, batch: Batch, dtype: str) -> Callable[[], jax.Array]:
    """Runs several batches, and gives the vectors of the last."""
    set_table_dtype(model, dtype)
    graphdef, state = nnx.split(model)
    state = jax.device_put(jax.tree.map(lambda weight: weight.astype(dtype), state))
    given = jax.device_put(batch)

    @functools.partial(jax.jit, static_argnames="graphdef")
    def vectors(graphdef: nnx.GraphDef, state: nnx.State, batch: Batch) -> jax.Array:
        with exact_products(state):
            return POOLINGS["mean"](nnx.merge(graphdef, state)(*batch), batch.attention_mask)

    return lambda: jax.block_until_ready([vectors(graphdef, state, given) for _ in range(AT_ONCE)])[-1]


def _theirs(
    model: nnx.Module, values: dict[str, Any], batch: Batch, dtype: str
) -> tuple[str, Callable[[], Any]] | None:
    """PyTorch's name and the same in it, on a GPU compiled; None where JAX alone sees one."""
    import torch
    from peers import torch_encoder as peer

    with_gpu = jax.default_backend() == "gpu"
    if with_gpu and not torch.cuda.is_available():
        return None
    device = "cuda" if with_gpu else "cpu"
    made = peer.with_weights(values, encoder_tensors(model, values["model_type"])).to(device, getattr(torch, dtype))
    given, called = peer.tensors(batch, device), torch.compile(made) if with_gpu else made

    def run() -> torch.Tensor:
        with torch.inference_mode():
            for _ in range(AT_ONCE):
                found = peer.mean_pooled(called, given)
        if with_gpu:
            torch.cuda.synchronize()
        return found

    return "PyTorch, compiled" if with_gpu else "PyTorch", run
