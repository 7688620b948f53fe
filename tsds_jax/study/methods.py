"""What a method says of a setting's rows, and what comes of removing its lowest."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tsds_jax.baselines import baseline
from tsds_jax.data import text_codes
from tsds_jax.data.messages import counted
from tsds_jax.encoders import Encoder
from tsds_jax.evaluation.detection import detection
from tsds_jax.evaluation.removal import kept_curve
from tsds_jax.finetuning import finetune, steps_for
from tsds_jax.options import FineTuneOptions, SelectOptions
from tsds_jax.pipeline.target_check import target_check
from tsds_jax.runtime.files import Arrays
from tsds_jax.runtime.folder import Part, RunFolder
from tsds_jax.runtime.progress import Progress, ProgressFn
from tsds_jax.selection import Limits, ordered_curve
from tsds_jax.selection.choice import validation_folds
from tsds_jax.selection.curve import SourceGame
from tsds_jax.selection.points import value_and_choose
from tsds_jax.study.plan import OURS
from tsds_jax.study.setting import Setting
from tsds_jax.study.summary import ORACLE
from tsds_jax.valuation import ESTIMATORS, Valuation


def valued_by(
    folder: RunFolder,
    setting: Setting,
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


def doubts_about(data: str, method: str, valued: Sequence[Arrays], refitted: bool) -> list[str]:
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


def scores_of(setting: Setting, game: SourceGame, method: str, found: Arrays, index: int | None) -> dict[str, Any]:
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


def add_finetuned(
    folder: RunFolder,
    setting: Setting,
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
