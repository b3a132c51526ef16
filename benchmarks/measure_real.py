"""Real labels as a user would measure them: UroCell, HeLa nuclei, ten slices of the tumour biopsy Bx1; seconds.

Imported as truth without an image. Objects and voxels are counted once more with SciPy and NumPy. The slices of Bx1 are
50 or 100 sections apart: here they are a volume of ten, in which objects do not reach from slice to slice.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from scipy.ndimage import generate_binary_structure, label

import cristae
from benchmarks.result import Result, peak_memory_mb
from benchmarks.sets import data_folder

UROCELL, HELA, BX1 = "urocell_labels", "hela_nuclei_labels", "ohsu_bx1"
HELA_CLASSES = {"envelope": (1,), "nucleus": (2,)}


def run(quick: bool) -> Result:
    """Measure every set; quick: one crop, and parts of the others."""
    counts: dict[str, Any] = {}
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, layers, voxel_size, connectivity in _sets(quick):
            counts[name] = _measure(Path(folder) / name, layers, voxel_size, connectivity)
    right = all(one["equal"] for classes in counts.values() for one in classes["classes"].values())
    return Result(
        "measure_real",
        time.perf_counter() - begun,
        "s for all, import included",
        "counts and volumes equal to an independent count; tables and figures",
        None if quick else right and all(classes["figures"] for classes in counts.values()),
        details={"sets": counts, "peak_memory_mb": peak_memory_mb()},
    )


def _sets(quick: bool) -> Any:
    """Yield name, layers (masks bool, ids uint32), voxel size, connectivity."""
    root = data_folder()
    crops = sorted(path for path in (root / UROCELL).iterdir() if path.is_dir())
    for crop in crops[: 1 if quick else None]:
        found = {path.stem.removeprefix("labels_"): tifffile.imread(path) for path in sorted(crop.glob("*.tif"))}
        layers = {
            name: ids.astype(np.uint32) if name == "mitochondria" else ids > 0
            for name, ids in found.items()
            if ids.any()
        }
        yield crop.name, layers, (15.0, 16.0, 16.0), 26
    hela = tifffile.imread(root / HELA / "labels_5class_sub4.tif")
    nuclei = {name: np.isin(hela, values) for name, values in HELA_CLASSES.items()}
    yield "hela", {name: mask[:100] if quick else mask for name, mask in nuclei.items()}, (50.0, 40.0, 40.0), 26
    biopsy = {}
    for name, kind in (("nucleus", "nuclei"), ("nucleolus", "nucleoli"), ("mitochondrion", "mitochondria")):
        slices = tifffile.imread(root / BX1 / f"labels_{kind}_10slices.tif") > 0
        # The sets name different slices; those of a class are kept apart from each other by empty ones.
        spaced = np.zeros((2 * len(slices), *slices.shape[1:]), bool)
        spaced[::2] = slices
        biopsy[name] = spaced[:4] if quick else spaced
    depth = min(len(mask) for mask in biopsy.values())
    yield "bx1", {name: mask[:depth] for name, mask in biopsy.items()}, (4.0, 4.0, 4.0), 26


def _measure(path: Path, layers: dict[str, np.ndarray], voxel_size: Any, connectivity: int) -> dict[str, Any]:
    project = cristae.init(path, voxel_size=voxel_size)
    for name, values in layers.items():
        file = path.with_name(f"{path.name}-{name}.tif")
        instances = values.dtype != bool
        tifffile.imwrite(
            file, values if instances else values.astype(np.uint8), compression="zlib", photometric="minisblack"
        )
        cristae.import_truth(project, file, classes={name: None}, instances=instances)
    begun = time.perf_counter()
    run = cristae.measure(project, source="truth", connectivity=connectivity)
    seconds = time.perf_counter() - begun
    objects = pd.read_parquet(run.path / "objects.parquet")
    um3 = float(np.prod(voxel_size)) / 1e9
    classes = {name: _compare(objects[objects["class"] == name], values, um3) for name, values in layers.items()}
    return {"classes": classes, "seconds": round(seconds, 1), "figures": _figures(project)}


def _compare(table: pd.DataFrame, values: np.ndarray, um3: float) -> dict[str, Any]:
    """Count the objects once more, by other means, and compare the volumes (µm³) of those that are not cut."""
    ids = label(values, generate_binary_structure(3, 3))[0] if values.dtype == bool else values
    n_voxels = np.bincount(ids.ravel())[1:]
    n_voxels = np.sort(n_voxels[n_voxels > 0])
    whole = table[~table["touches_edge"]]
    counted = np.array_equal(np.sort(table["n_voxels"].to_numpy()), n_voxels)
    return {
        "n": len(table),
        "n_cut": int(table["touches_edge"].sum()),
        "mean_volume_um3": float(table["volume_um3"].astype(float).mean()),
        "equal": bool(counted and np.allclose(whole["volume_um3"].astype(float), whole["n_voxels"] * um3, rtol=1e-9)),
    }


def _figures(project: cristae.Project) -> int:
    """Return how many figures the report has: strips of features, for the labels have no image to show."""
    return len(list(cristae.write_report(project).parent.glob("figure-*.svg")))
