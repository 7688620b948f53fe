"""`evaluate`: methods side by side on data sets, from fixed splits to a table with intervals."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tsds_jax.data import Splits, TextData
from tsds_jax.encoders import Encoder
from tsds_jax.finetuning.tuning import cut_texts
from tsds_jax.options import FineTuneOptions
from tsds_jax.pipeline.checks import check_before_overwriting
from tsds_jax.pipeline.representing import cut_to_represent, represent
from tsds_jax.runtime.environment import environment
from tsds_jax.runtime.files import Arrays
from tsds_jax.runtime.folder import RunFolder, open_run
from tsds_jax.runtime.processes import in_own_place
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.study.methods import add_finetuned, doubts_about, scores_of, valued_by
from tsds_jax.study.plan import OURS, Plan, planned
from tsds_jax.study.setting import Setting
from tsds_jax.study.summary import ORACLE, share_name, write_summary


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
    plan = planned(
        data,
        model=model,
        out=out,
        methods=methods,
        flips=flips,
        noise=noise,
        seeds=seeds,
        finetuned=finetuned,
        finetuned_shares=finetuned_shares,
        finetuning=finetuning,
        confidence=confidence,
        confident_from=confident_from,
        cache=cache,
        checkpoint_every=checkpoint_every,
        resume=resume,
        overwrite=overwrite,
        options=options,
    )
    about = {"command": command, "identity": plan.identity, "asked": plan.asked}
    if overwrite:
        tuning = plan.tuning if plan.fine_tunes else None
        check_before_overwriting(out, plan.encoder, plan.settings, tuning, plan.rows)
    folder = open_run(out, plan.identity, resume=resume, overwrite=overwrite, every=checkpoint_every)
    folder.write_json("manifest.json", {"status": "running", **about})
    settings, notes = _represented(folder, plan, cache, progress)
    total = len(settings) * len(plan.methods)
    valued: dict[tuple[str, str], Arrays] = {}
    for setting, method in itertools.product(settings, plan.methods):
        how = (plan.settings, plan.encoder, plan.tuning, progress)
        valued[setting.key, method] = valued_by(folder, setting, method, *how)
        progress(Progress("value", len(valued), total, "valuations", f"{setting.key} {method}"))
    runs = []
    # Of the checks; of a folder from before they were counted, none are known.
    cut = max(int(found.get("truncated", 0)) for found in valued.values())
    for setting in settings:
        tested = setting.tested(plan.settings)
        for method in plan.methods:
            by = method if method == ORACLE else OURS
            index = int(valued[setting.key, by]["index"]) if by in plan.methods else None
            runs.append(scores_of(setting, tested, method, valued[setting.key, method], index))
            progress(Progress("test", len(runs), total, "methods", f"{setting.key} {method}"))
        if plan.finetuned:
            some = [run for run in runs if run["key"] == setting.key and run["method"] in plan.finetuned]
            what_for = (some, valued, plan.shares, plan.encoder, plan.tuning, progress)
            cut = max(cut, add_finetuned(folder, setting, *what_for))
    notes += [cut_texts(cut, plan.tuning, plan.encoder)] if cut else []
    for name, method in itertools.product(plan.data, plan.methods):
        of = [valued[setting.key, method] for setting in settings if setting.name == name]
        refitted = all(run["converged"] for run in runs if (run["data"], run["method"]) == (name, method))
        notes += doubts_about(name, method, of, refitted)
    write_summary(folder, runs, {key: found["values"] for key, found in valued.items()}, notes)
    folder.write_json("manifest.json", {"status": "finished", **about, "warnings": notes, **environment()})
    return folder.path


def _represented(
    folder: RunFolder, plan: Plan, cache: str | os.PathLike | None, progress: ProgressFn
) -> tuple[list[Setting], list[str]]:
    """Every data set with every share of flips by every seed, and what should be known of the texts."""

    def seen(name: str, splits: Splits, train: TextData, seed: int) -> Arrays:
        """The model as it is has the same whatever the labels and the seed."""
        how = (replace(plan.settings, seed=seed), replace(plan.tuning, seed=seed), cache, progress)
        what = (train, splits.validation, plan.encoder, *how, splits.test, folder.part(name))
        return folder.keep(name, lambda: represent(*what))

    found, cut = [], dict.fromkeys(plan.data, 0)
    for (name, splits), share, seed in itertools.product(plan.data.items(), plan.flips, plan.seeds):
        train, wrong = plan.flipped[name, share, seed]
        wrong, known = plan.doubted[name] if share == 0 else (wrong, np.ones(len(train), bool))
        own = name if plan.settings.represent_by == "pretrained" else f"{name}-{share_name(share)}-{seed}"
        x = seen(f"{own}-represented", splits, train, seed)
        parts = (x["train"], x["validation"], x["test"])
        cut[name] = max(cut[name], int(x["truncated"]))
        found.append(Setting(name, share, seed, train, wrong, known, splits, *parts))
        progress(Progress("represent", len(found), len(plan.flipped), "settings", own))
    notes = [
        f"{name}: {words}" + ("" if splits.left_out else " (drop_overlap leaves them out)")
        for name, splits in plan.data.items()
        for words in splits.shared_texts()
    ]
    return found, notes + [f"{name}: {cut_to_represent(count, plan.settings)}" for name, count in cut.items() if count]
