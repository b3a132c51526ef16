"""Does the next-slice advisor save labels: advised slices against evenly spaced ones, on the phantom and `vnc_sstem`.

From the same number of updates of the same network. The advised arm begins with a few slices chosen before anything is
predicted, trains briefly, asks for more, and so on; what is labelled comes from the truth, as a person would paint it.
All arms of a seed are scored on the slices that none of them labelled. Finished trainings are kept in
``benchmarks/.work`` (or ``$CRISTAE_BENCH_WORK``), so that a row that was stopped goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cristae
from benchmarks.result import Result
from benchmarks.sets import dice_3d, spread
from benchmarks.studies import RECIPE, REPEATS, SETS, work_folder
from cristae.io.ome_zarr import open_volume
from cristae.project import Project

UPDATES = 500
"""Updates of each final training."""
BRIEF = 150
"""Updates of a training that only asks what to label next."""


@dataclass(frozen=True)
class Case:
    """How many slices: advised in batches, and evenly spaced ones, as many and more."""

    batches: tuple[int, ...]
    many: int

    @property
    def few(self) -> int:
        """Slices that are advised in all."""
        return sum(self.batches)


CASES: Mapping[str, Case] = {"phantom": Case((3, 2, 2), 10), "vnc": Case((2, 2), 6)}


def run(quick: bool) -> Result:
    """Label, train and score every arm, and compare."""
    seeds = (0,) if quick else tuple(range(REPEATS))
    found: dict[str, dict[str, list[float]]] = {}
    chosen: dict[str, list[list[int]]] = {}
    for name, case in CASES.items() if not quick else [("phantom", CASES["phantom"])]:
        arms: dict[str, list[float]] = {f"advised_{case.few}": [], f"even_{case.few}": [], f"even_{case.many}": []}
        for seed in seeds:
            advised = grown(name, case.batches, seed, quick)
            even = [labelled(name, evenly(name, n), seed, quick, f"even{n}") for n in (case.few, case.many)]
            chosen.setdefault(name, []).append(list(_slices(advised)))
            for arm, dice in zip(arms, scored((advised, *even), _classes(name)), strict=True):
                arms[arm].append(dice)
        found[name] = arms
    means = {name: [float(np.mean(values)) for values in arms.values()] for name, arms in found.items()}
    saves = [advised >= many for advised, _, many in means.values()]
    never_worse = all(advised >= few for advised, few, _ in means.values())
    ahead = max(advised - many for advised, _, many in means.values())
    return Result(
        "advisor",
        ahead,
        "3D Dice by which advised slices are ahead of 43–50 % more evenly spaced ones, on the better set",
        "≥0 on one set (at least 30 % fewer slices), and never behind as many evenly spaced ones on the other",
        None if quick else any(saves) and never_worse,
        0.0,
        None,
        seeds,
        "; ".join(f"{name}: {', '.join(arms)}; score the slices that no arm labelled" for name, arms in found.items()),
        {
            "updates": UPDATES,
            "dice_3d": {name: {arm: spread(values) for arm, values in arms.items()} for name, arms in found.items()},
            "advised": chosen,
        },
    )


def evenly(name: str, n: int) -> list[int]:
    """Return `n` evenly spaced slices of a set, the first and the last among them."""
    depth = {"phantom": 64, "vnc": 20}[name]
    return [round(z) for z in np.linspace(0, depth - 1, n)]


def grown(name: str, batches: Sequence[int], seed: int, quick: bool) -> Project:
    """Return a project whose labelled slices were advised, batch by batch, predicted after the last."""
    project = empty(name, f"advised{seed}{'q' * quick}")
    for number, n in enumerate(batches):
        if len(_slices(project)) >= sum(batches[: number + 1]):
            continue  # labelled before this was stopped
        if number:
            learnt(project, name, seed, 5 if quick else BRIEF)
        asked = cristae.advise(project, n=n, classes=_classes(name))
        paint(project, asked.manifest["slices"], _classes(name))
    learnt(project, name, seed, 5 if quick else UPDATES)
    return project


def labelled(name: str, slices: Sequence[int], seed: int, quick: bool, arm: str) -> Project:
    """Return a project with these slices labelled, trained and predicted."""
    project = empty(name, f"{arm}-{seed}{'q' * quick}")
    paint(project, slices, _classes(name))
    learnt(project, name, seed, 5 if quick else UPDATES)
    return project


def empty(name: str, arm: str) -> Project:
    """Return a project of a set without labels, made once for each arm."""
    place = work_folder() / f"advisor_{name}_{arm}"
    made = place / "made"
    if not made.is_file():
        shutil.rmtree(place, ignore_errors=True)
        project = SETS[name].make(place / "set", SETS[name].labelled[min(SETS[name].labelled)])
        shutil.rmtree(project.path / "annotations.ome.zarr")
        made.write_text(str(project.path.relative_to(place)))
    return Project.open(place / made.read_text())


def paint(project: Project, slices: Sequence[int], classes: Sequence[str]) -> None:
    """Label slices as the truth has them."""
    known = set(_slices(project))
    for name in classes:
        new = [(z, project.truth.read_slice(name, z)) for z in slices if z not in known]
        if new:
            project.annotations.write_slices(name, new)


def learnt(project: Project, name: str, seed: int, updates: int) -> None:
    """Train from the labelled slices the classes that are on one of them, and predict."""
    there = tuple(kind for kind in _classes(name) if project.annotations.n_voxels(kind))
    how: dict[str, Any] = {**RECIPE, **SETS[name].train, "classes": there, "seed": seed, "updates": updates}
    how["context_nm"] = how["tile_px"] * SETS[name].pixel
    cristae.train(project, **how)
    cristae.predict(project)


def scored(projects: Sequence[Project], classes: Sequence[str]) -> list[float]:
    """Return the 3D Dice of each project, averaged over classes, on slices that none of them labelled.

    A class that was on no labelled slice, and so was not learnt, has Dice 0.
    """
    depth = projects[0].image.shape[0]
    asked = sorted(set(range(depth)) - {z for project in projects for z in _slices(project)})
    found = []
    for project in projects:
        predicted = project.latest("predict")
        assert predicted is not None
        dices = []
        for name in set(classes) & set(predicted.manifest["classes"]):
            mask = open_volume(Path(predicted.path) / f"{name}.ome.zarr" / "labels" / name).read()[asked] > 0
            truth = np.stack([project.truth.read_slice(name, z) == 1 for z in asked])
            dices.append(dice_3d(mask, truth))
        found.append(sum(dices) / len(classes))
    return found


def _classes(name: str) -> tuple[str, ...]:
    return tuple(SETS[name].train.get("classes", ())) or ("mitochondrion",)


def _slices(project: Project) -> tuple[int, ...]:
    return project.annotations.labelled_slices()
