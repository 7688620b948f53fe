"""Estimators: from a game to the value of every player."""

from tsds_jax.estimators.add_one import add_one
from tsds_jax.estimators.banzhaf import InAndOut, banzhaf
from tsds_jax.estimators.estimate import Estimate, no_end
from tsds_jax.estimators.exact import MAX_PLAYERS, Enumeration, enumerate_coalitions
from tsds_jax.estimators.moments import Moments
from tsds_jax.estimators.permutation import permutation
from tsds_jax.estimators.semivalues import semivalue_weights
from tsds_jax.estimators.stopping import Check, Stopping, run_until, split_half_reliability, top_overlap

__all__ = [
    "MAX_PLAYERS",
    "Check",
    "Enumeration",
    "Estimate",
    "InAndOut",
    "Moments",
    "Stopping",
    "add_one",
    "banzhaf",
    "enumerate_coalitions",
    "no_end",
    "permutation",
    "run_until",
    "semivalue_weights",
    "split_half_reliability",
    "top_overlap",
]
