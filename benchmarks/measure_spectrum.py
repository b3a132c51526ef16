"""Pattern spectrum to radius 10 of 500 objects in 512³ voxels: seconds per million voxels, and whether it is linear."""

from __future__ import annotations

import numpy as np

from benchmarks import blobs
from benchmarks.result import Result, peak_memory_mb
from cristae.features.spectrum import Grains, SpectrumSums, add_spectrum, tabulate_spectrum
from cristae.geometry import Box, blocks

GRAINS = Grains(10)


def run(quick: bool) -> Result:
    """Measure an eighth of the volume, then all of it, in blocks of 256³ with their halo."""
    side, n = (128, 8) if quick else (512, 500)
    labels = blobs.labels((side,) * 3, n)
    image = blobs.grey(labels)
    eighth, whole = blobs.rates(lambda *part: _spectrum(*part, n), labels, image)
    return Result(
        "measure_spectrum",
        whole,
        f"s per million voxels, {n} objects in {side}³",
        "linear in volume: within 1.5 times the rate of an eighth of it, the baseline",
        None if quick else whole <= 1.5 * eighth,
        eighth,
        whole / eighth,
        details={"radius": GRAINS.radius, "elements": GRAINS.shape, "peak_memory_mb": peak_memory_mb()},
    )


def _spectrum(labels: np.ndarray, image: np.ndarray, n: int) -> None:
    levels = np.tile(np.array([0, 255], np.int64), (n, 1))
    total = SpectrumSums(*(np.zeros((n, GRAINS.radius + 1), np.int64) for _ in range(2)))
    z, y, x = labels.shape
    for block in blocks(Box.of_shape((z, y, x)), (256, 256, 256), GRAINS.halo):
        inner = block.write.within(block.read).slices
        total += add_spectrum(labels[block.read.slices], n, inner, image[block.read.slices], levels, GRAINS)
    tabulate_spectrum(total)
