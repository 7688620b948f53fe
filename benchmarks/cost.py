"""How the seconds of `value` grow with points, features, classes, validation rows and subset size.

    python benchmarks/cost.py [--quick]

Synthetic data of 4,000 points, 32 features, two classes, 1,000 validation rows, subsets of up to 128 and 50 coalitions
by the default estimator; one of these sizes at a time grows, and everything is compiled before it is timed. An exponent
is the slope of log seconds over log size by least squares: 1 grows in proportion. Small sizes cost what a call costs,
so the slope of the last step is shown too.

Prints a Markdown table; a whole run also writes benchmarks/results/cost.json. About eight minutes on two cores, half of
them for classes.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measures.code import stamp
from measures.problem import Arrays, say, timed
from measures.results import provenance, write

import tsds_jax as tsds

RESULTS = Path(__file__).parent / "results" / "cost.json"
MEASURED = ("arrays", "estimators", "games", "options", "runtime", "valuation", "benchmarks/cost.py")
BASE = {"points": 4000, "features": 32, "classes": 2, "rows": 1000, "subset": 128}
SIZES: dict[str, tuple[int, ...]] = {
    "points": (2000, 4000, 8000, 16_000, 32_000),
    "features": (8, 16, 32, 64, 128),
    "classes": (2, 3, 4, 6),
    "rows": (500, 1000, 2000, 4000),
    "subset": (32, 64, 128, 256, 512),
}
NAMES = {"rows": "validation rows", "subset": "subset size"}


def main() -> None:
    parser = argparse.ArgumentParser(description="How the seconds of value grow with the sizes of its input.")
    parser.add_argument("--quick", action="store_true", help="two small sizes of points and of classes; writes no file")
    quick = parser.parse_args().quick
    about = provenance(*MEASURED, keep=not quick)
    base = {**BASE, "points": 500, "rows": 200, "subset": 32} if quick else BASE
    found = {}
    for axis in ("points", "classes") if quick else SIZES:
        some = (base[axis], 2 * base[axis]) if quick else SIZES[axis]
        found[axis] = {"sizes": list(some), "seconds": [seconds({**base, axis: size}, quick) for size in some]}
        say(json.dumps({axis: found[axis]}))
    print(f"{about['machine']['processor']}, {about['date']}\n\n{table(found)}")
    if not quick:
        write(RESULTS, {**about, **stamp(*MEASURED), "base": base, "axes": found}, table(found))


def seconds(sizes: dict[str, int], quick: bool) -> list[float]:
    """Of several calls with seeds of their own, after one that compiles."""
    data = drawn(sizes)

    def run(seed: int) -> Any:
        return tsds.value(*data, samples=10 if quick else 50, subset_size=sizes["subset"], seed=seed)

    run(0)
    return [timed(lambda seed=seed: run(seed))[1] for seed in range(1 if quick else 3)]


def drawn(sizes: dict[str, int]) -> Arrays:
    """Normal features around a centre for each class, near enough that classes overlap."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((sizes["classes"], sizes["features"]), np.float32)
    centres *= 2 / np.linalg.norm(centres, axis=1, keepdims=True)

    def some(number: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(number) % sizes["classes"]
        return centres[y] + rng.standard_normal((number, sizes["features"]), np.float32), y.astype(np.int32)

    return Arrays(*some(sizes["points"]), *some(sizes["rows"]))


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| what grows | from | to | seconds | exponent | at the last step |", "|---|---|---|---|---|---|"]
    for axis, entry in found.items():
        sizes, middle = entry["sizes"], [median(some) for some in entry["seconds"]]
        slope = np.polyfit(np.log(sizes), np.log(middle), 1)[0]
        last = np.log(middle[-1] / middle[-2]) / np.log(sizes[-1] / sizes[-2])
        lines.append(
            f"| {NAMES.get(axis, axis)} | {sizes[0]:,} | {sizes[-1]:,} | {middle[0]:.2g} to {middle[-1]:.2g} "
            f"| {slope:.2f} | {last:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
