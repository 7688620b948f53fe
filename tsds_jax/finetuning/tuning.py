"""Fine-tuning from end to end: rows and an encoder in, a target model and its scores out."""

import contextlib
import dataclasses
import inspect
import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from tsds_jax import __version__
from tsds_jax.arrays import number_in
from tsds_jax.data import TextData, load_data
from tsds_jax.data.messages import texts_cut
from tsds_jax.data.splitting import own_split, read_training
from tsds_jax.encoders import Encoder, load_encoder
from tsds_jax.encoders.heads import head_config
from tsds_jax.encoders.tokens import tokenise
from tsds_jax.errors import InputError
from tsds_jax.finetuning.checkpoints import Checkpoints
from tsds_jax.finetuning.checks import check_fits, check_tokens, checked_options, lasting
from tsds_jax.finetuning.scores import score
from tsds_jax.finetuning.target import TargetModel, all_outputs, decided, new_target, probabilities
from tsds_jax.finetuning.training import Log, Rows
from tsds_jax.finetuning.training import train as train_rows
from tsds_jax.finetuning.units import Units
from tsds_jax.options import FineTuneOptions
from tsds_jax.runtime.files import MANIFEST, as_path
from tsds_jax.runtime.folder import RunFolder, check_place, open_run
from tsds_jax.runtime.processes import first_says
from tsds_jax.runtime.progress import ProgressFn, silent
from tsds_jax.runtime.spread import over_all_devices


@dataclasses.dataclass(frozen=True)
class FineTuned:
    """What `finetune` gives.

    Attributes:
      classes: names of the classes; none in regression.
      probabilities: float32 [test rows, classes], or None in regression and without test rows.
      predictions: of the test rows as `TargetModel.predict` gives them, or None.
      metrics: those of `METRICS` on the test rows; empty without them.
      history: a dict a look: step, train_loss (the mean since the last look), and validation_loss, validation_accuracy
        and the other metrics (None without validation rows). In regression all are of the numbers as they were given,
        though training is in units of their spread, of which a step's gradient_norm in metrics.jsonl is.
      steps: gradient steps taken.
      best_step: the step whose weights the model has.
      seconds: wall time of the whole call, and of earlier tries up to the checkpoint that it went on from.
      truncated: training, validation and test texts that were cut at `max_length` tokens (or at the encoder's
        limit, if that is lower).
      fresh: the head's parameters that the checkpoint did not give, by their names there: they started at random.
      trained: how many numbers trained.
      model: the best state on the validation rows; without them, the last.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray | None
    predictions: np.ndarray | None
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    steps: int
    best_step: int
    seconds: float
    truncated: int
    fresh: tuple[str, ...]
    trained: int
    model: TargetModel

    def __repr__(self) -> str:
        """In a line, for a notebook."""
        scores = "".join(f", {name} {value:.4g}" for name, value in self.metrics.items())
        return f"FineTuned(step {self.best_step} of {self.steps}{scores})"


@dataclasses.dataclass(frozen=True)
class SeedRuns:
    """What `finetune_seeds` gives.

    Attributes:
      seeds: one a run.
      runs: what `finetune` gives for each.
      mean: of each metric over the runs.
      deviation: its standard deviation over the runs (n - 1); None of one run.
    """

    seeds: tuple[int, ...]
    runs: tuple[FineTuned, ...]
    mean: dict[str, float]
    deviation: dict[str, float | None]

    def __repr__(self) -> str:
        """In a line, for a notebook."""
        scores = "".join(f", {name} {mean:.4g}" for name, mean in self.mean.items())
        return f"SeedRuns(seeds {list(self.seeds)}{scores})"


class Data(NamedTuple):
    """What a run reads: training, validation and test rows, the last two where there are any."""

    train: TextData
    validation: TextData | None
    test: TextData | None


def finetune(
    model: Encoder | str | os.PathLike[str],
    train: Any,
    *,
    validation: Any = None,
    test: Any = None,
    text: Any = None,
    label: str | None = None,
    options: FineTuneOptions | None = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: float = 60.0,
    progress: ProgressFn = silent,
    **changes: Any,
) -> FineTuned:
    """Fine-tune an encoder with a head by AdamW, and test it.

    The same options on the same rows give the same weights on one machine, whether the run was stopped and resumed on
    the way or not. The encoder that is given stays as it is. A batch is shared by all devices.

    Args:
      model: an `Encoder`, or what `load_encoder` takes.
      train: a `TextData`, or what `load_data` takes.
      validation: rows that decide which step's weights are kept, by ``options.best_by``, then the lowest loss. Where
        they, or ``test``, are not given and ``train`` has splits of these names, they are those.
      test: rows to report metrics on; they decide nothing.
      text: the text column, or two of them, where rows are still to be read; by default those of `train` if it is
        a `TextData`, else "text".
      label: the label column, likewise; by default that of `train`, else "label".
      options: by default ``FineTuneOptions()``.
      folder: where metrics.jsonl, a line a step and a line a look, and checkpoints go; None keeps neither.
      resume: go on after the last checkpoint of this very run in ``folder``.
      overwrite: remove the run that ``folder`` holds.
      checkpoint_every: seconds from one checkpoint to the next, and at least 20 times what writing one takes; 0 writes
        one after each step. Half of it after the last there is one at the end. Ctrl-C and SIGTERM have one written
        first.
      progress: called after each step with its loss, stage "finetune".
      **changes: any of `FineTuneOptions`, over ``options``.

    Raises:
      InputError: an option, a row or a source cannot be used, or the folder holds another run.
      TsdsError: the loss or its gradient is not finite.

    Example:
      >>> result = finetune("models/minilm", "train.csv", validation="dev.csv", test="test.csv", epochs=1.0)
      >>> sorted(result.metrics)
      ['accuracy', 'loss', 'macro_f1']
    """
    started = time.perf_counter()
    options = checked_options(options, changes)
    number_in("checkpoint_every", checkpoint_every, 0, math.inf, whole=False)
    if folder is not None:
        check_place(folder, (model, train, validation, test), resume=resume, overwrite=overwrite)
    data = read_rows(train, validation, test, text, label, options)
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    check_fits(options, encoder)
    limit = min(options.max_length, encoder.config.max_tokens)

    def rows_of(part: TextData | None) -> Rows | None:
        if part is None:
            return None
        return Rows(tokenise(encoder.tokenizer, part.texts, limit, encoder.config), part.labels)

    def opened() -> RunFolder | None:
        if folder is None:
            return None
        return open_run(folder, identity(encoder, data, options), resume=resume, overwrite=overwrite)

    # A run that cannot be gone on with is told of before the rows are tokenised; a row that cannot be tokenised, before
    # an earlier run is removed or a new one signed.
    begun = resume and folder is not None and first_says("begun" * (as_path(folder) / MANIFEST).exists())
    run = opened() if begun else None
    rows, watched, tested = map(rows_of, data)
    assert rows is not None
    run = run or opened()
    classes = data.train.classes
    units, spread = Units(), over_all_devices(cuts=options.shard)
    if options.task == "regression":
        units = Units.of(rows.labels, bias=head_config(options.head, encoder.settings, encoder.config).out_bias)
    graphdef, params, fresh = new_target(
        encoder,
        len(classes) or 1,
        classes,
        options.head,
        seed=options.seed,
        dropout=options.dropout,
        units=units,
        spread=spread,
    )
    # The weights that it came with stay where they are for whoever gave it; nobody else needs them beside these.
    encoder = encoder.with_model(nnx.merge(graphdef, params).encoder)
    # Held no longer than it trains, whatever ends that: who looks at an error holds on to all that it was raised in.
    held = contextlib.nullcontext() if run is None else run.place
    with held, Checkpoints(None if run is None else run.path / "checkpoints", checkpoint_every) as checkpoints:
        log = _logging(run, checkpoints)
        outcome = train_rows(graphdef, params, rows, watched, limit, options, units, spread, checkpoints, log, progress)
    module = nnx.merge(graphdef, outcome.params)
    target = TargetModel(module, encoder.with_model(module.encoder), options.head, classes, limit, options.task)
    chances = predictions = None
    metrics: dict[str, float] = {}
    if tested is not None:
        tokens = tested.tokens
        outputs = all_outputs(module, lambda: [tokens], len(tested.labels), limit)
        metrics = score(outputs, tested.labels, options.task)
        chances = probabilities(outputs, options.task) if classes else None
        predictions = decided(outputs, options.task)
    return FineTuned(
        classes,
        chances,
        predictions,
        metrics,
        outcome.loop.history,
        outcome.loop.step,
        outcome.loop.best_step,
        time.perf_counter() - started + outcome.loop.seconds,
        sum(part.tokens.truncated for part in (rows, watched, tested) if part is not None),
        fresh,
        outcome.trained,
        target,
    )


def finetune_seeds(
    model: Encoder | str | os.PathLike[str],
    train: Any,
    *,
    seeds: Sequence[int],
    options: FineTuneOptions | None = None,
    folder: str | os.PathLike[str] | None = None,
    **given: Any,
) -> SeedRuns:
    """`finetune` once for each seed, on the same rows; the encoder is loaded once and nothing compiles twice.

    Every run's model is given and stays on the device, whose memory fills by one more of them with each seed.

    Args:
      model: as in `finetune`, and so are ``train`` and what else is ``given``.
      train: see `finetune`.
      seeds: each takes the place of ``options.seed``.
      options: see `finetune`.
      folder: with a folder ``seed-0`` and so on for each run; None keeps nothing.
      **given: see `finetune`.

    Raises:
      InputError: there is no seed, or one twice; or as `finetune`.

    Example:
      >>> runs = finetune_seeds("models/minilm", "train.csv", test="test.csv", seeds=(0, 1, 2))
      >>> runs.deviation["accuracy"] < 0.5
      True
    """
    if "seed" in given:
        raise InputError("both seeds and seed were given: give one of them")
    # Whatever was given is looked at while old runs are there.
    known = inspect.signature(finetune).parameters
    each = options_by_seed(seeds, options, {name: given.pop(name) for name in [*given] if name not in known})
    number_in("checkpoint_every", given.get("checkpoint_every", 60.0), 0, math.inf, whole=False)
    places = [None if folder is None else as_path(folder) / f"seed-{one.seed}" for one in each]
    switches = {name: given.pop(name, False) for name in ("resume", "overwrite")}
    for place in filter(None, places):  # before the first of them trains
        check_place(place, (model, train, given.get("validation"), given.get("test")), **switches)
    sources = {name: given.pop(name, None) for name in ("validation", "test", "text", "label")}
    data = read_rows(train, **sources, options=each[0])
    encoder = model if isinstance(model, Encoder) else load_encoder(model)
    check_fits(each[0], encoder)
    if folder is not None and any(switches.values()):
        check_tokens(data, encoder, each[0].max_length)
        open_seeds(filter(None, places), each, encoder, data, **switches)
        switches = {"resume": True}
    runs = tuple(
        finetune(encoder, **data._asdict(), options=one, folder=place, **switches, **given)
        for one, place in zip(each, places, strict=True)
    )
    return SeedRuns(tuple(one.seed for one in each), runs, *over_runs([run.metrics for run in runs]))


def open_seeds(
    places: Iterable[Path],
    each: Sequence[FineTuneOptions],
    encoder: Encoder,
    data: Data,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Opens the folder of each seed's run before the first of them trains, and closes it: `finetune` goes on with it.

    Old runs go together, for beside some of them the new ones could not be gone on with.

    Raises:
      InputError: a folder holds another run.
    """
    first = identity(encoder, data, each[0])
    folders = [*zip(places, each, strict=True)]
    begun = json.loads(first_says(json.dumps([place.name for place, _ in folders if (place / MANIFEST).exists()])))
    # What is refused leaves no new folder signed.
    for place, one in sorted(folders, key=lambda pair: pair[0].name not in begun):
        open_run(place, first | {"options": lasting(one)}, resume=resume, overwrite=overwrite).place.close()


def options_by_seed(
    seeds: Sequence[int], options: FineTuneOptions | None, changes: Mapping[str, Any] = MappingProxyType({})
) -> list[FineTuneOptions]:
    """The options, with these in place of some, with each seed.

    Raises:
      InputError: there is no seed, or one twice, or an option is out of range.
    """
    if isinstance(seeds, str | int | float) or len(seeds) == 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must be a list of different whole numbers, at least one, not {seeds!r:.60}")
    common = checked_options(options, changes)
    return [checked_options(dataclasses.replace(common, seed=seed)) for seed in seeds]


def over_runs(metrics: Sequence[dict[str, float]]) -> tuple[dict[str, float], dict[str, float | None]]:
    """Each metric's mean and standard deviation (n - 1; None of one run) over the runs."""
    found = {name: np.array([run[name] for run in metrics]) for name in metrics[0]}
    deviation = {name: float(scores.std(ddof=1)) if len(scores) > 1 else None for name, scores in found.items()}
    return {name: float(scores.mean()) for name, scores in found.items()}, deviation


def cut_texts(count: int, options: FineTuneOptions, encoder: Encoder, where: str = "in fine-tuning") -> str:
    """The warning that so many texts were cut."""
    return texts_cut(count, f"{min(options.max_length, encoder.config.max_tokens)} tokens {where}")


def identity(encoder: Encoder, data: Data, options: FineTuneOptions) -> dict[str, Any]:
    """What makes a run of fine-tuning this run, as JSON values."""
    parts = data._asdict().items()
    return {
        "tsds_jax": __version__,
        "stage": "finetune",
        "options": lasting(options),
        "model": encoder.fingerprint(),
        "head": encoder.head_fingerprint(),
        "data": {role: part and part.fingerprint() for role, part in parts},
    }


def read_rows(train: Any, validation: Any, test: Any, text: Any, label: Any, options: FineTuneOptions) -> Data:
    """All rows, with every check that can be made before long work."""
    task: Any = options.task
    rows, tables, text, label = read_training(train, text=text, label=label, task=task)
    rows = load_data(rows, role="train", task=task)  # what was read before may be for another task
    if len(rows) == 0:
        raise InputError("fine-tuning has no training rows; give at least one")
    if options.task == "classification" and len(rows.classes) < 2:
        raise InputError(f"fine-tuning has rows of {rows.classes[0]!r} alone; give rows of at least two classes")

    def held_out(source: Any, role: str) -> TextData | None:
        how: dict[str, Any] = {"text": text, "label": label, "classes": rows.classes or None, "task": task}
        data = own_split(tables, role, **how) if source is None else load_data(source, role=role, **how)
        return data if data is not None and len(data) > 0 else None

    data = Data(rows, held_out(validation, "validation"), held_out(test, "test"))
    if data.validation is None:
        _check_undecided(options)
    return data


def _check_undecided(options: FineTuneOptions) -> None:
    """Raise InputError for an option that would need validation rows, of which there are none."""
    for name in ("patience", "best_by"):
        if getattr(options, name) is not None:
            raise InputError(
                f"fine-tuning option {name} says what validation rows decide, and there are none: give some, or leave "
                "it out"
            )


def _logging(run: RunFolder | None, checkpoints: Checkpoints) -> Log:
    """A function that adds a line to the run's metrics.jsonl, from which lines after the checkpoint are dropped."""
    if run is None:
        return lambda fields: None
    file, after = run.path / "metrics.jsonl", checkpoints.step
    if file.exists():
        lines = file.read_text("utf-8").splitlines()
        run.write_text("metrics.jsonl", "".join(line + "\n" for line in lines if 0 <= _step(line) <= after))
    return lambda fields: run.log("finetune", **fields)


def _step(line: str) -> int:
    """The step of a line of metrics.jsonl; -1 where a lost power or a full disk has left but a part of the line."""
    try:
        return json.loads(line).get("step", 0)
    except ValueError:
        return -1
