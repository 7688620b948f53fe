"""Every kind of source is found, split and named; what cannot be read says so in one line."""

import json
import time

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from huggingface_hub import constants

from tsds_jax.data import load_data, reading
from tsds_jax.data.reading import dataset_of, no_progress_bars, read_source
from tsds_jax.errors import InputError

ROWS = {"text": ["a", "b", "c"], "label": [0, 1, 0], "id": ["x", "y", "z"]}


@pytest.fixture
def splits():
    return DatasetDict({"train": Dataset.from_dict(ROWS), "test": Dataset.from_dict(ROWS).select([0, 1])})


def fails(source, pattern, **options):
    with pytest.raises(InputError, match=pattern) as caught:
        load_data(source, **options)
    assert "\n" not in str(caught.value)


def write(path, form):
    frame = pd.DataFrame(ROWS)
    if form in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="," if form == "csv" else "\t")
    elif form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "ndjson", "json", "parquet", "PARQUET"])
def test_a_file_of_any_format_gives_the_same_data(tmp_path, form):
    path = write(tmp_path / f"t.{form}", form.lower())
    data = load_data(str(path))
    assert data.fingerprint() == load_data(Dataset.from_dict(ROWS)).fingerprint()
    assert data.rows.column_names == ["text", "label", "id"]
    assert data.source == str(path)
    assert data.format == {"ndjson": "jsonl", "json": "jsonl"}.get(form, form.lower())


def test_a_path_object_is_a_source(tmp_path):
    assert len(load_data(write(tmp_path / "t.csv", "csv"))) == 3


def test_a_folder_is_loaded_from_disk_without_a_progress_bar(tmp_path, capfd, splits):
    with no_progress_bars():
        splits["train"].save_to_disk(tmp_path / "one")
        splits.save_to_disk(tmp_path / "many")
    assert len(load_data(tmp_path / "one")) == 3
    assert len(load_data(tmp_path / "many")) == 3
    assert len(load_data(f"{tmp_path}/many@test", role="train")) == 2
    assert load_data(f"{tmp_path}/many@test").source == f"{tmp_path}/many@test"
    assert capfd.readouterr() == ("", "")


def test_a_split_is_chosen_by_name_by_role_or_by_being_alone(splits):
    assert len(load_data(splits, split="test")) == 2
    assert len(load_data(splits, role="test")) == 2
    assert len(load_data(DatasetDict({"all": splits["train"]}))) == 3
    assert len(load_data(DatasetDict({"x": splits["test"], "dev": splits["train"]}), role="validation")) == 3


def test_splits_that_cannot_be_chosen_are_listed(splits):
    fails(splits, r"DatasetDict: has no split 'dev'; it has 'train', 'test'", split="dev")
    fails(splits, r"DatasetDict: has the splits 'train', 'test'; choose one with @SPLIT", role="validation")


def test_two_different_splits_are_refused(tmp_path, splits):
    with no_progress_bars():
        splits.save_to_disk(tmp_path / "many")
    fails(f"{tmp_path}/many@test", "give one split", split="train")


def test_a_split_of_a_single_table_is_refused(tmp_path):
    path = write(tmp_path / "t.csv", "csv")
    fails(f"{path}@train", r"t\.csv: a file has no splits; leave @train out")
    fails(Dataset.from_dict(ROWS), "the Dataset: has no split 'x', it is one table", split="x")


def test_an_existing_path_wins_over_a_hub_name_and_a_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    with no_progress_bars():
        Dataset.from_dict(ROWS).save_to_disk("glue")
    write(tmp_path / "t@1.csv", "csv")
    assert len(load_data("glue")) == 3
    assert len(load_data("t@1.csv")) == 3


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("glue:sst2@train", ("glue", "sst2", "train")),
        ("org/name@validation", ("org/name", None, "validation")),
        ("org/name:en.v1", ("org/name", "en.v1", None)),
        ("name", ("name", None, None)),
    ],
)
def test_a_hub_name_is_read_as_name_config_split(monkeypatch, splits, source, asked):
    calls = []

    def load_dataset(name, config, *, split):
        calls.append((name, config, split))
        return splits["train"] if split else splits

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = load_data(source)
    assert calls == [asked]
    assert len(data) == 3
    assert data.source == (source if "@" in source else f"{source}@train")


def test_a_hub_name_offline_fails_at_once():
    start = time.monotonic()
    fails(
        "glue:sst2@train",
        r"glue:sst2@train: no such file or folder, and not loaded.*HF_HUB_OFFLINE.*save_to_disk",
    )
    assert time.monotonic() - start < 2


def test_a_typo_without_a_network_fails_at_once_in_one_line_and_without_noise(monkeypatch, capfd, caplog):
    # Port 9 of this machine: nobody listens there. datasets alone would try for 25 s and log every try.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    start = time.monotonic()
    fails("trian", "^trian: no such file or folder, and .*hub cannot be reached; correct the path.*save_to_disk")
    assert time.monotonic() - start < 3
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert datasets.config.HF_HUB_OFFLINE is False


def test_a_cached_dataset_is_still_found_without_a_network(monkeypatch, splits):
    seen = []

    def load_dataset(*_, **__):
        seen.append(datasets.config.HF_HUB_OFFLINE)
        return splits

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for answers in (False, True):
        monkeypatch.setattr(reading, "hub_answers", lambda answers=answers: answers)
        assert len(load_data("org/name")) == 3
    assert seen == [True, False]
    assert datasets.config.HF_HUB_OFFLINE is False


def test_a_hub_failure_of_any_kind_is_one_line(monkeypatch):
    def load_dataset(*_, **__):
        raise ValueError("Config name is missing.\nPlease pick one among:\n['cola', 'sst2']")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    fails("glue", r"Config name is missing\. Please pick one among: \['cola', 'sst2'\]; give a \.csv")


@pytest.mark.parametrize(
    "source",
    ["nowhere.csv", "notes.txt", "../up", "a/b/c", "/no/such/folder", "csv", "text", "what?", "json@train"],
)
def test_a_missing_file_is_not_looked_for_on_the_hub(monkeypatch, source):
    # "csv" and "text" are readers of `datasets` that would take the files of the current folder.
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    fails(source, r"no such file or folder; give a \.csv, \.tsv, \.jsonl or \.parquet file")


def test_an_unknown_kind_of_file_names_the_known_ones(tmp_path):
    (tmp_path / "t.xlsx").touch()
    fails(tmp_path / "t.xlsx", r"files ending in '\.xlsx' cannot be read; give a \.csv")


def test_a_folder_that_save_to_disk_did_not_write_is_refused(tmp_path):
    fails(tmp_path, "not a folder written by save_to_disk")


def test_a_broken_save_to_disk_folder_is_refused(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    fails(tmp_path, "cannot be read as a save_to_disk folder")


def test_a_source_of_another_type_is_named():
    fails(pd.DataFrame(ROWS), "data cannot be read from a value of type DataFrame; give")


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_a_file_that_is_not_utf8_names_the_byte_and_the_way_out(tmp_path, form):
    path = tmp_path / f"t.{form}"
    path.write_bytes("text,label\ncafé,0\n".encode("latin-1"))
    fails(path, rf"t\.{form}: not UTF-8 at byte 14 \(0xe9\); convert it, .*iconv -f WINDOWS-1252")


def test_a_utf16_file_is_told_apart(tmp_path):
    (tmp_path / "t.csv").write_bytes("text,label\na,0\n".encode("utf-16"))
    fails(tmp_path / "t.csv", "not UTF-8 at byte 0 .*iconv -f UTF-16")


def test_a_byte_order_mark_in_json_lines_is_dropped(tmp_path):
    lines = [json.dumps({"text": t, "label": k}) for t, k in zip("ab", "xy", strict=True)]
    (tmp_path / "t.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    assert load_data(tmp_path / "t.jsonl").classes == ("x", "y")


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    fails(tmp_path / "t.parquet", r"t\.parquet: cannot be read: ")


def test_a_column_that_datasets_cannot_hold_is_refused():
    table = pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))})
    with pytest.raises(InputError, match=r"t\.parquet: a column cannot be held"):
        dataset_of(table, b"", "t.parquet")


def test_categories_of_pandas_are_read_as_strings(tmp_path):
    frame = pd.DataFrame(ROWS).astype({"text": "category", "label": "category"})
    frame.to_parquet(tmp_path / "t.parquet")
    assert load_data(tmp_path / "t.parquet").label_names == ["0", "1", "0"]


def test_class_names_of_a_hub_parquet_file_are_used(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    with no_progress_bars():
        Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(tmp_path / "t.parquet")
    assert load_data(tmp_path / "t.parquet").label_names == ["pos", "neg"]


def test_large_strings_are_texts_and_labels(tmp_path):
    table = pa.table(ROWS | {"label": ["p", "q", "p"]})
    kinds = pa.schema({"text": pa.large_string(), "label": pa.large_string(), "id": pa.large_string()})
    pq.write_table(table.cast(kinds), tmp_path / "t.parquet")
    assert load_data(tmp_path / "t.parquet").classes == ("p", "q")


def test_a_dataset_with_an_output_format_is_read_like_one_without():
    rows = Dataset.from_dict(ROWS)
    formatted = rows.with_format("numpy", columns=["id"])
    assert load_data(formatted).fingerprint() == load_data(rows).fingerprint()


def test_a_shuffled_dataset_keeps_its_order():
    rows = Dataset.from_dict(ROWS).select([2, 0, 1])
    assert load_data(rows).texts == ["c", "a", "b"]


@pytest.mark.parametrize("disabled", [True, False])
def test_the_callers_progress_bar_setting_stands_again(disabled):
    before = datasets.utils.are_progress_bars_disabled()
    setters = [datasets.utils.enable_progress_bars, datasets.utils.disable_progress_bars]
    setters[disabled]()
    try:
        with pytest.raises(InputError), no_progress_bars():
            load_data("nowhere.csv")
        with no_progress_bars():
            assert datasets.utils.are_progress_bars_disabled()
        assert datasets.utils.are_progress_bars_disabled() == disabled
    finally:
        setters[before]()


def test_reading_a_file_twice_gives_one_fingerprint_and_another_after_a_change(tmp_path):
    path = write(tmp_path / "t.csv", "csv")
    first = read_source(path).rows._fingerprint
    assert read_source(path).rows._fingerprint == first
    path.write_text(path.read_text() + "d,1,w\n")
    assert read_source(path).rows._fingerprint != first


def test_reading_does_not_hold_the_file_open(tmp_path):
    path = write(tmp_path / "t.parquet", "parquet")
    data = load_data(path)
    path.unlink()
    assert data.texts == ["a", "b", "c"]
