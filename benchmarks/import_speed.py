"""Import of a folder of 4096 × 4096 TIFFs into a sharded pyramid, against a plain copy of the same files."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tifffile

import cristae
from benchmarks.result import Result
from cristae.io.ome_zarr import n_levels

SIZE = (4.0, 4.0, 4.0)
ROUNDS = 3


def run(quick: bool) -> Result:
    """Copy and import in turn, three times each; both are over when the bytes are on disk."""
    n_slices, side, rounds = (8, 1024, 1) if quick else (96, 4096, ROUNDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = _slices(folder / "slices", n_slices, side)
        _import(_slices(folder / "small", 4, 1200), folder / "warm")  # compiles and loads what a process needs once
        n_bytes = sum(path.stat().st_size for path in source.iterdir())
        copies, imports, cpu = [], [], []
        for _ in range(rounds):
            copies.append(_copy(source, folder / "copy"))
            begun = time.process_time()
            imports.append(_import(source, folder / "project"))
            cpu.append(time.process_time() - begun)
        levels = n_levels(folder / "project" / "image.ome.zarr")
        stored = sum(path.stat().st_size for path in (folder / "project").rglob("*") if path.is_file())
    rate, plain = (n_bytes / 1e6 / statistics.median(seconds) for seconds in (imports, copies))
    return Result(
        "import_speed",
        rate,
        "MB/s",
        "at least 60 % of a plain read-and-write copy of the same bytes, the baseline",
        None if quick else rate >= 0.6 * plain,
        plain,
        rate / plain,
        details={
            "slices": n_slices,
            "megabytes": round(n_bytes / 1e6, 1),
            "stored_megabytes": round(stored / 1e6, 1),
            "levels": levels,
            "seconds": [round(seconds, 2) for seconds in imports],
            "copy_seconds": [round(seconds, 2) for seconds in copies],
            "core_seconds": [round(seconds, 2) for seconds in cpu],
        },
    )


def _slices(folder: Path, n_slices: int, side: int) -> Path:
    """Write slices of smooth structures under noise, as sharp as a micrograph and as hard to compress."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for z in range(n_slices):
        coarse = random.integers(60, 190, (side // 16, side // 16), np.uint8)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        noise = random.integers(0, 40, (side, side), np.uint8)
        tifffile.imwrite(folder / f"z{z:04}.tif", cv2.add(smooth, noise), photometric="minisblack")
    return folder


def _copy(source: Path, target: Path) -> float:
    shutil.rmtree(target, ignore_errors=True)
    os.sync()
    begun = time.monotonic()
    target.mkdir()
    for path in sorted(source.iterdir()):
        (target / path.name).write_bytes(path.read_bytes())
    os.sync()
    return time.monotonic() - begun


def _import(source: Path, target: Path) -> float:
    shutil.rmtree(target, ignore_errors=True)
    project = cristae.init(target, voxel_size=SIZE)
    os.sync()
    begun = time.monotonic()
    cristae.import_image(project, source)
    os.sync()
    return time.monotonic() - begun
