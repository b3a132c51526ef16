"""Ours against the papers' recipes, by 3D Dice on all four sets: same labels, same time on one core.

Ours is the network that `cristae train` takes by default, from labels alone. `machireddy2023` is their ResUNet with
Adam at 1e-4, Dice alone and flips; `pagano2023` their best, UNet++ by CPS with CutMix, Adam at 1e-3. Both in the small
size: in the published sizes a handful of updates would fit.
"""

from __future__ import annotations

import numpy as np

from benchmarks.result import Result
from benchmarks.sets import spread
from benchmarks.studies import BUDGET_S, PAPERS, SETS, compared


def run(quick: bool) -> Result:
    """Train all three on all sets, and compare their mean Dice."""
    found = {name: compared(name, quick)[0] for name in (("phantom",) if quick else SETS)}
    means = {name: {arm: float(np.mean(values)) for arm, values in arms.items()} for name, arms in found.items()}
    ahead = {name: arms["ours"] - max(arms[paper] for paper in PAPERS) for name, arms in means.items()}
    ours, best = (
        float(np.mean([values["ours"] for values in means.values()])),
        float(np.mean([max(values[paper] for paper in PAPERS) for values in means.values()])),
    )
    return Result(
        "default_vs_papers",
        min(ahead.values()),
        "3D Dice by which ours is ahead of the better paper, on the worst set",
        "above 0 on every set",
        None if quick else min(ahead.values()) > 0,
        0.0,
        None,
        (0,) if quick else (0, 1, 2),
        "phantom 7, vnc 4, flyem 5, wsu 2 labelled slices; score all others",
        {
            "budget_s": BUDGET_S,
            "dice_3d": {name: {arm: spread(values) for arm, values in arms.items()} for name, arms in found.items()},
            "mean_of_ours": ours,
            "mean_of_the_better_paper": best,
        },
    )
