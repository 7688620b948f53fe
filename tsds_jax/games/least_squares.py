"""What the least squares games, ridge and kernel, share: targets, outcomes, and sums that run along an order.

The rows of a coalition taken in some order, ``K = k(S, S) + penalty = L L'``. The leading blocks of ``L`` are the
factors of the leading blocks of ``K``, so with ``left = L^-1 targets`` and ``right = L^-1 k(S, v)`` the prediction
for ``v`` by the fit to *every* prefix is a running sum, ``f_k(v) = sum_{i<k} left_i right_i(v)``: one factorisation
and one triangular solve serve all prefixes and all classes.

Weighted least squares are plain ones on rows, targets and constants times the roots of the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import class_numbers
from tsds_jax.errors import InputError
from tsds_jax.games.chunks import map_in_batches, numbers_at_once
from tsds_jax.games.outcomes import OutcomeGame, Reduce
from tsds_jax.games.products import dot
from tsds_jax.games.utilities import (
    REGRESSION_UTILITIES,
    UTILITIES,
    Outcome,
    RegressionOutcome,
    binary_outcome,
    checked_weights,
    row_weights,
)

_SUM_BLOCK = 32
# A penalty below this many units in the last place of the largest squared row is lost in it.
_PENALTY_FLOOR = 8
_LARGEST_PENALTY = 1e18
# How far off validation rows may be in units of the training rows: no float would hold the errors past it.
_FARTHEST = 1e12


class Running(NamedTuple):
    """Sums along an order cut into blocks: after ``k`` points, ``sum_{i<k} left_i (outer) right_i``.

    Attributes:
      base: ``[blocks, targets, columns]``, the sum up to the start of each block.
      left: ``[blocks, block, targets]``, zero behind the end of the order.
      right: ``[blocks, block, columns]``.
      damped: bool ``[blocks]``, whether the fits in a block rest on a damped factorisation.
    """

    base: jax.Array
    left: jax.Array
    right: jax.Array
    damped: jax.Array


@dataclass(frozen=True)
class LeastSquaresGame(OutcomeGame):
    """Ridge and kernel games: what a subclass's scores of validation rows are worth.

    Attributes:
      y: ``[players]``, int32 classes from 0, or float targets.
      y_val: ``[rows]``.
      row_weight: ``[rows]``, weights of the validation rows, summing to one.
      root_weight: ``[players]``, roots of the weights in the fit, the largest 1.
      penalty: scalar, ``1 / C`` in the units of the game's rows or kernel.
      damped: bool scalar, whether it was raised.
      classes: number of classes; 0 for regression.
      utility: one of `UTILITIES`, or of `REGRESSION_UTILITIES`.
    """

    y: jax.Array
    y_val: jax.Array
    row_weight: jax.Array
    root_weight: jax.Array
    penalty: jax.Array
    damped: jax.Array
    classes: int = field(metadata={"static": True})
    utility: str = field(metadata={"static": True})

    def running(self, order: jax.Array, most: jax.Array) -> tuple[Callable[[jax.Array], jax.Array], Running]:
        """A function from sizes up to ``most`` to scores ``[sizes, targets, rows]`` of prefixes; the sums it reads."""
        raise NotImplementedError

    def added(self, model: Any, points: jax.Array) -> jax.Array:
        """Scores ``[points, targets, rows]`` of a fitted coalition with one more point."""
        raise NotImplementedError

    @property
    def unit(self) -> jax.Array | float:
        """Of a mean squared error the variance of ``y_val``, which r2 divides by; 1 of all other utilities."""
        if self.utility != "neg_mean_squared_error":
            return 1.0
        return jnp.where(self._variance > 0, self._variance, 1.0)

    def prefix_map(self, order: jax.Array, sizes: jax.Array, reduce: Reduce) -> tuple[Any, jax.Array]:
        """``reduce`` of the outcomes of ``order[:k]`` for each ``k`` in ``sizes``, and how many fits were damped.

        The work is nearly that of all sizes whatever the sizes: ask for many at once. A prefix that has to be damped
        (`factorise`) damps those that are asked for with it, and all count; what lies behind them counts for nothing.
        """
        scores, running = self.running(order, jnp.max(sizes))
        numbers = max(self._numbers, numbers_a_sum(running))
        found = map_in_batches(lambda some: reduce(self._outcome(scores(some))), sizes, numbers)
        return found, damped_fits(running, sizes, self.damped)

    def fitted_outcome(self, model: Any) -> Outcome | RegressionOutcome:
        """What a fitted coalition's scores say of each validation row."""
        return self._outcome(model.scores)

    def add_one_map(self, model: Any, points: jax.Array, reduce: Reduce) -> tuple[Any, jax.Array]:
        """``reduce`` of the outcomes with one more point, exact: the update of one fit, so no further fit is counted.

        Arrays of ``points * rows * classes`` numbers are made in parts of at most `numbers_at_once`.
        """
        numbers = max(self._numbers, self._numbers_added(model))
        found = map_in_batches(lambda some: reduce(self._outcome(self.added(model, some))), points, numbers)
        return found, jnp.zeros(points.shape, jnp.int32)

    @property
    def _numbers(self) -> int:
        """Scores of one fit."""
        return self.y_val.shape[0] * (self.classes if self.classes > 2 else 1)

    def _numbers_added(self, model: Any) -> int:
        """Numbers that one more point takes beside its scores."""
        return 0

    def _targets(self, points: jax.Array) -> jax.Array:
        """`targets` of some points times the roots of their weights."""
        roots = self.root_weight[points]
        return targets(self.y[points], self.classes, roots.dtype) * roots[:, None]

    def _outcome(self, scores: jax.Array) -> Outcome | RegressionOutcome:
        if self.classes:
            return score_outcome(scores, self.y_val, self.classes)
        # Of validation rows far from all points errors may be past what a float's square, or its mean, can be.
        error = jnp.clip(scores[..., 0, :] - self.y_val, -_largest_root(), _largest_root())
        return RegressionOutcome(error**2, jnp.broadcast_to(self._variance, (*scores.shape[:-2], 1)))

    @property
    def _variance(self) -> jax.Array:
        """Of ``y_val`` by the weights of its rows."""
        mean = dot("r,r->", self.y_val, self.row_weight)
        return dot("r,r->", (self.y_val - mean) ** 2, self.row_weight)


class Labels(NamedTuple):
    """Labels and weights as the least squares games hold them; see `LeastSquaresGame`."""

    y: jax.Array
    y_val: jax.Array
    row_weight: jax.Array
    root_weight: np.ndarray
    heaviest: float


def checked_labels(
    y: np.ndarray,
    y_val: np.ndarray,
    *,
    classes: int | None,
    utility: str,
    centre: bool,
    weight_val: object = None,
    sample_weight: object = None,
) -> Labels:
    """Training labels, validation labels and weights as the least squares games hold them.

    Args:
      y: ``[points]``; y_val: ``[rows]``; class numbers, or for regression any numbers.
      classes: number of classes, at least 2; None or 0 for regression.
      utility: must suit classification or regression.
      centre: take the (weighted) mean of ``y`` off both (regression only; what an intercept makes up for).
      weight_val: ``[rows]``; sample_weight: ``[points]``; None weighs all alike.

    Returns:
      `Labels`; weights in the fit are divided by the ``heaviest``.

    Raises:
      InputError: a utility of the other kind, weights that cannot be used, or r2 on validation targets that are all
        equal, or targets too small or large to square.
    """
    known = UTILITIES if classes else REGRESSION_UTILITIES
    if utility not in known:
        kind = f"{classes} classes" if classes else "regression"
        raise InputError(f"utility {utility!r} is not one for {kind}: use one of {', '.join(known)}")
    weight = row_weights(utility, y_val, weight_val)
    own = checked_weights(sample_weight, len(y), "sample_weight")
    heaviest = float(own.max())
    share: np.ndarray = own / heaviest
    if classes:
        target = class_numbers(y, "y", len(y), classes)
        truth = class_numbers(y_val, "y_val", len(y_val), classes)
    else:
        target, truth = _checked_targets(y, "y"), _checked_targets(y_val, "y_val")
        if utility == "r2":
            _check_variance(truth, weight)
        # From one on: of targets that are all the same nothing is left, not even rounding.
        one = target[np.argmax(share > 0)]
        shift = one + np.average(target - one, weights=share) if centre else 0.0
        target, truth = target - shift, truth - shift
        _check_squares(target, truth, abs(shift))
        _check_digits(target, "y", float(target.std()))
        # r2 is in units of its own spread; an error is as large as the targets', whatever the rows' own.
        _check_digits(truth, "y_val", float(truth.std() if utility == "r2" else max(truth.std(), target.std())))
    number = jnp.int32 if classes else float
    return Labels(
        jnp.asarray(target, dtype=number),
        jnp.asarray(truth, dtype=number),
        jnp.asarray(weight, dtype=float),
        np.sqrt(share),
        heaviest,
    )


def _checked_targets(y: np.ndarray, name: str) -> np.ndarray:
    """Regression targets as float64, refused where a mean of their squares might not be finite."""
    target = np.asarray(y, np.float64)
    bad = ~(np.abs(target) < _largest_root())
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{name} is {target[row]:.6g} at row {row}: give finite numbers, or scale y and y_val alike")
    return target


def _largest_root() -> float:
    """The largest number that is squared: a mean of such squares is finite."""
    return float(1e-3 * np.sqrt(float(jnp.finfo(jnp.result_type(float)).max)))


def _check_squares(target: np.ndarray, truth: np.ndarray, shift: float) -> None:
    """Raises InputError for targets so small that their squared errors would be rounded to 0.

    What rounding leaves of a ``shift`` is not small but nothing.
    """
    limits = jnp.finfo(jnp.result_type(float))
    largest = float(max(np.abs(target).max(), np.abs(truth).max()))
    if largest > 8 * np.finfo(np.float64).eps * shift and 0 < largest**2 < limits.tiny / limits.eps:
        raise InputError(
            f"y and y_val reach {largest:.3g} only, whose squared errors round to 0: scale y and y_val alike"
        )


def _check_digits(values: np.ndarray, name: str, apart: float) -> None:
    """Raises InputError for values so far from zero that floats keep little of what lies ``apart``."""
    far = float(np.abs(values).max())
    rounding = float(jnp.finfo(jnp.result_type(float)).eps) * far
    # Of numbers that are the same rounding may be left.
    if 1e-12 * far < apart < 100 * rounding:
        raise InputError(
            f"{name} differs by {apart:.3g}, of which {jnp.result_type(float)} keeps little at {far:.3g}: take the same"
            " number off y and y_val"
        )


def _check_variance(truth: np.ndarray, weight: np.ndarray) -> None:
    counted = truth[weight > 0]
    if np.all(counted == counted[0]):
        raise InputError("utility 'r2' is undefined, y_val has one value only: use 'neg_mean_squared_error'")
    variance = np.average((truth - np.average(truth, weights=weight)) ** 2, weights=weight)
    limits = jnp.finfo(jnp.result_type(float))
    if variance < limits.tiny:
        raise InputError(
            f"utility 'r2' needs y_val's variance, which rounds to 0 from {variance:.3g}: scale y and y_val alike"
        )


def scaled_penalty(C: float, square: float) -> tuple[jax.Array, bool]:
    """The penalty ``1 / C`` where rows are divided so that ``square`` becomes one, and whether it had to be raised.

    Args:
      C: inverse strength.
      square: what squared rows (a Gram matrix) are divided by; the largest is then about one.
    """
    with np.errstate(over="ignore", divide="ignore"):  # tiny weights: a penalty past the largest allowed
        wanted = np.float64(1.0) / C / square
    floor = _PENALTY_FLOOR * float(jnp.finfo(jnp.result_type(float)).eps)
    return jnp.asarray(np.clip(wanted, floor, _LARGEST_PENALTY), dtype=float), bool(wanted < floor)


def in_units(across: np.ndarray, scale: float) -> jax.Array:
    """Validation rows, or their kernels with points, divided by ``scale``, and not past 1e12 of it."""
    return jnp.asarray(np.clip(across / scale, -_FARTHEST, _FARTHEST), dtype=float)


def power_of_two(size: float) -> float:
    """The power of two nearest to ``size``; dividing by it rounds nothing. 1 for 0."""
    return float(2.0 ** np.round(np.log2(size))) if size > 0 else 1.0


def targets(y: jax.Array, classes: int, dtype: Any) -> jax.Array:
    """What is regressed on, ``[points, targets]``: one-hot columns; for two classes their difference, -1 or 1.

    Fits are linear in their targets, so the difference of two columns' scores is the score of their difference,
    absent classes (all zero columns) included.
    """
    if classes == 0:
        return y[:, None].astype(dtype)
    if classes == 2:
        return (2 * y - 1)[:, None].astype(dtype)
    return jax.nn.one_hot(y, classes, dtype=dtype)


def score_outcome(scores: jax.Array, y_val: jax.Array, classes: int) -> Outcome:
    """What scores ``[..., targets, rows]`` say of each validation row's class.

    A class has probability ``softmax(2 scores)``: for two classes whose scores sum to one, the logistic curve tangent
    to the linear probability model at one half. Of two classes a tie is where the scores' difference is exactly 0: what
    rounding leaves of one, as of two copies with opposite labels, is none.
    """
    if classes == 2:
        return binary_outcome(2 * scores[..., 0, :], y_val)
    mine = jnp.arange(classes)[:, None] == y_val
    true = jnp.sum(jnp.where(mine, scores, 0.0), -2)
    top = jnp.max(scores, -2)
    # The compiler may make a score twice, rounded differently: scores that differ by rounding alone are a tie, none is
    # above the highest, and one is the highest.
    slack = 4 * jnp.finfo(scores.dtype).eps * jnp.max(jnp.abs(scores), -2)
    ties = jnp.maximum(jnp.sum(scores >= (top - slack)[..., None, :], -2), 1)
    below = jnp.minimum(scores - top[..., None, :], 0.0)
    normaliser = jnp.log(jnp.maximum(jnp.sum(jnp.exp(2 * below), -2), 1.0))
    return Outcome(jnp.where(true >= top - slack, 1.0 / ties, 0.0), 2 * jnp.minimum(true - top, 0.0) - normaliser)


def in_blocks(values: jax.Array, block: int) -> jax.Array:
    """``[points, ...]`` as ``[blocks, block, ...]``, the last block filled up with zeros."""
    blocks = -(-len(values) // block)
    padding = [(0, blocks * block - len(values))] + [(0, 0)] * (values.ndim - 1)
    return jnp.pad(values, padding).reshape(blocks, block, *values.shape[1:])


def sums_before(values: jax.Array) -> jax.Array:
    """Sum over the entries ahead of each along the first axis, from zero."""
    return jnp.concatenate([jnp.zeros_like(values[:1]), jnp.cumsum(values[:-1], 0)])


def running_sums(left: jax.Array, right: jax.Array, damped: jax.Array, block: int = _SUM_BLOCK) -> Running:
    """Running sums of ``left`` ``[points, targets]`` times ``right`` ``[points, columns]``, of one factorisation."""
    left, right = in_blocks(left, block), in_blocks(right, block)
    base = sums_before(dot("nbt,nbc->ntc", left, right))
    return Running(base, left, right, jnp.broadcast_to(damped, len(base)))


def sums_at(running: Running) -> Callable[[jax.Array], jax.Array]:
    """A function from sizes ``[sizes]`` to the sums after so many points, ``[sizes, targets, columns]``.

    Where all sums together are small they are made once, by a product with a triangle of ones, and looked up; else
    each is made from its block (`numbers_a_sum`), so memory is that of the sizes asked for.
    """
    blocks, block, targets = running.left.shape
    columns = running.right.shape[2]
    if numbers_a_sum(running) == 0:
        before = np.tril(np.ones((block, block), np.float32), -1)
        product = (running.left[..., None] * running.right[:, :, None]).reshape(blocks, block, -1)
        inside = dot("ij,njx->nix", before.astype(product.dtype), product)
        inside = inside.reshape(blocks, block, targets, columns) + running.base[:, None]
        last = running.base[-1] + dot("bt,bc->tc", running.left[-1], running.right[-1])
        table = jnp.concatenate([inside.reshape(-1, targets, columns), last[None]])
        return lambda sizes: table[sizes]

    def gathered(sizes: jax.Array) -> jax.Array:
        number = jnp.minimum(sizes // block, blocks - 1)
        inside = jnp.arange(block) < (sizes - number * block)[:, None]
        left = running.left[number] * inside[:, :, None]
        return running.base[number] + dot("sbt,sbc->stc", left, running.right[number])

    return gathered


def numbers_a_sum(running: Running) -> int:
    """Numbers that `sums_at` gathers for each size: those of a block, or none where all sums are made at once."""
    _, block, targets = running.left.shape
    columns = running.right.shape[2]
    if running.left.size * columns <= numbers_at_once():
        return 0
    return block * max(columns, targets)


def damped_fits(running: Running, sizes: jax.Array, always: jax.Array) -> jax.Array:
    """How many of the fits of these sizes were damped, or all where ``always``; the empty one is no fit."""
    block = running.left.shape[1]
    number = jnp.minimum(sizes // block, len(running.damped) - 1)  # as `sums_at` reads
    return jnp.sum((running.damped[number] | always) & (sizes > 0), dtype=jnp.int32)
