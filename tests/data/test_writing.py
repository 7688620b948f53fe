"""What was kept goes out in the format it came in, whole, and never over something that is there."""

import datetime
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from tsds_jax.data import load_data, write_rows
from tsds_jax.data.columns import arrow_table
from tsds_jax.errors import InputError, TsdsError

TEXTS = [
    'a "quoted", text',
    "two\nlines\r\nand three",
    "日本語 \U0001f600 é",
    "tab\there",
    "NA",
    "=1+1",
    "last",
]
LABELS = ["007", "b", "b", "007", "b", "b", "007"]


def source(folder, form):
    columns = {"text": TEXTS, "label": LABELS, "note": ["", "null", "1.0", " x ", "true", "'", "\\n"]}
    if form in ("csv", "tsv"):
        pd.DataFrame(columns).to_csv(folder / f"in.{form}", index=False, sep="," if form == "csv" else "\t")
    elif form == "jsonl":
        more = {"n": [1, 2, 3, 4, 5, 6, 7], "m": [1, "1", None, {"a": 1}, {"b": None}, [1, "x"], 2**70]}
        names = [*columns, *more]
        lines = zip(*columns.values(), *more.values(), strict=True)
        text = "\n".join(json.dumps(dict(zip(names, line, strict=True))) for line in lines)
        (folder / "in.jsonl").write_text(text)
    elif form == "parquet":
        more = {
            "when": pa.array([datetime.datetime(2024, 1, 1)] * 7, pa.timestamp("ns", "UTC")),
            "list": pa.array([[1, None]] * 7, pa.list_(pa.int16())),
            "record": pa.array([{"a": 1.5, "b": None}] * 7, pa.struct({"a": pa.float32(), "b": pa.string()})),
            "bytes": pa.array([b"\x00\xff"] * 7),
            "none": pa.array([None] * 7, pa.int8()),
        }
        pq.write_table(pa.table({**columns, **more}), folder / "in.parquet")
    else:
        features = Features(
            {
                "text": Value("string"),
                "label": ClassLabel(names=["b", "007", "unused"]),
                "note": Value("string"),
            }
        )
        return Dataset.from_dict(columns, features=features)
    return folder / f"in.{form}"


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "dataset"])
def test_kept_rows_come_back_with_the_same_values_columns_and_types(tmp_path, capfd, form):
    data = load_data(source(tmp_path, form))
    assert data.texts == TEXTS
    assert data.format == form
    part = data.select([5, 1, 2, 3, 4, 0])
    path = write_rows(part, tmp_path / "out" / "deep", "kept")
    assert path == tmp_path / "out" / "deep" / ("kept" if form == "dataset" else f"kept.{form}")
    again = load_data(path)
    assert again.fingerprint() == part.fingerprint()
    assert again.rows[:] == part.rows[:]
    assert again.rows.features == part.rows.features
    assert arrow_table(again.rows).schema.equals(arrow_table(part.rows).schema)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["views", "more than 32 bits address"])
def test_kept_rows_of_columns_that_arrow_cannot_take_from_are_written(tmp_path, monkeypatch, kind):
    if kind == "views":
        text, raw = pa.string_view(), pa.binary_view()
    else:
        text, raw = pa.string(), pa.binary()
        monkeypatch.setattr("tsds_jax.data.columns._LARGEST_OFFSET", 1)
    columns = {"text": pa.array(["a", "b", "c", "d"], text), "raw": pa.array([b"0", b"1", None, b"3"], raw)}
    pq.write_table(pa.table({**columns, "label": ["x", "y", "x", "y"]}), tmp_path / "in.parquet")
    part = load_data(tmp_path / "in.parquet").select([3, 2, 0])
    again = load_data(write_rows(part, tmp_path, "kept"))
    assert again.texts == ["d", "c", "a"]
    assert again.rows["raw"][:] == [b"3", None, b"0"]


def test_csv_values_are_written_as_they_came(tmp_path):
    text = 'id,text,label\n007,"a, ""b""",0\n,"x\ny",1\nNA,plain,0\n'
    (tmp_path / "in.csv").write_text(text)
    assert write_rows(load_data(tmp_path / "in.csv"), tmp_path, "kept").read_text() == text


def test_jsonl_characters_are_not_escaped(tmp_path):
    line = '{"text": "日本語 \U0001f600", "label": "x"}\n{"text": "b", "label": "y"}\n'
    (tmp_path / "in.jsonl").write_text(line, encoding="utf-8")
    assert write_rows(load_data(tmp_path / "in.jsonl"), tmp_path, "kept").read_text(encoding="utf-8") == line


def test_pandas_reads_what_is_written(tmp_path):
    for form in ("csv", "parquet"):
        path = write_rows(load_data(source(tmp_path, form)).select([0, 2]), tmp_path, f"kept-{form}")
        frame = pd.read_csv(path, dtype=str) if form == "csv" else pd.read_parquet(path)
        assert frame["text"].tolist() == [TEXTS[0], TEXTS[2]]


def test_the_index_of_a_pandas_file_is_kept_as_a_column(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": ["x", "y", "x"]}, index=["p", "q", "r"])
    frame.to_parquet(tmp_path / "in.parquet")
    path = write_rows(load_data(tmp_path / "in.parquet").select([2, 0]), tmp_path, "kept")
    assert pd.read_parquet(path)["__index_level_0__"].tolist() == ["r", "p"]


@pytest.mark.parametrize("form", ["csv", "dataset"])
def test_nothing_is_written_over(tmp_path, form):
    data = load_data(source(tmp_path, form))
    path = write_rows(data, tmp_path, "kept")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"kept.*: exists already; remove it or choose another folder"):
        write_rows(data.select([0]), tmp_path, "kept")
    assert len(load_data(path)) == len(data)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("form", ["csv", "dataset"])
def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, form):
    data = load_data(source(tmp_path, form))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(TsdsError, match=r"kept.*: cannot be written: .*No space left") as caught:
        write_rows(data, tmp_path / "out", "kept")
    assert not isinstance(caught.value, InputError)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "dataset"])
def test_rows_are_on_disk_before_they_have_their_name(tmp_path, monkeypatch, form):
    seen, really, data, out = [], os.fsync, load_data(source(tmp_path, form)), tmp_path / "out"

    def fsync(opened):
        seen.append((os.fstat(opened).st_ino, any(not path.name.startswith(".") for path in out.iterdir())))
        really(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    path = write_rows(data, out, "kept")
    written = {place.stat().st_ino for place in (path, *path.rglob("*"))}
    assert {one for one, named in seen if not named} == written
    assert seen[-1] == (out.stat().st_ino, True)


def test_a_folder_that_is_a_file_is_an_error_of_one_line(tmp_path):
    data = load_data(source(tmp_path, "csv"))
    with pytest.raises(TsdsError, match="cannot be written"):
        write_rows(data, tmp_path / "in.csv", "kept")


def test_no_rows_can_be_written(tmp_path):
    for form in ("csv", "jsonl", "parquet", "dataset"):
        path = write_rows(load_data(source(tmp_path, form)).select(np.array([], int)), tmp_path, f"kept-{form}")
        assert path.exists()
