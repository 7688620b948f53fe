"""Representations once computed come back from disk, whole or not at all."""

import dataclasses
import errno
import fcntl
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tsds_jax.encoders import embed, load_encoder
from tsds_jax.encoders.cache import Since, cache_key, read_entry, write_entry
from tsds_jax.encoders.embed import _section_tokens, _sections, batch_rows
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.runtime.progress import Progress

TEXTS = ["a good film", "the plot was slow " * 8, "bad", "lovely"]


@pytest.fixture
def broken(encoder):
    """The same encoder, unable to compute or to tokenise anything."""

    class Fails:
        def __call__(self, *_, **__):
            raise AssertionError("tokenised again")

    class Same(type(encoder)):
        def fingerprint(self):
            return encoder.fingerprint()

    fields = {field.name: getattr(encoder, field.name) for field in dataclasses.fields(encoder)}
    again = Same(**fields | {"model": None})
    vars(again)["tokenizer"] = Fails()
    return again


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_run_computes_nothing_and_gives_the_same_memory_mapped(encoder, broken, tmp_path):
    plain = embed(encoder, TEXTS, max_length=16)
    first = embed(encoder, TEXTS, max_length=16, cache=tmp_path / "new" / "cache")
    events = []
    second = embed(broken, TEXTS, max_length=16, cache=tmp_path / "new" / "cache", progress=events.append)
    for kept in (first, second):
        assert isinstance(kept.values, np.memmap)
        assert not kept.values.flags.writeable
        np.testing.assert_array_equal(kept.values, plain.values)
        assert (kept.truncated, kept.tokens) == (plain.truncated, plain.tokens) == (1, 27)
    assert events == [Progress("embed", 4, 4, "texts", "from the cache")]


@pytest.mark.parametrize(
    "change",
    [
        {"texts": TEXTS[::-1]},
        {"texts": [*TEXTS[:-1], "lovely "]},
        {"texts": [(text, "") for text in TEXTS]},
        {"pooling": "cls"},
        {"layer": 0},
        {"layer": (-1, 0)},
        {"max_length": 8},
    ],
)
def test_other_texts_and_options_are_another_entry(encoder, tmp_path, change):
    given = {"texts": TEXTS, **change}
    encoder.embed(TEXTS, cache=tmp_path)
    values = encoder.embed(**given, cache=tmp_path)
    np.testing.assert_array_equal(values, encoder.embed(**given))
    assert len(entries(tmp_path)) == 4


def test_another_spelling_of_the_same_and_the_batch_size_are_the_same_entry(encoder, tmp_path):
    for options in ({}, {"layer": 2}, {"layer": [-1]}, {"max_length": 64}, {"batch_size": 3}):
        encoder.embed(tuple(TEXTS), cache=str(tmp_path), **options)
    assert len(entries(tmp_path)) == 2


def test_other_weights_are_another_entry(encoder, folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 0.1}))
    for one in (encoder, load_encoder(folder)):
        one.embed(TEXTS, cache=tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == 4


def test_texts_that_join_to_the_same_letters_are_told_apart():
    joined = (["ab", "c"], ["a", "bc"], ["abc"], [("ab", "c")], [("a", "bc")], ["2", "ab", "c"], ["ab", "1", "c"])
    keys = [cache_key("e", texts, {}) for texts in joined]
    assert len(set(keys)) == len(keys)


def cut(file):
    file.write_bytes(file.read_bytes()[:-9])


def flip(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("ending", [".npy", ".json"])
@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip,
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"[1]"),
        lambda file: file.write_bytes(b"PK\x03\x04 of zip"),
        lambda file: np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(4, 32)).flush(),
    ],
    ids=["cut", "a bit flipped", "gone", "empty", "a list", "an archive", "another array"],
)
def test_a_damaged_entry_is_never_used_but_computed_again(encoder, tmp_path, damage, ending):
    expected = embed(encoder, TEXTS)
    embed(encoder, TEXTS, cache=tmp_path)
    before = entries(tmp_path)
    damage(next(tmp_path.glob(f"*{ending}")))
    events = []
    again = embed(encoder, TEXTS, cache=tmp_path, progress=events.append)
    np.testing.assert_array_equal(again.values, expected.values)
    assert (again.truncated, again.tokens) == (expected.truncated, expected.tokens)
    assert events[0].done == 0
    assert entries(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_an_interrupted_write_leaves_no_entry(encoder, tmp_path, error):
    def stop(event):
        if event.done:
            raise error

    with pytest.raises(error):
        encoder.embed(TEXTS * 50, cache=tmp_path, batch_size=8, progress=stop)
    assert entries(tmp_path) == []


def test_a_process_that_is_killed_leaves_no_entry(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from tsds_jax.encoders.cache import write_entry
write_entry(Path(sys.argv[1]) / "key.npy", (4, 8), lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    assert len(entries(tmp_path)) == 1  # what it had begun, under a name that nothing reads
    assert read_entry(tmp_path / "key.npy", (4, 8)) is None


HALF = """
import os, signal, sys
from pathlib import Path
from tsds_jax.encoders.cache import Since, write_entry

def fill(values, since, mark):
    for row in range(since.rows, 6):
        values[row] = row + 1
        mark(Since(row + 1, {"rows": row + 1}))
        if row == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

write_entry(Path(sys.argv[1]) / "key.npy", (6, 8), fill, every=0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        None,
        flip,
        lambda file: file.write_bytes(file.read_bytes()[:150]),
        lambda file: file.write_bytes(b"[1]"),
        Path.unlink,
    ],
)
def test_what_killed_writers_had_marked_as_written_is_gone_on_with_if_it_is_whole(tmp_path, damage):
    for row in (1, 3):
        assert subprocess.run([sys.executable, "-c", HALF, str(tmp_path), str(row)]).returncode == -9
        assert len(entries(tmp_path)) == 2  # the array and how far it is
    if damage:
        array = next(tmp_path.glob("*.part"))
        content = array.read_bytes()
        damage(array)
        if damage is flip:  # of the marked rows, not of those behind
            array.write_bytes(content[:130] + bytes([content[130] ^ 1]) + content[131:])

    def fill(values, since, mark):
        assert since == (Since(0, {}) if damage else Since(4, {"rows": 4}))
        values[since.rows :] = np.arange(since.rows, 6)[:, None] + 1
        return {"rows": 6}

    found = write_entry(tmp_path / "key.npy", (6, 8), fill)
    np.testing.assert_array_equal(found.values, np.tile(np.arange(1, 7)[:, None], (1, 8)))
    assert read_entry(tmp_path / "key.npy", (6, 8)).counts == {"rows": 6}
    if not damage:
        assert entries(tmp_path) == ["key.json", "key.npy"]


def test_an_interrupted_embedding_goes_on_to_the_same_bits(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("tsds_jax.encoders.embed"), "SECTION", 2)
    texts = [f"{text} {'film ' * (number % 9)}" for number, text in enumerate(TEXTS * 12)]
    whole = embed(encoder, texts, batch_size=4)

    def stop(event):
        if event.done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(encoder, texts, batch_size=4, cache=tmp_path, progress=stop)
    assert len(entries(tmp_path)) == 2
    events = []
    again = embed(encoder, texts, batch_size=4, cache=tmp_path, progress=events.append)
    assert events[0].done == 18  # a section of as many tokens as two batches of four of the longest texts
    np.testing.assert_array_equal(again.values, whole.values)
    assert (again.truncated, again.tokens) == (whole.truncated, whole.tokens)
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize(
    ("limit", "batch_size", "most"),
    [(512, None, 1024), (8192, None, 1024), (32768, None, 2048), (512, 64, 3072), (128, 4096, 71_000)],
)
def test_a_section_is_no_longer_for_texts_that_an_encoder_could_take_or_batches_that_it_fills(limit, batch_size, most):
    sizes = batch_rows(limit, batch_size, 1)
    tokens = _section_tokens(sizes, 85, 1024)
    assert tokens <= 85 * most
    # What is not full at its end, a batch of each length, is a quarter of it at most.
    assert sum(length * rows for length, rows in sizes.items()) <= tokens / 4


def test_a_section_is_as_much_work_whether_texts_are_long_or_short():
    short, long = ["a good film"] * 1000, ["word " * 4000] * 1000
    assert list(_sections(short, 960, 512, 480)) == [(960, 980), (980, 1000)]
    assert list(_sections(long, 995, 512, 1024)) == [(995, 997), (997, 999), (999, 1000)]
    assert list(_sections([(one, one) for one in ["word " * 40] * 6], 0, 512, 300)) == [(0, 3), (3, 6)]


def test_a_write_that_fails_leaves_what_was_marked_for_the_next(tmp_path):
    def first(values, since, mark):
        values[:4] = 1
        mark(Since(4, {"rows": 4}))
        raise OSError(errno.ENOSPC, "No space left on device")

    def second(values, since, mark):
        assert since == Since(4, {"rows": 4})
        values[4:] = 1
        return {"rows": 6}

    with pytest.raises(OSError, match="No space left"):
        write_entry(tmp_path / "key.npy", (6, 8), first, every=0)
    assert (write_entry(tmp_path / "key.npy", (6, 8), second).values == 1).all()
    assert entries(tmp_path) == ["key.json", "key.npy"]


def test_an_interrupt_while_marks_are_written_loses_no_marked_row(tmp_path, monkeypatch):
    def stopped(opened):
        monkeypatch.setattr(os, "fsync", fsync)
        raise KeyboardInterrupt

    def first(values, since, mark):
        values[:4] = 1
        monkeypatch.setattr(os, "fsync", stopped)
        mark(Since(4, {"rows": 4}))

    def second(values, since, mark):
        assert since == Since(4, {"rows": 4})
        values[4:] = 1
        return {"rows": 6}

    fsync = os.fsync
    with pytest.raises(KeyboardInterrupt):
        write_entry(tmp_path / "key.npy", (6, 8), first, every=0)
    assert (write_entry(tmp_path / "key.npy", (6, 8), second).values == 1).all()


def test_what_killed_writers_left_a_day_ago_is_cleared_and_what_is_being_written_stays(tmp_path):
    def fill(values, since, mark):
        values[:] = 1
        return {}

    old, new, other = (tmp_path / f".{name}.part" for name in ("key.npy.aa", "key.npy.bb", "another.npy.cc"))
    for left in (old, new, other):
        left.write_bytes(b"half")
    for left in (old, other):
        os.utime(left, (time.time() - 90_000,) * 2)
    write_entry(tmp_path / "key.npy", (2, 3), fill)
    assert {path.name for path in tmp_path.iterdir()} == {"key.npy", "key.json", new.name, other.name}


def test_an_array_that_a_killed_writer_left_without_marks_is_cleared_and_one_that_is_held_stays(tmp_path):
    file, held = tmp_path / "key.npy", tmp_path / ".key.npy.bb.part"
    for left in (tmp_path / ".key.npy.aa.part", held):
        left.write_bytes(b"half")
        os.utime(left, (time.time() - 120,) * 2)
    with open(held, "r+b") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        write_entry(file, (2, 3), lambda values, since, mark: {})
    assert {path.name for path in tmp_path.iterdir()} == {"key.npy", "key.json", held.name}


def test_marks_that_are_days_old_are_gone_on_from_however_often_it_is_cut(tmp_path):
    assert subprocess.run([sys.executable, "-c", HALF, str(tmp_path), "3"]).returncode == -9
    for left in tmp_path.iterdir():
        os.utime(left, (time.time() - 90_000,) * 2)

    def cut(values, since, mark):
        raise TsdsError("cut again")

    def rest(values, since, mark):
        assert since == Since(4, {"rows": 4})
        return {"rows": 6}

    with pytest.raises(TsdsError, match="cut again"):
        write_entry(tmp_path / "key.npy", (6, 8), cut)
    write_entry(tmp_path / "key.npy", (6, 8), rest)


def test_writers_of_one_entry_do_not_harm_each_other(tmp_path):
    file = tmp_path / "key.npy"

    def writer(value, during):
        def fill(values, since, mark):
            assert since.rows == 0
            values[:2] = value
            mark(Since(2, {}))
            during()
            values[2:] = value
            return {"tokens": value}

        return lambda: write_entry(file, (4, 8), fill, every=0)

    def other():
        found.append(writer(2, lambda: None)())
        assert (read_entry(file, (4, 8)).values == 2).all()

    found = []
    found.append(writer(1, other)())
    # Each has its own, also after the other's took the name.
    assert [set(entry.values.ravel().tolist()) for entry in found] == [{2.0}, {1.0}]
    kept = read_entry(file, (4, 8))
    assert (kept.values == 1).all()
    assert kept.counts == {"tokens": 1}
    assert entries(tmp_path) == ["key.json", "key.npy"]


def test_an_array_of_another_writer_than_its_counts_is_no_entry(tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        write_entry(
            tmp_path / f"{name}.npy", (4, 8), lambda values, *_, value=value: values.fill(value) or {"tokens": 3}
        )
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")
    assert read_entry(tmp_path / "a.npy", (4, 8)) is None


def test_a_cache_that_cannot_be_is_refused_by_name(encoder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file"):
        encoder.embed(TEXTS, cache=tmp_path / "file")
    with pytest.raises(InputError, match=r"has no room for .* MiB \(.*\): make room"):
        write_entry(tmp_path / "key.npy", (2**40, 8), lambda *_: pytest.fail("written"))
    assert entries(tmp_path) == ["file"]


def test_bad_texts_are_refused_before_the_cache_is_made(encoder, tmp_path):
    with pytest.raises(InputError, match="row 1"):
        encoder.embed(["a", ""], cache=tmp_path / "cache")
    assert encoder.embed([], cache=tmp_path / "cache").shape == (0, 32)
    assert entries(tmp_path) == []
