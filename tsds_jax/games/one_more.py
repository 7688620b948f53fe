"""Logistic regressions of two classes with one point more, each from the fit without it, many at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tsds_jax.games.binary import class_mass, succession_odds, turned
from tsds_jax.games.descent import ITERATIONS, TOLERANCE, descend, descend_in_stages, trusted_length
from tsds_jax.games.factors import cholesky, solve_lower
from tsds_jax.games.fused import LANES, LEAST, curvature, curvature_sums, fits_in_kernel, gradient_sums
from tsds_jax.games.newton import Minimum
from tsds_jax.games.products import dot, near, row_sums

# Newton steps to a point's own residual; three reach float32's digits.
_OWN = 4
# Features are turned into the span of the rows where they are so many times as many.
_WORTH = 1.25
# Steps that improve a root of the inverse Hessian, at most; where they end, and where they must.
_IMPROVED, _ROUNDING, _SOUND = 60, 1e-5, 1e-2


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


class KnownBinary(NamedTuple):
    """A fit, and coordinates about it in which its Hessian is the identity: parameters are ``root`` times these.

    Attributes:
      parameters: ``[features]``.
      root: ``[features, features]``, with ``root root'`` the inverse Hessian.
      gradient: ``[features]``, of the fit's own loss there, in the new coordinates: zero but for rounding at a minimum.
      place: ``[features]``, the parameters in the new coordinates.
      sound: bool, whether the Hessian is the identity there; nothing found in other coordinates is a minimum.
    """

    parameters: jax.Array
    root: jax.Array
    gradient: jax.Array
    place: jax.Array
    sound: jax.Array


class Own(NamedTuple):
    """A point of its own for each lane: ``x`` is ``[lanes, features]``, ``y`` and ``weight`` are ``[lanes]``."""

    x: jax.Array
    y: jax.Array
    weight: jax.Array


class OneMoreLosses(NamedTuple):
    """The losses of some rows and of one further point in each lane, about parameters that are known (`Losses`).

    A lane's variable ``u`` is the difference from these, in coordinates in which the Hessian of rows and penalty is the
    identity there. So their loss is ``|u|^2 / 2``, and what the rows' curvature changes on the way: of the rows only
    that is computed. It is small, and so is its rounding: products of differences may be `near` ones.

    Attributes:
      rows: ``[points, features]``, those of label 1 with their sign `turned`; so are the own points' ``x``.
      weight: ``[points]``.
      logit: ``[points]``, of the rows at the known parameters.
      gradient_there: ``[features]``, of rows and penalty, likewise; zero but for rounding at a minimum.
      live: bool ``[lanes]``; the other lanes stay where they start.
      own: a point a lane.
      own_logit: ``[lanes]``, at the known parameters.
      product: `dot`, or `near`.
    """

    rows: jax.Array
    weight: jax.Array
    logit: jax.Array
    gradient_there: jax.Array
    live: jax.Array
    own: Own
    own_logit: jax.Array
    product: Callable[..., jax.Array]

    def predict(self, direction: jax.Array) -> Any:
        """Changes of the logits ``[lanes, points]``, and of those of the own points ``[lanes]``."""
        return self.product("lf,pf->lp", direction, self.rows), row_sums(direction * self.own.x)

    def probabilities(self, prediction: Any) -> Any:
        """What the rows bend and what their curvature gains, ``[lanes, points]``; of wrong labels, ``[lanes]``."""
        known, there = jax.nn.sigmoid(self.logit), curvature(self.logit)
        p = jax.lax.optimization_barrier(jax.nn.sigmoid(self.logit + prediction[0]))
        bend = self.weight * (p - known - there * prediction[0])
        return bend, self.weight * (p * (1 - p) - there), jax.nn.sigmoid(self.own_logit + prediction[1])

    def gradient(self, point: jax.Array, probability: Any) -> jax.Array:
        """``[lanes, features]``."""
        return self.whole_gradient(self.product("lp,pf->lf", probability[0], self.rows), point, probability[2])

    def curvature(
        self, point: jax.Array, probability: Any, direction: jax.Array, change: Any
    ) -> tuple[jax.Array, jax.Array]:
        """``[lanes]``, and lengths ``[lanes]``."""
        square = change[0] ** 2
        rows = row_sums(probability[1] * square), row_sums(jnp.where(self.weight != 0, square**2, 0.0))
        return self.whole_curvature(*rows, direction, probability[2], change[1])

    def whole_gradient(self, rows: jax.Array, point: jax.Array, own: jax.Array) -> jax.Array:
        """With the known Hessian's part and the own points' to what the rows' bend makes."""
        own_part = (self.own.weight * own)[:, None] * self.own.x
        return jnp.where(self.live[:, None], rows + point + own_part + self.gradient_there, 0.0)

    def whole_curvature(
        self, rows: jax.Array, fourth: jax.Array, direction: jax.Array, own: jax.Array, change: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """With the known Hessian's part and the own points' to what the rows' bend makes; trusted lengths."""
        found = rows + row_sums(direction**2) + self.own.weight * (own * (1 - own) * change**2)
        return found, trusted_length(fourth)


class FusedLosses(OneMoreLosses):
    """The same by kernels, which keep no predictions of rows and make them anew for each sum."""

    def predict(self, direction: jax.Array) -> Any:
        """Changes of the logits of the own points ``[lanes]``."""
        return row_sums(direction * self.own.x)

    def probabilities(self, prediction: Any) -> Any:
        """Of wrong labels, in the shapes of the predictions."""
        return jax.nn.sigmoid(self.own_logit + prediction)

    def gradient(self, point: jax.Array, probability: Any) -> jax.Array:
        """``[lanes, features]``."""
        rows = gradient_sums(point, self.rows, self.weight, self.logit, near=self.product is near)
        return self.whole_gradient(rows, point, probability)

    def curvature(
        self, point: jax.Array, probability: Any, direction: jax.Array, change: Any
    ) -> tuple[jax.Array, jax.Array]:
        """``[lanes]``, and lengths ``[lanes]``."""
        rows = curvature_sums(point, direction, self.rows, self.weight, self.logit, near=self.product is near)
        return self.whole_curvature(*rows, direction, probability, change)


class OneMore(NamedTuple):
    """Regressions of some rows and of one point more each.

    Attributes:
      change: ``[lanes, features or more]``, of the parameters, in the coordinates of ``root``.
      root: ``[features, features or more]``: ``change root'`` is the change of the parameters.
      both: bool ``[lanes]``, whether two classes are there; without meaning for lanes where they are not is ``change``.
      log_odds: ``[lanes]``, of the second class where they are not, by the rule of succession.
      converged: bool ``[lanes]``.
    """

    change: jax.Array
    root: jax.Array
    both: jax.Array
    log_odds: jax.Array
    converged: jax.Array


class _Fits(NamedTuple):
    """What fits with one point more are made from, in coordinates in which the Hessian without is the identity."""

    rows: jax.Array
    weight: jax.Array
    logit: jax.Array
    gradient: jax.Array  # without the point
    place: jax.Array  # of the fit without
    own: Own
    both: jax.Array


def known_fit(
    rows: jax.Array, labels: jax.Array, weight: jax.Array, parameters: jax.Array, ridge: jax.Array
) -> KnownBinary:
    """The coordinates about a fit.

    The root of the inverse Hessian is a Cholesky factor's, or where there is none a multiple of the identity, improved
    by Newton and Schulz's steps, ``R - R (R' H R - 1) / 2``. Computed from ``rows R`` and the root of the penalty times
    ``R`` what these leave is the rounding of sums of order one, however ill-conditioned ``H`` is.

    Args:
      rows: ``[points, features]``; labels: ``[points]``; weight: ``[points]``.
      parameters: ``[features]``, of the fit.
      ridge: ``[features]``.
    """
    rows = turned(rows, labels)
    logit = dot("pf,f->p", rows, parameters)
    curved = weight * curvature(logit)
    # Nothing holds the intercept of nobody; any number does.
    ridge_there = ridge.at[-1].add(jnp.where(jnp.sum(curved) > 0, 0.0, 1.0))
    hessian = dot("pf,pg->fg", curved[:, None] * rows, rows) + jnp.diag(ridge_there)
    identity = jnp.eye(len(ridge), dtype=rows.dtype)
    root = solve_lower(cholesky(hessian), identity).T
    spare = identity / jnp.sqrt(jnp.trace(hessian))
    root = jnp.where(jnp.all(jnp.isfinite(root)), root, spare)

    def beyond(root: jax.Array) -> jax.Array:
        across = dot("pf,fg->pg", rows, root)
        rows_part = dot("pf,pg->fg", curved[:, None] * across, across)
        return rows_part + dot("gf,gh->fh", ridge_there[:, None] * root, root) - identity

    def off(excess: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(excess))

    def better(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        root, excess, step = state
        root = root - 0.5 * dot("fg,gh->fh", root, excess)
        return root, beyond(root), step + 1

    root, excess, _ = jax.lax.while_loop(
        lambda state: (off(state[1]) > _ROUNDING) & (state[2] < _IMPROVED),
        better,
        (root, beyond(root), jnp.zeros((), jnp.int32)),
    )
    # Steps from a root that is too long go astray.
    root = jnp.where(jnp.all(jnp.isfinite(root)), root, spare)
    across, penalty = dot("pf,fg->pg", rows, root), dot("f,fg->g", ridge * parameters, root)
    gradient = dot("p,pg->g", weight * jax.nn.sigmoid(logit), across) + penalty
    # The inverse of the root is its transpose times the Hessian.
    place = dot("p,pg->g", curved * logit, across) + penalty
    return KnownBinary(parameters, root, gradient, place, off(excess) < _SOUND)


def fit_one_more(
    rows: jax.Array, labels: jax.Array, weight: jax.Array, known: KnownBinary, own: Own, accuracy: Accuracy
) -> OneMore:
    """Logistic regressions of the rows and one point more, each from the fit without it.

    In coordinates in which the Hessian of the fit without is the identity, the fit with point ``x``, `turned`, differs
    by ``t x`` up to the change of the other points' weights, where ``t = -sigmoid(logit + t |x|^2)``, a scalar equation
    that is solved exactly. `descend` takes out what the change of weights leaves, preconditioned with the new point's
    own rank-one term; the error before it falls as the square of the number of rows.

    Args:
      rows: ``[points, features]``; labels: ``[points]``; weight: ``[points]``.
      known: the fit without; where the rows are of one class that of the rule of succession, or zeros.
      own: the further points, one a lane.
      accuracy: of the fits.
    """
    lanes = len(own.x)
    mass = class_mass(labels, weight[None], 2) + own.weight[:, None] * jax.nn.one_hot(own.y, 2, dtype=rows.dtype)
    rows, own = turned(rows, labels), own._replace(x=turned(own.x, own.y))
    root, spans = known.root, _WORTH * (len(rows) + 1) <= rows.shape[1]
    fused = fits_in_kernel(len(rows) + 1 if spans else rows.shape[1], rows.dtype)
    if fused:
        # Features that are zero, and copies of the last lane, up to what kernels take.
        root = root if spans else jnp.pad(root, ((0, 0), (0, -root.shape[1] % LEAST)))
        copied = jnp.minimum(jnp.arange(-(-lanes // LANES) * LANES), lanes - 1)
        own = jax.tree.map(lambda part: part[copied], own) if lanes % LANES else own
    spare = (0, root.shape[1] - len(root))
    own = own._replace(x=dot("lf,fg->lg", own.x, root))
    both = jnp.all(mass > 0, 1)
    fits = _Fits(
        dot("pf,fg->pg", rows, root),
        weight,
        dot("pf,f->p", rows, known.parameters),
        jnp.pad(known.gradient, spare),
        jnp.pad(known.place, spare),
        own,
        jnp.pad(both, (0, len(own.x) - lanes), mode="edge"),
    )
    found = jax.tree.map(lambda part: part[:lanes], (_fit_in_span if spans else _fit)(fits, accuracy, fused))
    return OneMore(found.parameters, root, both, succession_odds(mass), found.converged & known.sound | ~both)


def own_residual(logit: jax.Array, reach: jax.Array, weight: jax.Array) -> jax.Array:
    """``t = -weight sigmoid(logit + t reach)``, ``[lanes]``: how hard a new point pulls at the fit without it.

    With ``z`` the logit there and ``pull = weight reach``, ``z + pull sigmoid(z) = logit`` has on its left a function
    that rises. From above, and while ``z <= 0``, Newton's steps overshoot nothing; where they begin the sigmoid is its
    tail, ``pull exp(z) = logit - z``, within a factor of two. A root above 0 is the mirror image of one below. Begun at
    ``logit`` they would jump from one tail of the sigmoid to the other for points that are far on the wrong side.

    Args:
      logit: ``[lanes]``, of the wrong label, by the fit without the points.
      reach: ``[lanes]``, what a pull of one adds to it.
      weight: ``[lanes]``, of the points. Those of negative weight are in the fit already: they begin where they are.
    """
    pull = weight * reach
    mirrored = (pull > 0) & (logit > 0.5 * pull)
    goal = jnp.where(mirrored, pull - logit, logit)
    log_pull = jnp.log(jnp.maximum(pull, 1e-30))
    tail = jnp.minimum(jnp.log(jnp.maximum(goal + log_pull, 1.0)) - log_pull, 0.0)
    start = jnp.where(pull > 0, tail, goal)

    def newton(_: int, z: jax.Array) -> jax.Array:
        p = jax.nn.sigmoid(z)
        return z - (z + pull * p - goal) / (1 + pull * p * (1 - p))

    z = jax.lax.fori_loop(0, _OWN, newton, start)
    return -weight * jax.nn.sigmoid(jnp.where(mirrored, -z, z))


def _fit_in_span(fits: _Fits, accuracy: Accuracy, fused: bool) -> Minimum:
    """`_fit` in fewer features: those that the rows span, and what a lane's own point has beyond.

    The loss is ``|u|^2 / 2`` and what rows and point see of ``u``, so a minimum is a sum of the rows and of the point
    (the representer theorem), and orthonormal coordinates of these change nothing.
    """
    spanning, _ = jnp.linalg.qr(fits.rows.T)  # [features, points]
    x = fits.own.x
    inside = dot("lf,fs->ls", x, spanning)
    beyond = x - dot("ls,fs->lf", inside, spanning)
    height = jnp.sqrt(row_sums(beyond**2))

    width = len(fits.rows) + 1
    spare = (0, 1 + (-width % LEAST if fused else 0))

    def turned(features: jax.Array) -> jax.Array:
        """Of what lies in the span in the new coordinates: along the last axis."""
        within = dot("...f,fs->...s", features, spanning)
        return jnp.pad(within, ((0, 0),) * (within.ndim - 1) + (spare,))

    new = jnp.pad(inside, ((0, 0), spare)).at[:, width - 1].set(height)
    found = _fit(
        fits._replace(
            rows=turned(fits.rows),
            gradient=turned(fits.gradient),
            place=turned(fits.place),
            own=fits.own._replace(x=new),
        ),
        accuracy,
        fused,
    )
    along = jnp.where(height > 0, found.parameters[:, width - 1] / jnp.where(height > 0, height, 1.0), 0.0)
    change = dot("ls,fs->lf", found.parameters[:, : width - 1], spanning) + along[:, None] * beyond
    return found._replace(parameters=change)


def _fit(fits: _Fits, accuracy: Accuracy, fused: bool) -> Minimum:
    """The changes, ``[lanes, features]``, in the coordinates of ``fits``."""
    own, kind = fits.own, FusedLosses if fused else OneMoreLosses
    reach, own_logit = row_sums(own.x**2), dot("lf,f->l", own.x, fits.place)
    t = own_residual(own_logit, reach, own.weight)

    def some(lanes: Any, start: jax.Array, stage: jax.Array | int) -> Minimum:
        mine, logit, reach_there, live = jax.tree.map(lambda part: part[lanes], (own, own_logit, reach, fits.both))
        losses = kind(fits.rows, fits.weight, fits.logit, fits.gradient, live, mine, logit, accuracy.product)
        curved = mine.weight * curvature(logit + row_sums(start * mine.x))
        share = curved / (1 + curved * reach_there)

        def precondition(gradient: jax.Array) -> jax.Array:
            return gradient - (share * row_sums(gradient * mine.x))[:, None] * mine.x

        most = accuracy.steps[stage] if isinstance(stage, int) else jnp.asarray(accuracy.steps)[stage]
        return descend(losses, start, precondition, accuracy.tolerance, most, about=fits.place)

    return descend_in_stages(some, t[:, None] * own.x, len(accuracy.steps), LANES if fused else None)
