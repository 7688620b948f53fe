"""One process that values, selects, embeds and fine-tunes for a long time: do memory and open files stay flat?

    python benchmarks/soak.py [--minutes 10] [--quick]

A round values 300 rows of real tweets by both estimators, goes on from a checkpoint, embeds them into a cache and from
it, asks the loss baseline, and fine-tunes MiniLM for two steps, each time with another seed. After each round the
process says what memory it holds (resident set), how many files it has open and how many threads. The first third of
the rounds compile and fill caches; growth is the slope over the others.

Prints a Markdown table; a run of at least ten minutes also writes benchmarks/results/soak.json. What leaks leaks by the
call, so small sizes show in ten minutes what an hour of larger ones would.
"""

import argparse
import gc
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from measures.code import stamp
from measures.problem import say
from measures.results import provenance, write

import tsds_jax as tsds
from tsds_jax.data.tweets import load_tweets
from tsds_jax.demo import minilm_folder
from tsds_jax.encoders import fit_pca
from tsds_jax.options import FineTuneOptions

RESULTS = Path(__file__).parent / "results" / "soak.json"
MEASURED = (
    *("arrays", "baselines", "data", "encoders", "estimators", "evaluation", "finetuning", "games", "options"),
    *("runtime", "valuation", "benchmarks/soak.py"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Do memory and open files stay flat over many calls?")
    parser.add_argument("--minutes", type=float, default=10.0, help="less than ten write no file")
    parser.add_argument("--quick", action="store_true", help="two rounds; writes no file")
    given = parser.parse_args()
    keep = not given.quick and given.minutes >= 10
    about = provenance(*MEASURED, keep=keep)
    splits = load_tweets(train=300, validation=200, test=1, seed=0)
    encoder = tsds.load_encoder(minilm_folder())
    rounds: list[dict[str, float]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while len(rounds) < 2 or (not given.quick and time.monotonic() - began < 60 * given.minutes):
            one_round(splits, encoder, Path(folder), len(rounds), **({"max_length": 16} if given.quick else {}))
            gc.collect()
            rounds.append({"seconds": round(time.monotonic() - began, 1), **held()})
            say(f"round {len(rounds)}: {rounds[-1]}")
    print(f"{about['machine']['processor']}, {about['date']}\n\n{table(rounds)}")
    if keep:
        write(RESULTS, {**about, **stamp(*MEASURED), "rounds": rounds}, table(rounds))


def one_round(splits: Any, encoder: Any, folder: Path, seed: int, **tuning: Any) -> None:
    """One of everything that a long-lived process calls again and again."""
    cache = folder / f"cache-{seed}"
    for _ in range(2):  # computed, and from the cache
        found = encoder.embed([*splits.train.texts, *splits.validation.texts], cache=cache)
    pca = fit_pca(found[:300], 16)
    data = (pca.transform(found[:300]), splits.train.labels, pca.transform(found[300:]), splits.validation.labels)
    checkpoint = folder / f"checkpoint-{seed}.npz"
    for _ in range(2):  # computed, and gone on with
        tsds.value(*data, samples=32, seed=seed, checkpoint=checkpoint, checkpoint_every=0)
    tsds.value(*data, samples=2, estimator="permutation", seed=seed)
    tsds.baseline("loss", *data)
    how = FineTuneOptions(steps=2, batch_size=8, head="mean", seed=seed, **tuning)
    tsds.finetune(encoder, splits.train, test=splits.validation, options=how, folder=folder / f"tuned-{seed}")
    for left in (cache, folder / f"tuned-{seed}"):
        shutil.rmtree(left)
    checkpoint.unlink()


def held() -> dict[str, float]:
    """MiB in memory, open files and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return {"MiB": round(memory, 1), "files": len(os.listdir("/proc/self/fd")), "threads": threading.active_count()}


def table(rounds: list[dict[str, float]]) -> str:
    """Markdown: at the start of the last two thirds, at their end, and the slope between."""
    late = rounds[len(rounds) // 3 :]
    lines = ["| held | after a third | at the end | most | growth a round |", "|---|---|---|---|---|"]
    for name in ("MiB", "files", "threads"):
        some = [one[name] for one in late]
        slope = np.polyfit(range(len(some)), some, 1)[0] if len(some) > 1 else 0.0
        lines.append(f"| {name} | {some[0]:.0f} | {some[-1]:.0f} | {max(some):.0f} | {round(slope, 2) + 0.0:+.2f} |")
    return "\n".join([f"{len(rounds)} rounds in {rounds[-1]['seconds'] / 60:.1f} minutes.", "", *lines])


if __name__ == "__main__":
    main()
