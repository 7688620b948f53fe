"""Utilities: how well a fitted source classifier does on the validation rows, as one number.

Every utility here is a weighted sum over validation rows, ``U = sum_j weight_j * score_j``, of a score that
depends on that row's outcome alone. So all of them come from the same fit, split by row where one asks
(`row_scores`), and the difference between two fits has a standard error from its paired rows.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.errors import InputError

UtilityName = Literal["accuracy", "balanced_accuracy", "probability", "log_likelihood"]
UTILITIES: tuple[str, ...] = get_args(UtilityName)
RegressionUtilityName = Literal["neg_mean_squared_error", "r2"]
REGRESSION_UTILITIES: tuple[str, ...] = get_args(RegressionUtilityName)


class Outcome(NamedTuple):
    """What a fit says of each validation row.

    Attributes:
      hit: ``[..., rows]``, 1 where the true class scores highest, ``1/t`` in a tie of ``t`` classes, else 0.
      log_probability: ``[..., rows]``, natural logarithm of the probability given to the true class.
    """

    hit: jax.Array
    log_probability: jax.Array


class RegressionOutcome(NamedTuple):
    """What a regression says of each validation row.

    Attributes:
      squared_error: ``[..., rows]``.
      variance: ``[..., 1]``, of the true values over the validation rows.
    """

    squared_error: jax.Array
    variance: jax.Array


def row_scores(utility: str, outcome: Outcome | RegressionOutcome) -> jax.Array:
    """The score of each validation row, ``[..., rows]``, whose weighted sum is the utility (r2: before clipping)."""
    if isinstance(outcome, RegressionOutcome):
        if utility == "neg_mean_squared_error":
            return -outcome.squared_error
        if utility == "r2":
            return 1 - outcome.squared_error / outcome.variance
        raise InputError(f"utility {utility!r} is unknown: use one of {', '.join(REGRESSION_UTILITIES)}")
    if utility in ("accuracy", "balanced_accuracy"):
        return outcome.hit
    if utility == "probability":
        return jnp.exp(outcome.log_probability)
    if utility == "log_likelihood":
        return outcome.log_probability
    raise InputError(f"utility {utility!r} is unknown: use one of {', '.join(UTILITIES)}")


def row_weights(utility: str, labels: np.ndarray) -> np.ndarray:
    """Weights ``[rows]`` that sum to one: equal, or for balanced accuracy equal per class present."""
    if utility != "balanced_accuracy":
        return np.full(len(labels), 1.0 / len(labels), np.float32)
    present, inverse, count = np.unique(labels, return_inverse=True, return_counts=True)
    return (1.0 / (len(present) * count[inverse])).astype(np.float32)
