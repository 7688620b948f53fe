"""Delimited text, read and written without loss: every value stays the string that the file holds.

pyarrow.csv is twenty times faster than `csv`, but passes over broken quoting without a word: a stray opening
quote joins rows until the next quote. So the quoting is checked first, by one possessive (never
backtracking) regular expression over the bytes.
"""

import io
import re
from functools import cache
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tsds_jax.data.messages import one_line, shorten
from tsds_jax.errors import InputError

_BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 26  # bytes; a row must fit in one


def parse_csv(data: bytes, name: str, delimiter: str = ",") -> pa.Table:
    """A table of string columns from UTF-8 delimited text with a header line.

    Nothing is guessed: "NA", "", "007" and "1.0" stay as they are. Values may hold line breaks inside quotes,
    blank lines between rows are passed over, and a byte order mark is dropped.

    Raises:
      InputError: no header, two columns of one name, a row of another length, or quoting that does not end.
    """
    data = data.removeprefix(_BOM)
    header = _header(data, name, delimiter)
    if b'"' in data:
        _check_quoting(data, name, delimiter)
    ragged: list[pyarrow.csv.InvalidRow] = []

    def remember(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    # Columns get their places as names, because pyarrow needs the names to be told the types.
    places = [str(place) for place in range(len(header))]
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(data),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=places),
            pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=remember),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()),
                null_values=[],
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if ragged:
            _raise_ragged(data, name, delimiter, len(header))
        raise InputError(f"{name}: cannot be read as delimited text: {one_line(error)}") from error
    return table.slice(1).rename_columns(header)


def format_csv(table: pa.Table, delimiter: str = ",") -> bytes:
    """UTF-8 delimited text with a header: values quoted where they need it, null written as nothing.

    Between tabs a quotation mark is quoted at the start of a value only: most readers of such files know no quotes.
    """
    # A column, or a whole line's columns, may have more than the 2 GiB of characters that `pa.string` counts to.
    columns = [_quote(values.cast(pa.large_string()), delimiter) for values in table.columns]
    names = _quote(pa.chunked_array([pa.array(table.column_names, pa.large_string())]), delimiter).to_pylist()
    lines = [delimiter.join(names)]
    if table.num_rows:
        joined = pc.binary_join_element_wise(*columns, _large(delimiter), null_handling="replace", null_replacement="")
        lines += joined.to_pylist()
    return ("\n".join(lines) + "\n").encode()


def _quote(values: pa.ChunkedArray, delimiter: str) -> pa.ChunkedArray:
    # \ufeff would be read as a byte order mark at the start of the file. An empty value needs no quotes: no
    # value is null when read back, and with two columns or more no line is blank.
    mark = '^"|' if delimiter == "\t" else '"|'
    needs = pc.match_substring_regex(values, f"{mark}[\r\n\ufeff{delimiter}]")
    if not pc.any(needs).as_py():
        return values
    quote = _large('"')
    doubled = pc.replace_substring(values, '"', '""')
    return pc.if_else(needs, pc.binary_join_element_wise(quote, doubled, quote, _large("")), values)


def _large(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


@cache
def _grammar(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes], re.Pattern[bytes]]:
    """Patterns of one field, one record with its line end, and a whole file."""
    stop = b"[" + re.escape(delimiter.encode()) + rb"\r\n]"
    plain = b"[^" + re.escape(delimiter.encode()) + rb"\r\n]*+"
    one = rb'(?:"(?:[^"]++|"")*+"(?=' + stop + rb'|\Z)|(?!")' + plain + rb")"
    record = one + rb"(?:" + re.escape(delimiter.encode()) + one + rb")*+(?:\r\n|\r|\n|\Z)"
    return re.compile(one), re.compile(record), re.compile(rb"(?:" + record + rb")*+")


def _fields(data: bytes, start: int, end: int, delimiter: str) -> list[bytes]:
    """The raw fields, quotes and all, of the record in data[start:end]."""
    field, _, _ = _grammar(delimiter)
    line = data[start:end].rstrip(b"\r\n")
    fields, at = [], 0
    while True:
        match = field.match(line, at)
        assert match, "a record is made of fields"
        fields.append(match.group())
        at = match.end() + 1
        if at > len(line):
            return fields


def _records(data: bytes, delimiter: str):
    """(start, end) of each record that is not a blank line, up to the first broken one, then (start, -1)."""
    _, record, _ = _grammar(delimiter)
    at = 0
    while at < len(data):
        match = record.match(data, at)
        if match is None:
            yield at, -1
            return
        if match.group().strip(b"\r\n"):
            yield at, match.end()
        at = match.end()


def _header(data: bytes, name: str, delimiter: str) -> list[str]:
    start, end = next(_records(data, delimiter), (0, 0))
    if end == -1:
        way_out = separated_by(_first_line(data), delimiter) or "close it or remove it"
        raise InputError(f"{name}: the header line has a quote that does not end; {way_out}")
    if not end:
        raise InputError(f"{name}: the file is empty; it needs a header line and at least one row")
    header = [_unquote(field) for field in _fields(data, start, end, delimiter)]
    twice = [column for place, column in enumerate(header) if column in header[:place]]
    if twice:
        raise InputError(f"{name}: two columns are called {shorten(twice[0])}; rename one of them")
    return header


def _first_line(data: bytes) -> str:
    return data.lstrip(b"\r\n")[:10_000].splitlines()[0].decode(errors="replace")


def separated_by(header: str, delimiter: str = ",") -> str | None:
    """What to do with a table whose header has another sign in place of the delimiter; None of others.

    Spreadsheets write semicolons where the comma is the decimal sign.

    >>> separated_by("text;label")
    "its columns seem to be separated by ';': save it with commas, or as .tsv with tabs"
    """
    sign = next((sign for sign in ";\t|" if delimiter not in header and sign in header), None)
    return sign and f"its columns seem to be separated by {sign!r}: save it with commas, or as .tsv with tabs"


def _unquote(field: bytes) -> str:
    text = field.decode()
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def _check_quoting(data: bytes, name: str, delimiter: str) -> None:
    _, _, whole = _grammar(delimiter)
    match = whole.match(data)
    if match and match.end() == len(data):
        if delimiter == "\t":
            _check_lines(data, name)
        return
    for count, (start, end) in enumerate(_records(data, delimiter)):
        if end == -1:
            text = data[start : start + 40].decode(errors="replace")
            way_out = separated_by(_first_line(data), delimiter) or "double the quotes inside a quoted value"
            raise InputError(
                f"{name}, row {count - 1}: a quoted value does not end before the next column, in "
                f"{shorten(text)}; {way_out}"
            )


def _check_lines(data: bytes, name: str) -> None:
    """Refuses a quoted value of a table of tabs whose lines are rows of their own.

    Most writers of such files do not quote: a quotation in the texts that ends rows further on is then no value's.
    """
    columns = None
    for count, (start, end) in enumerate(_records(data, "\t") if b'"' in data else ()):
        lines = data[start:end].splitlines()
        columns = lines[0].count(b"\t") if columns is None else columns
        if columns and len(lines) > 1 and all(line.count(b"\t") == columns for line in lines):
            raise InputError(
                f"{name}, row {count - 1}: a quotation from here goes on over {len(lines)} rows, in "
                f"{shorten(lines[0].decode(errors='replace'))}; double its quotes and quote the whole value, or remove "
                "them"
            )


def _raise_ragged(data: bytes, name: str, delimiter: str, columns: int) -> NoReturn:
    for count, (start, end) in enumerate(_records(data, delimiter)):
        found = len(_fields(data, start, end, delimiter))
        if found != columns:
            way_out = separated_by(_first_line(data), delimiter) or "put quotes around values that hold the delimiter"
            raise InputError(f"{name}, row {count - 1}: {found} values in a table of {columns} columns; {way_out}")
    raise InputError(f"{name}: a row has more or fewer values than the {columns} columns of the header")
