"""Games: a source classifier and validation data give every coalition of training points a utility."""

from tsds_jax.games.function import FunctionGame, function_game
from tsds_jax.games.game import Fitted, Game, Marginals, PrefixUtilities, utility
from tsds_jax.games.grouped import GroupGame, group_game
from tsds_jax.games.kernel import KernelGame, kernel_game
from tsds_jax.games.knn import knn_shapley
from tsds_jax.games.logistic import LogisticGame, logistic_game
from tsds_jax.games.outcomes import INTERCEPTS, OutcomeGame, RowGame, by_row
from tsds_jax.games.ridge import RidgeGame, ridge_game
from tsds_jax.games.table import TableGame
from tsds_jax.games.utilities import REGRESSION_UTILITIES, UTILITIES, Outcome

__all__ = [
    "INTERCEPTS",
    "REGRESSION_UTILITIES",
    "UTILITIES",
    "Fitted",
    "FunctionGame",
    "Game",
    "GroupGame",
    "KernelGame",
    "LogisticGame",
    "Marginals",
    "Outcome",
    "OutcomeGame",
    "PrefixUtilities",
    "RidgeGame",
    "RowGame",
    "TableGame",
    "by_row",
    "function_game",
    "group_game",
    "kernel_game",
    "knn_shapley",
    "logistic_game",
    "ridge_game",
    "utility",
]
