"""Peak memory of `cristae predict` on 64 and on 512 slices of 2048 × 2048: it must not grow with the volume."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import cristae
from benchmarks.result import Result
from cristae.geometry import Box, Grid
from cristae.io.ome_zarr import SHARD, build_pyramid, create_volume, write_facts

_CODE = """
import json, sys, cristae
from cristae.environment import peak_memory_mb
cristae.predict(sys.argv[1])
print(json.dumps(peak_memory_mb()))
"""


def run(quick: bool) -> Result:
    """Predict both volumes, each in a process of its own, with a tiny network at a reduction of 4."""
    depths, side = ((16, 48), 512) if quick else ((64, 512), 2048)
    peaks, seconds = [], []
    for depth in depths:
        with tempfile.TemporaryDirectory() as folder:
            project = _project(Path(folder) / "deep", (depth, side, side))
            begun = time.monotonic()
            command = [sys.executable, "-c", _CODE, str(project.path)]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            peaks.append(float(json.loads(text.splitlines()[-1])))
            seconds.append(round(time.monotonic() - begun, 1))
    growth = peaks[1] / peaks[0] - 1
    return Result(
        "predict_memory",
        peaks[1],
        "MB at 512 slices",
        "within 5 % of the peak at 64 slices, the baseline",
        None if quick else abs(growth) <= 0.05,
        peaks[0],
        peaks[1] / peaks[0],
        details={
            "peak_mb": dict(zip(map(str, depths), peaks, strict=True)),
            "seconds_with_start": seconds,
        },
    )


def _project(path: Path, shape: tuple[int, int, int]) -> cristae.Project:
    """Return a project of noise, with a network that was updated once."""
    project = cristae.init(path, voxel_size=(4.0, 4.0, 4.0))
    grid = Grid(shape, (4.0, 4.0, 4.0))
    image = create_volume(project.image_path, grid, np.uint8, "image")
    slab = np.random.default_rng(0).integers(90, 160, (SHARD[0], *shape[1:]), np.uint8)
    for z in range(0, shape[0], SHARD[0]):
        image.write(Box((z, 0, 0), (z + SHARD[0], *shape[1:])), slab)
    build_pyramid(project.image_path)
    facts = {"digest": "noise", "slice_mean": [125.0] * shape[0], "slice_std": [20.0] * shape[0]}
    write_facts(project.image_path, facts)
    mask = np.zeros(shape[1:], np.uint8)
    mask[:100, :100] = 1
    project.annotations.write_slice("thing", 0, mask)
    project.add_classes(("thing",))
    cristae.train(project, updates=1, base_width=4, tile_px=64, context_nm=1024.0, batch=1)
    return project
