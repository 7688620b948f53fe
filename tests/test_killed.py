"""A run that is killed again and again ends with the bits of one that nobody disturbed."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

# Imports once what a run imports, then forks a process for each try: JAX starts in the child, and what it compiles is
# kept on disk. So a try is soon within its run.
TRIES = """
import json, os, signal, sys, time
import tsds_jax.runtime.files as files
from tsds_jax import cli, demo, encoders, finetuning, pipeline, report
from transformers import AutoTokenizer, PreTrainedTokenizerFast
import orbax.checkpoint, optax, rich.progress, tsds_jax.runtime.console, tsds_jax.stages

def dying(write):
    to_disk = files._to_disk
    def count(path):
        nonlocal write
        write -= 1
        if write <= 0:  # all of it is written, and it has no name yet
            os.kill(os.getpid(), signal.SIGKILL)
        to_disk(path)
    return count

def has_open(child, out):  # or had when it was killed: that leaves the lock's file, which names the process
    by = (out / ".lock").read_text() if (out / ".lock").exists() else ""
    return by.startswith(f"process {child} ") and (out / "manifest.json").exists()

def ended(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)

command, base, moments = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
run = 0
for kind, moment in [*moments, ("end", 0)]:
    out = files.Path(f"{base}-{run}")
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(2, 1)
        if kind == "write":
            files._to_disk = dying(moment)
        try:
            cli.main([*command, str(out)])
        except SystemExit as end:
            os._exit(end.code)
    if kind == "seconds":  # of the run, however long it takes to begin
        while not has_open(child, out) and not ended(child):
            time.sleep(0.01)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(run, code, int(has_open(child, out)), flush=True)
    run += code == 0
"""


def tried(command, base, moments):
    """The number of the run that each try belongs to, how it ended, and whether it was killed with the folder open.

    Behind a run's end comes the next run.
    """
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(base.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    told = [json.dumps([str(part) for part in command]), str(base), json.dumps(moments)]
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRIES, *told],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | compiled,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=500,
    )
    return [tuple(map(int, line.split())) for line in found.stdout.splitlines()]


def outcome(folder: Path) -> dict[str, bytes]:
    """All that a run found, without when and how fast."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and name.split("/")[0] not in ("manifest.json", "metrics.jsonl", "report.html", "state"):
            found[name] = path.read_bytes()
    tuned = json.loads(found["finetune.json"])
    for arm in tuned["arms"]:
        del arm["seconds"]
    return found | {"finetune.json": json.dumps(tuned).encode()}


@pytest.fixture(scope="module")
def command(tiny_files, tiny_model):
    told = ["run", "--model", tiny_model, "--remove-count", 12, "--check-seeds", 0, "--samples", 48, "--pca", 8]
    told += ["--subset-size", 40, "--steps", 3, "--batch-size", 8, "--checkpoint-every", 0, "--resume"]
    return [*told, *(part for name, file in tiny_files.items() for part in (f"--{name}", file)), "--out"]


@pytest.mark.slow
def test_a_run_killed_at_twenty_moments_ends_as_one_that_was_not(command, tmp_path):
    chance = random.Random(0)
    moments = [["write", chance.randint(1, 12)] for _ in range(10)]
    moments += [["seconds", round(chance.uniform(0.0, 1.5), 2)] for _ in range(10)]
    chance.shuffle(moments)
    moments[0] = ["write", 1]  # before there is a manifest
    whole, *ends = tried(command, tmp_path / "run", [["end", 0], *moments])
    assert whole == (0, 0, 0)
    assert {code for _, code, _ in ends} == {0, -9}
    assert sum(code == -9 for _, code, _ in ends) >= 15
    assert sum(opened for *_, opened in ends) >= 15
    for run in range(1, ends[-1][0] + 1):
        assert outcome(tmp_path / f"run-{run}") == outcome(tmp_path / "run-0")
        assert not [path for path in (tmp_path / f"run-{run}").rglob("*") if ".part" in path.name]
