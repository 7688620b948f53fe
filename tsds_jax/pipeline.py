"""The stages in a row: `select` goes from text to a smaller data set, `run` on to fine-tuned models and a report."""

import dataclasses
import datetime
import functools
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tsds_jax import __version__, evaluation
from tsds_jax.arrays import number_in, one_of
from tsds_jax.data import (
    Splits,
    TextData,
    duplicate_codes,
    file_name,
    group_codes,
    load_splits,
    marked_rows,
    write_rows,
)
from tsds_jax.data.csvtext import format_csv
from tsds_jax.encoders import POOLINGS, Encoder, embed, fit_pca, load_encoder
from tsds_jax.errors import InputError
from tsds_jax.finetuning import check_fits, check_options, finetune, steps_for
from tsds_jax.games import UTILITIES, LogisticGame
from tsds_jax.options import VALUED, FineTuneOptions, SelectOptions, build
from tsds_jax.report import write_report
from tsds_jax.runtime.environment import environment
from tsds_jax.runtime.folder import (
    Arrays,
    Keep,
    RunFolder,
    atomic,
    check_run_folder,
    check_writable,
    keep_nothing,
    open_run,
)
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.selection import RULES, Limits, RemovalCurve, RemovalOrder, Suspects, check_cuts, suspected_labels
from tsds_jax.selection.choice import choose, validation_folds
from tsds_jax.selection.doubts import doubts_about_cut, doubts_about_values
from tsds_jax.selection.target_check import TargetCheck, as_json, target_check
from tsds_jax.valuation import Valuation, check_points, check_value_options, source_game, value

ARMS = ("full", "selection", "random")
# Coalitions of the second opinion.
_SECOND_OPINION = 64
# What of a split makes a run another run.
_IDENTITY = ("sha256", "columns", "format")


@dataclass(frozen=True, eq=False)
class Selection:
    """Which training rows to keep, and why.

    Attributes:
      train: the training rows that were valued.
      valuation: their values, one a row (with groups, that of the row's group).
      order: the order in which rows are removed.
      curve: the removal curve.
      rule: what chose the removal index: the option ``rule``, or ``"count"``, ``"share"``, ``"below"`` or, where the
        cut was checked on the model, ``"target"``.
      removal_index: how many rows are removed.
      suspects: rows whose label the source classifier doubts; for relabelling, whatever is removed.
      manifest: what the run folder's manifest says of data, options, versions and timings.
      set_apart: the validation rows, where they were drawn from the given training rows.
      check: the check on the target, where there was one.
    """

    train: TextData
    valuation: Valuation
    order: RemovalOrder
    curve: RemovalCurve
    rule: str
    removal_index: int
    suspects: Suspects
    manifest: Mapping[str, Any]
    set_apart: TextData | None = None
    check: TargetCheck | None = None

    @property
    def removed_rows(self) -> np.ndarray:
        """Removed row numbers, lowest value first, int64."""
        return self.order.points[: self.removal_index]

    @property
    def kept_rows(self) -> np.ndarray:
        """Kept row numbers in the order of the data, int64."""
        return np.sort(self.order.points[self.removal_index :])

    @property
    def kept(self) -> TextData:
        """The rows to train on, in the order of the data."""
        return self.train.select(self.kept_rows)

    @property
    def removed(self) -> TextData:
        """The removed rows, lowest value first."""
        return self.train.select(self.removed_rows)

    def save(self, folder: str | os.PathLike, *, overwrite: bool = False) -> Path:
        """Writes the kept rows, values.parquet, suspects.csv, selection.json, manifest.json and report.html.

        Raises:
          InputError: the folder holds another run (unless ``overwrite``) or other files.
        """
        run = open_run(folder, self.manifest["identity"], overwrite=overwrite)
        _write_selection(run, self)
        run.write_json("manifest.json", {**self.manifest, "status": "finished"})
        write_report(run.path)
        return run.path


def select(
    train: Any,
    *,
    validation: Any = None,
    model: str | os.PathLike | Encoder,
    text: Any = None,
    label: str | None = None,
    finetuning: FineTuneOptions | None = None,
    cache: str | os.PathLike | None = None,
    progress: ProgressFn = silent,
    **options: Any,
) -> Selection:
    """Values labelled texts by transferred Shapley values, and says which to keep.

    Args:
      train: a `datasets.Dataset`, a csv, tsv, jsonl or parquet file, a ``save_to_disk`` folder, a hub name
        ``NAME[:CONFIG][@SPLIT]``, or `TextData`.
      validation: the same kinds; None sets rows of ``train`` apart.
      model: folder, cached or hub name of the target language model, or a loaded `Encoder`.
      text: the text column, or two of them for pairs; ``"text"`` if not given.
      label: the label column; ``"label"`` if not given.
      finetuning: with ``check_seeds``, how the model is fine-tuned to check the cut; None takes the defaults.
      cache: a folder that keeps representations from run to run, made where it does not exist; None keeps none.
      progress: called as the stages go on.
      **options: any of `SelectOptions`.

    Raises:
      InputError: something given cannot be used.

    Example:
      >>> s = select("train.csv", validation="dev.csv", model="bert-base-uncased", text="sentence")
      >>> s.save("run")

    References:
      Schoch, Mishra and Ji, "Data Selection for Fine-tuning Large Language Models Using Transferred Shapley
      Values", ACL SRW 2023.
    """
    settings = build(SelectOptions, options)
    check_select_options(settings)
    _check_cache(cache)
    began = time.perf_counter()
    splits = load_splits(
        train,
        validation,
        text=text,
        label=label,
        validation_fraction=settings.validation_fraction,
        seed=settings.seed,
        drop_overlap=settings.drop_overlap,
    )
    progress(Progress("data", len(splits.train), len(splits.train), "rows"))
    seconds = time.perf_counter() - began
    limits = removal_limits(splits.train, settings)
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    _check_sizes(splits, encoder, settings, limits)
    manifest = _manifest(splits, encoder, settings, limits, None, {"data": seconds}, None)
    finetuning = finetuning or FineTuneOptions(seed=settings.seed)
    if settings.check_seeds:
        check_options(finetuning)
        check_fits(finetuning, encoder.config)
    return _select(splits, encoder, settings, limits, finetuning, manifest, keep_nothing, cache, progress)


def run(
    train: Any,
    *,
    validation: Any = None,
    test: Any = None,
    model: str | os.PathLike | Encoder,
    out: str | os.PathLike,
    text: Any = None,
    label: str | None = None,
    finetuning: FineTuneOptions | None = None,
    resume: bool = False,
    overwrite: bool = False,
    cache: str | os.PathLike | None = None,
    command: str | None = None,
    progress: ProgressFn = silent,
    **options: Any,
) -> Path:
    """The main job: selects training rows, fine-tunes with and without them, and writes it all to a folder.

    The model is fine-tuned on everything, on the selection, and on a random subset of the selection's size: one seed,
    one number of optimiser steps. Without test rows that comparison is left out, with a warning.

    Args:
      train: as in `select`; so are ``validation``, ``model``, ``text``, ``label`` and ``options``.
      validation: see `select`.
      test: labelled rows that nothing is decided on; the fine-tuned models are compared on them.
      model: see `select`.
      out: the run's folder.
      text: see `select`.
      label: see `select`.
      finetuning: how to fine-tune; None takes the defaults, with ``options["seed"]`` as its seed.
      resume: go on with what an earlier try of this very run finished.
      overwrite: remove the earlier run that ``out`` holds.
      cache: see `select`; where it lies makes no run another.
      command: the command line to note in the manifest.
      progress: called as the stages go on.
      **options: any of `SelectOptions`.

    Returns:
      The folder.

    Raises:
      InputError: something given cannot be used, or the folder holds another run.
    """
    settings = build(SelectOptions, options)
    finetuning = finetuning or FineTuneOptions(seed=settings.seed)
    check_select_options(settings)
    check_options(finetuning)
    if finetuning.patience is not None:
        raise InputError("patience would give the compared models different numbers of steps: leave it out of a run")
    if finetuning.task != "classification":
        raise InputError(f"rows are valued by each one's class, and task {finetuning.task} has none: leave it out")
    check_run_folder(out, resume=resume, overwrite=overwrite)
    _check_cache(cache)
    began = time.perf_counter()
    splits = load_splits(
        train,
        validation,
        test,
        text=text,
        label=label,
        validation_fraction=settings.validation_fraction,
        seed=settings.seed,
        drop_overlap=settings.drop_overlap,
    )
    progress(Progress("data", len(splits.train), len(splits.train), "rows"))
    seconds = time.perf_counter() - began
    limits = removal_limits(splits.train, settings)
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    if encoder.dtype != "float32":
        raise InputError(f"the model's dtype is {encoder.dtype}, too coarse to fine-tune in: load it as float32")
    check_fits(finetuning, encoder.config)
    encoder.tokenizer  # noqa: B018 - a folder without one must fail now
    _check_sizes(splits, encoder, settings, limits)
    manifest = _manifest(splits, encoder, settings, limits, finetuning, {"data": seconds}, command)
    folder = open_run(out, manifest["identity"], resume=resume, overwrite=overwrite)
    selection = _select(splits, encoder, settings, limits, finetuning, manifest, folder.keep, cache, progress)
    _write_selection(folder, selection)
    manifest = dict(selection.manifest)
    if splits.test is not None:
        seconds, cut = _compare(folder, splits, encoder, selection, finetuning, progress)
        manifest["stages"] = {**manifest["stages"], "finetune": seconds}
        if cut:
            words = f"{cut} texts were cut at {finetuning.max_length} tokens in fine-tuning"
            manifest["warnings"] = [*manifest["warnings"], words]
    began = time.perf_counter()
    folder.write_json("manifest.json", {**manifest, "status": "running"})
    progress(Progress("report", 0, 1, "pages"))
    write_report(folder.path)
    manifest["stages"] = {**manifest["stages"], "report": round(time.perf_counter() - began, 3)}
    folder.write_json("manifest.json", {**manifest, "status": "finished"})
    progress(Progress("report", 1, 1, "pages"))
    return folder.path


def check_select_options(settings: SelectOptions) -> None:
    """Raises InputError for an option whose value is unknown, before any file is read."""
    one_of("pooling", settings.pooling, sorted(POOLINGS))
    one_of("rule", settings.rule, RULES)
    one_of("source", settings.source, ("logistic", "ridge"))
    one_of("utility", settings.utility, UTILITIES)
    check_value_options(**_value_options(settings))
    number_in("pca", settings.pca, 0, np.inf)
    number_in("layer", settings.layer, -1000, 1000)
    if settings.max_length is not None:
        number_in("max_length", settings.max_length, 1, np.inf)
    number_in("validation_fraction", settings.validation_fraction, 0, 1, whole=False)
    check_cuts(settings.grid, settings.largest_cut)
    if settings.rule == "cross_fitted":
        for name, what in (("utility", "class_wise"), ("estimator", "banzhaf")):
            if getattr(settings, name) == what:
                raise InputError(
                    f"rule 'cross_fitted' splits values by validation row, {name} {what!r} cannot: use rule 'one_se'"
                )
    amounts = [name for name in ("remove_count", "remove_share", "remove_below") if getattr(settings, name) is not None]
    if len(amounts) > 1:
        raise InputError(f"{' and '.join(amounts)} both say how many rows to remove: give one of them")
    if settings.remove_count is not None:
        number_in("remove_count", settings.remove_count, 0, np.inf)
    if settings.remove_share is not None:
        number_in("remove_share", settings.remove_share, 0, 0.99, whole=False)
    if settings.remove_below is not None:
        number_in("remove_below", settings.remove_below, -1e30, 1e30, whole=False)
        if settings.by_class:
            raise InputError("remove_below and by_class order the rows in two ways: give one of them")
    number_in("class_floor", settings.class_floor, 0, 1, whole=False)
    number_in("check_seeds", settings.check_seeds, 0, 100)
    number_in("check_steps", settings.check_steps, 1, np.inf)
    if settings.check_seeds and amounts:
        raise InputError(
            f"{amounts[0]} says how many rows to remove, so there is no cut to check: leave out check_seeds"
        )
    if settings.group is not None and settings.utility == "class_wise":
        raise InputError("utility 'class_wise' is each row's own and not a group's: use another with group")


def removal_limits(train: TextData, settings: SelectOptions) -> Limits:
    """Which rows go together, and which never, by the options and the columns that they name.

    Raises:
      InputError: a column that is missing or cannot be used, or limits that allow no removal.
    """
    if settings.group is not None:
        units = group_codes(train, settings.group)
    else:
        units = duplicate_codes(train) if settings.tie_duplicates else np.arange(len(train))
    marked = np.zeros(len(train), bool) if settings.protect is None else marked_rows(train, settings.protect)
    limits = Limits(train.labels, units, marked, settings.class_floor, settings.by_class)
    if limits.removal_order(np.zeros(len(train))).ends[-1] == 0:
        raise InputError("no row may be removed: loosen class_floor, protect or group")
    return limits


def _check_cache(cache: str | os.PathLike | None) -> None:
    """Raises InputError, before any work, where no cache could be written."""
    if cache is not None:
        check_writable(Path(cache))


def _value_options(settings: SelectOptions) -> dict[str, Any]:
    """Those of `value`."""
    return {name: getattr(settings, name) for name in VALUED}


def _check_sizes(splits: Splits, encoder: Encoder, settings: SelectOptions, limits: Limits) -> None:
    """Raises InputError where an option does not fit the data or the model, before any of the long work."""
    points, layers = len(splits.train), encoder.config.num_hidden_layers
    players = points if settings.group is None else int(limits.units.max()) + 1
    check_points(players, settings.subset_size, settings.estimator)
    if settings.remove_count is not None:
        number_in("remove_count", settings.remove_count, 0, points - 1)
    number_in("layer", settings.layer, -layers - 1, layers)
    if settings.max_length is not None:
        number_in("max_length", settings.max_length, 1, encoder.config.max_tokens)
    largest = min(points, encoder.config.hidden_size)
    if settings.pca > largest:
        raise InputError(
            f"pca {settings.pca} is more than {points} training rows of width {encoder.config.hidden_size} have:"
            f" give at most {largest}, or 0 for no PCA"
        )


def _select(
    splits: Splits,
    encoder: Encoder,
    settings: SelectOptions,
    limits: Limits,
    finetuning: FineTuneOptions,
    manifest: Mapping[str, Any],
    keep: Keep,
    cache: str | os.PathLike | None,
    progress: ProgressFn,
) -> Selection:
    train, validation = splits.train, splits.validation
    groups = None if settings.group is None else limits.units
    folds = validation_folds(settings, validation.labels)
    seen = keep("representations", lambda: _represent(train, validation, encoder, settings, cache, progress))
    x, x_val = seen["train"], seen["validation"]

    def valued(**instead: Any) -> Arrays:
        how = {**_value_options(settings), "groups": groups, "row_groups": folds, "progress": progress, **instead}
        return value(x, train.labels, x_val, validation.labels, **how).arrays()

    valuation = Valuation.from_arrays(keep("values", valued))
    # Another utility on some of the same coalitions, only to see whether it would rank the rows alike.
    other = "accuracy" if settings.utility in ("probability", "log_likelihood") else "log_likelihood"
    some = {
        "utility": other,
        "samples": min(settings.samples, _SECOND_OPINION),
        "reliability": None,
        "row_groups": None,
    }
    opinion = Valuation.from_arrays(keep("values-otherwise", functools.partial(valued, **some)))
    if groups is not None:
        valuation, opinion = valuation.for_members(groups), opinion.for_members(groups)

    began = time.perf_counter()
    # What is one number for each class to the points is accuracy to all of them together.
    utility = "accuracy" if settings.utility == "class_wise" else settings.utility
    game = source_game(x, train.labels, x_val, validation.labels, source=settings.source, utility=utility, C=settings.C)
    choice = choose(game, valuation, limits, folds, settings)
    logistic = source_game(x, train.labels, x_val, validation.labels, C=settings.C)
    assert isinstance(logistic, LogisticGame)
    suspects = suspected_labels(logistic, seed=settings.seed)
    cuts = len(choice.curve.removed)
    progress(Progress("select", cuts, cuts, "cuts", f"{choice.removal_index} rows removed"))
    stages = {
        **manifest["stages"],
        "embed": round(seen["seconds"].item(), 3),
        "value": round(valuation.seconds + opinion.seconds, 3),
        "select": round(time.perf_counter() - began, 3),
    }
    about = {
        **manifest,
        "stages": stages,
        "valuation": valuation.summary(),
        "representation": {
            "width": x.shape[1],
            "explained": seen["explained"].item(),
            "truncated_texts": int(seen["truncated"]),
        },
    }
    index, rule, check = choice.removal_index, choice.rule, None
    if settings.check_seeds and index:
        short = dataclasses.replace(finetuning, steps=settings.check_steps)
        largest = int(settings.largest_cut * len(train))
        check = target_check(
            encoder,
            train,
            validation,
            choice.order,
            index,
            largest,
            short,
            seeds=settings.check_seeds,
            keep=keep,
            progress=progress,
        )
        index, rule = check.recommended, "target"
    removed, kept = np.split(choice.order.points, [index])
    found = list(manifest["warnings"])
    if seen["truncated"]:
        found.append(f"{int(seen['truncated'])} texts were cut at the length limit of the encoder")
    if choice.missed > 0:
        found.append(f"{choice.missed} rows fewer were removed than asked for: the limits allow no more")
    found += doubts_about_values(valuation, removed, opinion)
    found += doubts_about_cut(choice.curve, train.labels, train.classes, kept, validation.labels)
    about["warnings"] = found
    set_apart = validation if splits.set_apart else None
    return Selection(train, valuation, choice.order, choice.curve, rule, index, suspects, about, set_apart, check)


def _represent(
    train: TextData,
    validation: TextData,
    encoder: Encoder,
    settings: SelectOptions,
    cache: str | os.PathLike | None,
    progress: ProgressFn,
) -> Arrays:
    """Representations of both splits as the source classifier sees them."""
    began = time.perf_counter()
    # One call, so that the stage has one count and each batch shape compiles once.
    both = embed(
        encoder,
        [*train.texts, *validation.texts],
        pooling=settings.pooling,
        layer=settings.layer,
        max_length=settings.max_length,
        cache=cache,
        progress=progress,
    )
    x, x_val = both.values[: len(train)], both.values[len(train) :]
    explained = 1.0
    if settings.pca:
        pca = fit_pca(x, settings.pca)
        x, x_val, explained = pca.transform(x), pca.transform(x_val), float(pca.explained.sum())
    return {
        "train": x,
        "validation": x_val,
        "explained": np.asarray(explained),
        "truncated": np.asarray(both.truncated),
        "seconds": np.asarray(time.perf_counter() - began),
    }


def _write_selection(run: RunFolder, selection: Selection) -> None:
    """values.parquet, suspects.csv, selection.json and the kept rows; whole again on a resumed run, and the same."""
    train = selection.train
    kept = np.zeros(len(train), bool)
    kept[selection.kept_rows] = True
    texts: dict[str, Any] = {"text": list(train.texts)}
    if len(train.text_columns) == 2:
        texts = dict(zip(("text", "text_pair"), map(list, zip(*train.texts, strict=True)), strict=True))
    about = {"row": train.origin, **texts, "label": train.label_names}
    write_values(run.path, selection.valuation, about, kept)
    suspects, curve = selection.suspects, selection.curve
    doubted = {
        **{name: [column[row] for row in suspects.points] for name, column in about.items()},
        "suggested": [train.classes[label] for label in suspects.suggested],
        "probability": [f"{share:.4f}" for share in suspects.probability],
        "probability_of_label": [f"{share:.4f}" for share in suspects.own],
        "kept": [str(kept[row]).lower() for row in suspects.points],
    }
    table = pa.table({name: pa.array([str(entry) for entry in column]) for name, column in doubted.items()})
    with atomic(run.path / "suspects.csv") as temporary:
        Path(temporary).write_bytes(format_csv(table, ","))
    run.write_json(
        "selection.json",
        {
            "rule": selection.rule,
            "removal_index": selection.removal_index,
            "cross_fitted": curve.cross_fitted,
            "check": selection.check and as_json(selection.check),
            "evidence": "" if selection.check is None else str(selection.check),
            "utility": curve.utility,
            "majority_share": selection.manifest["majority_share"],
            "curve": {
                name: getattr(curve, name).tolist() for name in ("removed", "score", "difference", "stderr", "accuracy")
            },
        },
    )
    for name, rows in (("kept", selection.kept), ("validation", selection.set_apart)):
        if rows is not None and not (run.path / file_name(rows, name)).exists():
            write_rows(rows, run.path, name)


def write_values(folder: Path, valuation: Valuation, about: Mapping[str, Any], kept: np.ndarray | None = None) -> None:
    """Writes values.parquet: what is ``about`` each row, value, stderr, count, rank (1 = lowest), kept."""
    points = len(valuation.values)
    rank = np.empty(points, np.int64)
    rank[valuation.ranking] = np.arange(1, points + 1)
    table = pa.table(
        {
            **about,
            "value": valuation.values,
            "stderr": valuation.stderr,
            "count": valuation.counts,
            "rank": rank,
            **({} if kept is None else {"kept": kept}),
        }
    )
    with atomic(folder / "values.parquet") as temporary:
        pq.write_table(table, temporary)


def _compare(
    run: RunFolder,
    splits: Splits,
    encoder: Encoder,
    selection: Selection,
    options: FineTuneOptions,
    progress: ProgressFn,
) -> tuple[float, int]:
    """Fine-tunes the three arms and writes finetune.json; the seconds it took, and the texts that were cut."""
    train, test = splits.train, splits.test
    assert test is not None
    steps = steps_for(options, len(train))
    options = dataclasses.replace(options, steps=steps)
    size = len(train) - selection.removal_index
    # Another stream than the chains' of the same seed.
    random = np.random.default_rng([options.seed, 1]).permutation(len(train))[:size]
    rows = {"full": np.arange(len(train)), "selection": selection.kept_rows, "random": np.sort(random)}
    arms, predictions, cut = [], {}, 0

    def train_arm(name: str, number: int) -> Arrays:
        def relay(event: Progress) -> None:
            progress(
                Progress(
                    "finetune",
                    number * steps + event.done,
                    len(ARMS) * steps,
                    "steps",
                    f"{name} {event.detail}",
                )
            )

        tuned = finetune(
            encoder,
            train.select(rows[name]),
            validation=splits.validation,
            evaluation=test,
            options=options,
            folder=run.path / _training(name),
            resume=True,
            progress=relay,
        )
        for line in (run.path / _training(name) / "metrics.jsonl").read_text("utf-8").splitlines():
            run.log(**(json.loads(line) | {"arm": name}))
        run.log("finetune", arm=name, test=tuned.metrics)
        return {
            "probabilities": np.asarray(tuned.probabilities),
            "history": np.asarray(json.dumps(tuned.history)),
            "steps": np.asarray(tuned.steps),
            "best_step": np.asarray(tuned.best_step),
            "truncated": np.asarray(tuned.truncated),
            "seconds": np.asarray(tuned.seconds),
        }

    for number, name in enumerate(ARMS):
        # With nothing removed the three arms are one and the same training.
        source = name if selection.removal_index else "full"
        stored = run.keep(f"finetune-{source}", functools.partial(train_arm, source, number))
        run.remove(_training(source))
        predictions[name] = np.argmax(stored["probabilities"], 1)
        cut = max(cut, stored["truncated"].item())
        arm = {
            "name": name,
            "rows": len(rows[name]),
            "accuracy": evaluation.accuracy(test.labels, predictions[name]),
            "macro_f1": evaluation.macro_f1(test.labels, predictions[name], len(test.classes)),
            "steps": stored["steps"].item(),
            "best_step": stored["best_step"].item(),
            "seconds": round(stored["seconds"].item(), 3),
            "history": json.loads(stored["history"].item()),
        }
        arms.append(arm)
    differences = []
    for a, b in (("selection", "full"), ("selection", "random"), ("random", "full")):
        for metric in ("accuracy", "macro_f1"):
            between = evaluation.paired_difference(
                test.labels,
                predictions[a],
                predictions[b],
                metric,
                classes=len(test.classes),
                seed=options.seed,
            )
            differences.append({"a": a, "b": b, "metric": metric, **between._asdict()})
    run.write_json("finetune.json", {"arms": arms, "differences": differences, "test_rows": len(test)})
    trained = arms if selection.removal_index else arms[:1]
    return round(sum(arm["seconds"] for arm in trained), 3), cut


def _training(arm: str) -> str:
    """Where an arm's checkpoints lie while it trains."""
    return f"state/training-{arm}"


def _manifest(
    splits: Splits,
    encoder: Encoder,
    settings: SelectOptions,
    limits: Limits,
    finetuning: FineTuneOptions | None,
    stages: Mapping[str, float],
    command: str | None,
) -> dict[str, Any]:
    """What is known before the work starts."""

    def about(data: TextData | None) -> dict[str, Any] | None:
        if data is None:
            return None
        return {
            "source": data.source,
            "rows": len(data),
            "sha256": data.fingerprint(),
            "columns": [*data.text_columns, data.label_column],
            "format": data.format,
            "classes": data.class_counts,
        }

    data = {"train": about(splits.train), "validation": about(splits.validation), "test": about(splits.test)}
    options = dataclasses.asdict(settings)
    tuning = dataclasses.asdict(finetuning) if finetuning else None
    model = {
        "name": encoder.name,
        "type": encoder.config.model_type,
        "parameters": encoder.parameters,
        "sha256": encoder.fingerprint(),
    }
    warnings = [f"{count} {one} texts also stand in the {other} rows" for (one, other), count in splits.overlap.items()]
    if finetuning and splits.test is None:
        warnings.append("no test rows were given, so no model was fine-tuned to compare")
    return {
        "tsds_jax": __version__,
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "identity": {
            "tsds_jax": __version__,
            "options": options,
            "finetuning": tuning,
            "model": model["sha256"],
            "data": {role: part and {key: part[key] for key in _IDENTITY} for role, part in data.items()},
            "limits": hashlib.sha256(limits.units.tobytes() + limits.protected.tobytes()).hexdigest(),
        },
        "seed": settings.seed,
        "options": options,
        "finetuning": tuning,
        **environment(),
        "model": model,
        "data": data,
        "majority_share": _majority_share(splits.validation),
        "stages": {name: round(seconds, 3) for name, seconds in stages.items()},
        "warnings": warnings,
    }


def _majority_share(data: TextData) -> float:
    return max(data.class_counts.values()) / len(data)
