"""Mitochondria of `hela_mito`: train on three labelled slices, score the other two, in three rotations.

The annotation is incomplete, so precision reads low; recall, and scores without a band of 20 nm on either side of
the outline, are given beside the Dice. The slices lie 29 to 56 apart: neighbours and smoothing along z are off.
Baseline: the label of the nearest training slice, copied.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.result import Result
from benchmarks.sets import data_folder, dice_3d, learn, spread, stack_project
from cristae.allocation import keep_freed_memory
from cristae.metrics.voxel import count, precision, recall, tolerant_counts, total
from cristae.metrics.voxel import dice as dice_of

UPDATES = 250
ROTATIONS = 3
VOXEL = (50.0, 10.0, 10.0)


def run(quick: bool) -> Result:
    """Rotate through the five labelled slices."""
    keep_freed_memory()
    folder = data_folder() / "hela_mito"
    image, truth = tifffile.imread(folder / "raw.tif"), tifffile.imread(folder / "labels_mitochondria.tif") > 0
    zs = json.loads((folder / "slices.json").read_text())["labelled_z"]
    settings = {"updates": 10 if quick else UPDATES, "neighbours": 0, "context_nm": 3840.0}
    settings |= {"learning_rate": 3e-3}
    dices, copies, sides = [], [], []
    minutes = []
    for first in range(1 if quick else ROTATIONS):
        held = sorted({first, (first + 2) % 5})
        kept = [i for i in range(5) if i not in held]
        with tempfile.TemporaryDirectory() as place:
            labels = {"mitochondrion": {i: truth[i] for i in kept}}
            project = stack_project(Path(place) / "hela", image, VOXEL, labels)
            found = learn(project, settings, {"smooth_z": 0.0})["mitochondrion"]
        nearest = [min(kept, key=lambda k, i=i: abs(zs[k] - zs[i])) for i in held]
        dices.append(dice_3d(found.mask[held], truth[held]))
        copies.append(dice_3d(truth[nearest], truth[held]))
        counts = total([count(found.mask[i], truth[i].astype(np.uint8)) for i in held])
        band = total([tolerant_counts(found.mask[i], truth[i].astype(np.uint8), 20.0, VOXEL[1:]) for i in held])
        sides.append((precision(counts), recall(counts), dice_of(band), precision(band), recall(band)))
        minutes.append(found.core_seconds / 60)
    names = ("precision", "recall", "dice_beyond_20_nm", "precision_beyond_20_nm", "recall_beyond_20_nm")
    mean = float(np.mean(dices))
    return Result(
        "hela_mitochondria",
        mean,
        "3D Dice",
        "reported beside copy-nearest",
        None,
        float(np.mean(copies)),
        mean / float(np.mean(copies)),
        (0,),
        "three rotations of 3 labelled slices to learn from and 2 to score",
        {
            "dice_3d_over_rotations": spread(dices),
            "each_rotation": dices,
            "copy_nearest_each": copies,
            **{name: spread([one[i] for one in sides]) for i, name in enumerate(names)},
            "core_minutes_of_training": spread(minutes),
            "updates": settings["updates"],
        },
    )
