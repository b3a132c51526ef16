"""Red flags of a project: what `cristae.advice.flags` makes of its tables, each with the box where to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cristae.advice.extents import NOWHERE, extents, joined, nowhere
from cristae.advice.flags import (
    anatomy_flags,
    doubtful,
    island_flags,
    jumps,
    odd_objects,
    put_together,
)
from cristae.blockwise import Progress
from cristae.executors import Crew
from cristae.geometry import Block, Voxels, blocks
from cristae.io.ome_zarr import open_volume
from cristae.project import Project, Run
from cristae.stages.anatomy import BLOCK, current_objects
from cristae.stages.corrected import as_corrected, corrected_layer, corrected_objects
from cristae.stages.objects import mask_classes
from cristae.stages.options import Options
from cristae.stages.status import fresh
from cristae.volume import Volume

_BOX = ("z_start", "y_start", "x_start", "z_stop", "y_stop", "x_stop")


@dataclass(frozen=True)
class Sources:
    """The runs that flags are raised from; None where there is none that fits.

    Parameters
    ----------
    objects, anatomy, track
        Objects of the last prediction, what lies in which cell, and cells.
    """

    objects: Run | None
    anatomy: Run | None
    track: Run | None

    @property
    def runs(self) -> dict[str, Run | None]:
        """The runs by their stages."""
        return {"objects": self.objects, "anatomy": self.anatomy, "track": self.track}


def find_sources(project: Project, predicted: Run, options: Options) -> Sources:
    """Return the runs that flags are raised from; objects are made where there are none yet."""
    made = current_objects(project, options) if mask_classes(project, predicted) else None
    anatomy, track = (fresh(project, stage) for stage in ("anatomy", "track"))
    if track is not None and anatomy is None and made is not None:
        options.notify(f"quality: for what lies in which cell, run cristae anatomy {project.path} first")
    return Sources(made, anatomy, track)


def red_flags(
    project: Project,
    slices: pd.DataFrame,
    sources: Sources,
    thresholds: tuple[float, float],
    folder: Path,
    options: Options,
) -> pd.DataFrame:
    """Return all flags of a project, the worst first, with the columns of `cristae.advice.flags` and a box in voxels.

    Parameters
    ----------
    project
        Where everything is.
    slices
        The table of slices of `cristae.stages.quality`.
    sources
        What to look at.
    thresholds
        Robust standard deviations from which on objects, and slices, are odd.
    folder
        Of the run.
    options
        How to work.
    """
    crew = options.crew(folder)
    odd, jump = thresholds
    found = [jumps(slices, jump), doubtful(slices, odd)]
    boxes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if sources.objects is not None:
        objects = _objects_now(project, sources.objects)
        boxes = _boxes_of_objects(project, objects, sources.objects, crew, options)
        found.append(odd_objects(_described(objects, boxes, project.image.shape, project.image.grid.voxel_size), odd))
    cell = str(sources.track.manifest["name"]) if sources.track else "cell"
    if sources.anatomy is not None:
        parents, across = (pd.read_parquet(sources.anatomy.path / f"{name}.parquet") for name in ("parents", "across"))
        nucleus = str(sources.anatomy.settings["nucleus"])
        found.append(anatomy_flags(parents, across, cell, nucleus))
    if sources.track is not None:
        tracked = pd.read_parquet(sources.track.path / "objects.parquet")
        found.append(island_flags(as_corrected(project, sources.track, tracked), cell))
    flags = put_together(found)
    of_cells = flags[(flags["class"] == cell) & (flags["object_id"] > 0)]
    if sources.track is not None and len(of_cells) and cell not in boxes:
        ids = np.unique(of_cells["object_id"].to_numpy(np.uint64))
        volume = open_volume(corrected_layer(project, sources.track, cell))
        boxes[cell] = ids, _boxes(volume, ids, crew, options.progress(f"find flagged {cell}s"))
    return _with_boxes(flags, boxes, project.image.shape)


def _objects_now(project: Project, made: Run) -> pd.DataFrame:
    """Return the objects of all classes, of corrected ones as they are now."""
    noted = pd.read_parquet(made.path / "objects.parquet")
    parts = []
    for name, rows in noted.groupby("class", sort=False):
        corrected = corrected_objects(project, made, str(name))
        parts.append(rows if corrected is None else corrected[list(rows.columns)])
    return pd.concat(parts, ignore_index=True) if parts else noted


def _boxes_of_objects(
    project: Project, objects: pd.DataFrame, made: Run, crew: Crew, options: Options
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for name, rows in objects.groupby("class", sort=False):
        ids = np.unique(rows["object_id"].to_numpy(np.uint64))
        volume = open_volume(corrected_layer(project, made, str(name)))
        found[str(name)] = ids, _boxes(volume, ids, crew, options.progress(f"boxes of {name}"))
    return found


def _boxes(volume: Volume, ids: np.ndarray, crew: Crew, progress: Progress) -> np.ndarray:
    """Return the boxes of objects, int64 ``(n, 6)``, from blocks that are read once."""
    todo = list(blocks(volume.grid.box, BLOCK))

    def work(block: Block) -> np.ndarray:
        return extents(volume.read(block.write), ids, block.write.start)

    found = nowhere(len(ids))
    for done, part in enumerate(crew.unordered(work, todo), start=1):
        found = joined(found, part)
        progress(done, len(todo))
    return found


def _described(
    objects: pd.DataFrame, boxes: Mapping[str, tuple[np.ndarray, np.ndarray]], shape: Voxels, size: Sequence[float]
) -> pd.DataFrame:
    """Add how much of its box an object fills, how long it is for its width, and whether the volume cuts it."""
    box = np.array([_box_of(boxes, name, number) for name, number in _keys(objects)]).reshape(-1, 6)
    sides = box[:, 3:] - box[:, :3]
    lengths = np.sort(np.maximum(sides, 1) * np.array(size), axis=1)
    return objects.assign(
        fill=objects["n_voxels"].to_numpy() / np.maximum(sides, 1).prod(axis=1),
        elongation=lengths[:, 2] / lengths[:, 0],
        touches_edge=(box[:, :3] == 0).any(axis=1) | (box[:, 3:] == np.array(shape)).any(axis=1),
    )


def _keys(table: pd.DataFrame) -> list[tuple[str, int]]:
    return list(zip(table["class"].astype(str), table["object_id"].astype(int), strict=True))


def _box_of(boxes: Mapping[str, tuple[np.ndarray, np.ndarray]], name: str, number: int) -> np.ndarray | None:
    if name not in boxes:
        return None
    ids, found = boxes[name]
    place = int(np.searchsorted(ids, np.uint64(number)))
    if place == len(ids) or int(ids[place]) != number or found[place, 0] == NOWHERE:
        return None
    return np.asarray(found[place])


def _with_boxes(flags: pd.DataFrame, boxes: Mapping[str, tuple[np.ndarray, np.ndarray]], shape: Voxels) -> pd.DataFrame:
    """Add the box of every flag: that of the object, or the whole slice."""
    rows = []
    for (name, number), z in zip(_keys(flags), flags["z"].astype(int), strict=True):
        box = _box_of(boxes, name, number) if number else np.array([z, 0, 0, z + 1, *shape[1:]])
        rows.append([None] * 6 if box is None else box.tolist())
    table = pd.DataFrame(rows, columns=list(_BOX), index=flags.index).astype("Int64")
    return pd.concat([flags, table], axis=1)
