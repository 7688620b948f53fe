"""KNN-Shapley as plainly as its paper reads: one validation row after another, one sort each.

Jia et al., "Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms", VLDB 2019, theorem 1, with the
correction for more neighbours than points.
"""

import numpy as np


def knn_shapley(x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, *, k: int) -> np.ndarray:
    """Every training point's exact Shapley value for the utility of a k-nearest-neighbour classifier.

    Args:
      x: training features, ``[points, width]``; and so on.
      y: their labels.
      x_val: validation features.
      y_val: their labels.
      k: neighbours that vote.
    """
    points = len(x)
    place = np.arange(1, points)  # of each point but the farthest, from 1
    values = np.zeros(points)
    for row, label in zip(x_val, y_val, strict=True):
        nearest_first = np.argsort(((x - row) ** 2).sum(1), kind="stable")
        match = (y[nearest_first] == label).astype(float)
        farthest = match[-1] * min(k, points) / (points * k)
        steps = (match[:-1] - match[1:]) * np.minimum(k, place) / (k * place)
        values[nearest_first] += farthest + np.append(np.cumsum(steps[::-1])[::-1], 0.0)
    return values / len(x_val)
