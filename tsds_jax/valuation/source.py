"""The game that arrays make: a source classifier of training points, judged by validation rows."""

from typing import Any

import numpy as np

from tsds_jax.arrays import LARGEST, encode_labels, feature_matrices, label_array, one_of, real_array
from tsds_jax.errors import InputError
from tsds_jax.games import (
    INTERCEPTS,
    REGRESSION_UTILITIES,
    KernelGame,
    LogisticGame,
    RidgeGame,
    kernel_game,
    logistic_game,
    ridge_game,
)
from tsds_jax.valuation.checks import check_source


def source_game(
    x_train: object,
    y_train: object,
    x_val: object,
    y_val: object,
    *,
    source: str = "logistic",
    utility: str = "accuracy",
    C: float = 1.0,
    intercept: str = "free",
    sample_weight: object = None,
    weight_val: object = None,
) -> LogisticGame | RidgeGame | KernelGame:
    """The game that these arrays make, after checking them; see `value`. Its utility is accuracy where none is given.

    Raises:
      InputError: an array or option that cannot be used.
    """
    check_source(source, utility, C)
    one_of("intercept", intercept, INTERCEPTS)
    x, xv = feature_matrices(x_train, x_val, largest=np.inf if source == "kernel" else LARGEST)
    weights = {"sample_weight": sample_weight, "weight_val": weight_val}
    if utility in REGRESSION_UTILITIES:
        classes = None
        y, yv = real_array(y_train, "y_train", len(x)), real_array(y_val, "y_val", len(xv))
    else:
        names, y, yv = encode_labels(label_array(y_train, "y_train", len(x)), label_array(y_val, "y_val", len(xv)))
        classes = len(names)
    how: dict[str, Any] = {"classes": classes, "utility": utility, "C": float(C), **weights}
    if source == "kernel":
        if intercept == "penalised":
            raise InputError("intercept 'penalised' is not for source 'kernel': add a constant to the kernel instead")
        return kernel_game(x, y, xv, yv, **how)
    if source == "ridge":
        return ridge_game(x, y, xv, yv, **how, intercept=intercept)
    return logistic_game(x, y, xv, yv, **how, intercept=intercept)
