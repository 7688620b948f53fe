"""Peak memory of a process that values the rows of a file, more than it holds; started by `mapped`.

    python mapped_memory.py FEATURES.npy ROWS COALITIONS

FEATURES.npy is mapped, not read. Its first ROWS rows are validation rows, the others are projected onto 32 principal
components and valued by add-one marginals. Prints, as JSON, the seconds of each step and the process's peak memory, in
which mapped pages count while they are held.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Its own folder is where Python looks first in a process that is this file.
sys.path.insert(0, str(Path(__file__).parents[1]))
from measures.cold import ONE_BLAS_THREAD, peak_memory
from measures.rows import Memory

COMPONENTS, AT_ONCE = 32, 20_000


def mapped(points: int, coalitions: int, features: int, rows: int) -> Memory:
    """Of `fit_pca`, `Pca.transform` and `tsds_jax.value`, imports included, of an array that is written before."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npy"
        written(file, points + rows, features)
        command = [sys.executable, "-P", __file__, str(file), str(rows), str(coalitions)]
        environment = os.environ | ONE_BLAS_THREAD
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    answer = json.loads(found)
    return Memory(
        f"N = {points:,} rows of {features} features in a file, {COMPONENTS} of their components valued by {rows:,} "
        f"validation rows and {coalitions} coalitions (synthetic features)",
        [answer.pop("peak")],
        3 * 2**30,
        [answer.pop("seconds")],
        answer,
    )


def written(file: Path, rows: int, features: int) -> None:
    """Features of which some tell the label, the sign of the first."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(COMPONENTS, features)) * np.linspace(3, 1, COMPONENTS)[:, None]
    x = np.lib.format.open_memmap(file, "w+", np.float32, (rows, features))
    for first in range(0, rows, AT_ONCE):
        some = min(AT_ONCE, rows - first)
        x[first : first + some] = rng.normal(size=(some, COMPONENTS)) @ mixed + rng.normal(size=(some, features))
    x.flush()


def main(file: str, rows: str, coalitions: str) -> None:
    began = time.perf_counter()
    from tsds_jax import fit_pca, value

    x, held_out = np.load(file, mmap_mode="r"), int(rows)
    train = x[held_out:]
    started = time.perf_counter()
    pca = fit_pca(train, COMPONENTS)
    fitted = time.perf_counter()
    z, z_val = pca.transform(train), pca.transform(x[:held_out])
    projected = time.perf_counter()
    # A label that a linear classifier can learn, a tenth of them wrong.
    noise = np.random.default_rng(1).random(len(x)) < 0.1
    y, y_val = (z[:, 0] > 0) ^ noise[held_out:], (z_val[:, 0] > 0) ^ noise[:held_out]
    found = value(z, y.astype(int), z_val, y_val.astype(int), samples=int(coalitions))
    done = time.perf_counter()
    assert np.isfinite(found.values).all()
    steps = {"fit_pca": fitted - started, "transform": projected - fitted, "value": done - projected}
    print(json.dumps({"peak": peak_memory(), "seconds": done - began, **{f"{n}_seconds": s for n, s in steps.items()}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
