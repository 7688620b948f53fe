"""How much a process grows while it embeds many sentences; started by `growth`.

    python embedding_memory.py MODEL SENTENCES

Prints, as JSON, the bytes that the process held when it had embedded all sentences of a small sample once (so the
weights were read, the programs compiled and the batches' memory taken), how many more it held at most while it embedded
the whole, the output array's bytes, and the seconds. Linux alone lets a process forget its peak.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

# Its own folder is where Python looks first in a process that is this file.
sys.path.insert(0, str(Path(__file__).parents[1]))
from measures.rows import Growth

WARM = 2048


def growth(model: Path, sentences: int, *, repeats: int) -> Growth:
    """Of `Encoder.embed`, in a process of its own."""
    runs = []
    for _ in range(repeats):
        command = [sys.executable, __file__, str(model), str(sentences)]
        runs.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    return Growth(f"embedding {sentences:,} tweets", **{name: [run[name] for run in runs] for name in runs[0]})


def held(kind: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    return int(Path("/proc/self/status").read_text().split(f"{kind}:")[1].split()[0]) * 1024


def main(model: str, sentences: str) -> None:
    from measures.encoding import MAX_LENGTH, tweets

    from tsds_jax import load_encoder

    encoder, texts = load_encoder(model), tweets(int(sentences))
    encoder.embed(texts[:WARM], max_length=MAX_LENGTH)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before, began = held("VmRSS"), time.perf_counter()
    vectors = encoder.embed(texts, max_length=MAX_LENGTH)
    answer = {
        "before": before,
        "grown": held("VmHWM") - before,
        "output": vectors.nbytes,
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
