"""Embedding holds one portion of texts and its answer, not the tokens of all texts."""

import subprocess
import sys

import pytest

GROWTH = """
import sys
from pathlib import Path

import numpy as np

from tsds_jax.encoders import load_encoder

def resident(kind):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024

encoder = load_encoder(sys.argv[1])
words = ["the film was good and the music was fine", "a bad plot", "the dog and the cat and the house were not so warm"]
texts = [f"{words[row % 3]} {row % 7}" for row in range(100_000)]
layers = (0, 1, -1)
encoder.embed(texts[:5_000], layer=layers, max_length=16)
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
values = encoder.embed(texts, layer=layers, max_length=16)
print(resident("VmHWM") - before, values.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_hundred_thousand_sentences_take_little_more_than_their_vectors(golden):
    found = subprocess.run([sys.executable, "-c", GROWTH, str(golden)], capture_output=True, text=True, check=True)
    growth, output = map(int, found.stdout.split())
    assert growth < 1.2 * output
