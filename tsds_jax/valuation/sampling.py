"""A run of an estimator on a game: begun, gone on with, and ended where it is known well enough."""

import hashlib
import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypedDict

import jax
import numpy as np

from tsds_jax.estimators import Check, Estimate, Stopping, add_one, banzhaf, permutation, run_until
from tsds_jax.games import LogisticGame
from tsds_jax.games.game import Game, plain_game
from tsds_jax.runtime.progress import Progress, ProgressFn

# A function in a game of the user's own is shown with where it is in memory, which differs between processes.
_ADDRESS = re.compile(" at 0x[0-9a-f]+")


class GoingOn(TypedDict):
    """What an earlier call has reached, and who asks whether this one has to end."""

    since: dict[str, np.ndarray] | None
    asks_end: Callable[[], bool]


def sampled(
    game: Any,
    estimator: str,
    size: int,
    samples: int,
    seed: int,
    truncation: float,
    antithetic: bool,
    going_on: GoingOn,
) -> Generator[Estimate, None, None]:
    """The estimator's run on a game, one estimate after another."""
    if estimator == "banzhaf":
        return banzhaf(game, samples=samples, seed=seed, **going_on)
    plain = plain_game(game)
    if estimator in ("add_one", "banzhaf_add_one"):
        if isinstance(plain, LogisticGame):
            rows = plain.numbers_added(size)
        else:
            classes = getattr(game, "classes", 1)
            # Of two classes there is one score a row.
            rows = len(getattr(plain, "y_val", (0,))) * (classes if classes > 2 else 1)
        half = estimator == "banzhaf_add_one"
        return add_one(game, subset_size=size, samples=samples, seed=seed, rows=rows, half=half, **going_on)
    how: dict[str, Any] = {"truncation": truncation, "antithetic": antithetic, "block": chain_block(plain, size)}
    return permutation(game, subset_size=size, samples=samples, seed=seed, **how, **going_on)


def chain_block(game: Game, size: int) -> int:
    """How many prefixes of a chain of ``size`` points are best fitted together."""
    if getattr(game, "costly", False):
        return 1
    # Other games' prefixes come from one factorisation, which every block of them would do again.
    few = size <= 256 and jax.default_backend() == "cpu"
    return min(size, 100 if few else 250) if isinstance(game, LogisticGame) else size


def last_estimate(
    estimates: Iterator[Estimate],
    wanted: Stopping | None,
    following: int | None,
    total: int,
    keep: Callable[[Estimate, int, bool], None],
    progress: ProgressFn,
) -> tuple[Estimate, Check | None]:
    """The last estimate of a run, and why it is the last; each is kept from which the run could go on."""
    progress(Progress("value", 0, total, "marginals"))
    known = ((estimate, None) for estimate in estimates) if wanted is None else run_until(estimates, wanted, following)
    next_look = following or (0 if wanted is None else wanted.pilot)
    for estimate, check in known:
        next_look = next_look if check is None else check.next
        keep(estimate, next_look, False)
        reached = "" if check is None else f", reliability {check.reliability:.2f}"
        done = total * estimate.rounds // estimate.planned
        progress(Progress("value", done, total, "marginals", f"{estimate.fits:,} fits{reached}"))
    keep(estimate, next_look, True)
    if estimate.rounds < estimate.planned:
        progress(Progress("value", total, total, "marginals", "reliable enough"))
    return estimate, check


def game_identity(game: Any) -> dict[str, Any]:
    """What makes a game this one: digests of its arrays, and how it is built of them."""

    def digest(leaf: Any) -> str:
        array = np.ascontiguousarray(leaf)
        found = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
        found.update(array.view(np.uint8).data)  # as it lies there: a game may fill half of the memory
        return found.hexdigest()[:16]

    named, built = jax.tree_util.tree_flatten_with_path(game)
    # In the order of their names: a difference is told of the first.
    about = {name: str(getattr(plain_game(game), name, None)) for name in ("classes", "utility")}
    about = {name: _ADDRESS.sub("", said) for name, said in (about | {"whole": str(built)}).items()}
    return {"game": about, "arrays": {jax.tree_util.keystr(path): digest(leaf) for path, leaf in named}}
