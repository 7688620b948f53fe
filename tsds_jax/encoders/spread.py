"""The rows of a batch over all local devices, and the same weights on each of them."""

from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")


class Spread(NamedTuple):
    """Where arrays go.

    Attributes:
      devices: how many there are; a batch needs a multiple of so many rows.
      mesh: one axis, "rows", over the devices; None with one device, where everything stays as it is.
    """

    devices: int
    mesh: Mesh | None

    def replicated(self, tree: Tree) -> Tree:
        """The same arrays on every device."""
        return tree if self.mesh is None else jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def by_rows(self, tree: Tree, axis: int = 0) -> Tree:
        """Each device has its share of the rows, along that axis, of every array."""
        if self.mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec(*[None] * axis, "rows")))


def over_local_devices() -> Spread:
    """Over the devices of this process, of JAX's default backend.

    Example:
      >>> spread = over_local_devices()
      >>> batch = spread.by_rows(batch)  # [rows, tokens], rows a multiple of spread.devices
    """
    devices = jax.local_devices()
    if len(devices) == 1:
        return Spread(1, None)
    # Auto axes: the compiler carries the split through every operation of the encoder.
    return Spread(len(devices), Mesh(np.array(devices), ("rows",), axis_types=(AxisType.Auto,)))
