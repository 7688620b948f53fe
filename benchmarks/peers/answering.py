"""What the scripts run_NAME.py share; it runs in each peer's own environment, so it needs numpy alone.

    python run_NAME.py ARRAYS.npz ANSWER.json '{"task": "permutations", "permutations": 10, "seed": 0, "jobs": 2}'

ARRAYS.npz holds x, y, x_val, y_val.
"""

import copy
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


class Given:
    """Arrays and options of one call.

    Attributes:
      x, y, x_val, y_val: the arrays.
      options: whatever else was asked.
    """

    def __init__(self, file: str, options: dict[str, Any]) -> None:
        """Read the arrays."""
        with np.load(file) as data:
            self.x, self.y, self.x_val, self.y_val = (data[name] for name in ("x", "y", "x_val", "y_val"))
        self.options = options

    def small(self) -> "Given":
        """The same of few training rows."""
        few = copy.copy(self)
        few.x, few.y = self.x[:50], self.y[:50]
        return few


def answer(tasks: dict[str, Callable[[Given], dict[str, Any]]], packages: tuple[str, ...]) -> None:
    """Run the task that the command line names, and write what it returns, or that there is none of this name.

    Args:
      tasks: by name; each returns "seconds" and what it found.
      packages: whose versions are told.
    """
    ready = time.time()
    _, arrays, out, options = sys.argv
    given = Given(arrays, json.loads(options))
    task = given.options["task"]
    if task in tasks and given.options.get("warm"):
        tasks[task](given.small())  # what is done once a process is not timed
    found = tasks[task](given) if task in tasks else {"cannot": f"has no {task}"}
    about = {
        "ready": ready,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found | about, file)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its seconds."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began
