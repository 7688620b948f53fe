"""Groups of points as players: documents, sources or annotators, each in a coalition as a whole or not at all."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import whole_numbers
from tsds_jax.errors import InputError
from tsds_jax.games.game import Fitted, Marginals, PrefixUtilities


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GroupGame:
    """A game whose players are groups of another's: a coalition's utility is that of all their points.

    Build it with `group_game`. Contributions to a coalition are exact, one fit of all its points for each group.

    Attributes:
      game: of the points; any `Game` without parts by player.
      size: int32 ``[groups]``, points of each group.
      members: int32 ``[points]``, the points of the first group, of the second and so on.
      first: int32 ``[groups]``, where each group begins there.
      largest: points of the largest group.
      refits: that each contribution is a whole fit.
    """

    game: Any
    size: jax.Array
    members: jax.Array
    first: jax.Array
    largest: int = field(metadata={"static": True})
    refits: ClassVar[bool] = True

    @property
    def players(self) -> int:
        """Number of groups."""
        return self.size.shape[0]

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
        return getattr(self.game, "classes", 1)

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        """Utilities of the points of the groups ``order[:k]`` for each ``k`` in ``sizes``."""
        return self.game.prefix_utilities(*self._points(order, sizes))

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        """The coalition itself, and its utility."""
        found = self.prefix_utilities(order, jnp.asarray(size)[None])
        return Fitted((order, size, found.utility[0]), found.unconverged)

    def add_one_marginals(self, model: Any, points: jax.Array) -> Marginals:
        """``U(S + g) - U(S)`` for each group ``g`` in ``points``, int32 ``[chunk]``."""
        order, size, before = model

        def one(group: jax.Array) -> tuple[jax.Array, jax.Array]:
            longer = jnp.concatenate([order, group[None]])
            # Right behind the coalition, in the place of whoever stands there.
            with_it = jnp.where(jnp.arange(len(longer)) == size, group, longer)
            found = self.prefix_utilities(with_it, (size + 1)[None])
            return found.utility[0] - before, found.unconverged

        return Marginals(*jax.lax.map(one, points))

    def _points(self, order: jax.Array, sizes: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The points of groups in this order, and how many the first so many groups have."""
        length, count = order.shape[0], self.members.shape[0]
        ends = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(self.size[order], dtype=jnp.int32)])
        at = jnp.arange(min(count, length * self.largest), dtype=jnp.int32)
        which = jnp.clip(jnp.searchsorted(ends, at, side="right") - 1, 0, length - 1)
        # Behind the last of them any point does.
        place = jnp.minimum(self.first[order[which]] + at - ends[which], count - 1)
        return self.members[place], ends[sizes]


def group_game(game: Any, groups: object) -> GroupGame:
    """The game with groups of its players as players.

    Args:
      game: the game.
      groups: int ``[points]``, the group of each player; all numbers from 0 to the largest occur.

    Raises:
      InputError: groups that are no such numbers, or a game whose utility differs between its players.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import TableGame, group_game, utility
      >>> pair = group_game(TableGame(np.array([0, 1, 2, 3, 4, 5, 6, 7.0])), np.array([0, 1, 1]))
      >>> float(utility(pair, np.array([False, True])))
      6.0
    """
    found = whole_numbers(groups, "groups", game.players, f"the {game.players} points")
    # Identifiers may be huge, and as many numbers would be counted.
    inside = found.min(initial=0) >= 0 and found.max(initial=0) < len(found)
    size = np.bincount(found.astype(np.int64)) if inside else np.zeros(1, int)
    if (size == 0).any():
        raise InputError(
            "groups must be numbered from 0 without a gap: np.unique(groups, return_inverse=True)[1] does that"
        )
    if getattr(game, "part", None) is not None:
        raise InputError("utility 'class_wise' is each point's own and not a group's: use another with groups")
    first = np.concatenate([[0], np.cumsum(size)[:-1]])
    arrays = {"size": size, "members": np.argsort(found, kind="stable"), "first": first}
    held = {name: jnp.asarray(array, jnp.int32) for name, array in arrays.items()}
    return GroupGame(game, **held, largest=int(size.max()))
