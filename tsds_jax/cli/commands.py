"""The commands."""

import dataclasses
import functools
import io
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from tsds_jax.cli.flags import JOB, app, arguments_of, command, without_tuning
from tsds_jax.errors import InputError
from tsds_jax.options import DEMO_FINETUNING, EVALUATED, SUSPECTED, VALUED, FineTuneOptions, SelectOptions


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``tsds`` command.

    Raises:
      SystemExit: always; 0 done, 1 failed while running, 2 something given cannot be used, 130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # JAX's small factorisations on a CPU go through SciPy's OpenBLAS, whose threads wait for each other far longer than
    # they work where the machine is shared; it reads this when it is loaded, which no import so far has done.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Only its tokenizers are used: that PyTorch is missing is no news to anybody.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A text, or a sign of ours, that the terminal's encoding does not have must not end a run.
            stream.reconfigure(errors="replace")
    try:
        code = app(arguments or ["--help"], prog_name="tsds", standalone_mode=False)
    except Exception as error:
        # The parser's own errors, whichever click it is built on, carry this method.
        if not hasattr(error, "format_message"):
            raise
        print(
            f"tsds: error: {' '.join(error.format_message().split())} (tsds --help lists what there is)",
            file=sys.stderr,
        )
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _warn_of(folder: Path) -> None:
    import json

    for warning in json.loads((folder / "manifest.json").read_text("utf-8")).get("warnings", []):
        typer.echo(f"warning: {warning}")


def _command_line() -> str:
    return shlex.join(["tsds", *sys.argv[1:]])


_DATA = ("train", "validation", "test", "text", "label")
# Of fine-tuning, what does not suit models that are compared, and what decides nothing where all take their last step.
_NOT_COMPARED = ("task", "patience")
_NO_BEST = ("best_by", "evaluate_every")
# What is left of it for a pass over the rows.
_ONE_PASS = {item.name for item in dataclasses.fields(FineTuneOptions)} - {*_NOT_COMPARED, *_NO_BEST, "epochs", "steps"}


@command(
    places=(*_DATA, "model", "out", "cache", "checkpoint_every", "compare_seeds", *JOB),
    needs=("train", "model", "out"),
    options=(SelectOptions, FineTuneOptions),
    without=_NOT_COMPARED,
    switches=("resume", "overwrite"),
)
def run(given: dict[str, Any]) -> None:
    """The main job: value, select, fine-tune with and without, report."""
    from tsds_jax import pipeline
    from tsds_jax.runtime.console import console_progress

    with console_progress() as progress:
        folder = pipeline.run(**arguments_of(given, FineTuneOptions()), command=_command_line(), progress=progress)
    _show(folder)


@command(
    places=("out", "train_rows", "validation_rows", "test_rows", "flips", "compare_seeds", *JOB),
    options=(SelectOptions, FineTuneOptions),
    without=(*_NOT_COMPARED, "validation_fraction"),  # its tweets are split already
    switches=("resume", "overwrite"),
    # Its flag is that of both options, whose text says what is cut where.
    defaults={name: given for name, given in dataclasses.asdict(DEMO_FINETUNING).items() if name != "max_length"},
)
def demo(given: dict[str, Any]) -> None:
    """The main job on real tweets and a real encoder from the package index."""
    from tsds_jax import demo as demonstration
    from tsds_jax.runtime.console import console_progress

    with console_progress() as progress:
        folder = demonstration.demo(**arguments_of(given, DEMO_FINETUNING), command=_command_line(), progress=progress)
    _show(folder)
    if given.get("flips"):
        drawn = ("flips", "train_rows", "validation_rows", "test_rows", "seed")
        typer.echo(demonstration.flips_found(folder, **{name: given[name] for name in drawn if name in given}))


@command(
    places=("train", "validation", "text", "label", "model", "out", "cache", *JOB),
    needs=("train", "model", "out"),
    options=(SelectOptions, FineTuneOptions),
    without=(*_NOT_COMPARED, *_NO_BEST),
    switches=("overwrite",),
)
def select(given: dict[str, Any]) -> None:
    """Text in, the training rows worth keeping out; fine-tunes as --represent-by says, and to check a cut."""
    from tsds_jax import pipeline
    from tsds_jax.runtime.console import console_progress
    from tsds_jax.runtime.folder import check_place
    from tsds_jax.runtime.processes import own_place

    overwrite = bool(given.pop("overwrite", False))
    with own_place(given.pop("out")) as out:
        inputs = [given.get(name) for name in ("train", "validation", "model")]
        check_place(out, inputs, overwrite=overwrite, cache=given.get("cache"))
        with console_progress() as progress:
            selection = pipeline.select(**arguments_of(given, FineTuneOptions()), progress=progress)
        _show(selection.save(out, overwrite=overwrite))


@command(
    places=(*_DATA, "out"),
    needs=("train", "out"),
    options=(SelectOptions,),
    only=("validation_fraction", "drop_overlap", "seed", "group", "protect"),
)
def data(given: dict[str, Any]) -> None:
    """Check labelled text, set validation rows apart, and write the splits."""
    from tsds_jax.data import file_name, load_splits, write_rows
    from tsds_jax.data.messages import shorten
    from tsds_jax.runtime.files import as_path, check_writable

    out = as_path(given.pop("out"))
    check_writable(out)
    splits = load_splits(given.pop("train"), given.pop("validation", None), given.pop("test", None), **given)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    found = {role: part for role, part in parts.items() if part is not None}
    for role, part in found.items():
        if (out / file_name(part, role)).exists():
            raise InputError(f"{out / file_name(part, role)} exists: remove it or give another folder")
    for role, part in found.items():
        written = write_rows(part, out, role)
        # Names that steer no terminal and fill none.
        names = [name if name.isprintable() and len(name) <= 30 else shorten(name, 30) for name in part.classes]
        counts = [f"{name} {rows:,}" for name, rows in zip(names, part.class_counts.values(), strict=True)]
        counts[12:] = [f"and {len(counts) - 12} classes more"] if len(counts) > 12 else []
        typer.echo(f"{role:<10} {len(part):>9,} rows  {', '.join(counts)}  -> {written}")
    for words in splits.shared_texts():
        typer.echo(words)


@command(
    places=("data", "text", "label", "model", "out", "cache", "checkpoint_every", "dtype", *JOB),
    needs=("data", "model", "out"),
    options=(SelectOptions,),
    only=("pooling", "layer", "max_length"),
    meanings={"checkpoint_every": "With --cache: seconds between writes of what is under way (60)."},
    takes_one=("data",),
    out_is_file=True,
)
def embed(given: dict[str, Any]) -> None:
    """Represent texts by a language model's hidden states: an .npz of x (and y, where --label is given)."""
    import numpy as np

    from tsds_jax import encoders
    from tsds_jax.data import load_texts
    from tsds_jax.data.loading import label_texts
    from tsds_jax.data.messages import texts_cut
    from tsds_jax.data.reading import pick_split, read_source
    from tsds_jax.runtime.console import console_progress
    from tsds_jax.runtime.files import atomic, check_new_file
    from tsds_jax.runtime.lock import take

    out, source, label = check_new_file(given.pop("out"), ".npz"), given.pop("data"), given.pop("label", None)
    text = given.pop("text", None)
    arrays = {}
    with take(out.with_name(f".{out.name}.lock"), out):
        if label is None:
            texts = load_texts(source, text=text)
        else:
            # As `load_data`, but that held-out rows may be of one class.
            table = pick_split(read_source(source), "train")
            labelled = label_texts(table, text=text, label=label, role="labelled")
            texts = list(labelled.texts)  # type: ignore[assignment]
            arrays["y"] = np.array(labelled.label_names)
        encoder = encoders.load_encoder(given.pop("model"), dtype=given.pop("dtype", "float32"))
        with console_progress() as progress:
            representations = encoders.embed(encoder, texts, progress=progress, **given)
        with atomic(out) as temporary, open(temporary, "wb") as file:
            np.savez(file, x=representations.values, **arrays)  # type: ignore[arg-type]
    typer.echo(f"{len(texts):,} texts x {representations.values.shape[1]} features -> {out}")
    if representations.truncated:
        typer.echo(texts_cut(representations.truncated, "the length limit"))


@command(
    places=("data", "text", "label", "model", "out", "cache", *JOB),
    needs=("data", "model", "out"),
    options=(SelectOptions, FineTuneOptions),
    only=(*SUSPECTED, *_ONE_PASS),
    meanings={
        "represent_by": "The model pretrained, or fine_tuned for a pass over the rows, which finds more.",
        "out": "A csv file of the doubted rows.",
        "group": "Column of documents, sources or annotators, whose rows do not judge each other.",
    },
    takes_one=("data",),
    out_is_file=True,
)
def suspects(given: dict[str, Any]) -> None:
    """List the labels of a file that a classifier doubts, with those that would fit: no values, no validation rows."""
    from tsds_jax import pipeline
    from tsds_jax.data.messages import counted, texts_cut
    from tsds_jax.report.outcome import most_doubtful
    from tsds_jax.runtime.console import console_progress
    from tsds_jax.runtime.files import check_new_file
    from tsds_jax.runtime.lock import take

    rows = given.pop("data")
    alone = [name for name in given if name in _ONE_PASS and name not in SUSPECTED]
    if alone and given.get("represent_by") != "fine_tuned":
        raise InputError(f"--{alone[0].replace('_', '-')} is for --represent-by fine_tuned: give that too")
    out = check_new_file(given.pop("out"), ".csv")
    with take(out.with_name(f".{out.name}.lock"), out):
        with console_progress() as progress:
            found = pipeline.suspects(rows, **arguments_of(given, FineTuneOptions()), progress=progress)
        found.save(out)
    doubted = len(found.suspects.points)
    if doubted:
        typer.echo(most_doubtful(out))
    of = f"{counted(doubted, 'label')} of {len(found.data):,}"
    typer.echo(f"{of} would fit another class better, most doubtful first -> {out}")
    if found.truncated:
        typer.echo(texts_cut(found.truncated, "the length limit"))


@command(
    places=("train", "validation", "out", "checkpoint_every", *JOB),
    meanings={
        "train": "Training rows: an .npz with x (points by features) and y.",
        "validation": "Validation rows: another such .npz.",
    },
    needs=("train", "validation", "out"),
    options=(SelectOptions,),
    only=("pca", *VALUED),
    switches=("resume", "overwrite"),
    defaults={"pca": 0},
)
def value(given: dict[str, Any]) -> None:
    """Value the rows of arrays: .npz files with x (points by features) and y."""
    from tsds_jax import stages
    from tsds_jax.runtime.console import console_progress

    with console_progress() as progress:
        folder = stages.value_files(command=_command_line(), progress=progress, **given)
    _warn_of(folder)
    typer.echo(f"values: {folder / 'values.parquet'}")


@command(
    places=(*_DATA, "model", "out", "seeds", "checkpoint_every", *JOB),
    meanings={
        "validation": "Validation rows, which choose the best step; without any the last one is taken.",
        "test": "Test rows; without any the model is saved and not tested.",
    },
    needs=("train", "model", "out"),
    options=(FineTuneOptions,),
    switches=("resume", "overwrite"),
)
def finetune(given: dict[str, Any]) -> None:
    """Fine-tune the model on labelled text, save it, and test it where there are test rows."""
    import json

    from tsds_jax import stages
    from tsds_jax.runtime.console import console_progress

    seeds = given.pop("seeds", None)
    if seeds is not None and "seed" in given:
        raise InputError("both seeds and seed were given: give one of them")
    call: Callable[..., Path] = stages.finetune_files
    if seeds is not None:
        call = functools.partial(stages.finetune_seed_files, seeds)
    rest, options = without_tuning(given, FineTuneOptions())
    with console_progress() as progress:
        folder = call(**rest, options=options, command=_command_line(), progress=progress)
    first = folder if seeds is None else folder / f"seed-{seeds[0]}"
    _warn_of(first)
    found = json.loads((first / "finetune.json").read_text("utf-8"))
    if found["fresh"]:
        typer.echo(f"the checkpoint has no head for this, so it started at random: {', '.join(found['fresh'])}")
    if seeds is not None:
        over_runs = json.loads((folder / "seeds.json").read_text("utf-8"))
        for name, mean in over_runs["mean"].items():
            spread = over_runs["deviation"][name]
            typer.echo(f"test {name} {mean:.4f}" + ("" if spread is None else f", standard deviation {spread:.4f}"))
        typer.echo(f"runs: {folder}")
        return
    scores = ", ".join(f"{name} {score:.4f}" for name, score in found["metrics"].items())
    chosen = any(look["validation_loss"] is not None for look in found["history"])
    steps = f"best of {found['steps']} steps at {found['best_step']}" if chosen else f"after {found['steps']} steps"
    typer.echo(f"test {scores} ({steps})" if scores else f"not tested ({steps})")
    if (folder / "predictions.parquet").exists():
        typer.echo(f"predictions: {folder / 'predictions.parquet'}")
    typer.echo(f"model: {folder / 'model'}")


@command(
    places=(
        *("data", "text", "label", "model", "out", "cache", "methods", "flip_shares", "noise", "seeds"),
        *("test_fraction", "finetuned", "finetuned_shares", "confidence", "confident_from"),
        *("checkpoint_every", *JOB),
    ),
    meanings={
        "data": "Data sets joined by commas; kinds of files as for --train of run.",
        "seeds": "Seeds joined by commas (0,1,2): each draws flips and samples anew; --seed draws the splits.",
    },
    needs=("data", "model", "out"),
    options=(SelectOptions, FineTuneOptions),
    only=(*EVALUATED, "validation_fraction", *(item.name for item in dataclasses.fields(FineTuneOptions))),
    without=_NOT_COMPARED,
    defaults={"check_seeds": 0},
    switches=("resume", "overwrite"),
)
def evaluate(given: dict[str, Any]) -> None:
    """Methods side by side on data sets: finding wrong labels, and what removing the lowest rows does.

    --utility, --estimator, --subset-size, --truncation and --reliability are for shapley alone. --source values for
    shapley alone too, but its classifier tests every method.
    """
    from tsds_jax import stages
    from tsds_jax.runtime.console import console_progress

    sources = given.pop("data")
    if "flip_shares" in given:
        given["flips"] = given.pop("flip_shares")
    with console_progress() as progress:
        folder = stages.evaluate_files(
            sources, **arguments_of(given, FineTuneOptions()), command=_command_line(), progress=progress
        )
    typer.echo((folder / "evaluation.md").read_text("utf-8"))
    typer.echo(f"tables: {folder / 'evaluation.md'}, curves: {folder / 'curves'}")


@command(places=("out",), needs=("out",))
def report(given: dict[str, Any]) -> None:
    """Make a run folder's report.html anew."""
    from tsds_jax.report import write_report

    typer.echo(f"report: {write_report(given['out'])}")


def _show(folder: Path) -> None:
    """The outcome of a run in a few lines, from its own files."""
    from tsds_jax.report.outcome import outcome

    typer.echo(outcome(folder))
    typer.echo(f"report: {folder / 'report.html'}")
    if (folder / "model").exists():
        typer.echo(f"model: {folder / 'model'}")
