"""The same values from 1 to 8 devices and from several processes: seconds, and how far the values are apart.

    python benchmarks/scaling.py [--quick]

Tweets as MiniLM represents them (4,000 points, 500 validation rows, 32 components), 128 coalitions by the default
estimator and one contribution a point by sampling chains of 128, and texts embedded by MiniLM. JAX cuts a CPU into host
devices, which share its cores: more of them than cores are no faster, and the table says what sharing costs. A real
device more brings cores of its own. Every row is the median of three calls after one that compiles, in a process of its
own (or two, over loopback).

Prints a Markdown table; a whole run also writes benchmarks/results/scaling.json. About ten minutes on two cores.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
from measures.code import stamp
from measures.problem import POINTS, Arrays, say, tweets
from measures.results import provenance, write

RESULTS = Path(__file__).parent / "results" / "scaling.json"
CACHE = Path(tempfile.gettempdir()) / "tsds-core-benchmark"
MEASURED = (
    *("arrays", "data", "encoders", "estimators", "games", "options", "runtime", "valuation"),
    "benchmarks/scaling.py",
)
WHOLE, TRIAL = 4000, 200
# Processes, and the devices of each.
PLACES = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 4))
WORK = ("values by add-one", "values by chains", "embedding")


def main() -> None:
    parser = argparse.ArgumentParser(description="The same work by 1 to 8 devices and by several processes.")
    parser.add_argument("--quick", action="store_true", help="small, two places; writes no file")
    parser.add_argument("--here", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        worker(given.quick, *given.here)
        return
    jax.config.update("jax_platforms", "cpu")  # as its workers: the result says where they ran
    about = provenance(*MEASURED, keep=not given.quick)
    points(given.quick)
    runs: list[dict[str, Any]] = []
    for processes, devices in ((1, 1), (2, 1)) if given.quick else PLACES:
        runs.append({"processes": processes, "devices": devices, **measured(processes, devices, given.quick)})
        say(json.dumps({name: entry for name, entry in runs[-1].items() if name != "found"}))
    compare(runs)
    print(f"{about['machine']['processor']}, {about['date']}\n\n{table(runs)}")
    if not given.quick:
        write(RESULTS, {**about, **stamp(*MEASURED), "runs": runs}, table(runs))


def points(quick: bool) -> Arrays:
    """Of a trial the first of those that other trials keep."""
    return tweets(CACHE, POINTS).first(TRIAL) if quick else tweets(CACHE, WHOLE)


def measured(processes: int, devices: int, quick: bool) -> dict[str, Any]:
    """What the first of so many processes found, each with so many devices."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        # As the `tsds` command: a second thread of SciPy's OpenBLAS is waited for wherever another holds its core.
        environment = {"OPENBLAS_NUM_THREADS": "1"} | os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        out = Path(folder) / "found.npz"
        how = ["--quick"] if quick else []
        running = [
            subprocess.Popen(
                [sys.executable, __file__, *how, "--here", place, str(processes), str(number), str(out)],
                env=environment,
                stdout=subprocess.DEVNULL,
            )
            for number in range(processes)
        ]
        codes = [one.wait() for one in running]
        if any(codes):
            raise SystemExit(f"{processes} processes of {devices} devices failed")
        with np.load(out) as stored:
            return {
                "seconds": {name: stored[f"seconds {name}"].tolist() for name in WORK},
                "found": {name: stored[name] for name in WORK},
            }


def worker(quick: bool, place: str, processes: str, number: str, out: str) -> None:
    """One process: joins the others, does the work a few times, and saves seconds and results."""
    if int(processes) > 1:
        jax.distributed.initialize(place, int(processes), int(number))
    import tsds_jax as tsds
    from tsds_jax.data.tweets import load_tweets
    from tsds_jax.demo import minilm_folder

    data = points(quick)
    texts = load_tweets(train=32 if quick else 1000, validation=1, test=1, seed=0).train.texts
    encoder = tsds.load_encoder(minilm_folder())
    options: dict[str, Any] = {"subset_size": 32 if quick else 128, "utility": "log_likelihood"}
    work = {
        "values by add-one": lambda: tsds.value(*data, samples=32 if quick else 128, **options).values,
        "values by chains": lambda: tsds.value(*data, samples=1, estimator="permutation", **options).values,
        "embedding": lambda: encoder.embed(texts),
    }
    saved: dict[str, Any] = {}
    for name, do in work.items():
        do()
        seconds = []
        for _ in range(1 if quick else 3):
            began = time.perf_counter()
            saved[name] = do()
            seconds.append(time.perf_counter() - began)
        saved[f"seconds {name}"] = seconds
    if jax.process_index() == 0:
        np.savez(out, **saved)


def compare(runs: list[dict[str, Any]]) -> None:
    """How far each run's results are from the first's, relative to the largest, in place of the results."""
    first = runs[0]["found"]
    apart = [
        {name: float(np.abs(run["found"][name] - one).max() / np.abs(one).max()) for name, one in first.items()}
        for run in runs
    ]
    for run, entry in zip(runs, apart, strict=True):
        del run["found"]
        run["apart"] = entry


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: seconds of each place, how many times as fast as one device, and how far the results are apart."""
    columns = [part for name in WORK for part in (name, "times one device", "apart")]
    lines = [f"| processes x devices | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    base = {name: median(runs[0]["seconds"][name]) for name in WORK}
    for run in runs:
        cells = [f"{run['processes']} x {run['devices']}"]
        for name in WORK:
            seconds = median(run["seconds"][name])
            cells += [f"{seconds:.2g} s", f"{base[name] / seconds:.2f}", f"{run['apart'][name]:.1g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
