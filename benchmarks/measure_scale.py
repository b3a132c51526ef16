"""Everything that needs no image of 5,000 objects in 2048 × 2048 × 512 voxels on disk: peak memory.

Size, shape, holes, curvature, pairs within 100 nm; two blocks at a time.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import blobs
from benchmarks.result import Result, peak_memory_mb
from cristae.executors import Crew
from cristae.geometry import Grid
from cristae.stages.measuring.sample import Layer, Sample, Walk
from cristae.stages.measuring.settings import MeasureSettings
from cristae.stages.measuring.whole import measure_sample

SETTINGS = MeasureSettings(max_distance_nm=100.0)


def run(quick: bool) -> Result:
    """Write the labels, then measure them."""
    shape, n = ((128, 256, 256), 20) if quick else ((512, 2048, 2048), 5000)
    grid = Grid(shape, (8.0, 8.0, 8.0))
    with tempfile.TemporaryDirectory() as folder:
        volume = blobs.stored(Path(folder) / "labels.ome.zarr", grid, n)
        sample = Sample("scale", grid, {"thing": Layer("thing", volume)}, None)
        begun = time.perf_counter()
        found = measure_sample(sample, SETTINGS, Path(folder) / "parts", Walk(256, Crew("threads:2"), 3e9))
        seconds = time.perf_counter() - begun
    peak = peak_memory_mb()
    return Result(
        "measure_scale",
        peak,
        f"MB at the peak, {n} objects in {' × '.join(map(str, shape))} voxels",
        "under 4 GB",
        None if quick else peak < 4096 and len(found.objects) == n,
        details={
            "seconds": round(seconds, 1),
            "seconds_per_million_voxels": seconds / (grid.box.n_voxels / 1e6),
            "n_objects": len(found.objects),
            "n_columns": found.objects.shape[1],
            "n_pairs": len(found.relations),
        },
    )
