"""A game whose utility is a function of one's own, such as the score of any model trained on the members' data."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.arrays import number_in
from tsds_jax.errors import InputError
from tsds_jax.games.game import Fitted, Marginals, PrefixUtilities, plain_game

# Differences of two such numbers are finite in float32.
_MOST = 1e38


class _Remembered:
    """A utility that is computed once for each coalition, which estimators may ask for again."""

    def __init__(self, utility: Callable[[np.ndarray], float]):
        self.utility = utility
        self.found: dict[bytes, float] = {}
        self.failed: Exception | None = None
        self.lock = Lock()  # each device asks on a thread of its own

    def __repr__(self) -> str:
        """The function's name, by which a checkpoint knows it."""
        return str(getattr(self.utility, "__qualname__", type(self.utility).__name__))

    def __call__(self, members: np.ndarray) -> float:
        key = np.sort(members).tobytes()
        with self.lock:
            if self.failed is not None:  # what was begun ahead is not gone on with
                raise self.failed
            if key not in self.found:
                try:
                    found = float(self.utility(np.frombuffer(key, members.dtype)))
                    if not abs(found) < _MOST:
                        raise InputError(f"the utility of {len(members)} players is {found}: return a finite number")
                except Exception as error:
                    self.failed = error
                    raise
                self.found[key] = found
            return self.found[key]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FunctionGame:
    """The game of `function_game`."""

    utility: _Remembered = field(metadata={"static": True})
    players: int = field(metadata={"static": True})

    # Each contribution is whatever the function does, and calls of it wait for each other.
    refits = costly = True
    side_by_side = False

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        """The function of ``order[:k]`` for each ``k`` in ``sizes``, less that of nobody: float32 has few digits."""

        def called(order: Any, sizes: Any) -> np.ndarray:
            members = np.asarray(order, np.int64)
            nobody = self.utility(members[:0])
            return np.array([self.utility(members[:size]) - nobody for size in np.asarray(sizes)], np.float32)

        return PrefixUtilities(self._of(called, sizes.shape, order, sizes), jnp.zeros((), jnp.int32))

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        """The coalition as it is."""
        return Fitted((order, size), jnp.zeros((), jnp.int32))

    def add_one_marginals(self, model: tuple[jax.Array, jax.Array], points: jax.Array) -> Marginals:
        """The function of the coalition with each player, less that of the coalition; 0 for its members."""

        def called(order: Any, size: Any, points: Any) -> np.ndarray:
            members = np.asarray(order, np.int64)[: int(size)]
            before, inside = self.utility(members), set(members.tolist())
            outside = (None if point in inside else point for point in np.asarray(points).tolist())
            more = (0.0 if i is None else self.utility(np.append(members, i)) - before for i in outside)
            return np.fromiter(more, np.float32)

        return Marginals(self._of(called, points.shape, *model, points), jnp.zeros(points.shape, jnp.int32))

    @staticmethod
    def _of(called: Callable[..., np.ndarray], shape: tuple[int, ...], *given: jax.Array) -> jax.Array:
        return jax.pure_callback(called, jax.ShapeDtypeStruct(shape, jnp.float32), *given, vmap_method="sequential")


def function_game(utility: Callable[[np.ndarray], float], players: int) -> FunctionGame:
    """The game of any function of coalitions: a model that is no source classifier here, an experiment, a price.

    ``utility(members)`` gets the members' numbers, int64 ``[size]``, ascending, of nobody too, and returns a finite
    number. It is called once for each coalition, one call after another, outside JAX: it must not use JAX itself, which
    may wait for itself then, and the same members must have the same utility. A sample of `value_game` asks for about
    as many coalitions as there are players by ``"add_one"`` and by ``"permutation"``, and for one by ``"banzhaf"``;
    ``"exact"`` asks for all ``2 ** players``.

    Whatever it raises ends the valuation, and comes out of that as it was raised. With a ``checkpoint`` what has been
    found is kept from one coalition, or one pass of chains over the players, to the next.

    Raises:
      InputError: there is no player.

    Example:
      >>> from sklearn.tree import DecisionTreeClassifier
      >>> from tsds_jax import value_game
      >>> x, y = np.arange(8.0)[:, None], np.array([0, 0, 0, 0, 1, 1, 1, 0])  # the last label is wrong
      >>> def score(members):
      ...     if len(np.unique(y[members])) < 2:
      ...         return 0.5
      ...     return DecisionTreeClassifier().fit(x[members], y[members]).score(x[:7], y[:7])
      >>> int(value_game(function_game(score, players=8), estimator="exact").ranking[0])
      7
    """
    number_in("players", players, 1, np.inf)
    return FunctionGame(_Remembered(utility), int(players))


@contextmanager
def own_errors(game: Any) -> Iterator[None]:
    """What the function of a game raises comes out as it was raised, and not as JAX wraps it."""
    plain = plain_game(game)
    if not isinstance(plain, FunctionGame):
        yield
        return
    plain.utility.failed = None
    try:
        yield
    except Exception:  # JAX's errors of a callback are of several classes
        if plain.utility.failed is not None:
            raise plain.utility.failed from None
        raise
