"""Logistic regressions of two classes: from nothing, along the prefixes of an order, and with one point more."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.descent import ITERATIONS, TOLERANCE, Precondition, descend, descend_in_stages
from tsds_jax.games.factors import cholesky, inverse, solve_lower
from tsds_jax.games.newton import Local, Minimum, minimise
from tsds_jax.games.products import dot, near, row_sums

# Above this many numbers the outer products of all rows are not kept: each lane has a product of its own.
_OUTER_LIMIT = 2**24
# Fewer fits than this are not worth anchors.
_FEW = 32
# Fits that share an anchor.
_GROUP = 50
# Steps of a search along a line.
_LINE = 4
# Lanes up to which a Gram matrix each costs less than all outer products.
_FEW_GRAMS = 32


class Accuracy(NamedTuple):
    """How well fits with one point more are solved.

    Attributes:
      tolerance: of `descend`.
      steps: iterations in each stage: most fits are done after the first, most others after the next, all at the end.
      product: of arrays of differences, `dot` or `near`.
    """

    tolerance: float | jax.Array
    steps: tuple[int, ...]
    product: Callable[..., jax.Array]


EXACT = Accuracy(TOLERANCE, (3, 6, ITERATIONS), dot)


def close_accuracy() -> Accuracy:
    """That of fits to many points, a thousandth from their minimum or less.

    Rounding decides which of its steps is a fit's last, so the less this one leaves the less results hang on chunks and
    devices. The units of `near` have no digits for more than a thousandth.
    """
    return Accuracy(3e-4 if jax.default_backend() == "cpu" else 1e-3, (1, 4, ITERATIONS), near)


class Own(NamedTuple):
    """A point of its own for each lane: ``x`` is ``[lanes, features]``, ``y`` and ``weight`` are ``[lanes]``."""

    x: jax.Array
    y: jax.Array
    weight: jax.Array


class BinaryLosses(NamedTuple):
    """``sum_i weight_i log(1 + exp(-+ rows_i point)) + sum_f ridge_f point_f^2 / 2`` in every lane (`Losses`).

    Attributes:
      rows: ``[points, features]``.
      target: ``[points]``, 0 or 1.
      weight: ``[lanes, points]``.
      ridge: ``[features]``.
      live: bool ``[lanes]``; the other lanes stay where they start.
    """

    rows: jax.Array
    target: jax.Array
    weight: jax.Array
    ridge: jax.Array
    live: jax.Array

    def predict(self, direction: jax.Array) -> jax.Array:
        """Logits ``[lanes, points]``."""
        return dot("lf,pf->lp", direction, self.rows)

    def probabilities(self, prediction: jax.Array) -> jax.Array:
        """Of label 1, ``[lanes, points]``."""
        # Left to itself the compiler makes them anew for each use.
        return jax.lax.optimization_barrier(jax.nn.sigmoid(prediction))

    def gradient(self, point: jax.Array, probability: jax.Array) -> jax.Array:
        """``[lanes, features]``."""
        gradient = dot("lp,pf->lf", self.weight * (probability - self.target), self.rows) + self.ridge * point
        return jnp.where(self.live[:, None], gradient, 0.0)

    def curvature(self, probability: jax.Array, direction: jax.Array, change: jax.Array) -> jax.Array:
        """``[lanes]``."""
        curved = self.weight * (probability * (1 - probability))
        return row_sums(curved * change**2) + row_sums(self.ridge * direction**2)


class OneMoreLosses(NamedTuple):
    """The losses of some rows and of one further point in each lane, about parameters that are known (`Losses`).

    A lane's variable is the difference from these, and so is all that is computed of the rows: it is small, and so is
    its rounding: products of differences may be `near` ones.

    Attributes:
      rows: ``[points, features]``.
      weight: ``[points]``.
      logit: ``[points]``, of the rows at the known parameters.
      gradient_there: ``[features]``, of the rows' losses and the penalty, likewise; zero but for rounding at a minimum.
      ridge: ``[features]``.
      live: bool ``[lanes]``; the other lanes stay where they start.
      own: a point a lane.
      own_logit: ``[lanes]``, at the known parameters.
      product: `dot`, or `near`.
    """

    rows: jax.Array
    weight: jax.Array
    logit: jax.Array
    gradient_there: jax.Array
    ridge: jax.Array
    live: jax.Array
    own: Own
    own_logit: jax.Array
    product: Callable[..., jax.Array]

    def predict(self, direction: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Changes of the logits ``[lanes, points]``, and of those of the own points ``[lanes]``."""
        return self.product("lf,pf->lp", direction, self.rows), jnp.sum(direction * self.own.x, 1)

    def probabilities(self, prediction: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Of label 1, in the shapes of the predictions."""
        logits = (self.logit + prediction[0], self.own_logit + prediction[1])
        return jax.lax.optimization_barrier(jax.tree.map(jax.nn.sigmoid, logits))

    def gradient(self, point: jax.Array, probability: tuple[jax.Array, jax.Array]) -> jax.Array:
        """``[lanes, features]``."""
        change = self.weight * (probability[0] - jax.nn.sigmoid(self.logit))
        own = (self.own.weight * (probability[1] - self.own.y))[:, None] * self.own.x
        gradient = self.product("lp,pf->lf", change, self.rows) + self.ridge * point + own + self.gradient_there
        return jnp.where(self.live[:, None], gradient, 0.0)

    def curvature(
        self, probability: tuple[jax.Array, jax.Array], direction: jax.Array, change: tuple[jax.Array, jax.Array]
    ) -> jax.Array:
        """``[lanes]``."""
        curved, own = (p * (1 - p) * moved**2 for p, moved in zip(probability, change, strict=True))
        return row_sums(self.weight * curved) + row_sums(self.ridge * direction**2) + self.own.weight * own

    def lowest_along(self, direction: jax.Array, length: jax.Array) -> jax.Array:
        """Lengths ``[lanes]`` of the lowest points along directions, by bounded Newton steps from ``length``."""
        change, own_change = self.predict(direction)
        before = jax.nn.sigmoid(self.logit)
        bend = row_sums(self.ridge * direction**2)
        slope_there = dot("lf,f->l", direction, self.gradient_there)

        def step(_, state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            length, low, high = state
            p = jax.nn.sigmoid(self.logit + length[:, None] * change)
            own = jax.nn.sigmoid(self.own_logit + length * own_change)
            slope = row_sums(self.weight * (p - before) * change) + slope_there + length * bend
            slope += self.own.weight * (own - self.own.y) * own_change
            curvature = row_sums(self.weight * (p * (1 - p)) * change**2) + bend
            curvature += self.own.weight * own * (1 - own) * own_change**2
            low, high = jnp.where(slope < 0, length, low), jnp.where(slope > 0, length, high)
            new = length - slope / jnp.where(curvature > 0, curvature, 1.0)
            return jnp.where((low < new) & (new < high), new, 0.5 * (low + high)), low, high

        # The lowest point is between nothing and what the new point alone would have.
        low, high = jnp.minimum(length, 0.0), jnp.maximum(length, 0.0)
        return jax.lax.fori_loop(0, _LINE, step, (length, low, high))[0]


class Anchor(NamedTuple):
    """Fits from which others are reached.

    Attributes:
      parameters: ``[..., features]``.
      inverse: ``[..., features, features]``, of the Hessian there.
    """

    parameters: jax.Array
    inverse: jax.Array


def fit_binary(rows: jax.Array, labels: jax.Array, weight: jax.Array, ridge: jax.Array) -> Minimum:
    """Logistic regressions on weighted copies of the same rows, by Newton's method from zero.

    Args:
      rows: ``[points, features]``, the last column constant one.
      labels: ``[points]``, 0 or 1.
      weight: ``[lanes, points]``, the weight of each point in each fit.
      ridge: ``[features]``, the penalty on each parameter.

    Returns:
      `Minimum` with parameters ``[lanes, features]``, the intercept last. A lane without two classes of positive weight
      gets the intercept of the rule of succession and zero weights.
    """
    target = labels.astype(rows.dtype)
    sign = 1 - 2 * target
    mass = class_mass(labels, weight, 2)
    both = jnp.all(mass > 0, 1)
    weight = weight * both[:, None]
    # Lanes without a fit keep a solvable system: an intercept held at zero.
    ridges = jnp.broadcast_to(ridge, (len(weight), len(ridge))).at[:, -1].add(1.0 - both)
    gram = weighted_gram(rows)

    def local(point: jax.Array) -> Local:
        logit = dot("bf,pf->bp", point, rows)
        probability = jax.nn.sigmoid(logit)
        loss = jnp.sum(weight * jax.nn.softplus(sign * logit), 1) + 0.5 * jnp.sum(ridges * point**2, 1)
        gradient = dot("bp,pf->bf", weight * (probability - target), rows) + ridges * point
        hessian = gram(weight * probability * (1 - probability)) + jax.vmap(jnp.diag)(ridges)
        factor = cholesky(hessian)
        half = solve_lower(factor, gradient[..., None])
        return Local(loss, -solve_lower(factor, half, transpose=True)[..., 0])

    fit = minimise(local, jnp.zeros((len(weight), len(ridge)), rows.dtype))
    return fit._replace(parameters=jnp.where(both[:, None], fit.parameters, succession(mass, len(ridge))))


def fit_prefixes(rows: jax.Array, labels: jax.Array, weight: jax.Array, sizes: jax.Array, ridge: jax.Array) -> Minimum:
    """Logistic regressions of ``rows[:k]`` for each ``k`` in ``sizes``: those of `fit_binary`, in less time.

    Neighbouring sizes share an anchor, the fit to the middle one by `fit_binary`. Each starts at its own Newton step
    from there (`neighbours`) and descends (`descend`). Whatever does not get there is fitted by `fit_binary` after all.

    Args:
      rows: ``[points, features]``, the last column constant one.
      labels: ``[points]``, 0 or 1.
      weight: ``[points]``.
      sizes: ``[sizes]``, each from 0 to ``points``.
      ridge: ``[features]``.
    """

    def weights(sizes: jax.Array) -> jax.Array:
        return (jnp.arange(len(rows)) < sizes[:, None]) * weight

    if len(sizes) < _FEW:
        return fit_binary(rows, labels, weights(sizes), ridge)
    rank = jnp.argsort(jnp.argsort(sizes))
    sizes = jnp.sort(sizes)

    groups = -(-len(sizes) // _GROUP)
    width = -(-len(sizes) // groups)
    padded = jnp.concatenate([sizes, jnp.broadcast_to(sizes[-1], (groups * width - len(sizes),))])
    grouped = padded.reshape(groups, width)
    middle = weights(grouped[:, width // 2])
    anchors = anchor(rows, middle, fit_binary(rows, labels, middle, ridge).parameters, ridge)
    target = labels.astype(rows.dtype)
    start, precondition = neighbours(anchors, rows, target, weight, grouped)

    member = weights(padded)
    mass = class_mass(labels, member, 2)
    both = jnp.all(mass > 0, 1)
    losses = BinaryLosses(rows, target, member, ridge, both)
    found = descend(losses, jnp.where(both[:, None], start, 0.0), precondition)
    found = found._replace(parameters=jnp.where(both[:, None], found.parameters, succession(mass, len(ridge))))

    # A loop where a condition would do: mapped over chains, a condition would always take both ways.
    def again(state: tuple[Minimum, jax.Array]) -> tuple[Minimum, jax.Array]:
        # Tied to the loop, or the compiler takes these fits out of it and makes them always.
        found, _ = state
        tied, _ = jax.lax.optimization_barrier((member, state))
        cold = fit_binary(rows, labels, tied, ridge)
        keep = found.converged
        parameters = jnp.where(keep[:, None], found.parameters, cold.parameters)
        return Minimum(parameters, keep | cold.converged), jnp.asarray(True)

    found, _ = jax.lax.while_loop(
        lambda state: ~jnp.all(state[0].converged) & ~state[1], again, (found, jnp.asarray(False))
    )
    return jax.tree.map(lambda part: part[rank], found)


def neighbours(
    anchors: Anchor, rows: jax.Array, target: jax.Array, weight: jax.Array, sizes: jax.Array
) -> tuple[jax.Array, Precondition]:
    """A Newton step from each anchor to the sizes around it, and their Hessians' inverses there.

    With ``H`` the anchor's Hessian and ``x_1, x_2, ...`` the rows that come (or go) one after another on the way to a
    size, each times the root of its weight's curvature, the size's own Hessian has the inverse (Woodbury)

        (H +- sum_{i<=j} x_i x_i')^-1 = H^-1 -+ sum_{i<=j} z_i z_i',    z = L^-1 (x H^-1),    L L' = I +- x H^-1 x',

    for the leading blocks of ``L`` are the factors of the leading blocks: one small factorisation a side serves all
    sizes on it. Of sizes that are several rows apart only the last row counts; nothing is exact then, nor need it be.

    Args:
      anchors: of the sizes in the middle.
      rows: ``[points, features]``; target: ``[points]``, 0 or 1; weight: ``[points]``.
      sizes: ``[anchors, width]``, rising.

    Returns:
      Parameters ``[anchors * width, features]``, and what takes gradients there to steps.
    """
    groups, width = sizes.shape
    middle = width // 2

    def side(come: bool) -> tuple[jax.Array, jax.Array]:
        """``z`` and the gradients' sums, ``[anchors, sizes on this side, features]``, from the anchor outwards."""
        # Of each size on the way its last row, and whether the size before it is without.
        index, moved = jnp.maximum(sizes[:, 1:] - 1, 0), jnp.diff(sizes) > 0
        here = slice(middle, None) if come else slice(middle - 1, None, -1) if middle else slice(0)
        index, moved = index[:, here], moved[:, here]
        x, own = rows[index], moved * weight[index]
        p = jax.nn.sigmoid(dot("asf,af->as", x, anchors.parameters))
        sign = 1.0 if come else -1.0
        gradient = jnp.cumsum((sign * own * (p - target[index]))[..., None] * x, 1)
        x = jnp.sqrt(own * p * (1 - p))[..., None] * x
        across = dot("asf,afg->asg", x, anchors.inverse)
        identity = jnp.eye(x.shape[1], dtype=x.dtype)
        z = solve_lower(cholesky(identity + sign * dot("asf,atf->ast", across, x)), across)
        fine = jnp.all(jnp.isfinite(z), (1, 2), keepdims=True)
        return jnp.where(fine, z, 0.0), jnp.where(fine, gradient, 0.0)

    gone, came = side(False), side(True)
    z = jnp.concatenate([gone[0][:, ::-1], jnp.zeros_like(gone[0][:, :1]), came[0]], 1)
    gradient = jnp.concatenate([gone[1][:, ::-1], jnp.zeros_like(gone[1][:, :1]), came[1]], 1)
    place = np.arange(width)
    # Between the anchor and a size, itself included, lie the rows that make the difference: taken, or given back.
    added = (place[:, None] >= place) & (place > middle)
    taken = (place[:, None] <= place) & (place < middle)
    between = jnp.asarray(added.astype(np.float32) - taken, z.dtype)

    def precondition(gradient: jax.Array) -> jax.Array:
        gradient = gradient.reshape(groups, width, -1)
        share = dot("awf,avf->awv", gradient, z) * between
        step = dot("awf,afg->awg", gradient, anchors.inverse) - dot("awv,avf->awf", share, z)
        return step.reshape(groups * width, -1)

    return jnp.repeat(anchors.parameters, width, 0) - precondition(gradient), precondition


def anchor(rows: jax.Array, weight: jax.Array, parameters: jax.Array, ridge: jax.Array) -> Anchor:
    """Inverse Hessians at ``parameters`` ``[lanes, features]`` of fits with ``weight`` ``[lanes, points]``.

    Where one cannot be inverted its place is taken by a multiple of the identity: slow, but a direction down.
    """
    probability = jax.nn.sigmoid(dot("lf,pf->lp", parameters, rows))
    curved = weight * probability * (1 - probability)
    # Nothing holds the intercept of nobody; any number does.
    lone = jnp.where(jnp.sum(curved, 1) > 0, 0.0, 1.0)
    diagonal = jnp.broadcast_to(ridge, parameters.shape).at[:, -1].add(lone)
    hessian = weighted_gram(rows)(curved) + jax.vmap(jnp.diag)(diagonal)
    found = inverse(hessian)
    scale = jnp.max(jnp.diagonal(hessian, axis1=1, axis2=2), 1)[:, None, None]
    fine = jnp.all(jnp.isfinite(found), (1, 2), keepdims=True)
    return Anchor(parameters, jnp.where(fine, found, jnp.eye(len(ridge), dtype=rows.dtype) / scale))


class OneMore(NamedTuple):
    """Regressions of some rows and of one point more each.

    Attributes:
      change: ``[lanes, features]``, of the parameters.
      both: bool ``[lanes]``, whether two classes are there; without meaning for lanes where they are not is ``change``.
      log_odds: ``[lanes]``, of the second class where they are not, by the rule of succession.
      converged: bool ``[lanes]``.
    """

    change: jax.Array
    both: jax.Array
    log_odds: jax.Array
    converged: jax.Array


def fit_one_more(
    rows: jax.Array,
    labels: jax.Array,
    weight: jax.Array,
    known: Anchor,
    ridge: jax.Array,
    own: Own,
    accuracy: Accuracy,
) -> OneMore:
    """Logistic regressions of the rows and one point more, each from the fit without it.

    With ``H`` the Hessian of the fit ``beta`` without it, the fit with point ``(x, y)`` is ``beta + t H^-1 x`` up to
    the change of the other points' weights, where ``t = y - sigmoid(x beta + t x H^-1 x)``, a scalar equation that is
    solved exactly. `descend` takes out what the change of weights leaves, preconditioned with ``H`` and the new
    point's own rank-one term; the error before it falls as the square of the number of rows.

    Args:
      rows: ``[points, features]``; labels: ``[points]``; weight: ``[points]``.
      known: parameters ``[features]`` of the fit without, and its inverse Hessian ``[features, features]``; zeros and
        what holds there, where the rows are of one class.
      ridge: ``[features]``.
      own: the further points, one a lane.
      accuracy: of the fits.
    """
    product = accuracy.product
    direction = product("lf,fg->lg", own.x, known.inverse)
    reach = jnp.sum(direction * own.x, 1)
    there, own_logit = dot("pf,f->p", rows, known.parameters), dot("lf,f->l", own.x, known.parameters)
    excess = weight * (jax.nn.sigmoid(there) - labels.astype(rows.dtype))
    gradient_there = dot("p,pf->f", excess, rows) + ridge * known.parameters

    def newton(_, t: jax.Array) -> jax.Array:
        p = jax.nn.sigmoid(own_logit + t * reach)
        change = (t - own.weight * (own.y - p)) / (1 + own.weight * reach * p * (1 - p))
        return jnp.clip(t - change, own.weight * (own.y - 1), own.weight * own.y)

    t = jax.lax.fori_loop(0, 8, newton, jnp.zeros_like(own_logit))
    mass = class_mass(labels, weight[None], 2) + own.weight[:, None] * jax.nn.one_hot(own.y, 2, dtype=rows.dtype)
    both = jnp.all(mass > 0, 1)

    def some(lanes: jax.Array, start: jax.Array, stage: jax.Array) -> Minimum:
        mine, logit, along, length, live = jax.tree.map(lambda part: part[lanes], (own, own_logit, direction, t, both))
        losses = OneMoreLosses(rows, weight, there, gradient_there, ridge, live, mine, logit, product)
        # Where the other points' weights change much, the first step went too far: back to it, and not so far.
        start = jax.lax.cond(stage == 1, lambda: losses.lowest_along(along, length)[:, None] * along, lambda: start)
        p = jax.nn.sigmoid(logit + jnp.sum(start * mine.x, 1))
        curved = mine.weight * p * (1 - p)
        share = curved / (1 + curved * jnp.sum(along * mine.x, 1))

        def precondition(gradient: jax.Array) -> jax.Array:
            plain = product("lf,fg->lg", gradient, known.inverse)
            return plain - (share * jnp.sum(plain * mine.x, 1))[:, None] * along

        most = jnp.asarray(accuracy.steps)[stage]
        return descend(losses, start, precondition, accuracy.tolerance, most, about=known.parameters)

    found = descend_in_stages(some, t[:, None] * direction, len(accuracy.steps))
    return OneMore(found.parameters, both, succession_odds(mass), found.converged | ~both)


def class_mass(labels: jax.Array, weight: jax.Array, classes: int) -> jax.Array:
    """Weight of each class in each lane, ``[lanes, classes]``."""
    return dot("bp,pc->bc", weight, jax.nn.one_hot(labels, classes, dtype=weight.dtype))


def weighted_gram(rows: jax.Array):
    """A function from weights ``[lanes, points]`` to ``rows' diag(weights) rows``, ``[lanes, features, features]``.

    The outer products of the rows make this one matrix product for many lanes: more arithmetic than needed for
    prefixes, all of it at the speed of a large product. Few lanes have a product each.
    """
    points, features = rows.shape
    square = features * features
    outer = (rows[:, :, None] * rows[:, None, :]).reshape(points, square) if points * square <= _OUTER_LIMIT else None

    def gram(weight: jax.Array) -> jax.Array:
        if len(weight) <= _FEW_GRAMS:
            return dot("bpf,pg->bfg", weight[:, :, None] * rows, rows)
        if outer is not None:
            return dot("bp,pq->bq", weight, outer).reshape(-1, features, features)
        return jax.lax.map(lambda one: dot("pf,pg->fg", rows * one[:, None], rows), weight)

    return gram


def succession(mass: jax.Array, features: int) -> jax.Array:
    """Parameters that give the second class the odds of `succession_odds`, ``[lanes, features]``."""
    return jnp.zeros((len(mass), features), mass.dtype).at[:, -1].set(succession_odds(mass))


def succession_odds(mass: jax.Array) -> jax.Array:
    """Logarithm of the odds ``(1 + second class' mass) / (1 + first's)``, ``[lanes]``, of masses ``[lanes, 2]``."""
    return jnp.log1p(mass[:, 1]) - jnp.log1p(mass[:, 0])
