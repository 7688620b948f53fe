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

93 TFLOP; whatever else is computed is not counted. The peak is that of square matrix products, measured in this run.
"""

import argparse
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
from measures.code import Case
from measures.large import large
from measures.machine import compile_anew
from measures.ours import Logistic, RidgePrefixes
from measures.problem import MANY, POINTS, Arrays, say, timed, tweets
from measures.results import case_tables, merged, provenance, write
from measures.rows import Speed, Until, as_json, tables
from measures.until import MEASURED, TRIAL_GOAL, TRIAL_SAMPLES, WANTED, compiled, converged, plan

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


def rate(bench: Bench, kind: type[Logistic] | type[RidgePrefixes], points: int, count: int) -> Speed:
    """Fits a second of ours along ``count`` permutations."""
    data = bench.points(points)
    ours = kind(data, 2 if bench.dry else count)
    _, first = timed(lambda: ours.rate(0))
    _, later = timed(lambda: ours.rate(0))
    name = "exact logistic fits along permutations" if kind is Logistic else "exact ridge prefixes"
    rates = [ours.rate(repeat) for repeat in range(bench.repeats)]
    about = {"unconverged": ours.unconverged} if isinstance(ours, Logistic) else {}
    return Speed(f"{name}, n = {len(data.x):,}", "fits/s", {"ours": rates}, None, None, (first, later), about=about)


def until(bench: Bench, points: int, estimator: str, samples: int) -> Until:
    """Seconds until the goal, everything compiled; converged values by so many samples of the estimator."""
    data = bench.points(points)
    reference = converged(data, bench.cache, estimator, TRIAL_SAMPLES if bench.dry else samples)
    goal, seeds = TRIAL_GOAL if bench.dry else WANTED, 3 if points <= POINTS else 7
    found = plan(data, reference, goal, bench.cache, seeds=seeds, peers_seeds=0)
    return compiled(data, found, None, 0, repeats=bench.repeats, quick=bench.dry)


CASES = {
    "large": Case(("large",), lambda bench: large(dry=bench.dry)),
    "logistic-200": Case(("ours",), lambda bench: rate(bench, Logistic, 200, 640)),
    "logistic-1000": Case(("ours",), lambda bench: rate(bench, Logistic, 1000, 128)),
    "ridge-1000": Case(("ours",), lambda bench: rate(bench, RidgePrefixes, 1000, 100)),
    "until-compiled": Case(("until",), lambda bench: until(bench, POINTS, "permutation", 8000)),
    "until-compiled-10000": Case(("until",), lambda bench: until(bench, MANY, "add_one", 4000)),
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
