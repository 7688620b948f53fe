"""What a practitioner would use instead: other ways of saying which training points are bad, as `Valuation`s.

Of every method a low value says that the point should go.

    random               numbers drawn at random
    leave_one_out        what validation accuracy loses without the point (logistic regression)
    leave_one_out_likelihood  the same of log-likelihood, which every point moves: most change no row's class
    accuracy_shapley     Shapley value by accuracy, as in TS-DShapley's paper (Schoch, Mishra and Ji 2023)
    knn_shapley          Shapley value for a 10-nearest-neighbour classifier, closed form (Jia et al. 2019)
    knn_soft             the same with soft labels (Wang and Jia 2023)
    knn_threshold        the same for neighbours within a radius (Wang et al. 2023)
    data_banzhaf         Banzhaf value by maximum sample reuse (Wang and Jia 2023): a coalition gives it one number and
                         the others one a point, so as many tell it less
    beta_shapley         Beta(16, 1) Shapley value (Kwon and Zou 2022), of coalitions below the subset size
    cs_shapley           Shapley value by the class-wise utility of CS-Shapley (Schoch, Xu and Ji 2022); theirs draws
                         coalitions of the point's own class, beside random halves of the others, and scales each
                         class's values to a sum of its accuracy, which is not done here
    data_oob             share of bagged fits without the point that are right about it (Kwon and Zou 2023)
    kernel_shapley       Shapley value for kernel ridge regression with a Gaussian kernel (after FreeShap, 2024)
    loss                 log probability of the label, by the regression fitted to other folds
    margin               the same probability less that of the likeliest other class
    entropy              minus the entropy of those probabilities
    confident_learning   the margin, less 2 where it is negative and the label is off the diagonal of the confident
                         joint: cleanlab's label issues (Northcutt et al. 2021)

The last four are of one five-fold cross-validation of the source classifier; they, ``random`` and ``data_oob`` look at
no validation row, and do without.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tsds_jax.arrays import LARGEST, encode_labels, feature_matrices, feature_matrix, label_array, number_in, one_of
from tsds_jax.errors import InputError
from tsds_jax.games import LogisticGame, knn_shapley
from tsds_jax.games.held_out import held_out_probabilities, out_of_bag
from tsds_jax.games.leave_one_out import leave_one_out
from tsds_jax.valuation import MOST_SAMPLES, Valuation, source_game, value

# Neighbours that vote.
_NEIGHBOURS = 10
_BETA = (16.0, 1.0)
_SCORED_BY = {"leave_one_out": "accuracy", "leave_one_out_likelihood": "log_likelihood", "knn_shapley": "accuracy"}
WITHOUT_VALIDATION = ("random", "data_oob", "loss", "margin", "entropy", "confident_learning")
# Points whose kernel matrix is kept: 1.6 GB of float32, and a few times that while it is made.
_LARGEST_KERNEL = 20_000


@dataclass(frozen=True, eq=False)
class _Problem:
    """What a method is given."""

    x: np.ndarray
    y: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    C: float
    samples: int
    seed: int
    units: np.ndarray | None

    def valued(self, **how: Any) -> Valuation:
        """By `value`, of accuracy as in the papers."""
        common: dict[str, Any] = {"utility": "accuracy", "C": self.C, "samples": self.samples, "seed": self.seed}
        return value(self.x, self.y, self.x_val, self.y_val, **{**common, **how})

    def game(self, utility: str = "accuracy") -> LogisticGame:
        """Of logistic regression."""
        game = source_game(self.x, self.y, self.x_val, self.y_val, utility=utility, C=self.C)
        assert isinstance(game, LogisticGame)
        return game


@dataclass(frozen=True, eq=False)
class _Found:
    """Values of a method that is no `value`.

    Attributes:
      values: ``[points]``.
      stderr: ``[points]``; NaN where there is none to know.
      fits: source classifiers fitted.
      counts: ``[points]``, what each value is a mean of.
      unconverged: fits that did not converge.
    """

    values: np.ndarray
    stderr: np.ndarray | float
    fits: int
    counts: np.ndarray | int = 1
    unconverged: int = 0


def baseline(
    method: str,
    x_train: object,
    y_train: object,
    x_val: object = None,
    y_val: object = None,
    *,
    C: float = 1.0,
    samples: int = 300,
    seed: int = 0,
    units: np.ndarray | None = None,
) -> Valuation:
    """Values training points by another method.

    Args:
      method: a key of `BASELINES`.
      x_train: ``[points, features]``, as in `value`; so are the other arrays.
      y_train: ``[points]`` labels.
      x_val: ``[rows, features]``; None, and so ``y_val``, for a method in `WITHOUT_VALIDATION`.
      y_val: ``[rows]`` labels.
      C: inverse L2 strength of the source classifier.
      samples: of methods that sample, coalitions or bootstrap samples.
      seed: decides every draw.
      units: int ``[points]``, the same number for points that may not judge each other, such as copies of a text; the
        methods of the cross-validation have them in one fold. None where every point is by itself.

    Returns:
      A `Valuation`; of a method that `value` does not know, ``estimator`` is its name, standard errors are 0 where the
      values are exact (and of ``"data_oob"`` where all fits agree, few as they may be), and NaN where there is no
      sampling whose error they could be.

    Raises:
      InputError: an unknown method, one that needs validation rows without these, or as `value`; more than 1,000
        classes only of methods that fit a regression.

    Example:
      >>> x = np.array([[-2.0], [-1.5], [-1.0], [1.0], [1.5], [2.0], [1.7]])
      >>> y = np.array([0, 0, 0, 1, 1, 1, 0])  # the last label is wrong
      >>> int(baseline("margin", x, y).ranking[0])
      6
    """
    one_of("method", method, tuple(BASELINES))
    number_in("samples", samples, 1, MOST_SAMPLES)
    number_in("seed", seed, 0, 2**32 - 1)
    began = time.perf_counter()
    if x_val is y_val is None:
        if method not in WITHOUT_VALIDATION:
            raise InputError(f"method {method!r} goes by validation rows: give x_val and y_val")
        # Of which any will do.
        x_train = feature_matrix(x_train, "x_train")
        x_val, y_val = x_train[:1], label_array(y_train, "y_train", len(x_train))[:1]
    x, x_rows = feature_matrices(x_train, x_val, largest=LARGEST)
    check_baseline(method, len(x))
    # Before NumPy sees labels of two types, of which it would make strings.
    y, y_rows = label_array(y_train, "y_train", len(x)), label_array(y_val, "y_val", len(x_rows))
    # What a game of regressions would refuse; but it takes fewer classes than the methods that do without it.
    number_in("C", C, 1e-6, 1e6, whole=False)
    encode_labels(y, y_rows)
    units = None if units is None else label_array(units, "units", len(x))
    found = BASELINES[method](_Problem(x, y, x_rows, y_rows, C, samples, seed, units))
    points = len(x)
    if isinstance(found, Valuation):
        return replace(found, seconds=time.perf_counter() - began)
    return Valuation(
        np.asarray(found.values, np.float64),
        np.broadcast_to(np.asarray(found.stderr, np.float64), (points,)).copy(),
        np.broadcast_to(np.asarray(found.counts, np.int64), (points,)).copy(),
        source="knn" if method.startswith("knn") else "logistic",
        utility=_SCORED_BY.get(method, ""),
        estimator=method,
        semivalue_name="",
        subset_size=points,
        samples=samples,
        C=float(C),
        truncation=0.0,
        seed=seed,
        stopped="samples" if method == "data_oob" else "exact",
        fits=found.fits,
        truncated_share=0.0,
        unconverged=found.unconverged,
        bias=0.0,
        bias_stderr=float("nan"),
        corrected=False,
        seconds=time.perf_counter() - began,
    )


def check_baseline(method: str, points: int) -> None:
    """Raises InputError where a method cannot value so many points."""
    if method == "kernel_shapley" and points > _LARGEST_KERNEL:
        raise InputError(
            f"kernel_shapley keeps a matrix of points by points, too large for {points}: give at most"
            f" {_LARGEST_KERNEL} points or use another method"
        )


def _random(given: _Problem) -> _Found:
    # Another stream than what else the seed decides.
    return _Found(np.random.default_rng([given.seed, 1]).random(len(given.y)), np.nan, 0)


def _leave_one_out(utility: str) -> Callable[[_Problem], _Found]:
    def values(given: _Problem) -> _Found:
        found, unconverged = leave_one_out(given.game(utility))
        return _Found(found, 0.0, len(found) + 1, unconverged=unconverged)

    return values


def _knn(variant: str) -> Callable[[_Problem], _Found]:
    def values(given: _Problem) -> _Found:
        radius = _radius(given.x, given.x_val) if variant == "threshold" else None
        arrays = (given.x, given.y, given.x_val, given.y_val)
        return _Found(knn_shapley(*arrays, k=_NEIGHBOURS, variant=variant, threshold=radius), 0.0, 0)

    return values


def _radius(x: np.ndarray, x_val: np.ndarray) -> float:
    """Within which the middle validation row has as many neighbours as vote."""
    nearest = min(_NEIGHBOURS, len(x)) - 1
    far = [np.partition(np.square(x - row).sum(1), nearest)[nearest] for row in x_val]
    # A root rounded to float32 has another square, and that of a whole number may be below it.
    return float(np.sqrt(np.median(np.asarray(far, np.float64))))


def _data_oob(given: _Problem) -> _Found:
    hits, counts, unconverged = out_of_bag(given.game(), fits=given.samples, seed=given.seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = hits / counts  # NaN for a point that was in every sample
        error = np.sqrt(share * (1 - share) / (counts - 1))  # and there is no error of one fit alone
    return _Found(share, error, given.samples, counts, unconverged)


def _kernel(given: _Problem) -> Valuation:
    # Far from the origin the squares would swallow the distances; a mean that one sentinel has moved is far from all.
    middle = np.median(given.x, 0)
    x, x_val = ((some - middle).astype(np.float32) for some in (given.x, given.x_val))
    squares = [np.square(some).sum(1) for some in (x, x_val)]

    def distances(square: np.ndarray, some: np.ndarray) -> np.ndarray:
        both = square[:, None] + squares[0]
        far = both - 2 * some @ x.T
        # Of copies rounding is left, which must not be what the others are measured by.
        return np.where(far > 16 * np.finfo(np.float32).eps * both, far, 0)

    apart, apart_val = (distances(square, some) for square, some in zip(squares, (x, x_val), strict=True))
    # Where most points are the same, how far the others are; of nothing but copies, any width will do.
    width = np.median(apart) or (np.median(apart[apart > 0]) if apart.any() else 1.0)
    return replace(given, x=np.exp(-apart / width), x_val=np.exp(-apart_val / width)).valued(source="kernel")


def _held_out(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[_Problem], _Found]:
    def values(given: _Problem) -> _Found:
        game = given.game()
        found = held_out_probabilities(game, seed=given.seed, units=given.units)
        scores = score(found.probability.astype(np.float64), np.asarray(game.y))
        return _Found(scores, np.nan, 5, unconverged=found.unconverged)

    return values


def log_probability(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the label, ``[points]``; at least that of one in a thousand million."""
    return np.log(np.maximum(probability[np.arange(len(labels)), labels], 1e-9))


def margin(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability of the label less that of the likeliest other class, ``[points]``, from -1 to 1."""
    rows = np.arange(len(labels))
    others = probability.copy()
    others[rows, labels] = -np.inf
    return probability[rows, labels] - others.max(1)


def negative_entropy(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``sum_c p_c log p_c``, ``[points]``; it does not look at the labels."""
    return np.sum(probability * np.log(np.maximum(probability, 1e-12)), 1)


def confident(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The margin, less 2 for points off the diagonal of the confident joint, ``[points]``.

    A class is confident in a point where its probability is, to a millionth, at least what it is on average for the
    class's own points. A point that one class is confident in counts for that, and one of several for the likeliest of
    all classes; where that is another than its label, the label is counted as wrong, unless it is the likeliest all the
    same. Those are cleanlab's label issues; they rank below all others, each part by its margin.
    """
    own = np.array([probability[labels == label, label].mean() for label in range(probability.shape[1])])
    # A class whose only point was not fitted to has mean zero there, which would be confident in all points.
    sure = probability >= np.maximum(own, 2e-6) - 1e-6
    counted = np.where(sure.sum(1) > 1, probability.argmax(1), np.where(sure.any(1), sure.argmax(1), labels))
    away = margin(probability, labels)
    return away - 2.0 * ((counted != labels) & (away < -1e-6))


BASELINES: dict[str, Callable[[_Problem], _Found | Valuation]] = {
    "random": _random,
    "leave_one_out": _leave_one_out("accuracy"),
    "leave_one_out_likelihood": _leave_one_out("log_likelihood"),
    "accuracy_shapley": lambda given: given.valued(),
    "knn_shapley": _knn("plain"),
    "knn_soft": _knn("soft"),
    "knn_threshold": _knn("threshold"),
    "data_banzhaf": lambda given: given.valued(estimator="banzhaf"),
    "beta_shapley": lambda given: given.valued().semivalue("beta", *_BETA),
    "cs_shapley": lambda given: given.valued(utility="class_wise"),
    "data_oob": _data_oob,
    "kernel_shapley": _kernel,
    "loss": _held_out(log_probability),
    "margin": _held_out(margin),
    "entropy": _held_out(negative_entropy),
    "confident_learning": _held_out(confident),
}
