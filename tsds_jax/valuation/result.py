"""What a valuation is: the value of every training point, and how well it is known."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from tsds_jax.arrays import number_in, one_of, without_ties
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.estimators import Moments, semivalue_weights, split_half_reliability

# Fewer checked contributions say too little of a bias to correct it.
_FEWEST_CHECKS = 8


@dataclass(frozen=True)
class Valuation:
    """The value of every training point, and how well it is known.

    Attributes:
      values: float64 ``[points]``, in units of the utility: the mean marginal contribution of the point.
      stderr: float64 ``[points]``, standard error of each value over what was sampled.
      counts: int64 ``[points]``, marginal contributions sampled (of ``"banzhaf"``, coalitions).
      source: the source classifier, or the type of the game.
      utility: the utility.
      estimator: the estimator.
      semivalue_name: what the values are: ``"shapley"`` (size-truncated where ``subset_size`` is less than all points),
        ``"banzhaf"``, or what `semivalue` was asked for.
      subset_size: points in a chain (s); coalitions have fewer members.
      samples: contributions asked for of each point; with a wanted reliability, at most so many.
      C: inverse L2 strength of the source classifier; NaN of a game of one's own.
      truncation: tolerance of truncation; 0 for none.
      seed: what decided every draw.
      stopped: why the run ended: ``"samples"`` (as many as asked for), ``"reliability"`` (as reliable as asked for),
        ``"budget"`` (not so after ``samples``) or ``"exact"`` (nothing was sampled).
      fits: source classifiers fitted; those with one point more, that contributions are computed of, where each was a
        fit of its own.
      truncated_share: share of the contributions set to zero by truncation.
      unconverged: fits, and contributions computed from one, that stopped before their tolerance or were damped.
      bias: mean of what exact refits of random contributions say more than the estimator's own; 0 where these are
        exact.
      bias_stderr: its standard error; NaN where fewer than two were refitted.
      corrected: whether the values have the bias added.
      seconds: wall time, compilation included.
      moments: the sums behind the values, from which `semivalue` takes others; None without.
      checks: float64 ``[checks, 3]``, coalition size, difference and weight of each refitted contribution; None
        without.
      by_row: float64 ``[points, rows]``, each value split by validation row, with ``per_validation_point=True``; or
        ``[points, groups]``, with ``row_groups``. What ``corrected`` added is in no part.
      freedom: float64 ``[points]``, degrees of freedom of each ``stderr``; None for infinitely many.
      weights: float64 ``[subset_size]``, of coalition sizes, in another semivalue than was sampled; None for that one.
      correct: whether the bias is to be added to values, these and those of `semivalue`, wherever enough contributions
        were refitted to know it.
    """

    values: np.ndarray
    stderr: np.ndarray
    counts: np.ndarray
    source: str
    utility: str
    estimator: str
    semivalue_name: str
    subset_size: int
    samples: int
    C: float
    truncation: float
    seed: int
    stopped: str
    fits: int
    truncated_share: float
    unconverged: int
    bias: float
    bias_stderr: float
    corrected: bool
    seconds: float
    moments: Moments | None = None
    checks: np.ndarray | None = None
    by_row: np.ndarray | None = None
    freedom: np.ndarray | None = None
    weights: np.ndarray | None = None
    correct: bool = True

    def __repr__(self) -> str:
        """In a line, for a notebook."""
        what = f"{self.semivalue_name} of {self.utility} by {self.estimator}"
        failed = f", {self.unconverged:,} fits not converged" if self.unconverged else ""
        return f"Valuation({len(self.values)} points, {what}, {self.samples} samples{failed})"

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Where each value lies that endless sampling would converge to: the ends of intervals, two ``[points]``.

        ``values -+ t stderr`` with ``t`` the quantile of Student's distribution with ``freedom`` degrees: of a short
        run the errors are uncertain too. They are intervals for each value by itself, and say nothing of what
        truncation or an uncorrected ``bias`` shifts. NaN where a point has no standard error.

        Args:
          level: share of such intervals that hold their value.

        Raises:
          InputError: a level that is not between 0 and 1.

        Example:
          >>> from tsds_jax import value
          >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0], [1.5]])
          >>> y = np.array([0, 0, 1, 1, 0])
          >>> v = value(x, y, x[:4], y[:4], samples=40)
          >>> low, high = v.interval()
          >>> bool(((low < v.values) & (v.values < high)).all())
          True
        """
        number_in("level", level, 1e-6, 1 - 1e-6, whole=False)
        freedom = np.full(len(self.values), np.inf) if self.freedom is None else self.freedom
        half = student.ppf((1 + level) / 2, freedom) * self.stderr
        return self.values - half, self.values + half

    @property
    def reliability(self) -> float:
        """Share of the values' variance that is not sampling noise, ``1 - (mean(stderr^2) - e^2) / var(values)``.

        The expected squared correlation of the values with those of endless sampling: 0 says that the ranking is
        noise, 1 that another seed would give the same. ``e`` is the standard error of the values' mean: what a
        coalition adds to all points alike, or a correction, moves none against another. NaN where no point was drawn
        twice.
        """
        known = np.isfinite(self.stderr)
        if not known.any():
            return float("nan")
        noise, spread = np.mean(self.stderr[known] ** 2), np.var(self.values[known])
        if self.moments is not None:
            noise -= np.nan_to_num(self.moments.common_error(self.weights)) ** 2
        if self.corrected:
            noise -= np.nan_to_num(self.bias_stderr) ** 2
        return float(np.clip(1 - noise / spread, 0, 1)) if spread > 0 else 0.0

    @property
    def split_half(self) -> float:
        """Spearman correlation to expect of such a run with another seed, from the run's own halves; NaN without.

        See `split_half_reliability`.
        """
        return float("nan") if self.moments is None else split_half_reliability(*self.moments.halves(self.weights))

    @property
    def ranking(self) -> np.ndarray:
        """Points from the lowest value to the highest, ties as ``seed`` draws them, int64 ``[points]``.

        Those without a value (NaN) are last.
        """
        return np.argsort(without_ties(self.values, self.seed))

    def semivalue(self, kind: str, alpha: float = 1.0, beta: float = 1.0) -> "Valuation":
        """Another semivalue from the same run, without new fits.

        With ``D_i(k)`` the mean contribution of point ``i`` to coalitions of ``k`` others, a semivalue is
        ``sum_{k<s} w_k D_i(k)`` with the weights of a game of ``s = subset_size`` players. Where that is less than all
        points it is the point's mean semivalue in a random subset of ``s``. Within a bin of coalition sizes (`Moments`)
        weights are taken at their mean.

        Args:
          kind: ``"shapley"``, ``"beta"`` (Beta Shapley; large ``alpha`` weighs small coalitions) or ``"banzhaf"``.
          alpha: of Beta Shapley.
          beta: of Beta Shapley.

        Returns:
          A `Valuation` with these values and their standard errors; ``by_row`` is left out.

        Raises:
          InputError: an unknown kind, or a run that samples one semivalue only.

        Example:
          >>> from tsds_jax import value
          >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0], [1.5]])
          >>> y = np.array([0, 0, 1, 1, 0])
          >>> v = value(x, y, x[:4], y[:4], estimator="exact", utility="probability")
          >>> v.semivalue("beta", 16, 1).ranking[:1].tolist()
          [4]
        """
        one_of("semivalue", kind, ("shapley", "beta", "banzhaf"))
        number_in("alpha", alpha, 1e-6, 1e6, whole=False)
        number_in("beta", beta, 1e-6, 1e6, whole=False)
        weights = semivalue_weights(kind, self.subset_size, alpha=alpha, beta=beta)
        return self._weighed(weights, f"beta({alpha:g}, {beta:g})" if kind == "beta" else kind)

    def truncated(self, size: int) -> "Valuation":
        """The values of chains of ``size`` points, at most ``subset_size``, from the same run without new fits.

        Raises:
          InputError: a size that was not sampled, or a run that samples one semivalue only.
        """
        number_in("size", size, 1, self.subset_size)
        return self._weighed(semivalue_weights("truncated", self.subset_size, size=size), f"shapley below {size}")

    def for_members(self, groups: np.ndarray) -> "Valuation":
        """A valuation of groups as one of their points, each with its group's value.

        Standard errors of other semivalues of a run by chains, which borrow from the average, take that of points then.

        Args:
          groups: int ``[points]``, the group of each point.
        """
        each: dict[str, Any] = {name: getattr(self, name)[groups] for name in ("values", "stderr", "counts")}
        for name, part in (("by_row", self.by_row), ("freedom", self.freedom)):
            each[name] = None if part is None else part[groups]
        each["moments"] = None if self.moments is None else self.moments.of(groups)
        return dataclasses.replace(self, **each)

    def summary(self) -> dict[str, str | int | float | None]:
        """Everything but the arrays, as JSON values."""
        about = {name: entry for name, entry in vars(self).items() if isinstance(entry, str | int | float)}
        about |= {"reliability": self.reliability, "split_half": self.split_half}
        about |= {"points_never_drawn": int(np.sum(self.counts == 0))}
        return {n: None if isinstance(entry, float) and not np.isfinite(entry) else entry for n, entry in about.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name, to be saved with `numpy.savez`; `from_arrays` is the way back."""
        plain = {name: entry for name, entry in vars(self).items() if entry is not None and name != "moments"}
        found = {name: np.asarray(entry) for name, entry in plain.items()}
        moments = {} if self.moments is None else self.moments.arrays()
        return found | {f"moments_{name}": array for name, array in moments.items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> "Valuation":
        """What `arrays` was called on."""
        start = "moments_"
        parts = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
        wanted = [f.name for f in dataclasses.fields(Valuation) if f.default is dataclasses.MISSING]
        missing = next((name for name in wanted if name not in arrays), None)
        if missing is not None:
            raise TsdsError(f"a stored valuation has no {missing!r}: delete state/values*.npz, and it is made again")
        fields = {f.name: arrays[f.name] for f in dataclasses.fields(Valuation) if f.name in arrays}
        plain: dict[str, Any] = {name: array if np.ndim(array) else array.item() for name, array in fields.items()}
        # Of what was stored before there was this entry.
        plain.setdefault("correct", plain["corrected"] or plain["bias"] == 0)
        return Valuation(**plain, moments=Moments.from_arrays(parts) if parts else None)

    def _weighed(self, weights: np.ndarray, name: str) -> "Valuation":
        if self.moments is None or self.estimator.startswith("banzhaf"):
            raise InputError(f"a run of {self.estimator!r} gives no other semivalue: use 'add_one' or 'permutation'")
        values, stderr, freedom = self.moments.known(weights)
        if self.estimator == "exact":
            stderr = np.zeros_like(values)
        about = corrected_by(values, stderr, self.checks, weights, self.correct)
        about |= {"freedom": freedom, "weights": weights, "semivalue_name": name, "by_row": None}
        return dataclasses.replace(self, **about)


def corrected_by(
    values: np.ndarray, stderr: np.ndarray, checks: np.ndarray | None, weights: np.ndarray | None, correct: bool
) -> dict[str, Any]:
    """Values with the bias added where it is known well enough, their errors, and what a `Valuation` says of it."""
    bias, bias_stderr, known = (0.0, float("nan"), 0.0) if checks is None else _bias(checks, weights)
    corrected = correct and known >= _FEWEST_CHECKS
    if corrected:
        values, stderr = values + bias, np.hypot(stderr, bias_stderr)
    about = {"bias": bias, "bias_stderr": bias_stderr, "corrected": corrected}
    return {"values": values, "stderr": stderr, **about}


def _bias(checks: np.ndarray, weights: np.ndarray | None) -> tuple[float, float, float]:
    """Mean of the checked differences under weights over coalition sizes, its standard error, and how many count.

    Checks that weigh unlike count as ``(sum w)^2 / sum w^2``; below two nothing is known of the error.
    """
    sizes, differences, inverse_chance = checks.T
    share = inverse_chance * (1.0 if weights is None else weights[sizes.astype(int)])
    number = round(float(share.sum() ** 2 / np.sum(share**2)), 6) if share.any() else 0.0
    if number < 2:
        return 0.0, float("nan"), number
    share = share / share.sum()
    mean = float(share @ differences)
    error = np.sqrt(np.sum(share**2 * (differences - mean) ** 2) * number / (number - 1))
    return mean, float(error), number
