"""Ctrl-C and SIGTERM, put off to a moment at which what was reached is written."""

import signal
import threading
from types import TracebackType
from typing import Any, Self

from tsds_jax.runtime.processes import any_says, is_first

# Those that put signals off at present, the innermost last.
_HOLDING: list["PutOff"] = []


def end_is_asked() -> bool:
    """Whether a process of this job was asked to end, where that is put off now.

    All processes ask, each between the same two computations and on the thread that makes them: what they say to each
    other here and there must come in one order. So all hear of it at the same place.
    """
    return bool(_HOLDING) and any_says(_HOLDING[-1].asked)[0]


class PutOff:
    """As a context, in the main thread, takes Ctrl-C and SIGTERM over: they are only noted.

    Whoever holds it looks at ``asked`` now and then, writes, and raises KeyboardInterrupt; a second signal raises it at
    once. One that nobody looked at raises it at the end of the context, so that none is lost. The processes of a job
    wait for each other in what they compute, so that any one's signal has to end all, at one place: they `agree`.
    """

    asked = False
    ends = False  # what all processes know
    _before: dict[int, Any]

    def __enter__(self) -> Self:
        """Takes the signals over."""
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._note) for one in (signal.SIGINT, signal.SIGTERM)}
        _HOLDING.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives them back."""
        _HOLDING.remove(self)
        try:
            if kind is None:
                self.agree()
        finally:
            for one, handler in self._before.items():
                signal.signal(one, handler or signal.SIG_DFL)
            self._before = {}
        if self.asked and kind is None:
            raise KeyboardInterrupt

    def agree(self, late: bool = False) -> bool:
        """Whether a process was asked to end, which all know from here on, or the first is late; all have to ask."""
        ends, late = any_says(self.asked, is_first() and late)
        if ends:  # else a signal that came meanwhile would be forgotten
            self.asked = self.ends = True
        return ends or late

    def _note(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
