"""Ratios that must not fall: ours against the plain reference, in one process. `python -m benchmarks guard`.

Each bound is four to fifteen times below what is measured on an idle machine, and ours is the best of five, so that a
busy one passes and a change that costs an order of magnitude does not. What ours finds must be what the reference does:
quick and wrong fails. The data are synthetic: no download, half a minute on two cores.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from measures.ours import Logistic, RidgePrefixes
from measures.problem import Arrays, synthetic, timed
from measures.rates import prefix_utilities
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
    order = np.arange(200)
    (marginals, fits), seconds = timed(lambda: walk_chain(Data(*some.double()), order, 0.0))
    # Of nobody the reference guesses between two classes.
    same("utilities along a chain", prefix_utilities(ours.game, order), 0.5 + np.cumsum(marginals))
    rate = best(ours.rate)
    converged(ours.unconverged)
    return Ratio("exact logistic fits along a chain, against the reference", rate * seconds / fits, 20)


def add_one(data: Arrays) -> Ratio:
    """Contributions a second from one fit for all points, against one fit each."""

    def ours(seed: int) -> float:
        run = partial(tsds_jax.value, *data, utility="accuracy", subset_size=200, samples=64, seed=seed)
        found, seconds = timed(run)
        converged(found.unconverged)
        return found.counts.sum() / seconds

    ours(0)
    (_, fits), theirs = timed(lambda: walk_chain(Data(*data.double()), np.arange(200), 0.0))
    return Ratio("contributions by add-one, against the reference", best(ours) * theirs / fits, 100)


def ridge(data: Arrays) -> Ratio:
    """Exact ridge prefixes."""
    ours = RidgePrefixes(data, 10)
    ours.rate(0)
    signed = data.double()._replace(y=2.0 * data.y - 1)
    order = np.random.default_rng(0).permutation(len(data.x))[:200]
    expected, seconds = timed(lambda: prefix_accuracy(*signed, order=order, model=Ridge(alpha=1.0)))
    same("accuracies of ridge prefixes", prefix_utilities(ours.game, order), expected)
    return Ratio("exact ridge prefixes, against scikit-learn in a loop", best(ours.rate) * seconds / len(order), 80)


def neighbours(data: Arrays) -> Ratio:
    """KNN-Shapley."""

    def ours(_: int) -> float:
        found, seconds = timed(lambda: ours_knn(*data, k=5))
        same("KNN-Shapley values", found, expected, 1e-6)
        return 1 / seconds

    expected, theirs = timed(lambda: knn_shapley(*data.double(), k=5))
    ours(0)
    return Ratio("KNN-Shapley, against the reference", best(ours) * theirs, 1)


def best(rate: Callable[[int], float]) -> float:
    """The highest of five runs: a pause of the machine makes one slow."""
    return max(rate(seed) for seed in range(1, 6))


def same(what: str, found: np.ndarray, expected: np.ndarray, most: float = 0.005) -> None:
    """Ends where the two are further apart; of accuracies one or two of 500 rows may lie on the boundary."""
    apart = float(np.abs(found - expected).max())
    if not apart <= most:
        raise SystemExit(f"{what} differ from the reference by {apart:.2g}")


def converged(unconverged: int) -> None:
    """Ends where there are fits that did not."""
    if unconverged:
        raise SystemExit(f"{unconverged} logistic fits did not converge")


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
