"""A run's folder: nothing of anybody else's is touched, nothing finished is done again."""

import errno
import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tsds_jax.data.reading import read_source
from tsds_jax.errors import InputError, TsdsError
from tsds_jax.runtime import folder
from tsds_jax.runtime.files import check_writable
from tsds_jax.runtime.folder import Timed, check_outside, check_run_folder, keep_nothing, open_run
from tsds_jax.stages import load_arrays

IDENTITY = {"version": "1", "options": {"seed": 0, "pca": 32}, "data": {"train": "abc", "test": None}}


def never():
    raise AssertionError("computed again")


def test_a_place_that_is_not_open_to_the_user_is_named(tmp_path, monkeypatch):
    def closed(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    # Who runs the tests may be allowed everything.
    monkeypatch.setattr(os, "lstat", closed)
    for do in (check_run_folder, partial(open_run, identity=IDENTITY), read_source, load_arrays, check_writable):
        with pytest.raises(InputError, match="out lies in a folder that is not open to this user: give another place"):
            do(str(tmp_path / "out"))


def test_a_finished_stage_is_read_and_not_computed_again(tmp_path):
    arrays = {"x": np.arange(6.0).reshape(2, 3), "name": np.asarray("näme"), "n": np.asarray(3)}
    open_run(tmp_path / "run", IDENTITY).keep("stage", lambda: arrays)
    again = open_run(tmp_path / "run", IDENTITY, resume=True).keep("stage", never)
    assert {key: array.tolist() for key, array in again.items()} == {k: a.tolist() for k, a in arrays.items()}


def test_what_an_earlier_try_finished_counts_as_long_as_it_took_then(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(folder, "time", SimpleNamespace(perf_counter=lambda: now, time=lambda: now))

    def slow(seconds):
        nonlocal now
        now += seconds
        return {"x": np.arange(3)}

    first = Timed(open_run(tmp_path / "run", IDENTITY).keep)
    first("stage", partial(slow, 8))
    slow(1)  # what is not kept
    assert first.seconds == 9
    second = Timed(open_run(tmp_path / "run", IDENTITY, resume=True).keep)
    np.testing.assert_array_equal(second("stage", never)["x"], np.arange(3))
    second("more", partial(slow, 2))
    assert second.seconds == 10
    # What says itself how long it took, as a fine-tuning that was gone on with, is believed.
    second("model", lambda: slow(5) | {"seconds": np.asarray(7.0)})
    assert second.seconds == 17
    third = Timed(keep_nothing)
    third("stage", partial(slow, 3))
    assert third.seconds == 3


def test_a_stage_that_fails_leaves_nothing_behind(tmp_path):
    run = open_run(tmp_path / "run", IDENTITY)
    with pytest.raises(ZeroDivisionError):
        run.keep("stage", lambda: {"x": np.asarray(1 // 0)})
    assert list((tmp_path / "run" / "state").iterdir()) == []


def test_a_file_name_that_is_no_utf_8_can_be_told_of(tmp_path):
    run, name = open_run(tmp_path / "run", IDENTITY), os.fsdecode(b"caf\xe9.csv")
    run.write_json("about.json", {"source": name})
    run.log("data", source=name)
    assert json.loads((run.path / "about.json").read_text("utf-8")) == {"source": name}
    assert json.loads((run.path / "metrics.jsonl").read_text("utf-8"))["source"] == name


def test_a_finished_stage_can_be_done_anew(tmp_path):
    run = open_run(tmp_path / "run", IDENTITY)
    for number, anew, expected in ((1, False, 1), (2, False, 1), (3, True, 3), (4, False, 3)):
        kept = run.keep("stage", lambda number=number: {"x": np.asarray(number)}, anew=anew)
        assert kept["x"] == expected


def test_a_folder_with_another_run_is_refused_unless_told(tmp_path):
    open_run(tmp_path, IDENTITY)
    with pytest.raises(InputError, match="holds another run: resume it, overwrite it, or give another folder"):
        open_run(tmp_path, IDENTITY)


def test_resuming_another_run_is_refused_with_the_difference_named(tmp_path):
    open_run(tmp_path, IDENTITY)
    other = {**IDENTITY, "options": {"seed": 1, "pca": 32}}
    with pytest.raises(InputError, match=r"a run with options\.seed 0 instead of 1"):
        open_run(tmp_path, other, resume=True)


def test_overwriting_removes_the_run_and_leaves_other_files_alone(tmp_path):
    open_run(tmp_path, IDENTITY).keep("stage", lambda: {"x": np.zeros(1)})
    (tmp_path / "notes.txt").write_text("mine")
    open_run(tmp_path, {**IDENTITY, "version": "2"}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "notes.txt", "state"]
    assert not list((tmp_path / "state").iterdir())


def test_an_input_that_overwriting_leaves_alone_is_no_reason_to_refuse(tmp_path, monkeypatch):
    run = open_run(tmp_path / "run", IDENTITY).path
    (run / "rows.csv").write_text("mine")
    (tmp_path / "kept.csv").write_text("another's")
    monkeypatch.chdir(run)
    apart = "n" * 220 + ".csv (0.2 of the rows, set apart with seed 0)"  # no file has that name, and none can
    inputs = ("rows.csv", "../kept.csv", "kept.csv", apart, "glue:sst2@train", "model", None, {"train": []})
    check_outside(".", inputs, overwrite=True)
    (run / "kept.csv").write_text("the run's")
    with pytest.raises(InputError, match=r"kept\.csv is of the run in \. that overwrite would remove"):
        check_outside(".", inputs, overwrite=True)
    check_outside(".", inputs, overwrite=False)


def test_what_the_first_process_refuses_ends_the_others_whose_folder_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr("tsds_jax.runtime.folder.first_says", lambda what: what or "kept.csv is of the run")
    with pytest.raises(InputError, match=r"kept\.csv is of the run"):
        check_outside(tmp_path, ("kept.csv",), overwrite=True)


def test_a_run_whose_removal_was_stopped_is_no_longer_finished(tmp_path, monkeypatch):
    run, really = open_run(tmp_path, IDENTITY), Path.unlink
    run.write_text("report.html", "page")
    run.write_json("manifest.json", {"status": "finished", "identity": IDENTITY})

    def unlink(path, **how):
        really(path, **how)
        if path.name == "report.html":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        open_run(tmp_path, IDENTITY, overwrite=True)
    assert not (tmp_path / "report.html").exists()
    assert not open_run(tmp_path, IDENTITY, resume=True).finished


@pytest.mark.parametrize("how", [{}, {"resume": True}, {"overwrite": True}])
def test_a_folder_of_other_files_is_never_taken(tmp_path, how):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="holds files that are no run's"):
        open_run(tmp_path, IDENTITY, **how)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        check_run_folder(tmp_path / "out")


def test_resume_and_overwrite_together_are_refused(tmp_path):
    with pytest.raises(InputError, match="give one of them"):
        open_run(tmp_path, IDENTITY, resume=True, overwrite=True)


def test_a_pickle_in_place_of_a_state_file_is_refused_not_run(tmp_path):
    run = open_run(tmp_path, IDENTITY)
    np.savez(tmp_path / "state" / "stage.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(TsdsError, match="cannot be read"):
        run.keep("stage", never)


def test_a_damaged_state_file_is_named_with_the_way_out(tmp_path):
    run = open_run(tmp_path, IDENTITY)
    run.keep("stage", lambda: {"x": np.arange(1000)})
    file = tmp_path / "state" / "stage.npz"
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(TsdsError, match=r"stage\.npz cannot be read .*: delete it"):
        run.keep("stage", never)


def test_the_manifest_is_json_with_the_identity(tmp_path):
    open_run(tmp_path, IDENTITY)
    assert json.loads((tmp_path / "manifest.json").read_text())["identity"] == IDENTITY
