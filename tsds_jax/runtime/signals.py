"""Ctrl-C and SIGTERM, put off to a moment at which what was reached is written."""

import signal
import threading
from types import TracebackType
from typing import Any, Self

from tsds_jax.runtime.processes import any_says, is_first


class Ended(KeyboardInterrupt):
    """A run ends, in all processes of its job at one place, after what it reached was written."""


class PutOff:
    """As a context, in the main thread, takes Ctrl-C and SIGTERM over: they are only noted.

    Whoever holds it looks at ``asked`` now and then, writes, and raises `Ended`; a second signal raises
    KeyboardInterrupt at once. One that nobody looked at raises it at the end of the context, so that none is lost. The
    processes of a job wait for each other in what they compute, so that any one's signal has to end all, at one place:
    they ask `asked_of_any`, or `agree`.
    """

    asked = False
    agreed = False  # that all end
    _before: dict[int, Any]

    def __enter__(self) -> Self:
        """Takes the signals over."""
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._note) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives them back."""
        try:
            # One that has nothing to write would else be gone before the first has written, and end it so.
            if kind is None or issubclass(kind, Ended):
                self.agree()
        finally:
            for one, handler in self._before.items():
                signal.signal(one, handler or signal.SIG_DFL)
            self._before = {}
        if self.asked and kind is None:
            raise KeyboardInterrupt

    def asked_of_any(self) -> bool:
        """Whether a process of this job was asked to end.

        All processes ask, each behind the same computation and on the thread that makes them: what they say to each
        other here and there must come in one order. So all hear of it at the same place.
        """
        return any_says(self.asked)[0]

    def agree(self, late: bool = False) -> bool:
        """Whether a process was asked to end, which all know from here on, or the first is late; all have to ask."""
        ends, late = any_says(self.asked, is_first() and late)
        if ends:  # else a signal that came meanwhile would be forgotten
            self.asked = self.agreed = True
        return ends or late

    def _note(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
