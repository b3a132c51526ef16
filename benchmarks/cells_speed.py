"""Separation of slices of 2000 × 6095 pixels by every method, flow included: core seconds per slice.

Input: every fifth of the slices 0 to 50 of the tumour biopsy Bx1, labelled at both ends, maps enlarged from half
resolution; the interior map serves as the image, for there are no micrographs. Core seconds are processor time over
all threads. The figure is the slowest method at the default settings of `cristae cells`. Baseline: the paper's flow
(`machireddy2023`, full resolution) and a watershed of the distance to the edge, by OpenCV and scikit-image.
"""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
import tifffile
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import watershed

from benchmarks.result import Result, peak_memory_mb
from benchmarks.sets import data_folder
from cristae.allocation import keep_freed_memory
from cristae.flow import PRESETS, Dis, dense_flow
from cristae.separation.combine import SeparationSettings
from cristae.separation.gap import Gap
from cristae.separation.separate import METHODS, separate
from cristae.stages.cells_settings import CellsSettings, separation
from cristae.warping import warp_labels

VOXEL = (4.0, 4.0, 4.0)
STEP, LAST = 5, 50
SEED_DEPTH_PX = 20


def run(quick: bool) -> Result:
    """Time all methods."""
    keep_freed_memory()  # as the stage does; it serves the baseline, too
    cv2.setNumThreads(1)
    gap = _gap(20 if quick else LAST)
    settings = separation(CellsSettings(), gap, VOXEL)
    _time(_gap(10, size=256), settings, METHODS)  # compiles
    found = _time(gap, settings, METHODS)
    slowest = max(found, key=lambda name: found[name])
    plain = _plain(gap, 1)
    return Result(
        "cells_speed",
        found[slowest],
        f"core seconds per slice ({slowest})",
        "≤4 s per slice and core with every method",
        None if quick else found[slowest] <= 4,
        plain,
        plain / found[slowest],
        details={
            "core_seconds_per_slice": found,
            "reduction_of_paths_and_basins": settings.reduction,
            "reduction_of_flow": settings.flow.reduction,
            "peak_memory_mb": peak_memory_mb(),
        },
    )


def _gap(last: int, size: int | None = None) -> Gap:
    folder = data_folder() / "ohsu_bx1"
    truth = {
        z: tifffile.imread(folder / "cells_truth" / f"z{z:03d}.tif")[:size, :size].astype(np.int32) for z in (0, LAST)
    }
    shape = truth[0].shape
    maps: dict[str, Any] = {}
    for part in ("interior", "boundary"):
        half = tifffile.imread(folder / f"{part}_probability_half_z001-050.tif")
        chosen = [half[max(0, z - 1)] for z in range(0, last + 1, STEP)]
        full = [cv2.resize(plane, (2 * plane.shape[1], 2 * plane.shape[0])) for plane in chosen]
        padded = [np.pad(plane, [(0, 1), (0, 1)], mode="edge") for plane in full]
        maps[part] = np.stack([plane[: shape[0], : shape[1]] for plane in padded])
    return Gap(maps["interior"], maps["interior"], maps["boundary"], truth[0], truth[LAST])


def _time(gap: Gap, settings: SeparationSettings, methods: Any) -> dict[str, float]:
    """Return the core seconds per slice of each method."""
    found = {}
    for method in methods:
        begun = time.process_time()
        for _ in separate(gap, method, settings):
            pass
        found[method] = (time.process_time() - begun) / (len(gap) - 2)
    return found


def _plain(gap: Gap, n_slices: int) -> float:
    """Return the core seconds per slice of one slice's flow and watershed with the paper's settings."""
    flow = PRESETS["machireddy2023"]
    assert not isinstance(flow, Dis)
    labels = np.asarray(gap.before).astype(np.int32)
    begun = time.process_time()
    for z in range(1, n_slices + 1):
        labels = warp_labels(labels, dense_flow(gap.image[z], gap.image[z - 1], flow))
        inside = gap.interior_at(z) >= 128
        depth = distance_transform_edt(inside)
        labels = watershed(-depth, np.where(depth > SEED_DEPTH_PX, labels, 0), mask=inside)
    return (time.process_time() - begun) / n_slices
