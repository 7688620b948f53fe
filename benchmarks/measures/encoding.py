"""Sentences into vectors: ours beside PyTorch, on the same batches."""

import functools
import itertools
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
from measures.checked import checked, relative
from measures.problem import in_turn, timed
from measures.rows import Speed
from peers import torch_encoder as peer

from tsds_jax.data import load_tweets
from tsds_jax.encoders import POOLINGS, Encoder
from tsds_jax.encoders.batches import fill_batches
from tsds_jax.encoders.embed import batch_rows
from tsds_jax.encoders.structure import Structure, split_model
from tsds_jax.encoders.tokens import Batch, Tokenised, tokenise

PEER = "PyTorch"
MAX_LENGTH = 256


class Planned(NamedTuple):
    """Tokenised sentences in our batches.

    Attributes:
      batches: padded arrays.
      rows: for each batch, the sentences in it; the batch may have more rows, of padding alone.
    """

    batches: list[Batch]
    rows: list[np.ndarray]

    def in_order(self, vectors: list[np.ndarray]) -> np.ndarray:
        """The batches' vectors in the order of the sentences."""
        found = np.concatenate([of[: len(rows)] for of, rows in zip(vectors, self.rows, strict=True)])
        return found[np.argsort(np.concatenate(self.rows))]


def planned(tokens: Tokenised) -> Planned:
    """The batches that `Encoder.embed` makes of them."""
    rows, batches = zip(*fill_batches([tokens], batch_rows(MAX_LENGTH, None, 1)), strict=True)
    return Planned(list(batches), list(rows))


@functools.partial(jax.jit, static_argnames="structure")
def _vectors(structure: Structure, weights: list[jax.Array], batch: Batch) -> jax.Array:
    return POOLINGS["mean"](structure.merge(weights)(*batch), batch.attention_mask)


def product(rows: int, config: Any, *, repeats: int) -> Speed:
    """GFLOP a second of the largest product of matrices in a layer, of that many tokens; a hundred a repeat."""
    inner, outer = config.hidden_size, config.intermediate_size
    generator = np.random.default_rng(0)
    left = generator.normal(size=(rows, inner)).astype(np.float32)
    right = generator.normal(size=(inner, outer)).astype(np.float32)
    on_device, multiply = (jax.device_put(left), jax.device_put(right)), jax.jit(jax.numpy.matmul)
    theirs = peer.product(left, right)

    def seconds(call: Any) -> float:
        return median(timed(call)[1] for _ in range(100))

    found, first = timed(lambda: multiply(*on_device).block_until_ready())
    check = relative(np.asarray(found), theirs().numpy(), 1e-4)
    sides = {"ours": lambda: multiply(*on_device).block_until_ready(), PEER: theirs}
    taken = in_turn(repeats, {side: lambda _, call=call: seconds(call) for side, call in sides.items()})
    measure = f"a product of {rows:,} x {inner} and {inner} x {outer:,} numbers"
    amount = 2e-9 * rows * inner * outer
    return _speed(measure, amount, taken, first, check, {}, unit="GFLOP/s")


def embedding(encoder: Encoder, count: int, *, repeats: int) -> list[Speed]:
    """Sentences and tokens a second of that many tweets, from token ids to vectors."""
    tokens = tokenise(encoder.tokenizer, tweets(count), MAX_LENGTH, encoder.config)
    plan, (structure, weights) = planned(tokens), split_model(encoder.model)
    model = peer.load(encoder.folder)

    def ours() -> list[np.ndarray]:
        return [np.asarray(_vectors(structure, weights, batch)) for batch in plan.batches]

    vectors, first = timed(ours)
    check = agreeing(plan.in_order(vectors), plan.in_order(peer.embed(model, plan.batches)))
    seconds = in_turn(
        repeats,
        {"ours": lambda _: timed(ours)[1], PEER: lambda _: timed(lambda: peer.embed(model, plan.batches))[1]},
    )
    padded = sum(batch.input_ids.size for batch in plan.batches)
    shapes = Counter(batch.input_ids.shape for batch in plan.batches)
    about = {
        "tokens": int(tokens.lengths.sum()),
        "tokens_with_padding": padded,
        "batches": {f"{rows} x {length}": number for (rows, length), number in shapes.items()},
    }
    of_sentences = _speed(f"embedding {count:,} tweets, tokenised beforehand", count, seconds, first, check, about)
    of_tokens = _speed("the same", int(tokens.lengths.sum()), seconds, first, check, {}, unit="tokens/s")
    return [of_sentences, of_tokens]


def from_text(encoder: Encoder, count: int, *, repeats: int) -> Speed:
    """Sentences a second from text to vector, by `Encoder.embed`; PyTorch gets our batches."""
    texts, model = tweets(count), peer.load(encoder.folder)

    def ours() -> np.ndarray:
        return encoder.embed(texts, max_length=MAX_LENGTH)

    def theirs() -> np.ndarray:
        answer = encoder.tokenizer(texts, truncation=True, max_length=MAX_LENGTH, return_attention_mask=False)
        ids, types = ([np.array(row, np.int32) for row in answer[key]] for key in ("input_ids", "token_type_ids"))
        plan = planned(Tokenised(ids, types, 0))
        return plan.in_order(peer.embed(model, plan.batches))

    vectors, first = timed(ours)
    check = agreeing(vectors, theirs())
    seconds = in_turn(repeats, {"ours": lambda _: timed(ours)[1], PEER: lambda _: timed(theirs)[1]})
    return _speed(f"embedding {count:,} tweets, from text to vector", count, seconds, first, check, {})


def tweets(count: int) -> list[str]:
    """So many texts; those that there are over and over if they are fewer."""
    texts = list(load_tweets(train=min(count, 20_000), validation=1, test=1).train.texts)
    return list(itertools.islice(itertools.cycle(texts), count))


def agreeing(ours: np.ndarray, theirs: np.ndarray) -> tuple[str, float]:
    """The largest difference between two sides' vectors."""
    return checked("largest difference of a number", float(np.abs(ours - theirs).max()), 1e-4)


def _speed(
    measure: str,
    amount: int,
    seconds: dict[str, list[float]],
    first: float,
    check: tuple[str, float],
    about: dict[str, Any],
    *,
    unit: str = "sentences/s",
) -> Speed:
    rates = {side: [amount / some for some in of] for side, of in seconds.items()}
    return Speed(measure, unit, rates, PEER, 1.0, (first, median(seconds["ours"])), check, about)


def folder_of(name: str | None) -> Path:
    """MiniLM's, unless another is named."""
    from tsds_jax.demo import minilm_folder

    return Path(name) if name else minilm_folder()
