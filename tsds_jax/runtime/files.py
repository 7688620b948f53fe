"""Files: paths as given, writes that are whole or absent, arrays read without pickle."""

import errno
import io
import os
import re
import secrets
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tsds_jax.errors import InputError, TsdsError

# Of a run's folder, and by which it is known as one.
MANIFEST = "manifest.json"

# What NumPy raises for an .npz that is cut, damaged or pickled.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)

Arrays = dict[str, np.ndarray]


def as_path(name: str | os.PathLike) -> Path:
    """The path of this name, ``~`` being the home folder.

    Raises:
      InputError: no file can have that name, or the system does not say whether there is one.
    """
    text = os.fspath(name)
    try:
        path = Path(text).expanduser()
        if text.strip():
            os.lstat(path)
            return path
        reason = "it is empty"
    except (FileNotFoundError, NotADirectoryError):
        return path
    except PermissionError:
        raise InputError(f"{text} lies in a folder that is not open to this user: give another place") from None
    except OSError as error:
        reason = str(error.strerror).lower()
    except (ValueError, RuntimeError) as error:  # a NUL; a user that there is not
        reason = str(error)
    raise InputError(f"{text[:60]!r} is no path ({reason}): give the name of a file or a folder")


def check_writable(name: str | os.PathLike) -> None:
    """Raises InputError where nothing can be written under that path, or where it could not be made."""
    path = as_path(name)
    parent = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not parent.is_dir():
        raise InputError(f"{parent} is a file: give another place than {path}")
    try:
        with tempfile.TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): give another place") from None


def check_new_file(name: str | os.PathLike, ending: str) -> Path:
    """The path of a file to be written.

    Raises:
      InputError: the name does not end in this, there is something of the name, its folder is missing or not writable.
    """
    path = as_path(name)
    if path.suffix != ending:
        raise InputError(f"out {name} does not end in {ending}: give a file name that does")
    if path.exists():
        raise InputError(f"{name} exists: remove it or give another name")
    if not path.parent.is_dir():
        raise InputError(f"folder {path.parent} does not exist: make it first")
    check_writable(path.parent)
    return path


@contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """Context of a temporary path that takes the place of ``target``, a file or a folder, when its block ends well.

    All of it is on disk before it gets the name, so that not even a lost power leaves half of it there. Where the block
    fails, what it wrote is removed.
    """
    # Not the process's number: other threads and other machines may write the same target at once. Cut, for a name of
    # more than 255 bytes cannot be.
    name = os.fsencode(target.name)[:240].decode(errors="ignore")
    temporary = target.with_name(f".{name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        for part in (*temporary.rglob("*"), temporary):
            _to_disk(part)
        os.replace(temporary, target)
        _to_disk(target.parent)
    finally:
        remove(temporary)


def abandoned(folder: Path) -> list[Path]:
    """What writers that were killed left in the folder: `atomic` would have given it a name."""
    return [path for path in folder.glob(".*.part") if re.fullmatch(r"\..+\.[0-9a-f]{8}\.part", path.name)]


def remove(path: Path) -> None:
    """Removes a file, a link, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_arrays(file: Path, way_out: str, content: bytes | None = None) -> Arrays:
    """What `write_arrays` wrote. Raises TsdsError with the way out where it cannot be read, or holds a pickle.

    Args:
      file: its name, and where it is read from unless its content is given.
      way_out: what to do about a file that cannot be read.
      content: of the file.
    """
    try:
        return load_npz(file if content is None else io.BytesIO(content))
    except UNREADABLE as error:
        raise TsdsError(f"{file} cannot be read ({error}): {way_out}") from None


def load_npz(file: Path | io.BytesIO) -> Arrays:
    """All arrays of an .npz file. Raises one of `UNREADABLE` where it is none, or where one of them is a pickle."""
    if isinstance(file, Path) and not file.is_file():
        raise FileNotFoundError(errno.ENOENT, "it is no file")
    # NumPy takes all but archives and arrays for pickles, and its message tells how to run those.
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no whole .npz")
    with open(file, "rb") if isinstance(file, Path) else file as opened:
        stored = np.load(opened, allow_pickle=False)
        return {name: stored[name] for name in stored.files}


def write_arrays(file: Path, arrays: Arrays) -> None:
    """Writes an .npz file, whole or not at all, in a folder that is made where there is none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as temporary, open(temporary, "wb") as out:
        np.savez(out, **arrays)  # type: ignore[arg-type]


def _to_disk(path: Path) -> None:
    """Waits until the system has written what it holds of a file, or of a folder's list of names."""
    folder = path.is_dir()
    try:
        opened = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    except PermissionError:
        if folder:  # Windows opens none, and needs it not.
            return
        raise
    try:
        os.fsync(opened)
    except OSError as error:
        # Some network and user-space file systems do not know this of folders.
        if not folder or error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(opened)
