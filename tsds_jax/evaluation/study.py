"""`evaluate`: methods side by side on data sets, from fixed splits to a table with intervals."""

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsds_jax import __version__
from tsds_jax.arrays import number_in, one_of
from tsds_jax.baselines import BASELINES, baseline
from tsds_jax.data import Splits, TextData, flip_labels
from tsds_jax.data.noise import NOISES
from tsds_jax.encoders import Encoder, embed, fit_pca, load_encoder
from tsds_jax.errors import InputError
from tsds_jax.evaluation.detection import detection
from tsds_jax.evaluation.removal import kept_curve
from tsds_jax.evaluation.summary import write_summary
from tsds_jax.finetuning import check_fits, check_options, finetune, steps_for
from tsds_jax.games import LogisticGame
from tsds_jax.options import EVALUATED, FineTuneOptions, SelectOptions, build
from tsds_jax.pipeline.checks import check_select_options, value_options
from tsds_jax.runtime.environment import environment
from tsds_jax.runtime.folder import Arrays, RunFolder, check_run_folder, open_run
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.selection import Limits, ordered_curve
from tsds_jax.selection.choice import choose, validation_folds
from tsds_jax.valuation import source_game, value

# Ours, as `select` values and cuts by default.
OURS = "shapley"
METHODS = (OURS, *BASELINES)


@dataclasses.dataclass(frozen=True, eq=False)
class _Setting:
    """One data set with some of its training labels flipped.

    Attributes:
      name: of the data set.
      flips: the share of flipped labels.
      seed: of the flips, and of all that follows.
      train: training rows, labels flipped.
      wrong: bool ``[rows]``, those that are.
      splits: the data set as it came.
      x: representations of the training rows; and of the others.
      x_val: see ``x``.
      x_test: see ``x``.
    """

    name: str
    flips: float
    seed: int
    train: TextData
    wrong: np.ndarray
    splits: Splits
    x: np.ndarray
    x_val: np.ndarray
    x_test: np.ndarray

    @property
    def key(self) -> str:
        """For file names."""
        return f"{self.name}-{self.flips:g}-{self.seed}"

    def tested(self, options: SelectOptions) -> LogisticGame:
        """The source classifier's game with the test rows in place of validation rows."""
        assert self.splits.test is not None
        labels = self.splits.test.labels
        game = source_game(self.x, self.train.labels, self.x_test, labels, C=options.C)
        assert isinstance(game, LogisticGame)
        return game


def evaluate(
    data: Mapping[str, Splits],
    *,
    model: str | os.PathLike | Encoder,
    out: str | os.PathLike,
    methods: Sequence[str] = (OURS, "random", "leave_one_out", "knn_shapley", "loss", "confident_learning"),
    flips: Sequence[float] = (0.0, 0.1),
    noise: str = "uniform",
    seeds: Sequence[int] = (0, 1, 2),
    finetuning: FineTuneOptions | None = None,
    resume: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    progress: ProgressFn = silent,
    **options: Any,
) -> Path:
    """Runs methods over data sets, and writes how well each finds wrong labels and what removing its lowest rows does.

    The splits are what they are given as; seeds draw flips, and everything random in the methods. All values and
    removal indices are there before any test row is looked at. For every method, with the lowest rows removed, the
    accuracy on the test rows is that of the source classifier refitted; with ``finetuning`` also that of the model,
    after as many steps as on all rows. "At the index" is at the number of rows that `select` would remove.

    Args:
      data: name to splits, with test rows.
      model: see `select`.
      out: a folder for evaluation.json, evaluation.md (the tables) and curves/ (removal curves as SVG).
      methods: ``"shapley"`` (ours) and keys of `BASELINES`.
      flips: shares of training labels to flip.
      noise: see `flip_labels`.
      seeds: one run of everything each.
      finetuning: how to fine-tune; None leaves it out.
      resume: see `run`, and so are ``overwrite``, ``command`` and ``progress``.
      overwrite: see ``resume``.
      command: see ``resume``.
      progress: see ``resume``.
      **options: of `SelectOptions`: representation, source classifier, sampling, rule and grid (`EVALUATED`).

    Returns:
      The folder.

    Raises:
      InputError: something given cannot be used.
    """
    settings = build(SelectOptions, options)
    for name in options:
        if name not in EVALUATED:
            raise InputError(f"option {name} is not for evaluate, which values rows one by one: leave it out")
    check_select_options(settings)
    _check(data, methods, flips, noise, seeds)
    if finetuning is not None:
        check_options(finetuning)
        if OURS not in methods:
            raise InputError(f"the model is fine-tuned without as many rows as ours removes: add {OURS} to the methods")
    check_run_folder(out, resume=resume, overwrite=overwrite)
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    if finetuning is not None:
        check_fits(finetuning, encoder.config)
    identity = {
        "tsds_jax": __version__,
        "stage": "evaluate",
        "options": dataclasses.asdict(settings),
        "finetuning": finetuning and dataclasses.asdict(finetuning),
        "methods": list(methods),
        "flips": list(flips),
        "noise": noise,
        "seeds": list(seeds),
        "model": encoder.fingerprint(),
        "data": {name: [part.fingerprint() for part in _parts(splits)] for name, splits in data.items()},
    }
    folder = open_run(out, identity, resume=resume, overwrite=overwrite)
    all_settings = _all_settings(data, encoder, settings, flips, noise, seeds, folder, progress)
    total = len(all_settings) * len(methods)
    valued: dict[tuple[str, str], Arrays] = {}
    for setting, method in itertools.product(all_settings, methods):
        valued[setting.key, method] = _valued(folder, setting, method, settings)
        progress(Progress("value", len(valued), total, "valuations", f"{setting.key} {method}"))
    runs = []
    for setting in all_settings:
        tested = setting.tested(settings)
        for method in methods:
            found = valued[setting.key, method]
            index = int(valued[setting.key, OURS]["index"]) if OURS in methods else None
            runs.append(_scored(setting, tested, method, found, index))
            progress(Progress("test", len(runs), total, "methods", f"{setting.key} {method}"))
        if finetuning is not None:
            ours = [run for run in runs if run["key"] == setting.key]
            _finetune(folder, setting, ours, valued, encoder, finetuning, progress)
    about = {"command": command, "status": "finished", "identity": identity, **environment()}
    write_summary(folder, runs, {key: found["values"] for key, found in valued.items()})
    folder.write_json("manifest.json", about)
    return folder.path


def _check(data: Mapping[str, Splits], methods: Any, flips: Any, noise: str, seeds: Any) -> None:
    if not data or not methods or not flips or not seeds:
        raise InputError("evaluation needs at least one data set, one method, one share of flips and one seed")
    for method in methods:
        one_of("method", method, METHODS)
    one_of("noise", noise, NOISES)
    for share in flips:
        number_in("flips", share, 0, 0.5, whole=False)
    for seed in seeds:
        number_in("seed", seed, 0, 2**32 - 1)
    for what, given in (("methods", methods), ("flips", flips), ("seeds", seeds)):
        if len(set(given)) < len(given):
            raise InputError(f"{what} has something twice: {', '.join(map(str, given))}")
    for name, splits in data.items():
        if splits.test is None:
            raise InputError(f"data set {name} has no test rows: give some")


def _parts(splits: Splits) -> list[TextData]:
    assert splits.test is not None
    return [splits.train, splits.validation, splits.test]


def _all_settings(
    data: Mapping[str, Splits],
    encoder: Encoder,
    options: SelectOptions,
    flips: Sequence[float],
    noise: str,
    seeds: Sequence[int],
    folder: RunFolder,
    progress: ProgressFn,
) -> list[_Setting]:
    found = []
    for name, splits in data.items():
        parts = _parts(splits)

        def represented(parts: list[TextData] = parts) -> Arrays:
            texts: list[Any] = [text for part in parts for text in part.texts]
            how: dict[str, Any] = {"pooling": options.pooling, "layer": options.layer, "max_length": options.max_length}
            return {"x": embed(encoder, texts, **how, progress=progress).values}

        x = folder.keep(f"{name}-representations", represented)["x"]
        seen = np.split(x, np.cumsum([len(part) for part in parts])[:-1])
        if options.pca:
            pca = fit_pca(seen[0], options.pca)
            seen = [pca.transform(some) for some in seen]
        for share, seed in itertools.product(flips, seeds):
            train, wrong = flip_labels(splits.train, share, seed, noise)
            found.append(_Setting(name, share, seed, train, wrong, splits, *seen))
    return found


def _valued(folder: RunFolder, setting: _Setting, method: str, options: SelectOptions) -> Arrays:
    """Values, and for ours the removal index, by training and validation rows alone."""
    arrays = (setting.x, setting.train.labels, setting.x_val, setting.splits.validation.labels)

    def compute() -> Arrays:
        if method != OURS:
            found = baseline(method, *arrays, C=options.C, samples=options.samples, seed=setting.seed)
            return {"values": found.values, "seconds": np.asarray(found.seconds)}
        own = dataclasses.replace(options, seed=setting.seed)
        folds = validation_folds(own, arrays[3])
        found = value(*arrays, **value_options(own), row_groups=folds)
        game = source_game(*arrays, source=own.source, utility=own.utility, C=own.C)
        choice = choose(game, found, Limits.none(setting.train.labels), folds, own)
        return {
            "values": found.values,
            "seconds": np.asarray(found.seconds),
            "index": np.asarray(choice.removal_index),
        }

    return folder.keep(f"{setting.key}-{method}", compute)


def _scored(setting: _Setting, game: LogisticGame, method: str, found: Arrays, index: int | None) -> dict[str, Any]:
    """What the values say of wrong rows, and what the source classifier does on the test rows without the lowest."""
    values = found["values"]
    curve = kept_curve(game, values)
    run: dict[str, Any] = {
        "key": setting.key,
        "data": setting.name,
        "flips": setting.flips,
        "seed": setting.seed,
        "method": method,
        "seconds": float(found["seconds"]),
        "accuracy": float(curve.best[-1]),
        "kept": curve.share.tolist(),
        "highest_kept": curve.best.tolist(),
        "lowest_kept": curve.worst.tolist(),
        "weighted_drop": curve.weighted_drop,
        "removed": index,
    }
    if setting.wrong.any():
        run |= detection(values, setting.wrong)._asdict()
    for percent in (5, 10, 20):
        run[f"gain_{percent}"] = float(curve.best[-1 - percent // 5] - curve.best[-1])
    if index is not None:
        order = Limits.none(setting.train.labels).removal_order(values)
        run["gain_at_index"] = float(ordered_curve(game, order, np.array([0, index])).difference[-1])
    return run


def _finetune(
    folder: RunFolder,
    setting: _Setting,
    runs: list[dict[str, Any]],
    valued: Mapping[tuple[str, str], Arrays],
    encoder: Encoder,
    options: FineTuneOptions,
    progress: ProgressFn,
) -> None:
    """Adds to each run of a setting the fine-tuned model's test accuracy, without the method's rows and with all."""
    train, index = setting.train, runs[0]["removed"]
    own = dataclasses.replace(options, seed=setting.seed, steps=steps_for(options, len(train)))

    def tuned(name: str, rows: np.ndarray) -> float:
        def compute() -> Arrays:
            found = finetune(
                encoder,
                train.select(rows),
                validation=setting.splits.validation,
                evaluation=setting.splits.test,
                options=own,
                progress=progress,
            )
            return {"accuracy": np.asarray(found.metrics["accuracy"])}

        return float(folder.keep(f"{setting.key}-{name}-finetuned", compute)["accuracy"])

    full = tuned("all", np.arange(len(train)))
    for run in runs:
        run["finetuned_all"] = full
        order = Limits.none(train.labels).removal_order(valued[setting.key, run["method"]]["values"])
        rows = np.sort(order.points[index or 0 :])
        run["finetuned"] = tuned(run["method"], rows) if index else full
        run["finetuned_gain"] = run["finetuned"] - full
