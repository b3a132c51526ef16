"""Nucleoli and mitochondria of the phantom from seven labelled slices: every network by all three schemes.

Every training has the same time on one core, each pair of networks included, so that slow networks get few updates.
The figure is the lowest mean 3D Dice of any network, scheme and class. Baseline: the best threshold of the smoothed
image, either polarity, for the class that it finds better.
"""

from __future__ import annotations

from benchmarks.demo import best_threshold
from benchmarks.result import Result
from benchmarks.studies import BUDGET_S, dices, keep, project_of, split, study, updates

NETWORKS = (
    "resunet",
    "unetplusplus",
    "unetplusplus_plain",
    "transunet",
    "setr_naive",
    "setr_pup",
    "setr_mla",
    "senformer",
    "fractalresnet",
    "ceecnet_v1",
    "ceecnet_v2",
)
SCHEMES = ("supervised", "cps", "cps_cutmix")


def run(quick: bool) -> Result:
    """Run the study."""
    table, _, folder = study("phantom", (("unetplusplus", "setr_naive") if quick else NETWORKS, SCHEMES), quick)
    keep(folder, "study_phantom", quick)
    means = table.groupby(["network", "scheme", "class"])["dice_3d"].mean()
    threshold = {name: best_threshold(project_of("phantom"), name) for name in table["class"].unique()}
    baseline = max(threshold.values())
    worst = float(means.min())
    above = all(dice > threshold[name] for (_, _, name), dice in means.items())
    return Result(
        "study_phantom",
        worst,
        "3D Dice, lowest of all networks, schemes and classes",
        "≥0.5, and above the threshold for every class",
        None if quick else worst >= 0.5 and above,
        baseline,
        worst / baseline,
        tuple(range(table["repeat"].nunique())),
        split("phantom"),
        {
            "budget_s": BUDGET_S,
            "lowest": " ".join(means.idxmin()),
            "dice_3d": dices(table),
            "updates": updates(table),
            "threshold": threshold,
        },
    )
