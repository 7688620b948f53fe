"""What a run ran on: versions, machine, devices."""

import importlib.metadata
import os
import platform
import re
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


def nvidia_capability(device: Any) -> str | None:
    """The compute capability of an NVIDIA GPU, such as "9.0"; None of any other device."""
    # Other makers' GPUs have names there, such as gfx90a.
    found = re.fullmatch(r"\d+\.\d+", str(getattr(device, "compute_capability", "")))
    return found[0] if found and device.platform in ("gpu", "cuda") else None


def has_tf32() -> bool:
    """Whether the devices are NVIDIA GPUs whose matrix units take float32 as TF32, of ten binary digits."""
    capability = nvidia_capability(jax.local_devices()[0])
    return capability is not None and float(capability) >= 8.0
