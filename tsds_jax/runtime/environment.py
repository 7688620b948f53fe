"""What a run ran on: versions, machine, devices."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "transformers", "datasets", "safetensors")


def environment() -> dict[str, Any]:
    """Versions, machine and devices, as JSON values."""
    return {
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": [str(device) for device in jax.devices()],
    }
