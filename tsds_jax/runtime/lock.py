"""One writer a place: the system's lock on a file, which ends with the process that has it, however that ends.

Readers ask nobody. Where the system or the file system has no such locks, everything goes on without.
"""

import contextlib
import os
import socket
import weakref
from pathlib import Path
from typing import IO, Self

from tsds_jax.errors import InputError

LOCK = ".lock"

# A process may take its place again within itself.
_TAKEN: "weakref.WeakValueDictionary[Path, Lock]" = weakref.WeakValueDictionary()


class Lock:
    """A place that is this process's own until the context ends, or until nothing refers to this any more."""

    def __init__(self, file: Path, what: Path) -> None:
        """Takes it.

        Args:
          file: that is locked; its folder is made, and neither stays.
          what: the file or folder that it is about.

        Raises:
          InputError: another process has it.
        """
        new = [folder for folder in file.parents if not folder.exists()]
        opened = _locked(file, what)
        self._let_go = weakref.finalize(self, _let_go, file, opened, new)

    @property
    def held(self) -> bool:
        """Whether it is this process's own."""
        return self._let_go.alive

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Lets the place go."""
        self._let_go()


def take(file: Path, what: Path) -> Lock:
    """The lock, which is the one that this process has already, where it has one; see `Lock`."""
    key = file.absolute().resolve()
    taken = _TAKEN.get(key)
    if taken is None or not taken.held:
        taken = _TAKEN[key] = Lock(file, what)
    return taken


def _locked(file: Path, what: Path) -> IO[str] | None:
    """The file, opened and locked; None where it cannot be, which whoever writes will say if it matters."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    there = os.path.exists(file)  # where `Path.exists` raises: its name may be too long
    with contextlib.ExitStack() as failed:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            while True:
                opened = failed.enter_context(open(file, "a+", encoding="utf-8"))
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.suppress(FileNotFoundError):
                    # Or the one before has removed it since it was opened, and a third may have the next.
                    if os.path.samestat(os.fstat(opened.fileno()), os.stat(file)):
                        break
        except BlockingIOError:
            opened.seek(0)
            by = opened.read(200).strip() or "another process"
            raise InputError(f"{what} is in use by {by}: wait for its end, or give another folder") from None
        except OSError as error:
            if isinstance(error, PermissionError) and there:
                raise InputError(
                    f"{what} has another user's lock: wait for their run's end, remove {file} where there is none, or"
                    " give another folder"
                ) from None
            if not there:
                with contextlib.suppress(OSError):
                    file.unlink()
            return None
        with contextlib.suppress(OSError):
            opened.truncate(0)
            opened.write(f"process {os.getpid()} on {socket.gethostname()}")
            opened.flush()
        failed.pop_all()
    return opened


def _let_go(file: Path, opened: IO[str] | None, new: list[Path]) -> None:
    """Removes what was made for the lock alone, and frees it."""
    with contextlib.suppress(OSError):  # a full folder stays
        if opened is not None:
            with opened:
                file.unlink()
        for folder in new:
            folder.rmdir()
