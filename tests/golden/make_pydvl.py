"""Makes pydvl.json: a small game's exact Data Shapley values by pyDVL 0.10, for tests that run without it.

    PYTHONPATH=benchmarks python tests/golden/make_pydvl.py VENV

VENV is where the environment of pyDVL is, or is to be made (it needs numpy < 2).
"""

import json
import sys
from pathlib import Path

import numpy as np
from peers.pydvl_process import Pydvl


def main(venv: str) -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(49, 3)).round(3)
    y = (x @ np.array([1.0, -0.5, 0.2]) + 0.5 * rng.logistic(size=49) > 0).astype(int)
    arrays = {"x": x[:9], "y": y[:9], "x_val": x[9:], "y_val": y[9:]}
    pydvl = Pydvl(Path(venv))
    found = pydvl.run(**arrays, task="exact", converged=True)
    answer = {name: array.tolist() for name, array in arrays.items()}
    answer |= {"values": found["values"], "versions": found["versions"]}
    Path(__file__).with_name("pydvl.json").write_text(json.dumps(answer) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
