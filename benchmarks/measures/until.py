"""Seconds until the values rank the points as endless sampling would: Spearman's correlation at least .95.

Converged values are the mean of two long runs with seeds of their own; how well they are converged is known from the
correlation of the two. Samples needed are searched with other seeds, of which all but one must reach the goal, and the
runs that are timed have others again. Of permutations, where a point's samples are its own, runs differ little.
What few samples reach says little of how many the goal takes: noise differs by point, and most values lie close
together. At 5,000 points the law of averages, from 200 samples, promised the permutations .95 by 634: it took 4,255.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from measures.code import stamp
from measures.cold import run_cold
from measures.problem import Arrays, in_turn, say, timed, whole_or_absent
from measures.rows import Until
from peers.environment import Peer
from scipy.stats import spearmanr

import tsds_jax

# Of the package, what values are computed by.
MEASURED = ("arrays", "games", "estimators", "options", "runtime", "valuation")
WANTED = 0.95
SUBSET = 200
TRIAL_SAMPLES, TRIAL_GOAL = 400, 0.7  # so few make converged values that allow no more
EXTRAPOLATED = "pyDVL, extrapolated"
_SEARCH, _CHECK, _TIMED, _REFERENCE, _PEER = 0, 100, 200, 1000, 10_000  # first seeds
_START, _MOST = 16, 8192
_PEER_START, _PEER_MOST = 20, 20_000


class Converged(NamedTuple):
    """Converged values: the mean of two runs.

    Attributes:
      values: ``[points]``.
      halves: ``[2, points]``, each run's.
      about: how they were made.
    """

    values: np.ndarray
    halves: np.ndarray
    about: str

    @property
    def reliability(self) -> float:
        """Of the mean, from the correlation of the two runs (Spearman and Brown's formula)."""
        return doubled(spearman(*self.halves))


class Plan(NamedTuple):
    """What it takes to reach the goal.

    Attributes:
      reference: the converged values.
      goal: the rank correlation with them that is to be reached.
      ours: fewest coalitions with which all of several seeds but one reach it.
      peers: fewest samples a point of exact permutations, the median of its seeds; 0 if not asked for.
      about: what the search found besides.
    """

    reference: Converged
    goal: float
    ours: int
    peers: int
    about: dict[str, Any]


def converged(data: Arrays, cache: Path, estimator: str, samples: int) -> Converged:
    """Values of the game by two runs of half the samples each, kept in the folder for the next time."""
    options: dict[str, Any] = {
        "estimator": estimator,
        "samples": samples // 2,
        "subset_size": SUBSET,
        "source": "logistic",
        "utility": "accuracy",
    }
    options |= {"truncation": 0.0} if estimator == "permutation" else {}

    def halves() -> np.ndarray:
        say(f"converged values of {len(data.x):,} points by {samples:,} samples of {estimator}, this once")
        return np.stack([tsds_jax.value(*data, **options, seed=_REFERENCE + half).values for half in range(2)])

    found = _kept(cache, f"converged-{len(data.x)}-{estimator}", [options], data, halves)
    return Converged(found.mean(0), found, f"{estimator}, {samples:,} samples")


def _kept(
    cache: Path, name: str, how: list[Any], arrays: Iterable[np.ndarray], make: Callable[[], np.ndarray]
) -> np.ndarray:
    """What is made of these arrays, from the folder if it is there. Neither other arrays nor other code get it."""
    digest = hashlib.sha256(json.dumps([tsds_jax.__version__, *how]).encode())
    digest.update(json.dumps(stamp(*MEASURED)["code"]).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    kept = cache / f"{name}-{digest.hexdigest()[:16]}.npy"
    if not kept.exists():
        made = make()
        cache.mkdir(parents=True, exist_ok=True)
        whole_or_absent(kept, lambda place: np.save(place, made))
    return np.load(kept)


def plan(data: Arrays, reference: Converged, cache: Path, *, quick: bool, peers_seeds: int) -> Plan:
    """Searches how many coalitions ours needs, and how many samples a point exact permutations.

    Args:
      data: the game.
      reference: its converged values.
      cache: folder that keeps what the permutations' search finds, the longest part.
      quick: a lower goal, as the converged values allow no more, and fewer seeds of the search for ours.
      peers_seeds: of the other; 0 does not ask for the permutations' samples.
    """
    goal, seeds = (TRIAL_GOAL, 3) if quick else (WANTED, 7)

    def reached(samples: int, first: int = _SEARCH) -> float:
        found = [ours(data, samples, first + seed) for seed in range(seeds)]
        return sorted(spearman(values, reference.values) for values in found)[1]

    needed = fewest(reached, goal, _START, _MOST)
    # The search takes the luckiest of the numbers that it tries; other seeds must agree.
    while needed < _MOST and reached(needed, _CHECK) < goal:
        needed += -(-needed // 8)
    say(f"{len(data.x):,} points: {needed} coalitions")
    if not peers_seeds:
        return Plan(reference, goal, needed, 0, {})
    found = [permutations_needed(data, reference, goal, cache, seed) for seed in range(peers_seeds)]
    say(f"{len(data.x):,} points: {found} samples a point by permutations")
    return Plan(reference, goal, needed, round(median(found)), {"peer_samples_by_seed": found})


def fewest(reached: Callable[[int], float], wanted: float, start: int, most: int) -> int:
    """The fewest samples that reach what is wanted, to a sixteenth: doubled from ``start``, then halved in between."""
    high = start
    while (now := reached(high)) < wanted:
        if high >= most:
            raise SystemExit(f"{high} coalitions reach a Spearman correlation of {now:.3f}, not {wanted}")
        high *= 2
    low = max(start, high // 2)
    while high - low > max(1, high // 16):
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= wanted else (middle, high)
    return high


def permutations_needed(data: Arrays, reference: Converged, goal: float, cache: Path, seed: int) -> int:
    """Samples a point of exact permutation chains, untruncated, until they reach the goal.

    Ours stand in for pyDVL's: the estimator is the same, only its fits are faster. A run is continued by another with
    a seed of its own, which is the same as a longer run: its chains value every point alike.
    """

    def needed() -> np.ndarray:
        total, done, number = np.zeros(len(data.x)), 0, _PEER + 1000 * seed
        while done < _PEER_MOST:
            samples = max(_PEER_START, done // 16)
            total += samples * permutations(data, samples, number)
            done, number = done + samples, number + 1
            if (reached := spearman(total / done, reference.values)) >= goal:
                return np.array(done)
            say(f"{len(data.x):,} points: {done} samples a point by permutations reach {reached:.3f}")
        raise SystemExit(f"{done} permutation samples a point do not reach a Spearman correlation of {goal}")

    return int(_kept(cache, f"needed-{len(data.x)}-{seed}", [goal], [*data, reference.values], needed))


def permutations(data: Arrays, samples: int, seed: int) -> np.ndarray:
    """Values by exact permutation chains without truncation."""
    options: dict[str, Any] = {"utility": "accuracy", "estimator": "permutation", "truncation": 0.0}
    return tsds_jax.value(*data, **options, samples=samples, subset_size=SUBSET, seed=seed).values


def plan_thousand(data: Arrays, cache: Path, *, quick: bool) -> tuple[Arrays, Plan]:
    """The game of a thousand points, whose converged values are exact fits."""
    reference = converged(data, cache, "permutation", TRIAL_SAMPLES if quick else 8000)
    return data, plan(data, reference, cache, quick=quick, peers_seeds=1 if quick else 3)


def plan_many(data: Arrays, cache: Path, *, quick: bool) -> tuple[Arrays, Plan]:
    """The game of many points, whose converged values are not exact fits: these would take hours.

    Few coalitions do for many points, and all points share them. Of permutations it takes many millions, which each
    point has to itself: one seed does.
    """
    reference = converged(data, cache, "add_one", TRIAL_SAMPLES if quick else 4000)
    return data, plan(data, reference, cache, quick=quick, peers_seeds=1)


def alone(data: Arrays, cache: Path, estimator: str, samples: int, *, repeats: int, quick: bool) -> Until:
    """`compiled` without a peer; converged values by so many samples of the estimator."""
    reference = converged(data, cache, estimator, TRIAL_SAMPLES if quick else samples)
    found = plan(data, reference, cache, quick=quick, peers_seeds=0)
    return compiled(data, found, None, 0, repeats=repeats, quick=quick)


def compiled(data: Arrays, found: Plan, pydvl: Peer | None, wanted: float, *, repeats: int, quick: bool) -> Until:
    """Seconds of `tsds_jax.value`, everything compiled, until the goal."""
    _, first = timed(lambda: ours(data, found.ours, _CHECK))
    correlations: list[float] = []

    def run(repeat: int) -> float:
        values, seconds = timed(lambda: ours(data, found.ours, _TIMED + repeat))
        correlations.append(spearman(values, found.reference.values))
        return seconds

    sides: dict[str, Callable[[int], float]] = {"ours": run}
    if pydvl:
        sides[EXTRAPOLATED] = lambda repeat: _pydvl_seconds(data, found, pydvl, repeat, quick=quick)[0]
    seconds = in_turn(repeats, sides)
    return _row("compiled", data, found, seconds, wanted if pydvl else None, correlations, {}, {"call_before": first})


def cold(data: Arrays, found: Plan, pydvl: Peer | None, wanted: float, *, repeats: int, quick: bool) -> Until:
    """Seconds from the start of a process, imports and compilation included, until the goal."""
    parts: dict[str, list[float]] = {"imports": [], "compilation": [], "the same call again": []}
    correlations: list[float] = []
    peaks: list[int] = []

    def run(repeat: int) -> float:
        run = run_cold(data, again=True, **_ours(found.ours, _TIMED + repeat))
        for part, seconds in zip(parts, (run.imports, run.first - run.again, run.again), strict=True):
            parts[part].append(seconds)
        correlations.append(spearman(run.values, found.reference.values))
        peaks.append(run.peak)
        return run.seconds

    sides: dict[str, Callable[[int], float]] = {"ours": run}
    if pydvl:
        sides[EXTRAPOLATED] = lambda repeat: sum(_pydvl_seconds(data, found, pydvl, repeat, quick=quick))
    seconds = in_turn(repeats, sides)
    without = [whole - imports for whole, imports in zip(seconds["ours"], parts["imports"], strict=True)]
    about = {"ours_without_imports": without, "peak_memory": peaks}
    return _row("from a cold process", data, found, seconds, wanted if pydvl else None, correlations, parts, about)


def ours(data: Arrays, samples: int, seed: int) -> np.ndarray:
    """Values by so many coalitions."""
    return tsds_jax.value(*data, **_ours(samples, seed)).values


def _ours(samples: int, seed: int) -> dict[str, Any]:
    return {"utility": "accuracy", "estimator": "add_one", "samples": samples, "subset_size": SUBSET, "seed": seed}


def _pydvl_seconds(data: Arrays, found: Plan, pydvl: Peer, repeat: int, *, quick: bool) -> tuple[float, float]:
    """pyDVL's seconds for its samples at the rate of a run on `SUBSET` of the points, and those that it took to start.

    It has no chains of s points: as its users would, it values a random subset of s points after another.
    """
    rate, start = pydvl.rate(*data.first(SUBSET).double(), seed=repeat, quick=quick)
    return found.peers * len(data.x) / rate, start


def _row(
    when: str,
    data: Arrays,
    found: Plan,
    seconds: dict[str, list[float]],
    wanted: float | None,
    correlations: list[float],
    parts: dict[str, list[float]],
    about: dict[str, Any],
) -> Until:
    peer = EXTRAPOLATED if EXTRAPOLATED in seconds else None
    return Until(
        f"Spearman {found.goal} with the converged values, logistic, accuracy, "
        f"s = {SUBSET}, N = {len(data.x):,}, {when}",
        seconds,
        peer,
        wanted,
        {"ours": found.ours} | ({peer: found.peers} if peer else {}),
        correlations,
        found.reference.about,
        found.reference.reliability,
        parts,
        found.about | about,
        found.goal,
    )


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation."""
    return float(spearmanr(a, b).statistic)


def doubled(correlation: float) -> float:
    """Reliability of twice the samples, from the correlation of two halves (Spearman and Brown)."""
    return 2 * correlation / (1 + correlation)
