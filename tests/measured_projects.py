"""Projects with measurements written by hand, in the form of `cristae measure`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel

from cristae.features import curvature, glcm, holes, moments, morphology, proximity, skeleton, zones
from cristae.features.edge import blank_cut, meaningless_when_cut
from cristae.features.spectrum import spectrum_definitions
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.project import Project

VOXEL_SIZE = (10.0, 5.0, 5.0)
NUMBERS = {"cell": 9, "nucleus": 8, "nucleolus": 11, "mitochondrion": 60, "lysosome": 25, "endosome": 14}
SIZES = {"cell": 400.0, "nucleus": 120.0, "nucleolus": 4.0, "mitochondrion": 0.4, "lysosome": 0.1, "endosome": 0.06}
EVERYWHERE = {**moments.DEFINITIONS, **morphology.DEFINITIONS, **holes.DEFINITIONS, **curvature.DEFINITIONS}
TEXTURE = {**glcm.DEFINITIONS, **zones.DEFINITIONS, **spectrum_definitions(4)}
MEANINGS = {**EVERYWHERE, **TEXTURE, **proximity.DEFINITIONS, **skeleton.DEFINITIONS}
SMALL = ("volume_um3", "solidity", "sphericity", "glcm_contrast")


class Settings(BaseModel):
    bins: int = 32


def measured_objects(sample, seed=0, shift=0.0, numbers=None, few=False):
    """Return a table of objects; solidity and GLCM contrast of nuclei are `shift` standard deviations higher."""
    generator = np.random.default_rng(seed)
    numbers = NUMBERS if numbers is None else numbers
    tables = []
    for kind, n in numbers.items():
        names = [*SMALL] if few else [*EVERYWHERE, *TEXTURE]
        names += [] if few else [*(proximity.DEFINITIONS if kind == "nucleolus" else ())]
        names += [] if few else [*(skeleton.DEFINITIONS if kind == "mitochondrion" else ())]
        found = {name: generator.gamma(4, 0.25, n) for name in names}
        volume = SIZES.get(kind, 1.0) * generator.lognormal(0, 0.5, n)
        found |= {"volume_um3": volume, "solidity": np.clip(generator.normal(0.85, 0.04, n), 0, 1)}
        if kind == "nucleus":
            found["solidity"] = found["solidity"] + 0.04 * shift
            found["glcm_contrast"] = found["glcm_contrast"] + 0.5 * shift
        cells = np.arange(1, numbers.get("cell", 0) + 1)
        parent = generator.choice(np.append(cells, 0), n) if cells.size else np.zeros(n)
        found |= {
            "n_voxels": np.maximum(1, volume * 1e9 / np.prod(VOXEL_SIZE)).astype(np.int64),
            "touches_edge": generator.uniform(size=n) < (0.5 if kind == "cell" else 0.15),
            "parent_cell_id": pd.array([None] * n if kind == "cell" else parent.astype(np.int64), "Int64"),
        }
        table = pd.DataFrame({"sample_id": sample, "class": kind, "object_id": np.arange(1, n + 1), **found})
        tables.append(blank_cut(table, meaningless_when_cut(table.columns)))
    return (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(columns=["sample_id", "class", "object_id", "n_voxels"])
    )


def measured_project(folder: Path, name: str, objects=None, settings=None, **facts):
    """Make a project with an image and a finished run of `measure`."""
    project = Project.create(folder / name, VOXEL_SIZE)
    grid = Grid((2, 8, 8), VOXEL_SIZE)
    create_volume(project.image_path, grid, np.uint8, "image").write(grid.box, np.zeros(grid.shape, np.uint8))
    write_facts(project.image_path, {"digest": name})
    objects = measured_objects(name, few=True) if objects is None else objects
    settings, inputs = settings or Settings(), facts.pop("inputs", {"image": name})
    run = project.run("measure", settings, inputs)
    with project.record(run, settings, inputs):
        objects.to_parquet(run.path / "objects.parquet", index=False)
        objects.to_csv(run.path / "objects.csv", index=False)
        meanings = [
            {"name": key, "unit": one.unit, "definition": one.meaning, "equation": one.equation, "paper": one.paper}
            for key, one in MEANINGS.items()
        ]
        (run.path / "dictionary.json").write_text(json.dumps({"objects": meanings, "relations": [], "settings": {}}))
        run.update(**{"classes": list(dict.fromkeys(objects["class"])), "cell": "cell"} | facts)
    return project
