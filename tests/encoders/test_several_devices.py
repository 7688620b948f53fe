"""Several devices share the rows of a batch. JAX counts its devices once, so these run in processes of their own."""

import subprocess
import sys

import numpy as np

TEXTS = [
    f"the {thing} was {word} " * count for thing in ("film", "plot") for word in ("good", "bad") for count in (1, 4)
]

EMBED = """
import importlib, sys
import jax, numpy as np
from tsds_jax.encoders import load_encoder
embedding = importlib.import_module("tsds_jax.encoders.embed")
encode = embedding._encode
batches = []

def watched(*how):
    batches.append((how, encode(*how)))
    return batches[-1][1]

embedding._encode = watched
texts = np.load(sys.argv[2])["texts"].tolist()
values = load_encoder(sys.argv[1]).embed(texts, layer=(-1, 0), batch_size=int(sys.argv[3]))
how, vectors = batches[0]
program = encode.lower(*how).compile().as_text()
np.savez(
    sys.argv[4], values=values, devices=jax.local_device_count(),
    places=[shard.data.shape for shard in vectors.addressable_shards],
    told="ENTRY" in program,
    talk=sum(word in program for word in ("all-gather", "all-reduce", "collective-permute", "all-to-all")),
)
"""


def test_eight_devices_share_the_rows_and_give_the_vectors_of_one(golden, encoder, on_devices, tmp_path):
    np.savez(tmp_path / "texts.npz", texts=np.array(TEXTS))
    arguments = [str(golden), str(tmp_path / "texts.npz"), "20", str(tmp_path / "out.npz")]
    subprocess.run([sys.executable, "-c", EMBED, *arguments], env=on_devices(8), check=True)
    with np.load(tmp_path / "out.npz") as found:
        assert found["devices"] == 8
        one = encoder.embed(TEXTS, layer=(-1, 0))
        np.testing.assert_allclose(found["values"], one, atol=1e-6 * np.abs(one).max())
        # 20 rows were asked for: 24, the next multiple of 8, of which each device has 3.
        assert found["places"].tolist() == [[3, 64]] * 8
        # Each works on its own rows alone, as the program has it.
        assert found["told"]
        assert found["talk"] == 0
