"""`value`: arrays in, the value of every training point out; `value_game`, of any game."""

import contextlib
import dataclasses
import os
import time
from typing import Any

import numpy as np
from scipy.special import comb

from tsds_jax.arrays import number_in, whole_numbers
from tsds_jax.errors import InputError
from tsds_jax.estimators import Estimate, Moments, Stopping, enumerate_coalitions, no_end, semivalue_weights
from tsds_jax.games import TableGame, by_row, group_game
from tsds_jax.games.function import own_errors
from tsds_jax.games.game import Game
from tsds_jax.options import SelectOptions
from tsds_jax.runtime.checkpoint import Checkpoint
from tsds_jax.runtime.progress import ProgressFn, silent
from tsds_jax.valuation.checks import check_points, check_sampling, check_together, check_value_options
from tsds_jax.valuation.result import Valuation, corrected_by
from tsds_jax.valuation.sampling import GoingOn, game_identity, last_estimate, sampled
from tsds_jax.valuation.source import source_game
from tsds_jax.version import __version__

_DEFAULT = SelectOptions()
# Coalitions of one group or two say of each little but how it does alone.
_FEWEST_GROUPS = 16


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
    """`value` of any game (see `Game`): a function of one's own (`function_game`), a table, another source classifier.

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
    check_sampling(estimator, samples, reliability, truncation, seed)
    if isinstance(game, TableGame) and len(game.utilities) != 2**game.players:
        raise InputError(
            f"a table of {len(game.utilities)} utilities is of no game: give 2 ** players, one a coalition"
        )
    points = game.players if groups is None else group_game(game, groups).players
    number_in("subset_size", points if subset_size is None else subset_size, 1, np.inf)
    check_points(points, subset_size, estimator, groups=groups is not None)
    size = points if subset_size is None else int(subset_size)
    check_together(
        estimator,
        reliability=reliability,
        top_overlap=top_overlap,
        antithetic=antithetic,
        per_validation_point=per_validation_point,
        row_groups=row_groups,
    )
    common: dict[str, Any] = {
        "source": type(game).__name__,
        "utility": str(getattr(game, "utility", "")),
        "estimator": estimator,
        "semivalue_name": "banzhaf" if estimator.startswith("banzhaf") else "shapley",
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
        with own_errors(game):
            exact = _enumerated(played, size, common)
        return dataclasses.replace(exact, seconds=time.perf_counter() - began)

    pilot = 4 * -(-points // size) if estimator == "permutation" else 32
    wanted = None if reliability is None else Stopping(float(reliability), top_overlap, pilot=pilot)
    kept, since, spent, following = None, None, 0.0, None
    if checkpoint is not None:
        told = {name: common[name] for name in ("estimator", "subset_size", "samples", "truncation", "seed")}
        stops: dict[str, Any] = {"antithetic": bool(antithetic)}
        for name, limit in (("reliability", reliability), ("top_overlap", top_overlap)):
            stops[name] = None if limit is None else float(limit)
        identity = {"tsds_jax": __version__, **told, **stops, **game_identity(played)}
        kept = Checkpoint(checkpoint, identity, checkpoint_every)
        since = kept.read()
        if since is not None:
            spent, following = since.pop("seconds").item(), since.pop("following").item()
    asks_end = no_end if kept is None else kept.asked_of_any
    going_on = GoingOn(since=since, asks_end=asks_end)
    estimates = sampled(played, estimator, size, int(samples), int(seed), float(truncation), antithetic, going_on)

    def keep(estimate: Estimate, following: int, last: bool) -> None:
        if kept is not None and estimate.state is not None:
            seconds = np.asarray(spent + time.perf_counter() - began)
            state = {**estimate.state, "following": np.asarray(following), "seconds": seconds}
            kept.offer(state, last=last, ends=estimate.ends)

    # Closed at the end of the sampling, whatever ends it: what has been begun beyond an early stop is part of the cost.
    with kept or contextlib.nullcontext(), contextlib.closing(estimates), own_errors(game):
        estimate, check = last_estimate(estimates, wanted, following, int(samples) * points, keep, progress)
    sums = estimate.moments
    values, stderr, freedom = sums.known()
    return Valuation(
        **corrected_by(values, stderr, estimate.checks, None, correct),
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


def default_subset_size(points: int, features: int) -> int:
    """Points in a chain where none is given: four times the fitted parameters of one class, from 64 to 512.

    What a source classifier can learn from a subset depends on its dimension, not on a percentage of the data:
    below it a subset teaches nothing, far above it one point more changes nothing and its contribution is noise.
    """
    return min(points, max(64, min(512, 4 * (features + 1))))


def _groups(groups: object, game: Any) -> np.ndarray:
    """The group of each validation row, checked."""
    rows = len(getattr(game, "y_val", ()))
    if rows == 0:
        raise InputError(f"a {type(game).__name__} has no validation rows to split its values by: leave row_groups out")
    return whole_numbers(groups, "row_groups", rows, f"{rows} validation rows", below=True)


def _enumerated(game: Any, size: int, common: dict[str, Any]) -> Valuation:
    """By all coalitions of fewer than so many points."""
    points, found = game.players, enumerate_coalitions(game)
    weights = semivalue_weights("truncated", points, size=size)
    counts = np.full(points, comb(points - 1, np.arange(size)).sum(), np.int64)
    # Exact means by coalition size, as sums over one contribution a size in each half.
    total = np.stack([found.by_size[:size]] * 2)
    moments = Moments(np.arange(size + 1), total, 2 * found.by_size[:size] ** 2, np.ones(total.shape, np.int32))
    about = {
        "samples": int(counts[0]),
        "stopped": "exact",
        "corrected": False,
        "fits": found.fits,
        "truncated_share": 0.0,
        "unconverged": found.unconverged,
        "by_row": None if found.by_row is None else np.tensordot(weights, found.by_row, 1),
        "bias": 0.0,
        "bias_stderr": float("nan"),
        "seconds": 0.0,
        "moments": moments,
    }
    return Valuation(weights @ found.by_size, np.zeros(points), counts, **(common | about))
