"""`value`: arrays in, the value of every training point out."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsds_jax.arrays import encode_labels, feature_matrix, label_array, number_in, one_of
from tsds_jax.errors import InputError
from tsds_jax.estimators import MAX_PLAYERS, add_one, enumerate_coalitions, permutation, semivalue_weights
from tsds_jax.games import UTILITIES, LogisticGame, RidgeGame, logistic_game, ridge_game
from tsds_jax.options import SelectOptions
from tsds_jax.runtime.progress import Progress, ProgressFn, silent

SOURCES = ("logistic", "ridge")
ESTIMATORS = ("permutation", "add_one", "exact")
_DEFAULT = SelectOptions()


@dataclass(frozen=True)
class Valuation:
    """The value of every training point, and how well it is known.

    Attributes:
      values: float64 ``[points]``, in units of the utility: the mean marginal contribution of the point.
      stderr: float64 ``[points]``, standard error of each value over the sampled chains.
      counts: int64 ``[points]``, marginal contributions sampled.
      source: the source classifier.
      utility: the utility.
      estimator: the estimator.
      subset_size: points in a chain (s).
      samples: contributions asked for of each point.
      C: inverse L2 strength of the source classifier.
      truncation: tolerance of truncation; 0 for none.
      seed: what decided every draw.
      fits: source classifiers fitted.
      truncated: share of the contributions set to zero by truncation.
      unconverged: fits that stopped before their tolerance.
      seconds: wall time, compilation included.
    """

    values: np.ndarray
    stderr: np.ndarray
    counts: np.ndarray
    source: str
    utility: str
    estimator: str
    subset_size: int
    samples: int
    C: float
    truncation: float
    seed: int
    fits: int
    truncated: float
    unconverged: int
    seconds: float

    @property
    def reliability(self) -> float:
        """Share of the values' variance that is not sampling noise, ``1 - mean(stderr^2) / var(values)``.

        The expected squared correlation of the values with those of endless sampling: 0 says that the ranking is
        noise, 1 that another seed would give the same. NaN where no point was drawn twice.
        """
        known = np.isfinite(self.stderr)
        if not known.any():
            return float("nan")
        spread = np.var(self.values[known])
        return float(np.clip(1 - np.mean(self.stderr[known] ** 2) / spread, 0, 1)) if spread > 0 else 0.0

    @property
    def ranking(self) -> np.ndarray:
        """Points from the lowest value to the highest, ties in their order, int64 ``[points]``."""
        return np.argsort(self.values, kind="stable")

    def summary(self) -> dict[str, str | int | float | None]:
        """Everything but the values themselves, as JSON values."""
        about = {name: entry for name, entry in vars(self).items() if not isinstance(entry, np.ndarray)}
        reliability = self.reliability if np.isfinite(self.reliability) else None
        return about | {"reliability": reliability, "points_never_drawn": int(np.sum(self.counts == 0))}


def default_subset_size(points: int, features: int) -> int:
    """Points in a chain where none is given: four times the fitted parameters of one class, from 64 to 512.

    What a source classifier can learn from a subset depends on its dimension, not on a percentage of the data:
    below it a subset teaches nothing, far above it one point more changes nothing and its contribution is noise.
    """
    return min(points, max(64, min(512, 4 * (features + 1))))


def value(
    x_train: object,
    y_train: object,
    x_val: object,
    y_val: object,
    *,
    source: str = "logistic",
    utility: str = "accuracy",
    estimator: str = "permutation",
    subset_size: int | None = None,
    samples: int = _DEFAULT.samples,
    C: float = 1.0,
    truncation: float = _DEFAULT.truncation,
    seed: int = 0,
    progress: ProgressFn = silent,
) -> Valuation:
    """Values training points by their Shapley value for a simple source classifier.

    The value of point ``i`` is the size-truncated Shapley value that TS-DShapley's sampling chains estimate,

        phi_s(i) = (1/s) sum_{k<s} E[U(S + i) - U(S)],  S a random subset of k other points,

    where ``U(S)`` is the utility on the validation rows of the source classifier fitted to ``S``.

    Args:
      x_train: ``[points, features]`` representations of the training points, NumPy or JAX.
      y_train: ``[points]`` labels, integers or strings.
      x_val: ``[rows, features]``.
      y_val: ``[rows]``; every label must occur in ``y_train``.
      source: the source classifier: ``"logistic"`` or ``"ridge"`` (one-hot least squares).
      utility: ``"accuracy"``, ``"balanced_accuracy"``, ``"probability"`` (mean probability of the true class) or
        ``"log_likelihood"``.
      estimator: ``"permutation"`` (the paper's sampling chains), ``"add_one"`` (random coalitions, one fit for the
        contributions of all points outside; for two classes to first order in the size, see `LogisticGame`) or
        ``"exact"`` (all coalitions, to 16 points).
      subset_size: points in a chain (s); None takes `default_subset_size`.
      samples: marginal contributions sampled per point; of ``"add_one"``, coalitions.
      C: inverse L2 strength of the source classifier, as in scikit-learn.
      truncation: a chain's walk ends where its utility is this close to the whole chain's; 0 never.
      seed: decides every draw.
      progress: called after each chunk of chains.

    Raises:
      InputError: an array or option that cannot be used, named with its row and value.

    Example:
      >>> import numpy as np
      >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0], [1.5]])
      >>> y = np.array(["no", "no", "yes", "yes", "no"])  # the last label is wrong
      >>> v = value(x, y, x[:4], y[:4], estimator="exact")
      >>> int(v.ranking[0])
      4

    References:
      Schoch, Mishra and Ji, "Data Selection for Fine-tuning Large Language Models Using Transferred Shapley
      Values", ACL SRW 2023.
    """
    began = time.perf_counter()
    check_value_options(
        source=source,
        utility=utility,
        estimator=estimator,
        subset_size=subset_size,
        samples=samples,
        C=C,
        truncation=truncation,
        seed=seed,
    )
    game = source_game(x_train, y_train, x_val, y_val, source=source, utility=utility, C=C)
    points = game.players
    if subset_size is None:
        subset_size = default_subset_size(points, np.asarray(x_val).shape[1])
    check_points(points, subset_size, estimator)

    def result(values: np.ndarray, stderr: np.ndarray, counts: np.ndarray, **about: Any) -> Valuation:
        common: dict[str, Any] = {"source": source, "utility": utility, "estimator": estimator, "C": float(C)}
        common |= {"subset_size": int(subset_size), "samples": int(samples), "truncation": float(truncation)}
        return Valuation(
            values, stderr, counts, **(common | about), seed=int(seed), seconds=time.perf_counter() - began
        )

    if estimator == "exact":
        enumeration = enumerate_coalitions(game)
        values = semivalue_weights("truncated", points, size=int(subset_size)) @ enumeration.by_size
        counts = np.full(points, 2 ** (points - 1), np.int64)
        about = {"samples": int(counts[0]), "truncation": 0.0, "truncated": 0.0}
        return result(
            values, np.zeros(points), counts, fits=enumeration.fits, unconverged=enumeration.unconverged, **about
        )

    plan = {"subset_size": int(subset_size), "samples": int(samples), "seed": int(seed)}
    if estimator == "add_one":
        estimates = add_one(game, **plan, rows=len(game.y_val) * game.classes)
    else:
        # Ridge gets all prefixes from one factorisation, which every block of them would do again.
        block = 64 if source == "logistic" else int(subset_size)
        estimates = permutation(game, **plan, truncation=float(truncation), block=block)
    progress(Progress("value", 0, samples * points, "marginals"))
    for estimate in estimates:
        drawn = samples * points * estimate.rounds // estimate.planned
        progress(Progress("value", drawn, samples * points, "marginals", f"{estimate.fits:,} fits"))
    return result(
        *estimate.moments.mean(),
        estimate.moments.counts.sum(0),
        fits=estimate.fits,
        truncated=estimate.truncated / int(estimate.moments.counts.sum()),
        unconverged=estimate.unconverged,
    )


def check_value_options(
    *,
    source: str,
    utility: str,
    estimator: str,
    subset_size: int | None,
    samples: int,
    C: float,
    truncation: float,
    seed: int,
) -> None:
    """Raises InputError for the first option of `value` that is wrong whatever the data."""
    one_of("source", source, SOURCES)
    one_of("utility", utility, UTILITIES)
    one_of("estimator", estimator, ESTIMATORS)
    if subset_size is not None:
        number_in("subset_size", subset_size, 1, np.inf)
    number_in("samples", samples, 1, np.inf)
    number_in("C", C, 1e-6, 1e6, whole=False)
    number_in("truncation", truncation, 0, np.inf, whole=False)
    number_in("seed", seed, 0, 2**32 - 1)


def check_points(points: int, subset_size: int | None, estimator: str) -> None:
    """Raises InputError where so many training points do not suit the options."""
    if subset_size is not None and subset_size > points:
        raise InputError(f"subset_size {subset_size} is more than the {points} training points: give at most {points}")
    if estimator == "exact" and points > MAX_PLAYERS:
        raise InputError(f"{points} points are too many to enumerate: use at most {MAX_PLAYERS}, or another estimator")


def source_game(
    x_train: object,
    y_train: object,
    x_val: object,
    y_val: object,
    *,
    source: str = "logistic",
    utility: str = "accuracy",
    C: float = 1.0,
) -> LogisticGame | RidgeGame:
    """The game that these arrays make, after checking them.

    Raises:
      InputError: an array or option that cannot be used.
    """
    one_of("source", source, SOURCES)
    one_of("utility", utility, UTILITIES)
    number_in("C", C, 1e-6, 1e6, whole=False)
    x, xv = feature_matrix(x_train, "x_train"), feature_matrix(x_val, "x_val")
    if x.shape[1] != xv.shape[1]:
        raise InputError(f"x_val has {xv.shape[1]} features and x_train {x.shape[1]}: give both the same")
    y, yv = label_array(y_train, "y_train", len(x)), label_array(y_val, "y_val", len(xv))
    classes, y, yv = encode_labels(y, yv)
    if source == "ridge":
        return ridge_game(x, y, xv, yv, classes=len(classes), utility=utility, C=float(C))
    return logistic_game(x, y, xv, yv, classes=len(classes), utility=utility, C=float(C))
