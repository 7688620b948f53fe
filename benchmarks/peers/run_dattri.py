"""Runs dattri; started with the Python of dattri's own environment, see answering.py. Task: "knn"."""

import contextlib
import io

import torch
from answering import Given, answer, timed
from dattri.algorithm.data_shapley import KNNShapleyAttributor
from torch.utils.data import DataLoader, TensorDataset


def knn(given: Given) -> dict:
    """KNN-Shapley of so many neighbours."""
    torch.set_num_threads(given.options["jobs"])

    def loader(x, y):
        return DataLoader(TensorDataset(torch.from_numpy(x).float(), torch.from_numpy(y).long()), batch_size=1024)

    attributor = KNNShapleyAttributor(given.options["k"])
    with contextlib.redirect_stderr(io.StringIO()):
        # [validation rows, points], whatever its docstring says.
        result, seconds = timed(
            lambda: attributor.attribute(loader(given.x, given.y), loader(given.x_val, given.y_val)).mean(0)
        )
    return {"values": result.tolist(), "seconds": seconds}


if __name__ == "__main__":
    answer({"knn": knn}, ("dattri", "torch", "numpy"))
