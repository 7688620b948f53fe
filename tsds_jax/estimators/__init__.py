"""Estimators: from a game to the value of every player."""

from tsds_jax.estimators.add_one import add_one
from tsds_jax.estimators.estimate import Estimate
from tsds_jax.estimators.exact import MAX_PLAYERS, Enumeration, enumerate_coalitions
from tsds_jax.estimators.moments import Moments
from tsds_jax.estimators.permutation import permutation
from tsds_jax.estimators.semivalues import semivalue_weights

__all__ = [
    "MAX_PLAYERS",
    "Enumeration",
    "Estimate",
    "Moments",
    "add_one",
    "enumerate_coalitions",
    "permutation",
    "semivalue_weights",
]
