"""Which representations find flipped labels: of the model as it is, fine-tuned for a pass, or cross-fitted.

    python benchmarks/representations.py [--quick]

Of positive and negative tweets 2,000 train and 1,000 validate, MiniLM is the model, and 10 or 20 % of the training
labels are flipped on top of the crowd's own errors, three draws of each. Every draw is represented in the three ways of
`SelectOptions.represent_by`, fine-tuning as in the demo. Two rankings are measured on each: values, and
the log-likelihood of each label by five-fold cross-validation of the source classifier.

Prints a Markdown table; a whole run also writes benchmarks/results/representations.json. About a quarter of an hour on
two cores.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from measures.code import stamp
from measures.problem import say
from measures.results import provenance, write

from tsds_jax.baselines import baseline
from tsds_jax.data import Splits, flip_labels, load_tweets
from tsds_jax.demo import minilm_folder
from tsds_jax.encoders import Encoder, load_encoder
from tsds_jax.evaluation import detection
from tsds_jax.evaluation.scores import mean_interval
from tsds_jax.options import DEMO_FINETUNING, FineTuneOptions, SelectOptions
from tsds_jax.pipeline.checks import REPRESENT_BY
from tsds_jax.pipeline.representing import represent
from tsds_jax.runtime.progress import silent
from tsds_jax.valuation import value

RESULTS = Path(__file__).parent / "results" / "representations.json"
FLIPS, LENGTH = (0.1, 0.2), 64
MEASURED = (
    *("arrays", "baselines", "data", "encoders", "estimators", "evaluation", "finetuning", "games", "options"),
    *("pipeline", "runtime", "valuation", "benchmarks/representations.py"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Which representations find flipped labels.")
    parser.add_argument("--quick", action="store_true", help="one draw of few rows and samples; writes no file")
    quick = parser.parse_args().quick
    about = provenance(*MEASURED, keep=not quick)
    encoder, runs = load_encoder(minilm_folder()), []
    few = {"samples": 20} if quick else {}
    length = 16 if quick else LENGTH
    tuning = dataclasses.replace(DEMO_FINETUNING, max_length=length, steps=2 if quick else None)
    for flips in FLIPS[:1] if quick else FLIPS:
        for seed in range(1 if quick else 3):
            splits = load_tweets(train=100 if quick else 2000, validation=100 if quick else 1000, test=1, seed=seed)
            for by in REPRESENT_BY:
                runs.append(
                    {"flips": flips, "seed": seed, "by": by, **found(encoder, splits, tuning, flips, seed, by, **few)}
                )
                say(json.dumps(runs[-1]))
    print(f"{about['machine']['processor']}, {about['date']}\n\n{table(runs)}")
    if not quick:
        write(RESULTS, {**about, **stamp(*MEASURED), "runs": runs}, table(runs))


def found(
    encoder: Encoder, splits: Splits, tuning: FineTuneOptions, flips: float, seed: int, by: str, **few: int
) -> dict[str, Any]:
    """Seconds of the representations, and AUROC and average precision of the two rankings."""
    train, wrong = flip_labels(splits.train, flips, seed)
    options = SelectOptions(represent_by=by, seed=seed, max_length=tuning.max_length)
    began = time.perf_counter()
    seen = represent(train, splits.validation, encoder, options, tuning, None, silent)
    seconds = time.perf_counter() - began
    arrays = (seen["train"], train.labels, seen["validation"], splits.validation.labels)
    values = {
        "value": value(*arrays, seed=seed, **few).values,
        "loss": baseline("loss", *arrays, seed=seed).values,
    }
    scores = {name: detection(ranking, wrong) for name, ranking in values.items()}
    return {
        "seconds": round(seconds, 1),
        **{f"{name}_auroc": score.auroc for name, score in scores.items()},
        **{f"{name}_average_precision": score.average_precision for name, score in scores.items()},
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: means over the draws, and what AUROC gained on the model as it is, draw by draw."""
    lines = [
        "| representations | flipped | AUROC of values | AP | AUROC of losses | AP | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = ("value_auroc", "value_average_precision", "loss_auroc", "loss_average_precision")
    for flips in sorted({run["flips"] for run in runs}):
        for by in REPRESENT_BY:
            some = [run for run in runs if (run["flips"], run["by"]) == (flips, by)]
            plain = [run for run in runs if (run["flips"], run["by"]) == (flips, "pretrained")]
            cells = [f"{mean(run[key] for run in some):.3f}" for key in keys]
            if by != "pretrained" and len(some) > 1:
                for place in (0, 2):
                    cells[place] += (
                        f" ({gained([one[keys[place]] for one in some], [one[keys[place]] for one in plain])})"
                    )
            seconds = median(run["seconds"] for run in some)  # some draws compile for the others
            lines.append(f"| {by} | {flips:.0%} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def gained(these: list[float], those: list[float]) -> str:
    """Mean difference of pairs, with half of its 95 % interval."""
    found = mean_interval([one - other for one, other in zip(these, those, strict=True)])
    return f"{found.estimate:+.3f} ± {found.high - found.estimate:.3f}"


if __name__ == "__main__":
    main()
