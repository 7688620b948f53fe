"""The stages in a row: `select` goes from text to a smaller data set, `run` on to fine-tuned models and a report."""

import math
import os
import time
from pathlib import Path
from typing import Any

from tsds_jax.arrays import number_in
from tsds_jax.data import Splits, load_splits
from tsds_jax.encoders import Encoder, load_encoder
from tsds_jax.finetuning import check_fits, checked_options
from tsds_jax.finetuning.tuning import cut_texts
from tsds_jax.options import FineTuneOptions, SelectOptions, select_options
from tsds_jax.pipeline.arms import compare_arms
from tsds_jax.pipeline.checks import (
    check_before_overwriting,
    check_cache,
    check_classes,
    check_for_comparison,
    check_precision,
    check_representing,
    check_select_options,
    check_sizes,
    pooled_by,
    removal_limits,
)
from tsds_jax.pipeline.manifest import manifest_of
from tsds_jax.pipeline.selected import Selection, write_selection
from tsds_jax.pipeline.selecting import select_rows
from tsds_jax.report import write_report
from tsds_jax.runtime.folder import check_place, keep_nothing, no_part, open_run
from tsds_jax.runtime.processes import in_own_place
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.selection import Limits


def select(
    train: Any,
    *,
    validation: Any = None,
    model: str | os.PathLike | Encoder,
    text: Any = None,
    label: str | None = None,
    options: SelectOptions | None = None,
    finetuning: FineTuneOptions | None = None,
    cache: str | os.PathLike | None = None,
    progress: ProgressFn = silent,
    **changes: Any,
) -> Selection:
    """Values labelled texts by transferred Shapley values, and says which to keep.

    Before rows are recommended for removal, short fine-tunings of the model with and without them have to agree, since
    what helps a classifier on frozen representations may harm the model; ``check_seeds=0`` leaves that out.

    Args:
      train: a `datasets.Dataset`, a csv, tsv, jsonl or parquet file, a ``save_to_disk`` folder, a hub name
        ``NAME[:CONFIG][@SPLIT]``, or `TextData`.
      validation: the same kinds; None takes ``train``'s own validation split, else sets rows of it apart.
      model: folder, cached or hub name of the target language model, or a loaded `Encoder`.
      text: the text column, or two of them for pairs; ``"text"`` if not given.
      label: the label column; ``"label"`` if not given.
      options: how to represent, value, cut and check; None takes the defaults.
      finetuning: with ``check_seeds`` or ``represent_by``, how the model is fine-tuned; None takes the defaults.
      cache: a folder that keeps representations from run to run, made where it does not exist; None keeps none.
      progress: called as the stages go on.
      **changes: any of `SelectOptions`, over ``options``.

    Raises:
      InputError: something given cannot be used.

    Example:
      >>> s = select("train.csv", validation="dev.csv", model="models/minilm")
      >>> len(s.kept) + len(s.removed) == len(s.train)
      True

    References:
      Schoch, Mishra and Ji, "Data Selection for Fine-tuning Large Language Models Using Transferred Shapley
      Values", ACL SRW 2023.
    """
    settings = select_options(options, changes)
    finetuning = finetuning or FineTuneOptions(seed=settings.seed)
    check_select_options(settings)
    check_for_comparison(finetuning)
    finetuning = checked_options(finetuning)
    check_cache(cache)
    splits, limits, seconds = _read(train, validation, None, text, label, settings, progress)
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    settings = pooled_by(encoder, settings)
    check_sizes(splits, encoder, settings, limits)
    fine_tunes = settings.represent_by != "pretrained" or (settings.check_seeds > 0 and encoder.dtype == "float32")
    if fine_tunes:
        check_fits(finetuning, encoder)
    check_representing(settings, encoder, finetuning)
    used = finetuning if fine_tunes else None
    manifest = manifest_of(splits, encoder, settings, limits, used, {"data": seconds}, None)
    return select_rows(splits, encoder, settings, limits, finetuning, manifest, keep_nothing, no_part, cache, progress)


@in_own_place
def run(
    train: Any,
    *,
    validation: Any = None,
    test: Any = None,
    model: str | os.PathLike | Encoder,
    out: str | os.PathLike,
    text: Any = None,
    label: str | None = None,
    options: SelectOptions | None = None,
    finetuning: FineTuneOptions | None = None,
    compare_seeds: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    cache: str | os.PathLike | None = None,
    checkpoint_every: float = 60.0,
    command: str | None = None,
    progress: ProgressFn = silent,
    **changes: Any,
) -> Path:
    """The main job: selects training rows, fine-tunes with and without them, and writes it all to a folder.

    The model is fine-tuned on everything, on the selection, and on a random subset of the selection's size: by the same
    seeds, with one number of optimiser steps; that of the selection by the first seed is kept, in ``model/``, as
    `TargetModel.save_pretrained` writes it. Without test rows no model is fine-tuned to compare, with a warning.

    Args:
      train: as in `select`; so are ``validation``, ``model``, ``text``, ``label``, ``options``.
      validation: see `select`.
      test: labelled rows that nothing is decided on; the fine-tuned models are compared on them. None takes
        ``train``'s own test split, if it has labels.
      model: see `select`.
      out: the run's folder.
      text: see `select`.
      label: see `select`.
      options: see `select`.
      finetuning: how to fine-tune; None takes the defaults, with the options' ``seed``.
      compare_seeds: by how many seeds, from fine-tuning's own on, each of them is fine-tuned. By one, the intervals of
        their differences are over test rows alone; by more, over seeds too. A resumed run may be asked for more.
      resume: go on with what an earlier try of this very run finished.
      overwrite: remove the earlier run that ``out`` holds.
      cache: see `select`; where it lies makes no run another.
      checkpoint_every: seconds between writes of what is under way.
      command: the command line to note in the manifest.
      progress: called as the stages go on.
      **changes: any of `SelectOptions`, over ``options``.

    Returns:
      The folder.

    Raises:
      InputError: something given cannot be used, or the folder holds another run.
    """
    settings = select_options(options, changes)
    finetuning = finetuning or FineTuneOptions(seed=settings.seed)
    check_select_options(settings)
    check_for_comparison(finetuning)
    finetuning = checked_options(finetuning)
    number_in("checkpoint_every", checkpoint_every, 0, math.inf, whole=False)
    number_in("compare_seeds", compare_seeds, 1, 1000)
    compare_seeds = int(compare_seeds)
    check_place(out, (train, validation, test, model), resume=resume, overwrite=overwrite)
    check_cache(cache)
    splits, limits, seconds = _read(train, validation, test, text, label, settings, progress)
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    check_precision(encoder)
    check_fits(finetuning, encoder)
    check_representing(settings, encoder, finetuning)
    encoder.tokenizer  # noqa: B018 - a folder without one must fail now
    settings = pooled_by(encoder, settings)
    check_sizes(splits, encoder, settings, limits)
    manifest = manifest_of(splits, encoder, settings, limits, finetuning, {"data": seconds}, command)
    if splits.test is None:
        manifest["warnings"].append("no test rows were given, so no model was fine-tuned to compare")
    if overwrite:
        valued = (splits.train, splits.validation)
        check_before_overwriting(out, encoder, settings, finetuning, valued, [splits.test])
    folder = open_run(out, manifest["identity"], resume=resume, overwrite=overwrite, every=checkpoint_every)
    if folder.finished:  # and is to be whole again before it says so
        folder.write_json("manifest.json", {**manifest, "status": "running"})
    own = (folder.keep, folder.part)
    selection = select_rows(splits, encoder, settings, limits, finetuning, manifest, *own, cache, progress)
    write_selection(folder, selection)
    manifest = dict(selection.manifest)
    # From now on there is something to report, with its warnings, while models are fine-tuned for long.
    folder.write_json("manifest.json", {**manifest, "status": "running"})
    if splits.test is not None:
        what = (splits, encoder, selection, limits, settings, finetuning, compare_seeds)
        seconds, cut = compare_arms(folder, *what, progress)
        manifest["stages"] = {**manifest["stages"], "finetune": seconds}
        if cut:
            manifest["warnings"] = [*manifest["warnings"], cut_texts(cut, finetuning, encoder)]
    began = time.perf_counter()
    folder.write_json("manifest.json", {**manifest, "status": "running"})
    progress(Progress("report", 0, 1, "pages"))
    write_report(folder.path, ends=True)
    manifest["stages"] = {**manifest["stages"], "report": round(time.perf_counter() - began, 3)}
    folder.write_json("manifest.json", {**manifest, "status": "finished"})
    progress(Progress("report", 1, 1, "pages"))
    return folder.path


def _read(
    train: Any, validation: Any, test: Any, text: Any, label: str | None, settings: SelectOptions, progress: ProgressFn
) -> tuple[Splits, Limits, float]:
    """The rows, what their removal must respect, and the seconds that reading them took."""
    began = time.perf_counter()
    names = ("validation_fraction", "seed", "drop_overlap", "group", "protect")
    how = {name: getattr(settings, name) for name in names}
    splits = load_splits(train, validation, test, text=text, label=label, **how)
    check_classes(splits.train)
    progress(Progress("data", len(splits.train), len(splits.train), "rows"))
    seconds = time.perf_counter() - began
    return splits, removal_limits(splits.train, settings), seconds
