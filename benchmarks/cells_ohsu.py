"""Cells of the tumour biopsy Bx1 at z 50 from labels of z 0, and of z 0 and 100, on half-resolution maps (8 nm pixels).

There are no micrographs, and maps only of z 1–50: between 51 and 99 nothing is known, so that anything is as likely.
Cells of at least 4,000 px (of 4 nm: 1,000 half-resolution ones), without truth id 28, which is scattered islands.
Baseline: copy z 0.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tifffile

from benchmarks.cells import figures
from benchmarks.result import Result
from benchmarks.sets import data_folder
from cristae.metrics.instance import contingency
from cristae.metrics.matching import dice_by_match
from cristae.separation.combine import SeparationSettings
from cristae.separation.gap import Gap
from cristae.separation.grow import Growth
from cristae.separation.paths import reduction_for
from cristae.separation.separate import separate

FOLDER = "ohsu_bx1"
SCORED = 50
SMALLEST_PX, NO_CELL = 1000, 28


def run(quick: bool) -> Result:
    """Run from one side and from both."""
    folder = data_folder() / FOLDER
    interior, boundary = (
        tifffile.imread(folder / f"{part}_probability_half_z001-050.tif") for part in ("interior", "boundary")
    )
    truth = {
        z: half(tifffile.imread(folder / "cells_truth" / f"z{z:03d}.tif"), interior.shape[1:]) for z in (0, 50, 100)
    }
    methods = ("paths",) if quick else ("paths", "mask", "mask+boundary")
    found: dict[str, dict[str, Any]] = {}
    for method in methods:
        found[f"{method} from z 0"] = _score(planes(truth, interior, boundary, None), method, truth)
    if not quick:
        found["paths from z 0 and 100"] = _score(planes(truth, interior, boundary, 100), "paths", truth)
    baseline = _dice(truth[0], truth)
    ours = [one["dice"] for name, one in found.items() if name.startswith("paths")]
    return Result(
        "cells_ohsu",
        min(ours),
        "mean Dice of cells",
        "≥0.985 from z 0, and from z 0 and 100",
        None if quick else min(ours) >= 0.985,
        baseline["dice"],
        min(ours) / baseline["dice"],
        split="labelled z 0, or z 0 and 100; score z 50",
        details={**found, "copy z 0": baseline},
    )


def settings_for(gap: Gap) -> SeparationSettings:
    """Return the settings of both rows."""
    return SeparationSettings(
        smallest_body_px=1250,
        edge_distance_px=2.5,
        growth=Growth(steps=(1.0, 2.0, 2.0), new_voxels=3000),
        reduction=reduction_for(gap, 4 * 2**30),
    )


def half(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return labels at half resolution, cut to the shape of the maps."""
    return labels[::2, ::2][: shape[0], : shape[1]].astype(np.int32)


def planes(truth: dict[int, np.ndarray], interior: np.ndarray, boundary: np.ndarray, last: int | None) -> Gap:
    """Return the gap from z 0 to z 50, or to z 100 with maps that say behind z 50 that all is as likely as not."""
    blank = np.full((last - SCORED, *interior.shape[1:]), 128, np.uint8) if last else interior[:0]
    inside = np.concatenate([(truth[0] > 0)[None].astype(np.uint8) * 255, interior, blank])
    between = np.concatenate([boundary[:1], boundary, blank])
    return Gap(inside, inside, between, truth[0], truth[last] if last else None)


def _score(gap: Gap, method: str, truth: dict[int, np.ndarray]) -> dict[str, Any]:
    begun = time.perf_counter()
    found: Iterator[np.ndarray] = separate(gap, method, settings_for(gap))
    labels = [plane for z, plane in enumerate(found) if z == SCORED][0]  # noqa: RUF015  all of it is timed
    return {**_dice(labels, truth), "seconds_per_slice": (time.perf_counter() - begun) / len(gap)}


def _dice(labels: np.ndarray, truth: dict[int, np.ndarray]) -> dict[str, Any]:
    known = np.unique(truth[0])
    rows = dice_by_match(contingency(labels, truth[SCORED]), SMALLEST_PX, known[known > 0])
    return figures(rows, NO_CELL)
