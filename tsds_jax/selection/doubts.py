"""What a reader must know before trusting a selection: warnings, in words."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tsds_jax.data.messages import counted
from tsds_jax.evaluation import share_interval
from tsds_jax.selection.choice import Choice
from tsds_jax.selection.curve import RemovalCurve
from tsds_jax.selection.limits import Limits
from tsds_jax.valuation import Valuation

# A cut of which another run would take less than this share is the run's own, not the data's.
_LEAST_OVERLAP = 0.5
# Rows to remove that another utility puts in its lower half less often than this are not low by both.
_LEAST_AGREEMENT = 0.75
# Validation rows that cannot tell a gain of so much from none are too few.
_LARGEST_UNSEEN = 0.02
_DRAWS = 10
# Classes of which the cut takes most; of more only their number is told.
_NAMED = 3


def doubts_about_sampling(valuation: Valuation) -> list[str]:
    """Doubts about the values by themselves: fits, and sampling noise."""
    found = []
    if valuation.unconverged:
        found.append(
            f"{counted(valuation.unconverged, 'fit')} of source classifiers, with one row more or not, did not"
            " converge: lower C, or bring the features to one scale"
        )
    reliability = valuation.reliability
    if np.isnan(reliability):
        found.append("how reliable the values are is not known, for no row was drawn twice: raise samples")
    elif reliability < 0.5:
        found.append(f"the values are mostly sampling noise (reliability {reliability:.2f}): raise samples")
    return found


def doubts_about_values(
    valuation: Valuation, removed: np.ndarray, other: Valuation, limits: Limits | None = None
) -> list[str]:
    """Doubts about the values: fits, sampling noise, and whether another utility would agree.

    Args:
      valuation: the values.
      removed: int ``[removed]``, the points to remove.
      other: a valuation by another utility.
      limits: what a removal respects; nothing if not given.
    """
    found = doubts_about_sampling(valuation)
    told = len(removed) and valuation.reliability >= 0.5
    if told and (overlap := expected_overlap(valuation, len(removed), limits)) < _LEAST_OVERLAP:
        found.append(
            f"with another seed only {overlap:.0%} of these {len(removed)} rows would be removed too: raise samples"
        )
    if len(removed) and other.reliability >= 0.5:  # else the other's ranks are mostly noise, and agree with nothing
        order = other.ranking
        if limits is not None:
            # All that may go at all: behind them, or beyond a floor, rows stand in the order of the data.
            may_go = dataclasses.replace(limits, class_floor=0.0).removal_order(other.values, other.seed)
            order = may_go.points[: may_go.ends[-1]]
        half = len(order) // 2
        agreed = float(np.isin(removed, order[: max(half, len(removed))]).mean())
        where = "in the lower half" if len(removed) <= half else "among as many lowest"
        if agreed < _LEAST_AGREEMENT:
            found.append(
                f"utilities disagree: of {counted(len(removed), 'row')} removed by {valuation.utility} only"
                f" {agreed:.0%} are {where} by {other.utility}, so what helps the one may hurt the other"
            )
    return found


def doubts_about_cut(
    curve: RemovalCurve, labels: np.ndarray, classes: Sequence[str], kept: np.ndarray, validation: np.ndarray
) -> list[str]:
    """Doubts about the removal: its refits, the source classifier, the validation rows, and classes that go.

    Args:
      curve: the removal curve.
      labels: int ``[points]``, classes of the training rows.
      classes: their names.
      kept: the points that stay.
      validation: int ``[rows]``, classes of the validation rows.
    """
    found = []
    if not curve.converged:
        found.append("refits behind the removal curve did not converge: lower C, or bring the features to one scale")
    rows, majority = len(validation), np.bincount(validation).max() / len(validation)
    alone = curve.independent_rows or rows
    about = share_interval(round(curve.accuracy[0] * alone), alone)
    if about.low <= majority:
        how = "is not above" if curve.accuracy[0] <= majority else "cannot be told from"
        found.append(
            f"the source classifier's accuracy, {curve.accuracy[0]:.3f} (95 % interval {about.low:.3f} to"
            f" {about.high:.3f}), {how} the majority class's share of the validation rows, {majority:.3f}: its values"
            " mean little here"
        )
    best = int(np.argmax(curve.difference[1:])) + 1 if len(curve.difference) > 1 else 0
    # Where no prediction changes, as if one had.
    unseen = 1.96 * max(float(curve.accuracy_stderr[best]), 1 / rows)
    if unseen > _LARGEST_UNSEEN:
        found.append(
            f"the {rows} validation rows tell a cut from none only where it gains more than {100 * unseen:.1f} points"
            " of accuracy: few to choose one by"
        )
    before, after = (np.bincount(some, minlength=len(classes)) for some in (labels, labels[kept]))
    most = np.flatnonzero(after < before / 2)
    most = most[np.argsort(after[most] / before[most], kind="stable")]
    for label in most[:_NAMED]:
        gone = before[label] - after[label]
        found.append(f"the cut removes {gone} of the {before[label]} training rows of class {classes[label]}")
    if len(most) > _NAMED:
        more = len(most) - _NAMED
        found.append(
            f"the cut removes more than half of the training rows of {more} more class{'es' if more > 1 else ''}"
        )
    return found


def fewer_than_asked(choice: Choice) -> list[str]:
    """That fewer rows go than were asked for, and why: what is next goes together, or nothing else may go."""
    if choice.missed <= 0:
        return []
    words = f"{counted(choice.missed, 'row')} fewer {'was' if choice.missed == 1 else 'were'} removed than asked for"
    ends, index = choice.order.ends, choice.removal_index
    # What is next in the order is not below a least value.
    if choice.rule == "below" or index == ends[-1]:
        return [f"{words}: the limits allow no more"]
    together = counted(int(ends[ends > index][0]) - index, "row")
    return [f"{words}: the next {together} go together, and would be more"]


def expected_overlap(valuation: Valuation, removed: int, limits: Limits | None = None) -> float:
    """Share of the lowest points that two runs with other seeds are expected to have in common.

    Runs are drawn from the values, shrunk so that their spread is what it is without sampling noise, and from normal
    noise in proportion to each value's standard error; the mean over all pairs of ten.

    Args:
      valuation: the values.
      removed: how many points are removed.
      limits: what a removal respects, of which units have one noise; nothing if not given.
    """
    values, error = valuation.values, np.nan_to_num(valuation.stderr, nan=0.0)
    limits = limits or Limits.none(np.zeros(len(values), np.int64))
    valued, reliable = np.isfinite(values), valuation.reliability
    # The spread of the true values is the reliable share of that of the estimates, and the rest is noise: standard
    # errors also hold what moves all values alike.
    mean = np.mean(values[valued])
    true = mean + np.sqrt(reliable) * (values - mean)
    error *= np.sqrt((1 - reliable) * np.var(values[valued]) / max(np.mean(error[valued] ** 2), 1e-300))
    error, units = limits.unit_values(error), limits.units
    times = np.zeros(len(values))
    for draw in range(_DRAWS):
        noise = np.random.default_rng([0, draw]).normal(size=units.max() + 1)
        order = limits.removal_order(true + error * noise[units], draw, most=removed)
        times[order.points[: order.cuts(np.array([removed]))[0]]] += 1
    return float(times @ (times - 1) / (_DRAWS * (_DRAWS - 1) * removed))
