"""Where and with what a benchmark ran."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import jax

import tsds_jax

CPUINFO = Path("/proc/cpuinfo")
# Bytes in a unit of ru_maxrss, which is in KiB on Linux.
MAXRSS = 1 if sys.platform == "darwin" else 1024


def machine() -> dict[str, Any]:
    """Processor and its kind, as others have the same name; cores, system, JAX's devices."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    about = {name.strip(): what.strip() for name, _, what in (line.partition(":") for line in lines)}
    return {
        "processor": about.get("model name") or platform.processor() or platform.machine(),
        "cpu": "/".join(about[name] for name in ("cpu family", "model", "stepping") if name in about),
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
    ordered = {name: found[name] for name in names if name in found}
    return {"tsds_jax": tsds_jax.__version__, "python": platform.python_version(), **ordered}
