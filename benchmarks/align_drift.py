"""Alignment of the phantom with known drift: what is left of it, and whether a leaning column keeps its lean.

A clean phantom (100 slices of 8 nm) is moved slice by slice along a random walk (2 px per slice and axis, parts of
pixels) and only then photographed: noise, brightness jumps, curtains and charging stay with the microscope. Among the
cells stands a column that leans by 30 px over the stack. `cristae align` runs with its defaults; of every slice it is
compared where it is said to lie and where it does, against the median of all. Peer: correlation of neighbours
(scikit-image, 1/20 px), added up along the stack; with and without normalisation, the better one counts.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import shift
from skimage.registration import phase_cross_correlation

from benchmarks.result import Result
from cristae import api
from cristae.geometry import Box, Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.phantom import PhantomSettings, build_scene, image
from cristae.phantom.artefacts import Amplitudes, expose
from cristae.phantom.scene import scene_key
from cristae.project import Project
from cristae.stages.survey import survey

STEP_PX, LEAN_PX, SEED = 2.0, 30.0, 0
_MARGIN = 64


def run(quick: bool) -> Result:
    """Align 100 slices of 1024 × 1024 px."""
    depth, side = (12, 256) if quick else (100, 1024)
    walk = np.cumsum(np.random.default_rng(SEED).normal(0, STEP_PX, (depth, 2)), axis=0)
    walk = np.clip(walk - walk.mean(0), 3 - _MARGIN, _MARGIN - 3)
    slices = drifting_phantom(depth, side, walk)
    with tempfile.TemporaryDirectory() as place:
        project = Project.create(Path(place) / "phantom", (8.0, 8.0, 8.0))
        volume = create_volume(project.raw_path, Grid(slices.shape, (8.0, 8.0, 8.0)), np.uint8, "image")
        volume.write(volume.grid.box, slices)
        write_facts(project.raw_path, {**survey(volume, lambda done, total, **facts: None), "missing": []})
        found = api.align(project)
        transforms = pd.read_parquet(found.path / "transforms.parquet")
        seconds = float(found.manifest["seconds"])
    error = _error(transforms[["shift_y_px", "shift_x_px"]].to_numpy(), walk)
    left = np.hypot(*error.T)
    lean = float(np.hypot(*(error[-1] - error[0])))
    peers = [np.hypot(*_error(_correlation(slices, how), walk).T) for how in ("phase", None)]
    peer = min(peers, key=np.median)
    holds = bool(np.median(left) <= 0.25 and left.max() <= 1 and lean <= 2)
    return Result(
        "align_drift",
        float(np.median(left)),
        "px, median residual",
        "≤0.25 px median, ≤1 px worst; a column that leans by 30 px keeps its lean within 2 px",
        None if quick else holds,
        float(np.median(peer)),
        float(np.median(left) / np.median(peer)),
        seeds=(SEED,),
        split=f"{depth} slices of {side} × {side} px, random walk of {STEP_PX:g} px per slice and axis",
        details={
            "worst_px": float(left.max()),
            "column_lean_lost_px": lean,
            "drift_px": float(np.hypot(*np.ptp(walk, axis=0))),
            "seconds": seconds,
            "correlation_worst_px": float(peer.max()),
        },
    )


def drifting_phantom(depth: int, side: int, walk: np.ndarray) -> np.ndarray:
    """Return uint8 slices in which pixel x of slice z shows what the specimen has at x + walk[z]."""
    wide = side + 2 * _MARGIN
    amplitudes = {"noise": 0.0, "brightness_jump": 0.0, "curtaining": 0.0, "charging": 0.0}
    settings = PhantomSettings(shape=(depth, wide, wide), **amplitudes)
    scene = build_scene(settings)
    y, x = np.mgrid[:wide, :wide]
    moved = np.empty((depth, side, side), np.float32)

    def slab(first: int) -> None:
        stop = min(first + 10, depth)
        rows = [(start, min(start + 256, wide)) for start in range(0, wide, 256)]  # memory is that of a band
        bands = [image(scene, Box((first, start, 0), (stop, end, wide))) for start, end in rows]
        for z, plane in enumerate(np.concatenate(bands, axis=1), start=first):
            away = np.hypot(y - wide / 2, x - wide / 2 + LEAN_PX * (0.5 - z / depth))
            wall = (away < 12) | ((away > 38) & (away < 45))
            clean = np.where(away < 45, np.where(wall, 0.15, 0.85), plane / 255.0).astype(np.float32)
            inner = slice(_MARGIN, _MARGIN + side)
            moved[z] = shift(clean, -walk[z], order=3, mode="nearest")[inner, inner]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(slab, range(0, depth, 10)))
    usual = PhantomSettings()
    strength = Amplitudes(usual.noise, usual.brightness_jump, usual.curtaining, usual.charging)
    return expose(scene_key(settings.seed), moved, (0, 0, 0), np.array([], np.int64), strength)


def _error(shifts: np.ndarray, walk: np.ndarray) -> np.ndarray:
    """Return by how far (px; y, x) each slice is off; what the specimen has at u was recorded at u - walk."""
    error = shifts + walk
    return error - np.median(error, axis=0)


def _correlation(slices: np.ndarray, normalization: str | None) -> np.ndarray:
    steps = [np.zeros(2)]
    for before, plane in pairwise(slices):
        found, _, _ = phase_cross_correlation(before, plane, upsample_factor=20, normalization=normalization)
        steps.append(-np.asarray(found))
    return np.cumsum(steps, axis=0)
