"""The processes of one job: how several find each other, and the place where each of them writes.

All run the same program on the same input and share the devices' work (`tsds_jax.runtime.spread`), so that each holds
all results. The first one's files are the job's; the others write to temporary places of their own.
"""

import functools
import inspect
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ParamSpec

import jax
import numpy as np
from jax.experimental import multihost_utils

from tsds_jax.errors import InputError
from tsds_jax.runtime.files import MANIFEST, as_path
from tsds_jax.runtime.lock import LOCK, take

P = ParamSpec("P")
AUTO = "auto"
_PIECE = 2**26
# Seconds that a process which failed alone waits for the others before it ends.
_FAREWELL = 20
# Places that this process has at present.
_OWN: list[Path] = []


def join_job(coordinator: str | None, processes: int | None = None, process: int | None = None) -> bool:
    """Makes this process one of its job's, before JAX looks for devices; whether the job has others.

    Args:
      coordinator: ``HOST:PORT`` of the first process, for all the same; ``"auto"`` has JAX ask the cluster (a TPU pod,
        SLURM, Open MPI, Kubernetes).
      processes: how many there are, with a host and a port.
      process: which one this is, from 0, with a host and a port.

    Raises:
      InputError: numbers without a coordinator or the other way round, or a job that cannot be joined.
    """
    explicit = coordinator not in (None, AUTO)
    if explicit and (processes is None or process is None):
        raise InputError(f"coordinator {coordinator} is given without processes and process: give all three")
    if not explicit and (processes is not None or process is not None):
        raise InputError("processes and process are given without a coordinator: give HOST:PORT of the first process")
    # It would take SIGTERM over, at which a run writes what it has reached.
    jax.config.update("jax_enable_preemption_service", False)
    given = (coordinator, processes, process) if explicit else ()
    try:
        jax.distributed.initialize(*given, shutdown_timeout_seconds=_FAREWELL)  # type: ignore[misc]
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"the job's other processes cannot be joined ({reason}): give coordinator HOST:PORT") from None
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one whose files are the job's."""
    return jax.process_index() == 0


def any_says(*true: bool) -> tuple[bool, ...]:
    """Whether each of these is true in any process."""
    if jax.process_count() == 1:
        return true
    return tuple(multihost_utils.process_allgather(np.asarray(true)).any(axis=0).tolist())


def from_first(content: bytes) -> bytes:
    """The first process's bytes, in all of them, whatever the others give."""
    if jax.process_count() == 1:
        return content
    pieces = int(multihost_utils.broadcast_one_to_all(np.int32(-(-len(content) // _PIECE))))
    return b"".join(_shared(content[number * _PIECE : (number + 1) * _PIECE]) for number in range(pieces))


def first_says(what: str) -> str:
    """What the first process says, in all of them; that there is only one JAX need not look for devices to know."""
    return from_first(what.encode()).decode() if _several() else what


def _shared(piece: bytes) -> bytes:
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(piece))))
    mine = np.frombuffer(piece, np.uint8) if is_first() else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(mine)).astype(np.uint8).tobytes()


@contextmanager
def own_place(name: str | os.PathLike, *, is_file: bool = False) -> Iterator[Path]:
    """Where this process writes what the job writes to a folder: there, or in a temporary copy of what is there.

    An earlier run goes on alike in all processes, for all begin with the first one's files. No other job writes there
    meanwhile. Within such a place this process has it already.

    Args:
      name: of the folder.
      is_file: whether it is a file in place of a folder, of which the caller sees that nobody else writes it.

    Raises:
      InputError: another job writes there; in all processes.
    """
    out = as_path(name)
    whole = out.absolute().resolve()
    if any(place == whole or place in whole.parents for place in _OWN):
        yield out
        return
    with ExitStack() as stack:
        refused, held = "", {}
        first = not _several() or is_first()
        if first:
            try:
                if not is_file:
                    stack.enter_context(take(out / LOCK, out))
            except InputError as error:
                refused = str(error)
            held = _files(out) if _several() and not refused else {}
        if _several():
            refused, held = json.loads(from_first(json.dumps([refused, held]).encode()))
        if refused:
            raise InputError(refused)
        own = out if first else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tsds-process-")))
        if not first:
            own = own / (out.name or "out")
        for file, size in held.items():
            target = own / file if file else own
            if file.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            # The first has them, and only sends.
            with open(os.devnull if first else target, "wb") as copy:
                for begin in range(0, size, _PIECE):
                    copy.write(_shared(_piece(out / file, begin) if first else b""))
        here = own.absolute().resolve()
        _OWN.append(here)
        stack.callback(_OWN.remove, here)
        yield own


@contextmanager
def kept_from_others(folders: Iterable[Path]) -> Iterator[None]:
    """Within an `own_place`, which no other job writes to itself: nor does one write to these folders in it meanwhile.

    Raises:
      InputError: another job writes to one of them; in all processes.
    """
    with ExitStack() as stack:
        refused = ""
        try:
            for folder in folders:
                stack.enter_context(take(folder / LOCK, folder))
        except InputError as error:
            refused = str(error)
        if refused := first_says(refused):
            raise InputError(refused)
        yield


def in_own_place(function: Callable[P, Path]) -> Callable[P, Path]:
    """The function, which writes to its ``out`` and returns that: see `own_place`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> Path:
        try:
            bound = signature.bind(*args, **given)
        except TypeError:
            return function(*args, **given)  # which says it in Python's own words
        out = bound.arguments["out"]
        with own_place(out) as own:
            bound.arguments["out"] = own
            function(*bound.args, **bound.kwargs)
        return as_path(out)

    return call


def _several() -> bool:
    """Whether the job has several processes; JAX need not look for devices to say no."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def _files(out: Path) -> dict[str, int]:
    """Folders (with a slash behind) and files under ``out`` with their sizes, where a run lies there; else no bytes."""
    if not out.is_dir():
        return {"": 0} if out.exists() else {}
    found, run = {"/": 0}, any(out.glob(f"**/{MANIFEST}"))
    for path in sorted(out.rglob("*")):
        if path.is_symlink() or path.name == LOCK:
            continue
        name = path.relative_to(out).as_posix()
        found[name + "/" * path.is_dir()] = path.stat().st_size if run and path.is_file() else 0
    return found


def _piece(file: Path, first: int) -> bytes:
    with open(file, "rb") as opened:
        opened.seek(first)
        return opened.read(_PIECE)
