"""`value(checkpoint=...)`: nothing sampled is lost, and nothing else is taken for it."""

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable

import jax
import numpy as np
import pytest

import tsds_jax as tsds
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.games import TableGame
from tsds_jax.runtime.checkpoint import Checkpoint

RNG = np.random.default_rng(0)
X, X_VAL = RNG.normal(size=(50, 4)).astype(np.float32), RNG.normal(size=(30, 4)).astype(np.float32)
Y, Y_VAL = (X[:, 0] > 0).astype(int), (X_VAL[:, 0] > 0).astype(int)
HOW = {"subset_size": 10, "samples": 100}


class Cut(Exception):
    pass


def cut_at(number):
    """A progress function that raises the so manyeth time."""
    left = [number]

    def progress(event):
        left[0] -= 1
        if left[0] < 0:
            raise Cut

    return progress


def cut(number, file, **options):
    with pytest.raises(Cut):
        tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, checkpoint_every=0, progress=cut_at(number), **HOW, **options)


def same(one, other):
    one, other = one.arrays(), other.arrays()
    assert one.keys() == other.keys()
    for name in one.keys() - {"seconds"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reliability": np.float32(0.5)},
        {"row_groups": np.arange(30) % 2},
        {"estimator": "permutation", "source": "ridge", "antithetic": True},
        {"estimator": "banzhaf", "source": "ridge", "subset_size": None},
    ],
    ids=["add_one", "reliability", "row groups", "permutation", "banzhaf"],
)
def test_values_that_were_cut_again_and_again_are_those_of_one_run(tmp_path, options):
    options = {**HOW, **options}
    whole = tsds.value(X, Y, X_VAL, Y_VAL, **options)
    file = tmp_path / "values.npz"
    for _ in range(3):
        # The first event tells of nothing, the second of what was read, the third of what is new.
        with pytest.raises(Cut):
            tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, checkpoint_every=0, progress=cut_at(2), **options)
    found = tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, **options)
    same(found, whole)


def test_a_finished_checkpoint_answers_without_sampling(tmp_path, monkeypatch):
    file = tmp_path / "values.npz"
    whole = tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, **HOW)

    def never(*arguments, **options):
        raise AssertionError("sampled again")

    # By its name in the package this module is hidden by its function.
    monkeypatch.setattr(sys.modules["tsds_jax.estimators.add_one"], "add_one_rounds", never)
    again = tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, **HOW)
    same(again, whole)
    # The first run's own count ends after its last write, so what counts is what was written.
    with np.load(file) as kept:
        assert again.seconds > kept["seconds"] > 0


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"seed": 1}, r"seed 0 instead of 1"),
        ({"samples": 200}, r"samples 100 instead of 200"),
        ({"C": 2.0}, r"(arrays|game)"),
        ({"utility": "accuracy"}, r"game\.utility .* instead of accuracy"),
        ({"reliability": 0.9}, r"reliability None instead of 0\.9"),
    ],
)
def test_a_checkpoint_of_other_options_is_refused_with_the_difference(tmp_path, other, difference):
    cut(2, tmp_path / "values.npz")
    before = (tmp_path / "values.npz").read_bytes()
    with pytest.raises(InputError, match=rf"values\.npz is of a computation with .*{difference}.*give another file"):
        tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=tmp_path / "values.npz", **{**HOW, **other})
    assert (tmp_path / "values.npz").read_bytes() == before


def test_a_game_with_a_function_in_it_goes_on_wherever_that_is_in_memory(tmp_path):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Own(TableGame):
        scale: Callable[[int], int] = dataclasses.field(metadata={"static": True}, default=abs)
        classes = np.int64(2)  # no JSON

    def a_new_one():
        return lambda number: number

    values = np.random.default_rng(0).random(16)
    first, again = (Own(values, scale=a_new_one()) for _ in range(2))
    assert str(first.scale) != str(again.scale)
    whole = tsds.value_game(first, samples=20, checkpoint=tmp_path / "values.npz")
    same(tsds.value_game(again, samples=20, checkpoint=tmp_path / "values.npz"), whole)


def test_a_checkpoint_of_other_data_is_refused_with_the_array_named(tmp_path):
    cut(2, tmp_path / "values.npz")
    moved = X.copy()
    moved[7, 2] += 1e-3
    with pytest.raises(InputError, match=r"is of a computation with arrays\.\.x \w+ instead of"):
        tsds.value(moved, Y, X_VAL, Y_VAL, checkpoint=tmp_path / "values.npz", **HOW)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_told_and_left_alone(tmp_path, content):
    file = tmp_path / "values.npz"
    file.write_bytes(content)
    with pytest.raises(TsdsError, match=r"values\.npz cannot be read .*delete it to begin anew"):
        tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, **HOW)
    assert file.read_bytes() == content


def test_a_pickle_in_a_checkpoint_is_refused_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "values.npz", identity=np.array([Trap()], dtype=object))
    with pytest.raises(TsdsError, match="cannot be read"):
        tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=tmp_path / "values.npz", **HOW)
    assert not (tmp_path / "ran").exists()


def test_places_and_times_that_cannot_be_are_told_before_any_work(tmp_path):
    with pytest.raises(InputError, match="is a folder: give a file for the checkpoint"):
        tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=tmp_path, **HOW)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file: give another place"):
        tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=tmp_path / "file" / "values.npz", **HOW)
    with pytest.raises(InputError, match="checkpoint_every is -1: give a number"):
        tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=tmp_path / "v.npz", checkpoint_every=-1, **HOW)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_next_write_and_the_handlers_are_given_back(tmp_path, number):
    before = signal.getsignal(number)
    kept = Checkpoint(tmp_path / "x.npz", {"one": 1}, every=3600)

    def work():
        with kept:
            os.kill(os.getpid(), number)
            assert not (tmp_path / "x.npz").exists()
            kept.offer({"reached": np.arange(3)})
            raise AssertionError("went on")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(number) == before
    assert Checkpoint(tmp_path / "x.npz", {"one": 1}).read()["reached"].tolist() == [0, 1, 2]


def test_in_a_job_a_valuation_ends_where_all_have_heard_of_it_and_goes_on_to_the_same_values(tmp_path, monkeypatch):
    whole, file = tsds.value(X, Y, X_VAL, Y_VAL, **HOW), tmp_path / "values.npz"
    # This process is never asked itself: another of the job is, during the third call.
    heard, told = iter([(False,), (False,), (True,), (True,), (True,), (True, False)]), []
    with monkeypatch.context() as patched:
        patched.setattr("tsds_jax.runtime.signals.any_says", lambda *asked: next(heard))
        # Calls on one thread, as in a job: they ask in their order.
        patched.setattr(sys.modules["tsds_jax.estimators.add_one"], "_CPU_CALLS", 1)
        with pytest.raises(KeyboardInterrupt):
            tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, checkpoint_every=3600, progress=told.append, **HOW)
    with np.load(file) as kept:
        assert kept["counted"][0] == 48
    assert len(told) == 3  # nothing yet, and after two calls
    same(tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, **HOW), whole)


def test_in_a_job_a_signal_behind_the_last_call_ends_a_finished_valuation_in_all(tmp_path, monkeypatch):
    whole, file = tsds.value(X, Y, X_VAL, Y_VAL, **HOW), tmp_path / "values.npz"
    with monkeypatch.context() as patched:
        # Each call asks whether to end; at the end they agree on that and on whether it is late.
        patched.setattr("tsds_jax.runtime.signals.any_says", lambda *told: (len(told) == 2, False)[: len(told)])
        with pytest.raises(KeyboardInterrupt):
            tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, **HOW)
    with np.load(file) as kept:
        assert kept["counted"][0] == 100
    same(tsds.value(X, Y, X_VAL, Y_VAL, checkpoint=file, **HOW), whole)


def test_a_signal_of_one_process_of_a_job_waits_for_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr("tsds_jax.runtime.signals.any_says", lambda *told: told)

    def work():
        with Checkpoint(tmp_path / "x.npz", {}, every=3600) as kept:
            os.kill(os.getpid(), signal.SIGTERM)
            kept.offer({"reached": np.arange(1)})  # the others go on with what comes next, and wait for this one
            kept.offer({"reached": np.arange(2)}, ends=True)
            raise AssertionError("went on")

    with pytest.raises(KeyboardInterrupt):
        work()
    monkeypatch.undo()
    assert Checkpoint(tmp_path / "x.npz", {}).read()["reached"].tolist() == [0, 1]


def test_a_second_signal_does_not_wait(tmp_path):
    def work():
        with Checkpoint(tmp_path / "x.npz", {}, every=3600):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("went on")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_a_valuation_in_another_thread_leaves_signals_alone(tmp_path):
    found, before = [], signal.getsignal(signal.SIGINT)

    def work():
        with Checkpoint(tmp_path / "x.npz", {}):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
