"""Softmax regressions with one point more, each from the fit without it, many at once.

With ``H`` the Hessian of the fit without, and its parameters a matrix ``[classes, features]``, the fit with point
``(x, y)`` is, up to the change of the other points' weights, ``t x'`` from it by the metric of ``H``, where ``t`` is
what the point pulls each class by,

    t = weight (e_y - softmax(logits + R t)),    R[c, d] = x' (H^-1)[c, d] x,

as many equations as there are classes, whatever the number of features.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from tsds_jax.games.binary import class_mass, weighted_gram
from tsds_jax.games.descent import descend, descend_in_stages
from tsds_jax.games.factors import inverse
from tsds_jax.games.newton import Minimum
from tsds_jax.games.one_more import Accuracy, Own, own_residual
from tsds_jax.games.products import dot
from tsds_jax.games.softmax import SoftmaxLosses, bound_inverse, centred, ridge_in, softmax

# Beyond so many parameters a Hessian's inverse costs more than the iterations that it saves; beyond so many classes
# the equations of a point's pulls do.
_LARGEST_HESSIAN, _MOST_TOGETHER = 512, 16
# Classes have an inverse each while all of them together have no more numbers than this.
_LARGEST_BLOCKS = 2**22
# Of members of one class nothing curves, and the least that holds their intercepts does.
_FLAT = 1e-3
# Newton steps to a point's own pulls, from what two classes would be pulled by.
_OWN = 3


class KnownSoftmax(NamedTuple):
    """A fit, and nearly the inverse of its Hessian.

    Attributes:
      parameters: ``[classes * features]``.
      inverse: ``[classes * features] * 2``; or without what classes have to do with each other ``[classes, features,
        features]``, or ``[1, features, features]`` for every class the same.
      sound: bool, whether it is that; nothing found by another is a minimum.
    """

    parameters: jax.Array
    inverse: jax.Array
    sound: jax.Array


class _Metric(Protocol):
    """An inverse of a Hessian, and what it makes of a point ``x`` in each lane."""

    def step(self, gradient: jax.Array) -> jax.Array:
        """The inverse times ``[lanes, classes, features]``."""
        ...

    def lift(self, pull: jax.Array) -> jax.Array:
        """The inverse times ``pull x'``, ``[lanes, classes, features]``, of ``[lanes, classes]``."""
        ...

    def reach(self, pull: jax.Array) -> jax.Array:
        """What pulls add to the point's logits, ``R pull``, ``[lanes, classes]``."""
        ...

    def bend(self, probability: jax.Array, weight: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """``(1 + S R)^-1 S`` as a function of ``[lanes, classes]``, with ``S = weight (diag(p) - p p')``."""
        ...


class _Together(NamedTuple):
    """Of all classes together.

    Attributes:
      inverse: ``[classes, features, classes, features]``.
      lifted: ``[lanes, classes, classes, features]``, the inverse times ``e_c x'``.
      across: ``[lanes, classes, classes]``, R.
    """

    inverse: jax.Array
    lifted: jax.Array
    across: jax.Array

    def step(self, gradient: jax.Array) -> jax.Array:
        return dot("lcf,cfdg->ldg", gradient, self.inverse)

    def lift(self, pull: jax.Array) -> jax.Array:
        return dot("lc,lcdf->ldf", pull, self.lifted)

    def reach(self, pull: jax.Array) -> jax.Array:
        return dot("lc,lcd->ld", pull, self.across)

    def bend(self, probability: jax.Array, weight: jax.Array) -> Callable[[jax.Array], jax.Array]:
        # S = +-G G', a column for each class but the last: one class against those behind it, and so on.
        behind = jnp.cumsum(probability[:, ::-1], 1)[:, ::-1] - probability
        behind = jnp.maximum(behind, 0.0)
        first, here = probability[:, :-1], behind[:, :-1]
        size = jnp.sqrt(jnp.abs(weight)[:, None] * first * here / jnp.maximum(first + here, 1e-30))
        later = jnp.triu(jnp.ones((probability.shape[1],) * 2, probability.dtype), 1)[:-1]
        share = probability[:, None] * later / jnp.maximum(here, 1e-30)[:, :, None]
        root = size[:, :, None] * (jnp.eye(probability.shape[1])[:-1] - share)  # [lanes, classes - 1, classes]
        sign = jnp.sign(weight)[:, None]
        inner = sign[:, :, None] * dot("lkc,lcd,lmd->lkm", root, self.across, root) + jnp.eye(root.shape[1])
        turned = _inverse_of_few(inner)

        def bent(given: jax.Array) -> jax.Array:
            return sign * dot("lkc,lk->lc", root, dot("lkm,lm->lk", turned, dot("lmc,lc->lm", root, given)))

        return bent


class _Apart(NamedTuple):
    """Of each class by itself.

    Attributes:
      inverse: ``[classes or 1, features, features]``.
      lifted: ``[lanes, classes or 1, features]``, the inverse times ``x``.
      across: ``[lanes, classes or 1]``, the diagonal of R.
    """

    inverse: jax.Array
    lifted: jax.Array
    across: jax.Array

    def step(self, gradient: jax.Array) -> jax.Array:
        if len(self.inverse) == 1:
            return dot("lcf,fg->lcg", gradient, self.inverse[0])
        return dot("lcf,cfg->lcg", gradient, self.inverse)

    def lift(self, pull: jax.Array) -> jax.Array:
        return pull[:, :, None] * self.lifted

    def reach(self, pull: jax.Array) -> jax.Array:
        return pull * self.across

    def bend(self, probability: jax.Array, weight: jax.Array) -> Callable[[jax.Array], jax.Array]:
        # 1 + S R is a diagonal and a product of two vectors (Sherman and Morrison). Of classes by themselves nothing is
        # known that a point could be taken from without risk: one of negative weight is left in.
        weight = jnp.maximum(weight, 0.0)[:, None]
        shrunk = 1 / (1 + weight * probability * self.across)
        left = jnp.sum(probability * shrunk, 1, keepdims=True)

        def bent(given: jax.Array) -> jax.Array:
            curved = weight * probability * (given - jnp.sum(probability * given, 1, keepdims=True))
            back = jnp.sum(probability * self.across * shrunk * curved, 1, keepdims=True)
            return shrunk * (curved + weight * probability * back / jnp.maximum(left, 1e-30))

        return bent


def numbers_lifted(classes: int, features: int) -> int:
    """Numbers that the inverse times one more point takes: of all classes together, or of each apart."""
    return (classes if _together(classes, features) else 1) * classes * features


def _together(classes: int, features: int) -> bool:
    return classes <= _MOST_TOGETHER and classes * features <= _LARGEST_HESSIAN


def known_softmax(
    rows: jax.Array, labels: jax.Array, weight: jax.Array, parameters: jax.Array, ridge: jax.Array, classes: int
) -> KnownSoftmax:
    """What `fit_one_more_softmax` starts from.

    Args:
      rows: ``[points, features]``; labels: ``[points]``; weight: ``[points]``.
      parameters: ``[classes * features]``, of the fit.
      ridge: ``[features]``; classes: their number.
    """
    features = rows.shape[1]
    square = jnp.max(jnp.sum(rows**2, 1))
    present = class_mass(labels, weight[None], classes)[0] > 0
    if classes * features**2 > _LARGEST_BLOCKS:
        return _known(parameters, bound_inverse(rows, weight[None], ridge), jnp.sum(weight) * square + jnp.max(ridge))
    logit = dot("cf,pf->cp", parameters.reshape(classes, -1), rows)
    probability = softmax(logit[None], present[None])[1][0]
    strength = jnp.diag(ridge_in(ridge, present[None])[0])
    # No gradient that is centred has anything to do with a constant in all classes, or with one that is not there.
    # Something has to hold them.
    hold = jnp.maximum(jnp.sum(weight * jnp.max(probability * (1 - probability), 0)), _FLAT)
    last = jnp.zeros((features, features), rows.dtype).at[-1, -1].set(hold)
    if not _together(classes, features):
        curved = weight * probability * (1 - probability)
        lone = jnp.where(jnp.sum(curved, 1) > 1e-3 * hold, 0.0, 1.0)[:, None, None]
        # Of a class that is not there one point has the curvature of one; of members of one class hardly any.
        one = jnp.where(hold > _FLAT, lone, lone * hold)
        found = inverse(weighted_gram(rows)(curved) + strength + one / hold * last)
        return _known(parameters, found, jnp.sum(weight) * square + jnp.max(ridge))
    mixed = jnp.eye(classes)[:, :, None] * probability[:, None] - probability[:, None] * probability
    blocks = weighted_gram(rows)((mixed * weight).reshape(classes * classes, -1))
    blocks = blocks.reshape(classes, classes, features, features)
    # Of a class that is not there one point has the curvature of one, not that of all members.
    held = jnp.diag(~present)[:, :, None, None] / hold * last
    # A feature's penalty may be less than rounding is. More would hold these classes' common way from a new one.
    rounding = 100 * jnp.finfo(rows.dtype).eps * jnp.max(jnp.einsum("ccff->cf", blocks), 0)
    every = jnp.diag(rounding).at[-1, -1].set(hold)
    held += jnp.outer(present, present)[:, :, None, None] / classes * every
    hessian = jnp.moveaxis(blocks + jnp.eye(classes)[:, :, None, None] * strength + held, 2, 1)
    hessian = hessian.reshape(classes * features, classes * features)
    return _known(parameters, inverse(hessian), jnp.max(jnp.diagonal(hessian)) + 1.0)


def _known(parameters: jax.Array, inverse: jax.Array, size: jax.Array) -> KnownSoftmax:
    """With the inverse of a multiple of the identity, the size of a Hessian, where rounding left no inverse of it."""
    sound = jnp.all(jnp.isfinite(inverse))
    return KnownSoftmax(parameters, jnp.where(sound, inverse, jnp.eye(inverse.shape[-1]) / size), sound)


class Pulled(NamedTuple):
    """Points, one a lane, and where they pull a fit that they are not in.

    Attributes:
      own: the points.
      present: bool ``[lanes, classes]``, of the members or of the point.
      metric: what the known inverse makes of each.
      start: ``[lanes, classes * features]``.
      tolerance: relative to that asked for: a bound of the Hessian makes steps short, and so the distance look small.
      sound: bool, of the known inverse.
    """

    own: Own
    present: jax.Array
    metric: _Together | _Apart
    start: jax.Array
    tolerance: float
    sound: jax.Array


def pulled(known: KnownSoftmax, own: Own, mass: jax.Array) -> Pulled:
    """Where points pull a fit if the other points' weights stay as they are.

    Args:
      known: of `known_softmax`; own: the further points, one a lane; mass: ``[classes]``, the members' weight.
    """
    lanes, classes = len(own.x), len(mass)
    present = mass + own.weight[:, None] * jax.nn.one_hot(own.y, classes) > 0
    metric = _metric(known, own.x, classes)
    pull = _own_pulls(dot("lf,cf->lc", own.x, known.parameters.reshape(classes, -1)), metric, present, own)
    start = known.parameters + centred(metric.lift(pull).reshape(lanes, -1), present)
    return Pulled(own, present, metric, start, 0.02 if len(known.inverse) == 1 else 1.0, known.sound)


def fit_one_more_softmax(
    rows: jax.Array, labels: jax.Array, weight: jax.Array, ridge: jax.Array, begun: Pulled, accuracy: Accuracy
) -> Minimum:
    """Softmax regressions of the rows and one point more, each by `descend` from where the point pulls the fit without.

    Preconditioned with the known inverse Hessian and the point's own curvature.

    Args:
      rows: ``[points, features]``; labels: ``[points]``; weight: ``[points]``.
      ridge: ``[features]``; begun: of `pulled`; accuracy: of the fits.

    Returns:
      `Minimum` with parameters ``[lanes, classes * features]``.
    """
    classes = begun.present.shape[1]
    target = jax.nn.one_hot(labels, classes, dtype=rows.dtype).T

    def some(lanes: Any, start: jax.Array, stage: jax.Array | int) -> Minimum:
        own, here, lifted, across = jax.tree.map(
            lambda part: part[lanes], (begun.own, begun.present, begun.metric.lifted, begun.metric.across)
        )
        metric = begun.metric._replace(lifted=lifted, across=across)
        probability = softmax(dot("lcf,lf->lc", start.reshape(len(start), classes, -1), own.x), here)[1]
        bent = metric.bend(probability, own.weight)

        def precondition(gradient: jax.Array) -> jax.Array:
            gradient = centred(gradient, here)  # on both sides, or conjugate directions are none
            step = metric.step(gradient.reshape(len(gradient), classes, -1))
            own_part = bent(dot("lcf,lf->lc", step, own.x))
            return centred((step - metric.lift(own_part)).reshape(gradient.shape), here)

        losses = SoftmaxLosses(rows, target, weight[None], ridge_in(ridge, here), here, own)
        steps = jnp.asarray(accuracy.steps)[stage]
        return descend(losses, start, precondition, begun.tolerance * accuracy.tolerance, steps)

    found = descend_in_stages(some, begun.start, len(accuracy.steps))
    return found._replace(converged=found.converged & begun.sound)


def _metric(known: KnownSoftmax, x: jax.Array, classes: int) -> _Together | _Apart:
    features = x.shape[1]
    if known.inverse.ndim == 2:
        whole = known.inverse.reshape(classes, features, classes, features)
        lifted = dot("lf,cfdg->lcdg", x, whole)
        return _Together(whole, lifted, dot("lcdg,lg->lcd", lifted, x))
    lifted = dot("lf,cfg->lcg", x, known.inverse)
    return _Apart(known.inverse, lifted, dot("lcg,lg->lc", lifted, x))


def _own_pulls(logit: jax.Array, metric: _Metric, present: jax.Array, own: Own) -> jax.Array:
    """``t`` above, ``[lanes, classes]``, nearly: zero in sum.

    Begins at the root where the wrong classes share what is pulled from them as they share their probability, which is
    one equation (`own_residual`). Newton's steps from there are shortened by what they change the logits by: softmax
    losses are self-concordant in that sense (Bach, 2010).
    """
    label = jax.nn.one_hot(own.y, logit.shape[1], dtype=logit.dtype)
    wrong = present & (label == 0)
    inside = jnp.where(wrong, logit, -jnp.inf)
    several = jnp.any(wrong, 1)
    share = softmax(logit, wrong)[1]
    against = jnp.where(several, jax.nn.logsumexp(inside, 1), 0.0)
    direction = label - share
    reach = jnp.sum(direction * metric.reach(direction), 1)
    margin = jnp.sum(label * logit, 1) - against
    pull = jnp.where(several, -own_residual(-margin, reach, own.weight), 0.0)[:, None] * direction

    def newton(_: int, pull: jax.Array) -> jax.Array:
        probability = softmax(logit + metric.reach(pull), present)[1]
        excess = pull - own.weight[:, None] * (label - probability)
        change = metric.bend(probability, own.weight)(metric.reach(excess)) - excess
        far = jnp.max(jnp.abs(metric.reach(change)), 1, keepdims=True)
        return pull + jnp.where(far > 1e-6, jnp.log1p(far) / jnp.maximum(far, 1e-6), 1.0) * change

    pull = jax.lax.fori_loop(0, _OWN, newton, pull)
    return jnp.where(several[:, None] & jnp.isfinite(pull), pull, 0.0)


def _inverse_of_few(matrix: jax.Array) -> jax.Array:
    """Inverses of positive definite ``[lanes, size, size]``, no eigenvalue near zero, by sweeping row after row."""
    size = matrix.shape[1]
    for row in range(size):
        # Of a point that is taken out of a fit that hardly stands without it rounding may leave none.
        pivot = jnp.maximum(matrix[:, row, row], 1e-3)[:, None]
        column = matrix[:, :, row]
        matrix = matrix - column[:, :, None] * column[:, None] / pivot[:, :, None]
        matrix = matrix.at[:, row].set(column / pivot).at[:, :, row].set(column / pivot)
        matrix = matrix.at[:, row, row].set(-1 / pivot[:, 0])
    return -matrix
