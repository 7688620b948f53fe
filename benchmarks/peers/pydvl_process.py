"""pyDVL in an environment and a process of its own, since it needs numpy < 2."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-pydvl.txt"
JOBS = 2
QUIET = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "PYTHONWARNINGS": "ignore"
}


class Pydvl:
    """Runs pyDVL on arrays.

    Attributes:
      python: the environment's interpreter.
      versions: of pyDVL and what it stands on, known after the first run.
    """

    def __init__(self, venv: Path) -> None:
        """Makes the environment unless it is there, of these requirements."""
        self.python = venv / "bin" / "python"
        self.versions: dict[str, str] = {}
        wanted, made_of = REQUIREMENTS.read_text(), venv / "tsds-requirements.txt"
        if made_of.exists() and made_of.read_text() == wanted:
            return
        base = (
            sys.executable if sys.version_info < (3, 13) else shutil.which("python3.12") or shutil.which("python3.11")
        )
        if not base:
            raise SystemExit("pyDVL needs numpy < 2, so Python 3.11 or 3.12: install one of them")
        subprocess.run([base, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(self.python), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)], check=True)
        made_of.write_text(wanted)

    def run(self, x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, **options: Any) -> dict[str, Any]:
        """What run_pydvl.py answers for these arrays and options, with one BLAS thread a process.

        To its answer comes "start_seconds": from the process's start until everything was imported. What joblib takes
        to start its workers is not counted, neither there nor in "seconds".
        """
        with tempfile.TemporaryDirectory() as folder:
            given, answer = Path(folder, "arrays.npz"), Path(folder, "answer.json")
            np.savez(given, x=x, y=y, x_val=x_val, y_val=y_val)
            command = [self.python, HERE / "run_pydvl.py", given, answer, json.dumps({"jobs": JOBS} | options)]
            began = time.time()
            subprocess.run([str(part) for part in command], check=True, env=os.environ | QUIET)
            found = json.loads(answer.read_text())
        found["start_seconds"] = found["ready"] - began
        self.versions = found["versions"]
        return found

    def rate(
        self, x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, *, seed: int, quick: bool
    ) -> tuple[float, float]:
        """Fits a second along whole permutations of these points, and the seconds that its process took to start."""
        permutations = JOBS * max(1, (400 if quick else 1000) // len(x))
        found = self.run(x, y, x_val, y_val, task="permutations", permutations=permutations, seed=seed)
        return found["fits"] / found["seconds"], found["start_seconds"]
