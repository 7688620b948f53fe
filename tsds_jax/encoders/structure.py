"""A model in two parts for a jitted function: its weights, and a key for all the rest that is compared at once."""

import dataclasses
import functools
from typing import Any

import jax
from flax import nnx


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """A model without its weights, one object for all that are alike.

    Equal by identity, for jit hashes and compares it with every batch: part by part that takes milliseconds.
    """

    graphdef: nnx.GraphDef
    tree: jax.tree_util.PyTreeDef

    def merge(self, weights: list[jax.Array]) -> Any:
        """The model with these weights."""
        return nnx.merge(self.graphdef, jax.tree.unflatten(self.tree, weights))


_the_one = functools.cache(Structure)


def split_model(model: nnx.Module) -> tuple[Structure, list[jax.Array]]:
    """The model's structure and its weights; `Structure.merge` undoes it.

    Example:
      >>> from tsds_jax import load_encoder
      >>> structure, weights = split_model(load_encoder("models/minilm").model)
      >>> model = structure.merge(weights)
    """
    graphdef, state = nnx.split(model)
    weights, tree = jax.tree.flatten(state)
    return _the_one(graphdef, tree), weights
