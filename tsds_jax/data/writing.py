"""Rows out in the format they came in, each file whole or not there at all."""

import os
from pathlib import Path

import pyarrow.parquet as pq

from tsds_jax.data.columns import arrow_table
from tsds_jax.data.csvtext import format_csv
from tsds_jax.data.jsontext import format_jsonl
from tsds_jax.data.messages import one_line
from tsds_jax.data.reading import no_progress_bars
from tsds_jax.data.textdata import TextData
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.runtime.files import as_path, atomic


def file_name(data: TextData, stem: str) -> str:
    """The name that `write_rows` gives a file or folder."""
    return stem if data.format == "dataset" else f"{stem}.{data.format}"


def write_rows(data: TextData, folder: Path | str, stem: str) -> Path:
    """Write `data.rows`, every column, as ``folder/stem.csv`` (.tsv, .jsonl, .parquet) or ``folder/stem/``.

    The format is `data.format`, and `load_data` reads the same rows, columns and types back. The file is
    on disk before it gets its name, so a file of this name is always complete. In .jsonl, a key that a row
    lacked is written as null.

    Returns:
      The path written.

    Raises:
      InputError: the file or folder exists already.
      TsdsError: it cannot be written (no space, no permission).
    """
    folder = as_path(folder)
    target = folder / file_name(data, stem)
    _refuse_existing(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(target) as temporary:
            _write(data, temporary)
            _refuse_existing(target)
    except OSError as error:
        raise TsdsError(f"{target}: cannot be written: {one_line(error)}") from error
    return target


def _write(data: TextData, path: Path) -> None:
    if data.format == "dataset":
        with no_progress_bars():
            data.rows.save_to_disk(path)
        return
    table = arrow_table(data.rows)
    if data.format == "parquet":
        pq.write_table(table, path)
    elif data.format == "jsonl":
        path.write_bytes(format_jsonl(table))
    else:
        path.write_bytes(format_csv(table, "\t" if data.format == "tsv" else ","))


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise InputError(f"{target}: exists already; remove it or choose another folder")
