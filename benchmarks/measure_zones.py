"""Size zone matrices of 500 objects in 512³ voxels: seconds per million voxels, linear in volume or not."""

from __future__ import annotations

import numpy as np

from benchmarks import blobs
from benchmarks.measure_glcm import levels_of
from benchmarks.result import Result, peak_memory_mb
from cristae.features.zone_merge import merge_zones
from cristae.features.zone_parts import find_zones
from cristae.features.zones import zone_table
from cristae.geometry import Box, blocks


def run(quick: bool) -> Result:
    """Measure an eighth of the volume, then all of it, in blocks of 256³."""
    side, n = (128, 8) if quick else (512, 500)
    labels = blobs.labels((side,) * 3, n)
    levels = levels_of(labels, n)
    eighth, whole = blobs.rates(lambda *part: _zones(*part, n), labels, levels)
    return Result(
        "measure_zones",
        whole,
        f"s per million voxels, {n} objects in {side}³",
        "linear in volume: within 1.5 times the rate of an eighth of it, the baseline",
        None if quick else whole <= 1.5 * eighth,
        eighth,
        whole / eighth,
        details={"peak_memory_mb": peak_memory_mb()},
    )


def _zones(labels: np.ndarray, levels: np.ndarray, n: int) -> None:
    ids, shape = np.arange(1, n + 1), labels.shape
    assert len(shape) == 3
    parts = (
        find_zones(labels[one.write.slices], ids, levels[one.write.slices], one.write.start, shape)
        for one in blocks(Box.of_shape(shape), (256, 256, 256))
    )
    zone_table(merge_zones(parts), ids)
