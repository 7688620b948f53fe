"""Rates: exact fits a second along permutations, ours and the peers'."""

from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measures.ours import Logistic, RidgePrefixes
from measures.problem import Arrays, in_turn, timed
from measures.rows import Speed
from peers.environment import Peer
from peers.scikit_learn import prefix_accuracy, prefix_rate
from sklearn.linear_model import LogisticRegression, Ridge

# Validation rows that may be judged otherwise, as a share of them: one or two on the boundary of the classes.
_MOST = 0.005


def logistic_rate(
    data: Arrays, pydvl: Peer, valda: Peer, opendataval: Peer, wanted: float, *, repeats: int, quick: bool
) -> Speed:
    """Exact logistic fits a second along permutations, against the fastest other.

    pyDVL and scikit-learn with joblib have a process for each core; valda and OpenDataVal one process, as they are.
    """
    points, double = len(data.x), data.double()
    ours = Logistic(data, max(4, (4000 if quick else 20_000) // points))
    loop = partial(prefix_rate, *double, model=LogisticRegression(), orders=max(1, (400 if quick else 1000) // points))
    _, first = timed(lambda: ours.rate(0))
    order = np.random.default_rng(0).permutation(points)
    strict = prefix_accuracy(*double, order=order, model=LogisticRegression(tol=1e-8, max_iter=10_000))
    found = prefix_utilities(ours.game, order)
    rates = in_turn(
        repeats,
        {
            "ours": ours.rate,
            "pyDVL": lambda repeat: pydvl.rate(*double, seed=repeat, quick=quick)[0],
            "valda": lambda repeat: valda.rate(*double, seed=repeat, quick=quick)[0],
            "OpenDataVal": lambda repeat: opendataval.rate(*double, seed=repeat, quick=quick)[0],
            "scikit-learn and joblib": lambda repeat: loop(seed=repeat),
        },
    )
    return Speed(
        f"exact logistic fits along permutations, n = {points}",
        "fits/s",
        rates,
        fastest(rates),
        wanted,
        (first, ours.chains * points / float(np.median(rates["ours"]))),
        ("largest difference in accuracy from scikit-learn's fit, all prefixes", largest(found, strict)),
        {"chains": ours.chains, "unconverged": ours.unconverged},
        most=_MOST,
    )


def ridge_rate(data: Arrays, wanted: float, *, repeats: int, quick: bool) -> Speed:
    """Exact ridge prefixes a second: fit and accuracy of every prefix of an order."""
    points = len(data.x)
    ours = RidgePrefixes(data, 5 if quick else 50)
    signed = data._replace(y=2.0 * data.y - 1)
    loop = partial(prefix_rate, *signed, model=Ridge(alpha=1.0), orders=1)
    _, first = timed(lambda: jax.block_until_ready(ours.prefixes(ours.game, jnp.arange(points))))
    order = np.random.default_rng(0).permutation(points)
    found = np.asarray(ours.prefixes(ours.game, order))
    difference = largest(found, prefix_accuracy(*signed, order=order, model=Ridge(alpha=1.0)))
    rates = in_turn(repeats, {"ours": ours.rate, "scikit-learn and joblib": lambda repeat: loop(seed=repeat)})
    return Speed(
        f"exact ridge prefixes, n = {points}",
        "prefixes/s",
        rates,
        fastest(rates),
        wanted,
        (first, points / float(np.median(rates["ours"]))),
        ("largest difference in accuracy from scikit-learn's fit, all prefixes", difference),
        {"orders": ours.orders},
        most=_MOST,
    )


def fastest(rates: dict[str, list[float]]) -> str:
    """The side with the highest median but ours."""
    return max(rates.keys() - {"ours"}, key=lambda name: median(rates[name]))


def prefix_utilities(game: Any, order: np.ndarray) -> np.ndarray:
    """Our utility of every prefix but the empty one, 50 at a time."""
    step = jax.jit(lambda sizes: game.prefix_utilities(jnp.asarray(order, jnp.int32), sizes).utility)
    sizes = np.arange(1, len(order) + 1, dtype=np.int32).reshape(-1, 50)
    return np.concatenate([np.asarray(step(some)) for some in sizes])


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference where both say something."""
    return float(np.nanmax(np.abs(ours - theirs)))
