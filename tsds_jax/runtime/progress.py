"""Progress events: the library prints nothing, it calls a function with these."""

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """How far one stage is.

    Attributes:
      stage: the stage's name, such as ``"embed"``.
      done: units finished, from 0 to ``total``.
      total: units in the whole stage.
      unit: what is counted, in the plural, such as ``"texts"``.
      detail: a figure worth showing beside the count, or nothing.
    """

    stage: str
    done: int
    total: int
    unit: str = ""
    detail: str = ""


ProgressFn = Callable[[Progress], None]


def silent(event: Progress) -> None:
    """Drop the event: the default callback."""
