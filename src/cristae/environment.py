"""What a computation ran on: versions, hardware and memory, as manifests keep them."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("cristae", "torch", "numpy", "zarr", "scikit-image", "opencv-python-headless")
"""What results depend on."""
_STATUS = Path("/proc/self/status")


def versions() -> dict[str, str]:
    """Return the versions of Python (without the last number) and of what results depend on."""
    return {"python": ".".join(platform.python_version_tuple()[:2]), **{name: version(name) for name in PACKAGES}}


def environment() -> dict[str, Any]:
    """Return versions and hardware as a manifest keeps them; no user or host names."""
    memory_gb = round(psutil.virtual_memory().total / 2**30, 1)
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": memory_gb,
        "versions": {name: version(name) for name in PACKAGES},
    }


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far in MB (NaN where the system does not tell)."""
    # Linux hands the figure of `getrusage` on from the process that started this one.
    own = re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE) if _STATUS.exists() else None
    if own:
        return round(int(own[1]) / 2**10, 1)
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return float(getattr(psutil.Process().memory_info(), "peak_wset", float("nan"))) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if platform.system() == "Darwin" else 2**10), 1)
