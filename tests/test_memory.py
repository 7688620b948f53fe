"""Rows in a file, more than memory would hold, are projected and valued a part at a time."""

import subprocess
import sys

import numpy as np
import pytest

PEAK = """
import sys
from pathlib import Path

import numpy as np

import tsds_jax as tsds

x = np.load(sys.argv[1], mmap_mode="r")[: int(sys.argv[2])]
pca = tsds.fit_pca(x, 16)
z = pca.transform(x)
y = (z[:, 0] > 0).astype(int)
assert np.isfinite(tsds.value(z, y, z[:50], y[:50], samples=8).values).all()
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""

HOW = {"stdout": subprocess.PIPE, "check": True, "text": True}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_row_of_384_features_takes_two_kilobytes_from_file_to_value(tmp_path):
    few, many = 20_000, 80_000
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (many, 384))
    for first in range(0, many, 20_000):
        x[first : first + 20_000] = np.random.default_rng(first).normal(size=(20_000, 384))
    x.flush()
    peaks = [
        1024 * int(subprocess.run([sys.executable, "-c", PEAK, tmp_path / "x.npy", str(rows)], **HOW).stdout)
        for rows in (few, many)
    ]
    assert (peaks[1] - peaks[0]) / (many - few) < 2048
