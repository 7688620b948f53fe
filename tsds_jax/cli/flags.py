"""Flags made from places and option classes, a config file under them, and errors in the command line's words."""

import dataclasses
import errno
import functools
import inspect
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from tsds_jax.errors import InputError, TsdsError
from tsds_jax.options import FineTuneOptions, SelectOptions

app = typer.Typer(
    name="tsds",
    help="Find doubtful labels and training rows to remove, and fine-tune a language model on the rest.",
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
    "validation": (str, "Validation rows; else --train's own validation split, else set apart from the training rows."),
    "test": (str, "Test rows, on which nothing is decided; else --train's own test split."),
    "data": (str, "Rows; kinds of files as for --train of run."),
    "text": (str, "Text column (text if not given), or two joined by a comma for sentence pairs."),
    "label": (str, "Label column (label if not given)."),
    "model": (str, "Hugging Face folder, cached or hub name of the target language model."),
    "cache": (str, "Folder that keeps representations, so that the same texts are embedded once."),
    "checkpoint_every": (float, "Seconds between writes of what is under way (60)."),
    "compare_seeds": (
        int,
        "Seeds that each compared model is fine-tuned by (1), over which intervals are then too.",
    ),
    "dtype": (str, "Number type of the weights, float32 (if not given) or bfloat16."),
    "out": (str, "Folder (a file for embed) for what this command writes."),
    "seeds": (str, "Several seeds joined by commas: one run each, and the mean of their metrics."),
    "train_rows": (int, "Training tweets (2000 if not given)."),
    "validation_rows": (int, "Validation tweets (1000)."),
    "test_rows": (int, "Test tweets (1500)."),
    "flips": (float, "Share of training labels to flip, 0 to 0.5."),
    "methods": (
        str,
        "Methods joined by commas: shapley (ours), oracle (told the flips), and others such as loss, knn_shapley, "
        "data_oob, random (an unknown name has all listed).",
    ),
    "noise": (str, "How labels are flipped: uniform or class_dependent."),
    "flip_shares": (str, "Shares of training labels to flip, joined by commas (0,0.1)."),
    "finetuned": (str, "Methods without whose lowest rows the model is fine-tuned too, joined by commas."),
    "finetuned_shares": (str, "Shares of rows it is fine-tuned without, beside those at the index, joined by commas."),
    "confidence": (str, "Column that is low where a label is doubtful, such as the share of a crowd that gave it."),
    "confident_from": (float, "Labels with less confidence count as doubtful (0.7)."),
    "coordinator": (str, "HOST:PORT of the job's first process, or auto, where a job has several (see --processes)."),
    "processes": (int, "How many processes the job has; SLURM and Open MPI say so themselves."),
    "process": (int, "Which of them this is, from 0."),
    "test_fraction": (float, "Share of the rows set apart for testing where a data set has no test rows (0.3)."),
}
_SWITCHES = {
    "resume": "Go on with what an earlier try of this run finished.",
    "overwrite": "Remove the earlier run that the folder holds.",
}
# Of these there may be several: joined by commas, or in a config file a list.
_SEVERAL: dict[str, Any] = {
    "data": str,
    "text": str,
    "layer": int,
    "methods": str,
    "flip_shares": float,
    "seeds": int,
    "finetuned": str,
    "finetuned_shares": float,
}
_ONE_OR_SEVERAL = ("text", "layer")
# Either says how long to train. Of the built options nobody can tell which was asked for, since epochs has a default.
_LENGTHS = ("epochs", "steps")
# Options of which one alone is to be given: a flag wins over another in a config file.
_ALONE = (_LENGTHS, ("remove_count", "remove_share", "remove_below"))
# Which process of a job this is; and how launchers say how many it has, in whose jobs JAX finds its place itself.
JOB = ("coordinator", "processes", "process")
_LAUNCHED = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
# A disk that is full, read-only or not to be filled further by this user, and a file that may grow no more.
_NO_ROOM = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)
_KINDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def command(
    *,
    places: Iterable[str] = (),
    needs: Iterable[str] = (),
    options: Iterable[type] = (),
    only: Iterable[str] = (),
    without: Iterable[str] = (),
    switches: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
    meanings: Mapping[str, str] | None = None,
    takes_one: Iterable[str] = (),
    out_is_file: bool = False,
) -> Callable[[Callable[[dict[str, Any]], None]], None]:
    """Registers a command whose flags are made from `_PLACES`, option classes and switches.

    The function gets one dictionary of what was given, by flag or by file, and nothing else: defaults stay where
    they are defined, and ``defaults`` only tells the help of those that this command changes. What it ``needs`` is
    there. Where a place or an option means another thing to this command, ``meanings`` has it, and ``takes_one`` where
    it is not several as elsewhere.
    """

    def register(body: Callable[[dict[str, Any]], None]) -> None:
        kinds = {name: _PLACES[name] for name in places}
        shown: dict[str, Any] = {}
        for options_class in options:
            hints = get_type_hints(options_class)
            for item in dataclasses.fields(options_class):
                if item.name not in kinds and item.name not in without and (not only or item.name in only):
                    kinds[item.name] = (_plain(hints[item.name]), item.metadata["help"])
                    shown[item.name] = item.default
        kinds |= {name: (bool, _SWITCHES[name]) for name in switches}
        kinds |= {name: (kinds[name][0], meaning) for name, meaning in (meanings or {}).items()}
        shown |= defaults or {}
        flags = {name: _flag(name, kind, meaning, shown.get(name)) for name, (kind, meaning) in kinds.items()}
        flags["config"] = _flag("config", str, "TOML file with any of these options.")
        flags["traceback"] = Annotated[bool, typer.Option("--traceback", help="Show where in the code an error arose.")]
        several = {name: kind for name, kind in _SEVERAL.items() if name not in takes_one}
        can_resume, shares = "resume" in switches, set(JOB) <= set(places)

        @functools.wraps(body)
        def call(**flagged: Any) -> None:
            with_traceback = bool(flagged.pop("traceback"))
            # A job that is told to end ends as by Ctrl-C: nothing half written stays behind, and it says how to go on.
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)
            asked: dict[str, Any] = flagged  # what a config file says besides is known once it has been read
            began = time.time()

            def going_on() -> str:
                if asked.get("overwrite") and _untouched(asked, began):
                    return "the same command"
                return "the same command with --resume" + " in place of --overwrite" * bool(asked.get("overwrite"))

            try:
                given = _settle(flagged, {name: kind for name, (kind, _) in kinds.items()}, several)
                asked = dict(given)
                for name in needs:
                    if name not in given:
                        raise InputError(f"--{name} is missing: {kinds[name][1]}")
                with _in_job(given, out_is_file) if shares else nullcontext(given) as own:
                    body(own)
            except KeyboardInterrupt:
                _fail("stopped" + (f": {going_on()} goes on" if can_resume else ""), 130)
            except Exception as error:
                if with_traceback:
                    traceback.print_exc()
                if isinstance(error, OSError) and error.errno in _NO_ROOM:
                    place = error.filename or flagged.get("out") or "a file"
                    way_out = "make room" + (f", and {going_on()} goes on" if can_resume else "")
                    _fail(f"{place} cannot be written ({str(error.strerror).lower()}): {way_out}", 1)
                if isinstance(error, TsdsError):
                    _fail(_as_flags(str(error), can_resume), error.exit_code)
                _fail(f"{type(error).__name__}: {error}"[:500] + " (--traceback shows where)", 1)
            finally:
                signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

        call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=False if name == "traceback" else None,
                    annotation=annotation,
                )
                for name, annotation in flags.items()
            ]
        )
        call.__annotations__ = dict(flags)
        app.command(name=body.__name__)(call)

    return register


@contextmanager
def _in_job(given: dict[str, Any], out_is_file: bool) -> Iterator[dict[str, Any]]:
    """What was given, to this process of a job of several: all but the first write and print to nowhere."""
    coordinator, processes, process = (given.pop(name, None) for name in JOB)
    if coordinator is None and any(os.environ.get(name, "1") != "1" for name in _LAUNCHED):
        coordinator = "auto"
    if coordinator is processes is process is None:
        yield given
        return
    from tsds_jax.runtime.processes import is_first, join_job, own_place

    if not join_job(coordinator, processes, process):
        yield given
        return
    if "out" not in given:
        raise InputError("--out is missing: the folder of all processes of the job")
    with own_place(given["out"], is_file=out_is_file) as out, open(os.devnull, "w") as nowhere:
        if is_first():
            yield given
        else:
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield given | {"out": str(out)}


def _untouched(given: dict[str, Any], began: float) -> bool:
    """Whether the run that was to be overwritten is there as it was then."""
    from tsds_jax.runtime.files import as_path

    place = as_path(given.get("out") or "tsds-demo")  # only the demo has a folder that need not be given
    manifests = [*place.glob("manifest.json"), *place.glob("seed-*/manifest.json")]
    # A file's time is that of the last tick of the system's clock.
    return bool(manifests) and all(one.stat().st_mtime < began - 0.01 for one in manifests)


def _plain(kind: Any) -> type:
    """The type of an option that may also be None; of one that may be several, joined by commas, a string."""
    if any(get_origin(part) is tuple for part in get_args(kind)):
        return str
    return next((part for part in get_args(kind) if part is not type(None)), kind)


def _flag(name: str, kind: type, meaning: str, default: Any = None) -> Any:
    flag = f"--{name}" if name == "C" else f"--{name.replace('_', '-')}"
    # Off again, where the config file says on.
    flag = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    shown = default is not None and kind is not bool and str(default)
    return Annotated[kind | None, typer.Option(flag, help=meaning, show_default=shown)]


def _settle(flagged: dict[str, Any], kinds: Mapping[str, type], several: Mapping[str, Any]) -> dict[str, Any]:
    """What was given: the config file's entries under the flags."""
    config = flagged.pop("config")
    given = {} if config is None else _read_config(config, kinds, several)
    flags = {name: entry for name, entry in flagged.items() if entry is not None}
    for names in _ALONE:
        if not flags.keys().isdisjoint(names):
            given = {name: entry for name, entry in given.items() if name not in names}
    given.update(flags)
    if given.keys() >= set(_LENGTHS):
        raise InputError(f"{' and '.join(_LENGTHS)} both say how long to train: give one of them")
    for name in several.keys() & given.keys():
        entry = _split(name, given[name])
        given[name] = entry[0] if len(entry) == 1 and name in _ONE_OR_SEVERAL else entry
    return given


def _split(name: str, entry: Any) -> tuple[Any, ...]:
    """What was given, one or several or several joined by commas, as several."""
    kind = _SEVERAL[name]
    given = entry if isinstance(entry, tuple) else (entry,)
    if isinstance(entry, str) and "," in entry:  # a name by itself may begin or end with a space
        given = tuple(part.strip() for part in entry.split(","))
    try:
        return tuple(map(kind, given))
    except ValueError:
        kinds = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{name} {entry!r:.60} are not {kinds}: give some, joined by commas") from None


def _read_config(config: str, kinds: Mapping[str, type], several: Mapping[str, Any]) -> dict[str, Any]:
    import tomllib

    from tsds_jax.runtime.files import as_path

    path = as_path(config)
    try:
        entries = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"config {config} cannot be read ({error.strerror}): give a TOML file") from None
    except ValueError as error:
        raise InputError(f"config {config} is no TOML: {' '.join(str(error).split())}") from None
    given = {}
    for key, entry in entries.items():
        name = key.replace("-", "_")
        if name not in kinds:
            raise InputError(f"config {config} has {key!r}, which this command does not know: use {', '.join(kinds)}")
        kind, many = several.get(name, kinds[name]), name in several
        # A whole number is a number too, but true is none.
        fit = {int, float} if kind is float else {kind}
        parts = entry if many and isinstance(entry, list) else [entry]
        joined = many and isinstance(entry, str)
        if not parts or (not joined and not fit.issuperset(map(type, parts))):
            words = _KINDS[kind] + (", or a list of such" if many else "")
            raise InputError(f"config {config}: {key} is {str(entry)[:60]!r}: give {words}")
        given[name] = entry if joined else tuple(parts) if many else kind(entry)
    return given


def _part(given: dict[str, Any], kind: type) -> dict[str, Any]:
    """The entries that are fields of ``kind``."""
    names = {item.name for item in dataclasses.fields(kind)}
    return {name: entry for name, entry in given.items() if name in names}


def arguments_of(given: dict[str, Any], base: FineTuneOptions) -> dict[str, Any]:
    """Of `run` and its like: fine-tuning's options as one, over those of ``base``, and all others by their names.

    A name of both options, such as max_length, is for both.
    """
    rest, finetuning = without_tuning(given, base)
    return {**rest, **_part(given, SelectOptions), "finetuning": finetuning}


def without_tuning(given: dict[str, Any], base: FineTuneOptions) -> tuple[dict[str, Any], FineTuneOptions]:
    """What is no option of fine-tuning, and those that are over those of ``base``."""
    tuning = _part(given, FineTuneOptions)
    rest = {name: entry for name, entry in given.items() if name not in tuning}
    return rest, dataclasses.replace(base, **tuning)


def _as_flags(message: str, can_resume: bool) -> str:
    """A function's message in the command line's words: it speaks of arguments, which are flags here."""
    way_out = "resume it (--resume), overwrite it (--overwrite), or" if can_resume else "overwrite it (--overwrite) or"
    return message.replace("resume it, overwrite it, or", way_out).replace("text= and label=", "--text and --label")


def _fail(message: str, code: int) -> None:
    typer.echo(f"tsds: error: {' '.join(message.split())}", err=True)
    raise typer.Exit(code)
