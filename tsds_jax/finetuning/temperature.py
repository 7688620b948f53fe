"""Probabilities at the temperature that suits the labels best: what a model tells apart, however sure it is of it."""

import numpy as np
from scipy.optimize import minimize_scalar

# Of the power, in natural logarithms: from a twentieth to twenty.
_BOUNDS = (-3.0, 3.0)
_LEAST = 1e-9


def at_best_temperature(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``p_c^a / sum_c p_c^a`` with the one power ``a`` that makes the labels likeliest, float64 ``[rows, classes]``.

    A model that learned from flipped labels is unsure, and its log-likelihood low, though its predictions may be as
    good as those of one that did not: their order is the same at every temperature.

    Args:
      probability: ``[rows, classes]``, each row summing to 1.
      labels: int ``[rows]``.

    Example:
      >>> unsure = np.array([[0.6, 0.4], [0.4, 0.6], [0.45, 0.55], [0.42, 0.58]])
      >>> at_best_temperature(unsure, np.array([0, 1, 0, 1])).round(2).tolist()
      [[0.88, 0.12], [0.12, 0.88], [0.27, 0.73], [0.17, 0.83]]

    References:
      Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    logit = np.log(np.maximum(np.asarray(probability, np.float64), _LEAST))

    def scaled(log_power: float) -> np.ndarray:
        power = np.exp(np.exp(log_power) * (logit - logit.max(1, keepdims=True)))
        return power / power.sum(1, keepdims=True)

    def surprise(log_power: float) -> float:
        return -float(np.log(np.maximum(scaled(log_power)[np.arange(len(labels)), labels], _LEAST)).mean())

    return scaled(float(minimize_scalar(surprise, bounds=_BOUNDS, method="bounded").x))
