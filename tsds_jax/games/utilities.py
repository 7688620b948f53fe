"""Utilities: how well a fitted source classifier does on the validation rows, as one number.

All rest on weighted sums over validation rows, ``sum_j weight_j * score_j``, of a score that depends on that row's
outcome alone (`row_scores`): they come from the same fit. Most are such a sum, which is split by row where one asks,
and whose difference between two fits has a standard error from its paired rows. Two are not: r2 is clipped, and
class-wise multiplies sums over the rows of different classes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import one_of
from tsds_jax.errors import InputError
from tsds_jax.games.products import dot

UTILITIES = ("accuracy", "balanced_accuracy", "probability", "log_likelihood", "class_wise")
REGRESSION_UTILITIES = ("neg_mean_squared_error", "r2")


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


def binary_outcome(logit: jax.Array, y_val: jax.Array) -> Outcome:
    """What log odds ``[..., rows]`` of the second of two classes say of each validation row."""
    margin = logit * (2 * y_val - 1)
    hit = jnp.where(margin == 0, 0.5, (margin > 0).astype(margin.dtype))
    return Outcome(hit, -jax.nn.softplus(-margin))


def row_scores(utility: str, outcome: Outcome | RegressionOutcome) -> jax.Array:
    """The score of each validation row, ``[..., rows]``, whose weighted sum is the utility (r2: before clipping)."""
    if isinstance(outcome, RegressionOutcome):
        one_of("utility", utility, REGRESSION_UTILITIES)
        return 1 - outcome.squared_error / outcome.variance if utility == "r2" else -outcome.squared_error
    one_of("utility", utility, UTILITIES)
    if utility in ("accuracy", "balanced_accuracy", "class_wise"):
        return outcome.hit
    return jnp.exp(outcome.log_probability) if utility == "probability" else outcome.log_probability


def row_weights(utility: str, labels: np.ndarray, weight: object = None) -> np.ndarray:
    """Weights of the validation rows in a utility, float64 ``[rows]``, summing to one.

    Args:
      utility: name; balanced accuracy gives every class present the same total.
      labels: ``[rows]``.
      weight: ``[rows]``, not negative, to which a row's weight is proportional (for balanced accuracy within its
        class, and a class whose rows weigh nothing counts as absent); None weighs all alike.

    Raises:
      InputError: weights that cannot be used.
    """
    share = checked_weights(weight, len(labels), "weight_val")
    share = share / share.max()  # a sum of the largest floats, or of the smallest, is none
    if utility == "balanced_accuracy":
        _, inverse = np.unique(labels, return_inverse=True)
        total = np.bincount(inverse, share)
        share = share / np.where(total > 0, total, 1.0)[inverse]
    return share / share.sum()


def checked_weights(weight: object, count: int, name: str) -> np.ndarray:
    """Weights as float64 ``[count]``; ones for None.

    Raises:
      InputError: another shape, a weight that is negative or not finite, named with its row, or none but zeros.
    """
    if weight is None:
        return np.ones(count)
    try:
        array = np.asarray(weight, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} holds no numbers: give an array [{count}] of floats") from None
    if array.shape != (count,):
        raise InputError(f"{name} has shape {list(array.shape)} for {count} rows: give one number a row")
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{name} is {array[row]} at row {row}: give finite numbers that are not negative")
    if not array.any():
        raise InputError(f"{name} is zero everywhere: give at least one row a weight")
    return array


def weighted_sum(scores: jax.Array, row_weight: jax.Array) -> jax.Array:
    """Scores ``[..., rows]`` as one number, ``[...]``."""
    return dot("...r,r->...", scores, row_weight)


def worth(
    utility: str, outcome: Outcome | RegressionOutcome, row_weight: jax.Array, y_val: jax.Array, classes: int
) -> jax.Array:
    """What an outcome ``[..., rows]`` is worth, ``[...]``; class-wise, to each class, ``[..., classes]``."""
    if utility == "class_wise":
        inside = jnp.where(jnp.arange(classes)[:, None] == y_val, row_weight, 0.0)
        own = dot("...r,cr->...c", row_scores(utility, outcome), inside)
        return own * jnp.exp(jnp.sum(own, -1, keepdims=True) - own)
    total = weighted_sum(row_scores(utility, outcome), row_weight)
    return jnp.maximum(total, -1.0) if utility == "r2" else total
