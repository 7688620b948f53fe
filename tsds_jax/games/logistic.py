"""The paper's source classifier: L2-regularised logistic regression, one fit for each coalition.

Fits are scikit-learn's: with labels ``y``, features ``x`` and ``C``, minimise over weights and intercept

    sum_i loss(y_i, x_i) + |weights|^2 / (2 C),

the intercept unpenalised; one weight vector for two classes, one a class (softmax) for more. Of a coalition that
lacks some class the rule of succession speaks: with ``k`` members and ``K`` classes each absent class has
probability ``1 / (k + K)``, and the present ones share the rest as the fit says. So one class present is always
predicted, and the empty coalition knows nothing: probability ``1 / K`` each.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.game import PrefixUtilities
from tsds_jax.games.newton import Local, Minimum, minimise
from tsds_jax.games.utilities import Outcome, row_scores, row_weights

# Above this many numbers the outer products of all rows are not kept but made again, a block of rows at a time.
_OUTER_LIMIT = 2**24
# Coalitions to this size are too small for one step from their fit to reach the fit of one point more.
_SMALL = 16
# Each makes an add-one fit some ten times more exact and costs two products with the members' rows.
_CORRECTIONS = 2

# Hopper multiplies float32 matrices in TF32 unless told otherwise; Newton steps need the digits.
_dot = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LogisticGame:
    """Utility of a coalition = validation performance of the logistic regression fitted to its members.

    Build it with `logistic_game`. ``features`` below counts the constant column that carries the intercept.

    Attributes:
      x: float32 ``[players, features]``.
      y: int32 ``[players]``, classes from 0.
      x_val: float32 ``[rows, features]``.
      y_val: int32 ``[rows]``.
      row_weight: float32 ``[rows]``, summing to one.
      penalty: float32 scalar, ``1 / C``.
      classes: number of classes.
      utility: one of `UTILITIES`.
    """

    x: jax.Array
    y: jax.Array
    x_val: jax.Array
    y_val: jax.Array
    row_weight: jax.Array
    penalty: jax.Array
    classes: int = field(metadata={"static": True})
    utility: str = field(metadata={"static": True})

    @property
    def players(self) -> int:
        """Number of players."""
        return self.x.shape[0]

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        """Utilities of ``order[:k]`` for each ``k`` in ``sizes``, each from its own converged fit."""
        outcome, unconverged = self.prefix_outcomes(order, sizes)
        return PrefixUtilities(self._worth(outcome), unconverged)

    def prefix_outcomes(self, order: jax.Array, sizes: jax.Array) -> tuple[Outcome, jax.Array]:
        """What the fit to each prefix says of each validation row: `Outcome` of ``[sizes, rows]``, unconverged."""
        rows, labels = self.x[order], self.y[order]
        member = (jnp.arange(order.shape[0]) < sizes[:, None]).astype(rows.dtype)
        if self.classes == 2:
            fit = fit_binary(rows, labels, member, self.penalty)
            outcome = _binary_outcome(fit.parameters, self.x_val, self.y_val)
        else:
            fit = fit_softmax(rows, labels, member, self.penalty, self.classes)
            present = _class_counts(labels, member, self.classes) > 0
            outcome = _softmax_outcome(fit.parameters, present, sizes, self.x_val, self.y_val)
        return outcome, jnp.sum(~fit.converged, dtype=jnp.int32)

    def fit(self, order: jax.Array, size: jax.Array) -> "LogisticFit":
        """The logistic regression of ``order[:size]``, with the inverse of its Hessian."""
        rows, labels, size = self.x[order], self.y[order], jnp.asarray(size, jnp.int32)
        member = (jnp.arange(order.shape[0]) < size)[None].astype(rows.dtype)
        counts = _class_counts(labels, member, self.classes)[0]
        if self.classes == 2:
            parameters = fit_binary(rows, labels, member, self.penalty).parameters
        else:
            parameters = fit_softmax(rows, labels, member, self.penalty, self.classes).parameters
        return LogisticFit(rows, labels, member[0], parameters[0], counts, size)

    def add_one_marginals(self, fit: "LogisticFit", points: jax.Array) -> jax.Array:
        """``U(S + i) - U(S)`` for each ``i`` in ``points``.

        Two classes and more than 16 members: `_add_one_newton`, whose error falls as ``1 / size ** 2``. Else S + i is
        fitted anew, all points together.
        """

        def refitted(rows: int) -> jax.Array:
            own = Own(self.x[points], self.y[points])
            member = fit.member[None, :rows]
            again = fit_softmax(fit.rows[:rows], fit.labels[:rows], member, self.penalty, self.classes, own)
            present = fit.counts + jax.nn.one_hot(own.y, self.classes) > 0
            sizes = jnp.full(points.shape, fit.size + 1)
            return self._worth(_softmax_outcome(again.parameters, present, sizes, self.x_val, self.y_val))

        def stepped() -> jax.Array:
            parameters = _add_one_newton(fit, self.x[points], self.y[points], self.penalty, _CORRECTIONS)
            return self._worth(_binary_outcome(parameters, self.x_val, self.y_val))

        length = fit.rows.shape[0]
        few = min(_SMALL, length)
        if self.classes == 2:
            before = _binary_outcome(fit.parameters[None], self.x_val, self.y_val)
            # A coalition of one class has no fit to step from.
            case = jnp.where(jnp.all(fit.counts > 0) & (fit.size > few), 2, fit.size > few)
            after = jax.lax.switch(case, [lambda: refitted(few), lambda: refitted(length), stepped])
        else:
            before = _softmax_outcome(
                fit.parameters[None], fit.counts[None] > 0, fit.size[None], self.x_val, self.y_val
            )
            after = jax.lax.cond(fit.size > few, lambda: refitted(length), lambda: refitted(few))
        return after - self._worth(before)

    def _worth(self, outcome: Outcome) -> jax.Array:
        """Utility of each lane of an `Outcome` of ``[lanes, rows]``."""
        return _dot("br,r->b", row_scores(self.utility, outcome), self.row_weight)


class LogisticFit(NamedTuple):
    """The regression of one coalition.

    Attributes:
      rows: ``[length, features]``, members first.
      labels: ``[length]``.
      member: ``[length]``, 1 for members, 0 behind them.
      parameters: ``[features]``, or ``[classes * features]``.
      counts: ``[classes]``, members of each class.
      size: members.
    """

    rows: jax.Array
    labels: jax.Array
    member: jax.Array
    parameters: jax.Array
    counts: jax.Array
    size: jax.Array


def logistic_game(
    x: np.ndarray,
    y: np.ndarray,
    x_val: np.ndarray,
    y_val: np.ndarray,
    *,
    classes: int,
    utility: str = "accuracy",
    C: float = 1.0,
) -> LogisticGame:
    """A `LogisticGame` from plain arrays.

    Args:
      x: ``[players, features]``; y: int ``[players]``, classes from 0.
      x_val: ``[rows, features]``; y_val: int ``[rows]``.
      classes: number of classes, at least 2.
      utility: one of `UTILITIES`.
      C: inverse strength of the L2 penalty, as in scikit-learn.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import logistic_game, utility
      >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
      >>> game = logistic_game(x, y, x, y, classes=2)
      >>> float(utility(game, np.array([True, True, False])))
      1.0
    """

    def with_constant(features: np.ndarray) -> jax.Array:
        ones = np.ones((len(features), 1), np.float32)
        return jnp.asarray(np.concatenate([np.asarray(features, np.float32), ones], 1))

    y_val = np.asarray(y_val, np.int32)
    return LogisticGame(
        x=with_constant(x),
        y=jnp.asarray(y, jnp.int32),
        x_val=with_constant(x_val),
        y_val=jnp.asarray(y_val),
        row_weight=jnp.asarray(row_weights(utility, y_val)),
        penalty=jnp.asarray(1.0 / C, jnp.float32),
        classes=int(classes),
        utility=utility,
    )


def fit_binary(rows: jax.Array, labels: jax.Array, member: jax.Array, penalty: jax.Array) -> Minimum:
    """Logistic regressions on weighted copies of the same rows.

    Args:
      rows: ``[points, features]``, the last column constant one.
      labels: ``[points]``, 0 or 1.
      member: ``[lanes, points]``, the weight of each point in each fit.
      penalty: ``1 / C``.

    Returns:
      `Minimum` with parameters ``[lanes, features]``, the intercept last. A lane with fewer than two classes
      gets the intercept of the rule of succession and zero weights.
    """
    features = rows.shape[1]
    target = labels.astype(rows.dtype)
    sign = 1 - 2 * target
    count = _class_counts(labels, member, 2)
    both = jnp.all(count > 0, 1)
    weight = member * both[:, None]
    # Lanes without a fit keep a solvable system: an intercept held at zero.
    ridge = jnp.broadcast_to(penalty, (len(member), features)).at[:, -1].set(1.0 - both)
    gram = _weighted_gram(rows)

    def local(point: jax.Array) -> Local:
        logit = _dot("bf,pf->bp", point, rows)
        probability = jax.nn.sigmoid(logit)
        loss = jnp.sum(weight * jax.nn.softplus(sign * logit), 1) + 0.5 * jnp.sum(ridge * point**2, 1)
        gradient = _dot("bp,pf->bf", weight * (probability - target), rows) + ridge * point
        hessian = gram(weight * probability * (1 - probability)) + jax.vmap(jnp.diag)(ridge)
        factor = jax.scipy.linalg.cho_factor(hessian, lower=True)
        return Local(loss, -jax.scipy.linalg.cho_solve(factor, gradient[..., None])[..., 0])

    fit = minimise(local, jnp.zeros((len(member), features), rows.dtype))
    succession = jnp.zeros_like(fit.parameters).at[:, -1].set(jnp.log1p(count[:, 1]) - jnp.log1p(count[:, 0]))
    return Minimum(jnp.where(both[:, None], fit.parameters, succession), fit.converged)


def fit_softmax(
    rows: jax.Array,
    labels: jax.Array,
    member: jax.Array,
    penalty: jax.Array,
    classes: int,
    own: "Own | None" = None,
) -> Minimum:
    """Softmax regressions on weighted copies of the same rows, over the classes present in each lane.

    The Newton step is solved by conjugate gradients, preconditioned with the fixed upper bound on the Hessian of
    Boehning (1992), whose one factorisation a lane serves every class and every step.

    Two classes present are fitted with twice the penalty: two columns ``w, -w`` then cost what scikit-learn's
    single vector ``2 w`` costs.

    Args:
      rows: ``[points, features]``, the last column constant one.
      labels: ``[points]``, classes from 0.
      member: ``[lanes, points]``, the weight of each point in each fit; ``[1, points]`` for all lanes alike.
      penalty: ``1 / C``.
      classes: number of classes.
      own: one further point in each lane; its lanes share one preconditioner.

    Returns:
      `Minimum` with parameters ``[lanes, classes * features]``, zero for absent classes.
    """
    lanes, features = len(member) if own is None else len(own.x), rows.shape[1]
    counts = _class_counts(labels, member, classes)
    if own is not None:
        own_target = jax.nn.one_hot(own.y, classes, dtype=rows.dtype)
        counts = counts + own_target
    present = counts > 0
    several = jnp.sum(present, 1) > 1
    weight = member * several[:, None]
    strength = penalty * jnp.where(jnp.sum(present, 1) == 2, 2.0, 1.0)
    ridge = jnp.broadcast_to(strength[:, None], (lanes, features)).at[:, -1].set(0.0)
    target = jax.nn.one_hot(labels, classes, dtype=rows.dtype).T
    absent = jnp.where(present, 0.0, -jnp.inf)
    # Digits do not matter here, and one product a step instead of two solves does. The intercept's bound is zero
    # where nothing is fitted, and short of the own point: a quarter keeps it solvable.
    bound = 0.5 * _weighted_gram(rows)(member) + penalty * jnp.eye(features).at[-1, -1].set(0.25 / penalty)
    inverse = jnp.linalg.inv(bound)
    share = present / jnp.maximum(jnp.sum(present, 1, keepdims=True), 1)

    def precondition(v: jax.Array) -> jax.Array:
        # Adding one vector to all classes changes no probability. Solutions sum to zero over the classes; rounding
        # that does not would be blown up along this flat direction.
        centred = v - jnp.sum(v, 1, keepdims=True) * share[:, :, None]
        return jnp.matmul(centred, inverse, precision=jax.lax.Precision.HIGHEST)

    def local(flat: jax.Array) -> Local:
        point = flat.reshape(lanes, classes, features)
        log_probability, probability = _softmax(_dot("bcf,pf->bcp", point, rows), absent[:, :, None])
        likelihood = jnp.sum(weight * jnp.sum(target * log_probability, 1), 1)
        residual = jnp.where(several[:, None, None], weight[:, None] * (probability - target), 0.0)
        gradient = _dot("bcp,pf->bcf", residual, rows) + ridge[:, None] * point
        if own is not None:
            log_own, own_probability = _softmax(_dot("bcf,bf->bc", point, own.x), absent)
            likelihood += several * jnp.sum(own_target * log_own, 1)
            own_residual = several[:, None] * (own_probability - own_target)
            gradient += own_residual[:, :, None] * own.x[:, None]
        loss = 0.5 * jnp.sum(ridge[:, None] * point**2, (1, 2)) - likelihood

        def hessian(v: jax.Array) -> jax.Array:
            change = _dot("bcf,pf->bcp", v, rows)
            curved = probability * (change - jnp.sum(probability * change, 1, keepdims=True))
            image = _dot("bcp,pf->bcf", weight[:, None] * curved, rows) + ridge[:, None] * v
            if own is None:
                return image
            change = _dot("bcf,bf->bc", v, own.x)
            curved = own_probability * (change - jnp.sum(own_probability * change, 1, keepdims=True))
            return image + (several[:, None] * curved)[:, :, None] * own.x[:, None]

        step = _conjugate_gradients(hessian, -gradient, precondition, 1e-11 * penalty)
        return Local(loss, step.reshape(lanes, -1))

    return minimise(local, jnp.zeros((lanes, classes * features), rows.dtype))


def _add_one_newton(fit: "LogisticFit", x: jax.Array, y: jax.Array, penalty: jax.Array, corrections: int) -> jax.Array:
    """Parameters of the regression with one point more, ``[points, features]``, from the Hessian of the one without.

    With ``H`` the Hessian of the fit ``beta``, the fit of one point more is ``beta + t H^-1 x`` up to the change of the
    other points' weights, where ``t`` solves ``t = y - sigmoid(x beta + t x H^-1 x)`` exactly. What that change leaves
    of the gradient is then taken out by further steps with ``H`` plus the new point's own rank-one term; each
    shrinks the error by a factor of the order of ``1 / size``, for two products with the members' rows.
    """
    target = y.astype(x.dtype)
    others = fit.labels.astype(x.dtype)
    ridge = jnp.full(fit.rows.shape[1], penalty).at[-1].set(0.0)
    probability = jax.nn.sigmoid(_dot("pf,f->p", fit.rows, fit.parameters))
    hessian = _dot("pf,p,pg->fg", fit.rows, fit.member * probability * (1 - probability), fit.rows) + jnp.diag(ridge)
    inverse = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian, lower=True), jnp.eye(len(ridge)))
    direction = _dot("pf,fg->pg", x, inverse)
    reach = _dot("pf,pf->p", x, direction)
    logit = _dot("pf,f->p", x, fit.parameters)

    def newton(_, t: jax.Array) -> jax.Array:
        p = jax.nn.sigmoid(logit + t * reach)
        return jnp.clip(t - (t - target + p) / (1 + reach * p * (1 - p)), target - 1, target)

    t = jax.lax.fori_loop(0, 8, newton, jnp.zeros_like(logit))
    parameters = fit.parameters + t[:, None] * direction
    for _ in range(corrections):
        residual = fit.member * (jax.nn.sigmoid(_dot("bf,pf->bp", parameters, fit.rows)) - others)
        p = jax.nn.sigmoid(jnp.sum(parameters * x, 1))
        gradient = _dot("bp,pf->bf", residual, fit.rows) + ridge * parameters + (p - target)[:, None] * x
        plain = _dot("bf,fg->bg", gradient, inverse)
        weight = p * (1 - p)
        along = weight / (1 + weight * reach) * jnp.sum(plain * x, 1)
        parameters = parameters - plain + along[:, None] * direction
    return parameters


class Own(NamedTuple):
    """A point of its own for each lane: ``x`` is ``[lanes, features]``, ``y`` is ``[lanes]``."""

    x: jax.Array
    y: jax.Array


def _softmax(logit: jax.Array, absent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities and probabilities over axis 1, both zero for absent classes."""
    inside = absent == 0
    log_probability = jnp.where(inside, jax.nn.log_softmax(logit + absent, 1), 0.0)
    return log_probability, jnp.where(inside, jnp.exp(log_probability), 0.0)


def _conjugate_gradients(matrix, right, precondition, floor, tolerance: float = 1e-3, iterations: int = 60):
    """Solves ``matrix(v) = right`` in every lane of ``[lanes, classes, features]``.

    Ends where the residual's squared preconditioned norm has fallen by ``tolerance ** 2`` or under ``floor``: what
    is left of a gradient at its minimum is rounding, and no iteration reduces that.
    """

    def inner(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(a * b, (1, 2), keepdims=True)

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


def _class_counts(labels: jax.Array, member: jax.Array, classes: int) -> jax.Array:
    """Members of each class, ``[lanes, classes]``."""
    return _dot("bp,pc->bc", member, jax.nn.one_hot(labels, classes, dtype=member.dtype))


def _weighted_gram(rows: jax.Array):
    """A function from weights ``[lanes, points]`` to ``rows' diag(weights) rows``, ``[lanes, features, features]``.

    The outer products of the rows, upper triangle alone, make this one matrix product for all lanes: more
    arithmetic than needed for prefixes, all of it at the speed of a large product.
    """
    points, features = rows.shape
    i, j = np.triu_indices(features)
    unpack = np.zeros((features, features), np.int32)
    unpack[i, j] = unpack[j, i] = np.arange(len(i))

    if points * len(i) <= _OUTER_LIMIT:
        outer = rows[:, i] * rows[:, j]
        return lambda weight: _dot("bp,pq->bq", weight, outer)[:, unpack]

    size = max(1, min(points, _OUTER_LIMIT // len(i)))
    blocks = -(-points // size)
    padded = jnp.pad(rows, ((0, blocks * size - points), (0, 0))).reshape(blocks, size, features)

    def blocked(weight: jax.Array) -> jax.Array:
        lanes = weight.shape[0]
        weights = jnp.pad(weight, ((0, 0), (0, blocks * size - points)))
        weights = jnp.moveaxis(weights.reshape(lanes, blocks, size), 1, 0)

        def add(total, block):
            part, w = block
            return total + _dot("bp,pq->bq", w, part[:, i] * part[:, j]), None

        total, _ = jax.lax.scan(add, jnp.zeros((lanes, len(i)), rows.dtype), (padded, weights))
        return total[:, unpack]

    return blocked


def _binary_outcome(parameters: jax.Array, x_val: jax.Array, y_val: jax.Array) -> Outcome:
    margin = _dot("bf,rf->br", parameters, x_val) * (2 * y_val - 1)
    return Outcome(
        hit=jnp.where(margin == 0, 0.5, (margin > 0).astype(margin.dtype)),
        log_probability=-jax.nn.softplus(-margin),
    )


def _softmax_outcome(
    parameters: jax.Array, present: jax.Array, sizes: jax.Array, x_val: jax.Array, y_val: jax.Array
) -> Outcome:
    lanes, classes = present.shape
    logit = _dot("bcf,rf->bcr", parameters.reshape(lanes, classes, -1), x_val)
    absent = classes - jnp.sum(present, 1)
    mass = (sizes + classes).astype(logit.dtype)  # members and one imagined point a class
    inside = jax.nn.log_softmax(jnp.where(present[:, :, None], logit, -jnp.inf), 1)
    share = jnp.log1p(-jnp.minimum(absent / mass, 1 - 1e-7))
    log_probability = jnp.where(present[:, :, None], inside + share[:, None, None], -jnp.log(mass)[:, None, None])
    true = jnp.take_along_axis(log_probability, y_val[None, None, :], 1)[:, 0]
    top = jnp.max(log_probability, 1)
    ties = jnp.sum(log_probability == top[:, None], 1)
    return Outcome(jnp.where(true == top, 1.0 / ties, 0.0), true)
