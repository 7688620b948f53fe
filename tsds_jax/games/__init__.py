"""Games: a source classifier and validation data give every coalition of training points a utility."""

from tsds_jax.games.game import Game, PrefixUtilities, utility
from tsds_jax.games.logistic import LogisticGame, logistic_game
from tsds_jax.games.table import TableGame
from tsds_jax.games.utilities import UTILITIES, Outcome

__all__ = [
    "UTILITIES",
    "Game",
    "LogisticGame",
    "Outcome",
    "PrefixUtilities",
    "TableGame",
    "logistic_game",
    "utility",
]
