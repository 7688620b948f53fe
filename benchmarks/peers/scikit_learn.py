"""The loop that people write: scikit-learn, one fit a prefix; and joblib, which gives every core a loop."""

import time
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from peers.environment import JOBS


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


def prefix_rate(
    x: np.ndarray, y: np.ndarray, x_val: np.ndarray, y_val: np.ndarray, *, model: Any, orders: int, seed: int
) -> float:
    """Prefixes a second, of ``orders`` permutations for each core; its processes are there before the clock starts.

    Args:
      x, y, x_val, y_val, model: see `prefix_accuracy`. Prefixes that it does not fit are not counted.
      orders: permutations for each core.
      seed: of the permutations.
    """
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(len(x)) for _ in range(JOBS * orders)]
    # One BLAS thread a process.
    with parallel_config("loky", inner_max_num_threads=1), Parallel(n_jobs=JOBS) as pool:

        def of(some: list[np.ndarray]) -> list[np.ndarray]:
            return pool(delayed(prefix_accuracy)(x, y, x_val, y_val, order=order, model=model) for order in some)

        of([order[:20] for order in drawn])
        began = time.perf_counter()
        found = of(drawn)
        seconds = time.perf_counter() - began
    return sum(np.count_nonzero(np.isfinite(accuracy)) for accuracy in found) / seconds
