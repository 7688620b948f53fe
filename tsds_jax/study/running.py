"""`evaluate`: methods side by side on data sets, from fixed splits to a table with intervals."""

import dataclasses
import hashlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsds_jax import __version__
from tsds_jax.arrays import number_in, one_of
from tsds_jax.baselines import BASELINES, baseline, check_baseline
from tsds_jax.data import Splits, TextData, flip_labels, numbers, text_codes, without_overlap
from tsds_jax.data.loading import with_classes
from tsds_jax.data.messages import counted
from tsds_jax.data.noise import NOISES
from tsds_jax.data.splitting import count_overlap
from tsds_jax.encoders import Encoder, load_encoder
from tsds_jax.errors import InputError
from tsds_jax.evaluation.detection import detection
from tsds_jax.evaluation.removal import kept_curve
from tsds_jax.finetuning import check_fits, checked_options, finetune, steps_for
from tsds_jax.finetuning.checks import lasting
from tsds_jax.finetuning.tuning import cut_texts
from tsds_jax.options import EVALUATED, FineTuneOptions, SelectOptions, build, plain
from tsds_jax.pipeline.checks import (
    check_before_overwriting,
    check_cache,
    check_for_comparison,
    check_precision,
    check_representing,
    check_select_options,
    check_sizes,
    pooled_by,
)
from tsds_jax.pipeline.representing import cut_to_represent, represent
from tsds_jax.pipeline.target_check import target_check
from tsds_jax.runtime.environment import environment
from tsds_jax.runtime.files import Arrays
from tsds_jax.runtime.folder import Part, RunFolder, check_place, open_run
from tsds_jax.runtime.processes import in_own_place
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.selection import Limits, ordered_curve
from tsds_jax.selection.choice import validation_folds
from tsds_jax.selection.curve import SourceGame
from tsds_jax.selection.limits import RemovalOrder
from tsds_jax.selection.points import value_and_choose
from tsds_jax.study.summary import ORACLE, share_name, write_summary
from tsds_jax.valuation import ESTIMATORS, Valuation, source_game

# Ours, as `select` values and cuts by default.
OURS = "shapley"
METHODS = (OURS, *BASELINES, ORACLE)
# Labels of which the crowd's share is below are doubtful.
_CONFIDENT = 0.7
# Some disk takes them for something else than a letter of a file's name.
_NOT_IN_NAMES = frozenset('/\\:*?"<>|\0')
# Bytes of a data set's name: a file's name has 255 at most, with method, share and seed behind it.
LONGEST_NAME = 120


@dataclasses.dataclass(frozen=True, eq=False)
class _Setting:
    """One data set with some of its training labels flipped.

    Attributes:
      name: of the data set.
      flips: the share of flipped labels.
      seed: of the flips, and of all that follows.
      train: training rows, labels flipped.
      wrong: bool ``[rows]``, those that are; of labels as they came, those that the crowd was not sure of.
      known: bool ``[rows]``, of which that is known.
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
    known: np.ndarray
    splits: Splits
    x: np.ndarray
    x_val: np.ndarray
    x_test: np.ndarray

    def removal_order(self, values: np.ndarray) -> RemovalOrder:
        """All rows, the lowest first."""
        return Limits.none(self.train.labels).removal_order(values, self.seed)

    @property
    def key(self) -> str:
        """For file names."""
        return f"{self.name}-{share_name(self.flips)}-{self.seed}"

    def tested(self, options: SelectOptions) -> SourceGame:
        """The source classifier's game with the test rows in place of validation rows."""
        assert self.splits.test is not None
        labels = self.splits.test.labels
        return source_game(self.x, self.train.labels, self.x_test, labels, source=options.source, C=options.C)


@in_own_place
def evaluate(
    data: Mapping[str, Splits],
    *,
    model: str | os.PathLike | Encoder,
    out: str | os.PathLike,
    methods: Sequence[str] = (OURS, "random", "leave_one_out", "knn_shapley", "loss", "confident_learning"),
    flips: Sequence[float] = (0.0, 0.1),
    noise: str = "uniform",
    seeds: Sequence[int] = (0, 1, 2),
    finetuned: Sequence[str] = (),
    finetuned_shares: Sequence[float] = (),
    finetuning: FineTuneOptions | None = None,
    confidence: str | None = None,
    confident_from: float | None = None,
    cache: str | os.PathLike | None = None,
    checkpoint_every: float = 60.0,
    resume: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    progress: ProgressFn = silent,
    **options: Any,
) -> Path:
    """Runs methods over data sets, and writes how well each finds wrong labels and what removing its lowest rows does.

    The splits are what they are given as; seeds draw flips, and everything random in the methods. All values and
    removal indices are there before any test row is looked at. For every method, with the lowest rows removed, the
    accuracy on the test rows is that of the source classifier refitted, and of some methods that of the model
    fine-tuned for as many steps as on all rows. "At the index" is at the number of rows that `select` would remove, the
    check on the target included where ``check_seeds`` asks for it; duplicates are judged one by one.

    Args:
      data: name to splits, with test rows.
      model: see `select`.
      out: a folder for evaluation.json, evaluation.md (the tables) and curves/ (removal curves as SVG).
      methods: ``"shapley"`` (ours), keys of `BASELINES`, and ``"oracle"``, which is told the wrong labels and
        removes them all: what a perfect method would gain.
      flips: shares of training labels to flip.
      noise: see `flip_labels`.
      seeds: one run of everything each.
      finetuned: the methods without whose lowest rows the model is fine-tuned, at the index of ours; the oracle at
        its own.
      finetuned_shares: shares of the rows, such as 0.1, without which it is fine-tuned besides.
      finetuning: how to fine-tune there, and to represent where ``represent_by`` does so; None takes the defaults.
      confidence: a column of the training rows with the share of a crowd that agrees with the label, or another number
        that is low where a label is doubtful. Labels as they came (no flips) are then also asked which are doubtful;
        rows without a number are left out of that.
      confident_from: numbers below this are doubtful; None takes 0.7.
      cache: see `select`.
      checkpoint_every: seconds between writes of a valuation or a fine-tuning that is under way.
      resume: go on with what the folder's run reached. It may be asked for other methods, flips, seeds and shares than
        before: what is there already is not computed again.
      overwrite: see `run`, and so are ``command`` and ``progress``.
      command: see ``overwrite``.
      progress: see ``overwrite``.
      **options: of `SelectOptions`: representation, source classifier, sampling, rule and grid (`EVALUATED`);
        ``check_seeds`` is 0 if not given. Of those that say how to value, the baselines are told ``C``, ``samples`` and
        ``seed``; the others are for ``"shapley"``.

    Returns:
      The folder.

    Raises:
      InputError: something given cannot be used.
    """
    settings = build(SelectOptions, {"check_seeds": 0, **options})
    for name in options:
        if name not in EVALUATED:
            raise InputError(f"option {name} is not for evaluate, which values rows one by one: leave it out")
    check_select_options(settings)
    several = {"methods": methods, "flips": flips, "seeds": seeds}
    for name, given in (several | {"finetuned": finetuned, "finetuned_shares": finetuned_shares}).items():
        if isinstance(given, str | int | float):
            raise InputError(f"{name} is {given!r:.60}: give a list")
    flips, seeds, finetuned_shares = (tuple(map(plain, some)) for some in (flips, seeds, finetuned_shares))
    if confident_from is not None and confidence is None:
        raise InputError(f"confident_from is {confident_from!r:.60} of no column: give confidence too, or leave it out")
    confident_from = _CONFIDENT if confident_from is None else plain(confident_from)
    _check(data, methods, flips, noise, seeds)
    data = {name: _of_one(splits) for name, splits in data.items()}
    if settings.drop_overlap:
        data = {name: without_overlap(splits) for name, splits in data.items()}
    _check_finetuned(finetuned, finetuned_shares, methods)
    tuning = finetuning or FineTuneOptions()
    check_for_comparison(tuning)
    tuning = checked_options(tuning)
    for method, splits in itertools.product(methods, data.values()):
        check_baseline(method, len(splits.train))
    number_in("confident_from", confident_from, -1e30, 1e30, whole=False)
    if confidence is not None and 0 not in flips:
        raise InputError(f"confidence {confidence!r} is asked about where no label is flipped: have 0 among flips")
    number_in("checkpoint_every", checkpoint_every, 0, math.inf, whole=False)
    doubted = {name: _doubted(splits.train, confidence, confident_from) for name, splits in data.items()}
    rows = [part for splits in data.values() for part in _parts(splits)]
    check_place(out, (model, *rows), resume=resume, overwrite=overwrite)
    check_cache(cache)
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    settings = pooled_by(encoder, settings)
    for splits in data.values():
        check_sizes(splits, encoder, settings, Limits.none(splits.train.labels))
    flipped = {}
    for (name, splits), share, seed in itertools.product(data.items(), flips, seeds):
        flipped[name, share, seed] = flip_labels(splits.train, share, seed, noise)
        _check_classes_left(name, splits, flipped[name, share, seed][0], share, seed)
    fine_tunes = bool(finetuned) or settings.represent_by != "pretrained" or settings.check_seeds > 0
    if fine_tunes:
        check_precision(encoder)
        check_fits(tuning, encoder)
        check_representing(settings, encoder, tuning)
    identity = {
        "tsds_jax": __version__,
        "stage": "evaluate",
        "options": dataclasses.asdict(settings),
        "finetuning": lasting(tuning),
        "confidence": None if confidence is None else [confidence, confident_from],
        # The oracle removes them, and they are no part of the data's fingerprint.
        "doubtful": confidence and {name: _hash(*arrays) for name, arrays in doubted.items()},
        "noise": noise,
        "model": encoder.fingerprint(),
        "head": encoder.head_fingerprint(),
        "data": {name: [part.fingerprint() for part in _parts(splits)] for name, splits in data.items()},
    }
    asked = {"methods": methods, "flips": flips, "seeds": seeds, "finetuned": finetuned, "shares": finetuned_shares}
    about = {"command": command, "identity": identity, "asked": {name: list(one) for name, one in asked.items()}}
    encoder.tokenizer  # noqa: B018, it is read before the folder is opened
    if overwrite:
        check_before_overwriting(out, encoder, settings, tuning if fine_tunes else None, rows)
    folder = open_run(out, identity, resume=resume, overwrite=overwrite, every=checkpoint_every)
    folder.write_json("manifest.json", {"status": "running", **about})

    def seen(name: str, splits: Splits, train: TextData, seed: int) -> Arrays:
        """Representations; the model as it is has the same whatever the labels and the seed."""
        how = (dataclasses.replace(settings, seed=seed), dataclasses.replace(tuning, seed=seed), cache, progress)
        what = (train, splits.validation, encoder, *how, splits.test, folder.part(name))
        return folder.keep(name, lambda: represent(*what))

    all_settings, cut = [], dict.fromkeys(data, 0)
    for (name, splits), share, seed in itertools.product(data.items(), flips, seeds):
        train, wrong = flipped[name, share, seed]
        wrong, known = doubted[name] if share == 0 else (wrong, np.ones(len(train), bool))
        own = name if settings.represent_by == "pretrained" else f"{name}-{share_name(share)}-{seed}"
        x = seen(f"{own}-represented", splits, train, seed)
        parts = (x["train"], x["validation"], x["test"])
        cut[name] = max(cut[name], int(x["truncated"]))
        all_settings.append(_Setting(name, share, seed, train, wrong, known, splits, *parts))
        progress(Progress("represent", len(all_settings), len(data) * len(flips) * len(seeds), "settings", own))
    total = len(all_settings) * len(methods)
    valued: dict[tuple[str, str], Arrays] = {}
    for setting, method in itertools.product(all_settings, methods):
        valued[setting.key, method] = _valued(folder, setting, method, settings, encoder, tuning, progress)
        progress(Progress("value", len(valued), total, "valuations", f"{setting.key} {method}"))
    runs = []
    # Of the checks; of a folder from before they were counted, none are known.
    tuned_cut = max(int(found.get("truncated", 0)) for found in valued.values())
    for setting in all_settings:
        tested = setting.tested(settings)
        for method in methods:
            found = valued[setting.key, method]
            by = method if method == ORACLE else OURS
            index = int(valued[setting.key, by]["index"]) if by in methods else None
            runs.append(_scored(setting, tested, method, found, index))
            progress(Progress("test", len(runs), total, "methods", f"{setting.key} {method}"))
        if finetuned:
            some = [run for run in runs if run["key"] == setting.key and run["method"] in finetuned]
            what_for = (some, valued, finetuned_shares, encoder, tuning, progress)
            tuned_cut = max(tuned_cut, _finetune(folder, setting, *what_for))
    notes = [
        f"{name}: {words}" + ("" if splits.left_out else " (drop_overlap leaves them out)")
        for name, splits in data.items()
        for words in splits.shared_texts()
    ]
    notes += [f"{name}: {cut_to_represent(count, settings)}" for name, count in cut.items() if count]
    notes += [cut_texts(tuned_cut, tuning, encoder)] if tuned_cut else []
    for name, method in itertools.product(data, methods):
        of = [valued[setting.key, method] for setting in all_settings if setting.name == name]
        refitted = all(run["converged"] for run in runs if (run["data"], run["method"]) == (name, method))
        notes += _doubts(name, method, of, refitted)
    write_summary(folder, runs, {key: found["values"] for key, found in valued.items()}, notes)
    folder.write_json("manifest.json", {"status": "finished", **about, "warnings": notes, **environment()})
    return folder.path


def check_name_is_new(name: str, others: Iterable[str]) -> None:
    """Raise InputError for a data set that is called as another one is."""
    # Their state files would be one on a disk that does not tell A from a.
    if name.casefold() in map(str.casefold, others):
        raise InputError(f"two data sets are called {name}: rename one of them")


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
    for place, (name, splits) in enumerate(data.items()):
        if not name or _NOT_IN_NAMES.intersection(name):
            raise InputError(f"data set {name!r:.60} cannot be part of a file's name: call it by letters and numbers")
        if len(os.fsencode(name)) > LONGEST_NAME:
            raise InputError(f"data set {name:.60}... has a name of more than {LONGEST_NAME} bytes: give a shorter one")
        check_name_is_new(name, list(data)[:place])
        if not isinstance(splits, Splits):
            raise InputError(f"data set {name} is a {type(splits).__name__}: give what load_splits gives")
        if splits.test is None:
            raise InputError(f"data set {name} has no test rows: give some")


def _of_one(splits: Splits) -> Splits:
    """The same of one list of classes, the training rows', with the texts counted that stand in two of its parts.

    Whoever put the parts together by hand need not have seen to either.
    """
    known = splits.train.classes
    test = None if splits.test is None else with_classes(splits.test, known, "test")
    splits = dataclasses.replace(splits, validation=with_classes(splits.validation, known), test=test)
    # Of what was left out the count is from before.
    return splits if splits.left_out else dataclasses.replace(splits, overlap=count_overlap(*_parts(splits)))


def _check_classes_left(name: str, splits: Splits, train: TextData, share: float, seed: int) -> None:
    """Raise InputError for a class of validation or test rows that no training row has once labels are flipped."""
    for part in _parts(splits)[1:]:
        for label in np.setdiff1d(part.labels, train.labels):
            raise InputError(
                f"data set {name}: with a share of {share:g} flipped by seed {seed} no training row is of class"
                f" {train.classes[label]}: leave out that seed, that share or the class"
            )


def _check_finetuned(finetuned: Sequence[str], shares: Sequence[float], methods: Sequence[str]) -> None:
    for method in finetuned:
        if method not in methods:
            raise InputError(f"the model is to be fine-tuned without the rows of {method}: add it to the methods")
    for share in shares:
        number_in("finetuned_shares", share, 0.001, 0.99, whole=False)
    if shares and not finetuned:
        raise InputError("finetuned_shares is for the methods in finetuned: name some")
    # The oracle's index is its own; the others are cut at that of ours.
    without = [method for method in finetuned if method != ORACLE]
    if without and not shares and OURS not in methods:
        raise InputError(f"no share is given, and without {OURS} among the methods {without[0]} has no index: give one")


def _doubted(train: TextData, confidence: str | None, confident_from: float) -> tuple[np.ndarray, np.ndarray]:
    """Which labels the crowd was not sure of, and of which rows that is known.

    Raises InputError where that parts no row from the others, for there would be nothing to find.
    """
    if confidence is None:
        return np.zeros(len(train), bool), np.ones(len(train), bool)
    sure = numbers(train, confidence)
    doubted, known = sure < confident_from, np.isfinite(sure)
    if doubted[known].all() or not doubted.any():
        raise InputError(
            f"{train.source}: column {confidence!r} is from {np.nanmin(sure):g} to {np.nanmax(sure):g}, so"
            f" confident_from {confident_from:g} doubts {'all' if doubted.any() else 'no'} labels: give another"
        )
    return doubted, known


def _hash(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def _parts(splits: Splits) -> list[TextData]:
    assert splits.test is not None
    return [splits.train, splits.validation, splits.test]


def _valued(
    folder: RunFolder,
    setting: _Setting,
    method: str,
    options: SelectOptions,
    encoder: Encoder,
    tuning: FineTuneOptions,
    progress: ProgressFn,
) -> Arrays:
    """Values, and for ours the removal index, by training and validation rows alone."""
    arrays = (setting.x, setting.train.labels, setting.x_val, setting.splits.validation.labels)
    stage = f"{setting.key}-{method}"

    def compute() -> Arrays:
        if method == ORACLE:
            wrong = setting.wrong & setting.known
            values = -wrong.astype(float)
            order = setting.removal_order(values)
            # Of a class that is all wrong one row stays.
            index = wrong[order.points[: order.ends[-1]]].sum()
            return {"values": values, "seconds": np.asarray(0.0), "index": np.asarray(index)}
        if method != OURS:
            told: dict[str, Any] = {"C": options.C, "samples": options.samples, "seed": setting.seed}
            found = baseline(method, *arrays, units=text_codes(setting.train), **told)
            return {"values": found.values, **_about(found)}
        own = dataclasses.replace(options, seed=setting.seed)
        units = text_codes(setting.splits.validation)
        limits = Limits.none(setting.train.labels)
        found, choice = value_and_choose(*arrays, limits, own, units=units, **folder.part(stage).of_value)
        index, cut = choice.removal_index, 0
        about = {}
        if options.check_seeds:
            about["proposed"] = np.asarray(index)
        if options.check_seeds and index:
            folds = validation_folds(own, arrays[3], units)
            rows = (setting.train, setting.splits.validation, choice, folds)

            def keep(name: str, compute: Callable[[], Arrays]) -> Arrays:
                return folder.keep(f"{setting.key}-{name}", compute)

            def part(name: str) -> Part:
                return folder.part(f"{setting.key}-{name}")

            short = dataclasses.replace(tuning, seed=setting.seed)
            at_work: dict[str, Any] = {"keep": keep, "part": part, "progress": progress, "units": units}
            check = target_check(encoder, *rows, short, own, **at_work)
            index, cut = check.recommended, check.truncated
        about |= {"index": np.asarray(index), "truncated": np.asarray(cut)}
        return {"values": found.values, **_about(found), **about}

    return folder.keep(stage, compute)


def _about(found: Valuation) -> Arrays:
    """What else is kept of a valuation."""
    reliability = found.reliability
    if (found.stderr == 0).all():
        reliability = np.inf  # nothing was drawn
    elif found.estimator in ESTIMATORS and np.isnan(reliability):
        reliability = -np.inf  # nothing was drawn twice
    what = {"seconds": found.seconds, "unconverged": found.unconverged, "reliability": reliability}
    return {name: np.asarray(number) for name, number in what.items()}


def _doubts(data: str, method: str, valued: Sequence[Arrays], refitted: bool) -> list[str]:
    """Why a method's numbers on a data set should not be trusted, from all its valuations and refits there.

    Of a folder from before they were kept nothing is known, nor of values that come without errors.
    """
    unconverged = sum(int(found.get("unconverged", 0)) for found in valued)
    reliability = np.array([found.get("reliability", np.inf) for found in valued], float)
    words = []
    if unconverged:
        words.append(f"{counted(unconverged, 'fit')} did not converge: lower C, or bring the features to one scale")
    if not refitted:
        words.append("refits without the lowest rows did not converge: lower C, or bring the features to one scale")
    lowest = np.nanmin(reliability, initial=np.inf)
    if lowest == -np.inf:
        words.append("how reliable the values are is not known, for no row was drawn twice: raise samples")
    elif lowest < 0.5:
        words.append(f"the values are mostly sampling noise (reliability down to {lowest:.2f}): raise samples")
    return [f"{data}, {method}: {some}" for some in words]


def _scored(setting: _Setting, game: SourceGame, method: str, found: Arrays, index: int | None) -> dict[str, Any]:
    """What the values say of wrong rows, and what the source classifier does on the test rows without the lowest."""
    values = found["values"]
    curve = kept_curve(game, values, seed=setting.seed)
    run: dict[str, Any] = {
        "key": setting.key,
        "data": setting.name,
        "flips": setting.flips,
        "seed": setting.seed,
        "method": method,
        "seconds": float(found["seconds"]),
        "converged": curve.converged,
        "accuracy": float(curve.best[-1]),
        "kept": curve.share.tolist(),
        "highest_kept": curve.best.tolist(),
        "lowest_kept": curve.worst.tolist(),
        "weighted_drop": curve.weighted_drop,
        "removed": index,
    }
    if "proposed" in found:
        run["proposed"] = int(found["proposed"])
    wrong = setting.wrong[setting.known]
    if wrong.any() and not wrong.all():
        run |= detection(values[setting.known], wrong)._asdict()
    for percent in (5, 10, 20):
        run[f"gain_{percent}"] = float(curve.best[-1 - percent // 5] - curve.best[-1])
    if index is not None:
        cuts = np.array([0, index])
        at_index = ordered_curve(game, setting.removal_order(values), cuts)
        run["gain_at_index"] = float(at_index.difference[-1])
        run["converged"] = curve.converged and at_index.converged
    return run


def _finetune(
    folder: RunFolder,
    setting: _Setting,
    runs: list[dict[str, Any]],
    valued: Mapping[tuple[str, str], Arrays],
    shares: Sequence[float],
    encoder: Encoder,
    options: FineTuneOptions,
    progress: ProgressFn,
) -> int:
    """Adds to each run of a setting the fine-tuned model's test accuracy, without the method's rows and with all.

    Returns how many texts were cut, at most.
    """
    train = setting.train
    own = dataclasses.replace(options, seed=setting.seed, steps=steps_for(options, len(train)))
    most_cut = 0

    def tuned(name: str, rows: np.ndarray) -> float:
        nonlocal most_cut
        stage = f"{setting.key}-{name}-finetuned"

        def compute() -> Arrays:
            found = finetune(
                encoder,
                train.select(rows),
                validation=setting.splits.validation,
                test=setting.splits.test,
                options=own,
                progress=progress,
                **folder.part(stage).of_model(),
            )
            return {"accuracy": np.asarray(found.metrics["accuracy"]), "truncated": np.asarray(found.truncated)}

        kept = folder.keep(stage, compute)
        most_cut = max(most_cut, int(kept.get("truncated", 0)))
        return float(kept["accuracy"])

    by_share = {f"_{100 * share:g}": round(share * len(train)) for share in shares}
    every = [(run, name, cut) for run in runs for name, cut in {**by_share, "": run["removed"]}.items()]
    wanted = [(run, name, cut) for run, name, cut in every if cut is not None]
    for done, (run, name, cut) in enumerate(wanted, 1):
        gain = 0.0
        order = setting.removal_order(valued[setting.key, run["method"]]["values"])
        cut = int(order.cuts(np.array([cut]))[0])  # behind those that may go the others stand in the order of the data
        if cut:
            run["finetuned_all"] = tuned("all", np.arange(len(train)))
            gain = tuned(f"{run['method']}-{cut}", np.sort(order.points[cut:])) - run["finetuned_all"]
        run[f"finetuned_gain{name}"] = gain
        progress(Progress("finetuned", done, len(wanted), "models", f"{setting.key} {run['method']} {cut} {gain:+.4f}"))
    return most_cut
