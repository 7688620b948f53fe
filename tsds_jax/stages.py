"""Single stages from files to a folder: what `tsds value`, `tsds finetune` and `tsds evaluate` call."""

import dataclasses
import datetime
import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tsds_jax import __version__
from tsds_jax.arrays import feature_matrix, label_array, number_in, real_array
from tsds_jax.data import Splits, carve_validation, load_data, load_splits
from tsds_jax.encoders import Encoder, fit_pca, load_encoder
from tsds_jax.errors import InputError
from tsds_jax.finetuning import checked_options, finetune
from tsds_jax.finetuning.checks import check_fits, check_tokens
from tsds_jax.finetuning.tuning import Data, cut_texts, identity, open_seeds, options_by_seed, over_runs, read_rows
from tsds_jax.games import REGRESSION_UTILITIES
from tsds_jax.options import FineTuneOptions, SelectOptions, build
from tsds_jax.pipeline import write_values
from tsds_jax.runtime.environment import environment
from tsds_jax.runtime.files import UNREADABLE, Arrays, as_path, atomic, load_npz
from tsds_jax.runtime.folder import RunFolder, check_place, open_run
from tsds_jax.runtime.processes import in_own_place, kept_from_others
from tsds_jax.runtime.progress import Progress, ProgressFn, silent
from tsds_jax.selection.doubts import doubts_about_sampling
from tsds_jax.selection.points import value_options
from tsds_jax.study import evaluate
from tsds_jax.study.plan import LONGEST_NAME, check_name_is_new
from tsds_jax.valuation import Valuation, check_points, check_value_options, source_game, value


def load_arrays(file: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``x`` and ``y`` of an .npz file.

    Raises:
      InputError: the file is missing, is no .npz, holds pickled objects, or lacks one of the two.
    """
    path = as_path(file)
    if not path.is_file():
        raise InputError(f"there is no file {file}: give an .npz with x and y")
    try:
        stored = load_npz(path)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{file} cannot be read as .npz without pickle ({reason}): save x and y by numpy.savez"
        ) from None
    for name in ("x", "y"):
        if name not in stored:
            raise InputError(f"{file} has no array {name!r}, only {', '.join(stored)}: save x and y")
    return stored["x"], stored["y"]


@in_own_place
def value_files(
    train: str,
    validation: str,
    out: str,
    *,
    pca: int = 0,
    checkpoint_every: float = 60.0,
    resume: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    progress: ProgressFn = silent,
    **options: Any,
) -> Path:
    """`value` on two .npz files of ``x`` and ``y``; writes values.parquet and manifest.json to a folder.

    A resumed run goes on from what it wrote, every ``checkpoint_every`` seconds; of a finished one everything is there.
    The manifest's ``warnings`` say what makes the values doubtful.

    Raises:
      InputError: as `value` and `load_arrays`, or the folder holds another run.
    """
    number_in("checkpoint_every", checkpoint_every, 0, np.inf, whole=False)
    check_place(out, (train, validation), resume=resume, overwrite=overwrite)
    (x, y), (x_val, y_val) = load_arrays(train), load_arrays(validation)
    x, x_val = feature_matrix(x, f"x in {train}"), feature_matrix(x_val, f"x in {validation}")
    if pca:
        projection = fit_pca(x, pca)
        x, x_val = projection.transform(x), projection.transform(x_val)
    data = {
        role: hashlib.sha256(as_path(file).read_bytes()).hexdigest()
        for role, file in (("train", train), ("validation", validation))
    }
    # What cannot be valued must say so before there is a folder.
    how = value_options(build(SelectOptions, options))
    identity = {"tsds_jax": __version__, "stage": "value", "pca": pca, "options": how, "data": data}
    check_value_options(**how)
    game = source_game(x, y, x_val, y_val, **{name: how[name] for name in ("source", "utility", "C")})
    check_points(game.players, how["subset_size"], how["estimator"])
    checked = real_array if how["utility"] in REGRESSION_UTILITIES else label_array
    labels = checked(y, "y", len(x)).astype(str).tolist()
    folder = open_run(out, identity, resume=resume, overwrite=overwrite, every=checkpoint_every)

    def valued() -> Arrays:
        part = folder.part("values").of_value
        return value(x, y, x_val, y_val, **part, progress=progress, **options).arrays()

    valuation = Valuation.from_arrays(folder.keep("values", valued))
    write_values(folder.path, valuation, {"row": np.arange(len(x)), "label": labels})
    told = {"valuation": valuation.summary(), "warnings": doubts_about_sampling(valuation)}
    folder.write_json("manifest.json", _manifest(identity, command, **told))
    return folder.path


@in_own_place
def finetune_files(
    train: str,
    model: str,
    out: str,
    *,
    validation: str | None = None,
    test: str | None = None,
    text: Any = None,
    label: str | None = None,
    options: FineTuneOptions | None = None,
    checkpoint_every: float = 60.0,
    resume: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    progress: ProgressFn = silent,
) -> Path:
    """`finetune` from files to a folder: predictions.parquet, finetune.json, metrics.jsonl, manifest.json, model/.

    Without validation rows nothing is set apart: every training row trains, and the last step's model is kept. Without
    test rows there are no predictions and no metrics. A resumed run goes on after its last checkpoint; of a finished
    one everything is there.
    """
    options = checked_options(options)
    number_in("checkpoint_every", checkpoint_every, 0, math.inf, whole=False)
    check_place(out, (train, model, validation, test), resume=resume, overwrite=overwrite)
    data, encoder = _read_and_fitting(train, model, validation, test, text, label, options)
    told = identity(encoder, data, options)
    folder = RunFolder(as_path(out))
    if resume and folder.finished:
        open_run(out, told, resume=True)  # which refuses another run
        folder.remove("checkpoints")
        written = ("finetune.json", "model", *(["predictions.parquet"] if data.test is not None else []))
        for name in written:
            if not (folder.path / name).exists():
                raise InputError(f"{folder.path} holds a finished run without its {name}: overwrite it")
        return folder.path
    # By its name, so that it is read once more: the device would have these weights too, all the while, for who called.
    del encoder
    tuned = finetune(
        model,
        data.train,
        validation=data.validation,
        test=data.test,
        options=options,
        folder=out,
        resume=resume,
        overwrite=overwrite,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    tested, found = data.test, tuned.predictions
    if tested is not None and found is not None:
        classes = tuned.classes
        table = {
            "row": tested.origin,
            "label": tested.label_names if classes else tested.labels,
            "prediction": dataclasses.replace(tested, labels=found).label_names if classes else found,
        }
        for place, name in enumerate(classes):
            table[f"probability_{name}"] = np.asarray(tuned.probabilities)[:, place]
        with atomic(folder.path / "predictions.parquet") as temporary:
            pq.write_table(pa.table(table), temporary)
    folder.remove("model")
    tuned.model.save_pretrained(folder.path / "model")
    about = ("metrics", "steps", "best_step", "trained", "fresh", "truncated", "history")
    folder.write_json("finetune.json", {name: getattr(tuned, name) for name in about})
    warnings = [cut_texts(tuned.truncated, options, tuned.model.base)] if tuned.truncated else []
    folder.write_json("manifest.json", _manifest(told, command, warnings=warnings))
    folder.remove("checkpoints")
    return folder.path


def _read_and_fitting(
    train: Any, model: Any, validation: Any, test: Any, text: Any, label: Any, options: FineTuneOptions
) -> tuple[Data, Encoder]:
    """The rows and the encoder of a fine-tuning, with every check before its folder is opened."""
    data = read_rows(train, validation, test, text, label, options)
    encoder = load_encoder(model)
    check_fits(options, encoder)
    encoder.tokenizer  # noqa: B018, it is read
    return data, encoder


@in_own_place
def finetune_seed_files(
    seeds: Sequence[int],
    out: str,
    *,
    options: FineTuneOptions | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressFn = silent,
    **given: Any,
) -> Path:
    """`finetune_files` for each seed to a folder ``seed-N``, and seeds.json: every metric's mean and deviation.

    Args:
      seeds: each takes the place of ``options.seed``.
      out: the folder of the folders.
      options: see `finetune_files`, and so are the others.
      resume: see `finetune_files`.
      overwrite: see `finetune_files`.
      progress: called after each step, which says the seed.
      **given: see `finetune_files`.

    Raises:
      InputError: there is no seed, or one twice; the folder has a seeds.json; or as `finetune_files`.
    """
    folder, each = as_path(out), options_by_seed(seeds, options)
    places = [folder / f"seed-{one.seed}" for one in each]
    number_in("checkpoint_every", given.get("checkpoint_every", 0), 0, math.inf, whole=False)
    inputs = [given.get(name) for name in ("train", "model", "validation", "test")]
    for place in places:  # before the first of them trains
        check_place(place, inputs, resume=resume, overwrite=overwrite)
    if (folder / "manifest.json").exists():
        raise InputError(f"folder {folder} is a run's: give another for the runs of several seeds")
    summary = folder / "seeds.json"
    if summary.exists() and not (resume or overwrite):
        raise InputError(f"folder {folder} holds runs of other seeds: resume it, overwrite it, or give another folder")
    if resume and (left := _seeds_of(summary) - {*seeds}):
        raise InputError(
            f"{summary} has seed {min(left)} too: resume with all its seeds (and more), or give another folder"
        )

    def train(one: FineTuneOptions, place: Path) -> None:
        def relay(event: Progress) -> None:
            progress(event._replace(detail=f"seed {one.seed}, {event.detail}"))

        finetune_files(out=str(place), options=one, resume=resume or overwrite, progress=relay, **given)

    with kept_from_others(places):
        if resume or overwrite:
            sources = {name: given.get(name) for name in ("train", "model", "validation", "test", "text", "label")}
            data, encoder = _read_and_fitting(**sources, options=each[0])
            check_tokens(data, encoder, each[0].max_length)  # which is said while old runs are there
            if overwrite:
                summary.unlink(missing_ok=True)
            open_seeds(places, each, encoder, data, resume=resume, overwrite=overwrite)
            del data, encoder  # each run reads them
        for one, place in zip(each, places, strict=True):
            train(one, place)
    found = [json.loads((place / "finetune.json").read_text("utf-8"))["metrics"] for place in places]
    mean, deviation = over_runs(found)
    about = {"seeds": [one.seed for one in each], "runs": found, "mean": mean, "deviation": deviation}
    RunFolder(folder).write_json("seeds.json", about)
    return folder


@in_own_place
def evaluate_files(
    sources: Sequence[str],
    model: str,
    out: str,
    *,
    text: Any = None,
    label: str | None = None,
    test_fraction: float = 0.3,
    finetuning: FineTuneOptions | None = None,
    **given: Any,
) -> Path:
    """`evaluate` on files: each is a data set by itself, called by its file's name.

    Of a data set without a test split, ``test_fraction`` of each class's rows is set apart for testing, then validation
    rows as in `select`; the draw is that of ``seed``, and the same whatever the seeds of the runs.

    Args:
      sources: as ``train`` of `select`; of a name of more than 120 bytes its beginning.
      model: see `evaluate`.
      out: see `evaluate`.
      text: see `select`.
      label: see `select`.
      test_fraction: between 0 and 1.
      finetuning: see `evaluate`.
      **given: see `evaluate`; and ``validation_fraction``, as of `select`.

    Raises:
      InputError: two sources of one name; or as `load_splits` and `evaluate`.
    """
    switches = {name: given.get(name, False) for name in ("resume", "overwrite")}
    check_place(out, (*sources, model), **switches)
    how = {"text": text, "label": label, "seed": given.get("seed", 0)}
    if "validation_fraction" in given:
        how["validation_fraction"] = given.pop("validation_fraction")
    data: dict[str, Splits] = {}
    for source in sources:
        splits = load_splits(source, **how)
        if splits.test is None:
            rows = load_data(source, text=text, label=label) if splits.set_apart else splits.train
            rest, test = carve_validation(rows, fraction=test_fraction, seed=how["seed"])
            splits = load_splits(rest, None if splits.set_apart else splits.validation, test, **how)
        name = re.sub(r"[^\w.]+", "-", Path(source).stem).encode()[:LONGEST_NAME].decode(errors="ignore") or "data"
        check_name_is_new(name, data)
        data[name] = splits
    return evaluate(data, model=model, out=out, finetuning=finetuning, **given)


def _seeds_of(summary: Path) -> set[int]:
    """Those that seeds.json is of; none where it cannot be read."""
    try:
        return set(json.loads(summary.read_text("utf-8"))["seeds"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _manifest(identity: dict[str, Any], command: str | None, **more: Any) -> dict[str, Any]:
    return {
        "tsds_jax": __version__,
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "status": "finished",
        "identity": identity,
        **more,
        **environment(),
    }
