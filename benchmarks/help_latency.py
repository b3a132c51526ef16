"""Time from typing `cristae --help` to the text, and what it imports. Baseline: starting Python and doing nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.result import Result

HEAVY = ("torch", "dask", "pandas", "zarr", "numpy", "pydantic")


def run(quick: bool) -> Result:
    """Start the command again and again."""
    n = 3 if quick else 15
    command = [str(Path(sys.executable).parent / "cristae"), "--help"]
    seconds, bare = _median(command, n), _median([sys.executable, "-c", "pass"], n)
    code = "import sys, cristae.cli as c\ntry: c.cli(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = [name for name in HEAVY if f"'{name}'" in text]
    light = not {"torch", "dask", "pandas"} & set(loaded)
    return Result(
        "help_latency",
        seconds,
        "s",
        "<0.4 s, without torch, dask and pandas",
        seconds < 0.4 and light,
        bare,
        seconds / bare,
        details={"runs": n, "heavy_modules_imported": loaded or "none"},
    )


def _median(command: list[str], n: int) -> float:
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - begun)
    return float(np.median(times))
