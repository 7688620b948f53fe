"""Finding flipped labels: how well, and in how many seconds; ours, its baselines, and the peers.

    python benchmarks/detection.py [--quick]
    python benchmarks/detection.py --data FILE [--model FOLDER] [--quick]

1,000 positive and negative tweets as MiniLM represents them, in 32 components, 500 validation rows; a tenth of the
training labels is flipped, by five seeds. Every method gets the same arrays, one in turn with the others. Seconds are
those of one call that has compiled all it needs; peers run in environments of their own with one BLAS thread a process,
pyDVL in a process for each core, dattri and OpenDataVal in a thread of PyTorch for each, and valda and OpenDataVal in
the only process that they know. The time they take to start is left out, and what a first call of a few rows takes.
Their permutations are stopped at 2 and at 20: more of them would find more.

With --data the rows are of your own file: two classes, in columns "text" and "label", a part of them for validation,
the first 1,000 of a shuffle of the others to find wrong labels in.

Prints a Markdown table; a whole run of the tweets also writes benchmarks/results/detection.json and detection.svg.
Twenty minutes on two cores, nearly all of them the peers'.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from measures.code import stamp
from measures.problem import POINTS, Arrays, represented, say, timed, tweets
from measures.results import provenance, write
from peers.environment import Peer
from scipy.stats import t
from threadpoolctl import threadpool_limits

import tsds_jax as tsds
from tsds_jax.demo import minilm_folder

RESULTS = Path(__file__).parent / "results" / "detection.json"
FLIPS, SEEDS = 0.1, 5
NEIGHBOURS = 10  # as of our own baselines
MEASURED = (
    *("arrays", "baselines", "data", "encoders", "estimators", "evaluation", "games", "options", "runtime"),
    "valuation",
)

# A ranking, lowest first, and its seconds.
Ranked = tuple[np.ndarray, float]


class Method(NamedTuple):
    """One way to rank labels.

    Attributes:
      name: in the table.
      rank: of arrays and a seed, the lower the likelier a label is wrong.
      peer: whose it is; None of ours.
    """

    name: str
    rank: Callable[[Arrays, int], Ranked]
    peer: Peer | None = None


def ours(data: Arrays, seed: int, **options: Any) -> Ranked:
    """By values."""
    found, seconds = timed(lambda: tsds.value(*data, seed=seed, **options))
    return found.values, seconds


def whole(data: Arrays, seed: int, samples: int) -> Ranked:
    """By values of permutations of all points, which is what the peers estimate."""
    how = {"utility": "accuracy", "estimator": "permutation", "subset_size": len(data.x), "truncation": 0.0}
    return ours(data, seed, samples=samples, **how)


def base(data: Arrays, seed: int, name: str) -> Ranked:
    """By a baseline of ours."""
    found, seconds = timed(lambda: tsds.baseline(name, *data, seed=seed))
    return found.values, seconds


def theirs(data: Arrays, seed: int, peer: Peer, **options: Any) -> Ranked:
    """By a peer."""
    found = peer.run(*data.double(), seed=seed, warm=True, **options)
    return np.array(found["values"]), found["seconds"]


def of(name: str, peer: Peer, **options: Any) -> Method:
    """A method of a peer's."""
    return Method(name, partial(theirs, peer=peer, **options), peer)


def methods(folder: Path, quick: bool) -> list[Method]:
    """All of them."""
    names = ("pydvl", "valda", "opendataval", "dattri", "cleanlab")
    pydvl, valda, opendataval, dattri, cleanlab = (Peer(name, folder) for name in names)
    samples = (10, 100) if quick else (10, 30, 100, 300)
    # core.py tries the peers' permutations and KNN-Shapley.
    budgets, neighbours = ((), ()) if quick else ((2, 20), (("dattri", dattri), ("pyDVL", pydvl)))
    return [
        *(Method(f"value, {n} samples", partial(ours, samples=n)) for n in samples),
        *(
            Method(f"value by accuracy, {n} samples", partial(ours, utility="accuracy", samples=n))
            for n in samples[1::2]
        ),
        *(Method(name, partial(base, name=name)) for name in ("loss", "confident_learning", "knn_shapley", "data_oob")),
        # What permutations of all points find in the end; a peer takes minutes for that many.
        Method("value by accuracy, whole orders, 300 samples", partial(whole, samples=10 if quick else 300)),
        of("cleanlab", cleanlab, task="label_errors"),
        *(of(f"{name}, KNN-Shapley", peer, task="knn", k=NEIGHBOURS) for name, peer in neighbours),
        *(
            of(f"{name}, {n} permutations", peer, task="permutations", permutations=n)
            for n in budgets
            for name, peer in (("pyDVL", pydvl), ("valda", valda), ("OpenDataVal", opendataval))
        ),
        of("OpenDataVal, Data-OOB", opendataval, task="data_oob", bags=300),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Finding flipped labels: how well, and in how many seconds.")
    parser.add_argument("--quick", action="store_true", help="one seed, 200 points and fewer budgets; writes no file")
    parser.add_argument("--data", help="rows of your own in place of the tweets, of two classes; writes no file")
    parser.add_argument("--model", help="folder of the model that represents them; the tweets' MiniLM if not given")
    given = parser.parse_args()
    if given.model and given.data is None:
        parser.error("--model is for --data: the tweets' results are MiniLM's")
    quick, folder = given.quick, Path(tempfile.gettempdir()) / "tsds-core-benchmark"
    keep = not quick and given.data is None
    stamp(*MEASURED, keep=keep)  # which refuses what would not be kept
    data = tweets(folder, POINTS) if given.data is None else named(given.data, given.model)
    data = data.first(200) if quick else data.first(POINTS)
    runs, every = [], methods(folder, quick)
    with threadpool_limits(1):
        for method in every:
            if not (quick or method.peer):
                method.rank(data, 0)  # compiles; a peer's process warms up itself
        for seed in range(1 if quick else SEEDS):
            y, wrong = flipped(data.y, seed)
            for method in every:
                ranking, seconds = method.rank(data._replace(y=y), seed)
                found = tsds.detection(ranking, wrong)
                score = {"auroc": found.auroc, "average_precision": found.average_precision}
                runs.append({"method": method.name, "seed": seed, "seconds": seconds, **score})
                say(json.dumps(runs[-1]))
    scripts = sorted({f"benchmarks/peers/run_{method.peer.name}.py" for method in every if method.peer})
    about = provenance(*MEASURED, "benchmarks/detection.py", *scripts, keep=keep)
    print(f"{about['machine']['processor']}, {about['date']}\n\n{table(runs)}")
    if keep:
        peers = {method.peer.name: method.peer.versions for method in every if method.peer}
        write(RESULTS, {**about, "peers": peers, "runs": runs}, table(runs))


def named(file: str, model: str | None) -> Arrays:
    """The problem of a user's file."""
    splits = tsds.load_splits(file)
    if (classes := len(splits.train.classes)) != 2:
        raise SystemExit(f"{file} has {classes} classes: give two, or use benchmarks/selection.py --data")
    return represented(splits, model or str(minilm_folder()))


def flipped(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels, a tenth of them the other one, and which."""
    wrong = np.zeros(len(y), bool)
    wrong[np.random.default_rng(seed).choice(len(y), round(FLIPS * len(y)), replace=False)] = True
    return np.where(wrong, 1 - y, y).astype(y.dtype), wrong


def by_method(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Runs of each method."""
    return {name: [run for run in runs if run["method"] == name] for name in dict.fromkeys(r["method"] for r in runs)}


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: means with 95 % intervals over seeds, and the median of the seconds."""

    def cell(some: list[float]) -> str:
        width = f" ± {t.ppf(0.975, len(some) - 1) * stdev(some) / len(some) ** 0.5:.3f}" if len(some) > 1 else ""
        return f"{mean(some):.3f}{width}"

    lines = ["| method | seconds | AUROC | average precision |", "|---|---|---|---|"]
    for name, some in by_method(runs).items():
        seconds = median(run["seconds"] for run in some)
        auroc, precision = (cell([run[key] for run in some]) for key in ("auroc", "average_precision"))
        lines.append(f"| {name} | {seconds:.2g} | {auroc} | {precision} |")
    return "\n".join(lines)


def plot(runs: list[dict[str, Any]]) -> Figure:
    """AUROC against seconds; a method with several budgets is one line."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, some in by_method(runs).items():
        what, _, budget = name.rpartition(", ")
        line = what if budget.endswith(("samples", "permutations")) else name
        point = (median(run["seconds"] for run in some), mean(run["auroc"] for run in some))
        lines.setdefault(line, []).append(point)
    figure = Figure((8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", xlabel="seconds", ylabel="AUROC of flipped labels")
    for (line, points), marker in zip(lines.items(), itertools.cycle("os^v"), strict=False):
        axes.plot(*zip(*points, strict=True), marker=marker, label=line)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
