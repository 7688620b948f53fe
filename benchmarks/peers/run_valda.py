"""Runs valda; started with the Python of valda's own environment, see answering.py.

Task: "permutations" (that many whole permutations, no truncation), in one process, since it has no way to use more. Of
nobody valda takes the accuracy to be 0, so each value is larger than others' by what a guess is right, over the points.
"""

import contextlib
import io
import random

import numpy as np
from answering import Given, answer, timed
from sklearn.linear_model import LogisticRegression
from valda.tmc_shapley import tmc_shapley


def permutations(given: Given) -> dict:
    """Whole permutations of all points."""
    number = given.options["permutations"]
    model = LogisticRegression(**({"tol": 1e-10, "max_iter": 10_000} if given.options.get("converged") else {}))
    random.seed(given.options["seed"])  # it takes none itself
    with contextlib.redirect_stderr(io.StringIO()):
        values, seconds = timed(
            lambda: tmc_shapley(given.x, given.y, given.x_val, given.y_val, model, T=number, epsilon=0.0)
        )
    values = values - 1 / len(np.unique(given.y)) / len(given.x)
    # It fits all points once more in each permutation.
    return {"values": values.tolist(), "fits": number * (len(given.x) + 1), "seconds": seconds}


if __name__ == "__main__":
    answer({"permutations": permutations}, ("valda", "scikit-learn", "numpy"))
