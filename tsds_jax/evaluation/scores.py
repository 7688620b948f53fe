"""How good predictions are, and how sure one can be that one model's are better than another's.

Two models are compared on the *same* test rows, so their scores rise and fall together from one test set to
the next. A paired bootstrap keeps that: it draws rows, and each row brings both models' predictions with it.
The metrics here depend on the rows only through how often each (label, prediction a, prediction b) occurs, so
a resample is one multinomial draw of those counts and no row is ever copied. Rows that are not independent, of one
document or of one text, are drawn together: a draw is then of whole units, those with the same rows counted as one.

References:
  Efron, Better bootstrap confidence intervals, JASA 1987 (BCa).
  Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.stats import binomtest, t

from tsds_jax.arrays import whole_numbers
from tsds_jax.errors import InputError

Metric = Literal["accuracy", "macro_f1"]

# Scores of every row of ``[resamples, cells]`` counts.
Statistic = Callable[[np.ndarray], np.ndarray]

# Counts of one block of resamples, in numbers: bounds memory at 32 MB whatever the test set's size.
_BLOCK = 4_000_000

# Two scores that rounding tells apart are the same one.
_TIE = 1e-12


class Interval(NamedTuple):
    """An estimate with a confidence interval around it.

    Attributes:
      estimate: the value on the rows as they are.
      low: lower end.
      high: upper end.
    """

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of rows whose prediction is the label.

    Args:
      labels: class numbers, integers from 0, ``[rows]``.
      predictions: predicted class numbers, ``[rows]``.

    Returns:
      A number from 0 to 1.

    Raises:
      InputError: if there are no rows, the lengths differ, or something is not a class number.

    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
    0.75
    """
    labels, predictions = _class_numbers(labels, predictions=predictions)
    return float(np.mean(labels == predictions))


def macro_f1(labels: ArrayLike, predictions: ArrayLike, classes: int) -> float:
    """Mean over all classes of F1 = 2 TP / (2 TP + FP + FN), 0 for a class that neither side ever names.

    The mean is over every class from 0 to ``classes - 1``, also one that the test rows lack, so scores of
    different test sets with the same classes can be compared.

    Args:
      labels: class numbers, ``[rows]``.
      predictions: predicted class numbers, ``[rows]``.
      classes: number of classes.

    Returns:
      A number from 0 to 1.

    Raises:
      InputError: if there are no rows, the lengths differ, or a class number is not below ``classes``.

    >>> round(macro_f1([0, 1, 1, 0], [0, 1, 0, 0], classes=2), 4)
    0.7333
    """
    labels, predictions = _class_numbers(labels, classes=classes, predictions=predictions)
    cells, cell = _cells(labels, predictions)
    return float(_macro_f1_of_counts(np.bincount(cell)[None, :], cells[:, 0], cells[:, 1], classes)[0])


def paired_difference(
    labels: ArrayLike,
    predictions_a: ArrayLike,
    predictions_b: ArrayLike,
    metric: Metric = "accuracy",
    *,
    classes: int | None = None,
    units: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """``metric(a) - metric(b)`` on the same rows, with a paired bootstrap interval (BCa) over rows.

    The interval is about the choice of test rows alone: another fine-tuning seed would move both scores too.
    Two models that agree on every row get [0, 0]. Where few rows differ, their resamples look surer than they are: zero
    is outside the interval only where it would be so by chance in fewer than ``1 - level`` of the ways to swap the two
    predictions of each row (a randomisation test, which for accuracy is the sign test).

    Args:
      labels: class numbers, ``[rows]``.
      predictions_a: the first model's predicted class numbers, ``[rows]``.
      predictions_b: the second model's, ``[rows]``.
      metric: ``"accuracy"`` or ``"macro_f1"``.
      classes: number of classes; macro-F1 needs it.
      units: whole numbers, ``[rows]``: rows of one unit (a document, copies of a text) are drawn and swapped together;
        None takes every row by itself.
      level: wanted coverage, between 0 and 1.
      resamples: bootstrap resamples, at least 100.
      seed: seed of the resamples; the same seed gives the same interval.

    Returns:
      The difference with its interval; above zero where ``a`` is the better one.

    Raises:
      InputError: if there are no rows, lengths differ, a class number is not below ``classes``, macro-F1 is
        asked for without ``classes``, units are not one whole number a row, or an option is out of range.

    >>> paired_difference([0, 1, 1, 0] * 50, [0, 1, 1, 0] * 50, [0, 1, 0, 0] * 50).estimate
    0.25
    """
    _check_options(metric, classes, level, resamples)
    labels, a, b = _class_numbers(labels, classes=classes, predictions_a=predictions_a, predictions_b=predictions_b)
    if metric == "accuracy":
        cells, cell = _cells((a == labels).astype(np.int64) - (b == labels))
        swapped = -cells

        def of(cells: np.ndarray) -> Statistic:
            return lambda weights: weights @ cells[:, 0] / weights.sum(axis=1)

    else:
        assert classes is not None
        size = classes
        cells, cell = _cells(labels, a, b)
        swapped = cells[:, [0, 2, 1]]

        def of(cells: np.ndarray) -> Statistic:
            def statistic(weights: np.ndarray) -> np.ndarray:
                of_a = _macro_f1_of_counts(weights, cells[:, 0], cells[:, 1], size)
                return of_a - _macro_f1_of_counts(weights, cells[:, 0], cells[:, 2], size)

            return statistic

    kinds, counts = _kinds(cell, None if units is None else whole_numbers(units, "units", len(cell), "the rows"))
    width = max(kinds.shape)
    found = _bca(lambda weights: of(cells)(weights @ kinds), counts, width, level, resamples, seed)
    if not found.excludes_zero:
        return found

    def swaps(rng: np.random.Generator, size: int) -> np.ndarray:
        other = rng.binomial(counts, 0.5, size=(size, len(counts)))
        return np.concatenate([counts - other, other], axis=1)

    both = of(np.concatenate([cells, swapped]))

    def swapped_or_not(weights: np.ndarray) -> np.ndarray:
        return both(np.concatenate([part @ kinds for part in np.split(weights, 2, axis=1)], axis=1))

    draws = _draws(swapped_or_not, swaps, 2 * width, resamples, [seed, 1])
    chance = (1 + np.sum(np.abs(draws) >= abs(found.estimate) - _TIE)) / (1 + resamples)
    return found if chance <= 1 - level else Interval(found.estimate, min(found.low, 0.0), max(found.high, 0.0))


def over_seeds(each: Sequence[Interval], level: float = 0.95) -> Interval:
    """The mean of a difference by several fine-tuning seeds on the same rows, with an interval over rows and seeds.

    The seeds' rows are the same, so their intervals over rows do not narrow with their number: it is the mean of their
    half widths. It adds up in squares with the half width of an interval over seeds alone (`mean_interval`), for a few
    seeds do not know themselves how much they differ. Of one seed it is that one's interval.

    Args:
      each: `paired_difference` by each seed.
      level: coverage of these intervals, and of the one over both.

    Example:
      >>> [round(end, 3) for end in over_seeds([Interval(0.02, 0.01, 0.03), Interval(0.02, 0.01, 0.03)])]
      [0.02, 0.01, 0.03]
      >>> over_seeds([Interval(0.04, 0.03, 0.05), Interval(0.0, -0.01, 0.01)]).low < -0.1
      True
    """
    if len(each) == 1:
        return each[0]
    rows = float(np.mean([(one.high - one.low) / 2 for one in each]))
    middle, _, high = mean_interval([one.estimate for one in each], level)
    half = math.hypot(rows, high - middle)
    return Interval(middle, middle - half, middle + half)


def _cells(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows of the columns ``[cells, columns]``, and which of them each row is ``[rows]``."""
    cells, cell = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return cells, cell.reshape(-1)


def _kinds(cell: np.ndarray, units: np.ndarray | None) -> tuple[csr_array, np.ndarray]:
    """What kinds of units there are, by how many rows of each cell one has, and how many of each kind.

    Returns:
      Counts of rows ``[kinds, cells]``, and of units ``[kinds]``: without units each cell is a kind, in its order.
    """
    order = np.arange(len(cell)) if units is None else np.lexsort((cell, units))
    starts = order if units is None else np.flatnonzero(np.append(True, np.diff(units[order]) != 0))
    if len(starts) == len(cell):
        number = int(cell.max()) + 1
        return csr_array((np.ones(number), (np.arange(number), np.arange(number)))), np.bincount(cell)
    found: dict[bytes, int] = {}
    unit_kind = [found.setdefault(part.tobytes(), len(found)) for part in np.split(cell[order], starts[1:])]
    members = [np.frombuffer(key, cell.dtype) for key in found]
    rows = np.repeat(np.arange(len(members)), [len(part) for part in members])
    table = csr_array((np.ones(len(rows)), (rows, np.concatenate(members))), shape=(len(members), int(cell.max()) + 1))
    return table, np.bincount(unit_kind)


def _macro_f1_of_counts(counts: np.ndarray, labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Macro-F1 of every row of ``counts`` [resamples, cells], where a cell is one (label, prediction)."""
    one_hot = np.eye(classes)
    of_label, of_prediction = one_hot[labels], one_hot[predictions]
    hits = counts @ (of_label * of_prediction)
    named = counts @ (of_label + of_prediction)  # 2 TP + FP + FN
    return np.mean(2 * hits / np.maximum(named, 1e-12), axis=1)


def _bca(statistic: Statistic, counts: np.ndarray, width: int, level: float, resamples: int, seed: int) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of a statistic of how many units there are of each kind.

    Against the plain percentile interval this moves both ends for the bias of macro-F1 under resampling and
    for skewness, which matter where a class has few rows. All units of a kind have the same jackknife value,
    so the acceleration needs one evaluation a kind, not one a unit. On the way each resample takes ``width`` numbers.
    """
    rows = int(counts.sum())
    estimate = float(statistic(counts[None, :].astype(float))[0])

    def resampled(rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.multinomial(rows, counts / rows, size=size)

    draws = np.sort(_draws(statistic, resampled, width, resamples, seed))
    if draws[0] == draws[-1]:
        return Interval(estimate, min(estimate, float(draws[0])), max(estimate, float(draws[0])))
    normal = NormalDist()
    # Ties count half: a difference of accuracies takes few values, and many draws equal the estimate.
    below = np.mean(draws < estimate - _TIE) + 0.5 * np.mean(np.abs(draws - estimate) <= _TIE)
    shift = normal.inv_cdf(float(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples)))
    acceleration = _acceleration(statistic, counts, width, rows)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = shift + normal.inv_cdf(tail)
        ends.append(normal.cdf(shift + z / max(1 - acceleration * z, 1e-3)))
    low, high = np.quantile(draws, ends)
    return Interval(estimate, float(low), float(high))


def _draws(
    statistic: Statistic,
    draw: Callable[[np.random.Generator, int], np.ndarray],
    width: int,
    resamples: int,
    seed: int | list[int],
) -> np.ndarray:
    """The statistic on so many draws of counts ``[size, kinds]``, in blocks that bound memory."""
    rng, block = np.random.default_rng(seed), max(1, _BLOCK // width)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return np.concatenate([statistic(draw(rng, size).astype(float)) for size in sizes])


def _acceleration(statistic: Statistic, counts: np.ndarray, width: int, rows: int) -> float:
    """Skewness of the jackknife values over six: each unit left out once, all of a kind at once."""
    if rows < 2:
        return 0.0
    block = max(1, _BLOCK // width)
    values = []
    for start in range(0, len(counts), block):
        stop = min(start + block, len(counts))
        left_out = np.repeat(counts[None, :].astype(float), stop - start, axis=0)
        left_out[np.arange(stop - start), np.arange(start, stop)] -= 1
        values.append(statistic(left_out))
    jackknife = np.concatenate(values)
    away = np.average(jackknife, weights=counts) - jackknife
    spread = float(counts @ away**2)
    return float(counts @ away**3) / (6 * spread**1.5) if spread > 0 else 0.0


def share_interval(hits: int, rows: int, level: float = 0.95) -> Interval:
    """A share with Wilson's score interval, which stays within 0 and 1 and holds for few rows and for 100 %.

    >>> [round(x, 3) for x in share_interval(3, 4)]
    [0.75, 0.301, 0.954]
    """
    found = binomtest(hits, rows).proportion_ci(level, method="wilson")
    return Interval(hits / rows, float(found.low), float(found.high))


def _check_options(metric: str, classes: int | None, level: float, resamples: int) -> None:
    """Raise InputError for an option that no data could make right."""
    if metric not in get_args(Metric):
        raise InputError(f"metric is {str(metric)[:60]!r}: choose one of {', '.join(get_args(Metric))}")
    if metric == "macro_f1" and classes is None:
        raise InputError("macro_f1 needs the number of classes: pass classes=")
    if not 0 < level < 1:
        raise InputError(f"level is {level}: give a share between 0 and 1, such as 0.95")
    if resamples < 100:
        raise InputError(f"resamples is {resamples}: give at least 100 (2000 is usual)")


def _class_numbers(labels: ArrayLike, *, classes: int | None = None, **predictions: ArrayLike) -> list[np.ndarray]:
    """Labels and each model's predictions as int64 ``[rows]``, checked."""
    if classes is not None and classes < 1:
        raise InputError(f"classes is {classes}: give the number of classes, at least 1")
    columns = {"labels": np.asarray(labels), **{k: np.asarray(p) for k, p in predictions.items()}}
    rows = columns["labels"].shape
    checked = []
    for name, column in columns.items():
        if column.ndim != 1:
            raise InputError(f"{name} has shape {column.shape}: give one class number a row, [rows]")
        if column.shape != rows:
            raise InputError(f"{name} has {len(column)} rows and labels has {rows[0]}: they must be the same rows")
        if len(column) == 0:
            raise InputError(f"{name} has no rows: give at least one")
        if column.dtype.kind not in "iu":
            raise InputError(f"{name} has dtype {column.dtype}: give class numbers (integers from 0)")
        bad = column < 0 if classes is None else (column < 0) | (column >= classes)
        if bad.any():
            row = int(np.argmax(bad))
            allowed = "0 or more" if classes is None else f"0 to {classes - 1}"
            raise InputError(
                f"{name}: row {row} is {column[row]}, but class numbers are {allowed}: "
                "leave out unlabelled rows and number classes from 0"
            )
        checked.append(column.astype(np.int64))
    return checked


def mean_interval(numbers: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of independent runs with Student's interval; of one run the interval is unknown (NaN).

    >>> [round(x, 3) for x in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    found = np.asarray(numbers, np.float64)
    if len(found) < 2:
        return Interval(float(found.mean()), math.nan, math.nan)
    half = t.ppf((1 + level) / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found))
    return Interval(float(found.mean()), float(found.mean() - half), float(found.mean() + half))
