"""What `tsds run` does by default where many labels are wrong: how often the model confirms a cut, and what it gains.

    python benchmarks/checked.py [--flips 0.2 0.4] [--methods N] [--quick]

Of negative, neutral and positive tweets 2,000 train, 1,000 validate and 3,000 test, MiniLM is the model, fine-tuned as
in the demo, and 20 or 40 % of the training labels are flipped, of some classes twice as many as of others and each into
one other alone, by five seeds. The default rule proposes a cut, short fine-tunings of the model confirm it or not, and
the model is fine-tuned without the rows that are recommended, without as many random ones, and without exactly the
flipped ones (`oracle`), for what there is to be had. Nothing but the shares was chosen for this: all options are those
of `tsds run`, and those of the demo's fine-tuning.

Prints a table; a whole run writes benchmarks/results/checked.json, share by share. Ten to fifteen minutes a seed on two
cores; what is cut off goes on where it stopped, as long as the code is the same.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from measures.code import alike, stamp, where
from measures.problem import say
from measures.results import merged, provenance, write

from tsds_jax import Progress, evaluate
from tsds_jax.data import load_tweets
from tsds_jax.demo import minilm_folder
from tsds_jax.evaluation.scores import mean_interval
from tsds_jax.options import DEMO_FINETUNING, SelectOptions

RESULTS = Path(__file__).parent / "results" / "checked.json"
CLASSES, SHARES, SEEDS = ("negative", "neutral", "positive"), (0.2, 0.4), 5
METHODS = {
    "shapley": "without these",
    "random": "without as many at random",
    "oracle": "without the flipped rows",
}
MEASURED = (
    *("arrays", "baselines", "data", "encoders", "estimators", "evaluation", "finetuning", "games", "options"),
    *("pipeline", "runtime", "selection", "study", "valuation", "benchmarks/checked.py"),
)


def told(event: Progress) -> None:
    if event.stage in ("value", "test", "finetuned"):
        say(f"{event.stage} {event.done}/{event.total} {event.detail}")


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: each seed's cut and gains, in points of the fine-tuned model's test accuracy, and their means."""
    tuned = [method for method in METHODS if any(run["method"] == method for run in runs)]
    lines = [
        f"| seed | proposed | confirmed | {' | '.join(METHODS[method] for method in tuned)} |",
        "|---|---|---" + "|---" * len(tuned) + "|",
    ]
    by = {method: {run["seed"]: run for run in runs if run["method"] == method} for method in tuned}
    for seed, run in by["shapley"].items():
        gains = " | ".join(f"{100 * by[method][seed]['finetuned_gain']:+.2f}" for method in tuned)
        lines.append(f"| {seed} | {run['proposed']} | {run['removed']} | {gains} |")
    means = [mean_interval([100 * run["finetuned_gain"] for run in by[method].values()]) for method in tuned]
    cells = " | ".join(f"{one.estimate:+.2f} ± {one.high - one.estimate:.2f}" for one in means)
    return "\n".join([*lines, f"| all | | | {cells} |"])


def pages(result: dict[str, Any]) -> str:
    """Markdown: each share's table, with where it ran and when."""
    return "\n\n".join(
        f"With {float(share):.0%} flipped, on {where(case['machine'])}, {case['date']}. Gains in points of test "
        f"accuracy; the mean with its 95 % interval over seeds.\n\n{case['table']}"
        for share, case in result["cases"].items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How often the model confirms a cut, and what it gains.")
    parser.add_argument("--flips", type=float, nargs="+", choices=SHARES, default=SHARES, help="these shares alone")
    parser.add_argument("--methods", type=int, default=len(METHODS), help="fine-tune for the first so many alone")
    parser.add_argument("--quick", action="store_true", help="few rows, samples, steps and seeds; writes no file")
    given = parser.parse_args()
    rows = {"train": 2000, "validation": 1000, "test": 3000}
    how: dict[str, Any] = {"check_seeds": SelectOptions().check_seeds}
    tuning = DEMO_FINETUNING
    if given.quick:
        rows, given.flips = dict.fromkeys(rows, 100), given.flips[-1:]
        how |= {"samples": 10, "check_steps": 2, "max_length": 16}
        tuning = dataclasses.replace(tuning, max_length=16)
    splits, tuned = load_tweets(classes=CLASSES, **rows), list(METHODS)[: given.methods]
    for share in given.flips:
        about = provenance(*MEASURED, keep=not given.quick)
        # Runs of other code, versions or machines are not gone on with: they would get what this one is stamped with.
        place = tempfile.mkdtemp() if given.quick else tempfile.gettempdir()
        out = Path(place) / f"tsds-checked-{share:g}-{alike(about)}"
        began, resumed = time.perf_counter(), out.exists()
        evaluate(
            {"three": splits},
            model=minilm_folder(),
            out=out,
            resume=resumed,
            methods=tuned,
            finetuned=tuned,
            flips=(share,),
            noise="class_dependent",
            seeds=range(2 if given.quick else SEEDS),
            finetuning=tuning,
            progress=told,
            **how,
        )
        seconds = None if resumed else round(time.perf_counter() - began, 1)
        found = json.loads((out / "evaluation.json").read_text("utf-8"))
        curves = ("kept", "highest_kept", "lowest_kept")
        runs = [{key: entry for key, entry in run.items() if key not in curves} for run in found["runs"]]
        print(f"{about['machine']['processor']}, {about['date']}, {share:.0%} flipped\n\n{table(runs)}", flush=True)
        if not given.quick:
            about |= stamp(*MEASURED)  # of the end: what has changed meanwhile is marked
            measured = {f"{share:g}": {**about, "seconds": seconds, "table": table(runs), "runs": runs}}
            result = merged(RESULTS, [f"{one:g}" for one in SHARES], measured)
            write(RESULTS, result, pages(result))


if __name__ == "__main__":
    main()
