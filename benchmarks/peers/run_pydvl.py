"""Runs pyDVL; started with the Python of pyDVL's own environment, see answering.py.

Tasks: "permutations" (that many whole permutations, no truncation), "exact" (every coalition) and "knn". With
"converged": true the model is the one that tsds_jax documents for its game: fitted to a tight tolerance, and a
coalition of one class predicts it; otherwise it is scikit-learn's LogisticRegression as it comes.
"""

import itertools

import numpy as np
from answering import Given, answer, timed
from joblib import parallel_config
from pydvl.valuation import (
    Dataset,
    DeterministicUniformSampler,
    KNNShapleyValuation,
    ModelUtility,
    NoStopping,
    PermutationSampler,
    ShapleyValuation,
    SupervisedScorer,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier


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


def shapley(given: Given, sampler, points: int, fits: int) -> dict:
    """Values of the first points by a sampler of so many fits."""
    converged = given.options.get("converged")
    model = Converged(tol=1e-10, max_iter=10_000) if converged else LogisticRegression()
    default = 1 / len(np.unique(given.y))
    scorer = SupervisedScorer("accuracy", Dataset(given.x_val, given.y_val), default=default, range=(0.0, 1.0))
    # LogisticRegression refuses one class, which pyDVL then gives the default score.
    utility = ModelUtility(model, scorer, show_warnings=False, catch_errors=not converged)
    valuation = ShapleyValuation(utility, sampler, NoStopping(), progress=False)
    data = Dataset(given.x[:points], given.y[:points])
    _, seconds = timed(lambda: valuation.fit(data))
    result = valuation.result
    return {
        "values": result.values.tolist(),
        "stderr": result.stderr.tolist(),
        "counts": result.counts.tolist(),
        "fits": fits,
        "seconds": seconds,
    }


def permutations(given: Given) -> dict:
    """Whole permutations of all points."""

    def some(points: int, number: int) -> dict:
        return shapley(given, Permutations(number, given.options["seed"]), points, points * number)

    # joblib keeps its workers: a first call, on few points, starts them and is not timed.
    with parallel_config(n_jobs=given.options["jobs"]):
        some(min(len(given.x), 100), given.options["jobs"])
        return some(len(given.x), given.options["permutations"])


def exact(given: Given) -> dict:
    """Every coalition."""
    points = len(given.x)
    with parallel_config(n_jobs=given.options["jobs"]):
        return shapley(given, DeterministicUniformSampler(batch_size=64), points, points * 2**points)


def knn(given: Given) -> dict:
    """KNN-Shapley of so many neighbours."""

    def some(points: int):
        model = KNeighborsClassifier(n_neighbors=given.options["k"])
        valuation = KNNShapleyValuation(model, Dataset(given.x_val, given.y_val), progress=False)
        return valuation.fit(Dataset(given.x[:points], given.y[:points])).result

    with parallel_config(n_jobs=given.options["jobs"]):
        some(100)
        result, seconds = timed(lambda: some(len(given.x)))
    return {"values": result.values.tolist(), "seconds": seconds}


if __name__ == "__main__":
    packages = ("pydvl", "scikit-learn", "numpy", "scipy", "joblib")
    answer({"permutations": permutations, "exact": exact, "knn": knn}, packages)
