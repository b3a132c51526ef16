"""The real data as projects, imported the way a user would."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

import cristae
from cristae.io.ome_zarr import open_volume
from cristae.project import Project

VNC = "vnc_sstem"
VNC_LABELLED = (0, 6, 13, 19)
VNC_VOXEL = (45.0, 4.6, 4.6)


@dataclass(frozen=True)
class Trained:
    """What a training and a prediction gave."""

    mask: np.ndarray
    probability: np.ndarray
    core_seconds: float
    seconds: float


def data_folder() -> Path:
    """Return the folder of real data: ``$CRISTAE_DATA`` or ``../shared/data`` beside the repository."""
    stated = os.environ.get("CRISTAE_DATA")
    folder = Path(stated) if stated else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        raise SystemExit(f"no real data at {folder}; set CRISTAE_DATA")
    return folder


def vnc_project(path: Path) -> tuple[Project, np.ndarray]:
    """Return `vnc_sstem` as a project with four labelled slices, and the true masks ``(z, y, x)``."""
    folder = data_folder() / VNC
    project = cristae.init(path, voxel_size=VNC_VOXEL)
    cristae.import_image(project, folder / "raw.tif")
    labels = folder / "labels_mitochondria.tif"
    cristae.import_labels(project, labels, classes={"mitochondrion": None}, slices=VNC_LABELLED)
    return project, tifffile.imread(labels) > 0


def stack_project(
    path: Path,
    image: np.ndarray,
    voxel_size: tuple[float, float, float],
    labels: Mapping[str, Mapping[int, np.ndarray]],
) -> Project:
    """Return a project of arrays in memory, through TIFF files; `labels` are masks by class and slice."""
    path.mkdir(parents=True)
    tifffile.imwrite(path / "image.tif", image, photometric="minisblack", metadata={"axes": "ZYX"})
    project = cristae.init(path / "project", voxel_size=voxel_size)
    cristae.import_image(project, path / "image.tif")
    for name, slices in labels.items():
        for z, mask in slices.items():
            project.annotations.write_slice(name, z, mask.astype(np.uint8))
    project.add_classes(tuple(labels))
    return project


def learn(project: Project, train: Mapping[str, Any], predict: Mapping[str, Any]) -> dict[str, Trained]:
    """Train and predict, and return what came out for each class."""
    begun, cpu = time.monotonic(), time.process_time()
    run = cristae.train(project, **train)
    core_seconds, seconds = time.process_time() - cpu, time.monotonic() - begun
    found = cristae.predict(project, **predict)
    return {
        name: Trained(
            open_volume(found.path / f"{name}.ome.zarr" / "labels" / name).read() > 0,
            open_volume(found.path / f"{name}.ome.zarr").read(),
            core_seconds,
            seconds,
        )
        for name in run.manifest["classes"]
    }


def dice_3d(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice of two bool arrays; 1 when both are empty."""
    both = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / both if both else 1.0


def unlabelled(depth: int, labelled: Sequence[int]) -> list[int]:
    """Return the slices that were not learnt from."""
    return [z for z in range(depth) if z not in labelled]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean and standard deviation."""
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
