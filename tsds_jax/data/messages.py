"""How a problem in the data is worded: one line, long values cut, the first bad row named."""

from collections.abc import Iterable
from typing import NamedTuple

WIDTH = 60


class Problem(NamedTuple):
    """The first row of a column that cannot be used, and why, as the end of a sentence."""

    row: int
    message: str


def shorten(value: object, width: int = WIDTH) -> str:
    """`repr(value)` on one line, with its middle cut out beyond `width` characters.

    >>> shorten("a" * 100, 12)
    "'aaaa...aaa'"
    """
    # Cut before repr as well: a text of a megabyte need not be escaped to be thrown away.
    text = repr(value[: 2 * width]) if isinstance(value, str) and len(value) > 4 * width else repr(value)
    if len(text) <= width:
        return text
    tail = (width - 3) // 2
    return f"{text[: width - 3 - tail]}...{text[-tail:]}"


def counted(count: int, what: str) -> str:
    """A count with its noun.

    >>> counted(1, "row"), counted(3000, "row")
    ('1 row', '3,000 rows')
    """
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def texts_cut(count: int, at: str) -> str:
    """That so many texts were cut, and at what.

    >>> texts_cut(1, "8 tokens"), texts_cut(2, "8 tokens")
    ('1 text was cut at 8 tokens', '2 texts were cut at 8 tokens')
    """
    return f"{counted(count, 'text')} {'was' if count == 1 else 'were'} cut at {at}"


def listing(names: Iterable[str], most: int = 12) -> str:
    """Names in a row, each in quotes, ending with how many were left out.

    >>> listing(["text", "label"])
    "'text', 'label'"
    """
    shown = list(names)
    text = ", ".join(shorten(name, 30) for name in shown[:most])
    return text + (f" and {len(shown) - most} more" if len(shown) > most else "")


def one_line(error: BaseException, width: int = 200) -> str:
    """An exception's message with its line breaks folded, cut at `width` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= width else f"{text[: width - 3]}..."
