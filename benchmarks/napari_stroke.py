"""Strokes of a brush on a slice of 6000 × 4000 in a chunked store of labels: applied, and in the journal on disk."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.result import Result
from cristae.corrections import tools
from cristae.corrections.store import Corrections
from cristae.geometry import Box, Grid
from cristae.io.ome_zarr import Storage, create_volume, open_volume

N_SLICES = 4
RADIUS = 20.0
LENGTH_PX = 400
"""Of a stroke; it is led there and back in steps of 20 pixels, as a hand does."""


def run(quick: bool) -> Result:
    """Paint at random places, each stroke an edit that is on disk when it returns; then undo all, timed too."""
    height, width, n_strokes = (600, 400, 20) if quick else (6000, 4000, 300)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        layer = _layer(Path(name) / "cell.ome.zarr", height, width)
        with Corrections(Path(name) / "corrections", layer) as corrections:
            tools.paint(corrections, 0, [(9, 9), (12, 12)], 5, radius=RADIUS)  # compiles
            strokes, undos = [], []
            for number in range(n_strokes):
                points = _hand(random, height, width)
                begun = time.perf_counter()
                tools.paint(corrections, number % N_SLICES, points, 1 + number % 9, radius=RADIUS)
                strokes.append(time.perf_counter() - begun)
            while corrections.can_undo:
                begun = time.perf_counter()
                corrections.undo()
                undos.append(time.perf_counter() - begun)
        size = sum(path.stat().st_size for path in (Path(name) / "corrections").rglob("*") if path.is_file())
    median = 1000 * statistics.median(strokes)
    return Result(
        "napari_stroke",
        median,
        "ms",
        "median of a stroke on a 6000 × 4000 slice, applied and in the journal on disk, under 50 ms",
        None if quick else median < 50,
        details={
            "strokes": n_strokes,
            "slice": [height, width],
            "p95_ms": round(1000 * float(np.quantile(strokes, 0.95)), 1),
            "slowest_ms": round(1000 * max(strokes), 1),
            "undo_median_ms": round(1000 * statistics.median(undos), 1),
            "stored_kb_after": round(size / 1000, 1),
        },
    )


def _layer(path: Path, height: int, width: int):
    """Write cells of some 300 pixels, stored as those that are tracked are."""
    grid = Grid((N_SLICES, height, width), (30.0, 6.0, 6.0))
    storage = Storage(chunk=(1, 512, 512), shard=(1, 2048, 2048))
    volume = create_volume(path, grid, np.uint32, "labels", storage)
    y, x = np.ogrid[:height, :width]
    plane = (1 + y // 300 * 100 + (x + y // 7) // 300).astype(np.uint32)
    plane[(y + x) % 300 < 9] = 0
    for z in range(N_SLICES):
        volume.write(Box((z, 0, 0), (z + 1, height, width)), plane[None])
    return open_volume(path)


def _hand(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return the points of a bent stroke."""
    start, direction = random.uniform((0, 0), (height, width)), random.uniform(0, 2 * np.pi)
    turns = direction + np.cumsum(random.normal(0, 0.3, LENGTH_PX // 20))
    return start + np.cumsum(np.stack([np.sin(turns), np.cos(turns)], axis=1) * 20, axis=0)
