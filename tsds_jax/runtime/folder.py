"""The folder of a run: whose it is, and what is finished in it."""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tsds_jax.errors import InputError
from tsds_jax.runtime.files import (
    MANIFEST,
    Arrays,
    abandoned,
    as_path,
    atomic,
    check_writable,
    read_arrays,
    remove,
    write_arrays,
)
from tsds_jax.runtime.lock import LOCK
from tsds_jax.runtime.processes import first_says, own_place

# Everything a run may leave in its folder; --overwrite removes these and nothing else.
_OWN = (
    "values.parquet",
    "predictions.parquet",
    "suspects.csv",
    "validation-suspects.csv",
    "evaluation.json",
    "evaluation.md",
    "curves",
    "selection.json",
    "finetune.json",
    "metrics.jsonl",
    "report.html",
    "validation",
    "validation.csv",
    "validation.tsv",
    "validation.jsonl",
    "validation.parquet",
    "kept",
    "kept.csv",
    "kept.tsv",
    "kept.jsonl",
    "kept.parquet",
    "checkpoints",
    "model",
    "state",
    MANIFEST,
)

Keep = Callable[[str, Callable[[], Arrays]], Arrays]


def keep_nothing(name: str, compute: Callable[[], Arrays]) -> Arrays:
    """Computes the stage and keeps no copy: for work without a run folder."""
    return compute()


class Timed:
    """A `Keep` that tells how long a stage takes: what an earlier try finished counts as long as it took then."""

    def __init__(self, keep: Keep):
        """For a stage that begins now, and has its arrays kept by ``keep``."""
        self.keep, self.began, self.earlier = keep, time.perf_counter(), 0.0

    def __call__(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """What ``keep`` gives, with the "seconds" that it took to compute, unless it says itself how many."""
        began = time.perf_counter()

        def measured() -> Arrays:
            arrays = compute()
            return {"seconds": np.asarray(time.perf_counter() - began), **arrays}

        arrays = self.keep(name, measured)
        now = time.perf_counter() - began
        self.earlier += max(float(arrays.get("seconds", 0.0)) - now, 0.0)
        return arrays

    @property
    def seconds(self) -> float:
        """Since the stage began, and before in earlier tries."""
        return time.perf_counter() - self.began + self.earlier


@dataclass(frozen=True)
class Part:
    """Where a stage that is under way keeps what it has reached, and goes on from after a stop.

    Attributes:
      file: for a valuation; of that name without its ending, a folder for all else. None keeps nothing.
      every: seconds between two writes.
    """

    file: Path | None = None
    every: float = 60.0

    @property
    def folder(self) -> Path | None:
        """See ``file``."""
        return self.file and self.file.with_suffix("")

    @property
    def of_value(self) -> dict[str, Any]:
        """What `tsds_jax.value` has to be told."""
        return {} if self.file is None else {"checkpoint": self.file, "checkpoint_every": self.every}

    def of_model(self, name: str = "model") -> dict[str, Any]:
        """What `tsds_jax.finetune` has to be told for one of the stage's models."""
        return (
            {}
            if self.folder is None
            else {"folder": self.folder / name, "resume": True, "checkpoint_every": self.every}
        )


PartOf = Callable[[str], Part]
# For work without a run folder.
NOT_KEPT = Part()


def no_part(name: str) -> Part:
    """Keeps nothing of a stage that is under way."""
    return NOT_KEPT


@dataclass(frozen=True)
class RunFolder:
    """An opened run folder. Make it with `open_run`.

    Attributes:
      path: of the folder.
      every: seconds between two writes of a stage that is under way.
      place: what keeps others from writing to the folder, as long as it is referred to.
    """

    path: Path
    every: float = 60.0
    place: Any = field(default=None, repr=False, compare=False)

    @property
    def finished(self) -> bool:
        """Whether its manifest says that the run came to its end."""
        return (_manifest(self.path) or {}).get("status") == "finished"

    def remove(self, name: str) -> None:
        """Removes a file or a folder of the run, if it is there."""
        remove(self.path / name)

    def keep(self, name: str, compute: Callable[[], Arrays], *, anew: bool = False) -> Arrays:
        """The arrays of stage ``name``: read where an earlier try finished it, else (or ``anew``) computed and written.

        A file is complete or absent, since it gets its name by one rename after all of it is on disk.
        """
        file = self.path / "state" / f"{name}.npz"
        if file.exists() and not anew:
            return read_arrays(file, "delete it, and this stage is done again")
        began = time.perf_counter()
        arrays = compute()
        self.log(name, seconds=round(time.perf_counter() - began, 3))
        write_arrays(file, arrays)
        part = self.part(name)
        for left in (part.file, part.folder):
            assert left is not None
            remove(left)
        return arrays

    def part(self, name: str) -> Part:
        """What is there of stage ``name`` while it is under way: removed once it is finished."""
        return Part(self.path / "state" / f"{name}-part.npz", self.every)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file, whole or not at all."""
        self.write_text(name, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, whole or not at all."""
        with atomic(self.path / name) as temporary:
            # A file's name need not be UTF-8; what Python has for such a byte is an escape in JSON.
            temporary.write_text(text, "utf-8", "backslashreplace")

    def log(self, stage: str, **fields: Any) -> None:
        """Appends one line to ``metrics.jsonl``."""
        line = json.dumps({"time": round(time.time(), 3), "stage": stage, **fields}, ensure_ascii=False)
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8", errors="backslashreplace") as out:
            out.write(line + "\n")


def open_run(
    folder: str | os.PathLike,
    identity: Mapping[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
    every: float = 60.0,
) -> RunFolder:
    """Opens a run folder for the run that ``identity`` describes, and signs it with a manifest.

    Args:
      folder: made where it does not exist.
      identity: what makes this run this run (version, seed, options, data hashes); JSON values.
      resume: go on with what an earlier try of the same run finished.
      overwrite: remove an earlier run first. Files that no run writes are left alone.
      every: see `RunFolder`.

    Raises:
      InputError: the folder holds another run, or files of something else; or it cannot be written, or is in use.
    """
    with ExitStack() as stack:
        path = stack.enter_context(own_place(folder))
        _sign(path, identity, resume, overwrite)
        return RunFolder(path, every, stack.pop_all())


def clear_run(path: Path) -> None:
    """Removes what a run has written to a folder, if there is one; files that no run writes are left alone."""
    earlier = _manifest(path)
    if earlier is not None:
        # Stopped within the removal, it would still be said to be finished.
        RunFolder(path).write_json(MANIFEST, {**earlier, "status": "running"})
        for name in _OWN:
            remove(path / name)


def _sign(path: Path, identity: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
    check_run_folder(path, resume=resume, overwrite=overwrite)
    earlier = _manifest(path)
    if earlier is not None and resume:
        difference = first_difference(earlier.get("identity", {}), identity)
        if difference:
            raise InputError(f"{path} holds a run with {difference}: resume with the same, or give another folder")
    if overwrite:
        clear_run(path)
    try:
        (path / "state").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {path} cannot be made ({error.strerror}): give one that can be written") from None
    for place in (path, path / "state"):
        for left in abandoned(place):
            remove(left)
    if _manifest(path) is None:
        RunFolder(path).write_json(MANIFEST, {"status": "running", "identity": dict(identity)})


def check_run_folder(folder: str | os.PathLike, *, resume: bool = False, overwrite: bool = False) -> None:
    """Raises InputError, before any work, where `open_run` would refuse the folder whatever the run."""
    path = as_path(folder)
    if resume and overwrite:
        raise InputError("both resume and overwrite were asked for: give one of them")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: give a folder for the run")
    check_writable(path)
    if not path.is_dir() or _barely_begun(path):
        return
    if _manifest(path) is None:
        raise InputError(f"folder {path} holds files that are no run's: give a new or empty folder")
    if not (resume or overwrite):
        raise InputError(f"folder {path} holds another run: resume it, overwrite it, or give another folder")


def check_place(
    folder: str | os.PathLike,
    inputs: Iterable[Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
    cache: str | os.PathLike | None = None,
) -> None:
    """`check_run_folder` and `check_outside`: whether a run from these inputs could be written to the folder."""
    check_run_folder(folder, resume=resume, overwrite=overwrite)
    check_outside(folder, inputs, overwrite=overwrite, cache=cache)


def check_outside(
    folder: str | os.PathLike,
    inputs: Iterable[Any],
    *,
    overwrite: bool,
    cache: str | os.PathLike | None = None,
) -> None:
    """Raises InputError, before any work, where a run would remove what it is made from, or bar its own way.

    In a job of several processes the first one's folder is looked at, and all of them raise.

    Args:
      folder: of the run.
      inputs: what the run is made from: paths, and rows or encoders that were read from one; none may be among what
        ``overwrite`` removes.
      overwrite: see `open_run`.
      cache: that is written before the folder is opened, and would be nobody's in a new one.
    """
    path, refused = as_path(folder), ""
    if not path.is_dir() or _barely_begun(path):
        if cache is not None and _is_within(as_path(cache), path):
            refused = f"cache {cache} lies in {path}, which has to be new or empty: give another place"
    elif overwrite and (own := [source for source in map(_place, inputs) if _is_own(source, path)]):
        refused = (
            f"{own[0]} is of the run in {path} that overwrite would remove: copy it elsewhere first, or give another"
            " folder"
        )
    if refused := first_says(refused):
        raise InputError(refused)


def _is_within(path: Path, folder: Path) -> bool:
    """Whether this is the folder or lies in it, whatever links lead there."""
    return path.resolve().is_relative_to(folder.resolve())


def _place(source: Any) -> Any:
    """Where rows or an encoder were read from; a path as it is."""
    return getattr(source, "folder", getattr(source, "source", source))


def _is_own(source: Any, folder: Path) -> bool:
    """Whether a source is a path, or ``FOLDER@SPLIT``, of what a run has written to the folder, or of all of it."""
    if not isinstance(source, str | os.PathLike):
        return False
    name = os.path.expanduser(source)
    # A hub name is the name of no file, nor is that of rows set apart, which may even be too long for one.
    places = [Path(one).resolve() for one in (name, name.rpartition("@")[0]) if os.path.exists(one)]
    parts = [place.relative_to(folder.resolve()).parts for place in places if _is_within(place, folder)]
    return any(not part or part[0] in _OWN for part in parts)


def _barely_begun(folder: Path) -> bool:
    """Whether all that is there is from a run that has no manifest yet, or was killed before it had one."""
    state, known = folder / "state", {folder / "state", folder / LOCK, *abandoned(folder)}
    return {*folder.iterdir()} <= known and not (state.exists() and any(state.iterdir()))


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((path / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "identity" in content else None


def first_difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first entry in which two runs differ, in words; empty where they agree."""
    now = json.loads(json.dumps(now))
    for key in sorted(set(earlier) | set(now)):
        a, b = earlier.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            inner = first_difference(a, b)
            if inner:
                return f"{key}.{inner}"
        elif a != b:
            return f"{key} {str(a)[:60]} instead of {str(b)[:60]}"
    return ""
