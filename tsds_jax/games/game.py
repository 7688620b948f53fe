"""What a game is: players, and the utility of any coalition of them."""

from typing import NamedTuple, Protocol, runtime_checkable

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
    order = jnp.argsort(~coalition, stable=True).astype(jnp.int32)
    return game.prefix_utilities(order, jnp.sum(coalition, dtype=jnp.int32)[None]).utility[0]
