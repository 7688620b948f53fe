"""Principal components of the training representations, which make the source classifier's input small."""

import dataclasses
import mmap
from collections.abc import Iterator

import numpy as np

from tsds_jax.arrays import number_in
from tsds_jax.errors import InputError

# Rows read at a time: of 384 numbers some 50 MB in float64.
_ROWS = 16_384


@dataclasses.dataclass(frozen=True)
class Pca:
    """A projection onto principal components.

    Attributes:
      mean: [width], float64, the mean of the rows it was fitted on.
      components: [size, width], float64, orthonormal rows, largest variance first.
      explained: [size], float64, the share of the total variance that each component carries.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: np.ndarray

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Project ``(x - mean) components^T``: [rows, width] -> float32 [rows, size].

        Raises:
          InputError: the width of x is not the fitted one.
        """
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.mean.size:
            raise InputError(f"PCA was fitted on width {self.mean.size} and cannot project an array of shape {x.shape}")
        projected = np.empty((len(x), len(self.components)), np.float32)
        for rows, block in _blocks(x):
            projected[rows] = (block - self.mean) @ self.components.T
        return projected


def fit_pca(x: np.ndarray, size: int) -> Pca:
    """Fit principal components on training rows, in float64.

    The right singular vectors of the centred rows, each with the sign that makes its entry of largest
    magnitude positive, so that the same rows give the same projection everywhere. Rows are read some thousands at a
    time, and of a memory-mapped file no more are held.

    Args:
      x: [rows, width], the training rows alone: a projection that has seen validation rows would leak.
      size: components to keep, from 1 to the smaller of rows and width.

    Raises:
      InputError: size is out of range, or a row holds a NaN or an infinity.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(40, 8))
      >>> fit_pca(x[:30], 3).transform(x[30:]).shape
      (10, 3)
    """
    x = np.asarray(x)
    if x.ndim != 2:
        raise InputError(f"PCA takes an array [rows, width], not one of shape {x.shape}")
    number_in(f"PCA size of {x.shape[0]} rows of width {x.shape[1]}", size, 1, min(x.shape))
    total = np.zeros(x.shape[1])
    for rows, block in _blocks(x):
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            raise InputError(f"PCA cannot use row {rows.start + int(bad.argmax())}: it holds a NaN or an infinity")
        total += block.sum(axis=0)
    mean = total / len(x)
    # Q of a tall matrix is never needed: R has the same right singular vectors, and is small. So has R of the rows that
    # follow, under R of those before.
    triangle = np.empty((0, x.shape[1]))
    for _, block in _blocks(x):
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, block - mean]), mode="r"))
    _, singular, components = np.linalg.svd(triangle, full_matrices=False)
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    components = components * np.where(largest < 0, -1.0, 1.0)
    variance = singular**2
    whole = variance.sum()
    explained = variance / whole if whole > 0 else np.zeros_like(variance)
    return Pca(mean, components[:size], explained[:size])


def _blocks(x: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows of a matrix in float64, some thousands at a time, each time with which they are.

    Of a file that is mapped read-only, what was read is let go of: the system has it still, if it has the room.

    Example:
      >>> np.save("x.npy", np.ones((3, 2), np.float32))
      >>> float(sum(block.sum() for _, block in _blocks(np.load("x.npy", mmap_mode="r"))))
      6.0
    """
    file = _mapped_file(x)
    for first in range(0, len(x), _ROWS):
        rows = slice(first, min(first + _ROWS, len(x)))
        yield rows, np.asarray(x[rows], np.float64)
        if file is not None:
            file.madvise(mmap.MADV_DONTNEED)


def _mapped_file(x: object) -> mmap.mmap | None:
    """What a read-only map's array is a view of; None for other arrays, and on a system without such advice."""
    mapped = None
    while isinstance(x, np.ndarray):
        mapped = x if isinstance(x, np.memmap) else mapped
        x = x.base
    alike = isinstance(x, mmap.mmap) and mapped is not None and mapped.mode == "r"
    return x if alike and hasattr(mmap, "MADV_DONTNEED") else None  # type: ignore[return-value]
