"""A game given by the utility of every coalition, for tests and for users' own small games."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from tsds_jax.games.game import Fitted, Marginals, PrefixUtilities


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TableGame:
    """Utilities listed for each coalition.

    Attributes:
      utilities: float ``[2 ** players]``; entry ``b`` is the utility of the players whose bit is set in ``b``.

    Example:
      >>> import jax.numpy as jnp
      >>> glove = TableGame(jnp.array([0, 0, 0, 1, 0, 1, 0, 1.0]))  # player 0 holds the one left glove
      >>> glove.players
      3
    """

    utilities: jax.Array

    def __post_init__(self):
        """Whole numbers of NumPy's become floats before JAX, which cuts those of 64 bits to 32, sees them."""
        if isinstance(self.utilities, np.ndarray) and self.utilities.dtype.kind in "iu":
            object.__setattr__(self, "utilities", self.utilities.astype(float))

    @property
    def players(self) -> int:
        """Number of players."""
        return self.utilities.shape[0].bit_length() - 1

    def prefix_utilities(self, order: jax.Array, sizes: jax.Array) -> PrefixUtilities:
        """Utilities of ``order[:k]`` for each ``k`` in ``sizes``, looked up."""
        bits = jnp.left_shift(1, order.astype(jnp.int32))
        coalitions = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(bits, dtype=jnp.int32)])
        return PrefixUtilities(self._real[coalitions[sizes]], jnp.zeros((), jnp.int32))

    def fit(self, order: jax.Array, size: jax.Array) -> Fitted:
        """The bits of ``order[:size]``."""
        bits = jnp.left_shift(1, order.astype(jnp.int32))
        members = jnp.sum(jnp.where(jnp.arange(order.shape[0]) < size, bits, 0), dtype=jnp.int32)
        return Fitted(members, jnp.zeros((), jnp.int32))

    def add_one_marginals(self, model: jax.Array, points: jax.Array) -> Marginals:
        """``U(S + i) - U(S)``, looked up."""
        after = self._real[model | jnp.left_shift(1, points.astype(jnp.int32))]
        return Marginals(after - self._real[model], jnp.zeros(points.shape, jnp.int32))

    @property
    def _real(self) -> jax.Array:
        """A table of whole numbers or booleans in floats: differences of unsigned ones would wrap around."""
        return jnp.asarray(self.utilities, jnp.promote_types(self.utilities.dtype, jnp.float32))
