"""Several processes of one job: how they find each other, and the place where each of them writes.

All run the same program on the same input and share the devices' work (`tsds_jax.runtime.spread`), so that each holds
all results. The first one's files are the job's; the others write to temporary places of their own.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from tsds_jax.errors import InputError
from tsds_jax.runtime.folder import MANIFEST, as_path

AUTO = "auto"
_PIECE = 2**26
# Seconds that a process which failed alone waits for the others before it ends.
_FAREWELL = 20


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


def all_say(true: bool) -> bool:
    """Whether this is true in every process."""
    return true if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.asarray(true)).all())


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


def _shared(piece: bytes) -> bytes:
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(piece))))
    mine = np.frombuffer(piece, np.uint8) if is_first() else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(mine)).astype(np.uint8).tobytes()


@contextmanager
def own_place(out: str | os.PathLike) -> Iterator[str]:
    """Where this process writes what the job writes to ``out``: there, or in a temporary copy of what is there.

    An earlier run goes on alike in all processes, for all begin with the first one's files.
    """
    out, held = as_path(out), {}
    if is_first():
        held = _files(out)
    held = json.loads(from_first(json.dumps(held).encode()))
    with tempfile.TemporaryDirectory(prefix="tsds-process-") as folder:
        copy = Path(folder) / (out.name or "out")
        for name, size in held.items():
            target = copy / name if name else copy
            if name.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            # The first has them, and only sends.
            with open(os.devnull if is_first() else target, "wb") as file:
                for first in range(0, size, _PIECE):
                    file.write(_shared(_piece(out / name, first) if is_first() else b""))
        yield str(out) if is_first() else str(copy)


def _files(out: Path) -> dict[str, int]:
    """Folders (with a slash behind) and files under ``out`` with their sizes, where a run lies there; else no bytes."""
    if not out.is_dir():
        return {"": 0} if out.exists() else {}
    found, run = {"/": 0}, any(out.glob(f"**/{MANIFEST}"))
    for path in sorted(out.rglob("*")):
        if path.is_symlink():
            continue
        name = path.relative_to(out).as_posix()
        found[name + "/" * path.is_dir()] = path.stat().st_size if run and path.is_file() else 0
    return found


def _piece(file: Path, first: int) -> bytes:
    with open(file, "rb") as opened:
        opened.seek(first)
        return opened.read(_PIECE)
