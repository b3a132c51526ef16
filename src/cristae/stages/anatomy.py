"""`cristae anatomy`: the cell that every organelle belongs to, and what lies across cells.

Objects and cells are read once, block by block; how many voxels each object shares with each cell is counted in every
block and added up, so that a volume need not fit in memory. Nucleoli are given their nucleus in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.allocation import keep_freed_memory
from cristae.anatomy import across_cells, parents
from cristae.blockwise import Progress
from cristae.errors import DataError
from cristae.executors import Crew
from cristae.geometry import Block, Voxels, blocks
from cristae.io.ome_zarr import open_volume
from cristae.metrics.instance import Contingency, add_up, contingency
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.corrected import corrected_layer, corrected_run, corrections_of, in_words, newest_cells
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import keep_memory
from cristae.stages.objects import objects, objects_inputs, objects_settings, write_table
from cristae.stages.options import Options
from cristae.volume import Volume

BLOCK: Voxels = (16, 1024, 1024)
"""Unit of work. The result does not depend on it."""


class AnatomySettings(BaseModel):
    """Settings of `cristae anatomy`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest_share: float = Field(
        0.05, ge=0, le=1, description="share of an object in a second cell from which on it lies across cells"
    )
    nucleus: str = Field("nucleus", description="class of nuclei")
    nucleolus: str = Field("nucleolus", description="class of what lies in nuclei")


def anatomy_settings(project: Project, changes: Mapping[str, Any]) -> AnatomySettings:
    """Return the settings of the anatomy: defaults, then project file, then `changes`."""
    return resolve_settings(AnatomySettings, project.stage_settings("anatomy"), changes)


def anatomy(project: Project, settings: AnatomySettings | None = None, options: Options | None = None) -> Run:
    """Find the parent cell of every organelle, and list what lies across two cells.

    Rests on the cells that were tracked last (separated last, where none were), and on the objects of the last
    prediction, which are made first where there are none. Writes two tables as Parquet and CSV. ``parents`` has a row
    per object: ``class``, ``object_id``, ``n_voxels``, ``volume_um3``, ``parent_cell_id`` (0: in no cell),
    ``share_inside`` (of its voxels, in that cell), and for nucleoli ``parent_nucleus_id`` and ``share_in_nucleus``.
    ``across`` has a row per object that lies across cells and cell: ``class``, ``object_id``, ``cell_id``,
    ``n_voxels``, ``share``.

    Raises
    ------
    DataError
        If there are no cells, or nothing was predicted.
    ResourceError
        If the project is in use or the disk is full.
    """
    settings, options = settings or anatomy_settings(project, {}), options or Options()
    cells = newest_cells(project)
    if cells is None:
        raise DataError(
            f"{project.path} has no cells yet that organelles could lie in; find them with: cristae cells "
            f"{project.path}, then cristae track {project.path}"
        )
    labelled = current_objects(project, options)
    # Without tracks "track" is empty, so that this is stale as soon as there are some.
    inputs = {"track": ""} | {one.stage: one.as_input for one in (labelled, cells)}
    name = str(cells.manifest["name"])
    inputs |= corrections_of(project, labelled, labelled.manifest["classes"]) | corrections_of(project, cells, [name])
    run = project.run("anatomy", settings, inputs)
    if nothing_to_do(project, run, options):
        return run
    options.check()
    settings, options = keep_memory("anatomy", project, settings, options)
    keep_freed_memory()
    with project.lock(), project.record(run, settings, inputs):
        if cells.stage == "cells":
            options.notify("anatomy: cells were not tracked; those of the separation are used")
        runs = {one: corrected_run(project, labelled, one) for one in labelled.manifest["classes"]}
        if words := in_words(runs | {name: corrected_run(project, cells, name)}):
            options.notify(f"anatomy: {words}")
        ids = {one: _ids_of(project, labelled, one) for one in labelled.manifest["classes"]}
        found, across = _relate(ids, _ids_of(project, cells, name), settings, run, options)
        write_table(found, run.path / "parents")
        write_table(across, run.path / "across")
        n_across = across.groupby("class")["object_id"].nunique()
        n_outside = found.loc[found["parent_cell_id"] == 0, "class"].value_counts()
        classes = list(labelled.manifest["classes"])
        run.update(
            name=name,
            classes=classes,
            objects_run=labelled.path.name,
            cells_run=cells.path.name,
            n_objects={one: int((found["class"] == one).sum()) for one in classes},
            n_across={one: int(n_across.get(one, 0)) for one in classes},
            n_outside={one: int(n_outside.get(one, 0)) for one in classes},
        )
        _say(run, options)
    return run


def current_objects(project: Project, options: Options) -> Run:
    """Return the objects of the last prediction; make them where there are none."""
    found, predicted = project.latest("objects"), project.latest("predict")
    if found and predicted and found.manifest["inputs"] == objects_inputs(project, predicted):
        return found
    # Doing this again is for `cristae objects`.
    return objects(project, objects_settings(project, {}), replace(options, force=False))


def _relate(
    objects_of: Mapping[str, Volume], cells: Volume, settings: AnatomySettings, run: Run, options: Options
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of parents and of what lies across, of all classes."""
    found, across = [], []
    for name, volume in objects_of.items():
        shared = _count(volume, cells, options.crew(run.path), options.progress(f"parents of {name}"))
        table = parents(shared)
        table.insert(0, "class", pd.Series([name] * len(table), dtype="str"))
        table.insert(3, "volume_um3", table["n_voxels"] * (math.prod(volume.grid.voxel_size) / 1e9))
        nuclei = pd.DataFrame({"object_id": [], "parent_cell_id": [], "share_inside": []})
        if name == settings.nucleolus and settings.nucleus in objects_of:
            housing, progress = objects_of[settings.nucleus], options.progress(f"nuclei of {name}")
            nuclei = parents(_count(volume, housing, options.crew(run.path), progress))
        inside = nuclei.set_index("object_id").reindex(table["object_id"])
        table.insert(5, "parent_nucleus_id", inside["parent_cell_id"].astype("Int64").reset_index(drop=True))
        table["share_in_nucleus"] = inside["share_inside"].to_numpy(np.float64)
        found.append(table)
        beyond = across_cells(shared, settings.smallest_share)
        beyond.insert(0, "class", pd.Series([name] * len(beyond), dtype="str"))
        across.append(beyond)
    return pd.concat(found, ignore_index=True), pd.concat(across, ignore_index=True)


def _ids_of(project: Project, run: Run, name: str) -> Volume:
    return open_volume(corrected_layer(project, run, name))


def _count(volume: Volume, within: Volume, crew: Crew, progress: Progress) -> Contingency:
    """Count the voxels that objects of two volumes share; what is no object of the first is left out."""
    todo = list(blocks(volume.grid.box, BLOCK))

    def work(block: Block) -> Contingency:
        ids = volume.read(block.write)
        place = ids != 0
        if not place.any():
            return contingency(np.zeros(0, np.uint32), np.zeros(0, np.uint32))
        return contingency(ids[place], within.read(block.write)[place])

    counts = []
    for done, count in enumerate(crew.unordered(work, todo), start=1):
        counts.append(count)
        progress(done, len(todo))
    return add_up(counts)


def _say(run: Run, options: Options) -> None:
    facts = run.manifest
    for name in facts["classes"]:
        options.notify(
            f"anatomy: {name}: {facts['n_objects'][name]} objects, {facts['n_across'][name]} of them lie across cells, "
            f"{facts['n_outside'][name]} in no cell"
        )
    if any(facts["n_across"].values()):
        options.notify(
            "anatomy: what lies across cells is listed in across.csv: there, cells are cut in the wrong place, or "
            "objects are merged"
        )
