"""What an estimator says while it runs."""

from typing import Any, NamedTuple

import numpy as np


def no_end() -> bool:
    """That nobody asks for an end."""
    return False


class Estimate(NamedTuple):
    """What is known after some rounds; the last one of a run is its result.

    The moments of a run share their arrays, so an estimate holds until the next one is asked for. Which estimates a
    run yields, and each of them, depends on its seed and its sizes alone, never on how many rounds are computed
    together (but for ``ends``): a decision to stop taken on them does not either.

    Attributes:
      moments: the running sums (`InAndOut` of `banzhaf`).
      rounds: chains (or antithetic pairs of chains) walked, or coalitions fitted.
      fits: source classifiers fitted for these rounds.
      truncated: contributions set to zero by truncation.
      unconverged: fits that stopped before their tolerance.
      planned: rounds in the whole run.
      by_row: float64 ``[players, rows]``, the mean contributions split by validation row; each player's add up to the
        value by `Moments.mean`. None where the game is no `RowGame`.
      checks: float64 ``[checks, 3]``, of contributions drawn at random the coalition's size, what exact refits say more
        than the game did, and the inverse of the size's chance; None where the game's contributions are exact.
      ends: whether somebody asks for the run's end, by what the estimator was given to ask, once for each call.
      state: arrays by name from which the same run goes on after this estimate, when it is given them as ``since``. It
        then yields this estimate again, and those after it to the bit. They are the run's own, not copies.
    """

    moments: Any
    rounds: int
    fits: int
    truncated: int
    unconverged: int
    planned: int
    by_row: np.ndarray | None = None
    checks: np.ndarray | None = None
    ends: bool = False
    state: dict[str, np.ndarray] | None = None


def copied(since: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An `Estimate.state` whose arrays can be changed."""
    return {name: np.array(array) for name, array in since.items()}
