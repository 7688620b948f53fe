"""Encoders of random weights in bfloat16 on a GPU: sequences a second, and the share of its matrix products' peak."""

import functools
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from measures.large import matrix_peak
from measures.problem import in_turn, say, timed
from measures.rows import Encoded

from tsds_jax.encoders import POOLINGS, EncoderConfig
from tsds_jax.encoders.families import new_encoder
from tsds_jax.encoders.precision import set_table_dtype
from tsds_jax.encoders.tokens import Batch

# Batches started before one is waited for.
AT_ONCE = 8


def on_gpu(rows: int, *, repeats: int) -> list[Encoded]:
    """Encoders of the sizes of BERT-base and RoBERTa-base."""
    if jax.default_backend() != "gpu":
        say("gpu: JAX sees no GPU here, nothing measured")
        return []
    peak = matrix_peak(8192)["bfloat16"]
    kinds: dict[str, dict[str, Any]] = {
        "BERT-base": {"model_type": "bert"},
        "RoBERTa-base": {
            "model_type": "roberta",
            "vocab_size": 50265,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
    }
    return [encoded(name, values, rows, 128, peak, repeats=repeats) for name, values in kinds.items()]


def encoded(name: str, values: dict[str, Any], rows: int, length: int, peak: float, *, repeats: int) -> Encoded:
    """Of batches of so many full rows; ``peak`` is what square products in bfloat16 reach, FLOP/s."""
    config = EncoderConfig.from_dict(values)
    ids = np.random.default_rng(0).integers(5, config.vocab_size, (rows, length)).astype(np.int32)
    batch = Batch(ids, np.ones_like(ids), np.zeros_like(ids))
    ours, theirs = _ours(config, batch), _compiled_torch(values, batch)
    _, first = timed(ours)
    sides: dict[str, Callable[[int], float]] = {"ours": lambda _: timed(ours)[1] / AT_ONCE}
    if theirs:
        theirs()
        sides["PyTorch, compiled"] = lambda _: timed(theirs)[1] / AT_ONCE
    seconds = in_turn(repeats, sides)
    rates = {side: [rows / some for some in of] for side, of in seconds.items()}
    return Encoded(
        f"{name}, bfloat16, {rows} x {length} tokens",
        rates,
        first,
        {side: flop(config, rows, length) / median(of) / peak for side, of in seconds.items()},
        peak,
    )


def flop(config: EncoderConfig, rows: int, length: int) -> float:
    """Multiplications and additions of the layers' matrix products."""
    width, inner = config.hidden_size, config.intermediate_size
    a_token = 2 * (4 * width**2 + 2 * width * inner) + 4 * length * width
    return float(config.num_hidden_layers) * rows * length * a_token


def _ours(config: EncoderConfig, batch: Batch) -> Callable[[], Any]:
    model = new_encoder(config, rngs=nnx.Rngs(0))
    set_table_dtype(model, "bfloat16")
    graphdef, state = nnx.split(model)
    state = jax.device_put(jax.tree.map(lambda weight: weight.astype(jnp.bfloat16), state))
    given = jax.device_put(batch)

    @functools.partial(jax.jit, static_argnames="graphdef")
    def vectors(graphdef: nnx.GraphDef, state: nnx.State, batch: Batch) -> jax.Array:
        return POOLINGS["mean"](nnx.merge(graphdef, state)(*batch), batch.attention_mask)

    return lambda: jax.block_until_ready([vectors(graphdef, state, given) for _ in range(AT_ONCE)])


def _compiled_torch(values: dict[str, Any], batch: Batch) -> Callable[[], Any] | None:
    """The same in PyTorch, compiled; None where it sees no GPU."""
    import torch
    from peers import torch_encoder as peer
    from transformers import AutoConfig, AutoModel

    if not torch.cuda.is_available():
        return None
    model = AutoModel.from_config(AutoConfig.for_model(**values), attn_implementation="sdpa")
    model = torch.compile(model.to("cuda", torch.bfloat16).eval())
    given = peer.tensors(batch, "cuda")

    def run() -> None:
        with torch.inference_mode():
            for _ in range(AT_ONCE):
                peer.mean_pooled(model, given)
        torch.cuda.synchronize()

    return run
