"""Kernel ridge regression as the source classifier, on any Gram matrix: the empirical neural tangent kernel, say.

With one column of targets a class (one-hot) or one for regression, the fit to a coalition S scores

    f(v) = k(v, S) (k(S, S) + 1 / C)^-1 targets_S,

scikit-learn's ``KernelRidge(alpha=1/C)``; there is no intercept. The empty coalition scores 0 everywhere.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.errors import InputError
from tsds_jax.games.game import PrefixUtilities
from tsds_jax.games.least_squares import (
    checked_labels,
    damped_fits,
    dot,
    factorise,
    kernel_sums,
    map_in_batches,
    outcome_utility,
    power_of_two,
    scaled_penalty,
    score_outcome,
    solve_lower,
    sums_at,
    targets,
)
from tsds_jax.games.utilities import Outcome, RegressionOutcome


class KernelFit(NamedTuple):
    """The kernel ridge regression of one coalition, ready for one more point; non-members hold zeros.

    Attributes:
      order: int32 ``[length]``, members first.
      member: ``[length]``, 1 for members, 0 behind them.
      weights: ``[length, targets]``.
      scores: ``[targets, rows]``, of the validation rows.
      gains: ``[length, rows]``, inverse kernel matrix times kernel with each validation row.
      root: ``[length, length]``, inverse of the kernel matrix's lower Cholesky factor.
      utility: scalar, of the coalition.
      unconverged: int32 scalar, 1 where the fit was damped.
    """

    order: jax.Array
    member: jax.Array
    weights: jax.Array
    scores: jax.Array
    gains: jax.Array
    root: jax.Array
    utility: jax.Array
    unconverged: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KernelGame:
    """Utility of a coalition = validation performance of the kernel ridge regression fitted to its members.

    Build it with `kernel_game`, which scales the kernel by a power of two. Precision as in `RidgeGame`.

    Attributes:
      k_train: ``[players, players]``.
      y: ``[players]``, int32 classes from 0, or float targets.
      k_val: ``[rows, players]``.
      y_val: ``[rows]``.
      row_weight: ``[rows]``, summing to one.
      penalty: scalar, ``1 / C`` in the units of the kernel.
      damped: bool scalar, whether it was raised.
      classes: number of classes; 0 for regression.
      utility: one of `UTILITIES`, or of `REGRESSION_UTILITIES`.
    """

    k_train: jax.Array
    y: jax.Array
    k_val: jax.Array
    y_val: jax.Array
    row_weight: jax.Array
    penalty: jax.Array
    damped: jax.Array
    classes: int = field(metadata={"static": True})
    utility: str = field(metadata={"static": True})

    @property
    def players(self) -> int:
        """Number of players."""
        return self.k_train.shape[0]

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        """Utilities of ``order[:k]`` for each ``k`` in ``sizes``.

        About ``n^3 / 3 + n^2 rows`` operations for an order of n points, whatever the sizes: ask for many at once.
        """
        scores, damped = self._prefix_scores(order, sizes)

        def worth(some: jax.Array) -> jax.Array:
            return outcome_utility(self.utility, score_outcome(scores(some), self.y_val, self.classes), self.row_weight)

        return PrefixUtilities(map_in_batches(worth, sizes, self._numbers), damped)

    def prefix_outcomes(self, order: jax.Array, sizes: jax.Array) -> tuple[Outcome | RegressionOutcome, jax.Array]:
        """What the fit to each prefix says of each validation row: an outcome of ``[sizes, rows]``, damped fits."""
        scores, damped = self._prefix_scores(order, sizes)
        return map_in_batches(
            lambda some: score_outcome(scores(some), self.y_val, self.classes), sizes, self._numbers
        ), damped

    def fit(self, order: jax.Array, size: jax.Array) -> KernelFit:
        """The regression of ``order[:size]``; the rest of the order is cut off by an identity block."""
        member = (jnp.arange(order.shape[0]) < size).astype(self.k_train.dtype)
        gram = self.k_train[order[:, None], order] * (member[:, None] * member)
        factor, damped = factorise(gram + jnp.diag(jnp.where(member > 0, self.penalty, 1.0)))
        target = targets(self.y[order], self.classes, gram.dtype) * member[:, None]
        across = self.k_val[:, order].T * member[:, None]
        half = solve_lower(factor, jnp.concatenate([target, across, jnp.eye(len(gram), dtype=gram.dtype)], 1))
        count = target.shape[1] + across.shape[1]
        root = half[:, count:]
        weights, gains = jnp.split(solve_lower(factor, half[:, :count], transpose=True), [target.shape[1]], 1)
        scores = dot("lt,lr->tr", weights, across)
        worth = outcome_utility(self.utility, score_outcome(scores, self.y_val, self.classes), self.row_weight)
        unconverged = ((damped | self.damped) & (size > 0)).astype(jnp.int32)
        return KernelFit(order, member, weights, scores, gains, root, worth, unconverged)

    def add_one_marginals(self, fit: KernelFit, points: jax.Array) -> jax.Array:
        """``U(S + i) - U(S)`` for each ``i`` in ``points``, exact: one more row and column by block inversion.

        What the members leave of the kernel is ``c(u, w) = k(u, w) - k(u, S) (K_SS + penalty)^-1 k(S, w)``; scores
        move by the point's residual times ``c(v, i) / (penalty + c(i, i))``, the same for every class. About
        ``2 length (rows + length)`` operations a point, and arrays of ``points * max(rows * classes, length)``
        numbers, made in parts of at most some 4 million.
        """

        def marginals(some: jax.Array) -> jax.Array:
            known = self.k_train[some[:, None], fit.order] * fit.member
            residual = targets(self.y[some], self.classes, known.dtype) - dot("pl,lt->pt", known, fit.weights)
            own = self.k_train[some, some] - jnp.sum(dot("pl,jl->pj", known, fit.root) ** 2, 1)
            across = self.k_val[:, some].T - dot("pl,lr->pr", known, fit.gains)
            share = across / (self.penalty + jnp.maximum(own, 0.0))[:, None]
            scores = fit.scores + residual[:, :, None] * share[:, None, :]
            outcome = score_outcome(scores, self.y_val, self.classes)
            return outcome_utility(self.utility, outcome, self.row_weight) - fit.utility

        return map_in_batches(marginals, points, max(self._numbers, fit.order.shape[0]))

    @property
    def _numbers(self) -> int:
        """Scores of one fit."""
        return self.k_val.shape[0] * (self.classes if self.classes > 2 else 1)

    def _prefix_scores(self, order: jax.Array, sizes: jax.Array):
        """A function from sizes to scores ``[sizes, targets, rows]``, and how many of ``sizes`` were damped."""
        target = targets(self.y[order], self.classes, self.k_train.dtype)
        running = kernel_sums(self.k_train[order[:, None], order], self.penalty, target, self.k_val[:, order].T)
        return sums_at(running), damped_fits(running, sizes, self.damped)


def kernel_game(
    k_train: np.ndarray,
    y: np.ndarray,
    k_val: np.ndarray,
    y_val: np.ndarray,
    *,
    classes: int | None,
    utility: str = "accuracy",
    C: float = 1.0,
) -> KernelGame:
    """A `KernelGame` from plain arrays, in JAX's default float type.

    Args:
      k_train: ``[points, points]``, symmetric; y: ``[points]``, int classes from 0, or any numbers for regression.
      k_val: ``[rows, points]``, kernel between validation rows and training points; y_val: ``[rows]``.
      classes: number of classes, at least 2; None or 0 for regression.
      utility: one of `UTILITIES`; for regression ``"neg_mean_squared_error"`` or ``"r2"`` (clipped below at -1).
      C: inverse strength of the penalty, ``1 / alpha`` of scikit-learn's ``KernelRidge``.

    Raises:
      InputError: kernels whose shapes do not fit, an asymmetric one, a utility of the wrong kind, or r2 on validation
        targets that are all equal.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import utility
      >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
      >>> game = kernel_game(x @ x.T, y, x @ x.T, y, classes=2)
      >>> float(utility(game, np.array([True, True, False])))
      1.0
    """
    labels, labels_val, row_weight = checked_labels(y, y_val, classes=classes, utility=utility, centre=False)
    gram, across = np.asarray(k_train, np.float64), np.asarray(k_val, np.float64)
    _check_kernels(gram, across, len(labels), len(labels_val))
    scale = power_of_two(float(np.max(np.abs(np.diag(gram)))))
    penalty, damped = scaled_penalty(C, scale)
    return KernelGame(
        k_train=jnp.asarray(gram / scale, dtype=float),
        y=labels,
        k_val=jnp.asarray(across / scale, dtype=float),
        y_val=labels_val,
        row_weight=row_weight,
        penalty=penalty,
        damped=jnp.asarray(damped),
        classes=int(classes or 0),
        utility=utility,
    )


def _check_kernels(gram: np.ndarray, across: np.ndarray, points: int, rows: int) -> None:
    if gram.shape != (points, points):
        raise InputError(f"k_train has shape {list(gram.shape)} for {points} points: give [points, points]")
    if across.shape != (rows, points):
        raise InputError(f"k_val has shape {list(across.shape)} for {rows} rows, {points} points: give [rows, points]")
    uneven = np.abs(gram - gram.T) > 1e-3 * np.max(np.abs(gram))
    if uneven.any():
        i, j = np.argwhere(uneven)[0]
        raise InputError(
            f"k_train is {gram[i, j]:.6g} at row {i}, column {j}, {gram[j, i]:.6g} the other way round: symmetrise it"
        )
