"""When enough has been sampled: a pilot says how noisy the values are, a plan says how many rounds that asks for.

With ``c`` rounds, the share of the values' variance that is not sampling noise is

    reliability(c) = c / (c + lambda),

``lambda`` being the noise of one round over the variance of the converged values. It is measured by comparing the
values from the even rounds with those from the odd ones, which share nothing but what endless sampling would find.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import rankdata

from tsds_jax.estimators.estimate import Estimate
from tsds_jax.estimators.moments import Moments

# A plan made on a noisy pilot goes no further than this many times what is sampled, and is then made again.
_STRIDE = 4


def split_half_reliability(even: np.ndarray, odd: np.ndarray) -> float:
    """Reliability of all rounds together, from the values of two halves, ``[players]`` each.

    Spearman's correlation ``r`` between the halves, corrected for a run being twice as long as its half
    (Spearman-Brown): ``2 r / (1 + r)``. It is the correlation to expect between this run and another of its length;
    with the converged values the correlation is about its square root. Players without a value in either half are
    left out. 0 where the halves do not agree at all or hold no ranking.

    Example:
      >>> round(split_half_reliability(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])), 3)
      0.889
    """
    even, odd = _both(even, odd)
    if len(even) < 2:
        return 0.0
    one, other = rankdata(even) - (len(even) + 1) / 2, rankdata(odd) - (len(odd) + 1) / 2
    norm = math.sqrt(float(one @ one) * float(other @ other))
    correlation = float(one @ other) / norm if norm > 0 else 0.0
    return 2 * correlation / (1 + correlation) if correlation > 0 else 0.0


def top_overlap(even: np.ndarray, odd: np.ndarray, top: float = 0.1) -> float:
    """Share of the lowest ``top`` of players by one half that are among the lowest by the other too.

    It is what the halves themselves agree on, with no correction for their being half as long as the run, so the run
    as a whole agrees better with another of its length. Chance alone gives ``top``. At least one player counts; the
    last places are shared among players whose values tie for them.

    Example:
      >>> top_overlap(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4]), top=0.5)
      0.5
    """
    even, odd = _both(even, odd)
    if not len(even):
        return 0.0
    count = max(1, round(top * len(even)))
    return float(_lowest(even, count) @ _lowest(odd, count)) / count


def plan(reliability: float, rounds: int, target: float) -> float:
    """Rounds that reach a target, from the reliability of a pilot: ``lambda target / (1 - target)``.

    ``lambda = rounds (1 - reliability) / reliability``. Infinite where the pilot's values are noise, or the target
    is one.

    Example:
      >>> plan(0.5, 8, 0.9)
      72.0
    """
    if reliability <= 0 or target >= 1:
        return math.inf
    noise = rounds * (1 - reliability) / reliability
    return round(noise * target / (1 - target), 6)


class Check(NamedTuple):
    """What a look at the halves found.

    Attributes:
      rounds: sampled so far.
      reason: why to stop here: ``"reliability"`` (what was wanted is reached) or ``"budget"``; None to go on.
      reliability: see `split_half_reliability`.
      top_overlap: see `top_overlap`.
      next: the number of rounds at which to look again; ``rounds`` where to stop.
    """

    rounds: int
    reason: Literal["reliability", "budget"] | None
    reliability: float
    top_overlap: float
    next: int


@dataclass(frozen=True)
class Stopping:
    """A wanted reliability, and what else decides when a run stops.

    Attributes:
      reliability: wanted `split_half_reliability`, below 1.
      top_overlap: wanted `top_overlap` besides; None for none.
      pilot: rounds before the first look, at least 4 (of sampling chains, 4 passes over all players).
    """

    reliability: float
    top_overlap: float | None = None
    pilot: int = 4

    def decide(self, moments: Moments, rounds: int, budget: int) -> Check:
        """Looks at the halves after ``rounds`` rounds of at most ``budget``.

        Where the target is not reached, the next look is where `plan` expects it to be, at least a quarter and at
        most three times as many rounds away as there are already, and never beyond the budget.
        """
        even, odd = moments.halves()
        reliability = split_half_reliability(even, odd)
        overlap = top_overlap(even, odd)
        reached = reliability >= self.reliability and (self.top_overlap is None or overlap >= self.top_overlap)
        if reached or rounds >= budget:
            return Check(rounds, "reliability" if reached else "budget", reliability, overlap, rounds)
        wanted = min(plan(reliability, rounds, self.reliability), _STRIDE * rounds)
        return Check(rounds, None, reliability, overlap, min(budget, max(math.ceil(wanted), -(-5 * rounds // 4))))


def run_until(
    estimates: Iterable[Estimate], stopping: Stopping, following: int | None = None
) -> Iterator[tuple[Estimate, Check | None]]:
    """The estimates of a run with the last `Check` on them, up to where it says to stop.

    The run's planned rounds are the budget. Looks fall on estimates, which do not depend on how many rounds are
    computed together, so neither does where a run stops. Every look is one at all rounds so far: a run looked at
    often stops a little early by luck, so there are few, and the more players the less there is of it.

    Args:
      estimates: of the run.
      stopping: when to look, and what is enough.
      following: the rounds at which to look next (`Check.next`), of a run that goes on; None looks after the pilot.

    Example:
      >>> for estimate, check in run_until(permutation(game, **options), Stopping(0.9)):  # doctest: +SKIP
      ...     report(estimate.rounds, check)
    """
    check = None
    following = stopping.pilot if following is None else following
    for estimate in estimates:
        if estimate.rounds >= min(following, estimate.planned):
            check = stopping.decide(estimate.moments, estimate.rounds, estimate.planned)
            following = check.next
        yield estimate, check
        if check is not None and check.reason is not None:
            return


def _lowest(values: np.ndarray, count: int) -> np.ndarray:
    """Each player's part in the lowest ``count`` places: 1, 0, or a share where values tie for the last of them."""
    threshold = np.partition(values, count - 1)[count - 1]
    below, tied = values < threshold, values == threshold
    return below + tied * ((count - below.sum()) / tied.sum())


def _both(even: np.ndarray, odd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of players that have one in both halves."""
    known = np.isfinite(even) & np.isfinite(odd)
    return even[known], odd[known]
