"""Runs OpenDataVal; started with the Python of its own environment, see answering.py.

Tasks: "permutations" (that many), "knn" and "data_oob". Its sampler has no option against truncation, which ends a
permutation after ten contributions in a row that are nothing beside their sum: what it fitted is counted. A coalition
of one class, whichever, and the empty one say the first class. It imports torchvision for pictures that nothing here
has; its pinned torch of 2023 brings gigabytes of another vendor's libraries, so it runs on the torch of the other
peers, and without torchvision.
"""

import contextlib
import io
import sys
from unittest.mock import MagicMock

import numpy as np
import transformers.utils  # before torchvision seems to be there  # noqa: F401
from answering import Given, answer, timed

sys.modules |= dict.fromkeys(
    ("torchvision", *(f"torchvision.{part}" for part in ("datasets", "models", "transforms", "transforms.functional"))),
    MagicMock(),
)
import torch  # noqa: E402
from opendataval.dataval import DataOob, DataShapley, KNNShapley, TMCSampler  # noqa: E402
from opendataval.metrics import accuracy  # noqa: E402
from opendataval.model.api import ClassifierSkLearnWrapper  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402


class Counted(TMCSampler):
    """Counts the fits."""

    fits = 0

    def set_evaluator(self, value_func):
        """As TMCSampler.set_evaluator."""

        def counted(coalition, *args, **kwargs):
            self.fits += bool(coalition)
            return value_func(coalition, *args, **kwargs)

        super().set_evaluator(counted)


def valued(given: Given, evaluator) -> dict:
    """What an evaluator makes of the arrays, by logistic regression and accuracy where it asks for a model."""
    classes = int(given.y.max()) + 1
    # Its KNN-Shapley mixes in float32.
    kind = torch.float64 if hasattr(evaluator, "input_model_metric") else torch.float32
    x, x_val = (torch.tensor(some, dtype=kind) for some in (given.x, given.x_val))
    y, y_val = (torch.eye(classes)[torch.tensor(some)] for some in (given.y, given.y_val))
    how = {"tol": 1e-10, "max_iter": 10_000} if given.options.get("converged") else {}
    torch.set_num_threads(given.options["jobs"])
    evaluator.input_data(x, y, x_val, y_val)
    if hasattr(evaluator, "input_model_metric"):
        evaluator.input_model_metric(ClassifierSkLearnWrapper(LogisticRegression, classes, **how), accuracy)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        values, seconds = timed(lambda: evaluator.train_data_values().evaluate_data_values())
    return {"values": np.asarray(values, float).tolist(), "seconds": seconds}


def permutations(given: Given) -> dict:
    """Permutations of all points."""
    sampler = Counted(given.options["permutations"], min_cardinality=0, random_state=given.options["seed"])
    return valued(given, DataShapley(sampler)) | {"fits": sampler.fits}


def knn(given: Given) -> dict:
    """KNN-Shapley of so many neighbours."""
    return valued(given, KNNShapley(given.options["k"], batch_size=len(given.x)))


def data_oob(given: Given) -> dict:
    """Data-OOB of so many bags."""
    return valued(given, DataOob(given.options["bags"], random_state=given.options["seed"]))


if __name__ == "__main__":
    packages = ("opendataval", "torch", "scikit-learn", "numpy")
    answer({"permutations": permutations, "knn": knn, "data_oob": data_oob}, packages)
