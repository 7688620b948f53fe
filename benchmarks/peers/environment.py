"""Peers in environments and processes of their own: none shares its requirements with ours, or with another."""

import contextlib
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
from filelock import FileLock

HERE = Path(__file__).parent
# As many cores as ours finds.
JOBS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
QUIET = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1") | {
    "PYTHONWARNINGS": "ignore"
}


class CannotError(Exception):
    """A peer has no way to do what is asked; its words are why."""


class Peer:
    """Runs a peer on arrays.

    Attributes:
      name: of requirements-NAME.txt, run_NAME.py and the environment.
      lasting: whether one process does all runs: for a trial, most of which would be starting others.
      versions: of the peer and what it stands on, known after the first run.
    """

    def __init__(self, name: str, folder: Path, *, lasting: bool = False) -> None:
        """Its environment will be in the folder, made at the first run unless it is there."""
        self.name, self.lasting = name, lasting
        self.versions: dict[str, str] = {}
        self._venv = folder / f"{name}-venv"
        self._process: subprocess.Popen[str] | None = None

    def run(self, x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, **options: Any) -> dict[str, Any]:
        """What its script answers for these arrays and options, with one BLAS thread a process.

        To the answer comes "start_seconds": from the process's start until everything was imported. What joblib takes
        to start its workers is not counted, neither there nor in "seconds".

        Raises:
          CannotError: the peer does not have the task.
        """
        with tempfile.TemporaryDirectory() as folder:
            given, answer = Path(folder, "arrays.npz"), Path(folder, "answer.json")
            np.savez(given, x=x, y=y, x_val=x_val, y_val=y_val)
            python, script = str(self._python()), str(HERE / f"run_{self.name}.py")
            arguments = [str(given), str(answer), json.dumps({"jobs": JOBS} | options)]
            began = time.time()
            if self.lasting:
                self._run_in_one(python, script, arguments)
            else:
                subprocess.run([python, script, *arguments], check=True, env=os.environ | QUIET)
            found = json.loads(answer.read_text())
        self.versions = found["versions"]
        if "cannot" in found:
            raise CannotError(found["cannot"])
        found["start_seconds"] = found["ready"] - began
        return found

    def rate(
        self, x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, *, seed: int, quick: bool
    ) -> tuple[float, float]:
        """Fits a second along whole permutations of these points, and the seconds that its process took to start."""
        permutations = JOBS * max(1, (400 if quick else 1000) // len(x))
        found = self.run(x, y, x_val, y_val, task="permutations", permutations=permutations, seed=seed)
        return found["fits"] / found["seconds"], found["start_seconds"]

    def _run_in_one(self, python: str, script: str, arguments: list[str]) -> None:
        """The script in the process that ran it before; it ends when this one does."""
        if self._process is None:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._process = subprocess.Popen(
                [python, str(HERE / "lasting.py"), script], env=os.environ | QUIET, **pipes
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended since, and says nothing
            print(json.dumps(arguments), file=self._process.stdin, flush=True)
        if not self._process.stdout.readline():
            failed, self._process = self._process, None
            failed.communicate()  # closes its pipes and waits for it
            raise subprocess.CalledProcessError(failed.returncode, script)

    def _python(self) -> Path:
        """The environment's interpreter; two that want it at a time do not make it both."""
        self._venv.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._venv.with_suffix(".lock")):
            return self._made()

    def _made(self) -> Path:
        python, requirements = self._venv / "bin" / "python", HERE / f"requirements-{self.name}.txt"
        # What asks for gigabytes that nothing here uses is installed without what it asks for.
        bare = HERE / f"requirements-{self.name}-bare.txt"
        wanted, made_of = requirements.read_text(), self._venv / "tsds-requirements.txt"
        wanted += bare.read_text() if bare.exists() else ""
        if made_of.exists() and made_of.read_text() == wanted:
            return python
        base = (
            sys.executable if sys.version_info < (3, 13) else shutil.which("python3.12") or shutil.which("python3.11")
        )
        if not base:
            raise SystemExit(f"{self.name} needs Python 3.11 or 3.12: install one of them")
        subprocess.run([base, "-m", "venv", "--clear", str(self._venv)], check=True)
        # Bytecode comes at the first import, of what is imported alone: most of PyTorch never is.
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-compile"]
        subprocess.run([*install, "-r", str(requirements)], check=True)
        if bare.exists():
            subprocess.run([*install, "--no-deps", "-r", str(bare)], check=True)
        made_of.write_text(wanted)
        return python
