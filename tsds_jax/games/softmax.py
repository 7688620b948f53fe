"""Logistic regressions of any number of classes (softmax): from nothing, and with one point more.

Parameters are ``[lanes, classes * features]``, zero for the classes that a lane lacks. Adding one vector to all classes
changes no probability; minima sum to zero over the classes, whose intercepts nothing else holds.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tsds_jax.games.binary import class_mass, weighted_gram
from tsds_jax.games.descent import trusted_length
from tsds_jax.games.factors import inverse
from tsds_jax.games.newton import Local, Minimum, minimise, settled
from tsds_jax.games.one_more import Own
from tsds_jax.games.products import dot, row_sums


class SoftmaxLosses(NamedTuple):
    """Weighted softmax losses and a penalty in every lane (`Losses`).

    Attributes:
      rows: ``[points, features]``.
      target: ``[classes, points]``, one-hot.
      weight: ``[lanes, points]``, or ``[1, points]`` for all lanes alike.
      ridge: ``[lanes, features]``.
      present: bool ``[lanes, classes]``.
      own: one further point in each lane, or None.
    """

    rows: jax.Array
    target: jax.Array
    weight: jax.Array
    ridge: jax.Array
    present: jax.Array
    own: Own | None = None

    def predict(self, direction: jax.Array) -> tuple[jax.Array, ...]:
        """Logits ``[lanes, classes, points]``, and those of the own points ``[lanes, classes]``."""
        by_class = direction.reshape(len(direction), len(self.target), -1)
        logit = dot("lcf,pf->lcp", by_class, self.rows)
        return (logit,) if self.own is None else (logit, dot("lcf,lf->lc", by_class, self.own.x))

    def probabilities(self, prediction: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        """Of each class, in the shapes of the predictions."""
        return jax.lax.optimization_barrier(tuple(softmax(logit, self.present)[1] for logit in prediction))

    def loss(self, point: jax.Array, prediction: tuple[jax.Array, ...]) -> jax.Array:
        """``[lanes]``, without own points."""
        log_probability, _ = softmax(prediction[0], self.present)
        likelihood = jnp.sum(self.weight * jnp.sum(self.target * log_probability, 1), 1)
        return 0.5 * jnp.sum(self.ridges * point**2, 1) - likelihood

    def gradient(self, point: jax.Array, probability: tuple[jax.Array, ...]) -> jax.Array:
        """``[lanes, classes * features]``."""
        target = self.target * self.present[:, :, None]
        gradient = dot("lcp,pf->lcf", self.weight[:, None] * _residual(probability[0], target), self.rows)
        if self.own is not None:
            own = _residual(probability[1], jax.nn.one_hot(self.own.y, len(self.target), dtype=point.dtype))
            gradient += (self.own.weight[:, None] * own)[:, :, None] * self.own.x[:, None]
        return gradient.reshape(point.shape) + self.ridges * point

    def curvature(
        self,
        point: jax.Array,
        probability: tuple[jax.Array, ...],
        direction: jax.Array,
        change: tuple[jax.Array, ...],
    ) -> tuple[jax.Array, jax.Array]:
        """``[lanes]``, and lengths ``[lanes]``."""

        def bend(probability: jax.Array, change: jax.Array) -> jax.Array:
            mean = jnp.sum(probability * change, 1, keepdims=True)
            return jnp.sum(probability * (change - mean) ** 2, 1)

        found = row_sums(self.ridges * direction**2) + row_sums(self.weight * bend(probability[0], change[0]))
        if self.own is not None:
            found += self.own.weight * bend(probability[1], change[1])
        fourth = row_sums(jnp.where(self.weight != 0, jnp.sum(change[0] ** 4, 1), 0.0))
        return found, trusted_length(fourth)

    def hessian_product(self, probability: tuple[jax.Array, ...], v: jax.Array) -> jax.Array:
        """The Hessian at these probabilities times ``v`` ``[lanes, classes * features]``, without own points."""
        change = self.predict(v)[0]
        curved = probability[0] * (change - jnp.sum(probability[0] * change, 1, keepdims=True))
        return dot("lcp,pf->lcf", self.weight[:, None] * curved, self.rows).reshape(v.shape) + self.ridges * v

    @property
    def ridges(self) -> jax.Array:
        """Of each parameter, ``[lanes, classes * features]``."""
        return jnp.tile(self.ridge, (1, len(self.target)))


def fit_softmax(rows: jax.Array, labels: jax.Array, weight: jax.Array, ridge: jax.Array, classes: int) -> Minimum:
    """Softmax regressions on weighted copies of the same rows, over the classes present in each lane.

    The Newton step is solved by conjugate gradients, preconditioned with the fixed upper bound on the Hessian of
    Boehning (1992), whose one inverse a lane serves every class and every step.

    Two classes present are fitted with twice the penalty: two columns ``w, -w`` then cost what scikit-learn's
    single vector ``2 w`` costs.

    Args:
      rows: ``[points, features]``, the last column constant one.
      labels: ``[points]``, classes from 0.
      weight: ``[lanes, points]``, the weight of each point in each fit.
      ridge: ``[features]``, the penalty on each parameter.
      classes: number of classes.

    Returns:
      `Minimum` with parameters ``[lanes, classes * features]``, zero for absent classes.
    """
    present = class_mass(labels, weight, classes) > 0
    several = jnp.sum(present, 1) > 1
    target = jax.nn.one_hot(labels, classes, dtype=rows.dtype).T
    losses = SoftmaxLosses(rows, target, weight * several[:, None], ridge_in(ridge, present), present)
    precondition = _bound(rows, weight, ridge, present)

    def local(point: jax.Array) -> Local:
        prediction = losses.predict(point)
        probability = losses.probabilities(prediction)
        # A gradient's rounding, some hundred times over.
        wrong = losses.weight * jnp.sum(probability[0] * (1 - target), 1) ** 2
        size = jnp.sum(wrong, 1) + jnp.sum(losses.ridges * point**2, 1)
        floor = 100 * jnp.finfo(rows.dtype).eps ** 2 * size[:, None]
        step, solved = _conjugate_gradients(
            lambda v: losses.hessian_product(probability, v), -losses.gradient(point, probability), precondition, floor
        )
        sound = solved & settled(prediction[0], losses.predict(step)[0], losses.weight)
        return Local(losses.loss(point, prediction), step, sound)

    return minimise(local, jnp.zeros((len(weight), target.shape[0] * rows.shape[1]), rows.dtype))


def _residual(probability: jax.Array, target: jax.Array) -> jax.Array:
    """``probability - target``, classes along axis 1: of the true class with the digits of the others together."""
    wrong = probability * (1 - target)
    return wrong - target * jnp.sum(wrong, 1, keepdims=True)


def softmax(logit: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities and probabilities over axis 1, both zero for absent classes."""
    inside = present.reshape(*present.shape, *[1] * (logit.ndim - 2))
    logit = jnp.where(inside, logit, -jnp.inf)
    # Of nobody the largest is minus infinity, from which nothing can be taken.
    shifted = logit - jnp.maximum(jnp.max(logit, 1, keepdims=True), jnp.finfo(logit.dtype).min)
    odds = jnp.exp(shifted)
    total = jnp.sum(odds, 1, keepdims=True)
    # One exponential serves both; the logarithm is made only where it is used.
    return jnp.where(inside, shifted - jnp.log(total), 0.0), odds / jnp.maximum(total, 1.0)


def ridge_in(ridge: jax.Array, present: jax.Array) -> jax.Array:
    """The penalty in each lane, ``[lanes, features]``."""
    return ridge * jnp.where(jnp.sum(present, 1) == 2, 2.0, 1.0)[:, None]


def bound_inverse(rows: jax.Array, weight: jax.Array, ridge: jax.Array) -> jax.Array:
    """Inverse of the bound on the Hessian, ``[lanes, features, features]``."""
    # The intercept's bound is zero where nothing is fitted: a quarter keeps it solvable.
    held = ridge.at[-1].add(jnp.where(ridge[-1] > 0, 0.0, 0.25))
    # Digits do not matter here, and one product a step instead of two solves does.
    return inverse(0.5 * weighted_gram(rows)(weight) + jnp.diag(held))


def _bound(rows: jax.Array, weight: jax.Array, ridge: jax.Array, present: jax.Array):
    inverses = bound_inverse(rows, weight, ridge)

    def precondition(v: jax.Array) -> jax.Array:
        by_class = v.reshape(len(v), present.shape[1], -1)
        step = jnp.matmul(by_class, inverses, precision=jax.lax.Precision.HIGHEST).reshape(v.shape)
        return centred(step, present)

    return precondition


def centred(step: jax.Array, present: jax.Array) -> jax.Array:
    """Zero for absent classes, of sum zero over the others: rounding would go astray along a flat direction."""
    by_class = step.reshape(*present.shape, -1) * present[:, :, None]
    count = jnp.maximum(jnp.sum(present, 1), 1)[:, None, None]
    return (by_class - present[:, :, None] * jnp.sum(by_class, 1, keepdims=True) / count).reshape(step.shape)


def _conjugate_gradients(matrix, right, precondition, floor, tolerance: float = 1e-3, iterations: int = 60):
    """Solves ``matrix(v) = right`` in every lane of ``[lanes, parameters]``; and whether it did, ``[lanes]``.

    Ends where the residual's squared preconditioned norm has fallen by ``tolerance ** 2`` or under ``floor``: what
    is left of a gradient at its minimum is rounding, and no iteration reduces that.
    """

    def inner(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(a * b, 1, keepdims=True)

    first = precondition(right)
    goal = jnp.maximum(tolerance**2 * inner(right, first), floor)

    def unfinished(state):
        *_, size, iteration = state
        return jnp.any(size > goal) & (iteration < iterations)

    def body(state):
        solution, residual, direction, size, iteration = state
        image = matrix(direction)
        curvature = inner(direction, image)
        active = (size > goal) & (curvature > 0)
        length = jnp.where(active, size / jnp.where(active, curvature, 1.0), 0.0)
        solution, residual = solution + length * direction, residual - length * image
        conditioned = precondition(residual)
        # Where rounding has left no curvature nothing more is to be had.
        new = jnp.where(active, inner(residual, conditioned), jnp.where(size > goal, -jnp.inf, size))
        direction = conditioned + jnp.where(active, new / jnp.where(active, size, 1.0), 0.0) * direction
        return solution, residual, direction, new, iteration + 1

    start = (jnp.zeros_like(right), right, first, inner(right, first), jnp.zeros((), jnp.int32))
    found, *_, size, _ = jax.lax.while_loop(unfinished, body, start)
    # Where nothing can be preconditioned no step was taken, and zero would say that none is needed.
    return jnp.where(jnp.isfinite(start[3]), found, jnp.nan), (jnp.isfinite(size) & (size <= goal))[:, 0]
