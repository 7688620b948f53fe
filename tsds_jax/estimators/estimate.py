"""What an estimator says while it runs."""

from typing import NamedTuple

from tsds_jax.estimators.moments import Moments


class Estimate(NamedTuple):
    """What is known after some chains or coalitions; the last one of a run is its result.

    Attributes:
      moments: the running sums.
      rounds: chains walked or coalitions fitted.
      fits: source classifiers fitted.
      truncated: contributions set to zero by truncation.
      unconverged: fits that stopped before their tolerance.
      planned: rounds in the whole run.
    """

    moments: Moments
    rounds: int
    fits: int
    truncated: int
    unconverged: int
    planned: int
