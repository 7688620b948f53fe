"""From a source (a file, a folder, a hub name, a data set in memory) to rows with all their columns."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from tsds_jax.data.csvtext import parse_csv
from tsds_jax.data.jsontext import parse_jsonl
from tsds_jax.data.messages import listing, one_line, shorten
from tsds_jax.data.textdata import Format
from tsds_jax.errors import InputError
from tsds_jax.runtime.files import as_path
from tsds_jax.runtime.hub import hub_answers

_SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
_ACCEPTED = "a .csv, .tsv, .jsonl or .parquet file, a save_to_disk folder or a hub name NAME[:CONFIG][@SPLIT]"
_HUB_NAME = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*|\w[\w-]*)(?::(?P<config>[^:@/]+))?")


class Table(NamedTuple):
    """Rows of one split, not yet looked at.

    Attributes:
      rows: all columns.
      name: what messages call it.
      format: what `write_rows` would write.
    """

    rows: Dataset
    name: str
    format: Format


def read_source(source: Any, *, split: str | None = None) -> Table | dict[str, Table]:
    """Read a source: one table, or a table for each split where it has several and none is chosen.

    Args:
      source: a `datasets.Dataset` or `DatasetDict`, a path, or a hub name ``NAME[:CONFIG][@SPLIT]``. An
        existing path wins over a hub name; ``FOLDER@SPLIT`` chooses from a `save_to_disk` folder.
      split: the split to choose; the same as ``@SPLIT``.

    Raises:
      InputError: nothing there, an unknown kind of file, a file that is not UTF-8 or does not parse, or no
        such split.
    """
    if isinstance(source, Dataset):
        return _choose(source, "the Dataset", split)
    if isinstance(source, dict) and source and all(isinstance(part, Dataset) for part in source.values()):
        return _choose(source, "the DatasetDict", split)
    if not isinstance(source, str | Path):
        raise InputError(
            f"data cannot be read from a value of type {type(source).__name__}; "
            f"give {_ACCEPTED}, a datasets.Dataset or a DatasetDict"
        )
    path = as_path(source)
    if path.exists():
        return _read_path(path, str(source), split)
    name, at, named_split = str(source).rpartition("@")
    if not at:
        name = str(source)
    elif not named_split or (split and split != named_split):
        raise InputError(f"{shorten(str(source))}: give one split, as NAME@SPLIT or split=, not two or none")
    else:
        split = named_split
    if at and Path(name).expanduser().exists():
        return _read_path(Path(name).expanduser(), name, split)
    return _read_hub(name, str(source), split)


def pick_split(tables: Table | dict[str, Table], role: str) -> Table:
    """The only split, or the one named after the role ("validation" may also be called "dev" or "val").

    Raises:
      InputError: several splits, none of them named after the role.
    """
    if isinstance(tables, Table):
        return tables
    for name in split_names(role):
        if name in tables:
            return tables[name]
    if len(tables) == 1:
        return next(iter(tables.values()))
    source = next(iter(tables.values())).name.rpartition("@")[0]
    raise InputError(f"{source}: has the splits {listing(tables)}; choose one with @SPLIT or split=")


# As `datasets` tells them from the names of files.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def split_names(role: str) -> tuple[str, ...]:
    """The names that a split of this role goes by."""
    return _SPLITS.get(role, (role,))


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep `datasets` from drawing on stderr in this block; the caller's setting stands again after it."""
    forced = datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is not None  # by the environment
    if forced or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def decode_utf8(data: bytes, name: str) -> str:
    """Decode, dropping a byte order mark; `InputError` names the first byte that is not UTF-8."""
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        guess = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        raise InputError(
            f"{name}: not UTF-8 at byte {error.start} (0x{data[error.start]:02x}); "
            f"convert it, for example with `iconv -f {guess} -t UTF-8 {name} > utf8-{Path(name).name}`"
        ) from error


def dataset_of(table: pa.Table, identity: bytes, name: str) -> Dataset:
    """Wrap an Arrow table. Hashing its `identity` spares `datasets` from pickling all of it for a hash."""
    fingerprint = hashlib.sha256(identity).hexdigest()[:16]
    try:
        return Dataset(datasets.table.InMemoryTable(table), fingerprint=fingerprint)
    except (ValueError, TypeError, NotImplementedError, pa.ArrowException) as error:
        raise InputError(f"{name}: a column cannot be held by datasets.Dataset: {one_line(error)}") from error


def _choose(rows: Any, name: str, split: str | None, form: Format = "dataset") -> Table | dict[str, Table]:
    """A `Dataset` is its own only split; of a `DatasetDict` take `split`, or all."""
    if isinstance(rows, Dataset):
        if split is not None and str(rows.split) != split:
            raise InputError(f"{name}: has no split {shorten(split)}, it is one table; leave the split out")
        return Table(rows, name, form)
    if split is None:
        return {str(part): Table(table, f"{name}@{part}", form) for part, table in rows.items()}
    if split not in rows:
        raise InputError(f"{name}: has no split {shorten(split)}; it has {listing(map(str, rows))}")
    return Table(rows[split], f"{name}@{split}", form)


def _read_path(path: Path, name: str, split: str | None) -> Table | dict[str, Table]:
    if path.is_dir():
        return _choose(_read_folder(path, name), name, split)
    if split is not None:
        raise InputError(f"{name}: a file has no splits; leave @{split} out")
    form = _SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise InputError(f"{name}: files ending in {path.suffix!r} cannot be read; give {_ACCEPTED}")
    if not path.is_file():
        raise InputError(f"{name}: no plain file, and so it might have no end; copy what it gives to one")
    try:
        if form == "parquet":
            table = pq.read_table(path, partitioning=None)
            stat = path.stat()
            mark = os.fsencode(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}")
        else:
            mark = path.read_bytes()
            if form == "jsonl":
                table = parse_jsonl(decode_utf8(mark, name), name)
            else:
                decode_utf8(mark, name)  # says where it is none; the text may be four times the bytes, and goes
                table = parse_csv(mark, name, "\t" if form == "tsv" else ",")
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{name}: cannot be read: {one_line(error)}") from error
    return Table(dataset_of(table, mark, name), name, form)


def _read_folder(path: Path, name: str) -> Dataset | DatasetDict:
    if not (path / "dataset_dict.json").exists() and not (path / "state.json").exists():
        raise InputError(
            f"{name}: not a folder written by save_to_disk (it has no state.json or dataset_dict.json); "
            f"give {_ACCEPTED}"
        )
    try:
        with no_progress_bars():
            return datasets.load_from_disk(path)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{name}: cannot be read as a save_to_disk folder: {one_line(error)}") from error


@contextmanager
def _cache_only() -> Iterator[None]:
    """Let `datasets` look into its cache alone in this block, as it does if HF_HUB_OFFLINE is set."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _read_hub(name: str, source: str, split: str | None) -> Table | dict[str, Table]:
    match = _HUB_NAME.fullmatch(name)
    # Given the name of one of its readers ("csv", "text"), load_dataset would read the current folder.
    if match is None or Path(name).suffix.lower() in _SUFFIXES or name in _PACKAGED_DATASETS_MODULES:
        raise InputError(f"{source}: no such file or folder; give {_ACCEPTED}")
    offline = datasets.config.HF_HUB_OFFLINE
    reached = not offline and hub_answers()
    try:
        with no_progress_bars(), nullcontext() if reached else _cache_only():
            rows = datasets.load_dataset(match["name"], match["config"], split=split)
    except Exception as error:  # whatever the hub, the network, or a file of the dataset may raise
        if isinstance(error, ConnectionError):
            why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
            hint = (
                f"{why}; correct the path or, if a hub dataset is meant, save it with save_to_disk and give the folder"
            )
        else:
            hint = f"{one_line(error).rstrip('.')}; give {_ACCEPTED}"
        raise InputError(f"{source}: no such file or folder, and not loaded from the hub: {hint}") from error
    if split is not None and isinstance(rows, Dataset):
        return Table(rows, source if "@" in source else f"{source}@{split}", "dataset")
    return _choose(rows, source, None)
