"""What a benchmark row says, and the machine it was said on."""

from __future__ import annotations

import platform
import resource
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Result:
    """One measured figure.

    Parameters
    ----------
    name, value, unit
        The row, its figure and what it is counted in.
    target, holds
        What was asked for in words, and whether the figure reaches it (None where there is nothing to reach).
    baseline, ratio
        The same figure of a peer measured in the same run, and ours over theirs.
    seeds, split
        Of accuracy rows: the seeds, and which slices were learnt from and scored.
    details
        Everything else worth keeping.
    """

    name: str
    value: float
    unit: str
    target: str
    holds: bool | None
    baseline: float | None = None
    ratio: float | None = None
    seeds: tuple[int, ...] = ()
    split: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the code; no names of hosts or people."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "processor": model,
        "cores": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
    }


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process or any that it started, in MB."""
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(max(peaks) / 1024, 1)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
