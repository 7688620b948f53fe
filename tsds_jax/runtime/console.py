"""Progress on the console: one live line a stage on a terminal, plain lines now and then everywhere else.

A log file or a pipe gets at most one line every few seconds, so that a long run stays readable in it.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TextIO

from tsds_jax.runtime.progress import Progress, ProgressFn

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

Clock = Callable[[], float]

# The rate is that of the last half minute: the first step of a stage compiles and would spoil an average.
_WINDOW = 30.0
_SAMPLE_EVERY = 0.5


@dataclass
class _Stage:
    """One stage as seen so far: its last event and a few (time, done) samples to take the rate from."""

    started: float
    last: Progress
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def see(self, event: Progress, now: float) -> None:
        self.last = event
        if not self.samples or now - self.samples[-1][0] >= _SAMPLE_EVERY:
            self.samples.append((now, event.done))
        while len(self.samples) > 2 and now - self.samples[1][0] > _WINDOW:
            self.samples.popleft()

    def rate(self, now: float) -> float | None:
        """Units a second lately; nothing before there are two moments to compare."""
        then, done = self.samples[0]
        if now - then < 0.1 or self.last.done <= done:
            return None
        return (self.last.done - done) / (now - then)

    @property
    def complete(self) -> bool:
        return 0 < self.last.total <= self.last.done


class _Display(Protocol):
    """What the two ways of showing have in common."""

    def update(self, stage: _Stage, now: float) -> None: ...
    def close(self, stage: _Stage, now: float) -> None: ...


@contextmanager
def console_progress(
    stream: TextIO | None = None,
    *,
    every: float = 10.0,
    clock: Clock = time.monotonic,
    console: "Console | None" = None,
) -> Iterator[ProgressFn]:
    """A progress function that shows stages on the console while the block runs.

    On a terminal the running stage is one live line (bar, count, rate, time left) and a finished one stays as
    one line with its time. Elsewhere each stage writes a line when it has run for ``every`` seconds, then at
    most one each ``every`` seconds, and one when it ends. A stage ends when its count is complete, when an
    event names another stage, or with the block.

    Args:
      stream: where to write; standard error if not given.
      every: seconds between plain lines of one stage.
      clock: the time in seconds, for tests.
      console: a rich console to use as the terminal, for tests and for embedding in another display.

    Yields:
      A :data:`~tsds_jax.runtime.progress.ProgressFn`.

    >>> with console_progress() as progress:
    ...     progress(Progress("embed", 0, 3000, "texts"))
    """
    stream = sys.stderr if stream is None else stream
    current: _Stage | None = None
    opened = clock()

    with _display(stream, every, console) as display:

        def end(now: float) -> None:
            nonlocal current, opened
            if current is not None:
                display.close(current, now)
                current, opened = None, now

        def show(event: Progress) -> None:
            nonlocal current
            now = clock()
            if current is not None and (current.last.stage != event.stage or event.done < current.last.done):
                end(now)
            if current is None:
                # A stage that first speaks after some work began where the one before it ended.
                current = _Stage(started=opened if event.done else now, last=event)
            current.see(event, now)
            if current.complete:
                end(now)
            else:
                display.update(current, now)

        try:
            yield show
        finally:
            end(clock())


@contextmanager
def _display(stream: TextIO, every: float, console: "Console | None") -> Iterator[_Display]:
    """The live display on a terminal, plain lines otherwise."""
    if console is None and not (hasattr(stream, "isatty") and stream.isatty()):
        yield _PlainLines(stream, every)
        return
    # Imported here: rich is slow to load, and most imports of this package never show progress.
    from rich.console import Console

    console = Console(file=stream) if console is None else console
    if console.is_dumb_terminal or not console.encoding.lower().startswith("utf"):
        yield _PlainLines(stream, every)
        return
    with _LiveLine(console) as live:
        yield live


class _PlainLines:
    """Lines of text, rate-limited."""

    def __init__(self, stream: TextIO, every: float):
        self.stream, self.every = stream, every
        self.written: tuple[_Stage, float] | None = None

    def update(self, stage: _Stage, now: float) -> None:
        since = self.written[1] if self.written is not None and self.written[0] is stage else stage.started
        if now - since >= self.every:
            self.written = (stage, now)
            self._write(f"{stage.last.stage} {running(stage, now)}")

    def close(self, stage: _Stage, now: float) -> None:
        self._write(f"{stage.last.stage} {finished(stage, now)}")

    def _write(self, line: str) -> None:
        self.stream.write(line.replace("\n", " ") + "\n")
        self.stream.flush()


class _LiveLine:
    """One live line for the running stage under the lines of the finished ones."""

    def __init__(self, console: "Console"):
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        one_line = Column(no_wrap=True, overflow="ellipsis")
        self.bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}", markup=False, table_column=one_line),
            console=console,
            transient=True,
        )
        self.task: tuple[_Stage, TaskID] | None = None

    def __enter__(self) -> "_LiveLine":
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def update(self, stage: _Stage, now: float) -> None:
        if self.task is None or self.task[0] is not stage:
            name = self.bars.add_task(stage.last.stage, total=stage.last.total or None, figures="")
            self.task = (stage, name)
        self.bars.update(
            self.task[1],
            completed=stage.last.done,
            total=stage.last.total or None,
            figures=running(stage, now),
        )

    def close(self, stage: _Stage, now: float) -> None:
        from rich.text import Text

        if self.task is not None and self.task[0] is stage:
            self.bars.remove_task(self.task[1])
            self.bars.refresh()
        self.task = None
        mark, colour = ("✓", "green") if stage.complete else ("-", "yellow")
        text = Text.assemble((mark, colour), f" {stage.last.stage} {finished(stage, now)}")
        self.bars.console.print(text, no_wrap=True, overflow="ellipsis")


def running(stage: _Stage, now: float) -> str:
    """The figures of a stage under way: ``1200/3000 texts, 410/s, 4 s left``."""
    parts = [_count(stage.last)]
    rate = stage.rate(now)
    if rate is not None:
        parts.append(_per_second(rate))
        if stage.last.total > stage.last.done:
            parts.append(f"{duration((stage.last.total - stage.last.done) / rate)} left")
    if stage.last.detail:
        parts.append(stage.last.detail)
    return ", ".join(parts)


def finished(stage: _Stage, now: float) -> str:
    """The figures of a stage that has ended: ``3000/3000 texts in 7.3 s``, with its last detail."""
    text = f"{_count(stage.last)} in {duration(now - stage.started, exact=True)}"
    return f"{text}, {stage.last.detail}" if stage.last.detail else text


def duration(seconds: float, *, exact: bool = False) -> str:
    """Seconds as a person says them: ``4 s``, ``3 min 20 s``, ``2 h 5 min``; tenths below ten if exact."""
    if exact and seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _count(event: Progress) -> str:
    count = f"{event.done}/{event.total}" if event.total > 0 else str(event.done)
    return f"{count} {event.unit}".rstrip()


def _per_second(rate: float) -> str:
    if rate >= 10:
        return f"{rate:.0f}/s"
    return f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
