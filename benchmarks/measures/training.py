"""Steps of fine-tuning: ours beside PyTorch, on the same batches."""

import dataclasses
import itertools
import time
from statistics import mean, median

import numpy as np
from datasets import Dataset
from measures.checked import checked
from measures.problem import in_turn, timed
from measures.rows import Speed
from peers import torch_encoder as peer

from tsds_jax import finetune
from tsds_jax.data import TextData, load_data, load_tweets
from tsds_jax.encoders import Encoder
from tsds_jax.encoders.tokens import Batch, pad, tokenise
from tsds_jax.finetuning.batches import draw_batches, training_batch
from tsds_jax.finetuning.target import new_target
from tsds_jax.options import FineTuneOptions

PEER = "PyTorch"
ROWS, RATE = 32, 2e-5
# Steps whose losses must agree, and by how much of it the first may differ, before which nothing was trained, and any.
# AdamW makes as much of a small gradient's rounding as of a large one: 1e-7 in the second step is 1e-6 in the sixth.
# Without clipping the fourth is 3e-4 off, at twice the rate the second 3e-2.
AGREED, MOST_FIRST, MOST = 6, 1e-5, 1e-4


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
    trainer = _trainer(encoder, 2, options)
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
    check = agreeing(encoder, data, options)
    seconds = in_turn(repeats, {"ours": ours, PEER: theirs})
    return Speed(
        f"a step of fine-tuning, {ROWS} x {length} tokens",
        "steps/s",
        {side: [1 / some for some in of] for side, of in seconds.items()},
        PEER,
        0.8,
        # The whole first run has so many steps.
        (first, steps * median(seconds["ours"])),
        check,
        {"steps_a_repeat": steps, "mean_loss": losses, "seconds_a_step": seconds},
    )


def agreeing(encoder: Encoder, data: TextData, options: FineTuneOptions) -> tuple[str, float]:
    """How far the losses of both sides' first steps differ, of the same weights and batches and without dropout."""
    options = dataclasses.replace(options, steps=AGREED, dropout=0.0, schedule="constant", evaluate_every=1)
    # With a look after each step each has one step's loss.
    ours = [look["train_loss"] for look in finetune(encoder, data, options=options).history]
    theirs = _peers_losses(encoder, data, options)
    apart = [abs(one - other) / other for one, other in zip(ours, theirs, strict=True)]
    checked("the first loss's relative difference", apart[0], MOST_FIRST)
    # Of several numbers one that is none is not the largest.
    return checked(f"largest relative difference of {AGREED} losses without dropout", float(np.max(apart)), MOST)


def _peers_losses(encoder: Encoder, data: TextData, options: FineTuneOptions) -> list[float]:
    """Of the steps that `finetune` takes, from the head that it begins with."""
    seed, classes = options.seed, data.classes
    _, params, _ = new_target(encoder, len(classes), classes, options.head, seed=seed, dropout=options.dropout)
    trainer = _trainer(encoder, len(classes), options)
    trainer.take_head(*(np.asarray(params["head"]["out"][name][...]) for name in ("kernel", "bias")))
    trainer.eval()  # which turns dropout off
    limit = min(options.max_length, encoder.config.max_tokens)
    tokens = tokenise(encoder.tokenizer, data.texts, limit, encoder.config)
    losses = []
    for rows in draw_batches(tokens.lengths, options.batch_size, options.steps, seed):
        batch, _ = training_batch(tokens, rows, limit, 1, 1)
        losses.append(trainer.step(Batch(*(array[0] for array in batch)), data.labels[rows]))
    return losses


def _trainer(encoder: Encoder, classes: int, options: FineTuneOptions) -> peer.Training:
    return peer.Training(encoder.folder, classes, options.learning_rate, options.weight_decay, options.clip)


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
