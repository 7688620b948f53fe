"""Values of ours and the peers' on the same small games."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measures.problem import Arrays
from measures.rows import Agreement
from peers.environment import Peer

import tsds_jax
from tsds_jax.games import TableGame, utility
from tsds_jax.valuation import source_game


def agreement(data: Arrays, pydvl: Peer, valda: Peer, opendataval: Peer, *, quick: bool) -> list[Agreement]:
    """Enumeration of both, then permutations of each against our enumeration."""
    small, larger = (data.first(7), data.first(7)) if quick else (data.first(10), data.first(12))
    permutations = 50 if quick else 500
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
        _compared(
            f"OpenDataVal, {name} of its game (one class says the first)",
            np.array(other["values"]),
            first_class_alone(larger),
            ours.stderr,
        ),
        _compared(f"ours, {name}", ours.values, exact, ours.stderr),
    ]


def first_class_alone(data: Arrays) -> np.ndarray:
    """Values by enumeration of the game in which a coalition of fewer than two classes says the first class."""
    game = source_game(*data)
    members = (np.arange(2 ** len(data.x))[:, None] >> np.arange(len(data.x))) % 2 == 1
    found = jax.jit(lambda some: jax.lax.map(lambda one: utility(game, one), some))(jnp.asarray(members))
    both = (members & (data.y == 0)).any(1) & (members & (data.y == 1)).any(1)
    table = TableGame(jnp.where(jnp.asarray(both), found, float(np.mean(data.y_val == 0))))
    return tsds_jax.value_game(table, estimator="exact").values


def _compared(measure: str, a: np.ndarray, b: np.ndarray, stderr: np.ndarray | None = None) -> Agreement:
    """An `Agreement` of values ``a``, with their standard errors unless they are exact, and exact values ``b``."""
    difference = np.abs(a - b)
    if stderr is None:
        return Agreement(measure, len(a), float(difference.max()), None, bool(difference.max() < 1e-4))
    spread = float(np.sqrt(np.mean((difference / stderr) ** 2)))
    return Agreement(measure, len(a), float(difference.max()), spread, spread < 1.8)
