"""A small measured project with cells, nuclei and mitochondria where one knows them, for the page that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel

from cristae.features import moments, morphology
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.project import Project

GRID = Grid((24, 64, 64), (20.0, 10.0, 10.0))
CLASSES = ("cell", "nucleus", "mitochondrion")
LARGE = 2**31 + 7
"""Id of the right cell."""
LABELLED = (3, 20)


class Settings(BaseModel):
    """Stands for the settings of a stage."""

    bins: int = 32


def layers() -> dict[str, np.ndarray]:
    """Return ids of two cells side by side, a nucleus in the middle of the left, and mitochondria in both."""
    z, y, x = np.indices(GRID.shape)
    found = {name: np.zeros(GRID.shape, np.uint32) for name in CLASSES}
    found["cell"][2:22, 4:60, 4:31], found["cell"][2:22, 4:60, 33:60] = 1, LARGE
    found["nucleus"][((z - 12) / 6) ** 2 + ((y - 32) / 12) ** 2 + ((x - 17) / 9) ** 2 < 1] = 5
    for number, (at, down, right) in enumerate(((12, 12, 46), (12, 32, 46), (12, 52, 46), (8, 52, 12)), start=1):
        found["mitochondrion"][(2 * (z - at)) ** 2 + (y - down) ** 2 + (x - right) ** 2 < 36] = number
    return found


def image() -> np.ndarray:
    """Return grey noise."""
    return np.random.default_rng(0).integers(90, 160, GRID.shape).astype(np.uint8)


def with_image(folder: Path, name: str = "bx1") -> Project:
    """Make a project with an image and nothing else."""
    project = Project.create(folder / name, GRID.voxel_size, CLASSES)
    create_volume(project.image_path, GRID, np.uint8, "image").write(GRID.box, image())
    write_facts(project.image_path, {"digest": "0", "missing": []})
    return project


def rows() -> pd.DataFrame:
    """Return the table of objects."""
    parents = {("nucleus", 5): 1, **{("mitochondrion", n): LARGE for n in (1, 2, 3)}, ("mitochondrion", 4): 1}
    found = []
    for name, ids in layers().items():
        for number, n in zip(*np.unique(ids[ids > 0], return_counts=True), strict=True):
            found.append(
                {
                    "sample_id": "bx1",
                    "class": name,
                    "object_id": int(number),
                    "n_voxels": int(n),
                    "touches_edge": False,
                    "volume_um3": n * 2e-6,
                    "solidity": 0.5 + 0.001 * int(number % 100),
                    "parent_cell_id": parents.get((name, int(number))),
                }
            )
    table = pd.DataFrame(found)
    return table.assign(parent_cell_id=table["parent_cell_id"].astype("Int64"))


def give_layers(project: Project, found: dict[str, np.ndarray]) -> str:
    """Write layers as those of a run of objects; return the name of its folder."""
    run = project.run("objects", Settings(), {})
    with project.record(run, Settings(), {}):
        for name, ids in found.items():
            create_volume(run.path / f"{name}.ome.zarr", GRID, np.uint32, "labels").write(GRID.box, ids)
        run.update(classes=list(found), n_objects={name: len(np.unique(ids)) - 1 for name, ids in found.items()})
    return run.path.name


def give_measurement(project: Project, source: str, table: pd.DataFrame) -> None:
    """Write a measurement of the layers of a run."""
    run = project.run("measure", Settings(), {"objects": source})
    with project.record(run, Settings(), {"objects": source}):
        table.to_parquet(run.path / "objects.parquet", index=False)
        table.to_csv(run.path / "objects.csv", index=False)
        known = {**moments.DEFINITIONS, **morphology.DEFINITIONS}
        columns = [
            {"name": name, "unit": one.unit, "definition": one.meaning} for name, one in known.items() if name in table
        ]
        (run.path / "dictionary.json").write_text(json.dumps({"objects": columns}))
        run.update(
            classes=list(CLASSES),
            cell="cell",
            nucleus="nucleus",
            source="found",
            source_runs=dict.fromkeys(CLASSES, source),
            families=["shape"],
        )


def explored(folder: Path) -> Project:
    """Make the whole project: image, layers, measurement, labels on two slices, truth of nuclei."""
    project = with_image(folder)
    give_measurement(project, give_layers(project, layers()), rows())
    nucleus = (layers()["nucleus"] > 0).astype(np.uint8)
    project.annotations.write_slices("nucleus", [(z, nucleus[z]) for z in LABELLED])
    project.truth.write_slices("nucleus", list(enumerate(np.roll(nucleus, 3, axis=2))))
    return project


def give_flags(project: Project) -> None:
    """Write red flags of an object, of one that the page does not hold, and of a slice."""
    nowhere = dict.fromkeys(("z_start", "y_start", "x_start", "z_stop", "y_stop", "x_stop"), pd.NA)
    box = {"z_start": 2, "y_start": 0, "x_start": 0, "z_stop": 5, "y_stop": 9, "x_stop": 9}
    flags = [
        {"kind": "odd object", "class": "mitochondrion", "object_id": 4, "z": -1, **nowhere},
        {"kind": "odd object", "class": "cell", "object_id": 99, "z": -1, **box},
        {"kind": "jump", "class": "nucleus", "object_id": 0, "z": 19, **nowhere},
    ]
    run = project.run("quality", Settings(), {})
    with project.record(run, Settings(), {}):
        table = pd.DataFrame(flags).assign(severity=0.5, reason="unlike the others")
        table.astype(dict.fromkeys(nowhere, "Int64")).to_parquet(run.path / "flags.parquet", index=False)
