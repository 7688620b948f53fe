"""Ctrl-C and SIGTERM, put off to a moment at which what was reached is written."""

import signal
import threading
from types import TracebackType
from typing import Any, Self


class PutOff:
    """As a context, in the main thread, takes Ctrl-C and SIGTERM over: they are only noted.

    Whoever holds it looks at ``asked`` now and then, writes, and raises KeyboardInterrupt; a second signal raises it at
    once. One that nobody looked at raises it at the end of the context, so that none is lost.
    """

    asked = False
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
        for one, handler in self._before.items():
            signal.signal(one, handler or signal.SIG_DFL)
        self._before = {}
        if self.asked and kind is None:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
