"""Where and with what a benchmark ran."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax

import tsds_jax


def machine() -> dict[str, Any]:
    """Processor, cores, system, JAX's devices."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "devices": [str(device) for device in jax.devices()],
        "device_kind": jax.devices()[0].device_kind,
    }


def compile_anew() -> None:
    """Takes JAX's cache of compiled programs from this process and what it starts: read from it nothing takes time."""
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    jax.config.update("jax_compilation_cache_dir", None)


def versions(*packages: str) -> dict[str, str]:
    """Of ours, what it stands on, and these."""
    names = ("jax", "jaxlib", "numpy", "scipy", "scikit-learn", *packages)
    found = {item.name: item.version for item in importlib.metadata.distributions() if item.name in names}
    return {"tsds_jax": tsds_jax.__version__, "python": platform.python_version(), **found}
