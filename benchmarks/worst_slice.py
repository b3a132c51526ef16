"""The lowest Dice of any slice, which lies between labelled ones: ours against the papers' recipes, on all four sets.

From the trainings of `default_vs_papers`; of each training the lowest Dice of a slice on which there is something,
averaged over classes and seeds. The curves along z are in ``results/worst_slice`` as the papers' Figure 5.
"""

from __future__ import annotations

import numpy as np

from benchmarks.result import Result
from benchmarks.sets import spread
from benchmarks.studies import PAPERS, SETS, compared, draw_compared


def run(quick: bool) -> Result:
    """Compare the worst slices."""
    found = {}
    for name in ("phantom",) if quick else SETS:
        found[name] = compared(name, quick)[1]
        if not quick:
            draw_compared(name, "worst_slice")
    means = {name: {arm: float(np.mean(values)) for arm, values in arms.items()} for name, arms in found.items()}
    raised = {name: arms["ours"] - max(arms[paper] for paper in PAPERS) for name, arms in means.items()}
    return Result(
        "worst_slice",
        min(raised.values()),
        "Dice by which the worst slice of ours is above that of the better paper, on the worst set",
        "above 0 on every set",
        None if quick else min(raised.values()) > 0,
        0.0,
        None,
        (0,) if quick else (0, 1, 2),
        "phantom 7, vnc 4, flyem 5, wsu 2 labelled slices; score all others",
        {"worst_dice": {name: {arm: spread(values) for arm, values in arms.items()} for name, arms in found.items()}},
    )
