"""The number type of an encoder's weights and products: float32, or bfloat16 where the device has it."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from tsds_jax.errors import InputError
from tsds_jax.runtime.environment import nvidia_capability

DTYPES = ("float32", "bfloat16")


def check_dtype(dtype: str, device: Any) -> None:
    """Refuse a number type that is not supported, or that the device lacks.

    Args:
      dtype: one of `DTYPES`.
      device: a `jax.Device`, of which ``platform``, ``device_kind`` and ``compute_capability`` are read.

    Raises:
      InputError: it is another one, or bfloat16 on an NVIDIA GPU from before compute capability 8.0.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r:.60} is not supported; supported: {', '.join(DTYPES)}")
    capability = nvidia_capability(device)
    if dtype == "bfloat16" and capability and int(capability.split(".")[0]) < 8:
        raise InputError(
            f"dtype bfloat16: {device.device_kind} (compute capability {capability}) does not have it, "
            "NVIDIA GPUs do from 8.0 on; give dtype float32"
        )


def dtype_of(weights: Any) -> str:
    """The number type of a tree of weights, all of one type."""
    return str(jax.tree.leaves(weights)[0].dtype)


def set_table_dtype(model: nnx.Module, dtype: str) -> None:
    """Have the module's tables give that type: an embedding gives the one it was made in, a map that of its input."""
    model.set_attributes(nnx.Embed, dtype=jnp.dtype(dtype))


def exact_products(weights: Any) -> contextlib.AbstractContextManager[object]:
    """Context in which float32 is multiplied as such, also where the hardware would rather take TF32.

    Weights of another type are multiplied in that type.
    """
    return jax.default_matmul_precision("float32") if dtype_of(weights) == "float32" else contextlib.nullcontext()
