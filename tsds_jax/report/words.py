"""The report's sentences: numbers as a reader expects them, and findings worded no stronger than they are."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tsds_jax.data.messages import counted
from tsds_jax.report.contents import Arm, Cut, Difference, FineTuning, RunContents, Suspects, as_float, part_of
from tsds_jax.runtime.console import duration

MINUS = "\u2212"
DASH = "\u2013"
NBSP = "\u00a0"

# Utilities that are shares of something, shown in percent.
_SHARES = {"accuracy", "probability", "balanced_accuracy"}
_UTILITIES = {
    "accuracy": "validation accuracy",
    "log_likelihood": "mean validation log-likelihood",
    "probability": "mean probability of the true class on validation rows",
    "balanced_accuracy": "balanced validation accuracy",
    "class_wise": "class-wise validation accuracy",
}
_METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
_ARMS = {"full": "all rows", "selection": "kept rows", "random": "as many rows at random"}
_SOURCES = {
    "logistic": "a logistic regression",
    "ridge": "a ridge classifier",
}
_ESTIMATORS = {
    "add_one": "the classifier was fitted on random subsets, and each other {unit}\u2019s effect on it computed",
    "permutation": "{unit}s of random subsets were added one by one in random order, with a fit at every step",
    "exact": "every subset of the {unit}s was fitted",
    "banzhaf": "the classifier was fitted on random halves of the {unit}s, with and without each {unit}",
    "banzhaf_add_one": "random halves of the {unit}s were fitted, and each {unit}\u2019s effect on them computed",
}
_TUNED = {
    "fine_tuned": ", fine-tuned for one pass",
    "cross_fitted": ", fine-tuned for two passes on the half of the rows that a row is not in",
}
_STOPPED = {
    "reliability": ", and sampling stopped when the values were as reliable as wanted",
    "budget": ", after which the values were not yet as reliable as wanted",
}
_RULES = {
    "argmax": "the cut with the best validation score",
    "one_se": "the one-standard-error rule",
    "cross_fitted": "the cross-fitted rule",
    "count": "the number of rows that was asked for",
    "share": "the share that was asked for",
    "below": "the least value that was asked for",
    "target": "the check on the model itself",
}
_ASKED = ("count", "share", "below")
# By whether each validation row was scored by values that it had no part in, and whether the number was asked for.
_FLATTERED = {
    (True, False): "Each validation row was scored after removals that other rows had decided; only the choice of the "
    "best cut flatters this gain.",
    (True, True): "Each validation row was scored after removals that other rows had decided.",
    (False, False): "The same validation rows chose the cut and measure it, so this gain is flattered.",
    (False, True): "The same validation rows valued the rows and measure the cut, so this gain is flattered.",
}


def share(value: float, digits: int = 1) -> str:
    """A share in percent: ``81.2 %``."""
    return f"{fixed(100 * value, digits)}{NBSP}%" if math.isfinite(value) else DASH


def points(value: float) -> str:
    """A difference of shares in percentage points, with its sign: ``+1.2``."""
    return fixed(100 * value, 1, sign=True)


def fixed(value: float, digits: int, *, sign: bool = False) -> str:
    """A number with so many decimals and a true minus; a dash if it is not finite. Zero has no sign."""
    if not math.isfinite(value):
        return DASH
    text = f"{value:+,.{digits}f}" if sign else f"{value:,.{digits}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def whole(value: float | None) -> str:
    """A count with thousands separated, or a dash."""
    return DASH if value is None or not math.isfinite(value) else f"{value:,.0f}".replace("-", MINUS)


def seconds(value: float) -> str:
    """A duration: ``0.4 s``, ``38 s``, ``3 min 20 s``, ``2 h 5 min``."""
    return duration(value, exact=True).replace(" ", NBSP) if math.isfinite(value) else DASH


def short(value: object, length: int) -> str:
    """The value as text of at most so many characters."""
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def score(value: float, utility: str) -> str:
    """A validation score in its own unit."""
    return share(value) if is_share(utility) else fixed(value, 4)


def is_share(utility: str) -> bool:
    """Whether a utility is a share, from 0 to 1."""
    return utility in _SHARES


def utility_name(utility: str) -> str:
    """What a utility measures."""
    return _UTILITIES.get(utility, "validation score")


def metric_name(metric: str) -> str:
    """A test metric's name in prose."""
    return _METRICS.get(metric, metric)


def arm_name(name: str) -> str:
    """What an arm was trained on."""
    return _ARMS.get(name, name)


def summary(contents: RunContents) -> str:
    """What was found, in one sentence: rows valued, rows removed, what that changed."""
    values = contents.values
    valued, removed = int(values.valued.sum()), int((~values.kept).sum())
    if removed == 0:
        start = f"{_valued(valued, len(values))} and none was removed"
    else:
        part, lowest = share(removed / len(values)), "least valuable" + " of their class" * contents.by_class
        start = f"{_valued(valued, len(values))} and {removed:,} of the {lowest} ({part}) removed"
    tuned = contents.finetuning
    if tuned is None:
        if contents.cut.evidence:
            return f"{start}; the model itself was asked on validation rows alone, as the check at the curve says."
        compared = "were compared in this run" if contents.finished else "have been compared yet"
        unknown = ", so what that does to one is not known" if removed else ""
        return f"{start}; no fine-tuned models {compared}{unknown}."
    if removed == 0:
        best = tuned.arms[0]
        reached = f"the model fine-tuned on {arm_name(best.name)} reaches {share(best.accuracy)} test accuracy"
        return f"{start}; {reached}."
    change = tuned.difference("selection", "full")
    if change is None:
        best = next((arm for arm in tuned.arms if arm.name == "selection"), tuned.arms[0])
        reached = f"the model fine-tuned on {arm_name(best.name)} reaches {share(best.accuracy)} test accuracy"
        return f"{start}; {reached}, and nothing in this run says what it would reach on all rows."
    test = "" if tuned.test_rows is None else f" on {counted(tuned.test_rows, 'test row')}"
    verdict = _verdict(change, tuned.seeds)
    return (
        f"{start}; fine-tuned on the rest instead of on everything, the model\u2019s test accuracy changes "
        f"by {points(change.estimate)} points (95{NBSP}% interval {span(change)}{test}), {verdict}."
    )


def unfinished(contents: RunContents) -> list[str]:
    """The warning that a run is not finished, where it is not."""
    if contents.finished:
        return []
    return ["this run is not finished: it is still at work, or was stopped (tsds run goes on with --resume)"]


def doubts(suspects: Suspects, manifest: Mapping[str, Any]) -> str:
    """How many labels are doubted, by what, and where all of them stand."""
    many = "1 label is doubted" if len(suspects) == 1 else f"{len(suspects):,} labels are doubted"
    learned = part_of(manifest, "options").get("represent_by") == "fine_tuned"
    but = ", but of vectors by a model that had" if learned else ""
    return f"{many} by classifiers that had not seen them{but} (suspects.csv has all); the most doubtful:"


def doubted_judges(contents: RunContents) -> str | None:
    """How many of the labels that judge all others are doubted; nothing where none is."""
    count = contents.doubted_judges
    if not count:
        return None
    rows = part_of(part_of(contents.manifest, "data"), "validation").get("rows")
    of = f" of the {rows:,}" if isinstance(rows, int) else ""
    return (
        f"Of the validation labels, which judge all others, {count:,}{of} are doubted too (validation-suspects.csv):"
        " put these right first."
    )


def against_random(tuned: FineTuning) -> str | None:
    """Whether the ranking did better than removing as many rows at random; nothing if that was not tried."""
    change = tuned.difference("selection", "random")
    if change is None:
        return None
    draws = "this random draw" if tuned.seeds == 1 else "these random draws"
    if change.low > 0:
        verdict = f"so the ranking chose better than {draws}"
    elif change.high < 0:
        verdict = f"so the ranking chose worse than {draws}"
    else:
        verdict = "so this run does not show that the ranking chooses better than chance"
    sizes = {arm.rows for arm in tuned.arms if arm.name in ("selection", "random")}
    about = "" if len(sizes) == 1 else "about "
    return (
        f"Against removing {about}as many rows at random, the difference is {points(change.estimate)} points "
        f"({span(change)}), {verdict}."
    )


def span(change: Difference) -> str:
    """An interval in percentage points: ``−0.6 to +1.4``."""
    return f"{points(change.low)} to {points(change.high)}"


def reading(change: Difference) -> str:
    """What an interval says about the sign of a difference."""
    if not (math.isfinite(change.low) and math.isfinite(change.high)):
        return "unknown"
    if change.low > 0:
        return "higher"
    return "lower" if change.high < 0 else "not told apart"


def cut_in_words(cut: Cut) -> str:
    """How the cut was chosen, and what the source classifier\u2019s score did there."""
    curve, name = cut.curve, utility_name(cut.utility)
    rule = _RULES.get(cut.rule, f"the rule {short(cut.rule, 40)}")
    at = float(np.interp(cut.removal_index, curve.removed, curve.score))
    asked = cut.rule in _ASKED
    before = score(float(curve.score[0]), cut.utility)
    if cut.removal_index == 0:
        end = "nothing was removed" if asked else "no cut was good enough to remove anything"
        start = f"With nothing removed the source classifier\u2019s {name} is {before}; by {rule}, {end}."
        return f"{start} {cut.evidence}".rstrip()
    gain = float(np.interp(cut.removal_index, curve.removed, curve.difference))
    error = float(np.interp(cut.removal_index, curve.removed, curve.stderr))
    if is_share(cut.utility):
        change = f"{points(gain)} ± {fixed(100 * error, 1)} points"
    else:
        change = f"{fixed(gain, 4, sign=True)} ± {fixed(error, 4)}"
    return (
        f"The cut at {counted(cut.removal_index, 'row')} was chosen by {rule}: the source classifier\u2019s {name} "
        f"goes from {before} to {score(at, cut.utility)} ({change}: one standard error, paired over "
        f"validation rows). {_FLATTERED[cut.cross_fitted, asked]} {cut.evidence}".rstrip()
    )


def method(manifest: Mapping[str, Any]) -> list[str]:
    """How the values were computed, a sentence a step."""
    valuation, model = part_of(manifest, "valuation"), part_of(manifest, "model")
    options = part_of(manifest, "options")
    unit = "group" if options.get("group") else "row"
    sentences = []
    if model.get("name"):
        size = as_float(model.get("parameters"))
        weights = f" ({whole(size)} parameters)" if math.isfinite(size) else ""
        pca = as_float(options.get("pca"))
        explained = as_float(part_of(manifest, "representation").get("explained"))
        kept = f" ({share(explained)} of the variance)" if math.isfinite(explained) else ""
        reduced = f", reduced to {whole(pca)} principal components{kept}" if pca > 0 else ""
        pooled = f", {short(options['pooling'], 20)} pooling" if options.get("pooling") else ""
        by = _TUNED.get(str(options.get("represent_by")), "")
        sentences.append(
            f"Texts were turned into vectors by {short(model['name'], 200)}{weights}{by}{pooled}{reduced}."
        )
    source = str(valuation.get("source", ""))
    if source:
        strength = as_float(valuation.get("C"))
        named = _SOURCES.get(source, f"the source classifier {short(source, 40)}")
        named += f" (C = {strength:g})" if source == "logistic" and math.isfinite(strength) else ""
        utility = utility_name(str(valuation.get("utility", "")))
        sentences.append(f"On these vectors {named} was fitted, and its {utility} is what a row can add to.")
    estimator = str(valuation.get("estimator", ""))
    if estimator:
        way = _ESTIMATORS.get(estimator, f"values were estimated by {short(estimator, 40)}")
        subset = as_float(valuation.get("subset_size"))
        size_words = f" Subsets have at most {whole(subset)} {unit}s." if math.isfinite(subset) else ""
        way = way.replace("{unit}", unit)
        sentences.append(
            f"To value the {unit}s, {way}; a {unit}\u2019s value is its mean effect on the score.{size_words}"
        )
    fits, samples = as_float(valuation.get("fits")), as_float(valuation.get("samples"))
    if math.isfinite(fits):
        # A coalition says nothing of those that are in it.
        drawn = ("" if estimator in ("permutation", "exact") else "at most ") + whole(samples)
        each = f"; {drawn} marginal contributions a {unit} were asked for" if math.isfinite(samples) else ""
        ended = _STOPPED.get(str(valuation.get("stopped", "")), "")
        sentences.append(f"This took {whole(fits)} fits{each}{ended}.")
    bias, error = as_float(valuation.get("bias")), as_float(valuation.get("bias_stderr"))
    if math.isfinite(error):
        done = "added to the values" if valuation.get("corrected") else "not added to the values"
        sentences.append(
            f"Exact refits of random contributions differ from those used by {bias:.2g} on average"
            f" (standard error {error:.1g}); this is {done}."
        )
    truncation = as_float(valuation.get("truncation"))
    if truncation > 0:
        sentences.append(f"A pass stopped early once its score was within {truncation:g} of the full subset\u2019s.")
    reliability = as_float(valuation.get("reliability"))
    if math.isfinite(reliability):
        sentences.append(
            f"Reliability {reliability:.2f}: the values of two such runs with different seeds would "
            "correlate by about that."
        )
    return sentences


def arm_cells(arm: Arm) -> dict[str, str]:
    """A row of the fine-tuning table."""
    return {
        "name": arm_name(arm.name),
        "rows": whole(arm.rows),
        "accuracy": share(arm.accuracy) + _deviation(arm),
        "macro_f1": share(arm.macro_f1),
        "steps": whole(arm.steps),
        "best_step": whole(arm.best_step),
        "seconds": seconds(arm.seconds),
    }


def seeds_in_words(tuned: FineTuning) -> str | None:
    """What the scores are of, where they are of several seeds."""
    if tuned.seeds == 1:
        return None
    differ = ", whose differences the intervals include" if tuned.differences else ""
    return f"Means of {tuned.seeds} fine-tuning seeds{differ}; \u00b1 is the standard deviation of the seeds."


def _deviation(arm: Arm) -> str:
    """What the seeds' accuracies deviate by, where there are several."""
    if len(arm.accuracies) < 2:
        return ""
    return f" ± {100 * float(np.std(arm.accuracies, ddof=1)):.1f}"


def difference_cells(change: Difference) -> dict[str, str]:
    """A row of the table of differences."""
    return {
        "pair": f"{arm_name(change.a)} {MINUS} {arm_name(change.b)}",
        "metric": metric_name(change.metric),
        "estimate": points(change.estimate),
        "interval": span(change),
        "reading": reading(change),
    }


def _valued(valued: int, total: int) -> str:
    if valued == total:
        return f"All {total:,} training rows were valued" if total != 1 else "The one training row was valued"
    return f"{valued:,} of {total:,} training rows were valued"


def _verdict(change: Difference, seeds: int) -> str:
    explains = "the choice of test rows explains (another fine-tuning seed may differ)"
    if seeds > 1:
        explains = f"the choice of test rows and {seeds} fine-tuning seeds explain"
    if not (math.isfinite(change.low) and math.isfinite(change.high)):
        return "without a usable interval"
    if change.low > 0:
        return f"higher by more than {explains}"
    if change.high < 0:
        return f"lower by more than {explains}"
    return f"which these test rows{' and seeds' * (seeds > 1)} cannot tell from no change"
