"""Kernel ridge regression as the source classifier, on any Gram matrix: the empirical neural tangent kernel, say.

With one column of targets a class (one-hot) or one for regression, the fit to a coalition S scores

    f(v) = k(v, S) (k(S, S) + 1 / C)^-1 targets_S,

scikit-learn's ``KernelRidge(alpha=1/C)``; there is no intercept. The empty coalition scores 0 everywhere. Weights of
points divide the penalty of each by its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import first_place, number_in
from tsds_jax.errors import InputError
from tsds_jax.games.factors import factorise, solve_lower
from tsds_jax.games.game import Fitted
from tsds_jax.games.least_squares import (
    LeastSquaresGame,
    Running,
    checked_labels,
    in_units,
    power_of_two,
    running_sums,
    scaled_penalty,
    sums_at,
)
from tsds_jax.games.products import dot


class KernelFit(NamedTuple):
    """The kernel ridge regression of one coalition, ready for one more point; non-members hold zeros.

    Attributes:
      order: int32 ``[length]``, members first.
      member: ``[length]``, 1 for members, 0 behind them.
      weights: ``[length, targets]``.
      scores: ``[targets, rows]``, of the validation rows.
      gains: ``[length, rows]``, inverse kernel matrix times kernel with each validation row.
      root: ``[length, length]``, inverse of the kernel matrix's lower Cholesky factor.
    """

    order: jax.Array
    member: jax.Array
    weights: jax.Array
    scores: jax.Array
    gains: jax.Array
    root: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KernelGame(LeastSquaresGame):
    """Utility of a coalition = validation performance of the kernel ridge regression fitted to its members.

    Build it with `kernel_game`, which scales the kernel by a power of two. With ``p`` the penalty ``1 / C`` over the
    largest entry of the kernel, scores agree with float64 within about ``2e-7 / p`` of the largest. An order of n
    points takes about ``n^3 / 3 + n^2 rows`` operations for all its prefixes.

    Attributes, beside those of `LeastSquaresGame`:
      k_train: ``[players, players]``, times the roots of both points' weights.
      k_val: ``[rows, players]``, times the root of the point's weight.
    """

    k_train: jax.Array
    k_val: jax.Array

    def running(self, order: jax.Array, most: jax.Array) -> tuple[Callable[[jax.Array], jax.Array], Running]:
        """A function from sizes up to ``most`` to scores ``[sizes, targets, rows]`` of prefixes; the sums it reads."""
        target, across = self._targets(order), self.k_val[:, order].T

        def sums(member: jax.Array) -> Running:
            return _kernel_sums(self._among(order, member), self.penalty, target, across)

        # A chain's blocks share what depends on its order alone; of a kernel that is none each has its own.
        whole = jnp.ones(len(order), self.k_train.dtype)
        first = jnp.arange(len(order)) < most
        found = sums(whole)
        # A loop of one turn at most: mapped over chains, both sides of a condition would be computed for all of them.
        running, _ = jax.lax.while_loop(
            lambda state: state[1], lambda _: (sums(first * whole), jnp.asarray(False)), (found, jnp.any(found.damped))
        )
        return sums_at(running), running

    def _among(self, order: jax.Array, member: jax.Array) -> jax.Array:
        """The members' kernel, ``[length, length]``, zero in rows and columns of others."""
        return self.k_train[order[:, None], order] * (member[:, None] * member)

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        """The regression of ``order[:size]``, a `KernelFit`; the rest of the order is cut off by an identity block."""
        member = (jnp.arange(order.shape[0]) < size).astype(self.k_train.dtype)
        gram = self._among(order, member)
        factor, damped = factorise(gram + jnp.diag(jnp.where(member > 0, self.penalty, 1.0)))
        target = self._targets(order) * member[:, None]
        across = self.k_val[:, order].T * member[:, None]
        half = solve_lower(factor, jnp.concatenate([target, across, jnp.eye(len(gram), dtype=gram.dtype)], 1))
        count = target.shape[1] + across.shape[1]
        root = half[:, count:]
        weights, gains = jnp.split(solve_lower(factor, half[:, :count], transpose=True), [target.shape[1]], 1)
        model = KernelFit(order, member, weights, dot("lt,lr->tr", weights, across), gains, root)
        return Fitted(model, ((damped | self.damped) & (size > 0)).astype(jnp.int32))

    def added(self, model: KernelFit, points: jax.Array) -> jax.Array:
        """Scores ``[points, targets, rows]`` with one more point, by block inversion.

        What the members leave of the kernel is ``c(u, w) = k(u, w) - k(u, S) (K_SS + penalty)^-1 k(S, w)``; scores
        move by the point's residual times ``c(v, i) / (penalty + c(i, i))``, the same for every class. About
        ``2 length (rows + length)`` operations a point.
        """
        known = self.k_train[points[:, None], model.order] * model.member
        residual = self._targets(points) - dot("pl,lt->pt", known, model.weights)
        own = self.k_train[points, points] - jnp.sum(dot("pl,jl->pj", known, model.root) ** 2, 1)
        across = self.k_val[:, points].T - dot("pl,lr->pr", known, model.gains)
        share = across / (self.penalty + jnp.maximum(own, 0.0))[:, None]
        return model.scores + residual[:, :, None] * share[:, None, :]

    def _numbers_added(self, model: KernelFit) -> int:
        return model.order.shape[0]


def kernel_game(
    k_train: np.ndarray,
    y: np.ndarray,
    k_val: np.ndarray,
    y_val: np.ndarray,
    *,
    classes: int | None,
    utility: str = "accuracy",
    C: float = 1.0,
    weight_val: object = None,
    sample_weight: object = None,
) -> KernelGame:
    """A `KernelGame` from plain arrays, in JAX's default float type.

    Args:
      k_train: ``[points, points]``, symmetric; y: ``[points]``, int classes from 0, or any numbers for regression.
      k_val: ``[rows, points]``, kernel between validation rows and training points, no more than 1e12 times the largest
        of ``k_train``, or taken for that; y_val: ``[rows]``.
      classes: number of classes, at least 2; None or 0 for regression.
      utility: one of `UTILITIES`; for regression ``"neg_mean_squared_error"`` or ``"r2"`` (clipped below at -1).
      C: inverse strength of the penalty, ``1 / alpha`` of scikit-learn's ``KernelRidge``.
      weight_val: ``[rows]``, not negative, how much each validation row counts; None counts all alike.
      sample_weight: ``[points]``, not negative, the weight of each point's squared error, as in scikit-learn; None
        weighs all 1. A point of weight zero changes nothing.

    Raises:
      InputError: kernels whose shapes do not fit, an asymmetric one, weights that cannot be used, a utility of the
        wrong kind, or r2 on validation targets that are all equal.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import utility
      >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
      >>> game = kernel_game(x @ x.T, y, x @ x.T, y, classes=2)
      >>> float(utility(game, np.array([True, True, False])))
      1.0
    """
    number_in("C", C, 1e-30, np.inf, whole=False)
    labels = checked_labels(
        y,
        y_val,
        classes=classes,
        utility=utility,
        centre=False,
        weight_val=weight_val,
        sample_weight=sample_weight,
    )
    gram, across = np.asarray(k_train, np.float64), np.asarray(k_val, np.float64)
    _check_kernels(gram, across, len(labels.y), len(labels.y_val))
    root = labels.root_weight
    gram, across = gram * (root[:, None] * root), across * root
    scale = power_of_two(float(np.max(np.abs(gram))))
    penalty, damped = scaled_penalty(C * labels.heaviest, scale)
    return KernelGame(
        k_train=jnp.asarray(gram / scale, dtype=float),
        k_val=in_units(across, scale),
        y=labels.y,
        y_val=labels.y_val,
        row_weight=labels.row_weight,
        root_weight=jnp.asarray(root, dtype=float),
        penalty=penalty,
        damped=jnp.asarray(damped),
        classes=int(classes or 0),
        utility=utility,
    )


def _kernel_sums(gram: jax.Array, penalty: jax.Array, target: jax.Array, across: jax.Array) -> Running:
    """Running sums of kernel ridge fits: sums of ``right`` columns are predictions.

    Args:
      gram: ``[points, points]``, in the order of the points.
      penalty: scalar.
      target: ``[points, targets]``.
      across: ``[points, columns]``, kernel between each point and each column's row.
    """
    factor, damped = factorise(gram + penalty * jnp.eye(len(gram), dtype=gram.dtype))
    solved = solve_lower(factor, jnp.concatenate([target, across], 1))
    left, right = jnp.split(solved, [target.shape[1]], 1)
    return running_sums(left, right, damped)


def _check_kernels(gram: np.ndarray, across: np.ndarray, points: int, rows: int) -> None:
    if gram.shape != (points, points):
        raise InputError(f"k_train has shape {list(gram.shape)} for {points} points: give [points, points]")
    if across.shape != (rows, points):
        raise InputError(f"k_val has shape {list(across.shape)} for {rows} rows, {points} points: give [rows, points]")
    uneven = np.abs(gram - gram.T) > 1e-3 * np.max(np.abs(gram))
    if uneven.any():
        i, j = first_place(uneven)
        raise InputError(
            f"k_train is {gram[i, j]:.6g} at row {i}, column {j}, {gram[j, i]:.6g} the other way round: symmetrise it"
        )
