"""What `cristae train` and `predict` do by default, one choice at a time: each is undone alone, and scored.

Same labels and the same time on one core for each training; predictions are those of the default's trainings. The
figure is the largest gain by undoing one choice, in 3D Dice averaged over the sets: above 0 it should not have been
chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

import cristae
from benchmarks.result import Result
from benchmarks.sets import dice_3d, spread, unlabelled
from benchmarks.studies import BUDGET_S, RECIPE, REPEATS, SETS, dice_of, project_of, study
from cristae.io.ome_zarr import open_volume

ON = ("phantom", "vnc")
TRAININGS: Mapping[str, Mapping[str, Any]] = {
    "one slice, no neighbours as channels": {"neighbours": 0},
    "two neighbours on either side": {"neighbours": 2},
    "Adam, 1e-4 throughout": {"optimiser": "adam", "learning_rate": 1e-4, "decay": "constant", "weight_decay": 0.0},
    "largest learning rate 3e-3": {"learning_rate": 3e-3},
    "no average of weights": {"averaging": 0.0},
    "Dice alone, no cross-entropy": {"cross_entropy": 0.0},
    "grey values not varied": {"contrast": 0.0, "brightness": 0.0, "gamma": 0.0, "noise": 0.0, "blur": 0.0},
    "patches mirrored, not turned": {"quarter_turns": False},
    "rare classes not sought": {"rare_share": 0.0},
}
PREDICTIONS: Mapping[str, Mapping[str, Any]] = {
    "four views averaged": {"views": 4},
    "eight views averaged": {"views": 8},
    "no smoothing along z": {"smooth_z": 0.0},
}


def run(quick: bool) -> Result:
    """Undo every choice on every set."""
    sets = ON[:1] if quick else ON
    trainings = dict(list(TRAININGS.items())[:1]) if quick else TRAININGS
    dice: dict[str, dict[str, list[float]]] = {}
    for name in sets:
        usual = study(name, (("",), ("supervised",)), quick)[0]
        dice[name] = {"as it is": dice_of(usual)}
        for words, changes in trainings.items():
            dice[name][words] = dice_of(study(name, (("",), ("supervised",)), quick, changes=changes)[0])
        dice[name] |= _predicted(name, usual, quick)
    gains = {
        words: {name: float(np.mean(dice[name][words]) - np.mean(dice[name]["as it is"])) for name in sets}
        for words in (*trainings, *PREDICTIONS)
    }
    mean = {words: float(np.mean(list(by_set.values()))) for words, by_set in gains.items()}
    best = max(mean, key=lambda words: mean[words])
    return Result(
        "choices",
        mean[best],
        f"3D Dice gained by: {best}",
        "no single change gains more than 0.005",
        None if quick else mean[best] <= 0.005,
        0.0,
        None,
        tuple(range(1 if quick else REPEATS)),
        "phantom 7, vnc 4 labelled slices; score all others",
        {
            "budget_s": BUDGET_S,
            "gain_by_undoing": gains,
            "dice_3d": {name: {words: spread(values) for words, values in of.items()} for name, of in dice.items()},
        },
    )


def _predicted(name: str, usual: pd.DataFrame, quick: bool) -> dict[str, list[float]]:
    """Return the Dice of each seed by other ways to predict, from trainings as long as the usual ones."""
    one, project = SETS[name], project_of(name)
    how: dict[str, Any] = {**RECIPE, **one.train, "updates": 5 if quick else int(usual["updates"].iloc[0])}
    how["context_nm"] = how["tile_px"] * one.pixel
    scored = unlabelled(project.image.shape[0], one.labelled[min(one.labelled)])
    found: dict[str, list[float]] = {words: [] for words in PREDICTIONS}
    for seed in sorted(usual["repeat"].unique()):
        cristae.train(project, **how, seed=int(seed))
        for words, changes in PREDICTIONS.items():
            place = cristae.predict(project, **changes).path
            dices = []
            for kind in usual["class"].unique():
                mask = open_volume(place / f"{kind}.ome.zarr" / "labels" / str(kind)).read()[scored] > 0
                truth = np.stack([project.truth.read_slice(str(kind), z) == 1 for z in scored])
                dices.append(dice_3d(mask, truth))
            found[words].append(float(np.mean(dices)))
    return found
