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
place, processes, number, out = sys.argv[1:]
if int(processes) > 1:
    jax.distributed.initialize(place, int(processes), int(number))
import tsds_jax as tsds

rng = np.random.default_rng(0)
x, x_val = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
y, y_val = (features[:, 0] + rng.normal(size=len(features)) > 0 for features in (x, x_val))
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


@pytest.fixture(scope="module")
def run(on_devices, tmp_path_factory):
    """What the script saved on so many devices: by each of so many processes, in order."""

    def saved(devices, processes=1, place=""):
        folder = tmp_path_factory.mktemp("values")
        outs = [folder / f"{number}.npz" for number in range(processes)]
        command = [sys.executable, "-c", VALUES, place, str(processes)]
        running = [
            subprocess.Popen([*command, str(number), str(out)], env=on_devices(devices))
            for number, out in enumerate(outs)
        ]
        assert [one.wait(600) for one in running] == [0] * processes
        return [dict(np.load(out)) for out in outs]

    return saved


@pytest.fixture(scope="module")
def one(run):
    return run(1)[0]


@pytest.mark.parametrize(("devices", "processes"), [(2, 1), (8, 1), (2, 2)])
def test_values_are_those_of_one_device(one, run, free_place, devices, processes):
    for found in run(devices, processes, free_place):
        assert found.pop("here") == devices
        assert found.pop("devices") == devices * processes
        assert found.keys() == one.keys() - {"here", "devices"}
        for name, array in found.items():
            if array.dtype.kind == "f" and not name.endswith("about"):
                np.testing.assert_allclose(array, one[name], rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(one[name])))
            else:
                assert (array == one[name]).all(), name


@pytest.mark.skipif(jax.device_count() > 1, reason="there are several devices")
def test_one_device_moves_nothing():
    spread = over_all_devices()
    assert spread is ONE_DEVICE
    tree = {"weights": np.ones(3)}
    assert spread.replicated(tree) is spread.by_rows(tree) is tree
    assert spread.mapped(lambda rows, shared: (rows, shared), 1, 2) == (1, 2)
