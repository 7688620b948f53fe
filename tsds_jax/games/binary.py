"""Logistic regressions of two classes: from nothing, and along the prefixes of an order."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.chunks import cut_short, fit_in_batches, matrices_at_once
from tsds_jax.games.descent import Precondition, descend, trusted_length
from tsds_jax.games.factors import cholesky, factorise, inverse, solve_lower
from tsds_jax.games.newton import Local, Minimum, minimise, settled
from tsds_jax.games.products import dot, row_sums

# Above this many numbers the outer products of all rows are not kept, nor all rows once for each lane: lanes have a
# product each, one after another.
_OUTER_LIMIT = 2**24
# Fewer fits than this are not worth anchors.
_FEW = 32
# Fits that share an anchor.
_GROUP = 50
# A prefix that went so many times further than its anchor's Hessian said has little to do with it.
_TRUST = 8.0
# What a row leaves of one, of the curvature that it is taken from: less is rounding.
_LEAST_PIVOT = 1e-5
# Lanes up to which a Gram matrix each costs less than all outer products.
_FEW_GRAMS = 32


class BinaryLosses(NamedTuple):
    """``sum_i weight_i log(1 + exp(rows_i point)) + sum_f ridge_f point_f^2 / 2`` in every lane (`Losses`).

    Attributes:
      rows: ``[points, features]``, `turned`.
      weight: ``[lanes, points]``.
      ridge: ``[features]``.
      live: bool ``[lanes]``; the other lanes stay where they start.
    """

    rows: jax.Array
    weight: jax.Array
    ridge: jax.Array
    live: jax.Array

    def predict(self, direction: jax.Array) -> jax.Array:
        """Logits ``[lanes, points]``."""
        return dot("lf,pf->lp", direction, self.rows)

    def probabilities(self, prediction: jax.Array) -> jax.Array:
        """Of the wrong label, ``[lanes, points]``."""
        # Left to itself the compiler makes them anew for each use.
        return jax.lax.optimization_barrier(jax.nn.sigmoid(prediction))

    def gradient(self, point: jax.Array, probability: jax.Array) -> jax.Array:
        """``[lanes, features]``."""
        gradient = dot("lp,pf->lf", self.weight * probability, self.rows) + self.ridge * point
        return jnp.where(self.live[:, None], gradient, 0.0)

    def curvature(
        self, point: jax.Array, probability: jax.Array, direction: jax.Array, change: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """``[lanes]``, and lengths ``[lanes]``."""
        curved, square = self.weight * (probability * (1 - probability)), change**2
        fourth = row_sums(jnp.where(self.weight != 0, square**2, 0.0))
        return row_sums(curved * square) + row_sums(self.ridge * direction**2), trusted_length(fourth)


class Anchor(NamedTuple):
    """Fits from which others are reached.

    Attributes:
      parameters: ``[..., features]``.
      inverse: ``[..., features, features]``, of the Hessian there.
      sound: bool ``[...]``, whether it is that.
    """

    parameters: jax.Array
    inverse: jax.Array
    sound: jax.Array


def fit_binary(
    rows: jax.Array, labels: jax.Array, weight: jax.Array, ridge: jax.Array, start: jax.Array | float = 0.0
) -> Minimum:
    """Logistic regressions on weighted copies of the same rows, by Newton's method.

    Args:
      rows: ``[points, features]``, the last column constant one.
      labels: ``[points]``, 0 or 1.
      weight: ``[lanes, points]``, the weight of each point in each fit.
      ridge: ``[features]``, the penalty on each parameter.
      start: parameters ``[features]`` to begin at.

    Returns:
      `Minimum` with parameters ``[lanes, features]``, the intercept last. A lane without two classes of positive weight
      gets the intercept of the rule of succession and zero weights.
    """
    rows = turned(rows, labels)
    mass = class_mass(labels, weight, 2)
    both = jnp.all(mass > 0, 1)
    weight = weight * both[:, None]
    # Lanes without a fit keep a solvable system: an intercept held at zero.
    ridges = jnp.broadcast_to(ridge, (len(weight), len(ridge))).at[:, -1].add(1.0 - both)
    gram = weighted_gram(rows)

    def local(point: jax.Array) -> Local:
        logit = dot("bf,pf->bp", point, rows)
        probability = jax.nn.sigmoid(logit)
        loss = jnp.sum(weight * jax.nn.softplus(logit), 1) + 0.5 * jnp.sum(ridges * point**2, 1)
        gradient = dot("bp,pf->bf", weight * probability, rows) + ridges * point
        hessian = gram(weight * probability * (1 - probability)) + jax.vmap(jnp.diag)(ridges)
        factor, damped = factorise(hessian)
        half = solve_lower(factor, gradient[..., None])
        step = -solve_lower(factor, half, transpose=True)[..., 0]
        return Local(loss, step, ~damped & settled(logit, dot("bf,pf->bp", step, rows), weight))

    fit = minimise(local, jnp.broadcast_to(jnp.asarray(start, rows.dtype), (len(weight), len(ridge))))
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

    most = jnp.max(sizes)
    if len(sizes) < _FEW:
        member = members(weight, sizes)

        def fitted(count: int) -> Minimum:
            def some(lanes: jax.Array) -> Minimum:
                return fit_binary(rows[:count], labels[:count], member[lanes, :count], ridge)

            return fit_in_batches(some, len(sizes), len(ridge))

        # Of several one is often the whole order, as of a chain's ends: not worth what more lengths take to compile.
        return cut_short(fitted, len(rows), most) if len(sizes) == 1 else fitted(len(rows))
    rank = jnp.argsort(jnp.argsort(sizes))
    sizes = jnp.sort(sizes)

    groups = -(-len(sizes) // _GROUP)
    width = -(-len(sizes) // groups) | 1
    padded = jnp.concatenate([sizes, jnp.broadcast_to(sizes[-1], (groups * width - len(sizes),))])
    grouped = padded.reshape(groups, width)
    found = cut_short(
        lambda count: _from_anchors(rows[:count], labels[:count], weight[:count], grouped, ridge), len(rows), most
    )
    member, few = members(weight, padded), min(_FEW_GRAMS, matrices_at_once(len(ridge)))

    def cold(state: tuple[Minimum, jax.Array]) -> tuple[Minimum, jax.Array]:
        found, todo = state
        # Behind the last stands a number that is no lane's: read as the last lane's, and never written.
        index = jnp.nonzero(todo, size=few, fill_value=len(todo))[0]
        # Tied to the loop, or the compiler takes what it can of these fits out of it and makes it always.
        tied, _ = jax.lax.optimization_barrier((member, state))
        new = fit_binary(rows, labels, tied[jnp.minimum(index, len(todo) - 1)], ridge)
        found = jax.tree.map(lambda old, new: old.at[index].set(new, mode="drop"), found, new)
        return found, todo.at[index].set(False, mode="drop")

    found, _ = jax.lax.while_loop(lambda state: jnp.any(state[1]), cold, (found, ~found.converged))
    return jax.tree.map(lambda part: part[rank], found)


def members(weight: jax.Array, sizes: jax.Array) -> jax.Array:
    """The ``weight`` ``[points]`` of each point in each prefix of these ``sizes``, ``[sizes, points]``."""
    return (jnp.arange(len(weight)) < sizes[:, None]) * weight


def _from_anchors(rows: jax.Array, labels: jax.Array, weight: jax.Array, sizes: jax.Array, ridge: jax.Array) -> Minimum:
    """Regressions of prefixes of sizes ``[anchors, width]``, rising, and which of them got there (`fit_prefixes`)."""
    middle = members(weight, sizes[:, sizes.shape[1] // 2])

    def next_one(before: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = fit_binary(rows, labels, weight[None], ridge, before).parameters[0]
        return found, found

    # Each begins at the one before: a fit from zero takes three times the steps.
    _, known = jax.lax.scan(next_one, jnp.zeros_like(ridge), middle)
    signed = turned(rows, labels)
    anchors = anchor(signed, middle, known, ridge)
    start, precondition, sound = neighbours(anchors, signed, weight, sizes)

    member = members(weight, sizes.reshape(-1))
    mass = class_mass(labels, member, 2)
    both = jnp.all(mass > 0, 1)
    losses = BinaryLosses(signed, member, ridge, both & sound)
    found = descend(losses, jnp.where(both[:, None], start, 0.0), precondition, trust=_TRUST)
    parameters = jnp.where(both[:, None], found.parameters, succession(mass, len(ridge)))
    # What another matrix makes of a gradient does not tell how far the minimum is.
    return Minimum(parameters, found.converged & sound | ~both)


def neighbours(
    anchors: Anchor, rows: jax.Array, weight: jax.Array, sizes: jax.Array
) -> tuple[jax.Array, Precondition, jax.Array]:
    """A Newton step from each anchor to the sizes around it, and their Hessians' inverses there.

    With ``H`` the anchor's Hessian and ``x_1, x_2, ...`` the rows that come (or go) one after another on the way to a
    size, each times the root of its weight's curvature, the size's own Hessian has the inverse (Woodbury)

        (H +- sum_{i<=j} x_i x_i')^-1 = H^-1 -+ sum_{i<=j} z_i z_i',    z = L^-1 (x H^-1),    L L' = I +- x H^-1 x',

    for the leading blocks of ``L`` are the factors of the leading blocks: one small factorisation a side serves all
    sizes on it.

    Args:
      anchors: of the sizes in the middle.
      rows: ``[points, features]``, `turned`; weight: ``[points]``.
      sizes: ``[anchors, width]``, rising, an odd number of them.

    Returns:
      Parameters ``[anchors * width, features]``, what takes gradients there to steps, and whether these are steps of
      about the size's own Hessian, bool ``[anchors * width]``. They are not where sizes on the way are several rows
      apart, of which one alone is taken into account, and where a row goes that alone had held some direction: rounding
      has left nothing of what holds it then.
    """
    groups, width = sizes.shape
    middle = width // 2

    def side(sign: jax.Array, index: jax.Array, apart: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """``z`` and the gradients' sums, ``[anchors, sizes on this side, features]``, from the anchor outwards.

        And which are sound. The rows ``index`` come by a ``sign`` of 1, and go by -1.
        """
        x, own = rows[index], (apart > 0) * weight[index]
        p = jax.nn.sigmoid(dot("asf,af->as", x, anchors.parameters))
        gradient = jnp.cumsum((sign * own * p)[..., None] * x, 1)
        x = jnp.sqrt(own * p * (1 - p))[..., None] * x
        across = dot("asf,afg->asg", x, anchors.inverse)
        identity = jnp.eye(x.shape[1], dtype=x.dtype)
        factor = cholesky(identity + sign * dot("asf,atf->ast", across, x))
        z = solve_lower(factor, across)
        fine = jnp.all(jnp.isfinite(z), (1, 2), keepdims=True)
        held = (jnp.diagonal(factor, axis1=1, axis2=2) ** 2 > _LEAST_PIVOT) & (apart <= 1)  # False of a NaN too
        sound = fine[..., 0] & (jnp.cumsum(~held, 1) == 0)
        return jnp.where(fine, z, 0.0), jnp.where(fine, gradient, 0.0), sound

    def outwards(steps: jax.Array) -> jax.Array:
        return jnp.stack([steps[:, :middle][:, ::-1], steps[:, middle:]])

    def along(sides: jax.Array, at_anchor: Callable[[jax.Array], jax.Array]) -> jax.Array:
        return jnp.concatenate([sides[0][:, ::-1], at_anchor(sides[0][:, :1]), sides[1]], 1)

    # Of each size on the way its last row, and how many the size before it is without.
    index, apart = outwards(jnp.maximum(sizes[:, 1:] - 1, 0)), outwards(jnp.diff(sizes))
    z, gradient, sound = jax.vmap(side)(jnp.array([-1.0, 1.0], rows.dtype), index, apart)
    z, gradient = along(z, jnp.zeros_like), along(gradient, jnp.zeros_like)
    sound = along(sound, jnp.ones_like) & anchors.sound[:, None]
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

    return jnp.repeat(anchors.parameters, width, 0) - precondition(gradient), precondition, sound.reshape(-1)


def anchor(rows: jax.Array, weight: jax.Array, parameters: jax.Array, ridge: jax.Array) -> Anchor:
    """Inverse Hessians at ``parameters`` ``[lanes, features]`` of fits of `turned` rows, by ``[lanes, points]``.

    Where one cannot be inverted its place is taken by a multiple of the identity: slow, but a direction down; and it is
    not sound.
    """
    probability = jax.nn.sigmoid(dot("lf,pf->lp", parameters, rows))
    curved = weight * probability * (1 - probability)
    # Nothing holds the intercept of nobody; any number does.
    lone = jnp.where(jnp.sum(curved, 1) > 0, 0.0, 1.0)
    diagonal = jnp.broadcast_to(ridge, parameters.shape).at[:, -1].add(lone)
    hessian = weighted_gram(rows)(curved) + jax.vmap(jnp.diag)(diagonal)
    found = inverse(hessian)
    scale = jnp.max(jnp.diagonal(hessian, axis1=1, axis2=2), 1)[:, None, None]
    sound = jnp.all(jnp.isfinite(found), (1, 2))
    spare = jnp.eye(len(ridge), dtype=rows.dtype) / scale
    return Anchor(parameters, jnp.where(sound[:, None, None], found, spare), sound)


def turned(rows: jax.Array, labels: jax.Array) -> jax.Array:
    """``rows`` ``[points, features]`` with the sign of those of label 1 turned.

    Every loss is then ``log(1 + exp(logit))``, and its derivative the probability of the wrong label. That keeps its
    digits however sure a fit is; one less the probability of the right label has none left at a logit of 16.
    """
    return jnp.where(labels[:, None] == 1, -rows, rows)


def class_mass(labels: jax.Array, weight: jax.Array, classes: int) -> jax.Array:
    """Weight of each class in each lane, ``[lanes, classes]``."""
    return dot("bp,pc->bc", weight, jax.nn.one_hot(labels, classes, dtype=weight.dtype))


def weighted_gram(rows: jax.Array):
    """A function from weights ``[lanes, points]`` to ``rows' diag(weights) rows``, ``[lanes, features, features]``.

    The outer products of the rows make this one matrix product for many lanes: more arithmetic than needed for
    prefixes, all of it at the speed of a large product. Few lanes, and wide rows, have a product each.
    """
    points, features = rows.shape
    square = features * features
    outer = (rows[:, :, None] * rows[:, None, :]).reshape(points, square) if points * square <= _OUTER_LIMIT else None

    def gram(weight: jax.Array) -> jax.Array:
        if len(weight) <= _FEW_GRAMS and weight.size * features <= _OUTER_LIMIT:
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
