"""Logistic regressions of any number of classes (softmax): from nothing, and with one point more.

Parameters are ``[lanes, classes * features]``, zero for the classes that a lane lacks. Adding one vector to all classes
changes no probability; minima sum to zero over the classes, whose intercepts nothing else holds.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tsds_jax.games.binary import Anchor, class_mass, weighted_gram
from tsds_jax.games.descent import ITERATIONS, descend, descend_in_stages, trusted_length
from tsds_jax.games.factors import inverse
from tsds_jax.games.newton import Local, Minimum, minimise
from tsds_jax.games.one_more import Own
from tsds_jax.games.products import dot, row_sums

# Beyond so many parameters a Hessian's inverse costs more than the iterations that it saves.
_LARGEST_HESSIAN = 512
# Iterations after which most fits with one point more are there, and after which all should be.
_STEPS = (2, ITERATIONS)


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
        return 0.5 * jnp.sum(self._ridges * point**2, 1) - likelihood

    def gradient(self, point: jax.Array, probability: tuple[jax.Array, ...]) -> jax.Array:
        """``[lanes, classes * features]``."""
        target = self.target * self.present[:, :, None]
        gradient = dot("lcp,pf->lcf", self.weight[:, None] * (probability[0] - target), self.rows)
        if self.own is not None:
            residual = probability[1] - jax.nn.one_hot(self.own.y, len(self.target), dtype=point.dtype)
            gradient += (self.own.weight[:, None] * residual)[:, :, None] * self.own.x[:, None]
        return gradient.reshape(point.shape) + self._ridges * point

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

        found = row_sums(self._ridges * direction**2) + row_sums(self.weight * bend(probability[0], change[0]))
        if self.own is not None:
            found += self.own.weight * bend(probability[1], change[1])
        fourth = row_sums(jnp.where(self.weight != 0, jnp.sum(change[0] ** 4, 1), 0.0))
        return found, trusted_length(fourth)

    def hessian_product(self, probability: tuple[jax.Array, ...], v: jax.Array) -> jax.Array:
        """The Hessian at these probabilities times ``v`` ``[lanes, classes * features]``, without own points."""
        change = self.predict(v)[0]
        curved = probability[0] * (change - jnp.sum(probability[0] * change, 1, keepdims=True))
        return dot("lcp,pf->lcf", self.weight[:, None] * curved, self.rows).reshape(v.shape) + self._ridges * v

    @property
    def _ridges(self) -> jax.Array:
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
    losses = SoftmaxLosses(rows, target, weight * several[:, None], _ridge(ridge, present), present)
    precondition = _bound(rows, weight, ridge, present)
    floor = 1e-11 * jnp.max(ridge)

    def local(point: jax.Array) -> Local:
        prediction = losses.predict(point)
        probability = losses.probabilities(prediction)
        step = _conjugate_gradients(
            lambda v: losses.hessian_product(probability, v), -losses.gradient(point, probability), precondition, floor
        )
        return Local(losses.loss(point, prediction), step)

    return minimise(local, jnp.zeros((len(weight), target.shape[0] * rows.shape[1]), rows.dtype))


def softmax_anchor(
    rows: jax.Array, labels: jax.Array, weight: jax.Array, parameters: jax.Array, ridge: jax.Array, classes: int
) -> Anchor:
    """What `fit_one_more_softmax` starts from: one fit and its inverse Hessian, or for many parameters a bound of it.

    Args:
      weight: ``[points]``; parameters: ``[classes * features]``, of the fit. Others as in `fit_softmax`.

    Returns:
      `Anchor` whose inverse is ``[classes * features] * 2``, or ``[features] * 2`` to be used for every class.
    """
    present = class_mass(labels, weight[None], classes)[0] > 0
    if len(parameters) > _LARGEST_HESSIAN:
        return Anchor(parameters, _bound_inverse(rows, weight[None], ridge)[0])
    logit = dot("cf,pf->cp", parameters.reshape(classes, -1), rows)
    probability = softmax(logit[None], present[None])[1][0]
    mixed = jnp.eye(classes)[:, :, None] * probability[:, None] - probability[:, None] * probability
    blocks = weighted_gram(rows)((mixed * weight).reshape(classes * classes, -1))
    features = rows.shape[1]
    hessian = jnp.moveaxis(blocks.reshape(classes, classes, features, features), 2, 1)
    hessian = hessian.reshape(classes * features, classes * features)
    strength = _ridge(ridge, present[None])[0]
    held = strength.at[-1].add(jnp.where(strength[-1] > 0, 0.0, 0.25))
    found = inverse(hessian + jnp.diag(jnp.tile(held, classes)))
    spare = jnp.eye(classes * features, dtype=rows.dtype) / jnp.max(jnp.diagonal(hessian) + 1.0)
    return Anchor(parameters, jnp.where(jnp.all(jnp.isfinite(found)), found, spare))


def fit_one_more_softmax(
    rows: jax.Array,
    labels: jax.Array,
    weight: jax.Array,
    known: Anchor,
    ridge: jax.Array,
    own: Own,
    classes: int,
    tolerance: float | jax.Array,
) -> Minimum:
    """Softmax regressions of the rows and one point more, each by `descend` from the fit without it.

    Args:
      weight: ``[points]``; known: of `softmax_anchor`; own: the further points, one a lane. Others as in `fit_softmax`.
    """
    mass = class_mass(labels, weight[None], classes) + own.weight[:, None] * jax.nn.one_hot(own.y, classes)
    present = mass > 0
    target = jax.nn.one_hot(labels, classes, dtype=rows.dtype).T
    start = jnp.broadcast_to(known.parameters, (len(own.x), len(known.parameters)))

    def some(lanes: Any, start: jax.Array, stage: jax.Array) -> Minimum:
        here, mine = present[lanes], jax.tree.map(lambda part: part[lanes], own)

        def precondition(gradient: jax.Array) -> jax.Array:
            gradient = _centred(gradient, here)  # on both sides, or conjugate directions are none
            if len(known.inverse) == gradient.shape[1]:
                step = dot("lf,fg->lg", gradient, known.inverse)
            else:
                step = dot("lcf,fg->lcg", gradient.reshape(len(gradient), classes, -1), known.inverse)
                step = step.reshape(gradient.shape)
            return _centred(step, here)

        losses = SoftmaxLosses(rows, target, weight[None], _ridge(ridge, here), here, mine)
        return descend(losses, start, precondition, close, jnp.asarray(_STEPS)[stage])

    # A bound of the Hessian makes steps short, and so the distance look small.
    close = tolerance if len(known.inverse) == len(known.parameters) else 0.02 * tolerance
    return descend_in_stages(some, start, len(_STEPS))


def softmax(logit: jax.Array, present: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities and probabilities over axis 1, both zero for absent classes."""
    inside = present.reshape(*present.shape, *[1] * (logit.ndim - 2))
    log_probability = jnp.where(inside, jax.nn.log_softmax(jnp.where(inside, logit, -jnp.inf), 1), 0.0)
    return log_probability, jnp.where(inside, jnp.exp(log_probability), 0.0)


def _ridge(ridge: jax.Array, present: jax.Array) -> jax.Array:
    """The penalty in each lane, ``[lanes, features]``."""
    return ridge * jnp.where(jnp.sum(present, 1) == 2, 2.0, 1.0)[:, None]


def _bound_inverse(rows: jax.Array, weight: jax.Array, ridge: jax.Array) -> jax.Array:
    """Inverse of the bound on the Hessian, ``[lanes, features, features]``."""
    # The intercept's bound is zero where nothing is fitted: a quarter keeps it solvable.
    held = ridge.at[-1].add(jnp.where(ridge[-1] > 0, 0.0, 0.25))
    # Digits do not matter here, and one product a step instead of two solves does.
    return inverse(0.5 * weighted_gram(rows)(weight) + jnp.diag(held))


def _bound(rows: jax.Array, weight: jax.Array, ridge: jax.Array, present: jax.Array):
    inverses = _bound_inverse(rows, weight, ridge)

    def precondition(v: jax.Array) -> jax.Array:
        by_class = v.reshape(len(v), present.shape[1], -1)
        step = jnp.matmul(by_class, inverses, precision=jax.lax.Precision.HIGHEST).reshape(v.shape)
        return _centred(step, present)

    return precondition


def _centred(step: jax.Array, present: jax.Array) -> jax.Array:
    """Zero for absent classes, of sum zero over the others: rounding would go astray along a flat direction."""
    by_class = step.reshape(*present.shape, -1) * present[:, :, None]
    count = jnp.maximum(jnp.sum(present, 1), 1)[:, None, None]
    return (by_class - present[:, :, None] * jnp.sum(by_class, 1, keepdims=True) / count).reshape(step.shape)


def _conjugate_gradients(matrix, right, precondition, floor, tolerance: float = 1e-3, iterations: int = 60):
    """Solves ``matrix(v) = right`` in every lane of ``[lanes, parameters]``.

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
        new = jnp.where(active, inner(residual, conditioned), 0.0)
        direction = conditioned + new / jnp.where(size > 0, size, 1.0) * direction
        return solution, residual, direction, new, iteration + 1

    start = (jnp.zeros_like(right), right, first, inner(right, first), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, body, start)[0]
