"""Our values beside what else one could use, on real tweets with and without flipped labels: `tsds_jax.evaluate`.

    python benchmarks/selection.py [--only two|three] [--noise class_dependent] [--seeds N] [--quick]
                                   [--finetune SHARE [--methods N] [--check-seeds N]]
    python benchmarks/selection.py --data FILE [FILE ...] [--model FOLDER] [--noise ...] [--seeds N] [--finetune ...]

Of tweets as MiniLM represents them 5,000 train, 1,000 validate and 4,000 test (one draw, no text twice), with two or
three classes; 0, 10 and 20 % of the training labels are flipped on top of the crowd's own errors, by five seeds, and
with --noise class_dependent 10 and 20 %, of some classes twice as many as of others and each into one other alone. All
methods get the same arrays. Prints the tables of `evaluate`; a run with five seeds and without --quick writes them, and
the numbers behind them, to benchmarks/results/selection.json, case by case.

With --finetune 0.1, say, the model is fine-tuned too, at that share of flips: on all rows, and without as many of each
method's lowest as our rule removes, on cross-fitted representations; and without exactly the flipped rows (`oracle`),
for what there is to be had. Three passes at the default rate, and the last step is kept as it is, for to choose a step
by validation rows would hide what wrong labels do. With --check-seeds 2 the rule's cut is checked on the model before,
as `tsds run` does, and is what that recommends.

With --data the same methods, flips and protocols run on your own files, each a data set with columns "text" and "label"
that is split as `tsds evaluate` splits it (which has every option); its tables are printed, and the folder named.

About a quarter of an hour for two classes and an hour for three on two cores; with --finetune up to four minutes a
model, in a folder that is gone on with as long as the code is the same: begin with few --methods, and ask for more
later.
"""

import argparse
import itertools
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
from tsds_jax.data.noise import NOISES
from tsds_jax.demo import minilm_folder
from tsds_jax.options import FineTuneOptions
from tsds_jax.stages import evaluate_files
from tsds_jax.study.plan import METHODS

RESULTS = Path(__file__).parent / "results" / "selection.json"
CLASSES = {"two": ("negative", "positive"), "three": ("negative", "neutral", "positive")}
FLIPS, SEEDS = (0.0, 0.1, 0.2), 5
MEASURED = (
    *("arrays", "baselines", "data", "encoders", "estimators", "evaluation", "finetuning", "games", "options"),
    *("pipeline", "runtime", "selection", "study", "valuation", "benchmarks/selection.py"),
)
# No look at validation rows before the last step. MiniLM was made for the mean of its tokens: its pooler is untrained.
TUNING = FineTuneOptions(head="mean", evaluate_every=10**6)
TUNED = ("shapley", "random", "loss", "oracle", "knn_shapley", "confident_learning", "leave_one_out")


def told(event: Progress) -> None:
    if event.stage in ("value", "test", "finetuned"):
        say(f"{event.stage} {event.done}/{event.total} {event.detail}")


def pages(result: dict[str, Any]) -> str:
    """Markdown: each case's tables, with where it ran and when."""
    return "\n\n".join(
        f"Case `{case}`, on {where(entry['machine'])}, {entry['date']}.\n\n{entry['table'].strip()}"
        for case, entry in result["cases"].items()
    )


def named(classes: str, noise: str, finetuned: float | None, checked: bool = False) -> str:
    """A case's name in the results: "three-class_dependent-finetuned-0.2-checked"."""
    uneven = "" if noise == NOISES[0] else f"-{noise}"
    return classes + uneven + ("" if finetuned is None else f"-finetuned-{finetuned:g}") + "-checked" * checked


def main() -> None:
    parser = argparse.ArgumentParser(description="Our values beside what else one could use.")
    parser.add_argument("--only", choices=CLASSES, help="this number of classes alone")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many; fewer than five write no file")
    parser.add_argument(
        "--finetune", type=float, choices=FLIPS, help="fine-tune too, with fewer methods, at this share"
    )
    parser.add_argument("--noise", choices=NOISES, default=NOISES[0], help="how labels are flipped")
    parser.add_argument("--methods", type=int, default=len(TUNED), help="fine-tune for the first so many methods alone")
    parser.add_argument("--check-seeds", type=int, default=0, help="with --finetune, seeds that check the rule's cut")
    parser.add_argument(
        "--quick", action="store_true", help="few rows, samples, seeds and flips, three classes; writes no file"
    )
    parser.add_argument("--data", nargs="+", help="files of your own in place of the tweets; writes no file")
    parser.add_argument("--model", help="folder of the model that represents them; the tweets' MiniLM if not given")
    given = parser.parse_args()
    if given.model and not given.data:
        parser.error("--model is for --data: the tweets' results are MiniLM's")
    if given.check_seeds and given.finetune is None:
        parser.error("--check-seeds is for --finetune")
    if given.quick:
        given.seeds, given.only = min(given.seeds, 2), given.only or "three"
    flips = FLIPS[1:2] if given.quick else FLIPS if given.noise == NOISES[0] else FLIPS[1:]
    keep = given.seeds == SEEDS and not given.quick
    measured: dict[str, Any] = {}
    tuned = TUNED[: given.methods] if given.finetune is not None else ()
    how: dict[str, Any] = {
        "methods": tuned or METHODS,
        "noise": given.noise,
        "flips": (given.finetune,) if tuned else flips,
        "seeds": range(given.seeds),
        "finetuned": tuned,
        "finetuning": TUNING,
        "progress": told,
        "represent_by": "cross_fitted" if tuned else "pretrained",
        "check_seeds": given.check_seeds,
        **({"samples": 20} if given.quick else {}),
    }
    if given.data:
        out = Path(tempfile.mkdtemp(prefix="tsds-selection-")) / "run"
        evaluate_files(given.data, given.model or str(minilm_folder()), str(out), **how)
        print(f"{(out / 'evaluation.md').read_text('utf-8')}\n{out}")
        return
    for name, classes in CLASSES.items():
        if given.only not in (None, name):
            continue
        rows = {"train": 200, "validation": 150, "test": 150} if given.quick else {}
        splits = load_tweets(classes=classes, **{"train": 5000, "validation": 1000, "test": 4000, **rows})
        case = named(name, given.noise, given.finetune if tuned else None, given.check_seeds > 0)
        about = provenance(*MEASURED, keep=keep)
        # Runs of other code, versions or machines are not gone on with: they would get what this one is stamped with.
        place = tempfile.mkdtemp() if given.quick else tempfile.gettempdir()  # a trial goes on with none
        out = Path(place) / f"tsds-selection-{case}-{len(splits.train)}-{alike(about)}"
        began, resumed = time.perf_counter(), out.exists()
        evaluate(
            {name: splits},
            model=minilm_folder(),
            out=out,
            resume=resumed,
            max_length=128,
            **how,
        )
        # Of what was done before nobody knows how long it took.
        seconds = None if resumed else round(time.perf_counter() - began, 1)
        found = json.loads((out / "evaluation.json").read_text("utf-8"))
        curves = ("kept", "highest_kept", "lowest_kept")
        runs = [{key: entry for key, entry in run.items() if key not in curves} for run in found["runs"]]
        page = (out / "evaluation.md").read_text("utf-8")
        about |= stamp(*MEASURED)  # of the end: what has changed meanwhile is marked
        measured[case] = {**about, "seconds": seconds, "summary": found["summary"], "table": page, "runs": runs}
        took = "gone on with" if seconds is None else f"{seconds:.0f} s"
        print(f"{about['machine']['processor']}, {about['date']}, {took}\n\n{page}")
        if keep:
            every = itertools.product(CLASSES, NOISES, (None, *FLIPS), (False, True))
            order = [named(*one) for one in every]
            result = merged(RESULTS, order, measured)
            write(RESULTS, result, pages(result))


if __name__ == "__main__":
    main()
