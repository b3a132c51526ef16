"""Prediction of 2048 × 2048 × 32 voxels from Zarr to Zarr with the small ResUNet, against the bare network.

The figure is voxels per second of `cristae predict` (one view, no reduction, no smoothing) over those of the network
alone on whole slices in the same run. Baseline: MONAI sliding_window_inference on the same slices with the same network
and trained weights, tiles of 512 and an overlap of a quarter, arrays in memory; seam errors of both are given.
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
        train = {"updates": 2 if quick else 30, "tile_px": 128, "context_nm": 500.0, "neighbours": 0}
        trained = cristae.train(project, **train)
        begun = time.perf_counter()
        run_ = cristae.predict(project, views=1, smooth_z=0.0)
        ours = image.size / (time.perf_counter() - begun)
        probability = open_volume(run_.path / "mitochondrion.ome.zarr").read()[0] / np.float32(255)
        _, network = load_model(trained.path / "all")
    facts = image[0].astype(np.float32)
    plane = torch.from_numpy((facts - facts.mean()) / facts.std())[None, None]
    wide = plane.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        whole = torch.sigmoid(network(wide))[0, 0].numpy()
        bare = image[0].size / _fastest(lambda: network(wide), n_bare)
        tile = wide[..., :1056, :1056].contiguous(memory_format=torch.channels_last)
        bare_tile = tile.numel() / _fastest(lambda: network(tile), n_bare)
        tiled = {}

        def peer() -> None:
            tiled["out"] = sliding_window_inference(plane, 512, 4, network, overlap=0.25, mode="gaussian")

        monai = image[0].size / _fastest(peer, max(1, n_bare // 2))
    theirs = torch.sigmoid(tiled["out"])[0, 0].numpy()
    share, ratio = ours / bare, ours / monai
    return Result(
        "predict_throughput",
        share,
        "of the bare network's rate",
        "≥0.85 of the bare network and ≥1.5× MONAI",
        None if quick else share >= 0.85 and ratio >= 1.5,
        monai / 1e6,
        ratio,
        details={
            "ours_mvoxel_per_s": ours / 1e6,
            "bare_mvoxel_per_s": bare / 1e6,
            "bare_on_tiles_of_1056_mvoxel_per_s": bare_tile / 1e6,
            "share_of_bare_on_such_tiles": ours / bare_tile,
            "monai_mvoxel_per_s": monai / 1e6,
            "largest_seam_error_ours": float(np.abs(probability - whole).max()),
            "largest_seam_error_monai": float(np.abs(theirs - whole).max()),
            "baseline_is": "MONAI, million voxels per second; ratio is ours over it",
        },
    )


def _fastest(function, n: int) -> float:  # type: ignore[no-untyped-def]
    """Return the median seconds of n calls after one to warm up."""
    function()
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))
