"""JSON lines come in without guessing and go out as the same values."""

import json

import datasets
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsds_jax.data.columns import python_values
from tsds_jax.data.jsontext import format_jsonl, parse_jsonl
from tsds_jax.errors import InputError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def values_of(table):
    columns = [python_values(column) for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_any_text_survives_reading_and_writing(texts):
    lines = "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    table = parse_jsonl(lines, "t.jsonl")
    assert table["text"].to_pylist() == texts
    assert format_jsonl(table).decode() == lines + "\n"


@given(values=st.lists(VALUES, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_json_value_survives_reading_and_writing(values):
    rows = [{"a": value, "b": "x"} for value in values]
    table = parse_jsonl("\n".join(map(json.dumps, rows)), "t.jsonl")
    assert values_of(table) == rows
    assert [json.loads(line) for line in format_jsonl(table).decode().split("\n")[:-1]] == rows


def test_dates_and_digits_stay_strings():
    table = parse_jsonl('{"text": "2024-01-01T00:00:00", "label": "007"}', "t.jsonl")
    assert table.schema.types == [pa.string(), pa.string()]


def test_a_key_that_a_row_lacks_is_null_and_keys_keep_their_order():
    table = parse_jsonl('{"b": 1}\n\n  \r\n{"a": "x", "b": 2}\r\n', "t.jsonl")
    assert table.to_pylist() == [{"b": 1, "a": None}, {"b": 2, "a": "x"}]


def test_a_column_of_mixed_values_is_kept_as_json_that_datasets_reads():
    table = parse_jsonl('{"m": 1}\n{"m": "1"}\n{"m": {"x": [1]}}\n{"m": {"y": null}}', "t.jsonl")
    rows = datasets.Dataset(datasets.table.InMemoryTable(table))
    assert rows["m"][:] == [1, "1", {"x": [1]}, {"y": None}]


def test_half_a_surrogate_pair_deep_inside_a_json_column_is_written_as_an_escape():
    line = '{"m": {"x": "\\ud800"}}\n'
    assert format_jsonl(parse_jsonl(line, "t.jsonl")).decode() == line


def test_half_a_surrogate_pair_in_a_text_is_named_by_row():
    with pytest.raises(InputError, match=r"t\.jsonl, row 1: column 'text' holds half of a surrogate pair.*remove"):
        parse_jsonl('{"text": "a"}\n{"text": "\\ud800"}', "t.jsonl")


def test_a_broken_line_is_named_by_row():
    with pytest.raises(InputError, match=r"t\.jsonl, row 1: not valid JSON \(.*one JSON object a line") as caught:
        parse_jsonl('{"text": "a"}\n\n{"text": "b"\n', "t.jsonl")
    assert "\n" not in str(caught.value)


def test_a_line_of_endless_brackets_is_an_input_error():
    with pytest.raises(InputError, match="row 0: not valid JSON"):
        parse_jsonl('{"a":' + "[" * 200_000, "t.jsonl")


def test_a_line_that_is_no_object_is_named_by_row():
    with pytest.raises(InputError, match=r"t\.jsonl, row 1: 'b' is not a JSON object"):
        parse_jsonl('{"text": "a"}\n"b"\n', "t.jsonl")


def test_a_json_array_is_refused_with_the_way_out():
    with pytest.raises(InputError, match=r"t\.json: holds one JSON array.*jq -c"):
        parse_jsonl('[\n{"text": "a"}]', "t.json")
