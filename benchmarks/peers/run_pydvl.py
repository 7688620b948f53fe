"""Runs pyDVL on arrays from a file; started by benchmarks/core.py with the Python of pyDVL's own environment.

    python run_pydvl.py ARRAYS.npz ANSWER.json '{"task": "permutations", "permutations": 10, "seed": 0, "jobs": 2}'

ARRAYS.npz holds x, y, x_val, y_val. Tasks: "permutations" (that many whole permutations, no truncation) and "exact"
(every coalition). With "converged": true the model is the one that tsds_jax documents for its game: fitted to a tight
tolerance, and a coalition of one class predicts it; otherwise it is scikit-learn's LogisticRegression as it comes.
"""

import importlib.metadata
import itertools
import json
import os
import sys
import time

import numpy as np
from joblib import parallel_config
from pydvl.valuation import (
    Dataset,
    DeterministicUniformSampler,
    ModelUtility,
    NoStopping,
    PermutationSampler,
    ShapleyValuation,
    SupervisedScorer,
)
from sklearn.linear_model import LogisticRegression

VERSIONS = ("pydvl", "scikit-learn", "numpy", "scipy", "joblib")


class Permutations(PermutationSampler):
    """A fixed number of permutations, so that none is begun and thrown away where pyDVL would stop."""

    def __init__(self, number: int, seed: int) -> None:
        """That many, drawn from the seed."""
        super().__init__(seed=seed)
        self.number = number

    def generate(self, indices):
        """The first of the endless permutations."""
        return itertools.islice(super().generate(indices), self.number)


class Converged(LogisticRegression):
    """Fitted to a tight tolerance; of one class it predicts that class."""

    def fit(self, x, y):
        """As LogisticRegression.fit."""
        self.only_ = y[0] if (y == y[0]).all() else None
        if self.only_ is None:
            return super().fit(x, y)
        self.classes_ = y[:1]  # scikit-learn's scorers ask for it
        return self

    def predict(self, x):
        """As LogisticRegression.predict."""
        return super().predict(x) if self.only_ is None else np.full(len(x), self.only_)


def main(arrays: str, answer: str, options: str) -> None:
    ready = time.time()
    given = json.loads(options)
    with np.load(arrays) as data:
        x, y, x_val, y_val = (data[name] for name in ("x", "y", "x_val", "y_val"))
    model = Converged(tol=1e-10, max_iter=10_000) if given.get("converged") else LogisticRegression()
    scorer = SupervisedScorer("accuracy", Dataset(x_val, y_val), default=1 / len(np.unique(y)), range=(0.0, 1.0))

    def fit(points: int, permutations: int):
        if given["task"] == "exact":
            sampler, fits = DeterministicUniformSampler(batch_size=64), points * 2**points
        else:
            sampler, fits = Permutations(permutations, given["seed"]), points * permutations
        # LogisticRegression refuses one class, which pyDVL then gives the default score.
        utility = ModelUtility(model, scorer, show_warnings=False, catch_errors=not given.get("converged"))
        began = time.perf_counter()
        valuation = ShapleyValuation(utility, sampler, NoStopping(), progress=False)
        result = valuation.fit(Dataset(x[:points], y[:points])).result
        return result, fits, time.perf_counter() - began

    # joblib keeps its workers: a first call, on few points, starts them and is not timed.
    with parallel_config(n_jobs=given["jobs"]):
        if given["task"] == "permutations":
            fit(min(len(x), 100), given["jobs"])
        result, fits, seconds = fit(len(x), given.get("permutations", 0))
    with open(answer, "w", encoding="utf-8") as file:
        json.dump(
            {
                "values": result.values.tolist(),
                "stderr": result.stderr.tolist(),
                "counts": result.counts.tolist(),
                "fits": fits,
                "seconds": seconds,
                "ready": ready,
                "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
                "threads": os.environ.get("OMP_NUM_THREADS"),
            },
            file,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
