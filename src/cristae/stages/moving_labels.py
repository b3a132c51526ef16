"""Labels follow the image: what was painted on raw slices lies on aligned ones too, and the other way round.

Raw and aligned slices each have a folder of labels. A slice of labels is either an original, painted there, or was
moved there from an original elsewhere, the digest of which it then notes as its ``origin``::

    bx1/annotations.ome.zarr                         on raw slices
    bx1/labels/align-<id>/annotations.ome.zarr       on those of an alignment

Originals are never changed by moving: going from raw to aligned slices and back leaves the raw labels, and so all runs
that rest on them, as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cristae.annotations import IGNORE, IGNORE_ID, Annotations
from cristae.blockwise import Progress
from cristae.errors import DataError
from cristae.geometry import Grid
from cristae.io.ome_zarr import list_labels, open_volume, read_facts
from cristae.preprocess.warp import inverse, warp_labels_plane
from cristae.project import Project, Run
from cristae.stages.options import Options
from cristae.volume import Volume
from cristae.wording import number_ranges

LabelFolder = Literal["annotations", "truth"]
MATRIX = ("yy", "yx", "y0", "xy", "xx", "x0")
"""Columns of a transform in ``transforms.parquet``: row by row of the matrix ``(2, 3)``."""


def check_raw(project: Project) -> tuple[Volume, dict[str, Any]]:
    """Return the raw image and what is noted of it.

    Raises
    ------
    DataError
        If no image has been imported completely.
    """
    facts = project.raw_facts
    if "digest" not in facts:
        raise DataError(f"{project.path} has no image yet; import one with: cristae import image {project.path} SOURCE")
    return open_volume(project.raw_path), facts


def align_run(project: Project, name: str) -> Run:
    """Return the finished align run of that name.

    Raises
    ------
    DataError
        If it is not there any more.
    """
    run = next((one for one in project.runs("align") if one.path.name == name and one.finished), None)
    if run is None:
        raise DataError(
            f"{name} is needed in {project.path}, and is not there or not finished; make it again with: cristae align "
            f"{project.path}, and the settings it had"
        )
    return run


def read_transforms(run: Run) -> np.ndarray:
    """Return where the pixels of the aligned slices of a run were recorded.

    Returns
    -------
    float64 (z, 2, 3)
        Pixels ``(y, x)`` of the aligned slice → pixels of the raw one.
    """
    table = pd.read_parquet(run.path / "transforms.parquet").sort_values("z")
    return table[list(MATRIX)].to_numpy(np.float64).reshape(-1, 2, 3)


def labels_on(project: Project, aligned: str, folder: LabelFolder) -> Annotations:
    """Return the labels on the slices of an align run, or, of an empty name, on the raw ones."""
    return Annotations(project.labels_of(aligned) / f"{folder}.ome.zarr", _grid(project, aligned))


def carry(
    project: Project,
    folder: LabelFolder,
    way: tuple[str, str],
    wanted: Mapping[str, Sequence[int]],
    options: Options,
) -> None:
    """Move originals from some slices to others; those that are there already as they are now are left out.

    Parameters
    ----------
    project
        In which labels lie.
    folder
        Which labels.
    way
        From and to: names of align runs, or "" for the raw slices.
    wanted
        Per class the slices whose labels replace even originals at the other end. All other originals are moved to
        where there is none.
    options
        Told what was done.
    """
    if not _has_originals(project.labels_of(way[0]) / f"{folder}.ome.zarr"):
        return
    source, target = (labels_on(project, end, folder) for end in way)
    matrices, n_moved = _matrices(project, way), 0
    progress = options.progress(f"move {folder}")
    todo = {name: _due(source, target, name, wanted.get(name, ())) for name in source.classes}
    total = sum(len(due) for due, _ in todo.values())
    for name, (due, kept) in todo.items():
        noted = source.noted(name)
        for complete in (True, False):
            slices = [z for z in due if bool(noted[z]["complete"]) is complete]
            if not slices:
                continue
            origins = {z: str(noted[z]["digest"]) for z in slices}
            # A slice is written when the next one is asked for.
            moved = _told(_moved(source, name, slices, matrices, target.grid.shape), n_moved, total, progress)
            target.write_slices(name, moved, complete=complete, origins=origins)
            n_moved += len(slices)
        if kept:
            options.notify(
                f"{folder}/{name}: slices {number_ranges(kept)} were painted at both ends and stay as they are at each"
            )
    if n_moved:
        end = "aligned" if way[1] else "raw"
        options.notify(f"{folder}: {n_moved} labelled slices of {', '.join(source.classes)} moved to the {end} slices")


def carry_all(project: Project, old: str, new: str, options: Options) -> None:
    """Move all labels to the slices of `new`: those painted on raw slices, and those painted on the slices of `old`."""
    folders: tuple[LabelFolder, ...] = ("annotations", "truth")
    for folder in folders:
        for start in dict.fromkeys(("", old)):
            if start != new:
                carry(project, folder, (start, new), {}, options)


def _has_originals(folder: Path) -> bool:
    """Say whether any slice was painted here: moved ones need no image to be left behind."""
    noted = (read_facts(folder / "labels" / name).get("slices", {}) for name in list_labels(folder))
    return any("origin" not in entry for slices in noted for entry in slices.values())


def _told(
    slices: Iterator[tuple[int, np.ndarray]], before: int, total: int, progress: Progress
) -> Iterator[tuple[int, np.ndarray]]:
    for done, one in enumerate(slices, start=before + 1):
        yield one
        progress(done, total)


def _grid(project: Project, aligned: str) -> Grid:
    if not aligned:
        return check_raw(project)[0].grid
    return open_volume(align_run(project, aligned).path / "image.ome.zarr").grid


def _matrices(project: Project, way: tuple[str, str]) -> np.ndarray:
    """Return where the pixels of the target lie in the source, per slice, ``(z, 2, 3)``."""
    start, end = way
    depth = _grid(project, end).shape[0]
    to_raw = read_transforms(align_run(project, end)) if end else np.tile(np.eye(2, 3), (depth, 1, 1))
    if not start:
        return to_raw
    found = []
    for there, here in zip(read_transforms(align_run(project, start)), to_raw, strict=True):
        back = inverse(there)
        found.append(np.concatenate([back[:, :2] @ here[:, :2], back[:, :2] @ here[:, 2:] + back[:, 2:]], axis=1))
    return np.stack(found)


def _due(source: Annotations, target: Annotations, name: str, wanted: Iterable[int]) -> tuple[list[int], list[int]]:
    """Return the slices to be moved, and those that differ but were painted at both ends."""
    there, replace = target.noted(name), set(wanted)
    due, kept = [], []
    for z, entry in sorted(source.noted(name).items()):
        if "origin" in entry:
            continue
        other = there.get(z)
        if other is None or z in replace or ("origin" in other and other["origin"] != entry["digest"]):
            due.append(z)
        elif "origin" not in other:
            kept.append(z)
    return due, kept


def _moved(
    source: Annotations, name: str, slices: Sequence[int], matrices: np.ndarray, shape: tuple[int, int, int]
) -> Iterator[tuple[int, np.ndarray]]:
    instances = source.has_instances(name)
    for z in slices:
        labels = source.read_ids(name, z) if instances else source.read_slice(name, z)
        yield z, warp_labels_plane(labels, matrices[z], shape[1:], IGNORE_ID if instances else IGNORE)
