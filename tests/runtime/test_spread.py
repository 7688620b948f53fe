"""One answer on 1, 2 and 8 devices, and in two processes. JAX counts its devices once: each runs in its own process."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from tsds_jax.runtime.spread import ONE_DEVICE, over_all_devices

VALUES = """
import os, sys
import jax, numpy as np
place, processes, number, out, memory = sys.argv[1:]
if int(processes) > 1:
    jax.distributed.initialize(place, int(processes), int(number))
import tsds_jax as tsds

rng = np.random.default_rng(0)
x, x_val = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
y, y_val = (features[:, 0] + rng.normal(size=len(features)) > 0 for features in (x, x_val))
if memory:
    from tsds_jax.games import chunks
    from tsds_jax.valuation import source_game
    chunks.device_memory = lambda: (int(memory), 0)
    assert type(source_game(x, y, x_val, y_val).x) is np.ndarray  # no device has taken it
runs = {
    "add_one": dict(samples=70, reliability=0.9, top_overlap=0.5),
    "few, by row": dict(samples=37, per_validation_point=True, source="ridge"),
    "chains": dict(samples=400, estimator="permutation", reliability=0.7),
    "chains both ways": dict(
        samples=9, estimator="permutation", truncation=0.02, antithetic=True, utility="accuracy", source="ridge"
    ),
    "rows of chains": dict(samples=3, estimator="permutation", per_validation_point=True, source="ridge"),
    "banzhaf": dict(samples=37, estimator="banzhaf", source="ridge"),
    "banzhaf_add_one": dict(samples=14, estimator="banzhaf_add_one", source="ridge"),
}
found = {"devices": jax.device_count(), "here": jax.local_device_count()}
for name, options in runs.items():
    size = None if "banzhaf" in name else 12
    v = tsds.value(x, y, x_val, y_val, subset_size=size, seed=3, **options)
    found |= {f"{name} values": v.values, f"{name} errors": v.stderr, f"{name} counts": v.counts}
    found[f"{name} about"] = np.array([v.fits, v.truncated_share, v.unconverged])
    found[f"{name} stopped"] = v.stopped
    if v.by_row is not None:
        found[f"{name} rows"] = v.by_row

# The first process's checkpoint is the job's.
own, few = f"{out}.checkpoint", dict(subset_size=12, seed=3, checkpoint_every=0, **runs["few, by row"])
def stop(event):
    if event.done > event.total / 2:
        raise KeyboardInterrupt
try:
    tsds.value(x, y, x_val, y_val, checkpoint=own, progress=stop, **few)
    raise AssertionError
except KeyboardInterrupt:
    assert os.path.exists(own) == (number == "0")
begun = []
again = tsds.value(x, y, x_val, y_val, checkpoint=own, progress=lambda event: begun.append(event.done), **few)
assert begun[1] > 0.3 * begun[-1]
assert (again.values == found["few, by row values"]).all()
np.savez(out, **found)
"""


# Of games of every kind, and what a device has to hold of one whose players are cut.
CUT = """
import jax, numpy as np
from tsds_jax.estimators import add_one
from tsds_jax.estimators.add_one import add_one_rounds
from tsds_jax.games import by_row, kernel_game, logistic_game, ridge_game
from tsds_jax.games.game import by_player
from tsds_jax.runtime.spread import over_all_devices

rng = np.random.default_rng(0)
x, x_val, weight = rng.normal(size=(41, 3)), rng.normal(size=(30, 3)), rng.uniform(0.5, 1.5, 41)
y, y_val = rng.integers(0, 3, 41), rng.integers(0, 3, 30)
games = [
    logistic_game(x, y > 0, x_val, y_val > 0, classes=2, utility="probability", sample_weight=weight),
    logistic_game(x, y, x_val, y_val, classes=3, utility="class_wise"),
    by_row(ridge_game(x, y, x_val, y_val, classes=3, sample_weight=weight), np.arange(30) % 4),
]
for game in games:
    whole, parts = (
        list(add_one(game, subset_size=12, samples=37, seed=3, chunk=4, cut=cut))[-1] for cut in (False, True)
    )
    assert whole.state.keys() == parts.state.keys()
    for name, array in whole.state.items():
        np.testing.assert_allclose(parts.state[name], array, rtol=1e-6, atol=1e-6, err_msg=name)
    assert parts.unconverged == whole.unconverged and parts.fits == whole.fits

try:
    next(add_one(kernel_game(x @ x.T, y, x_val @ x.T, y_val, classes=3), subset_size=12, samples=1, seed=0, cut=True))
    raise AssertionError
except ValueError as error:
    assert "KernelGame" in str(error)

spread, (x, x_val) = over_all_devices(cuts=True), rng.normal(size=(2, 8001, 64))
game = ridge_game(x, x[:, 0] > 0, x_val[:20], x_val[:20, 0] > 0, classes=2)
played = by_player(game, spread.filled, spread.replicated)
assert {part.data.shape for part in played.x.addressable_shards} == {(1001, 64)}
key = spread.replicated(jax.random.key(0))
how = dict(subset_size=20, chunk=64, spread=spread, players=8001)
program = add_one_rounds.lower(played, key, np.arange(8, dtype=np.int32), np.int32(8), **how).compile()
held = program.memory_analysis()
assert held.argument_size_in_bytes + held.temp_size_in_bytes < 0.5 * game.x.nbytes
"""


@pytest.fixture(scope="module")
def run(on_devices, tmp_path_factory):
    """What the script saved on so many devices: by each of so many processes, in order.

    With a ``memory`` of so few bytes, no device takes all training rows.
    """

    def saved(devices, processes=1, place="", memory=""):
        folder = tmp_path_factory.mktemp("values")
        outs = [folder / f"{number}.npz" for number in range(processes)]
        command = [sys.executable, "-c", VALUES, place, str(processes)]
        running = [
            subprocess.Popen([*command, str(number), str(out), memory], env=on_devices(devices))
            for number, out in enumerate(outs)
        ]
        assert [one.wait(600) for one in running] == [0] * processes
        return [dict(np.load(out)) for out in outs]

    return saved


@pytest.fixture(scope="module")
def one(run):
    return run(1)[0]


def slow(*given):
    return pytest.param(*given, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("devices", "processes", "memory"),
    [(2, 1, ""), slow(8, 1, ""), slow(2, 2, ""), slow(8, 1, "99"), slow(2, 2, "99")],
)
def test_values_are_those_of_one_device(one, run, free_place, devices, processes, memory):
    for found in run(devices, processes, free_place, memory):
        assert found.pop("here") == devices
        assert found.pop("devices") == devices * processes
        assert found.keys() == one.keys() - {"here", "devices"}
        for name, array in found.items():
            if array.dtype.kind == "f" and not name.endswith("about"):
                np.testing.assert_allclose(array, one[name], rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(one[name])))
            else:
                assert (array == one[name]).all(), name


@pytest.mark.slow
def test_devices_that_have_some_players_each_find_the_same_and_hold_less(on_devices):
    subprocess.run([sys.executable, "-c", CUT], env=on_devices(8), check=True, timeout=600)


@pytest.mark.skipif(jax.device_count() > 1, reason="there are several devices")
def test_one_device_moves_nothing():
    spread = over_all_devices()
    assert spread is ONE_DEVICE
    tree = {"weights": np.ones(3)}
    assert spread.replicated(tree) is spread.by_rows(tree) is tree
    assert spread.mapped(lambda rows, shared: (rows, shared), 1, 2) == (1, 2)
