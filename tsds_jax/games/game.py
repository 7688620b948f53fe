"""What a game is: players, and the utility of any coalition of them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp


class PrefixUtilities(NamedTuple):
    """Utilities of prefixes of one ordering.

    Attributes:
      utility: float32 ``[sizes]``, or ``[sizes, parts]`` of a game whose utility has parts.
      unconverged: int32 scalar, model fits among them that stopped before their tolerance or were damped.
    """

    utility: jax.Array
    unconverged: jax.Array


class Fitted(NamedTuple):
    """A coalition made ready for the marginal contributions to it.

    Attributes:
      model: a pytree that only the same game understands.
      unconverged: int32 scalar, 1 where its fit stopped before its tolerance or was damped.
    """

    model: Any
    unconverged: jax.Array


class Marginals(NamedTuple):
    """Marginal contributions of some players to one coalition.

    Attributes:
      marginal: float32 ``[players]``, or ``[players, parts]`` of a `RowGame`.
      unconverged: int32 ``[players]``, 1 where the fit with the player stopped before its tolerance.
    """

    marginal: jax.Array
    unconverged: jax.Array


@runtime_checkable
class Game(Protocol):
    """A pytree of arrays whose players are numbered ``0 .. players - 1``.

    Estimators know a game only through these members, so a new source classifier is one new file. Where they are not
    there, nobody asks for these, which a game may have besides:

      part: int32 ``[players]``, of a utility that differs between players (class-wise), which part counts for each.
      approximate: whether `add_one_marginals` is: one contribution a coalition is then checked by two exact fits.
      refits: whether each of its contributions is a whole fit, to be counted as one.
      costly: whether one utility takes so long that none is asked for in vain, nor many before anybody hears of them.
      classes: how many numbers it holds for each of its ``y_val``, by which chunks of points go.
      members: ``[points]``, the points of all players, where players are groups: a fit has as many rows as these.
      unit: in what truncation measures its utility, 1 where it does not say: one that depends on the targets' unit
        has something of that unit here, so that where a chain ends does not.
      side_by_side: whether two computations of it may run at a time on a CPU, which is faster. Not where LAPACK gets
        batches of matrices (a vmapped `jnp.linalg.cholesky`): two of those can wait for each other for good in jaxlib.
      per_player: names of its arrays with an entry for each player, where these and no others tell players apart: then
        devices can have some players each (`by_player`).

    A registered dataclass with the very fields of another game's needs a static field of its own: JAX takes the two for
    one structure (jaxlib 0.10 to 0.12), and now and then runs what it compiled for the other.
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

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        """The coalition ``order[:size]`` made ready for `add_one_marginals`: its classifier, fitted once.

        Args:
          order: int32 ``[length]``, distinct players.
          size: int32 scalar, from 0 to ``length``.
        """
        ...

    def add_one_marginals(self, model: Any, points: jax.Array) -> Marginals:
        """``U(S + i) - U(S)`` for each player ``i`` in ``points``, int32 ``[chunk]``, S the fitted coalition.

        What it says of a member of S means nothing.
        """
        ...


def by_player(game: Any, own: Callable[[Any], Any], shared: Callable[[Any], Any]) -> Any:
    """The game with ``own`` of every array that has an entry for each player, and ``shared`` of the others.

    Args:
      game: one with ``per_player``, see `Game`, or one that has such a ``game``.
      own: of an array with a leading axis of players.
      shared: of another array.

    Example:
      >>> import numpy as np
      >>> from tsds_jax.games import ridge_game
      >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([0, 1, 1])
      >>> last_two = by_player(ridge_game(x, y, x, y, classes=2), lambda array: array[1:], lambda array: array)
      >>> last_two.players
      2
    """

    def changed(name: str) -> Any:
        held = getattr(game, name)
        if name == "game":
            return by_player(held, own, shared)
        return own(held) if name in game.per_player else jax.tree.map(shared, held)

    arrays = [part.name for part in dataclasses.fields(game) if not part.metadata.get("static")]
    return dataclasses.replace(game, **{name: changed(name) for name in arrays})


def part_of(game: Game) -> jax.Array | None:
    """Which part of the game's utilities counts for each player, int32 ``[players]``; None where there is but one."""
    return getattr(game, "part", None)


def plain_game(game: Any) -> Any:
    """The game of single points that one of groups, or one split by row, is made of."""
    while hasattr(game, "game"):
        game = game.game
    return game


def own_part(game: Game, utility: jax.Array, players: jax.Array) -> jax.Array:
    """Of utilities ``[..., parts]`` the part that counts for each of ``players`` ``[...]``; others pass unchanged."""
    part = part_of(game)
    return utility if part is None else jnp.take_along_axis(utility, part[players][..., None], -1)[..., 0]


@jax.jit
def utility(game: Game, coalition: jax.Array) -> jax.Array:
    """Utility of one coalition, given as bool ``[players]``.

    Members are put in front, in their order, and read off as a prefix; map it with `jax.lax.map` or
    `jax.vmap` over many coalitions. Compiled once for all coalitions: a game's loops, called as they are, would be
    compiled anew at each call.

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
