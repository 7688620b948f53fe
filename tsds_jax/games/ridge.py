"""Ridge regression as the source classifier: every prefix of an order, and every point added, from one fit.

With one column of targets a class (one-hot) or one for regression, a fit to the coalition S minimises over weights
and intercept

    sum_{i in S} w_i |target_i - f(x_i)|^2 + |weights|^2 / C,        f(v) = weights v + intercept,

the intercept unpenalised: scikit-learn's ``Ridge(alpha=1/C)`` with sample weights w. A class that S lacks scores 0 by
this formula alone; of the empty coalition every score is 0, so each class has the same probability, and a regression
predicts 0, or, with an unpenalised intercept, the mean of all training targets (which only shifts both).

The intercept of every prefix. Rows ``X``, targets ``y`` and the constant, a column ``s``, are all times the roots of
the weights: without weights ``s`` is 1. Write ``K = X X' + penalty`` and ``L L' = K`` in the prefix's order. Setting
the gradient for the intercept ``b`` to zero in ``f(v) = b + k(v)' K^-1 (y - b s)`` gives
``b = s'K^-1 y / s'K^-1 s``. So

    f(v) = A(v) + b (1 - B(v)),   A, B = the fits without intercept to y and to the constant s,
    A = sum z_i Z_i(v),  B = sum o_i Z_i(v),  b = sum o_i z_i / sum o_i^2,   z, o, Z = L^-1 (y, s, X v),

four running sums: the constant is one more target, and one more column whose kernel with every point is ``s``. Moving
the features by a constant vector changes nothing but ``b``: they are centred first, which keeps ``1 - B`` exact.

A penalised intercept is the weight of one more feature that is 1 everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import number_in, one_of
from tsds_jax.games.chunks import held
from tsds_jax.games.factors import factorise, solve_lower
from tsds_jax.games.game import Fitted
from tsds_jax.games.least_squares import (
    LeastSquaresGame,
    Running,
    checked_labels,
    in_blocks,
    in_units,
    power_of_two,
    running_sums,
    scaled_penalty,
    sums_at,
    sums_before,
)
from tsds_jax.games.outcomes import INTERCEPTS
from tsds_jax.games.products import dot


class _Solution(NamedTuple):
    """A ridge regression about its points' mean.

    Attributes:
      weights: ``[features, targets]``.
      gains: ``[features, rows]``, G^-1 times each validation row, G the points' Gram matrix plus the penalty.
      root: ``[some, features]``; ``|root u|^2`` is ``u' G^-1 u``, or if ``dual`` the ``|u|^2 - penalty u' G^-1 u``.
      dual: bool scalar.
      damped: bool scalar.
    """

    weights: jax.Array
    gains: jax.Array
    root: jax.Array
    dual: jax.Array
    damped: jax.Array


class RidgeFit(NamedTuple):
    """The ridge regression of one coalition, ready for one more point.

    Attributes:
      weight: float scalar, the members' weights together.
      mean: ``[features]``, the members' weighted mean, or 0 without an unpenalised intercept.
      level: ``[targets]``, their targets' mean, or 0.
      solution: the regression about both.
      scores: ``[targets, rows]``, of the validation rows.
    """

    weight: jax.Array
    mean: jax.Array
    level: jax.Array
    solution: _Solution
    scores: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RidgeGame(LeastSquaresGame):
    """Utility of a coalition = validation performance of the ridge regression fitted to its members.

    Build it with `ridge_game`, which centres the features (with a free intercept) and scales them by a power of two.
    With ``p`` the penalty ``1 / C`` over the largest squared row (about the mean, with a free intercept; times its
    weight) from 2e-5 on, scores in float32 agree with float64 within 1e-5 of the largest: of prefixes, if no two points
    are copies with different labels; of coalitions with one point more, if members outnumber features besides. Else
    nothing but the penalty keeps the fit from telling points apart by rounding, and they are off by up to ``2e-7 / p``,
    prefixes by up to ``2e-8 / p``. A penalty under 8 units in the last place of the largest squared row is raised to
    that, and every fit counts as unconverged.

    All prefixes of orders of n points take `feature_sums`, about ``6 n d^2`` operations and ``2 s d rows`` for s sizes;
    up to twice as many points as features `row_terms`, about ``6 n^2 d + 4 n^3 + 2 n d rows``.

    Attributes, beside those of `LeastSquaresGame`:
      x: ``[players, features]``, times the roots of the points' weights.
      x_val: ``[rows, features]``.
      intercept: ``"free"``, or one of the others of `INTERCEPTS`, which ``x`` and ``x_val`` already show.
    """

    x: jax.Array
    x_val: jax.Array
    intercept: str = field(metadata={"static": True})
    per_player = ("x", "y", "root_weight")

    def running(self, order: jax.Array, most: jax.Array) -> tuple[Callable[[jax.Array], jax.Array], Running]:
        """A function from sizes up to ``most`` to scores ``[sizes, targets, rows]`` of prefixes; the sums it reads."""
        del most  # rows behind leave a Gram matrix positive definite
        rows, target, free = self.x[order], self._targets(order), self.intercept == "free"
        if free:
            target = jnp.concatenate([target, self.root_weight[order][:, None]], 1)
        short = rows.shape[0] <= 2 * rows.shape[1]
        if short:
            left, right, damped = row_terms(rows, self.penalty, target)
            running = running_sums(left, dot("nf,rf->nr", right, self.x_val), damped)
        else:
            running = feature_sums(rows, self.penalty, target)
        if free:
            running = _with_constant(running)
        sums = sums_at(running)

        def scores(sizes: jax.Array) -> jax.Array:
            found = sums(sizes)
            level = jnp.zeros((), found.dtype)
            if free:
                found, level = _without_constant(found)
            return level + (found if short else dot("stf,rf->str", found, self.x_val))

        return scores, running

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        """The regression of ``order[:size]`` about its own mean, a `RidgeFit`."""
        member = (jnp.arange(order.shape[0]) < size).astype(self.x.dtype)
        root = self.root_weight[order] * member
        rows, target = self.x[order] * member[:, None], self._targets(order) * member[:, None]
        weight = jnp.sum(root**2)
        mean, level = jnp.zeros_like(rows[0]), jnp.zeros_like(target[0])
        if self.intercept == "free":
            share = root / jnp.where(weight > 0, weight, 1.0)
            mean, level = dot("l,li->i", share, rows), dot("l,lt->t", share, target)
            rows, target = rows - root[:, None] * mean, target - root[:, None] * level
        about, features = self.x_val - mean, rows.shape[1]

        def few(_: None) -> _Solution:
            return _solve_dual(rows[:features], target[:features], about, self.penalty)

        def many(_: None) -> _Solution:
            return _solve_primal(rows, target, about, self.penalty)

        # Fewer points than features leave the features' Gram matrix with nothing but the penalty in some directions.
        solution = few(None) if len(rows) <= features else jax.lax.cond(size <= features, few, many, None)
        scores = level[:, None] + dot("it,ri->tr", solution.weights, about)
        unconverged = ((solution.damped | self.damped) & (size > 0)).astype(jnp.int32)
        return Fitted(RidgeFit(weight, mean, level, solution, scores), unconverged)

    def _numbers_added(self, model: RidgeFit) -> int:
        """A point's features."""
        return self.x.shape[1]

    def added(self, model: RidgeFit, points: jax.Array) -> jax.Array:
        """Scores ``[points, targets, rows]`` with one more point, whose row is a rank-one update.

        With G the members' Gram matrix about their mean m, plus the penalty, W their weight, and ``s^2`` the point's,
        scores move by the point's residual, times s, times

            (W a_v + s) / (W (1 + a_i) + s^2),   a_v = s (v - m)' G^-1 (x_i - m),   a_i = s^2 (x_i - m)' G^-1 (x_i - m)

        (without a free intercept ``a_v / (1 + a_i)``), the same for every class, and right for the empty coalition too.
        About ``2 d (rows + d)`` operations a point.
        """
        root = self.root_weight[points][:, None]
        about = self.x[points] - root * model.mean
        weights, gains, inverse, dual, _ = model.solution
        residual = self._targets(points) - root * model.level - dot("pi,it->pt", about, weights)
        square = jnp.sum(dot("pi,ji->pj", about, inverse) ** 2, 1, keepdims=True)
        whole = jnp.sum(about**2, 1, keepdims=True)
        own = jnp.where(dual, jnp.maximum(whole - square, 0.0) / self.penalty, square)
        across = dot("pi,ir->pr", about, gains)
        if self.intercept == "free":
            below = model.weight * (1 + own) + root**2
            # Nobody, and a point of weight zero: still nobody.
            share = jnp.where(below > 0, model.weight * across + root, 0.0) / jnp.where(below > 0, below, 1.0)
        else:
            share = across / (1 + own)
        return model.scores + residual[:, :, None] * share[:, None, :]


def ridge_game(
    x: np.ndarray,
    y: np.ndarray,
    x_val: np.ndarray,
    y_val: np.ndarray,
    *,
    classes: int | None,
    utility: str = "accuracy",
    C: float = 1.0,
    intercept: str = "free",
    weight_val: object = None,
    sample_weight: object = None,
) -> RidgeGame:
    """A `RidgeGame` from plain arrays, in JAX's default float type.

    Args:
      x: ``[points, features]``; y: ``[points]``, int classes from 0, or any numbers for regression.
      x_val: ``[rows, features]``, no farther than 1e12 times the farthest of ``x``, or taken for that: no float holds
        what is beyond; y_val: ``[rows]``.
      classes: number of classes, at least 2; None or 0 for regression.
      utility: one of `UTILITIES`; for regression ``"neg_mean_squared_error"`` or ``"r2"`` (clipped below at -1).
      C: inverse strength of the L2 penalty, ``1 / alpha`` of scikit-learn's ``Ridge``.
      intercept: ``"free"`` is unpenalised; ``"penalised"`` the weight of a constant feature 1, penalised like any, so
        that it matters where the features' origin is; ``"none"``.
      weight_val: ``[rows]``, not negative, how much each validation row counts; None counts all alike.
      sample_weight: ``[points]``, not negative, the weight of each point's squared error, as in scikit-learn; None
        weighs all 1. A point of weight zero changes nothing.

    Raises:
      InputError: weights or an intercept that cannot be used, a utility of the wrong kind, or r2 on validation targets
        that are all equal.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import utility
      >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
      >>> game = ridge_game(x, y, x, y, classes=2)
      >>> float(utility(game, np.array([True, True, False])))
      1.0
    """
    one_of("intercept", intercept, INTERCEPTS)
    number_in("C", C, 1e-30, np.inf, whole=False)
    free = intercept == "free"
    labels = checked_labels(
        y,
        y_val,
        classes=classes,
        utility=utility,
        centre=free,
        weight_val=weight_val,
        sample_weight=sample_weight,
    )
    features, features_val = (np.array(np.asarray(some), np.float64) for some in (x, x_val))  # copies
    if free:
        mean = np.average(features, 0, labels.root_weight**2)
        features -= mean
        features_val -= mean
    elif intercept == "penalised":
        features, features_val = (
            np.pad(some, [(0, 0), (0, 1)], constant_values=1) for some in (features, features_val)
        )
    features *= labels.root_weight[:, None]
    scale = power_of_two(float(np.sqrt(np.max(np.einsum("pf,pf->p", features, features)))))
    penalty, damped = scaled_penalty(C * labels.heaviest, scale**2)
    features /= scale
    return RidgeGame(
        x=held(features.astype(jax.dtypes.canonicalize_dtype(float))),
        x_val=in_units(features_val, scale),
        y=labels.y,
        y_val=labels.y_val,
        row_weight=labels.row_weight,
        root_weight=jnp.asarray(labels.root_weight, dtype=float),
        penalty=penalty,
        damped=jnp.asarray(damped),
        classes=int(classes or 0),
        utility=utility,
        intercept=intercept,
    )


def row_terms(rows: jax.Array, penalty: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The terms of ridge fits' running sums where points do not far outnumber features: sums are weights.

    ``L L' = rows rows' + penalty`` is factorised twice: ``near = L^-1 [rows, root of penalty]`` has rows that are
    orthonormal but for rounding, and the factor of ``near near'`` takes that off L. So the error grows with the root of
    the condition number, as a QR factorisation's, not with the number itself (Cholesky QR2: Yamamoto, Nakatsukasa,
    Yanagisawa & Fukaya, ETNA 2015); it is largest for prefixes of about as many points as features.

    Args:
      rows: ``[points, features]`` in order.
      penalty: scalar.
      target: ``[points, targets]``.

    Returns:
      ``left`` ``[points, targets]`` and ``right`` ``[points, features]``, whose products summed over a prefix are its
      fit's weights, and whether the factorisation was damped.
    """
    points = len(rows)
    identity, root = jnp.eye(points, dtype=rows.dtype), jnp.sqrt(penalty)
    factor, _ = factorise(dot("if,jf->ij", rows, rows) + penalty * identity)
    whole = solve_lower(factor, jnp.concatenate([target, rows, root * identity], 1))
    near = whole[:, target.shape[1] :]
    again, damped = factorise(dot("if,jf->ij", near, near))
    left, right = jnp.split(solve_lower(again, whole[:, :-points]), [target.shape[1]], 1)
    # In the units of `feature_sums`' later blocks, whose factors are those of the identity plus a Gram matrix.
    return left * root, right / root, damped


def feature_sums(rows: jax.Array, penalty: jax.Array, target: jax.Array) -> Running:
    """Running sums of ridge fits where points far outnumber features: sums are weights.

    The order is cut into blocks of about as many points as features. Running Gram matrices give the fit at the start
    of each block; within it, its own points are conditioned on that fit as `row_terms` conditions all points on
    nothing. Blocks do not wait for each other, unlike the steps of a recursive least squares, and no error is carried
    from one to the next. The first two blocks are left to `row_terms`: where points come to outnumber features, Gram
    matrices are at their worst.

    Args:
      rows: ``[points, features]`` in order.
      penalty: scalar.
      target: ``[points, targets]``.

    Returns:
      `Running` of ``features`` columns.
    """
    features = rows.shape[1]
    block = -(-features // 8) * 8
    x, y = in_blocks(rows, block), in_blocks(target, block)
    head = running_sums(*row_terms(rows[: 2 * block], penalty, target[: 2 * block]), block)
    if len(x) <= 2:
        return head
    identity = jnp.eye(features, dtype=rows.dtype)
    gram = sums_before(dot("nbi,nbj->nij", x, x))[2:] + penalty * identity
    moment = sums_before(dot("nbi,nbt->nit", x, y))[2:]
    x, y = x[2:], y[2:]
    factor, damped = factorise(gram)
    half = solve_lower(factor, jnp.concatenate([jnp.swapaxes(x, 1, 2), moment], 2))
    gains, weights = jnp.split(solve_lower(factor, half, transpose=True), [block], 2)
    spread = dot("nfi,nfj->nij", half[:, :, :block], half[:, :, :block]) + jnp.eye(block, dtype=rows.dtype)
    inner, damped_within = factorise(spread)
    surprise = y - dot("nbf,nft->nbt", x, weights)
    solved = solve_lower(inner, jnp.concatenate([surprise, jnp.swapaxes(gains, 1, 2)], 2))
    left, right = jnp.split(solved, [target.shape[1]], 2)
    tail = Running(jnp.swapaxes(weights, 1, 2), left, right, damped | damped_within)
    return Running(*(jnp.concatenate(parts) for parts in zip(head, tail, strict=True)))


def _solve_primal(rows: jax.Array, target: jax.Array, about: jax.Array, penalty: jax.Array) -> _Solution:
    identity = jnp.eye(rows.shape[1], dtype=rows.dtype)
    factor, damped = factorise(dot("li,lj->ij", rows, rows) + penalty * identity)
    right = jnp.concatenate([dot("li,lt->it", rows, target), about.T, identity], 1)
    half, root = jnp.split(solve_lower(factor, right), [right.shape[1] - len(identity)], 1)
    weights, gains = jnp.split(solve_lower(factor, half, transpose=True), [target.shape[1]], 1)
    return _Solution(weights, gains, root, jnp.asarray(False), damped)


def _solve_dual(rows: jax.Array, target: jax.Array, about: jax.Array, penalty: jax.Array) -> _Solution:
    factor, damped = factorise(dot("if,jf->ij", rows, rows) + penalty * jnp.eye(len(rows), dtype=rows.dtype))
    half, root = jnp.split(solve_lower(factor, jnp.concatenate([target, rows], 1)), [target.shape[1]], 1)
    gains = (about.T - dot("jf,jr->fr", root, dot("jf,rf->jr", root, about))) / penalty
    return _Solution(dot("jf,jt->ft", root, half), gains, root, jnp.asarray(True), damped)


def _with_constant(running: Running) -> Running:
    """With one more column, that of a row whose kernel with every point is the constant, which must be last target."""
    constant = running.left[:, :, -1:]
    base = sums_before(dot("nbt,nbc->ntc", running.left, constant))
    return running._replace(
        base=jnp.concatenate([running.base, base], 2), right=jnp.concatenate([running.right, constant], 2)
    )


def _without_constant(sums: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums ``[sizes, targets, columns]`` less the intercept's share, and the intercepts ``[sizes, targets, 1]``."""
    moment, weight = sums[:, :-1, -1:], sums[:, -1:, -1:]
    level = jnp.where(weight > 0, moment / jnp.where(weight > 0, weight, 1.0), 0.0)
    return sums[:, :-1, :-1] - level * sums[:, -1:, :-1], level
