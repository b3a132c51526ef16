"""Tracking of the tumour biopsy Bx1 from z 1 to 300, labels of z 0, 100, 200 and 300 known; scored at z 50 and 150.

Input: cells separated in each slice, ids arbitrary, the highest marking islands. Mean Dice by id of cells over 5,000 px
in the truth, without truth id 28 (scattered islands), and with cell 10, which is called 23 from z 100 on, as 23
throughout. Baseline: the paper's rule (`greedy`).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from benchmarks.cells import figures
from benchmarks.result import Result, peak_memory_mb
from benchmarks.sets import data_folder
from cristae.metrics.instance import contingency
from cristae.metrics.matching import dice_by_id
from cristae.tracking import TrackSettings, follow

ANCHORS, SCORED = (0, 100, 200, 300), (50, 150)
SMALLEST_PX, NO_CELL = 5000, 28
RENAMED = {10: 23}


class Slices:
    """Slice 0 is the truth, as there is no input for it; the others are read from their files when asked for."""

    def __init__(self, n_slices: int) -> None:
        self.n_slices, self.decoding_s = n_slices, 0.0

    def __len__(self) -> int:
        return self.n_slices

    def __getitem__(self, z: int) -> np.ndarray:
        if z == 0:
            return expert(0)
        begun = time.perf_counter()
        plane = np.asarray(Image.open(data_folder() / "ohsu_bx1" / "cells_per_slice" / f"z{z:03d}.png"))
        self.decoding_s += time.perf_counter() - begun
        return plane


def run(quick: bool) -> Result:
    """Track by both rules."""
    last = 60 if quick else 300
    found = {method: _run(method, last) for method in ("assign", "greedy")}
    ours, theirs = found["assign"], found["greedy"]
    scored = [z for z in SCORED if z <= last]
    worst = min(ours[f"z {z}"]["dice"] for z in scored)
    reached = not quick and ours["z 50"]["dice"] >= 0.985 and ours["z 150"]["dice"] >= 0.98
    no_worse = all(ours[f"z {z}"]["dice"] >= theirs[f"z {z}"]["dice"] for z in scored)
    baseline = min(theirs[f"z {z}"]["dice"] for z in scored)
    return Result(
        "track_ohsu",
        worst,
        "mean Dice of cells, the lower of z 50 and z 150",
        "z 50 ≥0.985, z 150 ≥0.98, and no worse than greedy",
        None if quick else reached and no_worse,
        baseline,
        worst / baseline,
        split="labelled z 0, 100, 200, 300; score z 50, 150",
        details=found,
    )


def _run(method: str, last: int) -> dict[str, Any]:
    slices = Slices(last + 1)
    kept: dict[int, np.ndarray] = {}

    def write(z: int, ids: np.ndarray) -> None:
        if z in SCORED:
            kept[z] = ids

    anchors = {z: expert(z) for z in ANCHORS if z <= last}
    begun = time.perf_counter()
    settings = TrackSettings(method=method, island_id="highest", workers=2)  # type: ignore[arg-type]
    tracks = follow(slices, write, anchors, settings=settings)
    seconds = time.perf_counter() - begun
    kinds = tracks.objects()["kind"].value_counts()
    return {
        **{f"z {z}": _score(ids, expert(z)) for z, ids in kept.items()},
        "objects": {str(kind): int(n) for kind, n in kinds.items()},
        "slices_per_s_with_decoding": len(slices) / seconds,
        "peak_memory_mb": peak_memory_mb(),
    }


def expert(z: int) -> np.ndarray:
    """Return the labels of an expert, with one id for the cell that has two."""
    ids = tifffile.imread(data_folder() / "ohsu_bx1" / "cells_truth" / f"z{z:03d}.tif").astype(np.uint32)
    for old, new in RENAMED.items():
        ids[ids == old] = new
    return ids


def _score(ids: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    rows = dice_by_id(contingency(ids, truth), SMALLEST_PX)
    return figures(rows, NO_CELL)
