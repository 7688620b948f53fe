"""`value`: arrays in, the value of every training point out."""

import contextlib
import dataclasses
import hashlib
import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import jax
import numpy as np
from scipy.special import comb
from scipy.stats import t as student

from tsds_jax.arrays import (
    LARGEST,
    encode_labels,
    feature_matrices,
    label_array,
    number_in,
    one_of,
    real_array,
    whole_numbers,
    without_ties,
)
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.estimators import (
    MAX_PLAYERS,
    Check,
    Estimate,
    Moments,
    Stopping,
    add_one,
    banzhaf,
    enumerate_coalitions,
    no_end,
    permutation,
    run_until,
    semivalue_weights,
    split_half_reliability,
)
from tsds_jax.games import (
    INTERCEPTS,
    REGRESSION_UTILITIES,
    UTILITIES,
    KernelGame,
    LogisticGame,
    RidgeGame,
    TableGame,
    by_row,
    group_game,
    kernel_game,
    logistic_game,
    ridge_game,
)
from tsds_jax.games.game import Game, plain_game
from tsds_jax.options import SelectOptions
from tsds_jax.runtime.checkpoint import Checkpoint
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.version import __version__

SOURCES = ("logistic", "ridge", "kernel")
ESTIMATORS = ("add_one", "permutation", "exact", "banzhaf", "banzhaf_add_one")
# Their numbers are int32, and calls go some beyond the last.
MOST_SAMPLES = 2**31 - 2**16
_DEFAULT = SelectOptions()
# A function in a game of the user's own is shown with where it is in memory, which differs between processes.
_ADDRESS = re.compile(" at 0x[0-9a-f]+")
# Fewer checked contributions say too little of a bias to correct it.
_FEWEST_CHECKS = 8
# Coalitions of one group or two say of each little but how it does alone.
_FEWEST_GROUPS = 16


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
          >>> import numpy as np
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
          >>> import numpy as np
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
        about = _corrected(values, stderr, self.checks, weights, self.correct)
        about |= {"freedom": freedom, "weights": weights, "semivalue_name": name, "by_row": None}
        return dataclasses.replace(self, **about)


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
    utility: str = _DEFAULT.utility,
    estimator: str = "add_one",
    subset_size: int | None = None,
    samples: int = _DEFAULT.samples,
    reliability: float | None = None,
    top_overlap: float | None = None,
    C: float = 1.0,
    truncation: float = _DEFAULT.truncation,
    antithetic: bool = False,
    correct: bool = True,
    intercept: str = "free",
    sample_weight: object = None,
    weight_val: object = None,
    per_validation_point: bool = False,
    row_groups: object = None,
    groups: object = None,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: float = 60.0,
    progress: ProgressFn = silent,
) -> Valuation:
    """Values training points by their Shapley value for a simple source classifier.

    The value of point ``i`` is the size-truncated Shapley value that TS-DShapley's sampling chains estimate,

        phi_s(i) = (1/s) sum_{k<s} E[U(S + i) - U(S)],  S a random subset of k other points,

    where ``U(S)`` is the utility on the validation rows of the source classifier fitted to ``S``.

    Args:
      x_train: ``[points, features]`` representations of the training points, NumPy or JAX; for ``source="kernel"`` the
        kernel between them, ``[points, points]``.
      y_train: ``[points]`` labels, integers or strings; numbers for a regression utility.
      x_val: ``[rows, features]``; for ``source="kernel"`` the kernel with the training points, ``[rows, points]``.
      y_val: ``[rows]``; every label must occur in ``y_train``.
      source: the source classifier: ``"logistic"``, ``"ridge"`` (one-hot least squares) or ``"kernel"`` (kernel ridge).
      utility: ``"log_likelihood"``, ``"accuracy"`` (the paper's), ``"balanced_accuracy"``, ``"probability"`` (mean
        probability of the true class) or ``"class_wise"`` (CS-Shapley: accuracy in the point's own class times ``exp``
        of that in the others); of ridge and kernel regression ``"neg_mean_squared_error"`` or ``"r2"`` (clipped below
        at -1).
      estimator: ``"add_one"`` (random coalitions, one fit for the contributions of all points outside),
        ``"permutation"`` (the paper's sampling chains, one fit a contribution), ``"exact"`` (all coalitions, to 16
        points); for the Banzhaf value, of all points, ``"banzhaf"`` (maximum sample reuse) or ``"banzhaf_add_one"``.
      subset_size: points in a chain (s); None takes `default_subset_size`.
      samples: marginal contributions sampled per point: of ``"permutation"``, a fit each; else coalitions.
      reliability: if given, sampling stops as soon as the correlation to expect with another such run (`split_half`) is
        this high, at the latest after ``samples``; `Valuation.stopped` says which it was.
      top_overlap: if given, sampling goes on besides until this share of the lowest tenth of the points by one half of
        the run is also in the lowest tenth by the other.
      C: inverse L2 strength of the source classifier, as in scikit-learn.
      truncation: a chain's walk ends where its utility is this close to the whole chain's, of a mean squared error in
        units of the variance of ``y_val``; 0 never.
      antithetic: whether every chain is also walked backwards.
      correct: whether the bias of approximate contributions (``"add_one"`` of logistic regression), measured by exact
        refits of one point a coalition, is added to the values. It is one number for all points, so no rank changes.
      intercept: ``"free"`` (not penalised), ``"penalised"`` or ``"none"``; a kernel has none but what is in it.
      sample_weight: ``[points]``, not negative, the weight of each point's loss; None weighs all 1. Of logistic
        regression 0 or from 1e-6 to 1e4.
      weight_val: ``[rows]``, not negative, how much each validation row counts; None counts all alike.
      per_validation_point: whether values are also split by validation row, which takes ``8 points rows`` bytes, and
        some six times as many while they are estimated.
      row_groups: int ``[rows]``, from 0: values are also split by these groups of validation rows, in the same run: the
        parts of all groups but one rank the points as the rows outside that group do (of balanced accuracy with the
        weights that classes have in all rows). Each contribution costs as many multiplications more as there are rows
        times groups: it is for a few of these, not for thousands.
      groups: int ``[points]``, from 0 without a gap: groups of points (documents, sources, annotators) are the players,
        each in a coalition as a whole or not at all, so that the valuation is of groups and not of points;
        ``subset_size`` counts groups, and is by default as many as hold the points of the default, 16 or all at least.
        A contribution is a fit of its own, whatever the estimator.
      seed: decides every draw.
      checkpoint: a file (.npz) that keeps what is sampled so far. Where it is there, of the same data and options,
        sampling goes on from it, to the same numbers as without a cut; at the end it holds everything, so that the
        same call takes no time. None keeps nothing; ``"exact"`` never does.
      checkpoint_every: seconds between two writes of it.
      progress: called whenever there are new estimates.

    Raises:
      InputError: an array or option that cannot be used, named with its row and value; or the checkpoint is of another
        valuation, with the first thing in which they differ.

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
    check_value_options(
        source=source,
        utility=utility,
        estimator=estimator,
        subset_size=subset_size,
        samples=samples,
        reliability=reliability,
        C=C,
        truncation=truncation,
        seed=seed,
    )
    game = source_game(
        x_train,
        y_train,
        x_val,
        y_val,
        source=source,
        utility=utility,
        C=C,
        intercept=intercept,
        sample_weight=sample_weight,
        weight_val=weight_val,
    )
    if subset_size is None and not estimator.startswith("banzhaf"):
        features = 64 if source == "kernel" else np.asarray(x_val).shape[1]
        subset_size = default_subset_size(game.players, features)
        if groups is not None:
            # As many points, in whole groups.
            count = len(np.unique(whole_numbers(groups, "groups", game.players, f"the {game.players} points")))
            subset_size = min(count, max(_FEWEST_GROUPS, round(subset_size * count / game.players)))
    found = value_game(
        game,
        estimator=estimator,
        subset_size=subset_size,
        samples=samples,
        reliability=reliability,
        top_overlap=top_overlap,
        truncation=truncation,
        antithetic=antithetic,
        correct=correct,
        per_validation_point=per_validation_point,
        row_groups=row_groups,
        groups=groups,
        seed=seed,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    return dataclasses.replace(found, source=source, C=float(C))


def value_game(
    game: Game,
    *,
    estimator: str = "add_one",
    subset_size: int | None = None,
    samples: int = _DEFAULT.samples,
    reliability: float | None = None,
    top_overlap: float | None = None,
    truncation: float = 0.0,
    antithetic: bool = False,
    correct: bool = True,
    per_validation_point: bool = False,
    row_groups: object = None,
    groups: object = None,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: float = 60.0,
    progress: ProgressFn = silent,
) -> Valuation:
    """`value` of any game (see `Game`): a table of utilities, or a source classifier of one's own.

    Args:
      game: the game; its players are the points.
      checkpoint: a function in the game counts by its name alone: give another file where its code has changed.
      subset_size: None takes all players. For the others see `value`.

    Raises:
      InputError: an option that cannot be used.

    Example:
      >>> import jax.numpy as jnp
      >>> from tsds_jax.games import TableGame
      >>> glove = TableGame(jnp.array([0, 0, 0, 1, 0, 1, 0, 1.0]))  # player 0 holds the one left glove
      >>> value_game(glove, estimator="exact").values.round(3).tolist()
      [0.667, 0.167, 0.167]
    """
    began = time.perf_counter()
    _check_sampling(estimator, samples, reliability, truncation, seed)
    if isinstance(game, TableGame) and len(game.utilities) != 2**game.players:
        raise InputError(
            f"a table of {len(game.utilities)} utilities is of no game: give 2 ** players, one a coalition"
        )
    grouped = game if groups is None else group_game(game, groups)
    points = grouped.players
    whole = estimator.startswith("banzhaf")
    number_in("subset_size", points if subset_size is None else subset_size, 1, np.inf)
    check_points(points, subset_size, estimator, groups=groups is not None)
    size = points if subset_size is None else int(subset_size)
    if top_overlap is not None:
        number_in("top_overlap", top_overlap, 0, 1, whole=False)
        if reliability is None:
            raise InputError("top_overlap is given without reliability: give both")
    if antithetic and estimator != "permutation":
        raise InputError(f"antithetic is for chains, not for {estimator!r}: leave it out, or use 'permutation'")
    for name, given in (("per_validation_point", per_validation_point), ("row_groups", row_groups is not None)):
        if given and estimator == "banzhaf":
            raise InputError(f"{name} is not for 'banzhaf': use estimator='banzhaf_add_one'")
    if per_validation_point and row_groups is not None:
        raise InputError("per_validation_point and row_groups both split the values: give one of them")
    common: dict[str, Any] = {
        "source": type(game).__name__,
        "utility": str(getattr(game, "utility", "")),
        "estimator": estimator,
        "semivalue_name": "banzhaf" if whole else "shapley",
        "subset_size": size,
        "samples": int(samples),
        "C": float("nan"),
        "truncation": float(truncation) if estimator == "permutation" else 0.0,
        "seed": int(seed),
    }
    played: Any = game
    if per_validation_point or row_groups is not None:
        played = by_row(game, None if row_groups is None else _groups(row_groups, game))
    if groups is not None:
        played = group_game(played, groups)

    if estimator == "exact":
        enumeration = enumerate_coalitions(played)
        weights = semivalue_weights("truncated", points, size=size)
        split = None if enumeration.by_row is None else np.tensordot(weights, enumeration.by_row, 1)
        counts = np.full(points, comb(points - 1, np.arange(size)).sum(), np.int64)
        about = {
            "fits": enumeration.fits,
            "truncated_share": 0.0,
            "unconverged": enumeration.unconverged,
            "by_row": split,
        }
        common |= {"samples": int(counts[0]), "stopped": "exact", "corrected": False}
        return Valuation(
            weights @ enumeration.by_size,
            np.zeros(points),
            counts,
            **(common | about),
            bias=0.0,
            bias_stderr=float("nan"),
            seconds=time.perf_counter() - began,
            moments=_enumerated(enumeration.by_size[:size]),
        )

    pilot = 4 * -(-points // size) if estimator == "permutation" else 32
    wanted = None if reliability is None else Stopping(float(reliability), top_overlap, pilot=pilot)
    kept, since, spent, following = None, None, 0.0, None
    if checkpoint is not None:
        told = {name: common[name] for name in ("estimator", "subset_size", "samples", "truncation", "seed")}
        stops: dict[str, Any] = {"antithetic": bool(antithetic)}
        for name, limit in (("reliability", reliability), ("top_overlap", top_overlap)):
            stops[name] = None if limit is None else float(limit)
        identity = {"tsds_jax": __version__, **told, **stops, **_game_identity(played)}
        kept = Checkpoint(checkpoint, identity, checkpoint_every)
        since = kept.read()
        if since is not None:
            spent, following = since.pop("seconds").item(), since.pop("following").item()
    asks_end = no_end if kept is None else kept.asked_of_any
    going_on = _GoingOn(since=since, asks_end=asks_end)
    estimates = _sampled(played, estimator, size, int(samples), int(seed), float(truncation), antithetic, going_on)

    def keep(estimate: Estimate, following: int, last: bool) -> None:
        if kept is not None and estimate.state is not None:
            seconds = np.asarray(spent + time.perf_counter() - began)
            state = {**estimate.state, "following": np.asarray(following), "seconds": seconds}
            kept.offer(state, last=last, ends=estimate.ends)

    # Closed at the end of the sampling, whatever ends it: what has been begun beyond an early stop is part of the cost.
    with kept or contextlib.nullcontext(), contextlib.closing(estimates):
        estimate, check = _last(estimates, wanted, following, int(samples) * points, keep, progress)
    sums = estimate.moments
    values, stderr, freedom = sums.known()
    return Valuation(
        **_corrected(values, stderr, estimate.checks, None, correct),
        counts=sums.drawn,
        **common,
        stopped="samples" if check is None or check.reason is None else check.reason,
        fits=estimate.fits,
        truncated_share=estimate.truncated / max(1, int(sums.drawn.sum())),
        unconverged=estimate.unconverged,
        correct=correct,
        seconds=spent + time.perf_counter() - began,
        moments=None if estimator == "banzhaf" else sums,
        checks=estimate.checks,
        by_row=estimate.by_row,
        freedom=freedom,
    )


def _groups(groups: object, game: Any) -> np.ndarray:
    """The group of each validation row, checked."""
    rows = len(getattr(game, "y_val", ()))
    if rows == 0:
        raise InputError(f"a {type(game).__name__} has no validation rows to split its values by: leave row_groups out")
    return whole_numbers(groups, "row_groups", rows, f"{rows} validation rows", below=True)


def _game_identity(game: Any) -> dict[str, Any]:
    """What makes a game this one: digests of its arrays, and how it is built of them."""

    def digest(leaf: Any) -> str:
        array = np.ascontiguousarray(leaf)
        found = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
        found.update(array.view(np.uint8).data)  # as it lies there: a game may fill half of the memory
        return found.hexdigest()[:16]

    named, built = jax.tree_util.tree_flatten_with_path(game)
    # In the order of their names: a difference is told of the first.
    about = {name: str(getattr(plain_game(game), name, None)) for name in ("classes", "utility")}
    about = {name: _ADDRESS.sub("", said) for name, said in (about | {"whole": str(built)}).items()}
    return {"game": about, "arrays": {jax.tree_util.keystr(path): digest(leaf) for path, leaf in named}}


class _GoingOn(TypedDict):
    since: dict[str, np.ndarray] | None
    asks_end: Callable[[], bool]


def _sampled(
    game: Any,
    estimator: str,
    size: int,
    samples: int,
    seed: int,
    truncation: float,
    antithetic: bool,
    going_on: _GoingOn,
) -> Generator[Estimate, None, None]:
    if estimator == "banzhaf":
        return banzhaf(game, samples=samples, seed=seed, **going_on)
    plain = plain_game(game)
    if estimator in ("add_one", "banzhaf_add_one"):
        if isinstance(plain, LogisticGame):
            rows = plain.numbers_added(size)
        else:
            classes = getattr(game, "classes", 1)
            # Of two classes there is one score a row.
            rows = len(getattr(plain, "y_val", (0,))) * (classes if classes > 2 else 1)
        half = estimator == "banzhaf_add_one"
        return add_one(game, subset_size=size, samples=samples, seed=seed, rows=rows, half=half, **going_on)
    how: dict[str, Any] = {"truncation": truncation, "antithetic": antithetic, "block": chain_block(plain, size)}
    return permutation(game, subset_size=size, samples=samples, seed=seed, **how, **going_on)


def chain_block(game: Game, size: int) -> int:
    """How many prefixes of a chain of ``size`` points are best fitted together."""
    # Other games' prefixes come from one factorisation, which every block of them would do again.
    few = size <= 256 and jax.default_backend() == "cpu"
    return min(size, 100 if few else 250) if isinstance(game, LogisticGame) else size


def _last(
    estimates: Iterator[Estimate],
    wanted: Stopping | None,
    following: int | None,
    total: int,
    keep: Callable[[Estimate, int, bool], None],
    progress: ProgressFn,
) -> tuple[Estimate, Check | None]:
    """The last estimate of a run, and why it is the last; each is kept from which the run could go on."""
    progress(Progress("value", 0, total, "marginals"))
    known = ((estimate, None) for estimate in estimates) if wanted is None else run_until(estimates, wanted, following)
    next_look = following or (0 if wanted is None else wanted.pilot)
    for estimate, check in known:
        next_look = next_look if check is None else check.next
        keep(estimate, next_look, False)
        reached = "" if check is None else f", reliability {check.reliability:.2f}"
        done = total * estimate.rounds // estimate.planned
        progress(Progress("value", done, total, "marginals", f"{estimate.fits:,} fits{reached}"))
    keep(estimate, next_look, True)
    if estimate.rounds < estimate.planned:
        progress(Progress("value", total, total, "marginals", "reliable enough"))
    return estimate, check


def _corrected(
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


def _enumerated(by_size: np.ndarray) -> Moments:
    """Exact means by coalition size, as sums over one contribution a size in each half."""
    total = np.stack([by_size, by_size])
    return Moments(np.arange(len(by_size) + 1), total, 2 * by_size**2, np.ones(total.shape, np.int32))


def check_value_options(
    *,
    source: str,
    utility: str,
    estimator: str,
    subset_size: int | None,
    samples: int,
    reliability: float | None,
    C: float,
    truncation: float,
    seed: int,
) -> None:
    """Raises InputError for the first option of `value` that is wrong whatever the data."""
    _check_source(source, utility, C)
    if subset_size is not None:
        number_in("subset_size", subset_size, 1, np.inf)
    _check_sampling(estimator, samples, reliability, truncation, seed)


def _check_source(source: str, utility: str, C: float) -> None:
    one_of("source", source, SOURCES)
    one_of("utility", utility, UTILITIES if source == "logistic" else (*UTILITIES, *REGRESSION_UTILITIES))
    number_in("C", C, 1e-6, 1e6, whole=False)


def _check_sampling(estimator: str, samples: int, reliability: float | None, truncation: float, seed: int) -> None:
    one_of("estimator", estimator, ESTIMATORS)
    number_in("samples", samples, 1, MOST_SAMPLES)
    if reliability is not None:
        number_in("reliability", reliability, 0, 0.999, whole=False)
    number_in("truncation", truncation, 0, 1e30, whole=False)
    number_in("seed", seed, 0, 2**32 - 1)


def check_points(players: int, subset_size: int | None, estimator: str, *, groups: bool = False) -> None:
    """Raises InputError where so many training points, or groups of them, do not suit the options."""
    what, training = ("groups", "") if groups else ("points", "training ")
    if subset_size is not None and subset_size > players:
        raise InputError(
            f"subset_size {subset_size} is more than the {players} {training}{what}: give at most {players}"
        )
    if subset_size is not None and subset_size < players and estimator.startswith("banzhaf"):
        raise InputError(f"subset_size {subset_size} is not for {estimator!r}, which takes all {what}: leave it out")
    if estimator == "exact" and players > MAX_PLAYERS:
        raise InputError(f"{players} {what} are too many to enumerate: use at most {MAX_PLAYERS}, or another estimator")


def source_game(
    x_train: object,
    y_train: object,
    x_val: object,
    y_val: object,
    *,
    source: str = "logistic",
    utility: str = "accuracy",
    C: float = 1.0,
    intercept: str = "free",
    sample_weight: object = None,
    weight_val: object = None,
) -> LogisticGame | RidgeGame | KernelGame:
    """The game that these arrays make, after checking them; see `value`. Its utility is accuracy where none is given.

    Raises:
      InputError: an array or option that cannot be used.
    """
    _check_source(source, utility, C)
    one_of("intercept", intercept, INTERCEPTS)
    x, xv = feature_matrices(x_train, x_val, largest=np.inf if source == "kernel" else LARGEST)
    weights = {"sample_weight": sample_weight, "weight_val": weight_val}
    if utility in REGRESSION_UTILITIES:
        classes = None
        y, yv = real_array(y_train, "y_train", len(x)), real_array(y_val, "y_val", len(xv))
    else:
        names, y, yv = encode_labels(label_array(y_train, "y_train", len(x)), label_array(y_val, "y_val", len(xv)))
        classes = len(names)
    how: dict[str, Any] = {"classes": classes, "utility": utility, "C": float(C), **weights}
    if source == "kernel":
        if intercept == "penalised":
            raise InputError("intercept 'penalised' is not for source 'kernel': add a constant to the kernel instead")
        return kernel_game(x, y, xv, yv, **how)
    if source == "ridge":
        return ridge_game(x, y, xv, yv, **how, intercept=intercept)
    return logistic_game(x, y, xv, yv, **how, intercept=intercept)
