"""From texts to a selection: representation, values, order, cut, doubts."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tsds_jax.data import Splits
from tsds_jax.encoders import Encoder
from tsds_jax.finetuning.tuning import cut_texts
from tsds_jax.options import FineTuneOptions, SelectOptions
from tsds_jax.pipeline.checks import both_judged_apart, held_out_units, judged_apart
from tsds_jax.pipeline.representing import cut_to_represent, represent
from tsds_jax.pipeline.selected import Selection
from tsds_jax.pipeline.target_check import target_check
from tsds_jax.runtime.files import Arrays
from tsds_jax.runtime.folder import Keep, PartOf, Timed
from tsds_jax.runtime.progress import Progress, ProgressFn
from tsds_jax.selection import RULES, Limits, suspected_labels, wanted_cuts
from tsds_jax.selection.choice import choose, validation_folds
from tsds_jax.selection.doubts import doubts_about_cut, doubts_about_values, fewer_than_asked
from tsds_jax.selection.points import value_options
from tsds_jax.valuation import Valuation, source_game, value

# Coalitions of the second opinion.
_SECOND_OPINION = 64


def select_rows(
    splits: Splits,
    encoder: Encoder,
    settings: SelectOptions,
    limits: Limits,
    finetuning: FineTuneOptions,
    manifest: Mapping[str, Any],
    keep: Keep,
    part: PartOf,
    cache: str | os.PathLike | None,
    progress: ProgressFn,
) -> Selection:
    """Values the training rows, and says which to remove.

    Args:
      splits: training and validation rows; test rows have no part.
      encoder: the target language model.
      settings: checked options.
      limits: what a removal respects; see `removal_limits`.
      finetuning: how representations and the check on the target are fine-tuned, where they are.
      manifest: what is known of the run so far; the selection's has valuation, representation, stages and warnings too.
      keep: stores each stage's arrays, and reads those that are stored.
      part: what a stage that is under way has reached, by its name.
      cache: a folder of representations, or None.
      progress: called as the stages go on.
    """
    train, validation = splits.train, splits.validation
    groups = None if settings.group is None else limits.units
    units = held_out_units(validation, settings)
    folds = validation_folds(settings, validation.labels, units)
    what = (train, validation, encoder, settings, finetuning, cache, progress)
    seen = keep("representations", functools.partial(represent, *what, part=part("representations")))
    x, x_val = seen["train"], seen["validation"]

    def valued(stage: str, **instead: Any) -> Arrays:
        how = {**value_options(settings), "groups": groups, "row_groups": folds, "progress": progress, **instead}
        return value(x, train.labels, x_val, validation.labels, **how, **part(stage).of_value).arrays()

    def kept_values(stage: str, **instead: Any) -> Valuation:
        return Valuation.from_arrays(keep(stage, functools.partial(valued, stage, **instead)))

    valuation = kept_values("values")
    # Another utility on some of the same coalitions, only to see whether it would rank the rows alike.
    other = "accuracy" if settings.utility in ("probability", "log_likelihood") else "log_likelihood"
    few: dict[str, Any] = {"samples": min(settings.samples, _SECOND_OPINION), "reliability": None, "row_groups": None}
    few["progress"] = lambda event: progress(event._replace(stage="second opinion"))
    opinion = kept_values("values-otherwise", utility=other, **few)
    if groups is not None:
        valuation, opinion = valuation.for_members(groups), opinion.for_members(groups)

    timed = Timed(keep)
    how: dict[str, Any] = {"source": settings.source, "utility": settings.utility, "C": settings.C}
    game = source_game(x, train.labels, x_val, validation.labels, **how)
    choice = choose(game, valuation, limits, folds, settings, timed, units=units)
    apart = judged_apart(train, settings)
    suspects = suspected_labels(x, train.labels, C=settings.C, seed=settings.seed, units=apart)
    # Those that judge are asked about too, by all rows. They have no part in what is said of the training rows.
    together = (np.concatenate(parts) for parts in ((x, x_val), (train.labels, validation.labels)))
    both = both_judged_apart(train, validation, settings)
    judges = suspected_labels(*together, C=settings.C, seed=settings.seed, units=both).since(len(x))
    cuts = len(choice.curve.removed)
    progress(Progress("select", cuts, cuts, "cuts", f"{choice.removal_index} rows removed"))
    stages = {
        **manifest["stages"],
        "embed": round(seen["seconds"].item(), 3),
        "value": round(valuation.seconds + opinion.seconds, 3),
        "select": round(timed.seconds, 3),
    }
    index, rule, check = choice.removal_index, choice.rule, None
    to_check, checkable = settings.check_seeds > 0 and index > 0 and rule in RULES, encoder.dtype == "float32"
    if to_check and checkable:
        timed = Timed(keep)
        what_for = (encoder, train, validation, choice, folds, finetuning, settings)
        check = target_check(*what_for, keep=timed, part=part, progress=progress, units=units)
        index, rule = check.recommended, "target"
        stages["check"] = round(timed.seconds, 3)
    removed, kept = np.split(choice.order.points, [index])
    found = list(manifest["warnings"])
    if seen["truncated"]:
        found.append(cut_to_represent(int(seen["truncated"]), settings))
    if check is not None and check.truncated:
        can_be_raised = finetuning.max_length < encoder.config.max_tokens
        words = cut_texts(check.truncated, finetuning, encoder, "in the check on the model")
        found.append(words + ": raise max_length of fine-tuning" * can_be_raised)
    if to_check and not checkable:
        found.append(f"the cut was not checked on the model itself, which cannot be fine-tuned in {encoder.dtype}")
    found += fewer_than_asked(choice)
    if choice.rule in RULES and len(choice.curve.removed) == 1:
        together = wanted_cuts(len(train), settings.grid, settings.largest_cut)[-1] > 0
        why = "the first rows to go, which go together, are more than largest_cut allows"
        found.append(f"no cut was tried: {why if together else 'grid and largest_cut leave none of a row or more'}")
    found += doubts_about_values(valuation, removed, opinion, limits)
    found += doubts_about_cut(choice.curve, train.labels, train.classes, kept, validation.labels)
    about = {
        **manifest,
        "stages": stages,
        "valuation": valuation.summary(),
        "representation": {
            "width": x.shape[1],
            "explained": seen["explained"].item(),
            "truncated_texts": int(seen["truncated"]),
        },
        "warnings": found,
    }
    set_apart = validation if splits.set_apart else None
    cut = (choice.order, choice.curve, rule, index)
    return Selection(train, valuation, *cut, suspects, validation, judges, about, set_apart, check)
