"""Bringing one model's representations into another's space, by a rotation."""

from typing import NamedTuple

import numpy as np

from tsds_jax.errors import InputError

# Pull towards no rotation, relative to the mean square of a feature: where the rows say nothing, nothing turns.
_PULL = 1e-3


class Rotation(NamedTuple):
    """``(x - origin) matrix + target``.

    Attributes:
      origin: float64 ``[width]``, mean of the rows in the space that is left.
      matrix: float64 ``[width, width]``, orthogonal.
      target: float64 ``[width]``, mean of the rows in the space that is come to.
    """

    origin: np.ndarray
    matrix: np.ndarray
    target: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Float32 ``[rows, width]``."""
        return ((np.asarray(x, np.float64) - self.origin) @ self.matrix + self.target).astype(np.float32)


def rotation_between(x: np.ndarray, target: np.ndarray) -> Rotation:
    """The rotation that brings rows closest to the same rows in another space (orthogonal Procrustes).

    With both centred it is ``U V'`` of the singular value decomposition of ``x' target + pull I``: it minimises
    ``|x R - target|^2 + pull |R - I|^2`` over orthogonal ``R``.

    Args:
      x: ``[rows, width]``.
      target: the same rows in the other space, ``[rows, width]``.

    Raises:
      InputError: arrays of two shapes.

    Example:
      >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
      >>> rotation_between(x, x @ np.array([[0.0, 1.0], [-1.0, 0.0]])).matrix.round(1).tolist()
      [[0.0, 1.0], [-1.0, 0.0]]

    References:
      Schoenemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966.
    """
    if x.shape != target.shape or x.ndim != 2:
        raise InputError(f"rows to rotate have shape {x.shape}, and where they shall lie {target.shape}: give the same")
    origin, end = x.mean(0, dtype=np.float64), target.mean(0, dtype=np.float64)
    one, other = x - origin, target - end
    pull = _PULL * float(np.square(other).sum()) / max(1, x.shape[1])
    left, _, right = np.linalg.svd(one.T @ other + pull * np.eye(x.shape[1]))
    return Rotation(origin, left @ right, end)
