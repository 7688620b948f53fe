"""Values the points of a file once, in a process that has compiled nothing; started by `run_cold`.

    python cold.py ARRAYS.npz ANSWER.npz '{"options": {...}, "again": true}'

ARRAYS.npz holds x, y, x_val, y_val; options go to `tsds_jax.value`. ANSWER.npz holds the values, when all was imported
and when the values were there (both as seconds since the epoch, which the starting process compares with its own), the
seconds of the first call and, with again, of the same call once more, and the process's peak memory.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ONE_BLAS_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Cold(NamedTuple):
    """One run in a process of its own.

    Attributes:
      values: of the points.
      seconds: from the process's start to the values.
      imports: of these, until Python had started and everything was imported.
      first: of these, the call of `value`, compilation included.
      again: seconds of the same call once more; NaN if there was none.
      peak: most memory that the process held until the values were there, bytes.
    """

    values: np.ndarray
    seconds: float
    imports: float
    first: float
    again: float
    peak: int


def run_cold(arrays: tuple[np.ndarray, ...], *, again: bool = False, **options: Any) -> Cold:
    """`tsds_jax.value` of these arrays and options in a new process, without JAX's cache of compiled programs."""
    environment = {name: text for name, text in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment |= ONE_BLAS_THREAD | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder, "arrays.npz"), Path(folder, "answer.npz")
        x, y, x_val, y_val = arrays
        np.savez(given, x=x, y=y, x_val=x_val, y_val=y_val)
        told = json.dumps({"options": options, "again": again})
        began = time.time()
        subprocess.run([sys.executable, "-P", __file__, str(given), str(answer), told], check=True, env=environment)
        with np.load(answer) as found:
            return Cold(
                found["values"],
                float(found["done"]) - began,
                float(found["imported"]) - began,
                float(found["first"]),
                float(found["again"]),
                int(found["peak"]),
            )


def peak_memory() -> int:
    """Most memory that this process has held, bytes."""
    try:
        # ru_maxrss would not do: on Linux a new process inherits it from the one that started it.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arrays: str, answer: str, told: str) -> None:
    from tsds_jax import value

    imported = time.time()
    given = json.loads(told)
    with np.load(arrays) as data:
        problem = [data[name] for name in ("x", "y", "x_val", "y_val")]
    began = time.time()
    values = value(*problem, **given["options"]).values
    done = time.time()
    peak, again = peak_memory(), float("nan")
    if given["again"]:
        before = time.time()
        value(*problem, **given["options"])
        again = time.time() - before
    np.savez(answer, values=values, imported=imported, done=done, first=done - began, again=again, peak=peak)


if __name__ == "__main__":
    main(*sys.argv[1:])
