"""Values of ours and the peers' on the same small games."""

from typing import Any

import numpy as np
from measures.problem import Arrays
from measures.rows import Agreement
from peers.environment import Peer

import tsds_jax


def agreement(data: Arrays, pydvl: Peer, valda: Peer, opendataval: Peer, *, quick: bool) -> list[Agreement]:
    """Enumeration of both, then permutations of each against our enumeration."""
    small, larger = (data.first(8), data.first(9)) if quick else (data.first(10), data.first(12))
    permutations = 100 if quick else 500
    theirs = pydvl.run(*small.double(), task="exact", converged=True)
    how_peers: dict[str, Any] = {"task": "permutations", "permutations": permutations, "seed": 0, "converged": True}
    sampled = pydvl.run(*larger.double(), **how_peers)
    unsure = valda.run(*larger.double(), **how_peers)
    other = opendataval.run(*larger.double(), **how_peers)
    exact = tsds_jax.value(*larger, estimator="exact", utility="accuracy").values
    how: dict[str, Any] = {"utility": "accuracy", "samples": permutations, "truncation": 0.0}
    ours = tsds_jax.value(*larger, estimator="permutation", **how)
    name = f"{permutations} permutations against our enumeration"
    points, guess = len(larger.x), 1 / 2
    first = np.sqrt((1 - 1 / points) / points / permutations)
    return [
        _compared(
            "pyDVL's enumeration against ours",
            np.array(theirs["values"]),
            tsds_jax.value(*small, estimator="exact", utility="accuracy").values,
        ),
        _compared(f"pyDVL, {name}", np.array(sampled["values"]), exact, np.array(sampled["stderr"])),
        # It tells no errors. Ours are of the same estimator and as many permutations; to them comes how often a point
        # happened to be first, which valda credits with what a guess is right.
        _compared(f"valda, {name}", np.array(unsure["values"]), exact, np.hypot(ours.stderr, first * guess)),
        # It tells none either, and takes means for each size of coalition apart, which are no less sure.
        _compared(f"OpenDataVal, {name}", np.array(other["values"]), exact, ours.stderr),
        _compared(f"ours, {name}", ours.values, exact, ours.stderr),
    ]


def _compared(measure: str, a: np.ndarray, b: np.ndarray, stderr: np.ndarray | None = None) -> Agreement:
    """An `Agreement` of values ``a``, with their standard errors unless they are exact, and exact values ``b``."""
    difference = np.abs(a - b)
    if stderr is None:
        return Agreement(measure, len(a), float(difference.max()), None, bool(difference.max() < 1e-4))
    spread = float(np.sqrt(np.mean((difference / stderr) ** 2)))
    return Agreement(measure, len(a), float(difference.max()), spread, spread < 1.8)
