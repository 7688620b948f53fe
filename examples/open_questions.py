"""What TS-DShapley's paper leaves open, asked of tweets: which source classifier, which subset size, how many chains.

    python examples/open_questions.py [--only finding|smoothing|transfer|size|chains] [--out FOLDER] [--quick]

**finding**: which source classifier, representation and utility find flipped labels best, and how many rows the
default rule would then remove: of 2,500 tweets as the crowd labelled them, and with 10 and 20 % flipped; three draws.

**smoothing**: whether a value finds more wrong labels when it is averaged with those of the nearest neighbours of the
same label: of 2,500 tweets with 10 and 20 % flipped; three draws.

**transfer**: which source classifier, representation and utility best say what helps the model that is fine-tuned, and
is there a cheap test beforehand? MiniLM is fine-tuned on 1,000 tweets without the tenth that each ranking puts lowest,
and on all of them, by the same seed and for as many steps, and compared on 2,000 other tweets; with labels as the crowd
gave them and with a fifth of them flipped besides; three draws of each.

**size**: how well values find flips at each subset size, for three dimensions and two numbers of points.

**chains**: the same as the number of samples grows, at small and at large subsets.

Every finished run is kept in FOLDER/results.json, and the study goes on after the last, unless that was of other code.
Plots are written to FOLDER; tables are printed and go into open_questions.md, which says what they mean. About an hour
on two cores, and an hour and a half more for transfer.
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import friedmanchisquare, spearmanr, t

import tsds_jax as tsds
from tsds_jax.data import load_tweets
from tsds_jax.demo import minilm_folder
from tsds_jax.encoders import Encoder
from tsds_jax.finetuning.temperature import at_best_temperature
from tsds_jax.options import DEMO_FINETUNING, SelectOptions
from tsds_jax.pipeline.representing import represent
from tsds_jax.runtime.environment import environment
from tsds_jax.runtime.progress import silent
from tsds_jax.selection import Limits, ordered_curve
from tsds_jax.selection.choice import choose, validation_folds
from tsds_jax.valuation import source_game

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from measures.code import stamp

HERE, WRITTEN = Path(__file__).with_suffix(""), Path(__file__).with_suffix(".md")
DRAWS, LENGTH = 3, 64
MEASURED = (
    *("baselines", "data", "encoders", "estimators", "evaluation", "finetuning", "games", "options", "pipeline"),
    *("selection", "valuation"),
)

# finding, transfer: each ranking differs from the first in one thing. Name -> (how rows are represented, and ranked).
RANKINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "logistic, accuracy, last layer, PCA 32": ({}, {}),
    "source: ridge": ({}, {"source": "ridge"}),
    "source: kernel": ({}, {"method": "kernel_shapley"}),
    "source: nearest neighbours": ({}, {"method": "knn_shapley"}),
    "no values: cross-validated loss": ({}, {"method": "loss"}),
    "utility: probability": ({}, {"utility": "probability"}),
    "utility: log-likelihood": ({}, {"utility": "log_likelihood"}),
    "layer: 3 of 6": ({"layer": 3}, {}),
    "layers: 3 and 6": ({"layer": (3, -1)}, {}),
    "pooling: first token": ({"pooling": "cls"}, {}),
    "PCA 8": ({"pca": 8}, {}),
    "PCA 128": ({"pca": 128}, {}),
    "fine-tuned for a pass": ({"represent_by": "fine_tuned"}, {}),
    "cross-fitted": ({"represent_by": "cross_fitted"}, {}),
    "cross-fitted, loss": ({"represent_by": "cross_fitted"}, {"method": "loss"}),
    "random": ({}, {"method": "random"}),
}
FLIPS, REMOVED = (0.0, 0.2), 0.1
# What fine-tuning without the removed rows gains on test rows: name, factor and digits of a table.
GAINS = (("gain_accuracy", 100, 2), ("gain_sharpened", 1000, 1))
FINDING_POINTS, FINDING_FLIPS = 2500, (0.0, 0.1, 0.2)
SMOOTHED: dict[str, dict[str, Any]] = {
    "values": {"utility": "log_likelihood"},
    "values of 10 coalitions": {"utility": "log_likelihood", "samples": 10},
    "values by accuracy": {"utility": "accuracy"},
    "values by accuracy of 10 coalitions": {"utility": "accuracy", "samples": 10},
    "nearest neighbours": {"method": "knn_shapley"},
    "no values: cross-validated loss": {"method": "loss"},
}
# Name -> how many neighbours, and whether a point's own value counts half or as one of them.
SMOOTHINGS = {
    "5, all alike": (5, False),
    "5, own half": (5, True),
    "20, all alike": (20, False),
    "20, own half": (20, True),
}
TESTS = {
    "source_accuracy": "source classifier's gain of accuracy on validation rows",
    "source_likelihood": "its gain of log-likelihood there",
    "doubted": "share of the removed rows whose label cross-validation doubts",
    "skew": "how much the removal shifts the classes",
    "target_accuracy": "the fine-tuned model's gain of accuracy on validation rows",
    "target_likelihood": "its gain of log-likelihood there",
    "target_sharpened": "the same at each model's best temperature",
}
# size and chains: a tenth of the labels flipped.
SIZES, DIMENSIONS, POINTS, SAMPLES = (16, 32, 64, 128, 256, 512), (8, 32, 128), (1000, 4000), 200
CHAINS, BUDGETS, CHAIN_POINTS = (32, 64, 512), (10, 30, 100, 300, 1000), 2500

Runs = dict[str, dict[str, Any]]


def main() -> None:
    studies: dict[str, Callable[..., None]] = {
        "finding": finding,
        "smoothing": smoothing,
        "transfer": transfer,
        "size": size,
        "chains": chains,
    }
    parser = argparse.ArgumentParser(description="The paper's open questions, asked of real tweets.")
    parser.add_argument("--only", choices=studies, help="one of the studies")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results and plots")
    parser.add_argument("--quick", action="store_true", help="one draw and few rows; give another --out with it")
    given = parser.parse_args()
    if given.quick and given.out == HERE:
        parser.error("--quick would mix its runs with the whole study's: give another --out")
    given.out.mkdir(parents=True, exist_ok=True)
    store = Store(given.out / "results.json")
    for name, study in studies.items():
        if given.only in (None, name):
            study(store.of(name), given.quick)
    tables = {name: table(store.of(name)) for name, table in TABLES.items() if store.of(name).runs}
    print("\n\n".join(tables.values()))
    if given.out == HERE:
        text = WRITTEN.read_text("utf-8")
        for name, table in tables.items():
            before, rest = text.split(f"<!-- {name} -->")
            after = rest.split(f"<!-- /{name} -->")[1]
            text = f"{before}<!-- {name} -->\n{table}\n<!-- /{name} -->{after}"
        WRITTEN.write_text(text, "utf-8")
    with matplotlib.rc_context({"svg.hashsalt": "tsds_jax", "svg.fonttype": "none"}):
        for name, plot in PLOTS.items():
            if store.of(name).runs:
                plot(store.of(name)).savefig(given.out / f"{name}.svg", format="svg", metadata={"Date": None})


class Store:
    """results.json: study -> key of a run -> its numbers, written after each."""

    def __init__(self, file: Path, study: str = ""):
        """What the file holds, if it is there."""
        self.file, self.study = file, study
        self.content = json.loads(file.read_text("utf-8")) if file.exists() else {}

    def of(self, study: str) -> "Store":
        """One study's part."""
        return Store(self.file, study)

    @property
    def runs(self) -> Runs:
        """Key -> numbers."""
        return self.content.get(self.study, {}).get("runs", {})

    def keep(self, key: str, compute: Callable[[], dict[str, Any]]) -> None:
        """Computes a run where it is not there yet."""
        if key in self.runs:
            return
        now = stamp(*MEASURED, keep=True)
        about = self.content.setdefault(self.study, {**now, **environment(), "runs": {}})
        if other := [part for part, digest in now["code"].items() if about["code"].get(part) != digest]:
            raise SystemExit(
                f"{self.file}: the runs of study {self.study!r} are of other code ({', '.join(other)}): give another"
                " --out, or remove that study from the file"
            )
        began = time.perf_counter()
        found = compute()
        about["runs"][key] = found | {"seconds": round(time.perf_counter() - began, 1)}
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1) + "\n", "utf-8")
        os.replace(part, self.file)
        print(self.study, key, json.dumps(about["runs"][key]), flush=True)


def finding(store: Store, quick: bool) -> None:
    for draw in range(1 if quick else DRAWS):
        for name, (options, how) in RANKINGS.items():
            if "represent_by" in options:
                continue  # benchmarks/representations.py measures these
            for flips in FINDING_FLIPS:
                run = functools.partial(found_flips, 300 if quick else FINDING_POINTS, draw, flips, options, how)
                store.keep(f"{flips:g}|{draw}|{name}", run)


def found_flips(points: int, draw: int, flips: float, options: dict[str, Any], how: dict[str, Any]) -> dict[str, Any]:
    """How well a ranking finds flips; of values, how many rows the default rule removes, and how many are flips."""
    x, y, wrong, x_val, y_val = flipped(points, draw, flips, **options)
    folds = validation_folds(SelectOptions(seed=draw), y_val)
    found = ranked((x, y, x_val, y_val), {"seed": draw, **how}, folds)
    run: dict[str, Any] = {}
    if "method" not in how:
        settings = SelectOptions(seed=draw, **{"utility": "accuracy", **how})
        game = source_game(x, y, x_val, y_val, source=settings.source, utility=settings.utility)
        choice = choose(game, found, Limits.none(y), folds, settings)
        removed = choice.order.points[: choice.removal_index]
        run = {"removed": len(removed), "flipped": int(wrong[removed].sum())}
    return run | ({"auroc": tsds.detection(found.values, wrong).auroc} if flips else {})


def smoothing(store: Store, quick: bool) -> None:
    for draw in range(1 if quick else DRAWS):
        for flips in FINDING_FLIPS[1:]:
            for name, how in SMOOTHED.items():
                run = functools.partial(found_smoothed, 300 if quick else FINDING_POINTS, draw, flips, how)
                store.keep(f"{flips:g}|{draw}|{name}", run)


def found_smoothed(points: int, draw: int, flips: float, how: dict[str, Any]) -> dict[str, Any]:
    """How well a ranking finds flips as it is, and smoothed."""
    x, y, wrong, x_val, y_val = flipped(points, draw, flips)
    values = ranked((x, y, x_val, y_val), {"seed": draw, **how}).values
    found = {"as they are": values} | {name: smoothed(values, x, y, *way) for name, way in SMOOTHINGS.items()}
    scores = {name: tsds.detection(some, wrong) for name, some in found.items()}
    return {name: {"auroc": one.auroc, "f1": one.f1} for name, one in scores.items()}


def smoothed(values: np.ndarray, x: np.ndarray, y: np.ndarray, neighbours: int, own_half: bool) -> np.ndarray:
    """The mean of each point's value and those of its nearest neighbours, by angle, that have the same label."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = np.empty(len(values))
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        near = unit[rows] @ unit[rows].T
        np.fill_diagonal(near, -np.inf)
        some = np.argsort(-near, 1)[:, :neighbours]
        share = 1 / 2 if own_half else 1 / (1 + neighbours)
        found[rows] = share * values[rows] + (1 - share) * values[rows][some].mean(1)
    return found


def ranked(arrays: tuple[np.ndarray, ...], how: dict[str, Any], folds: np.ndarray | None = None) -> tsds.Valuation:
    """One of `RANKINGS`: by another method, or by values, of accuracy where no utility is named."""
    if "method" in how:
        return tsds.baseline(x_train=arrays[0], y_train=arrays[1], x_val=arrays[2], y_val=arrays[3], **how)
    return tsds.value(*arrays, row_groups=folds, **{"utility": "accuracy", **how})


def transfer(store: Store, quick: bool) -> None:
    encoder = tsds.load_encoder(minilm_folder())
    sizes = (
        {"train": 200, "validation": 200, "test": 200} if quick else {"train": 1000, "validation": 500, "test": 2000}
    )
    for draw in range(1 if quick else DRAWS):
        splits = load_tweets(**sizes, seed=draw)
        for flips in FLIPS:
            train, wrong = tsds.flip_labels(splits.train, flips, draw)
            setting = Setting(encoder, train, wrong, splits.validation, splits.test, draw)
            for name in RANKINGS:
                store.keep(f"{flips:g}|{draw}|{name}", lambda name=name, setting=setting: setting.run(name))
            if flips:
                store.keep(f"{flips:g}|{draw}|all flips, if one knew them", setting.without_flips)


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """One draw: a model, training rows of which some are known to be wrong, and others."""

    encoder: Encoder
    train: tsds.TextData
    wrong: np.ndarray
    validation: tsds.TextData
    test: tsds.TextData
    seed: int

    def run(self, name: str) -> dict[str, Any]:
        """What removing this ranking's lowest tenth does, and what one could have known before."""
        options, how = RANKINGS[name]
        seen = self.seen(**options)
        x, x_val = seen["train"], seen["validation"]
        arrays = (x, self.train.labels, x_val, self.validation.labels)
        values = ranked(arrays, {"seed": self.seed, **how}).values
        found = self.removed(Limits.none(self.train.labels).removal_order(values).points, arrays)
        if self.wrong.any():
            found["auroc"] = tsds.detection(values, self.wrong).auroc
        return found

    def without_flips(self) -> dict[str, Any]:
        """What removing exactly the flipped rows does."""
        rows = np.flatnonzero(~self.wrong)
        return self.gains(self.tuned(rows))

    def seen(self, **options: Any) -> dict[str, np.ndarray]:
        """Representations of the training and validation rows."""
        settings = SelectOptions(seed=self.seed, max_length=LENGTH, **options)
        return represent(self.train, self.validation, self.encoder, settings, TUNING, None, silent)

    def removed(self, order: np.ndarray, arrays: tuple[np.ndarray, ...]) -> dict[str, Any]:
        """Of a removal: the target's gains, and the cheap tests."""
        count = round(REMOVED * len(order))
        gone, rest = order[:count], np.sort(order[count:])
        found = self.gains(self.tuned(rest))
        removal = Limits.none(self.train.labels).removal_order(np.argsort(order).astype(float))
        for utility, name in (("accuracy", "source_accuracy"), ("log_likelihood", "source_likelihood")):
            curve = ordered_curve(source_game(*arrays, utility=utility), removal, np.array([0, count]))
            found[name] = float(curve.difference[-1])
        share = np.bincount(self.train.labels, minlength=2) / len(order)
        taken = np.bincount(self.train.labels[gone], minlength=2) / count
        return found | {"doubted": float(self.doubted[gone].mean()), "skew": float(np.abs(taken - share).sum() / 2)}

    @functools.cached_property
    def doubted(self) -> np.ndarray:
        """Whether cross-validation of the default source classifier doubts each training label."""
        seen = self.seen()
        arrays = (seen["train"], self.train.labels, seen["validation"], self.validation.labels)
        return tsds.baseline("margin", *arrays, seed=self.seed).values < 0

    @functools.cached_property
    def full(self) -> list[np.ndarray]:
        """The model that was fine-tuned on all rows; see `tuned`."""
        return self.tuned(np.arange(len(self.train)))

    def tuned(self, rows: np.ndarray) -> list[np.ndarray]:
        """Class probabilities of the test and the validation rows by a model fine-tuned on these training rows."""
        steps = 2 * -(-len(self.train) // TUNING.batch_size)  # two passes over all rows, whatever is left of them
        options = dataclasses.replace(TUNING, steps=steps, seed=self.seed)
        model = tsds.finetune(self.encoder, self.train.select(rows), options=options).model
        return [np.asarray(model.probabilities(part.texts), np.float64) for part in (self.test, self.validation)]

    def gains(self, tuned: list[np.ndarray]) -> dict[str, Any]:
        """Against the model that saw all rows, on the test rows and on the validation rows."""
        found = {}
        for name, part, own, full in zip(
            ("gain", "target"), (self.test, self.validation), tuned, self.full, strict=True
        ):
            for measure, score in SCORES.items():
                found[f"{name}_{measure}"] = score(own, part.labels) - score(full, part.labels)
        return found


def log_likelihood(probability: np.ndarray, labels: np.ndarray) -> float:
    return float(np.log(np.maximum(probability[np.arange(len(labels)), labels], 1e-9)).mean())


def sharpened(probability: np.ndarray, labels: np.ndarray) -> float:
    """The log-likelihood at the best temperature: a model that is right but too unsure loses nothing by it."""
    return log_likelihood(at_best_temperature(probability, labels), labels)


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda probability, labels: float(np.mean(probability.argmax(1) == labels)),
    "likelihood": log_likelihood,
    "sharpened": sharpened,
}
TUNING = dataclasses.replace(DEMO_FINETUNING, max_length=LENGTH)


def size(store: Store, quick: bool) -> None:
    for points in POINTS:
        for draw in range(1 if quick else DRAWS):
            for dimension in DIMENSIONS:
                for subset in SIZES:
                    how = {"subset_size": subset, "samples": 5 if quick else SAMPLES, "seed": draw}
                    run = functools.partial(scored, points, dimension, how)
                    store.keep(f"{points}|{dimension}|{subset}|{draw}", run)


def chains(store: Store, quick: bool) -> None:
    for draw in range(1 if quick else DRAWS):
        for subset in CHAINS:
            for samples in BUDGETS[:2] if quick else BUDGETS:
                for estimator in ("add_one", "permutation"):
                    if estimator == "permutation" and samples > 100:
                        continue  # a fit for each contribution: it says the same, for minutes
                    how = {"subset_size": subset, "samples": samples, "estimator": estimator, "seed": draw}
                    run = functools.partial(scored, CHAIN_POINTS, 32, how)
                    store.keep(f"{estimator}|{subset}|{samples}|{draw}", run)


@functools.lru_cache(maxsize=8)
def flipped(points: int, draw: int, flips: float, **options: Any) -> tuple[np.ndarray, ...]:
    """Tweets, so many of the training labels flipped, and validation rows."""
    splits = load_tweets(train=points, validation=1000, test=1, seed=draw)
    train, wrong = tsds.flip_labels(splits.train, flips, draw)
    settings, cache = SelectOptions(max_length=LENGTH, **options), Path(tempfile.gettempdir()) / "tsds-open-questions"
    seen = represent(train, splits.validation, tsds.load_encoder(minilm_folder()), settings, TUNING, cache, silent)
    return seen["train"], train.labels, wrong, seen["validation"], splits.validation.labels


def scored(points: int, dimension: int, how: dict[str, Any]) -> dict[str, Any]:
    """How well values find flips, and the rank correlation to expect of another run."""
    x, y, wrong, x_val, y_val = flipped(points, how["seed"], 0.1, pca=128)
    valuation = tsds.value(x[:, :dimension], y, x_val[:, :dimension], y_val, utility="accuracy", **how)
    return {"auroc": tsds.detection(valuation.values, wrong).auroc, "split_half": valuation.split_half}


def interval(numbers: list[float], times: float = 1, digits: int = 2, sign: str = "+") -> str:
    """Mean and half the width of Student's 95 % interval."""
    middle = f"{times * mean(numbers):{sign}.{digits}f}"
    if len(numbers) < 2:
        return middle
    half = t.ppf(0.975, len(numbers) - 1) * stdev(numbers) / np.sqrt(len(numbers))
    return f"{middle} ± {times * half:.{digits}f}"


def by(store: Store, *wanted: Any) -> list[dict[str, Any]]:
    """The runs whose key has these parts, None for any."""
    return [
        run
        for key, run in store.runs.items()
        if all(part is None or str(part) == own for part, own in zip(wanted, key.split("|"), strict=True))
    ]


def finding_table(store: Store) -> str:
    lines = [
        "| ranking | AUROC, 10 % flipped | 20 % flipped | rows removed, no flips | 10 % flipped | 20 % flipped |",
        "|---|---|---|---|---|---|",
    ]
    for name in RANKINGS:
        if not by(store, None, None, name):
            continue
        some = {flips: by(store, f"{flips:g}", None, name) for flips in FINDING_FLIPS}
        cells = [interval([run["auroc"] for run in some[flips]], 1, 3, "") for flips in FINDING_FLIPS if flips]
        for flips in FINDING_FLIPS:
            removed = [run["removed"] for run in some[flips] if "removed" in run]
            share = sum(run["flipped"] for run in some[flips] if removed) / max(sum(removed), 1)
            among = f" ({share:.0%} flips)" if flips and any(removed) else ""
            cells.append(", ".join(map(str, removed)) + among)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def smoothing_table(store: Store) -> str:
    ways = " | ".join(f"{name}: changes" for name in SMOOTHINGS)
    lines = [f"| flipped | ranking | F1; AUROC as they are | {ways} |", "|---" * (len(SMOOTHINGS) + 3) + "|"]
    for flips in FINDING_FLIPS[1:]:
        for name in SMOOTHED:
            some = by(store, f"{flips:g}", None, name)
            plain = [[run["as they are"][score] for run in some] for score in ("f1", "auroc")]
            cells = ["; ".join(interval(one, 1, 3, "") for one in plain)]
            for way in SMOOTHINGS:
                changed = [
                    [run[way][score] - base for run, base in zip(some, one, strict=True)]
                    for score, one in zip(("f1", "auroc"), plain, strict=True)
                ]
                cells.append("; ".join(interval(one, 1, 3) for one in changed))
            lines.append(f"| {flips:.0%} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def transfer_tables(store: Store) -> str:
    head = "accuracy, points | sharpened log-likelihood, thousandths"
    lines = [
        f"| lowest tenth removed by | AUROC of flips | 20 % flipped: {head} | no flips: {head} |",
        "|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(key.split("|")[2] for key in store.runs))
    for name in names:
        cells = []
        some = by(store, 0.2, None, name)
        cells.append(interval([run["auroc"] for run in some], 1, 3, "") if some and "auroc" in some[0] else "")
        for flips in ("0.2", "0"):
            some = by(store, flips, None, name)
            for measure, times, digits in GAINS:
                cells.append(interval([run[measure] for run in some], times, digits) if some else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    rankings = [name for name in RANKINGS if name != "random"]
    means, tests = [], []
    for flips in ("0.2", "0"):
        draws = min(len(by(store, flips, None, name)) for name in RANKINGS)  # in which all of them have run
        for measure, times, digits in GAINS:
            gains = np.array([[run[measure] for run in by(store, flips, None, name)[:draws]] for name in rankings])
            chance = np.array([run[measure] for run in by(store, flips, None, "random")[:draws]])
            means.append(interval(list(gains.mean(0) - chance), times, digits) if draws else "")
            tests.append(f"p = {friedmanchisquare(*gains).pvalue:.2f}" if draws > 1 else "")
    lines += [
        f"| mean of the first {len(rankings)}, minus random |  | {' | '.join(means)} |",
        f"| do these {len(rankings)} differ? (Friedman's test) |  | {' | '.join(tests)} |",
        "",
        "| what one can know before | 20 % flipped: rank correlation with the gain of accuracy | of sharpened "
        "log-likelihood | no flips: of accuracy | of sharpened log-likelihood |",
        "|---|---|---|---|---|",
    ]
    for test, words in (TESTS | {"auroc": "(how well it finds the flips, which one cannot know)"}).items():
        cells = []
        for flips in ("0.2", "0"):
            each = [
                [run for run in by(store, flips, draw, None) if test in run and "skew" in run] for draw in range(DRAWS)
            ]
            cells += [correlation(each, test, measure) if any(each) else "" for measure, *_ in GAINS]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def correlation(draws: list[list[dict[str, Any]]], test: str, measure: str) -> str:
    """Spearman's, with an interval by resampling runs.

    Of what each run has more than the others of its draw: all gains of a draw are against one model, whose luck would
    make what is measured against the same model on other rows look like a test.
    """
    parts = [np.array([(run[test], run[measure]) for run in runs]) for runs in draws if runs]
    pairs = np.concatenate([part - part.mean(0) for part in parts])
    rng = np.random.default_rng(0)
    with np.errstate(invalid="ignore"):
        drawn = [spearmanr(*pairs[rng.integers(len(pairs), size=len(pairs))].T).statistic for _ in range(500)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return f"{spearmanr(*pairs.T).statistic:.2f} ({low:.2f} to {high:.2f})"


def size_table(store: Store) -> str:
    lines = [
        f"| points | dimension | {' | '.join(f's = {subset}' for subset in SIZES)} | best | of all points |",
        "|---" * (len(SIZES) + 4) + "|",
    ]
    for points in POINTS:
        for dimension in DIMENSIONS:
            found = [[run["auroc"] for run in by(store, points, dimension, subset, None)] for subset in SIZES]
            best = SIZES[int(np.argmax([mean(one) for one in found]))]
            cells = " | ".join(interval(one, 1, 3, "") for one in found)
            lines.append(f"| {points:,} | {dimension} | {cells} | {best} | {best / points:.1%} |")
    return "\n".join(lines)


def chains_table(store: Store) -> str:
    budgets = sorted({int(key.split("|")[2]) for key in store.runs})
    lines = [
        f"| estimator | subset | {' | '.join(f'{one:,} samples' for one in budgets)} |",
        "|---" * (len(budgets) + 2) + "|",
    ]
    for estimator in ("add_one", "permutation"):
        for subset in CHAINS:
            cells = []
            for samples in budgets:
                some = by(store, estimator, subset, samples, None)
                both = [[run[name] for run in some] for name in ("auroc", "split_half")] if some else []
                cells.append("; ".join(interval(one, 1, 3, "") for one in both))
            lines.append(f"| {estimator} | {subset} ({subset / CHAIN_POINTS:.1%}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def finding_plot(store: Store) -> Figure:
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    axes = figure.subplots()
    names = [name for name in RANKINGS if by(store, None, None, name)]
    for flips, marker in ((0.1, "o"), (0.2, "s")):
        aurocs = [[run["auroc"] for run in by(store, f"{flips:g}", None, name)] for name in names]
        error = [stdev(some) / np.sqrt(len(some)) if len(some) > 1 else 0 for some in aurocs]
        axes.errorbar([mean(some) for some in aurocs], names, xerr=error, fmt=marker, label=f"{flips:.0%} flipped")
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.9")
    axes.set_xlabel("AUROC of the flips (± one error)")
    axes.legend(fontsize="small")
    return figure


def smoothing_plot(store: Store) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2, sharey=True), ("f1", "auroc"), strict=True):
        for number, way in enumerate(SMOOTHINGS):
            changed = [
                [run[way][score] - run["as they are"][score] for run in by(store, None, None, name)]
                for name in SMOOTHED
            ]
            error = [stdev(some) / np.sqrt(len(some)) if len(some) > 1 else 0 for some in changed]
            place = np.arange(len(SMOOTHED)) + 0.15 * (number - 1.5)
            axes.errorbar([mean(some) for some in changed], place, xerr=error, fmt="osD^"[number], label=way)
        axes.axvline(0, color="0.7", lw=0.8)
        axes.set_xlabel({"f1": "change of F1", "auroc": "change of AUROC"}[score] + " by smoothing (± one error)")
    figure.axes[0].set_yticks(range(len(SMOOTHED)), list(SMOOTHED))
    figure.axes[0].invert_yaxis()
    figure.axes[1].legend(fontsize="x-small")
    return figure


def transfer_plot(store: Store) -> Figure:
    """What each ranking finds of the flips, against what removing by it does to the target."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    names = [name for name in RANKINGS if name != "random" and by(store, 0.2, None, name)]
    for number, name in enumerate(names):
        some = by(store, 0.2, None, name)
        x, y = ([run[key] for run in some] for key in ("auroc", "gain_sharpened"))
        error = 1000 * stdev(y) / np.sqrt(len(y)) if len(y) > 1 else 0
        marker = "os"[number // 10]
        axes.errorbar(mean(x), 1000 * mean(y), error, fmt=marker, color=f"C{number % 10}", label=name)
    axes.axhline(0, color="0.7", lw=0.8)
    if chance := [1000 * run["gain_sharpened"] for run in by(store, 0.2, None, "random")]:
        axes.axhline(mean(chance), color="0.5", ls="--", lw=0.8, label="random rows")
    axes.set_xlabel("AUROC of finding the flipped labels (20 %)")
    axes.set_ylabel("fine-tuned model's gain of sharpened\nlog-likelihood, thousandths (± one error)")
    figure.legend(loc="outside right upper", fontsize="x-small")
    return figure


def size_plot(store: Store) -> Figure:
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    for axes, points in zip(figure.subplots(1, 2, sharey=True), POINTS, strict=True):
        for dimension in DIMENSIONS:
            some = [by(store, points, dimension, subset, None) for subset in SIZES]
            y = [mean(run["auroc"] for run in runs) for runs in some]
            error = [stdev(run["auroc"] for run in runs) if len(runs) > 1 else 0 for runs in some]
            axes.errorbar(SIZES, y, np.array(error) / np.sqrt(len(some[0])), marker="o", label=f"{dimension} features")
        axes.axvline(0.02 * points, color="0.7", ls="--", lw=0.8)
        axes.set_xscale("log", base=2)
        axes.set_title(f"{points:,} points (dashed: 2 %)", fontsize="medium")
        axes.set_xlabel("subset size")
    figure.axes[0].set_ylabel("AUROC of the flips (10 %)")
    figure.axes[0].legend(fontsize="small")
    return figure


def chains_plot(store: Store) -> Figure:
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("auroc", "split_half"), strict=True):
        for number, subset in enumerate(CHAINS):
            for estimator, style in (("add_one", "-o"), ("permutation", "--x")):
                drawn = [(budget, by(store, estimator, subset, budget, None)) for budget in BUDGETS]
                drawn = [(budget, mean(run[name] for run in runs)) for budget, runs in drawn if runs]
                axes.plot(*zip(*drawn, strict=True), style, color=f"C{number}", label=f"s = {subset}, {estimator}")
        axes.set_xscale("log")
        axes.set_xlabel("samples a point")
        axes.set_ylabel({"auroc": "AUROC of the flips (10 %)", "split_half": "rank correlation with another run"}[name])
    figure.axes[0].legend(fontsize="x-small")
    return figure


TABLES = {
    "finding": finding_table,
    "smoothing": smoothing_table,
    "transfer": transfer_tables,
    "size": size_table,
    "chains": chains_table,
}
PLOTS = {
    "finding": finding_plot,
    "smoothing": smoothing_plot,
    "transfer": transfer_plot,
    "size": size_plot,
    "chains": chains_plot,
}

if __name__ == "__main__":
    main()
