"""Every option and every size is refused before the long work, where it cannot be used."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from tsds_jax.arrays import number_in, one_of
from tsds_jax.data import Splits, TextData, duplicate_codes, group_codes, group_names, marked_rows, text_codes
from tsds_jax.data.marks import codes_of, normalized
from tsds_jax.data.messages import counted
from tsds_jax.encoders import POOLINGS, Encoder
from tsds_jax.errors import InputError
from tsds_jax.finetuning.checks import check_kind, check_tokens
from tsds_jax.finetuning.parts import finds_part
from tsds_jax.games.logistic import MAX_CLASSES
from tsds_jax.options import FineTuneOptions, SelectOptions
from tsds_jax.runtime.files import MANIFEST, as_path, check_writable
from tsds_jax.selection import Limits
from tsds_jax.selection.choice import validation_folds
from tsds_jax.selection.points import check_choice, check_folds
from tsds_jax.valuation import check_points

REPRESENT_BY = ("pretrained", "fine_tuned", "cross_fitted")


def check_select_options(settings: SelectOptions) -> None:
    """Raises InputError for an option whose value is unknown, before any file is read."""
    if settings.pooling is not None:
        one_of("pooling", settings.pooling, sorted(POOLINGS))
    one_of("represent_by", settings.represent_by, REPRESENT_BY)
    one_of("source", settings.source, ("logistic", "ridge"))
    number_in("pca", settings.pca, 0, np.inf)
    for layer in layers_of(settings):
        number_in("layer", layer, -1000, 1000)
    if settings.max_length is not None:
        number_in("max_length", settings.max_length, 4, np.inf)
    number_in("validation_fraction", settings.validation_fraction, 0, 1, whole=False)
    check_choice(settings)
    number_in("check_seeds", settings.check_seeds, 0, 100)
    number_in("check_steps", settings.check_steps, 1, np.inf)
    if settings.group is not None and settings.utility == "class_wise":
        raise InputError("utility 'class_wise' is each row's own and not a group's: use another with group")


def removal_limits(train: TextData, settings: SelectOptions) -> Limits:
    """Which rows go together, and which never, by the options and the columns that they name.

    Raises:
      InputError: a column that is missing or cannot be used, or limits that allow no removal.
    """
    units = training_units(train, settings)
    if settings.by_class:
        first = train.labels[np.unique(units, return_index=True)[1]]
        for row in np.flatnonzero(train.labels != first[units])[:1]:
            raise InputError(
                f"{train.source}, row {train.origin[row]}: by_class is for groups of one class, and this row's has"
                " several: leave it out"
            )
    marked = np.zeros(len(train), bool) if settings.protect is None else marked_rows(train, settings.protect)
    limits = Limits(train.labels, units, marked, settings.class_floor, settings.by_class)
    if limits.removal_order(np.zeros(len(train))).ends[-1] == 0:
        raise InputError("no row may be removed: loosen class_floor, protect, group or tie_duplicates")
    return limits


def training_units(train: TextData, settings: SelectOptions) -> np.ndarray:
    """Rows that are removed together, int ``[rows]``: of one group, or of the same text and label."""
    if settings.group is not None:
        return group_codes(train, settings.group)
    return duplicate_codes(train) if settings.tie_duplicates else np.arange(len(train))


def judged_apart(train: TextData, settings: SelectOptions) -> np.ndarray:
    """Rows that must not judge each other, int ``[rows]``: of one group, or of one text whatever their labels."""
    return text_codes(train) if settings.group is None else group_codes(train, settings.group)


def both_judged_apart(train: TextData, validation: TextData, settings: SelectOptions) -> np.ndarray:
    """`judged_apart` of training rows and then validation rows, which may have texts or groups in common."""
    keys: list[tuple[str, Any]] = [("text", normalized(text)) for part in (train, validation) for text in part.texts]
    if settings.group is not None:
        known = settings.group in validation.rows.column_names
        judging = group_names(validation, settings.group) if known else [""] * len(validation)
        named = [*group_names(train, settings.group), *judging]
        keys = [("group", name) if name else key for name, key in zip(named, keys, strict=True)]
    return codes_of(keys)


def held_out_units(held_out: TextData, settings: SelectOptions) -> np.ndarray:
    """Rows that say what they say together, int ``[rows]``: of one group where that is known, or of one text.

    They are in one half of the validation rows, and drawn together where an interval is of them. Where all are of one
    group, which `manifest_of` warns of, nothing is known beyond it, and rows go by their texts.
    """
    copies = text_codes(held_out)
    if settings.group is None or settings.group not in held_out.rows.column_names:
        return copies
    named = group_names(held_out, settings.group)
    # A row of no group goes with its copies.
    units = codes_of(name or copy for name, copy in zip(named, copies.tolist(), strict=True))
    return units if units.any() else copies


def layers_of(settings: SelectOptions) -> tuple[int, ...]:
    """Those that represent a text."""
    layer = settings.layer
    found = tuple(layer) if isinstance(layer, tuple | list) else (layer,)
    if not found:
        raise InputError("layer names no layer: give one, or several")
    return found


def check_cache(cache: str | os.PathLike | None) -> None:
    """Raises InputError, before any work, where no cache could be written."""
    if cache is not None:
        check_writable(cache)


def check_precision(encoder: Encoder) -> None:
    """Raises InputError where a model cannot be fine-tuned for the precision of its weights."""
    if encoder.dtype != "float32":
        raise InputError(f"the model's dtype is {encoder.dtype}, too coarse to fine-tune in: load it as float32")


def check_before_overwriting(
    out: str | os.PathLike,
    encoder: Encoder,
    settings: SelectOptions,
    finetuning: FineTuneOptions | None,
    represented: Iterable[TextData],
    not_represented: Iterable[TextData | None] = (),
) -> None:
    """Raises InputError for a row that cannot be tokenised, while the run that ``out`` holds, if any, is still there.

    Args:
      out: the folder.
      encoder: the model.
      settings: how many tokens rows are represented by.
      finetuning: how many they are fine-tuned or scored by; None where none are.
      represented: rows that are represented, and may be fine-tuned on too.
      not_represented: rows that fine-tuned models alone see.
    """
    if (as_path(out) / MANIFEST).exists():
        tuned = 0 if finetuning is None else finetuning.max_length
        check_tokens(represented, encoder, max(settings.max_length or encoder.config.max_tokens, tuned))
        check_tokens(not_represented, encoder, tuned)


def check_for_comparison(finetuning: FineTuneOptions) -> None:
    """Raises InputError for fine-tuning that does not suit rows with a class each, or models that are compared.

    Where a model is fine-tuned for its representations alone, no validation rows end it either.
    """
    check_kind(finetuning, "finetuning")
    if finetuning.task != "classification":
        raise InputError(f"rows are valued by each one's class, and task {finetuning.task} has none: leave it out")
    if finetuning.patience is not None:
        raise InputError("patience would give the compared models different numbers of steps: leave it out")


def check_classes(train: TextData) -> None:
    """Raises InputError for too many classes: a label column that is none has one a row."""
    classes = len(train.classes)
    if classes > MAX_CLASSES:
        raise InputError(
            f"{classes:,} classes are more than the {MAX_CLASSES:,} that a selection takes: merge rare ones"
        )


def check_representing(settings: SelectOptions, encoder: Encoder, finetuning: FineTuneOptions) -> None:
    """Raises InputError where the model is to represent rows once it is fine-tuned, and nothing of it would be."""
    if settings.represent_by == "pretrained":
        return
    check_precision(encoder)
    if not finds_part(encoder.model, finetuning):
        raise InputError(
            f"represent_by {settings.represent_by!r} with tune {finetuning.tune!r} and frozen_layers"
            f" {finetuning.frozen_layers} trains nothing of what represents the rows: give represent_by 'pretrained',"
            " or train more of the model"
        )


def pooled_by(encoder: Encoder, settings: SelectOptions) -> SelectOptions:
    """The options with the pooling that is taken, which makes a run what it is where none was asked for too."""
    return dataclasses.replace(settings, pooling=encoder.chosen_pooling(settings.pooling))


def check_sizes(splits: Splits, encoder: Encoder, settings: SelectOptions, limits: Limits) -> None:
    """Raises InputError where an option does not fit the data or the model, before any of the long work."""
    points = len(splits.train)
    players = points if settings.group is None else int(limits.units.max()) + 1
    check_points(players, settings.subset_size, settings.estimator, groups=settings.group is not None)
    check_classes(splits.train)
    classes = len(splits.train.classes)
    halves = validation_folds(settings, splits.validation.labels, held_out_units(splits.validation, settings))
    check_folds(halves, len(splits.validation))
    trained, held = (np.bincount(part.labels, minlength=classes) for part in (splits.train, splits.validation))
    if np.count_nonzero(trained) < 2:
        raise InputError("the training rows have one class only: valuation needs two or more")
    for name, many, others in zip(splits.train.classes, trained, held, strict=True):
        if others and not many:
            held_rows = counted(int(others), "validation row")
            raise InputError(f"class {name} has {held_rows} and no training row: remove them, or add some")
    if settings.remove_count is not None:
        number_in("remove_count", settings.remove_count, 0, points - 1)
    check_representation(points, encoder, settings)


def check_representation(points: int, encoder: Encoder, settings: SelectOptions) -> None:
    """Raises InputError where so many training rows cannot be represented as asked, before they are embedded."""
    layers = encoder.config.num_hidden_layers
    for layer in layers_of(settings):
        number_in("layer", layer, -layers - 1, layers)
    if settings.max_length is not None:
        number_in("max_length", settings.max_length, 4, encoder.config.max_tokens)
    width = encoder.config.hidden_size * len(layers_of(settings))
    largest = min(points, width)
    if settings.pca > largest:
        raise InputError(
            f"pca {settings.pca} is more than {points} training rows of width {width} have:"
            f" give at most {largest}, or 0 for no PCA"
        )
