"""Work over all devices: the same arrays on each of them, and rows that they share.

With `jax.distributed` a job has several processes. All of them run the same program on the same input, and share each
array's rows as one process's devices do; what comes out every process gets whole.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tsds_jax.runtime.memory import device_memory

Tree = TypeVar("Tree")
_AXIS = "rows"
WHOLE = PartitionSpec()
"""Where an array goes that every device has."""


def along(axis: int) -> PartitionSpec:
    """Where an array goes that is cut along that axis."""
    return PartitionSpec(*[None] * axis, _AXIS)


class Spread(NamedTuple):
    """Where arrays go.

    Attributes:
      devices: how many there are; what they share needs a multiple of so many rows.
      mesh: one axis, "rows", over the devices; None with one device, where everything stays as it is.
      cuts: whether each device has its part alone of what is `kept` from call to call, not all of it.
    """

    devices: int
    mesh: Mesh | None
    cuts: bool = False

    def replicated(self, tree: Tree) -> Tree:
        """The same arrays on every device; on the only one, if it is an accelerator.

        A call on arrays that JAX may still move would not run what was compiled ahead for them (see `with_room`).
        """
        if self.mesh is None and device_memory() is not None:
            return jax.device_put(tree, jax.local_devices()[0])
        return self._put(tree, WHOLE)

    def by_rows(self, tree: Tree, axis: int = 0) -> Tree:
        """Each device has its share of the rows, along that axis, of every array."""
        return self._put(tree, along(axis))

    def filled(self, array: Any) -> Any:
        """Each device has its share of the rows; where they do not come out even, the last stands there again."""
        if self.mesh is None:
            return array
        rows, each = len(array), -(-len(array) // self.devices)

        def part(index: Any) -> np.ndarray:
            first, behind, _ = index[0].indices(each * self.devices)
            return np.asarray(array[np.minimum(np.arange(first, behind), rows - 1)])

        shape = (each * self.devices, *array.shape[1:])
        return jax.make_array_from_callback(shape, NamedSharding(self.mesh, along(0)), part)

    def kept(self, tree: Tree) -> Tree:
        """What is kept from call to call: on every device, or cut, each array along the longest axis they divide."""
        return jax.tree.map(lambda array: self._put(array, self._part(array)), tree)

    def kept_on(self, tree: Tree) -> Tree:
        """The same inside a jitted function, for what it returns."""
        if not self.cuts or self.mesh is None:
            return self.joined(tree)
        return jax.tree.map(lambda array: self._laid(array, self._part(array)), tree)

    def whole(self, tree: Tree) -> Tree:
        """What is kept, whole on every device, inside a jitted function that uses it."""
        return jax.tree.map(lambda array: self._laid(array, WHOLE), tree) if self.cuts else tree

    def gathered(self, tree: Tree) -> Tree:
        """What is kept, whole on every device."""
        return tree if self.mesh is None or not self.cuts else _whole(tree, self)

    @staticmethod
    def fetched(tree: Tree) -> Tree:
        """The same as NumPy's arrays; a device has at most one of them whole meanwhile, and in one process none."""
        return jax.tree.map(_fetched, tree)

    def mapped(self, function: Callable[..., Tree], rows: Any, *shared: Any) -> Tree:
        """``function(rows, *shared)``, each device with its share of the rows, for use inside a jitted function.

        Args:
          function: of rows and more; every array that it returns has a leading axis, along which shares are joined.
          rows: arrays with a leading axis, a multiple of the devices.
          shared: arrays that each device has.
        """
        if self.mesh is None:
            return function(rows, *shared)
        return self.laid_out(function, (along(0), *[WHOLE] * len(shared)), along(0))(rows, *shared)

    def laid_out(self, function: Callable[..., Tree], given: Any, found: Any) -> Callable[..., Tree]:
        """The function on every device's part of its arguments, for use inside a jitted function, of several devices.

        Args:
          function: of parts; it may use `own`, `added_up` and `collected`.
          given: where each argument is, of `WHOLE` and `along`: trees like the arguments, or the beginnings of such.
          found: where what it returns is.
        """
        # Nothing is asked of how the function's values differ between devices: kernels would not know.
        over = jax.shard_map(function, mesh=self.mesh, in_specs=given, out_specs=found, check_vma=False)
        return lambda *arguments: self.joined(over(*arguments))

    @staticmethod
    def own() -> jax.Array:
        """This device's number, inside a function that is `laid_out`."""
        return jax.lax.axis_index(_AXIS)

    @staticmethod
    def added_up(tree: Tree, shared_out: bool = False) -> Tree:
        """The sum over devices, inside a function that is `laid_out`: all of it, or each device its share of rows."""
        if shared_out:
            return jax.tree.map(lambda part: jax.lax.psum_scatter(part, _AXIS, tiled=True), tree)
        return jax.lax.psum(tree, _AXIS)

    @staticmethod
    def collected(tree: Tree) -> Tree:
        """The rows of all devices, one device's after the other's, inside a function that is `laid_out`."""
        return jax.lax.all_gather(tree, _AXIS, tiled=True)

    def joined(self, tree: Tree) -> Tree:
        """Arrays of which each device has its rows, made whole on all of them where another process has some."""
        if self.mesh is None or jax.process_count() == 1:
            return tree
        return self._laid(tree, WHOLE)

    def _laid(self, tree: Tree, spec: PartitionSpec) -> Tree:
        return tree if self.mesh is None else jax.lax.with_sharding_constraint(tree, NamedSharding(self.mesh, spec))

    def _part(self, array: Any) -> PartitionSpec:
        shape = np.shape(array)
        axes = [axis for axis, size in enumerate(shape) if size % self.devices == 0] if self.cuts else []
        return along(max(axes, key=lambda axis: shape[axis])) if axes else WHOLE

    def _put(self, tree: Tree, spec: PartitionSpec) -> Tree:
        if self.mesh is None:
            return tree
        sharding = NamedSharding(self.mesh, spec)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)
        return jax.tree.map(partial(_of_all_processes, sharding), tree)


ONE_DEVICE = Spread(1, None)
"""Everything stays where it is."""


def over_all_devices(cuts: bool = False) -> Spread:
    """Over the devices of JAX's default backend, of all processes.

    Args:
      cuts: see `Spread`.

    Example:
      >>> spread = over_all_devices()
      >>> batch = spread.by_rows(np.ones((2 * spread.devices, 4)))
    """
    devices = jax.devices()
    if len(devices) == 1:
        return ONE_DEVICE
    # Auto axes: the compiler carries the split through every operation of the encoder.
    return Spread(len(devices), Mesh(np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,)), cuts)


@partial(jax.jit, static_argnames="spread")
def _whole(tree: Tree, spread: Spread) -> Tree:
    return spread.whole(tree)


def _fetched(array: Any) -> np.ndarray:
    if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def _of_all_processes(sharding: NamedSharding, array: Any) -> jax.Array:
    """An array that every process holds whole, as one of which each device has its part; none is sent anywhere."""
    if isinstance(array, jax.Array) and jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = _of_all_processes(sharding, jax.random.key_data(array))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    if isinstance(array, jax.Array) and array.sharding == sharding:
        return array
    held = np.asarray(array)
    return jax.make_array_from_callback(held.shape, sharding, lambda index: held[index])
