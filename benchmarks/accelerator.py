"""Speed of the numerical core on an accelerator, and how much of it that is.

    python benchmarks/accelerator.py [--dry-run] [--only CASE ...] [--cache FOLDER]

Where JAX finds no accelerator it says so in one line and writes nothing. Elsewhere it prints tables, and writes
benchmarks/results/accelerator.json after each case, each row with device, precision and JAX version. The games are
those of core.py, made the same way or taken from its cache folder, so the folder alone has to travel to a machine
without network. With --dry-run everything is small, runs on any backend, and nothing is written.

The large row has synthetic features of the size of QQP (363,846 points). Its share of the device's peak counts the
multiplications and additions without which there are no add-one marginals: each coalition, each point outside, each
validation row, one product of a row with a direction,

    FLOP = 2 * points * rows * features * coalitions,

93 TFLOP; whatever else is computed is not counted. What these products read and write is counted too, where each is a
kernel of its own: the features of all points and rows, and one number for each point and row,

    bytes = 4 * (points * features + rows * features + points * rows) * coalitions,

1.6 TB. The peaks are those of square matrix products and of a stream through the memory, measured in this run. The
limit that is nearer is the one of the larger share, of arithmetic in TF32, which the products run in; where both are
small, it is what was not counted that takes the time.
"""

import argparse
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
from measures.code import Case, stamp
from measures.large import large
from measures.machine import compile_anew
from measures.ours import Logistic, RidgePrefixes, rate
from measures.problem import MANY, POINTS, Arrays, say, timed, tweets
from measures.results import case_tables, merged, provenance, write
from measures.rows import Until, as_json, tables
from measures.until import MEASURED, alone

RESULTS = Path(__file__).parent / "results" / "accelerator.json"
PRECISION = "float32, products of small differences in TF32"


@dataclass(frozen=True)
class Bench:
    """What every case gets."""

    cache: Path
    dry: bool

    @property
    def repeats(self) -> int:
        """Of each measurement."""
        return 1 if self.dry else 5

    def points(self, number: int) -> Arrays:
        """So many tweets; of a dry run 300."""
        return (
            tweets(self.cache, POINTS).first(300) if self.dry else tweets(self.cache, max(number, POINTS)).first(number)
        )

    def orders(self, points: int, orders: int) -> tuple[Arrays, int]:
        """So many points, and permutations of them; of a dry run two."""
        return self.points(points), 2 if self.dry else orders

    def until(self, points: int, estimator: str, samples: int) -> Until:
        """See `alone`."""
        return alone(self.points(points), self.cache, estimator, samples, repeats=self.repeats, quick=self.dry)


CASES = {
    "large": Case(("large",), lambda bench: large(dry=bench.dry)),
    "logistic-200": Case(("ours",), lambda bench: rate(Logistic, *bench.orders(200, 640), repeats=bench.repeats)),
    "logistic-1000": Case(("ours",), lambda bench: rate(Logistic, *bench.orders(1000, 128), repeats=bench.repeats)),
    "ridge-1000": Case(("ours",), lambda bench: rate(RidgePrefixes, *bench.orders(1000, 100), repeats=bench.repeats)),
    "until-compiled": Case(("until",), lambda bench: bench.until(POINTS, "permutation", 8000)),
    "until-compiled-10000": Case(("until",), lambda bench: bench.until(MANY, "add_one", 4000)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the numerical core on an accelerator.")
    parser.add_argument("--dry-run", action="store_true", help="small sizes on any backend; writes no file")
    parser.add_argument("--only", nargs="+", choices=CASES, help="these cases alone, anew; others stay in the file")
    cache = Path(tempfile.gettempdir()) / "tsds-core-benchmark"
    parser.add_argument("--cache", type=Path, default=cache, help="where representations and converged values are kept")
    given = parser.parse_args()
    if not given.dry_run:
        compile_anew()
    if jax.default_backend() == "cpu" and not given.dry_run:
        print("JAX finds no accelerator here: nothing measured, nothing written (--dry-run tries the code).")
        return

    bench = Bench(given.cache, given.dry_run)
    where = {"device": jax.devices()[0].device_kind, "precision": PRECISION, "jax": jax.__version__}
    stamp(*MEASURED, keep=not given.dry_run)  # which refuses what would not be kept
    rows: list[Any] = []
    measured: dict[str, Any] = {}
    for name, case in CASES.items():
        if name not in (given.only or CASES):
            continue
        row, seconds = timed(partial(case.run, bench))
        rows.append(row)
        say(f"{name}: {seconds:.0f} s")
        about = as_json(row) | where
        from_here = provenance(*MEASURED, *case.parts, keep=not given.dry_run)
        measured[name] = {**from_here, "seconds": round(seconds, 1), "rows": [about]}
        if not given.dry_run:
            # After every case: a lent machine may be gone before the last.
            result = merged(RESULTS, CASES, measured)
            write(RESULTS, result, case_tables(result))

    print(("DRY RUN, these numbers mean nothing\n" if given.dry_run else "") + ", ".join(where.values()))
    print(f"\n{tables(rows)}")


if __name__ == "__main__":
    main()
