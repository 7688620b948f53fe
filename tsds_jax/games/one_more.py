"""Logistic regressions of two classes with one point more, each from the fit without it, many at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tsds_jax.games.binary import Anchor, class_mass, succession_odds
from tsds_jax.games.descent import ITERATIONS, TOLERANCE, descend, descend_in_stages
from tsds_jax.games.fused import LANES, LEAST, curvature_sums, fits_in_kernel, gradient_sums
from tsds_jax.games.newton import Minimum
from tsds_jax.games.products import dot, near, row_sums

# Newton steps to a point's own residual; three reach float32's digits.
_OWN = 4
# Features are turned into the span of the rows where they are so many times as many.
_WORTH = 1.25


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

    def predict(self, direction: jax.Array) -> Any:
        """Changes of the logits ``[lanes, points]``, and of those of the own points ``[lanes]``."""
        return self.product("lf,pf->lp", direction, self.rows), jnp.sum(direction * self.own.x, 1)

    def probabilities(self, prediction: Any) -> Any:
        """Of label 1, in the shapes of the predictions."""
        logits = (self.logit + prediction[0], self.own_logit + prediction[1])
        return jax.lax.optimization_barrier(jax.tree.map(jax.nn.sigmoid, logits))

    def gradient(self, point: jax.Array, probability: Any) -> jax.Array:
        """``[lanes, features]``."""
        change = self.weight * (probability[0] - jax.nn.sigmoid(self.logit))
        return self.whole_gradient(self.product("lp,pf->lf", change, self.rows), point, probability[1])

    def curvature(self, point: jax.Array, probability: Any, direction: jax.Array, change: Any) -> jax.Array:
        """``[lanes]``."""
        bend = probability[0] * (1 - probability[0]) * change[0] ** 2
        return self.whole_curvature(row_sums(self.weight * bend), direction, probability[1], change[1])

    def whole_gradient(self, rows: jax.Array, point: jax.Array, own: jax.Array) -> jax.Array:
        """With the penalty's and the own points' to that of the rows, of which the known one is not part."""
        own_part = (self.own.weight * (own - self.own.y))[:, None] * self.own.x
        return jnp.where(self.live[:, None], rows + self.ridge * point + own_part + self.gradient_there, 0.0)

    def whole_curvature(self, rows: jax.Array, direction: jax.Array, own: jax.Array, change: jax.Array) -> jax.Array:
        """With the penalty's and the own points' to that of the rows."""
        return rows + row_sums(self.ridge * direction**2) + self.own.weight * (own * (1 - own) * change**2)


class FusedLosses(OneMoreLosses):
    """The same by kernels, which keep no predictions of rows and make them anew for each sum."""

    def predict(self, direction: jax.Array) -> Any:
        """Changes of the logits of the own points ``[lanes]``."""
        return jnp.sum(direction * self.own.x, 1)

    def probabilities(self, prediction: Any) -> Any:
        """Of label 1, in the shapes of the predictions."""
        return jax.nn.sigmoid(self.own_logit + prediction)

    def gradient(self, point: jax.Array, probability: Any) -> jax.Array:
        """``[lanes, features]``."""
        rows = gradient_sums(point, self.rows, self.weight, self.logit, near=self.product is near)
        return self.whole_gradient(rows, point, probability)

    def curvature(self, point: jax.Array, probability: Any, direction: jax.Array, change: Any) -> jax.Array:
        """``[lanes]``."""
        rows = curvature_sums(point, direction, self.rows, self.weight, self.logit, near=self.product is near)
        return self.whole_curvature(rows, direction, probability, change)


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
    fit = _fit_in_span if _WORTH * (len(rows) + 2) <= rows.shape[1] else _fit
    return fit(rows, labels, weight, known, ridge, own, accuracy)


def own_residual(logit: jax.Array, reach: jax.Array, own: Own) -> jax.Array:
    """``t = weight (y - sigmoid(logit + t reach))``, ``[lanes]``: how hard a new point pulls at the fit without it.

    With ``z`` the logit there, its sign turned for label 1, it is ``z + pull sigmoid(z) = far`` of a function that
    rises. From above, and while ``z <= 0``, Newton's steps overshoot nothing; where they begin the sigmoid is its tail,
    ``pull exp(z) = far - z``, within a factor of two. A root above 0 is the mirror image of one below. Begun at
    ``logit`` they would jump from one tail of the sigmoid to the other for points that are far on the wrong side.

    Args:
      logit: ``[lanes]``, of the points by the fit without them.
      reach: ``[lanes]``, what a pull of one adds to it.
      own: the points. Those of negative weight are in the fit already: they begin where they are.
    """
    sign = 1 - 2 * own.y
    pull, far = own.weight * reach, sign * logit
    mirrored = (pull > 0) & (far > 0.5 * pull)
    goal = jnp.where(mirrored, pull - far, far)
    log_pull = jnp.log(jnp.maximum(pull, 1e-30))
    tail = jnp.minimum(jnp.log(jnp.maximum(goal + log_pull, 1.0)) - log_pull, 0.0)
    start = jnp.where(pull > 0, tail, goal)

    def newton(_: int, z: jax.Array) -> jax.Array:
        p = jax.nn.sigmoid(z)
        return z - (z + pull * p - goal) / (1 + pull * p * (1 - p))

    z = jax.lax.fori_loop(0, _OWN, newton, start)
    return -sign * own.weight * jax.nn.sigmoid(jnp.where(mirrored, -z, z))


def _fit_in_span(
    rows: jax.Array, labels: jax.Array, weight: jax.Array, known: Anchor, ridge: jax.Array, own: Own, accuracy: Accuracy
) -> OneMore:
    """`_fit` in fewer features: those that the rows span, what a lane's own point has beyond, the constant.

    The penalty is the same in all directions but the constant's, so the weights of a fit are a sum of the rows and of
    the point (the representer theorem), and orthonormal coordinates of these change nothing.
    """
    spanning, _ = jnp.linalg.qr(rows[:, :-1].T)  # [features - 1, points]
    inside = dot("lf,fs->ls", own.x[:, :-1], spanning)
    beyond = own.x[:, :-1] - dot("ls,fs->lf", inside, spanning)
    height = jnp.sqrt(row_sums(beyond**2))

    def turned(features: jax.Array) -> jax.Array:
        """Of what lies in the span, with the constant, in the new coordinates: along the last axis."""
        within = dot("...f,fs->...s", features[..., :-1], spanning)
        return jnp.concatenate([within, jnp.zeros_like(within[..., :1]), features[..., -1:]], -1)

    count = len(rows)
    inverse = turned(turned(known.inverse).T).at[count, count].set(1 / ridge[0])
    found = _fit(
        turned(rows),
        labels,
        weight,
        Anchor(turned(known.parameters), inverse),
        jnp.concatenate([jnp.broadcast_to(ridge[0], (count + 1,)), ridge[-1:]]),
        Own(jnp.concatenate([inside, height[:, None], own.x[:, -1:]], 1), own.y, own.weight),
        accuracy,
    )
    along = jnp.where(height > 0, found.change[:, count] / jnp.where(height > 0, height, 1.0), 0.0)
    change = dot("ls,fs->lf", found.change[:, :count], spanning) + along[:, None] * beyond
    return found._replace(change=jnp.concatenate([change, found.change[:, -1:]], 1))


def _fit(
    rows: jax.Array, labels: jax.Array, weight: jax.Array, known: Anchor, ridge: jax.Array, own: Own, accuracy: Accuracy
) -> OneMore:
    lanes, features = own.x.shape
    product, fused = accuracy.product, fits_in_kernel(rows)
    kind = FusedLosses if fused else OneMoreLosses
    if fused:
        rows, known, ridge, own = _padded(rows, known, ridge, own)
    direction = product("lf,fg->lg", own.x, known.inverse)
    reach = jnp.sum(direction * own.x, 1)
    there, own_logit = dot("pf,f->p", rows, known.parameters), dot("lf,f->l", own.x, known.parameters)
    excess = weight * (jax.nn.sigmoid(there) - labels.astype(rows.dtype))
    gradient_there = dot("p,pf->f", excess, rows) + ridge * known.parameters

    t = own_residual(own_logit, reach, own)
    mass = class_mass(labels, weight[None], 2) + own.weight[:, None] * jax.nn.one_hot(own.y, 2, dtype=rows.dtype)
    both = jnp.all(mass > 0, 1)

    def some(lanes: Any, start: jax.Array, stage: jax.Array) -> Minimum:
        mine, logit, along, live = jax.tree.map(lambda part: part[lanes], (own, own_logit, direction, both))
        losses = kind(rows, weight, there, gradient_there, ridge, live, mine, logit, product)
        p = jax.nn.sigmoid(logit + jnp.sum(start * mine.x, 1))
        curved = mine.weight * p * (1 - p)
        share = curved / (1 + curved * jnp.sum(along * mine.x, 1))

        def precondition(gradient: jax.Array) -> jax.Array:
            plain = product("lf,fg->lg", gradient, known.inverse)
            return plain - (share * jnp.sum(plain * mine.x, 1))[:, None] * along

        most = jnp.asarray(accuracy.steps)[stage]
        return descend(losses, start, precondition, accuracy.tolerance, most, about=known.parameters)

    found = descend_in_stages(some, t[:, None] * direction, len(accuracy.steps), LANES if fused else None)
    more = OneMore(found.parameters[:, :features], both, succession_odds(mass), found.converged | ~both)
    return jax.tree.map(lambda part: part[:lanes], more)


def _padded(rows: jax.Array, known: Anchor, ridge: jax.Array, own: Own) -> tuple[jax.Array, Anchor, jax.Array, Own]:
    """The same with features that are zero and copies of the last lane, up to what kernels take."""
    lanes, features = own.x.shape
    spare = (0, -features % LEAST)
    copied = jnp.minimum(jnp.arange(-(-lanes // LANES) * LANES), lanes - 1)
    x, y, weight = jax.tree.map(lambda part: part[copied], own)
    wider = Anchor(jnp.pad(known.parameters, spare), jnp.pad(known.inverse, (spare, spare)))
    across = ((0, 0), spare)
    return jnp.pad(rows, across), wider, jnp.pad(ridge, spare), Own(jnp.pad(x, across), y, weight)
