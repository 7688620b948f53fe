"""What each rule for the removal index gains on rows that decided nothing: the source classifier's test accuracy.

    python benchmarks/rules.py [--quick]

Of tweets as MiniLM represents them 5,000 train, 1,000 validate and 4,000 test, with two and three classes and with 0,
10 and 20 % of the training labels flipped on top of the crowd's own errors, four draws of each. Rows are valued
once a draw by log-likelihood (the default) and once by accuracy (the paper's), and each rule chooses a cut by the same
utility: `argmax` and `one_se` on the curve of the rows that also valued, `cross_fitted` on halves that judge each
other's removals. The gain is that of the classifier refitted without the removed rows, in points of test accuracy;
"best" is the cut that the test rows themselves would choose.

Prints two Markdown tables; a whole run also writes benchmarks/results/rules.json. About an hour on two cores.
Representations and draws are kept in the temporary folder, draws as long as the code is the same: a run that was
stopped goes on.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from measures.code import alike, stamp
from measures.problem import say
from measures.results import provenance, write

from tsds_jax.data import load_tweets
from tsds_jax.demo import minilm_folder
from tsds_jax.encoders import fit_pca, load_encoder
from tsds_jax.options import SelectOptions
from tsds_jax.selection import RULES, Limits, ordered_curve, wanted_cuts
from tsds_jax.selection.choice import choose, validation_folds
from tsds_jax.valuation import source_game, value

RESULTS = Path(__file__).parent / "results" / "rules.json"
CLASSES = {"two": ("negative", "positive"), "three": ("negative", "neutral", "positive")}
FLIPS, DIMENSIONS = (0.0, 0.1, 0.2), 32
UTILITIES = ("log_likelihood", "accuracy")
MEASURED = (
    *("arrays", "data", "encoders", "games", "estimators", "options", "runtime", "selection", "valuation"),
    "benchmarks/rules.py",
)


def main() -> None:
    parser = argparse.ArgumentParser(description="What each rule for the removal index gains.")
    parser.add_argument("--quick", action="store_true", help="one draw of few rows and samples; writes no file")
    quick = parser.parse_args().quick
    about = provenance(*MEASURED, keep=not quick)
    runs, kept = [], Path(tempfile.gettempdir()) / "tsds-rules-benchmark" / f"{alike(about)}.jsonl"
    known = [json.loads(line) for line in kept.read_text("utf-8").splitlines()] if kept.exists() else []
    sizes, few = ((200, 200, 300), {"samples": 20}) if quick else ((5000, 1000, 4000), {})
    for name, classes in CLASSES.items():
        x, y = represented(classes, 700 if quick else 14_000)
        for flips in FLIPS[1:2] if quick else FLIPS:
            for seed in range(1 if quick else 4):
                for utility in UTILITIES:
                    draw = {"classes": name, "flips": flips, "seed": seed, "utility": utility}
                    before = [run for run in known if not quick and draw.items() <= run.items()]
                    runs.append(before[0] if before else {**draw, **gains(x, y, flips, seed, sizes, utility, **few)})
                    if not (quick or before):
                        with kept.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(runs[-1]) + "\n")
                    say(json.dumps(runs[-1]))
    print(f"{about['machine']['processor']}, {about['date']}\n\n{tables(runs)}")
    if not quick:
        about |= stamp(*MEASURED)  # of the end: what has changed meanwhile is marked
        write(RESULTS, {**about, "runs": runs}, tables(runs))


def represented(classes: tuple[str, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """So many tweets of these classes, ``[rows, width]``, and their labels."""
    rows = load_tweets(classes=classes, train=count, validation=1, test=1, seed=0).train
    cache = Path(tempfile.gettempdir()) / "tsds-rules-benchmark"
    return load_encoder(minilm_folder()).embed(list(rows.texts), max_length=128, cache=cache), rows.labels


def gains(
    x: np.ndarray, y: np.ndarray, flips: float, seed: int, sizes: tuple[int, int, int], utility: str, **few: int
) -> dict[str, Any]:
    """One draw: by each rule the rows removed, and the gain in points of test accuracy."""
    generator = np.random.default_rng([seed, round(100 * flips)])
    train, validation, test = np.split(generator.permutation(len(y))[: sum(sizes)], np.cumsum(sizes)[:-1])
    labels, classes = y[train].copy(), int(y.max()) + 1
    wrong = generator.choice(len(train), round(flips * len(train)), replace=False)
    labels[wrong] = (labels[wrong] + generator.integers(1, classes, len(wrong))) % classes
    pca = fit_pca(x[train], DIMENSIONS)
    seen, held, tested = (pca.transform(x[rows]) for rows in (train, validation, test))

    options, limits = SelectOptions(seed=seed, utility=utility), Limits.none(labels)
    folds = validation_folds(options, y[validation])
    valuation = value(seen, labels, held, y[validation], utility=utility, row_groups=folds, seed=seed, **few)
    game = source_game(seen, labels, held, y[validation], utility=utility)
    every = wanted_cuts(len(train), options.grid, options.largest_cut)
    order = limits.removal_order(valuation.values, seed)
    truth = ordered_curve(source_game(seen, labels, tested, y[test]), order, every)
    found: dict[str, Any] = {"accuracy": truth.score[0], "gain": {}, "removed": {}}
    for rule in RULES:
        with_rule = dataclasses.replace(options, rule=rule)
        choice = choose(game, valuation, limits, folds if rule == "cross_fitted" else None, with_rule)
        place = int(np.flatnonzero(truth.removed == choice.removal_index)[0])
        found["gain"][rule] = 100 * truth.difference[place]
        found["removed"][rule] = choice.removal_index
    found["gain"]["best"] = 100 * truth.difference.max()
    found["removed"]["best"] = int(truth.removed[truth.difference.argmax()])
    return found


def tables(runs: list[dict[str, Any]]) -> str:
    """Markdown: one for each utility."""
    some = {utility: [run for run in runs if run["utility"] == utility] for utility in UTILITIES}
    return "\n\n".join(f"By {utility}:\n\n{table(of)}" for utility, of in some.items() if of)


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: the mean gain of each rule in each setting, over all settings, and the worst of all runs."""
    settings = list(dict.fromkeys((run["classes"], run["flips"]) for run in runs))
    head = [f"{classes} classes, {flips:.0%} flipped" for classes, flips in settings]
    lines = [f"| rule | {' | '.join(head)} | mean | worst run |", "|---" * (len(head) + 3) + "|"]
    for rule in ("best", *RULES):
        means = [
            mean(run["gain"][rule] for run in runs if (run["classes"], run["flips"]) == setting) for setting in settings
        ]
        worst = min(run["gain"][rule] for run in runs)
        lines.append(f"| {rule} | {' | '.join(f'{one:+.2f}' for one in (*means, mean(means), worst))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
