"""The loop that people write: scikit-learn, one fit a prefix."""

from typing import Any

import numpy as np


def prefix_accuracy(
    x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, *, order: np.ndarray, model: Any
) -> np.ndarray:
    """Accuracy of the model fitted to each prefix of the order but the empty one.

    Args:
      x, y, x_val, y_val: labels 0 and 1; or ``y`` of floats -1 and 1, for a model of numbers, judged by the sign.
      order: the points, all or some.
      model: LogisticRegression or Ridge.

    Returns:
      float64 ``[prefixes]``; NaN where a classifier has one class only.
    """
    accuracy = np.full(len(order), np.nan)
    numbers, truth = y.dtype.kind == "f", y_val == 1
    for size in range(1, len(order) + 1):
        taken = order[:size]
        labels = y[taken]
        if numbers or (labels != labels[0]).any():
            accuracy[size - 1] = np.mean((model.fit(x[taken], labels).predict(x_val) > 0) == truth)
    return accuracy
