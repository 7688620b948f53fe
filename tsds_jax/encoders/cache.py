"""Representations kept on disk: an array that is mapped, not read, and counts beside it.

An entry is two files, ``KEY.npy`` and ``KEY.json``, which names the array's hash: an array that is cut, damaged or of
another writer does not fit it and is computed again.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tsds_jax.encoders.tokens import Texts
from tsds_jax.errors import InputError
from tsds_jax.runtime.files import UNREADABLE, atomic, check_writable
from tsds_jax.version import __version__

Counts = dict[str, int]

# Seconds after which a file that is still being written is taken for what a killed process left.
_ABANDONED = 24 * 3600.0
# Within so many seconds an array that was made is locked by its writer.
_BEGUN = 60.0


class Since(NamedTuple):
    """Attributes: how many rows are written, from the first, and what was counted so far."""

    rows: int
    counts: Counts


# Writes float32 rows into the array from where an earlier writer came to, says now and then how far it is, and returns
# what was counted from the first row on.
Fill = Callable[[np.ndarray, Since, Callable[[Since], None]], Counts]


class Entry(NamedTuple):
    """Attributes: the array, and what was counted while it was computed."""

    values: np.ndarray
    counts: Counts


def cache_key(encoder: str, texts: Texts, options: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over all that the vectors depend on.

    Args:
      encoder: its fingerprint.
      texts: in their order.
      options: what else changes the numbers; JSON values. The versions of the package and of what cuts texts into
        tokens count too.
    """
    digest = hashlib.sha256()
    for part in _parts(encoder, texts, options):
        # The lengths keep ("ab", "c") apart from ("a", "bc").
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _parts(encoder: str, texts: Texts, options: Mapping[str, Any]) -> Iterable[bytes]:
    yield __version__.encode()
    for package in ("transformers", "tokenizers"):
        yield importlib.metadata.version(package).encode()
    yield encoder.encode()
    yield json.dumps(options, sort_keys=True).encode()
    for text in texts:
        sides = (text,) if isinstance(text, str) else text
        yield str(len(sides)).encode()
        for side in sides:
            yield side.encode("utf-8", "surrogatepass")


def read_entry(file: Path, shape: tuple[int, int]) -> Entry | None:
    """The array that an earlier run wrote to the file, memory-mapped and read-only; None where there is no whole one.

    Args:
      file: ``FOLDER/KEY.npy``, with a key from `cache_key`.
      shape: of the array.
    """
    try:
        about = json.loads(file.with_suffix(".json").read_text("utf-8"))
        if about["sha256"] != _seal(file, about["counts"]):
            return None
        values = np.lib.format.open_memmap(file, mode="r")
    except (*UNREADABLE, TypeError):
        return None
    return Entry(values, about["counts"]) if values.shape == shape and values.dtype == np.float32 else None


def write_entry(file: Path, shape: tuple[int, int], fill: Fill, every: float = 60.0, *, go_on: bool = True) -> Entry:
    """The array, written to the file as it is computed, and read back memory-mapped and read-only.

    What a writer that was killed or interrupted had marked as written is not computed again. Two processes that write
    one entry at once both write it whole, and the last one's stays.

    Args:
      file: ``FOLDER/KEY.npy``; the folder is made where it does not exist.
      shape: of the array, not empty.
      fill: see `Fill`.
      every: seconds between marks.
      go_on: whether to go on from what another writer has marked.

    Raises:
      InputError: the folder cannot be written, or has no room.
    """
    check_writable(file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as locks:
        part, values, since = _begun(file, shape, locks, go_on)
        marks = _marks(part)
        digest = hashlib.sha256(values[: since.rows].data)
        reached, hashed, written = since, since.rows, time.monotonic()

        def write() -> None:
            nonlocal digest, hashed, written
            values.flush()
            # A copy, for an interrupt in here has it written again: no row may be hashed twice.
            further = digest.copy()
            further.update(values[hashed : reached.rows].data)
            with atomic(marks) as whole:
                whole.write_text(json.dumps({**reached._asdict(), "sha256": further.hexdigest()}), "utf-8")
            digest, hashed, written = further, reached.rows, time.monotonic()

        def mark(now: Since) -> None:
            nonlocal reached
            reached = now
            if time.monotonic() - written >= every:
                write()

        try:
            counts = fill(values, since, mark)
        except KeyboardInterrupt:
            if reached.rows:
                write()
            else:
                part.unlink()
            raise
        except BaseException:
            # What is marked stays for who goes on: the disk that is full has room another time.
            if not marks.exists():
                part.unlink(missing_ok=True)
            raise
        values.flush()
        seal = _seal(part, counts)
        with atomic(file) as whole:
            os.replace(part, whole)
        marks.unlink(missing_ok=True)
    _clear_abandoned(file)
    # Last, for an array without its counts is no entry.
    with atomic(file.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"counts": counts, "sha256": seal}) + "\n", "utf-8")
    return Entry(np.lib.format.open_memmap(file, mode="r"), counts)


def check_room(file: Path, shape: tuple[int, int]) -> None:
    """Raises InputError, as `write_entry` would, where the folder cannot be written or has no room for a new array."""
    check_writable(file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(file)
    _check_free(file.parent, shape)


def _begun(
    file: Path, shape: tuple[int, int], locks: contextlib.ExitStack, go_on: bool
) -> tuple[Path, np.memmap, Since]:
    """The array to write to, locked: one that a killed writer of this entry left and marked, or a new one."""
    for marks in sorted(file.parent.glob(f"{file.name}.*.marks")) if go_on else ():
        part = file.with_name(f".{marks.stem}.part")
        with contextlib.suppress(*UNREADABLE, TypeError):
            if not _lock(part, locks):
                continue
            about = json.loads(marks.read_text("utf-8"))
            values, since = np.lib.format.open_memmap(part, mode="r+"), Since(about["rows"], about["counts"])
            sealed = hashlib.sha256(values[: since.rows].data).hexdigest() == about["sha256"]
            if sealed and values.shape == shape and values.dtype == np.float32:
                for going_on in (part, marks):
                    os.utime(going_on)
                _clear_abandoned(file)
                return part, values, since
    _clear_abandoned(file)
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        values = _new_array(part, shape)
    except InputError:
        part.unlink(missing_ok=True)
        raise
    _lock(part, locks)
    return part, values, Since(0, {})


def _lock(part: Path, locks: contextlib.ExitStack) -> bool:
    """Whether no other writer held the file; this one does now, until it ends or dies."""
    try:
        import fcntl
    except ImportError:  # Windows: nobody is known to be dead, and nothing of theirs is gone on with.
        return False
    opened = open(part, "r+b")  # noqa: SIM115 - closed with the other locks
    locks.callback(opened.close)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _marks(part: Path) -> Path:
    """The file that says how far an array is written: ``KEY.npy.ab.marks`` beside ``.KEY.npy.ab.part``."""
    return part.with_name(part.name.removeprefix(".").removesuffix(".part") + ".marks")


def _clear_abandoned(file: Path) -> None:
    """Removes what killed writers of this entry left behind.

    That is an array without marks that nobody holds, and whatever is a day old: nobody writes for that long.
    """
    for left in (*file.parent.glob(f".{file.stem}.*.part"), *file.parent.glob(f"{file.name}.*.marks")):
        # Another process may have cleared it, or may not let it be.
        with contextlib.suppress(OSError), contextlib.ExitStack() as locks:
            age = time.time() - left.stat().st_mtime
            useless = left.suffix == ".part" and not _marks(left).exists()
            if age > _ABANDONED or (useless and age > _BEGUN and _lock(left, locks)):
                left.unlink()


def _seal(file: Path, counts: Counts) -> str:
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256")
    digest.update(json.dumps(counts, sort_keys=True).encode())
    return digest.hexdigest()


def _new_array(file: Path, shape: tuple[int, int]) -> np.memmap:
    _check_free(file.parent, shape)
    try:
        values: np.memmap = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # Its room is taken now: to run out of it while writing to a mapped file would kill the process.
            with open(file, "r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, _size(shape))
    except OSError as error:
        raise _full(file.parent, shape, str(error.strerror)) from None
    return values


def _check_free(cache: Path, shape: tuple[int, int]) -> None:
    if shutil.disk_usage(cache).free < _size(shape):
        raise _full(cache, shape, os.strerror(errno.ENOSPC))


def _size(shape: tuple[int, int]) -> int:
    """Bytes of a float32 array."""
    return 4 * shape[0] * shape[1]


def _full(cache: Path, shape: tuple[int, int], why: str) -> InputError:
    wanted = f"{_size(shape) / 2**20:,.0f} MiB ({why})"
    return InputError(f"cache {cache} has no room for {wanted}: make room or give another place")
