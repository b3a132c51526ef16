"""Prediction of 2048 × 2048 × 32 voxels from Zarr to Zarr with the small ResUNet, against MONAI and the bare network.

The figure is million voxels per second of `cristae predict` (one view, no reduction, no smoothing). Baseline: MONAI
sliding_window_inference with the same trained network in channels-last, tiles of 512 and an overlap of a quarter, all
in memory. Two of ours are timed: the default, and one with the overlap at which the largest seam is about MONAI's. The
bare network is timed on whole slices and on tiles of 1056, with its normalisation folded in as ours does; MONAI is
given the network as it was trained.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import torch
from monai.inferers import sliding_window_inference

import cristae
from benchmarks.result import Result
from benchmarks.sets import VNC, data_folder, stack_project
from cristae.allocation import keep_freed_memory
from cristae.io.ome_zarr import open_volume
from cristae.learn.checkpoint import load_model
from cristae.learn.engines import folded


def run(quick: bool) -> Result:
    """Time all three in turn."""
    keep_freed_memory()
    n_slices, n_bare = (4, 1) if quick else (32, 6)
    raw = tifffile.imread(data_folder() / VNC / "raw.tif")
    truth = tifffile.imread(data_folder() / VNC / "labels_mitochondria.tif") > 0
    image = np.stack([np.tile(raw[z % 20], (2, 2)) for z in range(n_slices)])
    labels = {"mitochondrion": {0: np.tile(truth[0], (2, 2))}}
    with tempfile.TemporaryDirectory() as folder:
        project = stack_project(Path(folder) / "wide", image, (45.0, 4.6, 4.6), labels)
        train = {"updates": 2 if quick else 120, "context_nm": 883.2, "neighbours": 0}
        trained = cristae.train(project, **train)
        ours, probability = _predict(project, image.size, {})
        small, narrow = _predict(project, image.size, {"overlap_px": 32})
        _, network = load_model(trained.path / "all")
    facts = image[0].astype(np.float32)
    plane = torch.from_numpy((facts - facts.mean()) / facts.std())[None, None]
    wide = plane.contiguous(memory_format=torch.channels_last)
    network = network.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        whole = torch.sigmoid(network(wide))[0, 0].numpy()
        fast = folded(network).to(memory_format=torch.channels_last)
        bare = image[0].size / _median(lambda: fast(wide), n_bare)
        tile = wide[..., :1056, :1056].contiguous(memory_format=torch.channels_last)
        bare_tile = tile.numel() / _median(lambda: fast(tile), n_bare)
        tiled = {}

        def peer() -> None:
            tiled["out"] = sliding_window_inference(wide, 512, 1, network, overlap=0.25, mode="gaussian")

        monai = image[0].size / _median(peer, max(1, n_bare // 2))
    theirs = torch.sigmoid(tiled["out"])[0, 0].numpy()
    share, seam = ours / bare, float(np.abs(theirs - whole).max())
    # Of ours, only what has no larger seam than MONAI may be compared with it.
    pairs = ((ours, probability), (small, narrow))
    equal = max((rate for rate, one in pairs if np.abs(one - whole).max() <= seam), default=0.0)
    return Result(
        "predict_throughput",
        ours / 1e6,
        "million voxels per s",
        "≥0.85 of the bare network and ≥1.5× MONAI at equal seam error",
        None if quick else share >= 0.85 and equal / monai >= 1.5,
        monai / 1e6,
        equal / monai,
        details={
            "over_monai_with_the_default_overlap": ours / monai,
            "share_of_bare_network_on_whole_slices": share,
            "share_of_bare_network_on_tiles_of_1056": ours / bare_tile,
            "bare_mvoxel_per_s": {"whole slices": bare / 1e6, "tiles of 1056": bare_tile / 1e6},
            "ours_overlap_32": {"mvoxel_per_s": small / 1e6, "over_monai": small / monai},
            "largest_seam": {
                "ours": float(np.abs(probability - whole).max()),
                "ours_overlap_32": float(np.abs(narrow - whole).max()),
                "monai": seam,
            },
        },
    )


def _predict(project: cristae.Project, n_voxels: int, settings: dict[str, int]) -> tuple[float, np.ndarray]:
    """Return voxels per second of a prediction, and its first slice (0–1)."""
    begun = time.perf_counter()
    run = cristae.predict(project, views=1, smooth_z=0.0, **settings)
    rate = n_voxels / (time.perf_counter() - begun)
    return rate, open_volume(run.path / "mitochondrion.ome.zarr").read()[0] / np.float32(255)


def _median(function, n: int) -> float:  # type: ignore[no-untyped-def]
    """Return the median seconds of n calls after one to warm up."""
    function()
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))
