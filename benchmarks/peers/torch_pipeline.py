"""The paper's four steps as one would put them together today: PyTorch, transformers, scikit-learn and the reference.

    python benchmarks/peers/torch_pipeline.py JOB.json ANSWER.json

The job says where the model and the rows (text and label, a line of JSON each) are, and how much work is to be done;
the answer has the seconds of each step and what was found, and beside it are the arrays that were valued. Shares no
code with tsds_jax.
"""

import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

# As benchmarks/'s own scripts find what they import.
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from peers.torch_encoder import Training, load, mean_pooled, on_cores, tensors
from reference.ts_dshapley import Data, represent, select, ts_dshapley
from threadpoolctl import threadpool_limits
from transformers import AutoTokenizer

EMBEDDED_TOGETHER = 64
# Batches of like lengths are made among the rows of so many.
STRETCH = 50


class Batch(NamedTuple):
    """What a BERT is given, ``[rows, tokens]`` each."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray


class Rows(NamedTuple):
    """Texts and labels from 0."""

    texts: list[str]
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> "Rows":
        """These alone."""
        return Rows([self.texts[row] for row in rows], self.labels[rows])


class Steps:
    """Seconds of each step, one after another."""

    def __init__(self) -> None:
        """The first begins now."""
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def done(self, name: str) -> None:
        """The step of this name ends, and the next begins."""
        now = time.perf_counter()
        self.seconds[name], self._began = now - self._began, now


def read(file: str, classes: list[str]) -> Rows:
    """The rows of a file."""
    rows = [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]
    return Rows([row["text"] for row in rows], np.array([classes.index(row["label"]) for row in rows]))


def tokenised(tokenizer: Any, texts: list[str], length: int) -> Batch:
    """A batch that is padded to its longest text."""
    found = tokenizer(texts, truncation=True, max_length=length, padding=True, return_tensors="np")
    return Batch(*(found[name] for name in Batch._fields))


def embed(model: torch.nn.Module, tokenizer: Any, texts: list[str], length: int) -> np.ndarray:
    """Vectors of the texts; those of like length are a batch."""
    order = np.argsort([-len(text) for text in texts], kind="stable")
    found = []
    with torch.inference_mode():
        for start in range(0, len(order), EMBEDDED_TOGETHER):
            some = [texts[row] for row in order[start : start + EMBEDDED_TOGETHER]]
            found.append(mean_pooled(model, tensors(tokenised(tokenizer, some, length))).numpy())
    return np.concatenate(found)[np.argsort(order)]


def drawn(texts: list[str], size: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of rows, pass after pass in an order of its own; those of like length together, so as to pad little."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(texts))
        for start in range(0, len(texts), STRETCH * size):
            some = sorted(order[start : start + STRETCH * size], key=lambda row: len(texts[row]))
            batches = [np.array(some[first : first + size]) for first in range(0, len(some), size)]
            yield from (batches[place] for place in rng.permutation(len(batches)))


def accuracy(model: Training, tokenizer: Any, test: Rows, length: int) -> float:
    """Of the test rows, the share that the model labels rightly."""
    model.eval()
    with torch.inference_mode():
        vectors = torch.from_numpy(embed(model.encoder, tokenizer, test.texts, length))
        found = model.head(vectors).argmax(-1).numpy()
    return float(np.mean(found == test.labels))


def finetuned(job: dict[str, Any], tokenizer: Any, train: Rows, validation: Rows, test: Rows) -> float:
    """The test accuracy of the model, fine-tuned on these rows for the job's steps; it is validated once, too."""
    torch.manual_seed(job["seed"])
    model = Training(job["model"], len(job["classes"]), job["learning_rate"], job["weight_decay"], job["clip"])
    warm = max(1, round(job["warmup"] * job["steps"]))
    rate = torch.optim.lr_scheduler.LambdaLR(
        model.optimizer, lambda step: min((step + 1) / warm, (job["steps"] - step) / max(1, job["steps"] - warm))
    )
    batches = drawn(train.texts, job["batch_size"], job["seed"])
    for rows in islice(batches, job["steps"]):
        some = train.take(rows)
        model.step(tokenised(tokenizer, some.texts, job["length"]), some.labels)
        rate.step()
    accuracy(model, tokenizer, validation, job["length"])
    return accuracy(model, tokenizer, test, job["length"])


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    on_cores(job["cores"])
    steps = Steps()
    train, validation, test = (read(job[name], job["classes"]) for name in ("train", "validation", "test"))
    tokenizer, encoder = AutoTokenizer.from_pretrained(job["model"]), load(job["model"])
    steps.done("load")
    x, x_val = represent(*(embed(encoder, tokenizer, part.texts, job["length"]) for part in (train, validation)))
    data = Data(x, train.labels, x_val, validation.labels)
    steps.done("embed")
    with threadpool_limits(1):  # thousands of tiny fits: threads would wait for each other
        found = ts_dshapley(data, chains=job["chains"], subset_size=job["subset_size"], seed=job["seed"])
        steps.done("value")
        removed = select(data, found.values, step=job["grid"]).removed
    steps.done("select")
    kept = np.setdiff1d(np.arange(len(train.texts)), removed)
    some = np.random.default_rng(job["seed"]).choice(len(train.texts), len(kept), replace=False)
    # Where nothing is removed all three are one.
    others = {"selection": train.take(kept), "random": train.take(some)} if len(removed) else {}
    parts = {"full": train, **others}
    scores = {name: finetuned(job, tokenizer, part, validation, test) for name, part in parts.items()}
    steps.done("finetune")
    answer = {
        "stages": steps.seconds,
        "fits": found.fits,
        "values": found.values.tolist(),
        "stderr": found.stderr.tolist(),
        "removed": len(removed),
        "accuracy": scores,
    }
    Path(sys.argv[2]).write_text(json.dumps(answer), "utf-8")
    np.savez(Path(sys.argv[2]).with_suffix(".npz"), **data._asdict())


if __name__ == "__main__":
    main()
