"""Numbers of a regression in units of their own spread, while a model learns them.

A step of Adam changes a weight by about the learning rate, whatever the loss: numbers in the thousands would be out of
reach of any sensible one, and those of a thousandth would drown in it.
"""

from typing import NamedTuple, Self

import numpy as np
from flax import nnx


class Units(NamedTuple):
    """Where numbers lie, and how far apart: what is ``(number - middle) / scale`` trains.

    Attributes:
      middle: their mean; 0 for a head that cannot add one.
      scale: their root mean square about it; 1 where they are all alike.
    """

    middle: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, numbers: np.ndarray, *, bias: bool) -> Self:
        """Those of a training set, for a head whose last map has a bias or has none."""
        numbers = numbers.astype(np.float64)
        middle = float(numbers.mean()) if bias else 0.0
        scale = float(np.sqrt(np.square(numbers - middle).mean()))
        # Below that it is rounding: numbers are kept in float32.
        return cls(middle, scale if scale > np.finfo(np.float32).eps * abs(middle) else 1.0)

    def inside(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of the data as the model that trains has to give them, in their own type."""
        if self == Units():
            return numbers
        return ((numbers.astype(np.float64) - self.middle) / self.scale).astype(numbers.dtype)

    def into(self, params: nnx.State) -> nnx.State:
        """Parameters of a `Target` that gives the data's numbers -> of one that gives these."""
        return self._changed(params, 1 / self.scale, -self.middle / self.scale)

    def back(self, params: nnx.State) -> nnx.State:
        """What undoes `into`."""
        return self._changed(params, self.scale, self.middle)

    def _changed(self, params: nnx.State, factor: float, addition: float) -> nnx.State:
        """With a head whose outputs are so many times as large, and more by so much."""
        if self == Units():
            return params
        flat = dict(nnx.to_flat_state(params))
        for path, more in ((("head", "out", "kernel"), 0.0), (("head", "out", "bias"), addition)):
            if path in flat:
                flat[path] = flat[path].replace(flat[path][...] * factor + more)
        return nnx.from_flat_state(list(flat.items()))
