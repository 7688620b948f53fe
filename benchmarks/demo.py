"""What `tsds demo` prints, how long it takes and how much memory it needs, for the README.

    python benchmarks/demo.py [demo options]

Writes benchmarks/results/demo.json (machine, versions, timings, figures) and demo.txt (what was printed). The README
quotes demo.txt to the letter; tests/test_readme.py checks that it does. Takes about five minutes on two cores.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
KEYS = ("tsds_jax", "versions", "python", "devices", "stages", "valuation", "warnings")


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "tsds-demo"
        command = [sys.executable, "-m", "tsds_jax.cli", "demo", "--out", str(out), *sys.argv[1:]]
        began = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - began
        manifest = json.loads((out / "manifest.json").read_text())
        finetune = json.loads((out / "finetune.json").read_text())
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    printed = done.stdout.replace(str(out), "tsds-demo")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "demo.txt").write_text(printed, "utf-8")
    result = {
        "date": date.today().isoformat(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "platform": platform.platform()},
        "wall_seconds": round(seconds, 1),
        "peak_memory_gib": round(peak / 2**30, 2),
        "options": sys.argv[1:],
        **{
            key: manifest[key]
            for key in ("tsds_jax", "versions", "python", "devices", "stages", "valuation", "warnings")
        },
        "finetune": {
            **finetune,
            "arms": [{k: v for k, v in arm.items() if k != "history"} for arm in finetune["arms"]],
        },
    }
    (RESULTS / "demo.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(printed)
    print(f"{seconds:.0f} s, peak memory {peak / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
