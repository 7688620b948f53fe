"""JSON lines, one object a line, read and written without loss.

pyarrow.json would turn strings that look like dates into timestamps and stop at a column of mixed values.
Here a column becomes a plain Arrow column where all its values have one type, and otherwise keeps each value
as JSON (`datasets.Json`), which the writer gives back as it was.
"""

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from tsds_jax.data.columns import python_values
from tsds_jax.data.messages import one_line, shorten
from tsds_jax.errors import InputError

_SCALARS: tuple[set[type], ...] = ({str}, {int}, {float}, {int, float}, {bool}, set())


def parse_jsonl(text: str, name: str) -> pa.Table:
    """A table from one JSON object a line; blank lines are passed over, a key that a row lacks becomes null.

    Raises:
      InputError: a line that is not a JSON object, or a string that is not valid Unicode, with its row.
    """
    if text.lstrip()[:1] == "[":
        raise InputError(f"{name}: holds one JSON array, not one object a line; convert it with `jq -c '.[]' {name}`")
    rows = _parse_lines(text, name)
    keys = dict.fromkeys(key for row in rows for key in row)
    for key in keys:
        if not _is_unicode(key):
            row = next(number for number, row in enumerate(rows) if key in row)
            raise InputError(f"{name}, row {row}: the key {key!a:.60} holds half of a surrogate pair; rename it")
    return pa.table({key: _arrow([row.get(key) for row in rows], key, name) for key in keys})


def format_jsonl(table: pa.Table) -> bytes:
    """UTF-8 JSON lines, characters not escaped."""
    columns = [python_values(values) for values in table.columns]
    names = table.column_names
    rows = (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
    return b"".join(_line(row) for row in rows)


def _parse_lines(text: str, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    # Not splitlines(): U+2028 and its like may stand unescaped inside a JSON string.
    for line in text.split("\n"):
        if not line or line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{name}, row {len(rows)}: not valid JSON ({one_line(error)}) in {shorten(line)}; "
                "the file needs one JSON object a line"
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"{name}, row {len(rows)}: {shorten(row)} is not a JSON object; "
                'the file needs one object a line, such as {"text": "...", "label": "..."}'
            )
        rows.append(row)
    return rows


def _arrow(values: list[Any], key: str, name: str) -> pa.Array:
    kinds = set(map(type, values)) - {type(None)}
    try:
        # Lists of records stay JSON: Arrow would give each record the keys of all the others.
        if kinds in _SCALARS or (kinds == {list} and not _holds_record(values)):
            return pa.array(values)
    except UnicodeEncodeError as error:
        row = next(row for row, value in enumerate(values) if not _is_unicode(value))
        raise InputError(
            f"{name}, row {row}: column {shorten(key)} holds half of a surrogate pair (an escape such as "
            f"\\ud800), which is no character; remove it"
        ) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass  # mixed after all: lists of several types, or integers beyond 64 bits
    texts = pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
    return pa.ExtensionArray.from_storage(pa.json_(), texts)


def _holds_record(values: Iterable[Any]) -> bool:
    return any(isinstance(value, dict) or (isinstance(value, list) and _holds_record(value)) for value in values)


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _line(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate deep inside a JSON column survives only as an escape
        return json.dumps(row).encode() + b"\n"
