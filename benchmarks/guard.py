"""Ratios that must not fall: ours against the plain reference, in one process. `python -m benchmarks guard`.

Each bound is five to ten times below what is measured on an idle machine, so that a busy one passes and a change that
costs an order of magnitude does not. The data are synthetic: no download, half a minute on two cores.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from measures.ours import Logistic, RidgePrefixes
from measures.problem import Arrays, synthetic, timed
from peers.scikit_learn import prefix_accuracy
from reference.knn_shapley import knn_shapley
from reference.ts_dshapley import Data, walk_chain
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

import tsds_jax
from tsds_jax.games import knn_shapley as ours_knn


class Ratio(NamedTuple):
    """How many times faster ours was, and how many it has to be."""

    what: str
    times: float
    least: float


def chains(data: Arrays) -> Ratio:
    """Exact fits along chains of 200."""
    some = data.first(200)
    ours = Logistic(some, 20)
    ours.rate(0)
    (_, fits), seconds = timed(lambda: walk_chain(Data(*some.double()), np.arange(200), 0.0))
    return Ratio("exact logistic fits along a chain, against the reference", ours.rate(1) * seconds / fits, 20)


def add_one(data: Arrays) -> Ratio:
    """Contributions a second from one fit for all points, against one fit each."""

    def ours(seed: int) -> tsds_jax.Valuation:
        return tsds_jax.value(*data, utility="accuracy", subset_size=200, samples=64, seed=seed)

    ours(0)
    found, seconds = timed(lambda: ours(1))
    (_, fits), theirs = timed(lambda: walk_chain(Data(*data.double()), np.arange(200), 0.0))
    return Ratio("contributions by add-one, against the reference", found.counts.sum() / seconds * theirs / fits, 100)


def ridge(data: Arrays) -> Ratio:
    """Exact ridge prefixes."""
    ours = RidgePrefixes(data, 10)
    ours.rate(0)
    signed = data.double()._replace(y=2.0 * data.y - 1)
    order = np.random.default_rng(0).permutation(len(data.x))[:200]
    _, seconds = timed(lambda: prefix_accuracy(*signed, order=order, model=Ridge(alpha=1.0)))
    return Ratio("exact ridge prefixes, against scikit-learn in a loop", ours.rate(1) * seconds / len(order), 80)


def neighbours(data: Arrays) -> Ratio:
    """KNN-Shapley."""
    ours_knn(*data, k=5)
    found, seconds = timed(lambda: ours_knn(*data, k=5))
    expected, theirs = timed(lambda: knn_shapley(*data.double(), k=5))
    if not np.allclose(found, expected, atol=1e-6):
        raise SystemExit("KNN-Shapley differs from the reference")
    return Ratio("KNN-Shapley, against the reference", theirs / seconds, 1)


GUARDS: tuple[Callable[[Arrays], Ratio], ...] = (chains, add_one, ridge, neighbours)


def main() -> None:
    data = synthetic(1000, 32, 500)
    with threadpool_limits(1):
        found = [guard(data) for guard in GUARDS]
    print("| measure | times faster | at least |\n|---|---|---|")
    for row in found:
        print(f"| {row.what} | {row.times:,.1f} | {row.least:g} |")
    low = [row.what for row in found if row.times < row.least]
    if low:
        raise SystemExit(f"slower than it has to be: {'; '.join(low)}")


if __name__ == "__main__":
    main()
