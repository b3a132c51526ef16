"""What the rows of the study share: four sets with truth, and trainings by `cristae study` with one budget each.

Projects and finished trainings are kept in ``benchmarks/.work`` (or ``$CRISTAE_BENCH_WORK``), so that a row that was
stopped goes on where it was, and that rows which need the same trainings share them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from skimage.segmentation import find_boundaries

import cristae
from benchmarks.result import Result
from benchmarks.sets import VNC, VNC_LABELLED, VNC_VOXEL, data_folder, spread
from cristae.project import Project
from cristae.stages.options import Options
from cristae.stages.study_curves import draw_along_z
from cristae.stages.study_tables import average_ranks
from cristae.stages.train_settings import TrainSettings

BUDGET_S = 120.0
"""Seconds of training of each network or pair of networks, on one core."""
REPEATS = 3
ALWAYS = ("resunet", "unetplusplus")
"""Networks compared on every set of real data, beside the two best of the others."""
QUICKEST = ("transunet", "senformer")
"""The two of the others whose updates are quickest: they stand in where it is not known which two are the best."""
PHANTOM = Path(__file__).parent / "results" / "study_phantom.json"
"""What says which are the best: the committed study of all networks."""
SCHEMES = ("supervised", "cps_cutmix")
RECIPE: Mapping[str, Any] = {"tile_px": 128}
"""Ours are trainings as `cristae train` does them, but with small tiles, so that many updates fit into the budget."""
PAPERS: Mapping[str, Mapping[str, Any]] = {
    "machireddy2023": {"preset": "machireddy2023", "size": "small"},
    "pagano2023": {"preset": "pagano2023", "size": "small", "learning_rate": 1e-3},
}
"""The papers' recipes with networks that learn within the budget; the published sizes get to a few updates in it."""


_ARMS: Mapping[str, tuple[tuple[str], tuple[str]]] = {
    "ours": (("",), ("supervised",)),
    "machireddy2023": (("resunet",), ("supervised",)),
    "pagano2023": (("unetplusplus_pagano",), ("cps_cutmix",)),
}


@dataclass(frozen=True)
class Set:
    """A volume with truth on all slices.

    Parameters
    ----------
    make
        Makes the project in a folder, with these slices labelled.
    labelled
        z of the labelled slices, by how many of them there are.
    pixel
        In-plane size in nm of the pixels that networks see: reduced ones where slices are large.
    train
        What differs from `RECIPE`.
    """

    make: Callable[[Path, Sequence[int]], Project]
    labelled: Mapping[int, tuple[int, ...]]
    pixel: float
    train: Mapping[str, Any] = field(default_factory=dict)


def _phantom(path: Path, labelled: Sequence[int]) -> Project:
    project = cristae.make_phantom(path, n_labelled=len(labelled), shape=(64, 256, 256), seed=3)
    if tuple(project.annotations.labelled_slices("nucleolus")) != tuple(labelled):
        raise ValueError(f"the phantom labels other slices than {labelled}")
    return project


def _real(path: Path, image: Path, truth: tuple[str, np.ndarray], labelled: Sequence[int], voxel: Any) -> Project:
    """Return a project of a stack with the masks `truth` of one class, through files as a user has them."""
    name, masks = truth
    path.mkdir(parents=True)
    tifffile.imwrite(path / "truth.tif", masks.astype(np.uint8), photometric="minisblack", metadata={"axes": "ZYX"})
    project = cristae.init(path / "project", voxel_size=voxel)
    cristae.import_image(project, image)
    cristae.import_labels(project, path / "truth.tif", classes={name: None}, slices=tuple(labelled))
    cristae.import_truth(project, path / "truth.tif", classes={name: None})
    return project


def _vnc(path: Path, labelled: Sequence[int]) -> Project:
    folder = data_folder() / VNC
    masks = tifffile.imread(folder / "labels_mitochondria.tif") > 0
    return _real(path, folder / "raw.tif", ("mitochondrion", masks), labelled, VNC_VOXEL)


def _flyem(path: Path, labelled: Sequence[int]) -> Project:
    folder = data_folder() / "flyem_medulla"
    masks = np.stack([find_boundaries(plane, mode="thick") for plane in tifffile.imread(folder / "labels_cells.tif")])
    return _real(path, folder / "raw.tif", ("boundary", masks), labelled, (10.0, 10.0, 10.0))


def _wsu(path: Path, labelled: Sequence[int]) -> Project:
    folder = data_folder() / "wsu_chloroplast"
    masks = tifffile.imread(folder / "labels_chloroplasts.tif") > 0
    return _real(path, folder / "raw.tif", ("chloroplast", masks), labelled, (50.0, 10.0, 10.0))  # sizes assumed


SETS: Mapping[str, Set] = {
    "phantom": Set(
        _phantom,
        {n: tuple(round(z) for z in np.linspace(0, 63, n)) for n in (7, 25)},
        8.0,
        {"classes": ("nucleolus", "mitochondrion")},
    ),
    "vnc": Set(_vnc, {4: VNC_LABELLED, 8: (0, 3, 5, 8, 11, 14, 16, 19)}, 3 * VNC_VOXEL[1]),
    "flyem": Set(_flyem, {5: (0, 31, 62, 93, 124)}, 10.0, {"neighbours": 2}),
    "wsu": Set(_wsu, {2: (2, 7)}, 40.0),
}


def study(
    name: str,
    methods: tuple[Sequence[str], Sequence[str]],
    quick: bool,
    *,
    n_labelled: int = 0,
    paper: str = "",
    changes: Mapping[str, Any] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Train networks by schemes on a set, as ours or by a paper's recipe; "" is the network of the default.

    Of the training, `changes` come last.

    Returns
    -------
    tuple
        Rows per training and class, rows per training, class and slice, and the folder of the study.
    """
    one = SETS[name]
    labelled = one.labelled[n_labelled or min(one.labelled)]
    networks, schemes = methods
    networks = [network or TrainSettings.model_fields["network"].default for network in networks]
    project = _project(name, labelled)
    train = {**RECIPE, **one.train} | PAPERS.get(paper, {})
    if paper:  # its own augmentation and channels, on the same tiles
        train = {key: train[key] for key in ("tile_px", "classes") if key in train} | dict(PAPERS[paper])
    train["context_nm"] = train["tile_px"] * one.pixel
    train |= changes or {}
    if quick:
        train |= {"updates": 5}
    run = cristae.study_networks(
        project,
        options=Options(executor="threads:2", notify=print),
        train=train,
        networks=tuple(networks),
        schemes=tuple(schemes),
        slices=(len(labelled),),
        repeats=1 if quick else REPEATS,
        budget_s=0.0 if quick else BUDGET_S,
    )
    return pd.read_parquet(run.path / "study.parquet"), pd.read_parquet(run.path / "slices.parquet"), run.path


def study_row(name: str, row: str, quick: bool) -> Result:
    """Compare ours of `networks_to_compare`, learning from labels alone and by CPS with CutMix, on one real set."""
    networks, chosen = networks_to_compare()
    table, _, folder = study(name, (ALWAYS if quick else networks, SCHEMES), quick)
    keep(folder, row, quick)
    ranks = average_ranks(table)
    by_scheme = {scheme: float(ranks[ranks.index.str.endswith(scheme)].mean()) for scheme in table["scheme"].unique()}
    value, plain = by_scheme["cps_cutmix"], by_scheme["supervised"]
    details = {"budget_s": BUDGET_S, "dice_3d": dices(table), "updates": updates(table)}
    return Result(
        row,
        value,
        f"mean rank of cps_cutmix among {len(ranks)}",
        "CPS with CutMix before its supervised twin",
        None if quick else value < plain,
        plain,
        value / plain,
        tuple(range(table["repeat"].nunique())),
        split(name),
        details | {"ranks": ranks.round(2).to_dict(), "networks": chosen},
    )


def networks_to_compare(phantom: Path = PHANTOM) -> tuple[tuple[str, ...], str]:
    """Return the networks compared on real data, and in words how they were chosen.

    The best of the others are those of the highest 3D Dice in the committed `study_phantom`, the mean over `SCHEMES`
    and classes; of several variants of a network the best one.
    """
    if not phantom.is_file():
        words = "the two whose updates are quickest, for study_phantom has not been measured"
        return (*ALWAYS, *QUICKEST), f"{', '.join(ALWAYS)}, and {words}"
    details = json.loads(phantom.read_text())["details"]
    found: dict[str, list[float]] = {}
    for method, classes in details["dice_3d"].items():
        network, scheme = method.split(" ")
        if scheme in SCHEMES:
            found.setdefault(network, []).extend(one["mean"] for one in classes.values())
    best: dict[str, str] = {}
    for network in sorted(found, key=lambda one: -float(np.mean(found[one]))):
        best.setdefault(network.partition("_")[0], network)
    others = [network for kind, network in best.items() if kind not in ALWAYS][:2]
    told = [f"{network} ({np.mean(found[network]):.3f})" for network in others]
    return (*ALWAYS, *others), f"{', '.join(ALWAYS)}, and the two best others of study_phantom: {', '.join(told)}"


def compared(name: str, quick: bool) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return 3D Dice and worst slice of each seed, of ours and of the papers' recipes."""
    dice, worst = {}, {}
    for arm, methods in _ARMS.items():
        table, _, _ = study(name, methods, quick, paper="" if arm == "ours" else arm)
        dice[arm] = dice_of(table)
        worst[arm] = [float(x) for x in table.groupby("repeat")["worst_dice"].mean()]
    return dice, worst


def draw_compared(name: str, row: str) -> None:
    """Draw Dice along z of ours and of the papers' recipes, from trainings that are there."""
    tables, slices = [], []
    for number, (arm, methods) in enumerate(_ARMS.items()):
        table, along, _ = study(name, methods, quick=False, paper="" if arm == "ours" else arm)
        tables.append(table.assign(trial=table["trial"] + 100 * number, network=arm))
        slices.append(along.assign(trial=along["trial"] + 100 * number))
    place = Path(__file__).parent / "results" / row
    place.mkdir(exist_ok=True)
    draw_along_z(pd.concat(tables), pd.concat(slices), place / f"{name}.svg", place / f"{name}.png")
    (place / f"{name}.png").unlink()


def dice_of(table: pd.DataFrame) -> list[float]:
    """Return the 3D Dice of each seed, averaged over classes."""
    return [float(x) for x in table.groupby("repeat")["dice_3d"].mean()]


def project_of(name: str) -> Project:
    """Return the project of a set with the fewest labelled slices."""
    return _project(name, SETS[name].labelled[min(SETS[name].labelled)])


def split(name: str) -> str:
    """Return which slices were learnt from."""
    labelled = SETS[name].labelled[min(SETS[name].labelled)]
    return f"{name}: train z {', '.join(map(str, labelled))}; score all others"


def dices(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean and deviation of the 3D Dice over seeds, by network and scheme, then by class."""
    return {
        f"{network} {scheme}": {str(kind): spread(list(rows["dice_3d"])) for kind, rows in of.groupby("class")}
        for (network, scheme), of in table.groupby(["network", "scheme"], sort=False)
    }


def updates(table: pd.DataFrame) -> dict[str, int]:
    """Return how many updates fitted into the budget, by network and scheme."""
    found = table.groupby(["network", "scheme"], sort=False)["updates"].first()
    return {" ".join(key): int(n) for key, n in found.items()}


def keep(folder: Path, row: str, quick: bool) -> None:
    """Keep tables and figures of a study beside the results."""
    if not quick:
        place = Path(__file__).parent / "results" / row
        place.mkdir(exist_ok=True)
        for file in ("study.md", "summary.csv", "along_z.svg"):
            shutil.copyfile(folder / file, place / file)


def work_folder() -> Path:
    """Return where projects and finished trainings are kept."""
    stated = os.environ.get("CRISTAE_BENCH_WORK")
    return Path(stated) if stated else Path(__file__).parent / ".work"


def _project(name: str, labelled: Sequence[int]) -> Project:
    """Return the project of a set, made once."""
    place = work_folder() / f"{name}_{len(labelled)}"
    made = place / "made"
    if not made.is_file():
        shutil.rmtree(place, ignore_errors=True)
        project = SETS[name].make(place / "set", labelled)
        made.write_text(str(project.path.relative_to(place)))
    return cristae.Project.open(place / made.read_text())
