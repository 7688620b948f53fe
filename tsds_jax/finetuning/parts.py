"""Which part of a model trains: all of it, its upper layers, its biases, low-rank adapters, or the head alone.

What does not train is no argument of the gradient, so nothing is computed for it: under frozen lower layers the
backward pass ends where they do. BitFit (Ben Zaken et al., 2022) trains biases; LoRA (Hu et al., 2022) adds to a
frozen kernel ``alpha / rank * down @ up`` and trains the two narrow factors. Here the sum is made anew each step, as
a kernel, so that no module knows of it; for the queries and values it costs what one more token in some hundred would.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from tsds_jax.options import FineTuneOptions

Path = tuple[Any, ...]  # of names, and of the numbers of layers
# What LoRA adapts by `lora_on`: the kernels whose path ends so.
_QUERY_AND_VALUE = ("query", "value", "qkv")


class Adapter(NamedTuple):
    """What LoRA adds to a kernel [in, out]: ``down @ up``, scaled.

    Attributes:
      down: [in, rank].
      up: [rank, out], zeros at first.
    """

    down: jax.Array
    up: jax.Array


class Trained(NamedTuple):
    """What trains.

    Attributes:
      params: parameters that train as they are.
      adapters: LoRA's, by the dotted path of the kernel that each is for.
    """

    params: nnx.State
    adapters: dict[str, Adapter]


def split_parts(params: nnx.State, options: FineTuneOptions, key: jax.Array) -> tuple[Trained, nnx.State]:
    """What trains of a model's parameters, and what is frozen.

    Args:
      params: of a `Target`.
      options: ``tune``, ``frozen_layers`` and LoRA's.
      key: adapters are drawn from it.
    """
    flat = nnx.to_flat_state(params)
    train = [(path, param) for path, param in flat if _trains(path, options)]
    frozen = [(path, param) for path, param in flat if not _trains(path, options)]
    adapters = {}
    if options.tune == "lora":
        for number, (path, param) in enumerate(frozen):
            if _adapted(path, options):
                rows, columns = param.shape
                down = jax.random.normal(jax.random.fold_in(key, number), (rows, options.lora_rank)) * rows**-0.5
                adapters[dotted(path)] = Adapter(down, jnp.zeros((options.lora_rank, columns)))
    return Trained(nnx.from_flat_state(train), adapters), nnx.from_flat_state(frozen)


def finds_part(encoder: nnx.Module, options: FineTuneOptions) -> bool:
    """Whether anything of an encoder trains, or is adapted."""
    paths = [("encoder", *path) for path, _ in nnx.to_flat_state(nnx.state(encoder))]
    return any(_trains(path, options) or (options.tune == "lora" and _adapted(path, options)) for path in paths)


def whole(trained: Trained, frozen: nnx.State, scale: float) -> tuple[nnx.State, nnx.State]:
    """All parameters as two states, to be merged: those that train, and the frozen with what adapters add.

    Args:
      trained: the first of `split_parts`.
      frozen: the second.
      scale: of what adapters add, ``alpha / rank``.
    """
    if not trained.adapters:
        return trained.params, frozen
    return trained.params, nnx.from_flat_state(
        [(path, _adapt(param, trained.adapters.get(dotted(path)), scale)) for path, param in nnx.to_flat_state(frozen)]
    )


def dotted(path: Path) -> str:
    """A parameter's path as one name, such as ``encoder.layers.0.up.bias``."""
    return ".".join(map(str, path))


def _adapt(param: nnx.Variable, adapter: Adapter | None, scale: float) -> nnx.Variable:
    return param if adapter is None else param.replace(param[...] + scale * adapter.down @ adapter.up)


def _trains(path: Path, options: FineTuneOptions) -> bool:
    if path[0] == "head":
        return True
    if options.tune in ("head", "lora") or not _above(path, options.frozen_layers):
        return False
    return options.tune == "all" or path[-1] == "bias"


def _adapted(path: Path, options: FineTuneOptions) -> bool:
    if path[:2] != ("encoder", "layers") or path[-1] != "kernel" or not _above(path, options.frozen_layers):
        return False
    return options.lora_on == "all" or path[-2] in _QUERY_AND_VALUE


def _above(path: Path, frozen_layers: int) -> bool:
    """Whether a parameter of the encoder lies above so many layers; the embeddings lie below the first."""
    if path[1] == "layers":
        return int(path[2]) >= frozen_layers
    return frozen_layers == 0 or path[1] == "norm"
