"""What `tsds demo` prints, how long it takes and how much memory it needs, for the README: as it is, and with flips.

    python benchmarks/demo.py [--quick] [demo options]

The whole pipeline in one process, from texts to a report; the second time a fifth of the training labels is flipped,
so that there is something to remove. With --quick, once and on few rows. Of each it writes to benchmarks/results a
file of JSON (machine, versions, timings, figures), one of what was printed, and the README's part between the marks of
its name, but nothing with --quick or options of the demo's; tests/test_readme.py checks that the three agree. About
twelve minutes on two cores.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measures.code import stamp
from measures.machine import MAXRSS, machine

RESULTS = Path(__file__).parent / "results"
MEASURED = (
    *("arrays", "cli", "data", "demo", "encoders", "estimators", "evaluation", "finetuning", "games", "options"),
    *("pipeline", "report", "runtime", "selection", "valuation", "benchmarks/demo.py"),
)
KEYS = ("tsds_jax", "versions", "python", "devices", "stages", "valuation", "warnings")
SMALL = {"train-rows": 200, "validation-rows": 200, "test-rows": 100, "samples": 20, "steps": 3, "check-steps": 3}
SMALL |= {"max-length": 16}
# Name of the results -> the folder that the README's command names, and options of the demo.
RUNS = {"demo": ("tsds-demo", []), "demo_flipped": ("flipped", ["--flips", "0.2"])}
README = Path(__file__).parents[1] / "README.md"
SHOWN = """<!-- {name} -->
What it printed in {minutes:.1f} minutes with at most {memory} GiB of memory on {cores} cores of an {processor}, without
accelerator (jax {jax}, Python {python}, {date}; `python benchmarks/demo.py` does it again):

```text
{printed}
```
<!-- /{name} -->"""


def main() -> None:
    quick = sys.argv[1:2] == ["--quick"]
    options = [f"--{name}={value}" for name, value in SMALL.items()] if quick else sys.argv[1:]
    stamp(*MEASURED, keep=not options)  # which refuses what would not be kept
    if options:
        run("tsds-demo", options, cached=quick)
        return
    for name, (folder, given) in RUNS.items():
        keep(name, *run(folder, given, cached=False))


def run(folder: str, options: list[str], *, cached: bool) -> tuple[dict[str, Any], str]:
    """The demo once, in a process of its own: its figures, and what it printed.

    Args:
      folder: that it is to write to, in a place of its own.
      options: of the demo.
      cached: whether it may read what other processes compiled.
    """
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / folder
        command = [sys.executable, "-P", "-m", "tsds_jax.cli", "demo", "--out", str(out), *options]
        began = time.perf_counter()
        cold = {name: text for name, text in os.environ.items() if cached or name != "JAX_COMPILATION_CACHE_DIR"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=cold)
        seconds = time.perf_counter() - began
        manifest = json.loads((out / "manifest.json").read_text())
        finetune = json.loads((out / "finetune.json").read_text())
    # Of the largest of all children so far.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * MAXRSS
    printed = done.stdout.replace(str(out), folder)
    print(printed)
    print(f"{seconds:.0f} s, peak memory {peak / 2**30:.2f} GiB")
    result = {
        "machine": machine(),
        "wall_seconds": round(seconds, 1),
        "peak_memory_gib": round(peak / 2**30, 2),
        **{key: manifest[key] for key in KEYS},
        "finetune": {
            **finetune,
            "arms": [{k: v for k, v in arm.items() if k != "history"} for arm in finetune["arms"]],
        },
    }
    return result, printed


def keep(name: str, measured: dict[str, Any], printed: str) -> None:
    """Writes a run's figures, what it printed, and the README's part."""
    result = stamp(*MEASURED, keep=True) | measured
    (RESULTS / f"{name}.txt").write_text(printed, "utf-8")
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    shown = SHOWN.format(
        name=name,
        minutes=result["wall_seconds"] / 60,
        memory=result["peak_memory_gib"],
        cores=result["machine"]["cores"],
        processor=result["machine"]["processor"],
        jax=result["versions"]["jax"],
        python=result["python"],
        date=result["date"],
        printed=printed.strip(),
    )
    before, rest = README.read_text("utf-8").split(f"<!-- {name} -->")
    README.write_text(before + shown + rest.split(f"<!-- /{name} -->")[1], "utf-8")


if __name__ == "__main__":
    main()
