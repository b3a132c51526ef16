"""Largest and mean difference between prediction in tiles and of the whole slice at once, with a trained network.

The figure is the largest difference of probability at the default overlap with tiles of 512 px; `docs/images/seams.png`
shows both. Baseline: MONAI sliding_window_inference with the same tiles and an overlap of a quarter.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from monai.inferers import sliding_window_inference

import cristae
from benchmarks.result import Result
from benchmarks.sets import vnc_project
from cristae.allocation import keep_freed_memory
from cristae.geometry import Block, Box
from cristae.learn.checkpoint import load_model
from cristae.learn.infer import Inference, SlabPredictor
from cristae.stages.predict import PredictSettings
from cristae.stages.schemes import view_of

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "seams.png"
Z = 10


def run(quick: bool) -> Result:
    """Predict one slice at full resolution in tiles and whole."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        project, _ = vnc_project(Path(folder) / "vnc")
        settings = {"updates": 10 if quick else 120, "context_nm": 1177.6, "neighbours": 0}
        trained = cristae.train(project, **settings)
        model, network = load_model(trained.path / "all")
        network = network.to(memory_format=torch.channels_last)
        image, view = project.image, view_of(project, model.reduction, 0)
        box = Box((Z, 0, 0), (Z + 1, *image.shape[1:]))
        plane = image.read(box)

        def predict(tile: int, overlap: int) -> np.ndarray:
            inference = Inference(tile, overlap, 1, 16)
            predictor = SlabPredictor(network, view, image.shape, inference, torch.device("cpu"))
            return predictor(Block(box, box), plane)[0][0].astype(np.float32) / 255

        overlap = PredictSettings().overlap_px
        whole, tiled = predict(2048, overlap), predict(512, overlap)
        narrow = {f"{px} px": float(np.abs(predict(512, px) - whole).max()) for px in (16, 32, 128, 256)}
        scaled = (plane[0].astype(np.float32) - view.mean[Z]) / view.deviation[Z]
        with torch.inference_mode():
            logits = sliding_window_inference(
                torch.from_numpy(scaled.astype(np.float32))[None, None], 512, 1, network, overlap=0.25, mode="gaussian"
            )
        peer = np.abs(torch.sigmoid(logits)[0, 0].numpy() - whole)
    if not quick:
        _picture(plane[0], whole, tiled)
    difference = np.abs(tiled - whole)
    return Result(
        "seams",
        float(difference.max()),
        "largest difference of probability",
        "reported; no visible step",
        None,
        float(peer.max()),
        float(difference.max() / peer.max()),
        details={
            "mean_difference": float(difference.mean()),
            "monai_mean_difference": float(peer.mean()),
            "voxels_whose_mask_changes": f"{100 * float(((tiled >= 0.5) != (whole >= 0.5)).mean()):.4f} %",
            "largest_by_overlap": narrow,
            "default_overlap_px": overlap,
        },
    )


def _picture(plane: np.ndarray, whole: np.ndarray, tiled: np.ndarray) -> None:
    """Draw image, both probabilities and ten times their difference, each at half size."""
    difference = np.clip(10 * np.abs(tiled - whole), 0, 1)
    panels = [plane.astype(np.float32) / 255, whole, tiled, difference]
    small = [cv2.resize(panel, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for panel in panels]
    rows = [np.hstack(small[:2]), np.hstack(small[2:])]
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(PICTURE), np.rint(np.vstack(rows) * 255).astype(np.uint8))
