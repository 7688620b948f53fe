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

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.game import PrefixUtilities
from tsds_jax.games.newton import Local, Minimum, minimise
from tsds_jax.games.utilities import Outcome, row_scores, row_weights

# Above this many numbers the outer products of all rows are not kept but made again, a block of rows at a time.
_OUTER_LIMIT = 2**24
_ROW_BLOCK = 4096

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
        return PrefixUtilities(_dot("br,r->b", row_scores(self.utility, outcome), self.row_weight), unconverged)

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


def fit_softmax(rows: jax.Array, labels: jax.Array, member: jax.Array, penalty: jax.Array, classes: int) -> Minimum:
    """Softmax regressions on weighted copies of the same rows, over the classes present in each lane.

    The Newton step is solved by conjugate gradients, preconditioned with the fixed upper bound on the Hessian of
    Boehning (1992), whose one factorisation a lane serves every class and every step.

    Two classes present are fitted with twice the penalty: two columns ``w, -w`` then cost what scikit-learn's
    single vector ``2 w`` costs.

    Returns:
      `Minimum` with parameters ``[lanes, classes * features]``, zero for absent classes. Other arguments as in
      `fit_binary`.
    """
    lanes, features = len(member), rows.shape[1]
    present = _class_counts(labels, member, classes) > 0
    several = jnp.sum(present, 1) > 1
    weight = member * several[:, None]
    strength = penalty * jnp.where(jnp.sum(present, 1) == 2, 2.0, 1.0)
    ridge = jnp.broadcast_to(strength[:, None], (lanes, features)).at[:, -1].set(0.0)
    target = jax.nn.one_hot(labels, classes, dtype=rows.dtype).T
    outside = jnp.where(present, 0.0, -jnp.inf)[:, :, None]
    # The intercept's bound is zero where a lane has no fit: one keeps it solvable.
    guard = ridge.at[:, -1].set(1.0 - several)
    bound = 0.5 * _weighted_gram(rows)(weight) + jax.vmap(jnp.diag)(guard)
    inverse = jnp.linalg.inv(bound)  # digits do not matter here, one product a step instead of two solves does

    share = present / jnp.maximum(jnp.sum(present, 1, keepdims=True), 1)

    def precondition(v: jax.Array) -> jax.Array:
        # Adding one vector to all classes changes no probability. Solutions sum to zero over the classes; rounding
        # that does not would be blown up along this flat direction.
        centred = v - jnp.sum(v, 1, keepdims=True) * share[:, :, None]
        return _dot("bcf,bfg->bcg", centred, inverse)

    def local(flat: jax.Array) -> Local:
        point = flat.reshape(lanes, classes, features)
        logit = _dot("bcf,pf->bcp", point, rows) + outside
        log_probability = jnp.where(present[:, :, None], jax.nn.log_softmax(logit, 1), 0.0)
        probability = jnp.where(present[:, :, None], jnp.exp(log_probability), 0.0)
        likelihood = jnp.sum(weight * jnp.sum(target * log_probability, 1), 1)
        loss = 0.5 * jnp.sum(ridge[:, None] * point**2, (1, 2)) - likelihood
        residual = jnp.where(several[:, None, None], weight[:, None] * (probability - target), 0.0)
        gradient = _dot("bcp,pf->bcf", residual, rows) + ridge[:, None] * point

        def hessian(v: jax.Array) -> jax.Array:
            change = _dot("bcf,pf->bcp", v, rows)
            mean = jnp.sum(probability * change, 1, keepdims=True)
            curved = weight[:, None] * probability * (change - mean)
            return _dot("bcp,pf->bcf", curved, rows) + ridge[:, None] * v

        step = _conjugate_gradients(hessian, -gradient, precondition, 1e-11 * penalty)
        return Local(loss, step.reshape(lanes, -1))

    return minimise(local, jnp.zeros((lanes, classes * features), rows.dtype))


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

    blocks = -(-points // _ROW_BLOCK)
    padded = jnp.pad(rows, ((0, blocks * _ROW_BLOCK - points), (0, 0))).reshape(blocks, _ROW_BLOCK, features)

    def blocked(weight: jax.Array) -> jax.Array:
        lanes = weight.shape[0]
        weights = jnp.pad(weight, ((0, 0), (0, blocks * _ROW_BLOCK - points)))
        weights = jnp.moveaxis(weights.reshape(lanes, blocks, _ROW_BLOCK), 1, 0)

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
