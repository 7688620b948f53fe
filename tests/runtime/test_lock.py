"""One writer a folder: a second process is told who has it, and it is free again however the first one ends."""

import errno
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from tsds_jax.cli import main
from tsds_jax.errors import InputError
from tsds_jax.runtime.folder import open_run
from tsds_jax.runtime.lock import take

# Of processes and files: the newest JAX changes nothing of them.
pytestmark = pytest.mark.slow

IDENTITY = {"version": "1"}
# Opens a run and stays in it until its input ends, or for good.
HOLDER = """
import sys
from tsds_jax.runtime.folder import open_run
run = open_run(sys.argv[1], {"version": "1"}, resume=True)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has a run folder open."""
    program = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("how", [{"resume": True}, {"overwrite": True}, {}])
def test_a_second_process_is_told_which_folder_who_has_it_and_what_to_do(holder, tmp_path, how):
    before = files(tmp_path / "run")
    with pytest.raises(InputError, match="in use") as told:
        open_run(tmp_path / "run", IDENTITY, **how)
    for words in (tmp_path / "run", f"process {holder.pid}", socket.gethostname(), "give another folder"):
        assert str(words) in str(told.value)
    assert files(tmp_path / "run") == before


def test_a_folder_is_free_after_its_process_was_killed(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    open_run(tmp_path / "run", IDENTITY, resume=True)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"manifest.json", "state"}


def test_a_folder_is_free_and_holds_no_lock_after_its_process_came_to_its_end(holder, tmp_path):
    holder.communicate()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"manifest.json", "state"}
    open_run(tmp_path / "run", IDENTITY, resume=True)


def test_a_folder_in_which_a_process_was_killed_at_once_is_no_folder_of_something_else(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("process 1 on elsewhere")
    open_run(tmp_path / "run", IDENTITY)


def test_one_process_may_open_its_folder_within_itself(tmp_path):
    outer = open_run(tmp_path / "run", IDENTITY)
    open_run(tmp_path / "run", IDENTITY, resume=True)
    assert (outer.path / ".lock").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_a_file_system_has_no_locks_a_run_goes_on_without(tmp_path, monkeypatch, number):
    import fcntl

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    run = open_run(tmp_path / "run", IDENTITY)
    assert {path.name for path in run.path.iterdir()} == {"manifest.json", "state"}


def test_a_place_whose_lock_would_have_too_long_a_name_goes_without(tmp_path):
    with take(tmp_path / ("n" * 256), tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_another_users_lock_is_neither_passed_over_nor_removed(tmp_path, monkeypatch):
    open_run(tmp_path / "run", IDENTITY)
    lock = tmp_path / "other" / ".lock"
    lock.parent.mkdir()
    lock.write_text("process 1 on another host")

    def closed(file, *how, **options):
        if file == lock:
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return open(file, *how, **options)

    monkeypatch.setattr("tsds_jax.runtime.lock.open", closed, raising=False)
    with pytest.raises(InputError, match="other has another user's lock: wait for their run's end"):
        open_run(lock.parent, IDENTITY)
    assert lock.read_text() == "process 1 on another host"


@pytest.mark.parametrize("command", ["run", "select", "finetune", "value", "evaluate"])
def test_every_command_that_writes_over_time_refuses_a_folder_in_use_before_it_reads(holder, capsys, tmp_path, command):
    rows = ["--data", "none.csv"] if command == "evaluate" else ["--train", "none.csv"]
    rest = ["--validation", "none.npz"] if command == "value" else ["--model", "none"]
    with pytest.raises(SystemExit) as ended:
        main([command, *rows, *rest, "--out", str(tmp_path / "run"), "--overwrite"])
    assert ended.value.code == 2
    assert f"{tmp_path / 'run'} is in use by process {holder.pid}" in capsys.readouterr().err


def test_several_seeds_take_their_folder_whole(holder, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["finetune", "--train", "none.csv", "--model", "none", "--seeds", "0,1", "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "in use" in capsys.readouterr().err


def test_what_a_run_has_written_so_far_can_be_read_while_it_goes_on(holder, tmp_path):
    from tsds_jax.report import read_run

    with pytest.raises(InputError) as told:  # nothing is there to be shown yet
        read_run(tmp_path / "run")
    assert "in use" not in str(told.value)


@pytest.mark.parametrize("command", ["select", "finetune", "value"])
def test_a_command_that_cannot_be_carried_out_leaves_no_folder(capsys, tmp_path, command):
    rest = ["--validation", "none.npz"] if command == "value" else ["--model", "none"]
    with pytest.raises(SystemExit) as ended:
        main([command, "--train", "none.csv", *rest, "--out", str(tmp_path / "new" / "run")])
    assert ended.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_representations_has_one_writer(tmp_path, tiny_model, tiny_files, capsys):
    """Two processes that embed to one file: the second is refused, and the file is the first one's."""
    out = tmp_path / "x.npz"
    program = """
import sys, time
from tsds_jax import cli, encoders
really = encoders.embed
def embed(*what, **how):
    print("embedding", flush=True)
    sys.stdin.read()
    return really(*what, **how)
encoders.embed = embed
cli.main(sys.argv[1:])
"""
    command = ["embed", "--data", tiny_files["test"], "--model", str(tiny_model), "--out", str(out)]
    first = subprocess.Popen(
        [sys.executable, "-c", program, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with first:
        assert first.stdout.readline() == "embedding\n"
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
        assert f"{out} is in use by process {first.pid}" in capsys.readouterr().err
        first.communicate()
    assert first.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    assert np.load(out)["x"].shape == (50, 32)
