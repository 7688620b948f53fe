"""A job of several processes: one answer, one folder, one end."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tsds_jax.errors import InputError
from tsds_jax.runtime.processes import join_job

PLACE = """
import os, sys
from pathlib import Path
from tsds_jax.runtime.processes import any_says, is_first, join_job, own_place
out, place, number = sys.argv[1:]
assert join_job(place, 2, int(number))
assert is_first() == (number == "0")
assert any_says(True, number == "0", False) == (True, True, False)
with own_place(out) as own:
    assert (str(own) == out) == is_first()
    print(own)
    for path in sorted(Path(own).rglob("*")):
        print(path.relative_to(own), path.read_bytes().hex()[:20] if path.is_file() else "folder")
    (Path(own) / "new").mkdir()
"""

# Every name that a file or folder is given under OUT, by a process of the Python functions.
WRITES = """
import os, sys
from pathlib import Path
out, place, number, train, model = sys.argv[1:]
names, replace, makes = [], os.replace, os.mkdir
os.replace = lambda one, other: (names.append(str(other)), replace(one, other))
os.mkdir = lambda one, *how: (names.append(str(one)), makes(one, *how))
import numpy as np
import tsds_jax as tsds
from tsds_jax.errors import InputError
from tsds_jax.runtime.processes import join_job
assert join_job(place, 2, int(number))
quick = tsds.FineTuneOptions(steps=3, batch_size=8, max_length=16)
tuned = tsds.finetune(model, train, options=quick, folder=f"{out}/tuned", checkpoint_every=0)
assert tuned.steps == 3
how = dict(check_seeds=0, samples=8, pca=4, subset_size=20, rule="argmax", remove_count=3)
given = dict(validation=train, model=model, finetuning=quick)
assert str(tsds.run(train, out=f"{out}/run", **given, **how)) == f"{out}/run"
assert str(tsds.select(train, **given, **how).save(f"{out}/selection")) == f"{out}/selection"
try:
    tsds.run(train, out=f"{out}/run", **given, **how)
except InputError as error:
    print(error)
for name in names:
    if name.startswith(out):
        print(name)
"""

# Valuations of which the second process alone is asked to end, while they go on.
STOPPED = """
import os, signal, sys
import numpy as np
import tsds_jax as tsds
from tsds_jax.runtime.processes import join_job
folder, place, number = sys.argv[1:4]
assert join_job(place, 2, int(number))
x = np.random.default_rng(0).normal(size=(40, 4))
def asked(event):
    told.append(event.done)
    if number == "1" and len(told) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
for estimator in sys.argv[4:]:
    told, how = [], dict(estimator=estimator, source="ridge", samples=10**6, checkpoint_every=3600, progress=asked)
    file = f"{folder}/{estimator}-{number}.npz"
    try:
        tsds.value(x, x[:, 0] > 0, x, x[:, 0] > 0, checkpoint=file, **how)
    except KeyboardInterrupt:
        print(estimator, "ended", len(told))
"""

# What the library says that processes on CPUs talk through: a line for each connection, in pieces, which mix where two
# are made at once.
GLOO = re.compile(
    r"\[Gloo\] Rank (?:\[Gloo\] Rank |\d+| is connected to | peer ranks\. |"
    r"Expected number of connected peer ranks is : |\s)*"
)


def ends(commands, environments=({}, {}), limit=300):
    """Exit codes, and what was printed, of the commands that are started together."""
    running = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, environment in zip(commands, environments, strict=True)
    ]
    found = [one.communicate(timeout=limit) for one in running]
    printed = [GLOO.sub("", output) for output, _ in found]
    return [one.returncode for one in running], printed, [errors for _, errors in found]


def two(place, *arguments):
    """One command line for each of two processes."""
    command = ["-m", "tsds_jax.cli", *arguments, "--coordinator", place, "--processes", 2, "--process"]
    return [[*command, number] for number in range(2)]


@pytest.mark.slow
def test_a_run_of_two_tasks_of_four_devices_under_slurm_is_that_of_one(tiny_files, tiny_model, on_devices, tmp_path):
    arguments = ["--model", tiny_model, "--cache", tmp_path / "cache", "--check-seeds", 0, "--remove-count", 12]
    arguments += ["--samples", 20, "--pca", 8, "--subset-size", 40, "--steps", 2, "--batch-size", 6, "--shard"]
    arguments += [part for name, file in tiny_files.items() for part in (f"--{name}", file)]
    command = ["-m", "tsds_jax.cli", "run", *arguments, "--out"]
    code, _, errors = ends([[*command, tmp_path / "one"]], [{}])
    assert code == [0], errors
    # What srun sets; JAX makes the coordinator's port of the job's number.
    job = {"SLURM_JOB_ID": str(random.randrange(10**6)), "SLURM_STEP_NODELIST": "127.0.0.1"}
    job |= dict.fromkeys(("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"), "2") | {"SLURM_STEP_NUM_NODES": "1"}
    job |= on_devices(4)
    tasks = [job | dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID"), str(number)) for number in range(2)]
    codes, printed, errors = ends([[*command, tmp_path / "two"]] * 2, tasks)
    assert codes == [0, 0], errors
    assert "report: " in printed[0]
    assert printed[1] == ""
    counted = [json.loads((tmp_path / run / "manifest.json").read_text())["devices"] for run in ("one", "two")]
    assert [len(devices) for devices in counted] == [1, 8]

    names = [{str(path.relative_to(tmp_path / run)) for path in (tmp_path / run).rglob("*")} for run in ("one", "two")]
    assert names[0] == names[1]
    one, two = (pq.read_table(tmp_path / run / "values.parquet").to_pydict() for run in ("one", "two"))
    assert one.keys() == two.keys()
    for name, column in one.items():
        if isinstance(column[0], float):
            np.testing.assert_allclose(two[name], column, rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(column)))
        else:
            assert two[name] == column
    tuned, alike = (json.loads((tmp_path / run / "finetune.json").read_text())["arms"] for run in ("one", "two"))
    for arm, other in zip(tuned, alike, strict=True):
        assert arm["accuracy"] == other["accuracy"]
        assert arm["history"] == [pytest.approx(look, rel=1e-5) for look in other["history"]]


def test_all_begin_with_the_files_of_the_first(free_place, tmp_path):
    (tmp_path / "run" / "state" / "empty").mkdir(parents=True)
    (tmp_path / "run" / "manifest.json").write_text("{}")
    (tmp_path / "run" / "state" / "values.npz").write_bytes(bytes(range(10)))
    (tmp_path / "run" / "link").symlink_to(tmp_path)
    command = ["-c", PLACE, tmp_path / "run", free_place]
    codes, printed, errors = ends([[*command, 0], [*command, 1]])
    assert codes == [0, 0], errors
    own, copy = (lines.splitlines() for lines in printed)
    assert own[0] != copy[0]
    assert [line for line in own[1:] if not line.startswith(("link", ".lock"))] == copy[1:]
    assert bytes(range(10)).hex() in " ".join(copy)
    # The first one's is the job's; the copy is gone.
    assert (tmp_path / "run" / "new").is_dir()
    assert not Path(copy[0]).exists()


@pytest.mark.slow
def test_of_several_processes_that_call_the_python_functions_the_first_alone_writes(
    free_place, tiny_files, tiny_model, tmp_path
):
    out, rest = tmp_path / "out", (tiny_files["validation"], tiny_model)
    codes, printed, errors = ends([["-c", WRITES, out, free_place, number, *rest] for number in range(2)])
    assert codes == [0, 0], errors
    first, second = (lines.splitlines() for lines in printed)
    assert all("holds another run" in lines[0] for lines in (first, second))
    assert len(first) > 10
    assert second[1:] == []
    steps = [json.loads(line)["step"] for line in (out / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2, 3]
    assert len(steps) == 6  # a line a step, and one a look, of one process
    assert json.loads((out / "run" / "manifest.json").read_text())["status"] == "finished"
    assert not list(out.rglob(".*"))


@pytest.mark.slow
def test_one_process_that_is_asked_to_end_ends_a_valuation_in_all_and_the_first_writes(
    free_place, on_devices, tmp_path
):
    names = ["add_one", "permutation", "banzhaf"]
    commands = [["-c", STOPPED, tmp_path, free_place, number, *names] for number in range(2)]
    codes, printed, errors = ends(commands, [on_devices(2)] * 2, limit=120)
    assert codes == [0, 0], errors
    assert [line.split()[:2] for line in printed[0].splitlines()] == [[name, "ended"] for name in names]
    assert printed[0] == printed[1]
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}-0.npz" for name in names}
    for name in names:
        with np.load(tmp_path / f"{name}-0.npz") as stored:
            assert 0 < stored["counted"][0] < 10**6


def test_a_folder_in_use_is_refused_in_all_processes(free_place, tmp_path):
    from tsds_jax.runtime.folder import open_run

    held = open_run(tmp_path / "run", {})
    arguments = ["value", "--train", tmp_path / "x.npz", "--validation", tmp_path / "v.npz", "--resume"]
    codes, _, errors = ends(two(free_place, *arguments, "--out", held.path))
    assert codes == [2, 2]
    assert all(f"is in use by process {os.getpid()}" in error for error in errors)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--resume", "--overwrite"])
def test_a_seeds_folder_in_use_is_refused_in_all_processes_before_anything_is_read(free_place, tmp_path, how):
    from tsds_jax.runtime.folder import open_run

    held = open_run(tmp_path / "runs" / "seed-1", {"stage": "finetune"})
    arguments = ["finetune", "--train", "none.csv", "--model", "none", "--seeds", "0,1", how]
    codes, _, errors = ends(two(free_place, *arguments, "--out", tmp_path / "runs"))
    assert codes == [2, 2]
    assert all(f"seed-1 is in use by process {os.getpid()}" in error for error in errors)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["seed-1"]
    assert (held.path / "manifest.json").exists()


@pytest.mark.slow
def test_what_cannot_be_used_ends_all_processes_alike(free_place, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    arguments = ["value", "--train", tmp_path / "x.npz", "--validation", tmp_path / "v.npz"]
    codes, _, errors = ends(two(free_place, *arguments, "--out", tmp_path / "other"))
    assert codes == [2, 2]
    assert all("holds files that are no run's" in error for error in errors)
    assert (tmp_path / "other" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    "given", [("localhost:99", 2, None), ("localhost:99", None, 1), ("auto", 2, 0), (None, None, 1)]
)
def test_a_place_that_says_too_little_is_refused(given):
    with pytest.raises(InputError, match="coordinator"):
        join_job(*given)


def test_a_job_that_nothing_tells_of_is_refused():
    with pytest.raises(InputError, match="cannot be joined"):
        join_job("auto")
