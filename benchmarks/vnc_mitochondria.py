"""Mitochondria of `vnc_sstem` from four labelled slices, scored on the other sixteen.

Ours varies patches more than the default does, for there are few of them, and averages eight views. Baseline: MONAI
BasicUNet with Dice and cross-entropy, AdamW and a cosine schedule, for the same core time, one seed. Also reported: a
run twice as long, and the paper's settings (`machireddy2023`) in the same core time, one seed each.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

import cristae
from benchmarks.peers import monai_unet
from benchmarks.result import Result
from benchmarks.sets import VNC, VNC_LABELLED, Trained, data_folder, dice_3d, learn, spread, unlabelled, vnc_project
from cristae.allocation import keep_freed_memory

UPDATES = 600
VARIATION = {"learning_rate": 3e-3, "rotation_deg": 30, "scale": 0.2, "contrast": 0.25, "gamma": 0.2, "noise": 0.15, "blur": 1.0}
PREDICT = {"views": 8}
CORE_MINUTES = 6.0


def run(quick: bool) -> Result:
    """Train with three seeds, a peer, a long run and the paper's preset."""
    keep_freed_memory()
    seeds = (0,) if quick else (0, 1, 2)
    updates = 20 if quick else UPDATES
    with tempfile.TemporaryDirectory() as folder:
        project, truth = vnc_project(Path(folder) / "vnc")
        scored = unlabelled(len(truth), VNC_LABELLED)

        def score(mask: np.ndarray) -> float:
            return dice_3d(mask[scored], truth[scored])

        def ours_of(seed: int, n: int) -> Trained:
            return learn(project, {"updates": n, "seed": seed, **VARIATION}, PREDICT)["mitochondrion"]

        ours = [ours_of(seed, updates) for seed in seeds]
        dices = [score(one.mask) for one in ours]
        budget = 60 * CORE_MINUTES if not quick else 20.0
        image = tifffile.imread(data_folder() / VNC / "raw.tif")
        peer = [score(monai_unet(image, truth, VNC_LABELLED, budget, seed)) for seed in seeds[:1]]
        details = {
            "dice_3d": spread(dices),
            "each_seed": dices,
            "core_minutes_of_training": [round(one.core_seconds / 60, 2) for one in ours],
            "updates": updates,
            "monai_basicunet": spread(peer),
        }
        if not quick:
            long = ours_of(0, 2 * updates)
            details["twice_as_long"] = {"dice_3d": score(long.mask), "core_minutes": long.core_seconds / 60}
            details["machireddy2023_same_core_time"] = _paper(project, score, budget)
    minutes = max(one.core_seconds for one in ours) / 60
    mean = float(np.mean(dices))
    return Result(
        "vnc_mitochondria",
        mean,
        "3D Dice",
        f"≥0.88 in ≤{CORE_MINUTES:g} core-minutes of training",
        None if quick else mean >= 0.88 and minutes <= CORE_MINUTES,
        float(np.mean(peer)),
        mean / float(np.mean(peer)) if np.mean(peer) else None,
        seeds,
        f"train z {', '.join(map(str, VNC_LABELLED))}; score the other {len(scored)} slices",
        details,
    )


def _paper(project, score, budget: float) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Give the paper's preset as many updates as fit into the budget, measured on the first."""
    begun = time.process_time()
    cristae.train(project, preset="machireddy2023", updates=1, check_every=1)
    updates = max(2, int(budget / (time.process_time() - begun)))
    found = learn(project, {"preset": "machireddy2023", "updates": updates}, {"smooth_z": 0.0})["mitochondrion"]
    return {"dice_3d": score(found.mask), "updates": updates, "core_minutes": found.core_seconds / 60}
