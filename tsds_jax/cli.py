"""The command line, `tsds`: each command a thin layer over one function.

Options come from flags, else from ``--config FILE.toml`` (the flags' names, with ``_`` or ``-``), else from the
defaults in `tsds_jax.options`. Nothing heavy is imported before a command runs, so that ``--help`` is quick.
"""

import dataclasses
import functools
import inspect
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tsds_jax.errors import InputError, TsdsError
from tsds_jax.options import FineTuneOptions, SelectOptions, build

app = typer.Typer(
    name="tsds",
    help="Find the training examples that hurt a language model, drop them, fine-tune on the rest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Everything that is not a field of the options: name -> (type, meaning).
_PLACES: dict[str, tuple[Any, str]] = {
    "train": (
        str,
        "Training rows: a csv, tsv, jsonl or parquet file, a saved data set's folder, or a hub name (glue:sst2@train).",
    ),
    "validation": (str, "Validation rows; set apart from the training rows where not given."),
    "test": (str, "Test rows; nothing is decided on them."),
    "data": (str, "Rows to embed; kinds of files as for --train of run."),
    "text": (str, "Text column (text if not given), or two joined by a comma for sentence pairs."),
    "label": (str, "Label column (label if not given)."),
    "model": (str, "Hugging Face folder, cached or hub name of the target language model."),
    "out": (str, "Folder (a file for embed) for what this command writes."),
    "train_rows": (int, "Training tweets (2000 if not given)."),
    "validation_rows": (int, "Validation tweets (1000)."),
    "test_rows": (int, "Test tweets (1500)."),
    "flips": (float, "Share of training labels to flip, 0 to 0.5."),
}
_SWITCHES = {
    "resume": "Go on with what an earlier try of this run finished.",
    "overwrite": "Remove the earlier run that the folder holds.",
}
# The functions' messages speak of their arguments; here these are flags.
_AS_FLAGS = (("resume it, overwrite it,", "resume it (--resume), overwrite it (--overwrite),"),)


def main() -> None:
    """Entry point of the ``tsds`` command."""
    app()


def command(
    *,
    places: Iterable[str] = (),
    options: Iterable[type] = (),
    only: Iterable[str] = (),
    switches: Iterable[str] = (),
) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """Registers a command whose flags are made from `_PLACES`, option classes and switches.

    The function gets one dictionary of what was given, by flag or by file, and nothing else: defaults stay where
    they are defined.
    """

    def register(body: Callable[[dict[str, Any]], None]) -> None:
        flags = {name: _flag(name, *_PLACES[name]) for name in places}
        for kind in options:
            hints = get_type_hints(kind)
            for item in dataclasses.fields(kind):
                if not only or item.name in only:
                    flags.setdefault(item.name, _flag(item.name, hints[item.name], item.metadata["help"], item.default))
        for name in switches:
            flags[name] = _flag(name, bool, _SWITCHES[name])
        flags["config"] = _flag("config", str, "TOML file with any of these options.")
        flags["traceback"] = _flag("traceback", bool, "Show where in the code an error arose.")

        @functools.wraps(body)
        def call(**flagged: Any) -> None:
            with_traceback = bool(flagged.pop("traceback"))
            try:
                body(_settle(flagged, [name for name in flags if name not in ("config", "traceback")]))
            except KeyboardInterrupt:
                _fail("stopped; finished stages are kept: the same command with --resume goes on", 130)
            except Exception as error:
                if with_traceback:
                    traceback.print_exc()
                if isinstance(error, TsdsError):
                    _fail(str(error), error.exit_code)
                _fail(f"{type(error).__name__}: {error}"[:500] + " (--traceback shows where)", 1)

        call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
                for name, annotation in flags.items()
            ]
        )
        call.__annotations__ = dict(flags)
        app.command(name=body.__name__)(call)

    return register


def _flag(name: str, kind: Any, meaning: str, default: Any = None) -> Any:
    flag = f"--{name}" if name == "C" else f"--{name.replace('_', '-')}"
    return Annotated[
        kind | None, typer.Option(flag, help=meaning, show_default="" if default is None else str(default))
    ]


def _settle(flagged: dict[str, Any], known: list[str]) -> dict[str, Any]:
    """What was given: the config file's entries under the flags."""
    given: dict[str, Any] = {}
    config = flagged.pop("config")
    if config is not None:
        import tomllib

        try:
            entries = tomllib.loads(Path(config).read_text("utf-8"))
        except OSError as error:
            raise InputError(f"config {config} cannot be read ({error.strerror}): give a TOML file") from None
        except ValueError as error:
            raise InputError(f"config {config} is no TOML: {' '.join(str(error).split())}") from None
        for key, entry in entries.items():
            name = key.replace("-", "_")
            if name not in known:
                raise InputError(
                    f"config {config} has {key!r}, which this command does not know: use {', '.join(known)}"
                )
            given[name] = entry
    given.update({name: entry for name, entry in flagged.items() if entry is not None})
    if "text" in given and isinstance(given["text"], str) and "," in given["text"]:
        given["text"] = tuple(part.strip() for part in given["text"].split(","))
    return given


def _need(given: dict[str, Any], *names: str) -> None:
    for name in names:
        if name not in given:
            raise InputError(f"--{name} is missing: {_PLACES[name][1][0].lower() + _PLACES[name][1][1:]}")


def _part(given: dict[str, Any], kind: type) -> dict[str, Any]:
    """The entries that are fields of ``kind``."""
    names = {item.name for item in dataclasses.fields(kind)}
    return {name: entry for name, entry in given.items() if name in names}


def _rest(given: dict[str, Any], *kinds: type) -> dict[str, Any]:
    """The entries that are fields of none of the kinds."""
    known = {item.name for kind in kinds for item in dataclasses.fields(kind)}
    return {name: entry for name, entry in given.items() if name not in known}


def _fail(message: str, code: int) -> None:
    for words, hint in _AS_FLAGS:
        message = message.replace(words, hint)
    typer.echo(f"tsds: error: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)


def _command_line() -> str:
    return shlex.join(["tsds", *sys.argv[1:]])


_DATA = ("train", "validation", "test", "text", "label")


@command(
    places=(*_DATA, "model", "out"),
    options=(SelectOptions, FineTuneOptions),
    switches=("resume", "overwrite"),
)
def run(given: dict[str, Any]) -> None:
    """The main job: value, select, fine-tune with and without, report."""
    _need(given, "train", "model", "out")
    from tsds_jax import pipeline
    from tsds_jax.runtime.console import console_progress

    with console_progress() as progress:
        folder = pipeline.run(
            finetuning=build(FineTuneOptions, _part(given, FineTuneOptions)),
            command=_command_line(),
            progress=progress,
            **_rest(given, SelectOptions, FineTuneOptions),
            **_part(given, SelectOptions),
        )
    _show(folder)


@command(
    places=("out", "train_rows", "validation_rows", "test_rows", "flips"),
    options=(SelectOptions, FineTuneOptions),
    switches=("resume", "overwrite"),
)
def demo(given: dict[str, Any]) -> None:
    """The main job on real tweets and a real encoder from the package index."""
    from tsds_jax import demo as demonstration
    from tsds_jax.runtime.console import console_progress

    with console_progress() as progress:
        folder = demonstration.demo(
            finetuning=dataclasses.replace(demonstration.FINETUNING, **_part(given, FineTuneOptions)),
            command=_command_line(),
            progress=progress,
            **_rest(given, SelectOptions, FineTuneOptions),
            **_part(given, SelectOptions),
        )
    _show(folder)


@command(
    places=("train", "validation", "text", "label", "model", "out"),
    options=(SelectOptions,),
    switches=("overwrite",),
)
def select(given: dict[str, Any]) -> None:
    """Text in, the training rows worth keeping out; no fine-tuning."""
    _need(given, "train", "model", "out")
    from tsds_jax import pipeline
    from tsds_jax.runtime.console import console_progress
    from tsds_jax.runtime.folder import check_run_folder

    out, overwrite = given.pop("out"), bool(given.pop("overwrite", False))
    check_run_folder(out, overwrite=overwrite)
    with console_progress() as progress:
        selection = pipeline.select(progress=progress, **given)
    _show(selection.save(out, overwrite=overwrite))


@command(places=(*_DATA, "out"), options=(SelectOptions,), only=("validation_fraction", "drop_overlap", "seed"))
def data(given: dict[str, Any]) -> None:
    """Check labelled text, set validation rows apart, and write the splits."""
    _need(given, "train", "out")
    from tsds_jax.data import load_splits, write_rows

    out = Path(given.pop("out"))
    splits = load_splits(given.pop("train"), given.pop("validation", None), given.pop("test", None), **given)
    for role in ("train", "validation", "test"):
        part = getattr(splits, role)
        if part is not None:
            written = write_rows(part, out, role)
            counts = ", ".join(f"{name} {count:,}" for name, count in part.class_counts.items())
            typer.echo(f"{role:<10} {len(part):>9,} rows  {counts}  -> {written}")
    for (one, other), count in splits.overlap.items():
        typer.echo(f"{count:,} {one} texts also stand in {other}")


@command(
    places=("data", "text", "label", "model", "out"),
    options=(SelectOptions,),
    only=("pooling", "layer", "max_length"),
)
def embed(given: dict[str, Any]) -> None:
    """Represent texts by a language model's hidden states: an .npz of x (and y, where --label is given)."""
    _need(given, "data", "model", "out")
    import numpy as np

    from tsds_jax import encoders
    from tsds_jax.data import load_data, load_texts
    from tsds_jax.runtime.console import console_progress
    from tsds_jax.runtime.folder import atomic

    out, source, label = _new_file(given.pop("out"), ".npz"), given.pop("data"), given.pop("label", None)
    text = given.pop("text", None)
    arrays = {}
    if label is None:
        texts = load_texts(source, text=text)
    else:
        labelled = load_data(source, text=text, label=label)
        texts = list(labelled.texts)  # type: ignore[assignment]
        arrays["y"] = np.array(labelled.label_names)
    encoder = encoders.load_encoder(given.pop("model"))
    with console_progress() as progress:
        representations = encoders.embed(encoder, texts, progress=progress, **given)
    with atomic(out) as temporary, open(temporary, "wb") as file:
        np.savez(file, x=representations.values, **arrays)  # type: ignore[arg-type]
    typer.echo(f"{len(texts):,} texts x {representations.values.shape[1]} features -> {out}")
    if representations.truncated:
        typer.echo(f"{representations.truncated:,} texts were cut at the length limit")


@command(
    places=("train", "validation", "out"),
    options=(SelectOptions,),
    only=("pca", "source", "utility", "estimator", "subset_size", "samples", "C", "truncation", "seed"),
    switches=("overwrite",),
)
def value(given: dict[str, Any]) -> None:
    """Value the rows of arrays: .npz files with x (points by features) and y."""
    _need(given, "train", "validation", "out")
    from tsds_jax import stages
    from tsds_jax.runtime.console import console_progress

    with console_progress() as progress:
        folder = stages.value_files(command=_command_line(), progress=progress, **given)
    typer.echo(f"values: {folder / 'values.parquet'}")


@command(places=(*_DATA, "model", "out"), options=(FineTuneOptions,), switches=("overwrite",))
def finetune(given: dict[str, Any]) -> None:
    """Fine-tune the model on labelled text and test it."""
    _need(given, "train", "model", "test", "out")
    from tsds_jax import stages
    from tsds_jax.runtime.console import console_progress

    with console_progress() as progress:
        folder, tuned = stages.finetune_files(
            options=build(FineTuneOptions, _part(given, FineTuneOptions)),
            command=_command_line(),
            progress=progress,
            **_rest(given, FineTuneOptions),
        )
    scores = ", ".join(f"{name} {score:.4f}" for name, score in tuned.metrics.items())
    typer.echo(f"test {scores} (best of {tuned.steps} steps at {tuned.best_step})")
    typer.echo(f"predictions: {folder / 'predictions.parquet'}")


@command(places=("out",))
def report(given: dict[str, Any]) -> None:
    """Make a run folder's report.html anew."""
    _need(given, "out")
    from tsds_jax.report import write_report

    typer.echo(f"report: {write_report(Path(given['out']))}")


def _new_file(name: str, ending: str) -> Path:
    path = Path(name)
    if path.suffix != ending:
        raise InputError(f"out {name} does not end in {ending}: give a file name that does")
    if path.exists():
        raise InputError(f"{name} exists: remove it or give another name")
    if not path.parent.is_dir():
        raise InputError(f"folder {path.parent} does not exist: make it first")
    return path


def _show(folder: Path) -> None:
    """The outcome of a run in a few lines, from its own files."""
    from tsds_jax.report.outcome import outcome

    typer.echo(outcome(folder))
    typer.echo(f"report: {folder / 'report.html'}")


if __name__ == "__main__":
    main()
