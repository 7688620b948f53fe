"""Delimited text comes in as it stands and goes out so that it comes in again."""

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsds_jax.data.csvtext import format_csv, parse_csv
from tsds_jax.errors import InputError

TABLES = st.lists(
    st.tuples(st.text(max_size=20), st.sampled_from(["", "a", '"', ",", "\n", "\r", "\t", "é"])), max_size=6
)


@pytest.mark.parametrize("delimiter", [",", "\t"])
@given(rows=TABLES)
@settings(max_examples=80, deadline=None)
def test_any_text_survives_writing_and_reading(delimiter, rows):
    table = pa.table({"text": [a for a, _ in rows], "label": [b for _, b in rows]})
    table = table.cast(pa.schema({"text": pa.string(), "label": pa.string()}))
    assert parse_csv(format_csv(table, delimiter), "t.csv", delimiter).to_pylist() == table.to_pylist()


@given(rows=TABLES)
@settings(max_examples=80, deadline=None)
def test_what_the_csv_module_writes_is_read_as_it_reads_it(rows):
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("text", "label"), *rows])  # Excel's line ends, \r\n
    read = parse_csv(file.getvalue().encode(), "t.csv")
    assert [tuple(row.values()) for row in read.to_pylist()] == rows


@given(rows=TABLES)
@settings(max_examples=80, deadline=None)
def test_the_csv_module_reads_what_is_written(rows):
    table = pa.table(
        {
            "text": pa.array([a for a, _ in rows], pa.string()),
            "label": pa.array([b for _, b in rows], pa.string()),
        }
    )
    file = io.StringIO(format_csv(table).decode(), newline="")
    assert list(csv.reader(file, strict=True)) == [["text", "label"], *([a, b] for a, b in rows)]


@pytest.mark.parametrize("value", ["NA", "null", "", "007", "1.0", "1e5", "true", "2024-01-01", " padded ", "-"])
def test_values_that_look_like_something_else_stay_strings(value):
    table = parse_csv(f"text,label\n{value},x\n".encode(), "t.csv")
    assert table["text"].to_pylist() == [value]
    assert table["text"].type == pa.string()


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_passed_over():
    data = b"\xef\xbb\xbf\r\ntext,label\r\n\r\na,0\r\n\r\nb,1"
    assert parse_csv(data, "t.csv").to_pylist() == [{"text": "a", "label": "0"}, {"text": "b", "label": "1"}]


def test_a_quoted_header_with_delimiter_and_quote_is_read():
    assert parse_csv(b'"a,""b""",c\n1,2\n', "t.csv").column_names == ['a,"b"', "c"]


def test_a_column_name_that_starts_with_a_byte_order_mark_survives():
    table = pa.table({"\ufefftext": ["a"], "label": ["0"]})
    assert parse_csv(format_csv(table), "t.csv").column_names == ["\ufefftext", "label"]


def test_only_values_that_need_quotes_get_them():
    table = pa.table({"text": ["plain", "a,b", 'say "x"', ""], "label": ["0", "1", "0", "1"]})
    assert format_csv(table) == b'text,label\nplain,0\n"a,b",1\n"say ""x""",0\n,1\n'


def test_between_tabs_a_quotation_mark_is_quoted_at_the_start_alone():
    lines = b'text\tlabel\na "fine" film\tpos\n"""so"" they say"\tneg\n"two\nlines"\tneg\n'
    table = pa.table({"text": ['a "fine" film', '"so" they say', "two\nlines"], "label": ["pos", "neg", "neg"]})
    assert format_csv(table, "\t") == lines
    assert parse_csv(lines, "t.tsv", "\t").to_pylist() == table.to_pylist()


def test_null_and_numbers_are_written_as_nothing_and_digits():
    table = pa.table({"text": ["a", "b"], "score": pa.array([0.5, None]), "n": [1, 2]})
    assert format_csv(table) == b"text,score,n\na,0.5,1\nb,,2\n"


def test_a_value_beyond_the_usual_field_limit_is_read():
    long = "word " * 100_000
    assert parse_csv(f'text,label\n"{long}",1\n'.encode(), "t.csv")["text"][0].as_py() == long


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (b"text,label\na,0\nb,1,2\n", 1),
        (b"text,label\n\n\na,0\n\n\nb\n", 1),
        (b'text,label\n"a\nb\nc",0\n"d\n\n",1\ne,f,g\n', 2),
    ],
)
def test_a_row_of_another_length_is_named(data, row):
    with pytest.raises(InputError, match=rf"t\.csv, row {row}: \d values in a table of 2 columns; put quotes"):
        parse_csv(data, "t.csv")


@pytest.mark.parametrize(
    ("data", "row"),
    [
        (b'text,label\na,0\n"b,1\nc,0\n', 1),  # never closed
        (b'text,label\n"a,0\n"b,1\n', 0),  # closed by the next row's opening quote
        (b'text,label\na,0\n"b" c,1\n', 1),  # text after the closing quote
        (b'text,label\na,"', 0),
    ],
)
def test_quotes_that_would_join_rows_are_refused(data, row):
    with pytest.raises(InputError, match=rf"row {row}: a quoted value does not end.*double the quotes"):
        parse_csv(data, "t.csv")


def test_a_quotation_over_rows_of_a_table_of_tabs_is_refused_and_a_quoted_value_of_several_lines_is_not():
    data = b'text\tlabel\nfine\t1\n"I went home.\t1\nIt was late."\t0\nbad\t0\n'
    with pytest.raises(InputError, match=r"t\.tsv, row 1: a quotation from here goes on over 2 rows, in '\"I went"):
        parse_csv(data, "t.tsv", delimiter="\t")
    kept = parse_csv(b'text\tlabel\n"two\nlines"\t1\n"a\ttab"\t0\n', "t.tsv", delimiter="\t")
    assert kept["text"].to_pylist() == ["two\nlines", "a\ttab"]


def test_quotes_inside_an_unquoted_value_are_text():
    assert parse_csv(b'text,label\na 5" disk,0\n', "t.csv")["text"].to_pylist() == ['a 5" disk']


def test_an_unclosed_quote_in_the_header_is_refused():
    with pytest.raises(InputError, match="header line has a quote that does not end"):
        parse_csv(b'"text,label\na,0\n', "t.csv")


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(InputError, match=r"t\.csv: two columns are called 'a'; rename"):
        parse_csv(b"a,b,a\n1,2,3\n", "t.csv")


@pytest.mark.parametrize("data", [b"", b"\n\r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(data):
    with pytest.raises(InputError, match=r"t\.csv: the file is empty; it needs a header line"):
        parse_csv(data, "t.csv")
