"""Plain logs stay short and say what matters; terminals get one live line a stage."""

import io
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console

from tsds_jax.runtime.console import console_progress, duration
from tsds_jax.runtime.progress import Progress


class Clock:
    """A clock that stands still until moved."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def plain(steps, every=10.0):
    """Lines written for a list of (seconds to wait, event)."""
    clock, stream = Clock(), io.StringIO()
    with console_progress(stream, clock=clock, every=every) as progress:
        for wait, event in steps:
            clock.now += wait
            progress(event)
    return stream.getvalue().splitlines()


def test_a_log_line_names_stage_count_rate_time_left_and_detail():
    lines = plain([(0, Progress("embed", 0, 3000, "texts")), (10, Progress("embed", 1000, 3000, "texts", "64 tokens"))])
    assert lines[0] == "embed 1000/3000 texts, 100/s, 20 s left, 64 tokens"


def test_a_log_gets_at_most_one_line_every_ten_seconds_and_one_at_the_end():
    steps = [(0, Progress("value", 0, 1000, "coalitions"))]
    steps += [(0.1, Progress("value", done, 1000, "coalitions")) for done in range(1, 1001)]
    lines = plain(steps)
    assert len(lines) in (10, 11)  # 100 s: nine or ten on the way, one at the end
    assert all("10/s" in line for line in lines[:-1])
    assert lines[-1] == "value 1000/1000 coalitions in 1 min 40 s"


def test_a_short_stage_writes_its_last_line_only():
    lines = plain([(0, Progress("embed", 0, 10, "texts")), (2.5, Progress("embed", 10, 10, "texts"))])
    assert lines == ["embed 10/10 texts in 2.5 s"]


def test_a_new_stage_name_closes_the_former_one():
    lines = plain(
        [
            (0, Progress("embed", 0, 10, "texts")),
            (3, Progress("embed", 4, 10, "texts")),
            (1, Progress("value", 0, 5, "coalitions")),
            (1, Progress("value", 5, 5, "coalitions")),
        ]
    )
    assert lines == ["embed 4/10 texts in 4.0 s", "value 5/5 coalitions in 1.0 s"]


def test_a_stage_that_starts_again_is_a_new_line_with_its_own_time():
    lines = plain(
        [
            (0, Progress("embed", 0, 10, "texts")),
            (3, Progress("embed", 10, 10, "texts")),
            (0, Progress("embed", 0, 4, "texts")),
            (1, Progress("embed", 4, 4, "texts")),
        ]
    )
    assert lines == ["embed 10/10 texts in 3.0 s", "embed 4/4 texts in 1.0 s"]


def test_a_stage_that_speaks_only_once_took_the_time_since_the_one_before():
    lines = plain([(2, Progress("data", 1, 1, "files")), (3, Progress("select", 1, 1))])
    assert lines == ["data 1/1 files in 2.0 s", "select 1/1 in 3.0 s"]


def test_a_resumed_stage_does_not_count_earlier_work_in_its_rate():
    lines = plain([(0, Progress("value", 900, 1000, "fits")), (10, Progress("value", 910, 1000, "fits"))])
    assert lines[0] == "value 910/1000 fits, 1.0/s, 1 min 30 s left"


def test_the_rate_forgets_a_slow_start():
    steps = [(0, Progress("value", 0, 1000, "fits")), (60, Progress("value", 1, 1000, "fits"))]
    steps += [(1, Progress("value", 1 + 10 * i, 1000, "fits")) for i in range(1, 65)]
    assert "10/s" in plain(steps)[-2]


def test_a_stage_cut_short_by_an_error_still_says_how_far_it_came():
    clock, stream = Clock(), io.StringIO()

    def fail():
        with console_progress(stream, clock=clock) as progress:
            progress(Progress("finetune", 3, 10, "steps"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert stream.getvalue().startswith("finetune 3/10 steps in")


def test_an_unknown_total_and_a_line_break_in_a_detail_do_no_harm():
    lines = plain([(0, Progress("read", 0, 0)), (20, Progress("read", 7, 0, "rows", "a\nb"))])
    assert lines[0].startswith("read 7 rows, 2.9 s each, a b")
    assert all("\x1b" not in line for line in lines)


def test_no_event_writes_nothing():
    assert plain([]) == []


def test_a_terminal_gets_a_live_line_and_keeps_one_line_per_finished_stage():
    clock, stream = Clock(), io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, color_system=None)
    with console_progress(clock=clock, console=console) as progress:
        progress(Progress("embed", 0, 3000, "texts"))
        clock.now += 10
        progress(Progress("embed", 1000, 3000, "texts", "[bold]64 tokens"))
        time.sleep(0.3)  # the live line is redrawn ten times a second
        clock.now += 20
        progress(Progress("embed", 3000, 3000, "texts"))
        progress(Progress("value", 0, 7, "coalitions"))
        progress(Progress("value", 7, 7, "coalitions"))
    text = stream.getvalue()
    assert "━" in text
    assert "1000/3000 texts, 100/s, 20 s left, [bold]64 tokens" in text
    assert text.count("✓ embed 3000/3000 texts in 30 s") == 1
    assert text.count("✓ value 7/7 coalitions in 0.0 s") == 1
    assert text.index("✓ embed") < text.index("✓ value")


def test_a_narrow_terminal_never_breaks_the_line():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=40, color_system=None)
    with console_progress(console=console) as progress:
        progress(Progress("embed", 1, 3000, "texts", "x" * 100))
        time.sleep(0.3)
    frames = re.split(r"[\r\n]|\x1b\[[?0-9;]*[A-Za-z]", stream.getvalue())
    assert any("embed" in frame for frame in frames)
    assert max(map(len, frames)) <= 40


def test_a_stream_that_is_a_terminal_is_drawn_on(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    with console_progress(stream) as progress:
        progress(Progress("embed", 1, 1, "texts"))
    assert "\x1b" in stream.getvalue()


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with console_progress(stream) as progress:
        progress(Progress("embed", 0, 1, "texts"))
        progress(Progress("embed", 1, 1, "texts"))
    assert stream.getvalue() == "embed 1/1 texts in 0.0 s\n"


def test_importing_the_module_does_not_import_rich():
    code = "import sys, tsds_jax.runtime.console; print('rich' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_read_at_a_glance(seconds, text):
    assert duration(seconds) == text
