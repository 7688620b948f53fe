"""Sentences into vectors and steps of fine-tuning: ours beside PyTorch, on the same batches."""

import dataclasses
import functools
import itertools
import time
from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import jax
import numpy as np
from datasets import Dataset
from measures.problem import in_turn, timed
from measures.rows import Speed
from peers import torch_encoder as peer

from tsds_jax import finetune
from tsds_jax.data import load_data, load_tweets
from tsds_jax.encoders import POOLINGS, Encoder
from tsds_jax.encoders.batches import fill_batches
from tsds_jax.encoders.embed import batch_rows
from tsds_jax.encoders.structure import Structure, split_model
from tsds_jax.encoders.tokens import Batch, Tokenised, pad, tokenise
from tsds_jax.options import FineTuneOptions

PEER = "PyTorch"
MAX_LENGTH, ROWS, RATE = 256, 32, 2e-5


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

    _, first = timed(lambda: multiply(*on_device).block_until_ready())
    sides = {"ours": lambda: multiply(*on_device).block_until_ready(), PEER: theirs}
    found = in_turn(repeats, {side: lambda _, call=call: seconds(call) for side, call in sides.items()})
    measure = f"a product of {rows:,} x {inner} and {inner} x {outer:,} numbers"
    amount = 2e-9 * rows * inner * outer
    return _speed(measure, amount, found, first, None, {}, unit="GFLOP/s")


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


def training(encoder: Encoder, length: int, steps: int, *, repeats: int) -> Speed:
    """Steps a second of full fine-tuning: batches of `ROWS` rows, all padded to one length."""
    options = FineTuneOptions(
        head="mean",
        steps=steps,
        batch_size=ROWS,
        learning_rate=RATE,
        warmup=0.0,
        weight_decay=0.01,
        clip=1.0,
        dropout=0.1,
    )
    texts, labels = of_length(encoder, length, ROWS * 16)
    data = load_data(Dataset.from_dict({"text": texts, "label": labels}))
    tokens = tokenise(encoder.tokenizer, texts, length, encoder.config)
    order = np.random.default_rng(0).permutation(len(texts)).reshape(-1, ROWS)
    batches = [(pad(tokens, rows, length, ROWS), np.array(labels)[rows]) for rows in order]
    trainer = peer.Training(encoder.folder, 2, RATE, options.weight_decay, options.clip)
    losses: dict[str, list[float]] = {"ours": [], PEER: []}

    def ours(_: int) -> float:
        ends: list[float] = []
        result = finetune(encoder, data, options=options, progress=lambda _: ends.append(time.perf_counter()))
        losses["ours"].append(result.history[-1]["train_loss"])
        # What comes before the first step's end is not a step alone.
        return float(median(np.diff(ends)))

    def theirs(_: int) -> float:
        done = [timed(lambda of=of: trainer.step(*of)) for of in itertools.islice(itertools.cycle(batches), steps)]
        losses[PEER].append(mean(loss for loss, _ in done))
        return median(seconds for _, seconds in done[1:])

    _, first = timed(lambda: ours(0))
    theirs(0)
    seconds = in_turn(repeats, {"ours": ours, PEER: theirs})
    measure = f"a step of fine-tuning, {ROWS} x {length} tokens"
    about = {"steps_a_repeat": steps, "mean_loss": losses, "seconds_a_step": seconds}
    return dataclasses.replace(
        _speed(measure, 1, seconds, first, None, about, unit="steps/s", wanted=0.8),
        # The whole first run has so many steps.
        first_call=(first, steps * median(seconds["ours"])),
    )


def tweets(count: int) -> list[str]:
    """So many texts; those that there are over and over if they are fewer."""
    texts = list(load_tweets(train=min(count, 20_000), validation=1, test=1).train.texts)
    return list(itertools.islice(itertools.cycle(texts), count))


def of_length(encoder: Encoder, length: int, count: int) -> tuple[list[str], list[int]]:
    """Tweets, or two joined, of more than three quarters of so many tokens and at most so many, and their labels."""
    drawn = load_tweets(train=20_000, validation=1, test=1).train
    # The corpus is in an order of its own, by class.
    order = np.random.default_rng(0).permutation(len(drawn))
    texts, labels = [drawn.texts[row] for row in order], drawn.labels[order]
    joined = [f"{one} {two}" for one, two in itertools.pairwise(texts)] if length > 32 else texts
    lengths = tokenise(encoder.tokenizer, joined[: 8 * count], 128, encoder.config).lengths
    rows = np.flatnonzero((lengths > length * 3 // 4) & (lengths <= length))[:count]
    if len(rows) < count:
        raise SystemExit(f"only {len(rows)} texts of about {length} tokens")
    return [joined[row] for row in rows], labels[rows].tolist()


def agreeing(ours: np.ndarray, theirs: np.ndarray) -> tuple[str, float]:
    """The largest difference between two sides' vectors, which must be below 1e-4."""
    largest = float(np.abs(ours - theirs).max())
    if not largest < 1e-4:
        raise SystemExit(f"the vectors differ by {largest:.2g}")
    return "largest difference of a number", largest


def _speed(
    measure: str,
    amount: int,
    seconds: dict[str, list[float]],
    first: float,
    check: tuple[str, float] | None,
    about: dict[str, Any],
    *,
    unit: str = "sentences/s",
    wanted: float = 1.0,
) -> Speed:
    rates = {side: [amount / some for some in of] for side, of in seconds.items()}
    return Speed(measure, unit, rates, PEER, wanted, (first, median(seconds["ours"])), check, about)


def folder_of(name: str | None) -> Path:
    """MiniLM's, unless another is named."""
    from tsds_jax.demo import minilm_folder

    return Path(name) if name else minilm_folder()
