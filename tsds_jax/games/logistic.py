"""The paper's source classifier: L2-regularised logistic regression, one fit for each coalition.

Fits are scikit-learn's: with labels ``y``, features ``x``, sample weights ``w`` and ``C``, minimise over weights and
intercept

    sum_i w_i loss(y_i, x_i) + |weights|^2 / (2 C),

the intercept unpenalised; one weight vector for two classes, one a class (softmax) for more. Of a coalition that
lacks some class the rule of succession speaks: with members of total weight ``k`` and ``K`` classes each absent class
has probability ``1 / (k + K)``, and the present ones share the rest as the fit says. So one class present is always
predicted, and the empty coalition knows nothing: probability ``1 / K`` each.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import class_numbers, number_in, one_of
from tsds_jax.errors import InputError
from tsds_jax.games.binary import class_mass, fit_binary, fit_prefixes
from tsds_jax.games.chunks import cut_short, fit_in_batches, held, map_in_batches, matrices_at_once
from tsds_jax.games.descent import TOLERANCE
from tsds_jax.games.game import Fitted
from tsds_jax.games.newton import Minimum
from tsds_jax.games.one_more import EXACT, Accuracy, Own, close_accuracy, fit_one_more, known_fit
from tsds_jax.games.one_more_softmax import fit_one_more_softmax, known_softmax, numbers_lifted, pulled
from tsds_jax.games.outcomes import INTERCEPTS, OutcomeGame, Reduce
from tsds_jax.games.products import dot, in_three
from tsds_jax.games.softmax import fit_softmax
from tsds_jax.games.utilities import UTILITIES, Outcome, binary_outcome, checked_weights, row_weights
from tsds_jax.runtime.environment import has_tf32

# A coalition's contributions take a minute at so many, and grow with their number.
MAX_CLASSES = 1000
# To this size a coalition's fit with one point more is as exact as any; beyond, a thousandth from it.
_SMALL = 16
# So many classes are looked at one by one.
_FEW_CLASSES = 16
# A penalty beyond leaves nothing of a weight of a row of about one unit, and its square is a float32 still.
_LARGEST_RIDGE = 1e18
# Of weights that are not 0: beyond, float32 has too few digits for rows beside a penalty, or beside each other.
_LEAST_WEIGHT, _LARGEST_WEIGHT = 1e-6, 1e4
# A column's middle and spread are those of so many rows.
_LOOKED_AT = 1000


class LogisticFit(NamedTuple):
    """The regression of one coalition.

    Attributes:
      rows: ``[length, features]``, members first.
      labels: ``[length]``.
      weight: ``[length]``, 0 behind the members.
      parameters: ``[features]``, or ``[classes * features]``.
      known: where the fits of one point more start, `KnownBinary`, or of more than two classes `KnownSoftmax`; zeros
        where the members are of one class and the intercept is not free.
      mass: ``[classes]``, the members' weight in each class.
      size: members.
    """

    rows: jax.Array
    labels: jax.Array
    weight: jax.Array
    parameters: jax.Array
    known: Any
    mass: jax.Array
    size: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LogisticGame(OutcomeGame):
    """Utility of a coalition = validation performance of the logistic regression fitted to its members.

    Build it with `logistic_game`. ``features`` below counts the constant column that carries the intercept. A fit that
    does not reach its tolerance is the best that was found, and counts as unconverged.

    Attributes:
      x: float32 ``[players, features]``, in units in which every column's spread is about one.
      y: int32 ``[players]``, classes from 0.
      x_val: float32 ``[rows, features]``.
      y_val: int32 ``[rows]``.
      row_weight: float32 ``[rows]``, summing to one.
      weight: float32 ``[players]``, of each player's loss.
      ridge: float32 ``[features]``, the penalty on each parameter.
      classes: number of classes.
      utility: one of `UTILITIES`.
    """

    x: jax.Array
    y: jax.Array
    x_val: jax.Array
    y_val: jax.Array
    row_weight: jax.Array
    weight: jax.Array
    ridge: jax.Array
    classes: int = field(metadata={"static": True})
    utility: str = field(metadata={"static": True})
    per_player = ("x", "y", "weight")

    @property
    def fits_at_once(self) -> int:
        """How many fits are made together: each takes a handful of matrices ``[features, features]``."""
        return matrices_at_once(self.x.shape[1])

    @property
    def approximate(self) -> bool:
        """Whether `add_one_marginals` are not those of exact refits."""
        return True

    def prefix_map(self, order: jax.Array, sizes: jax.Array, reduce: Reduce) -> tuple[Any, jax.Array]:
        """``reduce`` of the outcomes of ``order[:k]`` for each ``k`` in ``sizes``; unconverged fits.

        Each is the prefix's own converged fit, whatever the other sizes. For two classes many sizes at a time are
        fastest (`fit_prefixes`).
        """
        rows, labels, weight = self.x[order], self.y[order], self.weight[order]
        member = (jnp.arange(len(rows)) < sizes[:, None]) * weight
        if self.classes == 2:
            fit = fit_prefixes(rows, labels, weight, sizes, self.ridge)
        else:

            def softmax(count: int) -> Minimum:
                def fitted(some: jax.Array) -> Minimum:
                    return fit_softmax(rows[:count], labels[:count], member[some, :count], self.ridge, self.classes)

                # Each has an entry for each row and class besides.
                return fit_in_batches(fitted, len(sizes), rows.shape[1], count * self.classes)

            fit = cut_short(softmax, len(rows), jnp.max(sizes))
        mass = class_mass(labels, member, self.classes)

        def reduced(some: jax.Array) -> Any:
            return reduce(self._outcome(fit.parameters[some], mass[some]))

        numbers = len(self.y_val) * self.classes
        return map_in_batches(reduced, jnp.arange(len(sizes)), numbers), jnp.sum(~fit.converged, dtype=jnp.int32)

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        """The logistic regression of ``order[:size]``, with what fits of one point more start from."""
        rows, labels, size = self.x[order], self.y[order], jnp.asarray(size, jnp.int32)
        weight = (jnp.arange(order.shape[0]) < size) * self.weight[order]
        mass = class_mass(labels, weight[None], self.classes)[0]
        if self.classes == 2:
            found = fit_binary(rows, labels, weight[None], self.ridge)
            # Of one class too, at whose probabilities rows curve as little as at the fit with a point of another. A
            # penalised intercept it does not hold: the change from there would lie outside what the rows span.
            holds = (jnp.sum(mass > 0) > 1) | (self.ridge[-1] == 0)
            start = jnp.where(holds, found.parameters[0], 0.0)
            known: Any = known_fit(rows, labels, weight, start, self.ridge)
        else:
            found = fit_softmax(rows, labels, weight[None], self.ridge, self.classes)
            known = known_softmax(rows, labels, weight, found.parameters[0], self.ridge, self.classes)
        model = LogisticFit(rows, labels, weight, found.parameters[0], known, mass, size)
        return Fitted(model, 1 - found.converged[0].astype(jnp.int32))

    def fitted_outcome(self, model: LogisticFit) -> Outcome:
        """What the coalition's regression says of each validation row."""
        return jax.tree.map(lambda part: part[0], self._outcome(model.parameters[None], model.mass[None]))

    def add_one_map(self, model: LogisticFit, points: jax.Array, reduce: Reduce) -> tuple[Any, jax.Array]:
        """``reduce`` of the outcomes with one more point, for each in ``points``; unconverged fits, ``[points]``.

        Fits with one point more start from the coalition's, a rank-one step of it for two classes, and descend until
        they are within 1e-5 (coalitions of up to 16; on a CPU also those of one class) or 3e-4 of their minimum (1e-3
        on an accelerator), relative to their largest parameter.
        """
        own = Own(self.x[points], self.y[points], self.weight[points])

        # Nothing is known of a coalition of one class.
        several = jnp.sum(model.mass > 0) > 1

        def members(count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
            return model.rows[:count], model.labels[:count], model.weight[:count]

        def two(count: int, accuracy: Accuracy) -> tuple[Any, jax.Array]:
            more = fit_one_more(*members(count), model.known, own, accuracy)
            rows = dot("rf,fg->rg", self.x_val, more.root)
            if accuracy.product is dot and has_tf32():
                change = in_three(more.change, rows)
            else:
                change = accuracy.product("bf,rf->br", more.change, rows)
            logit = dot("f,rf->r", model.known.parameters, self.x_val) + change
            outcome = binary_outcome(jnp.where(more.both[:, None], logit, more.log_odds[:, None]), self.y_val)
            return reduce(outcome), more.converged

        def by_size(fitted: Callable[[int, Accuracy], Any]) -> Any:
            def case(count: int, accuracy: Accuracy) -> Any:
                # What `near` rounds shows where the whole fit is the difference.
                fine = several | (jax.default_backend() != "cpu")
                return fitted(count, accuracy._replace(tolerance=jnp.where(fine, accuracy.tolerance, TOLERANCE)))

            length = model.rows.shape[0]
            if length <= _SMALL:
                return case(length, EXACT)
            half = max(_SMALL, length // 2)
            return jax.lax.switch(
                (model.size > _SMALL) + (model.size > half).astype(jnp.int32),
                [
                    lambda: case(_SMALL, EXACT),
                    lambda: case(half, close_accuracy()),
                    lambda: case(length, close_accuracy()),
                ],
            )

        if self.classes == 2:
            found, converged = by_size(two)
        else:
            begun = pulled(model.known, own, model.mass)
            fit = by_size(lambda count, accuracy: fit_one_more_softmax(*members(count), self.ridge, begun, accuracy))
            one = jax.nn.one_hot(own.y, self.classes, dtype=own.x.dtype)
            found = reduce(self._outcome(fit.parameters, model.mass + own.weight[:, None] * one))
            converged = fit.converged
        return found, (~converged).astype(jnp.int32)

    def numbers_added(self, size: int) -> int:
        """Numbers that the fit of a coalition of ``size`` and one point more takes, in its largest array.

        Its parameters, its logits of validation rows, or those of the members, which an eighth of the points pass over
        at a time (`descend_in_stages`); of each class, where there are more than two, and then what the point is to the
        fit's curvature.
        """
        features = self.x.shape[1]
        if self.classes == 2:
            return max(features, len(self.y_val), size // 8)
        scores = self.classes * max(len(self.y_val), size // 8)
        return max(scores, numbers_lifted(self.classes, features))

    def _outcome(self, parameters: jax.Array, mass: jax.Array) -> Outcome:
        """Of fits ``[lanes, ...]`` to members of weight ``mass`` ``[lanes, classes]``."""
        if self.classes == 2:
            return binary_outcome(dot("bf,rf->br", parameters, self.x_val), self.y_val)
        return _softmax_outcome(parameters, mass, self.x_val, self.y_val)


def logistic_game(
    x: np.ndarray,
    y: np.ndarray,
    x_val: np.ndarray,
    y_val: np.ndarray,
    *,
    classes: int,
    utility: str = "accuracy",
    C: float = 1.0,
    intercept: str = "free",
    weight_val: object = None,
    sample_weight: object = None,
) -> LogisticGame:
    """A `LogisticGame` from plain arrays.

    Args:
      x: ``[players, features]``; y: int ``[players]``, classes from 0.
      x_val: ``[rows, features]``; y_val: int ``[rows]``.
      classes: number of classes, at least 2.
      utility: one of `UTILITIES`.
      C: inverse strength of the L2 penalty, as in scikit-learn.
      intercept: ``"free"`` is unpenalised; ``"penalised"`` the weight of a constant feature 1, penalised like any;
        ``"none"``.
      weight_val: ``[rows]``, not negative, how much each validation row counts; None counts all alike.
      sample_weight: ``[players]``, 0 or from 1e-6 to 1e4, the weight of each player's loss, as in scikit-learn; None
        weighs all 1. A player of weight zero changes nothing.

    Raises:
      InputError: labels, weights, C, a utility or an intercept that cannot be used, or more than 1,000 classes.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import logistic_game, utility
      >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
      >>> game = logistic_game(x, y, x, y, classes=2)
      >>> float(utility(game, np.array([True, True, False])))
      1.0
    """
    if classes > MAX_CLASSES:
        raise InputError(
            f"{classes:,} classes are more than the {MAX_CLASSES:,} that logistic regressions are fitted to here: use "
            "source='ridge', or the baseline 'knn_shapley'"
        )
    one_of("intercept", intercept, INTERCEPTS)
    one_of("utility", utility, UTILITIES)
    number_in("C", C, 1e-30, np.inf, whole=False)
    y = class_numbers(y, "y", len(x), classes)
    y_val = class_numbers(y_val, "y_val", len(x_val), classes)
    weight = checked_weights(sample_weight, len(y), "sample_weight")
    _check_magnitudes(weight)

    width = np.shape(x)[1]
    # An accelerator reads four floats at once where rows begin at a multiple of four. Nothing comes of zeros.
    spare = 0 if jax.default_backend() == "cpu" else -(width + 1) % 4

    # A free intercept takes an offset up, and float32 has no digits for a large one.
    middle = _middle(np.asarray(x)) if intercept == "free" else np.zeros(width)

    def with_constant(features: np.ndarray, constant: float) -> np.ndarray:
        whole = np.zeros((len(features), width + spare + 1), np.float32)
        np.subtract(features, middle, out=whole[:, :width], casting="same_kind")
        whole[:, -1] = constant
        return whole

    # Without an intercept its column is zero in fits; coalitions of one class still speak through it.
    rows, rows_val = with_constant(x, 0.0 if intercept == "none" else 1.0), with_constant(x_val, 1.0)
    # A fit ends by its largest parameter, beside which one in other units might be anything: each is in units of its
    # column's spread.
    # A unit whose penalty would be too large is not taken: to cut that leaves the few rows of a column far larger than
    # the others, as those of confident probabilities are, all but unpenalised.
    least = np.exp2(np.ceil(np.log2(1 / np.sqrt(C * _LARGEST_RIDGE)))).astype(np.float32)
    short = np.asarray(x).dtype.itemsize <= 4
    rounding = np.finfo(np.float32 if short else np.float64).eps * np.abs(middle)
    unit = np.maximum(_spread(rows[:, :width], rounding), least)
    rows[:, :width] /= unit
    rows_val[:, :width] /= unit
    ridge = np.full(width + spare + 1, 1.0 / C)
    ridge[:width] = ridge[:width] / unit / unit
    if intercept == "free":
        ridge[-1] = 0.0
    return LogisticGame(
        x=held(rows),
        y=jnp.asarray(y, jnp.int32),
        x_val=held(rows_val),
        y_val=jnp.asarray(y_val),
        row_weight=jnp.asarray(row_weights(utility, y_val, weight_val), jnp.float32),
        weight=jnp.asarray(weight, jnp.float32),
        ridge=jnp.asarray(ridge, jnp.float32),
        classes=int(classes),
        utility=utility,
    )


def _check_magnitudes(weight: np.ndarray) -> None:
    """Raises InputError for weights whose sums and squares float32 does not hold beside a penalty."""
    # A float32 of a limit is not the limit.
    few = (weight > 0) & (weight < (1 - 1e-6) * _LEAST_WEIGHT)
    bad = few | (weight > (1 + 1e-6) * _LARGEST_WEIGHT)
    if bad.any():
        row = int(np.argmax(bad))
        limits = f"from {_LEAST_WEIGHT:g} to {_LARGEST_WEIGHT:g}, scaling all, and C by the inverse"
        raise InputError(f"sample_weight is {weight[row]:.6g} at row {row}: give 0, or {limits}")


def _some(columns: np.ndarray) -> np.ndarray:
    """Some of ``[points, features]``, evenly apart: enough to say where most are."""
    return columns[:: -(-len(columns) // _LOOKED_AT)].astype(np.float64)


def _middle(columns: np.ndarray) -> np.ndarray:
    """Median of each of ``[points, features]``: a mean that one sentinel has moved is far from all rows."""
    return np.median(_some(columns), 0)


def _spread(columns: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """How far most of ``[points, features]`` are from zero, those that are not zero; no zero.

    Of a column of zeros with few exceptions their root mean square, or what ``rounding``, ``[features]``, leaves where
    a middle was taken off. A power of two: to divide by it rounds nothing.
    """
    far = np.sort(np.abs(_some(columns)), 0)
    middles = np.minimum(((far == 0).sum(0) + len(far)) // 2, len(far) - 1)  # of those behind the zeros
    most = 1.4826 * np.take_along_axis(far, middles[None], 0)[0]
    square = np.einsum("pf,pf->f", columns, columns, dtype=np.float64) / len(columns)
    spread = np.where(most > 0, most, np.sqrt(square)) + rounding
    return np.exp2(np.round(np.log2(np.where(spread > 0, spread, 1.0)))).astype(np.float32)


def _softmax_outcome(parameters: jax.Array, mass: jax.Array, x_val: jax.Array, y_val: jax.Array) -> Outcome:
    lanes, classes = mass.shape
    features = parameters.reshape(lanes, classes, -1)
    present = mass > 0
    absent = classes - jnp.sum(present, 1, keepdims=True)
    # Members and one imagined point a class: of the classes that are present, and of all.
    own = jnp.log1p(jnp.sum(mass, 1, keepdims=True) + (jnp.maximum(classes - absent, 1) - 1))
    whole = jnp.sum(mass, 1, keepdims=True) + classes
    # A logarithm of about 1 has no digits for what it is less than 1, and one of nearly 0 none for the difference.
    share = jnp.where(2 * absent < whole, jnp.log1p(-absent / whole), own - jnp.log(whole))
    # Reduced over classes, few arrays of one class each take a CPU a fraction of the time of one array.
    width = 1 if classes <= _FEW_CLASSES else classes
    blocks = [slice(first, first + width) for first in range(0, classes, width)]
    logits = [
        jnp.where(present[:, some, None], dot("bcf,rf->bcr", features[:, some], x_val), -jnp.inf) for some in blocks
    ]
    top = reduce(jnp.maximum, [jnp.max(some, 1) for some in logits])
    # Of nobody the largest is minus infinity, from which nothing can be taken.
    base = jnp.maximum(top, jnp.finfo(top.dtype).min)[:, None]
    logits = [some - base for some in logits]
    total = sum(jnp.sum(jnp.exp(some), 1) for some in logits)
    inside = jnp.where(absent < classes, jnp.log(total), 0.0)
    # An absent class has the logit that gives it its probability.
    lone = jnp.where(absent > 0, inside - own, -jnp.inf)
    best = jnp.maximum(top - base[:, 0], lone)
    label = jnp.arange(classes)[:, None] == y_val
    true = sum(jnp.sum(jnp.where(label[of], some, 0.0), 1) for of, some in zip(blocks, logits, strict=True))
    true = jnp.where(true == -jnp.inf, lone, true)
    ties = sum(jnp.sum(some == best[:, None], 1) for some in logits) + absent * (lone == best)
    return Outcome(jnp.where(true == best, 1 / ties, 0.0), true - inside + share)
