"""A network of `gala_fibsem/train` applied to `flyem_medulla`: boundaries between cells, with 0 and 2 labelled slices.

Both are FIB-SEM of the fly brain at 10 nm, of other specimens and other grey values. Without labels: the network as it
is, and adapted by the statistics of batch normalisation, by matched grey values, by both, and by learning on without
labels after both. With 2 slices: trained on these alone, and started from some of those networks. Scored are the slices
that were labelled in no case. The figure is what the settings that `cristae adapt` has by default reach; the baseline
the network as it is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from skimage.segmentation import find_boundaries

import cristae
from benchmarks.result import Result
from benchmarks.sets import data_folder, dice_3d, spread, stack_project, unlabelled
from cristae.allocation import keep_freed_memory
from cristae.io.ome_zarr import open_volume
from cristae.project import Project
from cristae.stages.adapt import AdaptSettings

VOXEL = (10.0, 10.0, 10.0)
SOURCE_LABELLED = tuple(range(2, 50, 5))
LABELLED = (31, 93)
UPDATES, MORE_UPDATES, UNLABELLED_UPDATES = 400, 100, 60
TRAIN: Mapping[str, Any] = {
    "neighbours": 2,
    "tile_px": 96,
    "context_nm": 960.0,
    "rotation_deg": 30,
    "scale": 0.15,
}
ADAPTATIONS: Mapping[str, Mapping[str, Any]] = {
    "as_it_is": {"statistics": 0.0},
    "statistics": {"statistics": 1.0, "histogram": False},
    "histogram": {"statistics": 0.0, "histogram": True},
    "statistics_half": {"statistics": 0.5, "histogram": False},
    "both": {"statistics": 1.0, "histogram": True},
    "both_half": {"statistics": 0.5, "histogram": True},
    "both_then_self_training": {"statistics": 1.0, "histogram": True, "learning": "self_training"},
    "both_then_cps_cutmix": {"statistics": 1.0, "histogram": True, "learning": "cps_cutmix"},
}
"""What is tried without labels, by name."""
CONTINUED = ("as_it_is", "statistics", "histogram", "both")
"""From what the training with two labelled slices starts, beside nothing."""


def run(quick: bool) -> Result:
    """Train the source, adapt, and train on, with three seeds."""
    keep_freed_memory()
    seeds = (0,) if quick else (0, 1, 2)
    shares = {"updates": 10 if quick else UPDATES}, {"updates": 10 if quick else MORE_UPDATES}
    image, cells = (tifffile.imread(data_folder() / "flyem_medulla" / name) for name in ("raw.tif", "labels_cells.tif"))
    if quick:
        image, cells = image[:24, :96, :96], cells[:24, :96, :96]
    labelled = LABELLED if not quick else (6, 18)
    truth = np.stack([find_boundaries(plane, mode="thick") for plane in cells])
    scored = unlabelled(len(truth), labelled)
    dices: dict[str, list[float]] = {}
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        source = _source(Path(place) / "gala")
        labels = {"boundary": {z: truth[z] for z in labelled}}
        target = stack_project(Path(place) / "flyem", image, VOXEL, labels)
        for seed in seeds:
            begun = time.monotonic()
            for name, mask in _tried(source, target, seed, shares, quick):
                dices.setdefault(name, []).append(dice_3d(mask[scored], truth[scored]))
            seconds.append(time.monotonic() - begun)
    value, plain = (float(np.mean(dices[f"0_slices_{name}"])) for name in (_default(), "as_it_is"))
    return Result(
        "transfer",
        value,
        "boundary Dice without a labelled slice",
        "reported (Pagano et al. fell to .4 to .6 across samples)",
        None,
        plain,
        value / plain if plain else None,
        seeds,
        f"train z {', '.join(map(str, SOURCE_LABELLED))} of gala_fibsem/train; none, or z "
        f"{', '.join(map(str, labelled))}, of {len(truth)} of flyem_medulla; score its other {len(scored)} slices",
        {
            **{f"dice_{name}": spread(found) for name, found in dices.items()},
            "default_of_adapt": _default(),
            "updates_of_source": shares[0]["updates"],
            "updates_with_2_slices": shares[1]["updates"],
            "updates_without_labels": 5 if quick else UNLABELLED_UPDATES,
            "seconds_per_seed": spread(seconds),
        },
    )


def _default() -> str:
    """Return which of the adaptations is the default of `cristae adapt`."""
    default = AdaptSettings().model_dump()
    return next(name for name, how in ADAPTATIONS.items() if {**default, **how} == default)


def _source(path: Path) -> Project:
    """Return `gala_fibsem/train` as a project with boundaries labelled in every fifth slice."""
    folder = data_folder() / "gala_fibsem" / "train"
    cells = tifffile.imread(folder / "labels_cells.tif")
    labels = {z: find_boundaries(cells[z], mode="thick") for z in SOURCE_LABELLED}
    return stack_project(path, tifffile.imread(folder / "raw.tif"), VOXEL, {"boundary": labels})


def _tried(
    source: Project, target: Project, seed: int, shares: tuple[dict[str, int], dict[str, int]], quick: bool
) -> list[tuple[str, np.ndarray]]:
    """Return the mask that each way to transfer comes to, by name."""
    first, more = (dict(TRAIN) | share | {"seed": seed} for share in shares)
    trained = cristae.train(source, **first)
    found, adapted = [], {}
    for name, how in ADAPTATIONS.items():
        pace = {"updates": 5, "tiles": 16} if quick else {"updates": UNLABELLED_UPDATES}
        adapted[name] = cristae.adapt(target, trained.path, seed=seed, **how, **pace)
        found.append((f"0_slices_{name}", _mask(target)))
    cristae.train(target, **more)
    found.append(("2_slices_alone", _mask(target)))
    cristae.train(target, **more | {"updates": first["updates"]})
    found.append(("2_slices_alone_as_long_as_source", _mask(target)))
    for name in CONTINUED:
        cristae.train(target, **more, start=str(adapted[name].path))
        found.append((f"2_slices_from_{name}", _mask(target)))
    return found


def _mask(target: Project) -> np.ndarray:
    """Return the boundaries that the network made last finds."""
    path = cristae.predict(target).path / "boundary.ome.zarr" / "labels" / "boundary"
    return open_volume(path).read() > 0
