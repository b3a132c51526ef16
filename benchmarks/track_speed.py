"""Tracking of slices of 2000 × 6095 pixels: slices per second with two workers, decoding excluded, and peak memory.

Input: the separated cells of the tumour biopsy Bx1, read back and forth where more than its 300 slices are asked for,
from files that need no decoding. Each length is tracked in a process of its own. Baseline: merely finding the parts of
each slice and counting how they overlap with those of the next, with scikit-image and NumPy, on one core.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage.measure import label

from benchmarks.result import Result
from benchmarks.sets import data_folder

_CODE = """
import json, sys, time
from pathlib import Path
import numpy as np
from cristae.environment import peak_memory_mb
from cristae.tracking import TrackSettings, follow
folder, n_files, n_slices = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

class Slices:
    def __len__(self):
        return n_slices
    def __getitem__(self, z):
        at = z % (2 * n_files - 2)
        return np.load(folder / f"{min(at, 2 * n_files - 2 - at)}.npy")

settings = TrackSettings(island_id="highest", workers=2)
slices = Slices()
before, begun, cpu = peak_memory_mb(), time.perf_counter(), time.process_time()
follow(slices, lambda z, ids: None, {0: slices[0]}, settings=settings)
print(json.dumps({"seconds": time.perf_counter() - begun, "core_seconds": time.process_time() - cpu,
                  "peak_mb": peak_memory_mb(), "peak_mb_before": before}))
"""


def run(quick: bool) -> Result:
    """Track 100, 300 and 900 slices."""
    lengths = (4, 8) if quick else (100, 300, 900)
    with tempfile.TemporaryDirectory() as place:
        n_files = min(300, max(lengths))
        for z in range(n_files):
            plane = np.asarray(Image.open(data_folder() / "ohsu_bx1" / "cells_per_slice" / f"z{z + 1:03d}.png"))
            np.save(Path(place) / f"{z}.npy", plane)
        _track(place, n_files, 3)  # compiles what is not compiled yet
        found = {n: _track(place, n_files, n) for n in lengths}
        plain = _plain(Path(place), 3 if quick else 10)
    per_slice = {n: one["seconds"] / n for n, one in found.items()}
    speed = lengths[-1] / found[lengths[-1]]["seconds"]
    growth = found[lengths[-1]]["peak_mb"] / found[lengths[1]]["peak_mb"] - 1
    linear = max(per_slice.values()) <= 1.25 * min(per_slice.values())
    return Result(
        "track_speed",
        speed,
        "slices per s",
        "≥5 slices per s on 2 cores, time linear in slices (within 25 %), peak memory flat (within 10 %)",
        None if quick else speed >= 5 and linear and growth <= 0.10,
        plain,
        speed / plain,
        details={
            "by_number_of_slices": {str(n): {**one, "slices_per_s": n / one["seconds"]} for n, one in found.items()},
            "growth_of_peak_memory": growth,
        },
    )


def _track(folder: str, n_files: int, n_slices: int) -> dict[str, Any]:
    command = [sys.executable, "-c", _CODE, folder, str(n_files), str(n_slices)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(json.loads(text.splitlines()[-1]))


def _plain(folder: Path, n_slices: int) -> float:
    """Return slices per second of labelling parts and counting overlaps, and nothing else."""
    begun, before = time.perf_counter(), None
    for z in range(n_slices):
        parts = label(np.load(folder / f"{z}.npy"), background=0, connectivity=2)
        if before is not None:
            np.unique(np.stack([before.ravel(), parts.ravel()]), axis=1, return_counts=True)
        before = parts
    return n_slices / (time.perf_counter() - begun)
