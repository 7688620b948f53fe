"""Estimators: from a game to the value of every player."""

from tsds_jax.estimators.exact import Enumeration, enumerate_coalitions
from tsds_jax.estimators.moments import Moments
from tsds_jax.estimators.permutation import Estimate, permutation
from tsds_jax.estimators.semivalues import semivalue_weights

__all__ = ["Enumeration", "Estimate", "Moments", "enumerate_coalitions", "permutation", "semivalue_weights"]
