"""What a game is: players, and the utility of any coalition of them."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp


class PrefixUtilities(NamedTuple):
    """Utilities of prefixes of one ordering.

    Attributes:
      utility: float32 ``[sizes]``.
      unconverged: int32 scalar, model fits among them that stopped before their tolerance.
    """

    utility: jax.Array
    unconverged: jax.Array


@runtime_checkable
class Game(Protocol):
    """A pytree of arrays whose players are numbered ``0 .. players - 1``.

    Estimators know a game only through these members, so a new source classifier is one new file.
    """

    @property
    def players(self) -> int:
        """Number of players."""
        ...

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        """Utility of the coalitions ``order[:k]`` for each ``k`` in ``sizes``.

        Args:
          order: int32 ``[length]``, distinct players.
          sizes: int32 ``[sizes]``, each from 0 to ``length``.
        """
        ...

    def fit(self, order: jax.Array, size: jax.Array) -> Any:
        """The coalition ``order[:size]`` made ready for `add_one_marginals`: its classifier, fitted once.

        Args:
          order: int32 ``[length]``, distinct players.
          size: int32 scalar, from 0 to ``length``.

        Returns:
          A pytree that only the same game understands.
        """
        ...

    def add_one_marginals(self, fit: Any, points: jax.Array) -> jax.Array:
        """``U(S + i) - U(S)`` for each player ``i`` in ``points``, int32 ``[chunk]``, S the fitted coalition.

        What it says of a member of S means nothing.
        """
        ...


def utility(game: Game, coalition: jax.Array) -> jax.Array:
    """Utility of one coalition, given as bool ``[players]``.

    Members are put in front, in their order, and read off as a prefix; map it with `jax.lax.map` or
    `jax.vmap` over many coalitions.

    Example:
      >>> import jax.numpy as jnp
      >>> from tsds_jax.games import TableGame, utility
      >>> game = TableGame(jnp.array([0.0, 1.0, 2.0, 5.0]))  # {}, {0}, {1}, {0, 1}
      >>> float(utility(game, jnp.array([False, True])))
      2.0
    """
    return coalition_utility(game, coalition).utility[0]


def coalition_utility(game: Game, coalition: jax.Array) -> PrefixUtilities:
    """`utility` with its count of unconverged fits, as a prefix of one size."""
    order = jnp.argsort(~coalition, stable=True).astype(jnp.int32)
    return game.prefix_utilities(order, jnp.sum(coalition, dtype=jnp.int32)[None])
