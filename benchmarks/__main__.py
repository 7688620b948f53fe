"""All benchmarks, one after another, or what their results are worth now.

    python -m benchmarks [--quick] [--only NAME ...]    run them; --quick: at a size that says whether they work
    python -m benchmarks index                          list what was measured, and what is stale, in results/README.md,
                                                        and draw all plots of it anew
    python -m benchmarks guard                          a few ratios against the plain reference, or fail

A trial of all takes five minutes on two cores, and one to three more where the peers' environments are new.

Each is a script of its own with its own options; `python benchmarks/NAME.py --help` has them, and its first lines say
what it measures, how long it takes and what it needs. A script that fails does not keep the next from running.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
# As a script's folder would be.
sys.path.insert(0, str(HERE))

from measures.code import INDEX, RESULTS, index  # noqa: E402

# Name -> its argument for a trial; nothing where another's is one of the same. The longest run is the last.
SCRIPTS = {
    "core": "--quick",
    "cost": "--quick",
    "scaling": "--quick",
    "soak": "--quick",
    "detection": "--quick",
    "encoders": "--quick",
    "demo": "--quick",
    "pipeline": "--quick",
    "accelerator": "--dry-run",
    "representations": "--quick",
    "rules": "--quick",
    "checked": "",  # selection's
    "selection": "--quick",
}

# Trials begin with those that take longest.
LONG = ("selection", "core")

# What is run of a script that has several tables, each by arguments of its own.
WHOLE = {
    "selection": (
        "",
        "--noise class_dependent",
        "--only two --finetune 0 --methods 4",
        "--only two --finetune 0.1",
        "--only two --finetune 0.2",
        "--only three --finetune 0.2 --methods 4",
        "--only three --finetune 0.2 --methods 4 --noise class_dependent",
    )
}

# Most of a trial is compilation: it is not optimised, and what one script has compiled the others read.
TRIAL = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
if version("jaxlib").startswith("0.10."):  # newer ones end at a flag that they do not know
    TRIAL["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="All benchmarks, one after another.")
    parser.add_argument("what", nargs="?", choices=("run", "index", "guard"), default="run")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes no result")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, help="these alone")
    given = parser.parse_args()
    if given.what == "index":
        from measures.plots import draw

        INDEX.write_text(index(), "utf-8")
        for file in sorted(RESULTS.glob("*.json")):
            draw(file)
        print(INDEX)
    elif given.what == "guard":
        import guard

        guard.main()
    else:
        run(given.only or list(SCRIPTS), given.quick)


def run(names: list[str], quick: bool) -> None:
    """The scripts, each run in a process of its own, with its seconds; fails if one did.

    Of trials, which measure nothing, two go on at a time, and what one prints is shown when it is over.
    """
    with tempfile.TemporaryDirectory(prefix="tsds-compiled-") as compiled:
        environment = dict(os.environ)
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # what is read from there would count as compiled in no time
        if quick:
            environment |= TRIAL | {"JAX_COMPILATION_CACHE_DIR": compiled}
            names = sorted(filter(SCRIPTS.get, names), key=lambda name: name not in LONG)

        def ran(what: str) -> bool:
            began = time.perf_counter()
            name, *given = what.split()
            if not quick:
                print(f"\n# {what}\n", flush=True)
            ended = subprocess.run(
                [sys.executable, str(HERE / f"{name}.py"), *given],
                env=environment,
                stdout=subprocess.PIPE if quick else None,
                stderr=subprocess.STDOUT if quick else None,
                text=True,
            )
            shown = f"\n# {what}\n\n{ended.stdout}" if quick else ""
            print(f"{shown}\n{what}: {time.perf_counter() - began:.0f} s", flush=True)
            return ended.returncode == 0

        runs = {name: (SCRIPTS[name],) if quick else WHOLE.get(name, ("",)) for name in names}
        every = [f"{name} {given}".strip() for name, some in runs.items() for given in some]
        with ThreadPoolExecutor(2 if quick else 1) as pool:
            failed = [what for what, good in zip(every, pool.map(ran, every), strict=True) if not good]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
