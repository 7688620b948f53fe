"""Valuing: from a game, or the arrays that make one, to the value of every point."""

from tsds_jax.valuation.checks import ESTIMATORS, MOST_SAMPLES, check_points, check_value_options
from tsds_jax.valuation.front import default_subset_size, value, value_game
from tsds_jax.valuation.result import Valuation
from tsds_jax.valuation.sampling import chain_block
from tsds_jax.valuation.source import source_game

__all__ = [
    "ESTIMATORS",
    "MOST_SAMPLES",
    "Valuation",
    "chain_block",
    "check_points",
    "check_value_options",
    "default_subset_size",
    "source_game",
    "value",
    "value_game",
]
