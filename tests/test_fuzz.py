"""Damaged files, by chance: read as they are or refused in one line, never a traceback, and nothing in them is run."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tsds_jax as tsds
from tsds_jax.errors import TsdsError
from tsds_jax.stages import load_arrays

FUZZED = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
TEXTS = ["good film", 'a "quoted", word', "two\nlines", "", "ünïcödé 🎬"]
LABELS = ["pos", "neg", "pos", "neg", "pos"]


def damage(content: bytes):
    """Strategies for the content with pieces cut out, put in, and changed."""
    place = st.integers(0, len(content))
    piece = st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [b'"', b",", b"\n", b"\r", b"\0", b"{", b"}", b"[", b"\\ud800", b"\xff", b"-1", b"1e999", b"null"]
        ),
    )

    def changed(edits):
        found = content
        for start, length, put in edits:
            found = found[:start] + put + found[start + length :]
        return found

    return st.lists(st.tuples(place, st.integers(0, 12), piece), min_size=1, max_size=4).map(changed)


def told_in_one_line(do):
    told = ""
    try:
        do()
    except TsdsError as error:
        told = str(error)
    assert "\n" not in told
    assert len(told) < 600


def file_of(form, tmp_path):
    if form == "parquet":
        pq.write_table(pa.table({"text": TEXTS, "label": LABELS}), tmp_path / "whole.parquet")
        return (tmp_path / "whole.parquet").read_bytes()
    if form == "jsonl":
        rows = [{"text": text or "x", "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    separator = "\t" if form == "tsv" else ","
    quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    rows = [f"{text or 'x'}{separator}{label}\n" for text, label in zip(quoted, LABELS, strict=True)]
    return f"text{separator}label\n{''.join(rows)}".encode()


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_a_damaged_table_is_read_or_refused(form, tmp_path):
    content = file_of(form, tmp_path)

    @FUZZED
    @given(damage(content))
    def check(damaged):
        file = tmp_path / f"rows.{form}"
        file.write_bytes(damaged)
        told_in_one_line(lambda: tsds.load_data(file))

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_model_folder_is_loaded_or_refused(name, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / name
    content = file.read_bytes() if file.exists() else b'{"model_max_length": 64, "do_lower_case": true}'
    # Of weights the head alone says what is where; of others every byte does.
    head = content[: 8 + int.from_bytes(content[:8], "little")] if name == "model.safetensors" else content

    @settings(FUZZED, max_examples=60)
    @given(damage(head))
    def check(damaged):
        file.write_bytes(damaged + content[len(head) :])
        told_in_one_line(lambda: tsds.load_encoder(tmp_path / "model").tokenizer)

    check()


def test_damaged_arrays_are_loaded_or_refused(tmp_path):
    np.savez(tmp_path / "whole.npz", x=np.ones((4, 2)), y=np.arange(4))
    content = (tmp_path / "whole.npz").read_bytes()

    @FUZZED
    @given(damage(content))
    def check(damaged):
        (tmp_path / "rows.npz").write_bytes(damaged)
        told_in_one_line(lambda: load_arrays(tmp_path / "rows.npz"))

    check()
