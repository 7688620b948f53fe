"""Ridge regression as the source classifier: every prefix of an order, and every point added, from one fit.

With one column of targets a class (one-hot) or one for regression, a fit to the coalition S minimises over weights
and intercept

    sum_{i in S} |target_i - f(x_i)|^2 + |weights|^2 / C,        f(v) = weights v + intercept,

the intercept unpenalised: scikit-learn's ``Ridge(alpha=1/C)``. A class that S lacks scores 0 by this formula alone; of
the empty coalition every score is 0, so each class has the same probability, and a regression predicts 0, or, with an
intercept, the mean of all training targets (which only shifts both).

The intercept of every prefix. Write ``K = X X' + penalty`` and ``L L' = K`` in the prefix's order. Setting the
gradient for the intercept ``b`` to zero in ``f(v) = b + k(v)' K^-1 (y - b 1)`` gives ``b = 1'K^-1 y / 1'K^-1 1``. So

    f(v) = A(v) + b (1 - B(v)),   A, B = the fits without intercept to y and to the constant 1,
    A = sum z_i Z_i(v),  B = sum o_i Z_i(v),  b = sum o_i z_i / sum o_i^2,   z, o, Z = L^-1 (y, 1, X v),

four running sums: the constant is one more target, and one more column whose kernel with every point is 1. Moving the
features by a constant vector changes nothing but ``b``: they are centred first, which keeps ``1 - B`` exact.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.game import PrefixUtilities
from tsds_jax.games.least_squares import (
    Running,
    checked_labels,
    damped_fits,
    dot,
    factorise,
    in_blocks,
    kernel_sums,
    map_in_batches,
    outcome_utility,
    power_of_two,
    scaled_penalty,
    score_outcome,
    solve_lower,
    sums_at,
    sums_before,
    targets,
)
from tsds_jax.games.utilities import Outcome, RegressionOutcome


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
      size: float scalar, members.
      mean: ``[features]``, the members' mean, or 0 without an intercept.
      level: ``[targets]``, their targets' mean, or 0.
      solution: the regression about both.
      scores: ``[targets, rows]``, of the validation rows.
      utility: scalar, of the coalition.
      unconverged: int32 scalar, 1 where the fit was damped.
    """

    size: jax.Array
    mean: jax.Array
    level: jax.Array
    solution: _Solution
    scores: jax.Array
    utility: jax.Array
    unconverged: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RidgeGame:
    """Utility of a coalition = validation performance of the ridge regression fitted to its members.

    Build it with `ridge_game`, which centres the features (with an intercept) and scales them by a power of two.
    In float32, scores agree with float64 to 1e-5 of the largest while ``1 / C`` is at least 1e-3 of the largest squared
    row (about the mean, with an intercept). Below, prefixes of about as many points as features lose digits: there the
    fit passes close to every point, and nothing but the penalty decides between ways to. A penalty under 8 units in the
    last place of the largest squared row is raised to that, and every fit counts as unconverged.

    Attributes:
      x: ``[players, features]``.
      y: ``[players]``, int32 classes from 0, or float targets.
      x_val: ``[rows, features]``.
      y_val: ``[rows]``.
      row_weight: ``[rows]``, summing to one.
      penalty: scalar, ``1 / C`` in the units of ``x``.
      damped: bool scalar, whether it was raised.
      classes: number of classes; 0 for regression.
      utility: one of `UTILITIES`, or of `REGRESSION_UTILITIES`.
      intercept: whether there is one.
    """

    x: jax.Array
    y: jax.Array
    x_val: jax.Array
    y_val: jax.Array
    row_weight: jax.Array
    penalty: jax.Array
    damped: jax.Array
    classes: int = field(metadata={"static": True})
    utility: str = field(metadata={"static": True})
    intercept: bool = field(metadata={"static": True})

    @property
    def players(self) -> int:
        """Number of players."""
        return self.x.shape[0]

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        """Utilities of ``order[:k]`` for each ``k`` in ``sizes``.

        The work is nearly that of all sizes whatever the sizes: ask for many at once. Orders longer than the
        features are many take `feature_sums`, about ``6 n d^2`` operations and ``2 s d rows`` for s sizes; shorter ones
        `kernel_sums`, about ``n^3 / 3 + n^2 rows``. Arrays of more than some 4 million numbers are made in parts.
        """
        scores, running = self._prefix_scores(order)

        def worth(some: jax.Array) -> jax.Array:
            return outcome_utility(self.utility, score_outcome(scores(some), self.y_val, self.classes), self.row_weight)

        return PrefixUtilities(map_in_batches(worth, sizes, self._numbers), damped_fits(running, sizes, self.damped))

    def prefix_outcomes(self, order: jax.Array, sizes: jax.Array) -> tuple[Outcome | RegressionOutcome, jax.Array]:
        """What the fit to each prefix says of each validation row: an outcome of ``[sizes, rows]``, damped fits."""
        scores, running = self._prefix_scores(order)
        outcome = map_in_batches(
            lambda some: score_outcome(scores(some), self.y_val, self.classes), sizes, self._numbers
        )
        return outcome, damped_fits(running, sizes, self.damped)

    def fit(self, order: jax.Array, size: jax.Array) -> RidgeFit:
        """The regression of ``order[:size]``, about its own mean."""
        member = (jnp.arange(order.shape[0]) < size)[:, None].astype(self.x.dtype)
        rows, target = self.x[order], targets(self.y[order], self.classes, self.x.dtype)
        mean, level = jnp.zeros_like(rows[0]), jnp.zeros_like(target[0])
        if self.intercept:
            count = jnp.maximum(size, 1)
            mean, level = jnp.sum(rows * member, 0) / count, jnp.sum(target * member, 0) / count
        rows, target = (rows - mean) * member, (target - level) * member
        about, features = self.x_val - mean, rows.shape[1]

        def few(_: None) -> _Solution:
            return _solve_dual(rows[:features], target[:features], about, self.penalty)

        def many(_: None) -> _Solution:
            return _solve_primal(rows, target, about, self.penalty)

        # Fewer points than features leave the features' Gram matrix with nothing but the penalty in some directions.
        solution = few(None) if len(rows) <= features else jax.lax.cond(size <= features, few, many, None)
        scores = level[:, None] + dot("it,ri->tr", solution.weights, about)
        worth = outcome_utility(self.utility, score_outcome(scores, self.y_val, self.classes), self.row_weight)
        return RidgeFit(
            size=jnp.asarray(size, rows.dtype),
            mean=mean,
            level=level,
            solution=solution,
            scores=scores,
            utility=worth,
            unconverged=((solution.damped | self.damped) & (size > 0)).astype(jnp.int32),
        )

    def add_one_marginals(self, fit: RidgeFit, points: jax.Array) -> jax.Array:
        """``U(S + i) - U(S)`` for each ``i`` in ``points``, exact: one more row is a rank-one update.

        With G the members' Gram matrix about their mean m, plus the penalty, and k members, scores move by the
        point's residual times

            (k a_v + 1) / (k (1 + a_i) + 1),   a_u = (u - m)' G^-1 (x_i - m)   (without intercept a_v / (1 + a_i)),

        the same for every class, and right for the empty coalition too. About ``2 d (rows + d)`` operations a point,
        and arrays of ``points * rows * classes`` numbers, made in parts of at most some 4 million.
        """

        def marginals(some: jax.Array) -> jax.Array:
            about = self.x[some] - fit.mean
            weights, gains, root, dual, _ = fit.solution
            residual = targets(self.y[some], self.classes, about.dtype) - fit.level - dot("pi,it->pt", about, weights)
            square = jnp.sum(dot("pi,ji->pj", about, root) ** 2, 1, keepdims=True)
            whole = jnp.sum(about**2, 1, keepdims=True)
            own = jnp.where(dual, jnp.maximum(whole - square, 0.0) / self.penalty, square)
            across = dot("pi,ir->pr", about, gains)
            # Without an intercept the terms of 1 are not there, and the size cancels.
            size, constant = (fit.size, 1.0) if self.intercept else (1.0, 0.0)
            share = (size * across + constant) / (size * (1 + own) + constant)
            scores = fit.scores + residual[:, :, None] * share[:, None, :]
            outcome = score_outcome(scores, self.y_val, self.classes)
            return outcome_utility(self.utility, outcome, self.row_weight) - fit.utility

        return map_in_batches(marginals, points, self._numbers)

    @property
    def _numbers(self) -> int:
        """Scores of one fit."""
        return self.x_val.shape[0] * (self.classes if self.classes > 2 else 1)

    def _prefix_scores(self, order: jax.Array):
        """A function from sizes to scores ``[sizes, targets, rows]``, and the sums behind it."""
        rows, target = self.x[order], targets(self.y[order], self.classes, self.x.dtype)
        if self.intercept:
            target = jnp.concatenate([target, jnp.ones_like(rows[:, :1])], 1)
        wide = rows.shape[0] <= rows.shape[1]
        if wide:
            gram, across = dot("if,jf->ij", rows, rows), dot("if,rf->ir", rows, self.x_val)
            running = kernel_sums(gram, self.penalty, target, across)
            constant = sums_before(dot("nbt,nb->nt", running.left, running.left[:, :, -1]))
        else:
            running = feature_sums(rows, self.penalty, target)
            constant = _residual_sums(rows, target, running)
        if self.intercept:
            running = _with_constant(running, constant)
        sums = sums_at(running)

        def scores(sizes: jax.Array) -> jax.Array:
            found = sums(sizes)
            level = jnp.zeros((), found.dtype)
            if self.intercept:
                found, level = _without_constant(found)
            return level + (found if wide else dot("stf,rf->str", found, self.x_val))

        return scores, running


def ridge_game(
    x: np.ndarray,
    y: np.ndarray,
    x_val: np.ndarray,
    y_val: np.ndarray,
    *,
    classes: int | None,
    utility: str = "accuracy",
    C: float = 1.0,
    intercept: bool = True,
) -> RidgeGame:
    """A `RidgeGame` from plain arrays, in JAX's default float type.

    Args:
      x: ``[points, features]``; y: ``[points]``, int classes from 0, or any numbers for regression.
      x_val: ``[rows, features]``; y_val: ``[rows]``.
      classes: number of classes, at least 2; None or 0 for regression.
      utility: one of `UTILITIES`; for regression ``"neg_mean_squared_error"`` or ``"r2"`` (clipped below at -1).
      C: inverse strength of the L2 penalty, ``1 / alpha`` of scikit-learn's ``Ridge``.
      intercept: whether the fit has one, unpenalised.

    Raises:
      InputError: a utility of the wrong kind, or r2 on validation targets that are all equal.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import utility
      >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
      >>> game = ridge_game(x, y, x, y, classes=2)
      >>> float(utility(game, np.array([True, True, False])))
      1.0
    """
    labels, labels_val, row_weight = checked_labels(y, y_val, classes=classes, utility=utility, centre=intercept)
    features, features_val = np.asarray(x, np.float64), np.asarray(x_val, np.float64)
    if intercept:
        mean = features.mean(0)
        features, features_val = features - mean, features_val - mean
    scale = power_of_two(float(np.sqrt(np.max(np.einsum("pf,pf->p", features, features)))))
    penalty, damped = scaled_penalty(C, scale**2)
    return RidgeGame(
        x=jnp.asarray(features / scale, dtype=float),
        y=labels,
        x_val=jnp.asarray(features_val / scale, dtype=float),
        y_val=labels_val,
        row_weight=row_weight,
        penalty=penalty,
        damped=jnp.asarray(damped),
        classes=int(classes or 0),
        utility=utility,
        intercept=bool(intercept),
    )


def feature_sums(rows: jax.Array, penalty: jax.Array, target: jax.Array) -> Running:
    """Running sums of ridge fits where points outnumber features: sums are weights.

    The order is cut into blocks of about as many points as features. Running Gram matrices give the fit at the start
    of each block; within it, its own points are conditioned on that fit as `kernel_sums` conditions all points on
    nothing. Blocks do not wait for each other, unlike the steps of a recursive least squares, and no error is carried
    from one to the next.

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
    identity = jnp.eye(features, dtype=rows.dtype)
    gram = sums_before(dot("nbi,nbj->nij", x, x)) + penalty * identity
    moment = sums_before(dot("nbi,nbt->nit", x, y))
    factor, damped = factorise(gram)
    half = solve_lower(factor, jnp.concatenate([jnp.swapaxes(x, 1, 2), moment], 2))
    gains, weights = jnp.split(solve_lower(factor, half, transpose=True), [block], 2)
    spread = dot("nfi,nfj->nij", half[:, :, :block], half[:, :, :block]) + jnp.eye(block, dtype=rows.dtype)
    inner, damped_within = factorise(spread)
    surprise = y - dot("nbf,nft->nbt", x, weights)
    solved = solve_lower(inner, jnp.concatenate([surprise, jnp.swapaxes(gains, 1, 2)], 2))
    left, right = jnp.split(solved, [target.shape[1]], 2)
    return Running(jnp.swapaxes(weights, 1, 2), left, right, damped | damped_within)


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


def _residual_sums(rows: jax.Array, target: jax.Array, running: Running) -> jax.Array:
    """Sums of the residuals at the start of each block, ``[blocks, targets]``.

    They are ``penalty 1'K^-1 target``, the constant column's running sum. Made afresh they keep nothing of the rounding
    of the first block, where points come to outnumber features and a small penalty is all that holds the fit.
    """
    block = running.left.shape[1]
    before = sums_before(jnp.sum(in_blocks(target, block), 1))
    along = sums_before(jnp.sum(in_blocks(rows, block), 1))
    return before - dot("nf,ntf->nt", along, running.base)


def _with_constant(running: Running, base: jax.Array) -> Running:
    """With one more column, that of a row whose kernel with every point is 1; the last target must be the ones."""
    return Running(
        jnp.concatenate([running.base, base[:, :, None]], 2),
        running.left,
        jnp.concatenate([running.right, running.left[:, :, -1:]], 2),
        running.damped,
    )


def _without_constant(sums: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums ``[sizes, targets, columns]`` less the intercept's share, and the intercepts ``[sizes, targets, 1]``."""
    moment, weight = sums[:, :-1, -1:], sums[:, -1:, -1:]
    level = jnp.where(weight > 0, moment / jnp.where(weight > 0, weight, 1.0), 0.0)
    return sums[:, :-1, :-1] - level * sums[:, -1:, :-1], level
