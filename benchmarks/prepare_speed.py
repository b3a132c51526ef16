"""Alignment and equalisation of slices of 4096 × 4096 px: slices per second of both stages together, and the residual.

Made-up tissue that changes from slice to slice, moved by a random walk of whole pixels, with noise and jumps of
brightness, 48 slices in a project. Timed is what the two commands do with two workers: reading, matching, warping,
surveying, coarser levels, equalising, writing. Peer: correlation of neighbours (scikit-image, 1/10 px, without
normalisation, which fails here) and `equalize_hist`, on slices that are in memory already, and nothing written.

The residuals are no contest: the walk is of whole pixels and the tissue is copied, not interpolated, so that the peak
of a correlation lies on a whole pixel, and rounding to 1/10 px gives it exactly. Whoever solves for parts of pixels
keeps the noise of the fit. `align_drift` compares both on a walk of parts of pixels.
"""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from skimage.exposure import equalize_hist
from skimage.registration import phase_cross_correlation

from benchmarks.result import Result
from cristae import api
from cristae.geometry import Box, Grid
from cristae.io.ome_zarr import create_volume, open_volume, write_facts
from cristae.project import Project
from cristae.stages.options import Options
from cristae.stages.survey import survey

_ROOM = 64


def run(quick: bool) -> Result:
    """Prepare 48 slices."""
    n, side, n_peer = (4, 512, 2) if quick else (48, 4096, 4)
    walk = np.rint(np.cumsum(np.random.default_rng(0).normal(0, 2, (n, 2)), axis=0))
    walk = np.clip(walk - np.rint(walk.mean(0)), -_ROOM, _ROOM).astype(int)
    options = Options(executor="threads:2")
    with tempfile.TemporaryDirectory() as place:
        project = _project(Path(place) / "wide", walk, side)
        begun, cpu = time.perf_counter(), time.process_time()
        aligned = api.align(project, options=options)
        middle = time.perf_counter()
        api.equalise(project, options=options)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        shifts = pd.read_parquet(aligned.path / "transforms.parquet")[["shift_y_px", "shift_x_px"]].to_numpy()
        left = _left(shifts, walk)
        raw = open_volume(project.raw_path)
        slices = raw.read(Box((0, 0, 0), (n_peer + 1, side, side)))
        peer_speed, peer_left = _peer(slices, walk)
    speed = n / (ended - begun)
    return Result(
        "prepare_speed",
        speed,
        "slices per s",
        "≥2 slices of 4096 × 4096 per s on 2 cores, aligned and equalised",
        None if quick else speed >= 2,
        peer_speed,
        speed / peer_speed,
        details={
            "align_slices_per_s": n / (middle - begun),
            "equalise_slices_per_s": n / (ended - middle),
            "core_seconds_per_slice": cpu / n,
            "residual_px_median": float(np.median(left)),
            "residual_px_worst": float(left.max()),
            "correlation_residual_px_median": float(np.median(peer_left)),
            "correlation_residual_px_worst": float(peer_left.max()),
            "about_residuals": "the walk is of whole pixels, which correlation rounded to 1/10 px hits exactly; see "
            "align_drift for parts of pixels",
        },
    )


def _project(path: Path, walk: np.ndarray, side: int) -> Project:
    rng, wide = np.random.default_rng(1), side + 2 * _ROOM
    textures = [_texture(rng, wide) for _ in range(6)]
    project = Project.create(path, (8.0, 8.0, 8.0))
    volume = create_volume(project.raw_path, Grid((len(walk), side, side), (8.0, 8.0, 8.0)), np.uint8, "image")
    noise = rng.standard_normal((wide, wide), dtype=np.float32)
    for first in range(0, len(walk), 16):
        slab = np.empty((min(16, len(walk) - first), side, side), np.uint8)
        for z in range(first, first + len(slab)):
            y, x = _ROOM + walk[z]
            # Each texture comes and goes within some ten slices.
            weights = [np.cos(z / 8 + i) for i in range(len(textures))]
            tissue = sum(w * t[y : y + side, x : x + side] for w, t in zip(weights, textures, strict=True))
            at = rng.integers(0, 2 * _ROOM, 2)
            grain = noise[at[0] : at[0] + side, at[1] : at[1] + side]
            grey = (100 + 25 * tissue) * rng.uniform(0.8, 1.1) + rng.uniform(-10, 10) + 12 * grain
            slab[z - first] = np.clip(grey, 1, 255)
        volume.write(Box((first, 0, 0), (first + len(slab), side, side)), slab)
    write_facts(project.raw_path, {**survey(volume, lambda done, total, **facts: None), "missing": []})
    return project


def _texture(rng: np.random.Generator, wide: int) -> np.ndarray:
    noise = rng.standard_normal((wide, wide), dtype=np.float32)
    fine, coarse = cv2.GaussianBlur(noise, (0, 0), 3.0), cv2.GaussianBlur(noise, (0, 0), 12.0)
    return (fine / fine.std() + 1.5 * coarse / coarse.std()) / 2.5


def _left(shifts: np.ndarray, walk: np.ndarray) -> np.ndarray:
    error = shifts + walk
    return np.hypot(*(error - np.median(error, axis=0)).T)


def _peer(slices: np.ndarray, walk: np.ndarray) -> tuple[float, np.ndarray]:
    """Return slices per second, and what is left of the drift."""
    steps, begun = [np.zeros(2)], time.perf_counter()
    for before, plane in pairwise(slices):
        found, _, _ = phase_cross_correlation(before, plane, upsample_factor=10, normalization=None)
        steps.append(-np.asarray(found))
        equalize_hist(plane, nbins=256)
    speed = (len(slices) - 1) / (time.perf_counter() - begun)
    return speed, _left(np.cumsum(steps, axis=0), walk[: len(slices)])
