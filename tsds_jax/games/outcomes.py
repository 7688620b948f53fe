"""Games whose utility is what a fitted model's outcome on the validation rows is worth.

A source classifier says what the fit to a coalition makes of each validation row, its `Outcome`. Everything that
follows from outcomes, whatever the classifier, is here: utilities, marginal contributions, and both by row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from tsds_jax.arrays import whole_numbers
from tsds_jax.errors import InputError
from tsds_jax.games.game import Fitted, Marginals, PrefixUtilities, own_part
from tsds_jax.games.products import dot
from tsds_jax.games.utilities import Outcome, RegressionOutcome, row_scores, weighted_sum, worth

# How a linear fit may have an intercept: unpenalised, as a constant feature penalised like any other, or not at all.
INTERCEPTS = ("free", "penalised", "none")

# Utilities that are no sum over validation rows: r2 is clipped, and class-wise multiplies two sums.
NOT_SUMS = ("r2", "class_wise")

Reduce = Callable[[Outcome | RegressionOutcome], Any]


class OutcomeGame:
    """What logistic, ridge and kernel games share; a subclass supplies these fields and the methods that raise."""

    y: jax.Array
    y_val: jax.Array
    row_weight: jax.Array
    classes: int
    utility: str
    # Every factorisation is one of `tsds_jax.games.factors`, which gives LAPACK one matrix at a time.
    side_by_side: ClassVar[bool] = True

    @property
    def players(self) -> int:
        """Number of players."""
        return self.y.shape[0]

    @property
    def part(self) -> jax.Array | None:
        """The class of each player where the utility is class-wise."""
        return self.y if self.utility == "class_wise" else None

    def prefix_map(self, order: jax.Array, sizes: jax.Array, reduce: Reduce) -> tuple[Any, jax.Array]:
        """``reduce`` of the outcomes, ``[some, rows]``, of ``order[:k]`` for each ``k`` in ``sizes``; unconverged fits.

        ``reduce`` maps an outcome to arrays with the same leading axis; it may be called on batches of sizes.
        """
        raise NotImplementedError

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        """The model of ``order[:size]``."""
        raise NotImplementedError

    def fitted_outcome(self, model: Any) -> Outcome | RegressionOutcome:
        """What a fitted coalition's model says of each validation row, ``[rows]``."""
        raise NotImplementedError

    def add_one_map(self, model: Any, points: jax.Array, reduce: Reduce) -> tuple[Any, jax.Array]:
        """``reduce`` of the outcomes with one more point, for each in ``points``; unconverged fits, ``[points]``."""
        raise NotImplementedError

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        """Utilities of ``order[:k]`` for each ``k`` in ``sizes``; class-wise ``[sizes, classes]``."""
        return PrefixUtilities(*self.prefix_map(order, sizes, self.worth))

    def prefix_outcomes(self, order: jax.Array, sizes: jax.Array) -> tuple[Outcome | RegressionOutcome, jax.Array]:
        """What the fit to each prefix says of each validation row: an outcome of ``[sizes, rows]``, unconverged."""
        return self.prefix_map(order, sizes, lambda outcome: outcome)

    def add_one_marginals(self, model: Any, points: jax.Array) -> Marginals:
        """``U(S + i) - U(S)`` for each ``i`` in ``points``; class-wise, in the utility of the point's own class."""
        before = self.fitted_outcome(model)
        if self.utility in NOT_SUMS:
            after, unconverged = self.add_one_map(model, points, self.worth)
            return Marginals(own_part(self, after - self.worth(before), points), unconverged)
        # Row by row, as the difference of two sums would round to units in the last place of the utility itself.
        known = row_scores(self.utility, before)

        def change(outcome: Outcome | RegressionOutcome) -> jax.Array:
            return weighted_sum(row_scores(self.utility, outcome) - known, self.row_weight)

        return Marginals(*self.add_one_map(model, points, change))

    def worth(self, outcome: Outcome | RegressionOutcome) -> jax.Array:
        """The utility of an outcome ``[..., rows]``, ``[...]``; class-wise ``[..., classes]``."""
        return worth(self.utility, outcome, self.row_weight, self.y_val, self.classes)

    def scores(self, outcome: Outcome | RegressionOutcome) -> jax.Array:
        """What each row adds to the utility, ``[..., rows]``."""
        return row_scores(self.utility, outcome) * self.row_weight


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RowGame:
    """A game with its utility split by validation row, or by groups of them: parts that sum to the utility.

    Build it with `by_row`, which refuses games whose utility is no sum over rows.

    Attributes:
      game: an `OutcomeGame`.
      member: float32 ``[rows, groups]``, 1 where a row is in a group; None where every row is a part.
    """

    game: Any
    member: jax.Array | None = None

    @property
    def players(self) -> int:
        """Number of players."""
        return self.game.players

    @property
    def approximate(self) -> bool:
        """As of the game."""
        return getattr(self.game, "approximate", False)

    @property
    def side_by_side(self) -> bool:
        """As of the game."""
        return getattr(self.game, "side_by_side", False)

    @property
    def unit(self) -> jax.Array | float:
        """As of the game."""
        return getattr(self.game, "unit", 1.0)

    @property
    def classes(self) -> int:
        """As of the game."""
        return int(self.game.classes)

    @property
    def per_player(self) -> tuple[str, ...]:
        """As of the game."""
        return getattr(self.game, "per_player", ())

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        """Utilities ``[sizes, parts]``."""
        return PrefixUtilities(
            *self.game.prefix_map(order, sizes, lambda outcome: self._parts(self.game.scores(outcome)))
        )

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        """As of the game."""
        return self.game.fit(order, size)

    def add_one_marginals(self, model: Any, points: jax.Array) -> Marginals:
        """Contributions ``[points, parts]``."""
        known = self.game.scores(self.game.fitted_outcome(model))

        def change(outcome: Outcome | RegressionOutcome) -> jax.Array:
            return self._parts(self.game.scores(outcome) - known)

        return Marginals(*self.game.add_one_map(model, points, change))

    def _parts(self, scores: jax.Array) -> jax.Array:
        return scores if self.member is None else dot("...r,rg->...g", scores, self.member)


def by_row(game: Any, groups: np.ndarray | None = None) -> RowGame:
    """The game with its utility split by validation row.

    Args:
      game: the game.
      groups: int ``[rows]``, from 0 to ``rows - 1``, to split it by groups of rows instead.

    Raises:
      InputError: groups that are no such numbers; a game without validation rows, or whose utility is no sum over them:
        r2, which is clipped, and class-wise, which multiplies two of them.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import by_row, ridge_game, utility
      >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
      >>> game = ridge_game(x, y, x, y, classes=2)
      >>> [round(part, 3) for part in utility(by_row(game), np.array([False, True, True])).tolist()]
      [0.0, 0.333, 0.333]
    """
    if not isinstance(game, OutcomeGame):
        raise InputError(f"a {type(game).__name__} has no validation rows to split its utility by: use another game")
    if game.utility in NOT_SUMS:
        instead = "neg_mean_squared_error" if game.utility == "r2" else "accuracy"
        raise InputError(f"utility {game.utility!r} is no sum over validation rows: use {instead!r} to split it by row")
    if groups is None:
        return RowGame(game)
    rows = len(game.y_val)
    of = whole_numbers(groups, "groups", rows, f"{rows} validation rows", below=True)
    return RowGame(game, jax.nn.one_hot(of, int(of.max()) + 1))
