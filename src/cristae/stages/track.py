"""`cristae track`: one id per cell through the volume, protrusions included, and why.

Separation names cells from the labelled slices; what it could not name, islands above all, is followed here from slice
to slice until it meets a body. The volume is read twice, a few slices at a time: once for a table of regions and of
how they overlap, once to write the ids.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cristae.annotations import IGNORE_ID
from cristae.blockwise import Journal, n_workers
from cristae.errors import DataError
from cristae.geometry import Box
from cristae.io.ome_zarr import build_pyramid, open_volume, shard_shape
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.cells import slice_layer
from cristae.stages.limits import keep_memory
from cristae.stages.options import Options
from cristae.stages.planes import Planes
from cristae.stages.predict import publish
from cristae.tracking import Tracks, follow
from cristae.tracking import TrackSettings as Following


class TrackSettings(BaseModel):
    """Settings of `cristae track`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["assign", "greedy", "greedy_nearest"] = Field(
        "assign",
        description="all links at once, surest first; the rule of Machireddy et al.; that of the code released with it",
    )
    smallest_body_um2: float = Field(0.08, ge=0, description="a smaller part of a slice is an island")
    longest_gap: int = Field(16, ge=1, description="slices that a link may bridge")
    bad_slices: tuple[int, ...] = Field((), description="slices to bridge, besides missing ones")


def track_settings(project: Project, changes: Mapping[str, Any]) -> TrackSettings:
    """Return the settings of a tracking: defaults, then project file, then `changes`."""
    return resolve_settings(TrackSettings, project.stage_settings("track"), changes)


def track(project: Project, settings: TrackSettings | None = None, options: Options | None = None) -> Run:
    """Give every cell that was separated last one id through the volume.

    Writes ``<class>.ome.zarr`` (uint32), shown beside the image too; ``links`` (a row per region of a slice: what it
    was linked to, and why), ``objects`` (a row per object; those of kind ``island`` reach no body), ``conflicts``
    (where labelled slices name one cell differently) and ``doubles`` (where a labelled slice gives one id to parts far
    apart that never meet), as Parquet and CSV.

    Raises
    ------
    DataError
        If cells have not been separated, or there is no number left for a new object.
    ResourceError
        If the project is in use or the disk is full.
    """
    settings, options = settings or track_settings(project, {}), options or Options()
    cells = project.latest("cells")
    if cells is None:
        raise DataError(f"{project.path} has no separated cells yet; find them with: cristae cells {project.path}")
    name = str(cells.manifest["name"])
    inputs = {"cells": f"{cells.id} of {cells.manifest['ended']}"}
    run = project.run("track", settings, inputs)
    if run.finished and not options.force:
        project.ask_again(run)
        options.notify(f"track: nothing to do, {run.path.name} is finished (do it again with --force)")
        return run
    settings, options = keep_memory("track", project, settings, options)
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            _clear(run)
        tracks = _follow(project, cells, name, run, settings, options)
        found = _write_tables(tracks, run)
        build_pyramid(run.path / f"{name}.ome.zarr")
        publish(run.path / f"{name}.ome.zarr", project.image_path / "labels" / name)
        run.update(name=name, cells_run=cells.path.name, **found)
        _say(found, options)
    return run


def _follow(project: Project, cells: Run, name: str, run: Run, settings: TrackSettings, options: Options) -> Tracks:
    source = open_volume(cells.path / f"{name}.ome.zarr")
    target = slice_layer(run.path / f"{name}.ome.zarr", source.grid)
    journal, tiling = Journal(run.path / "slices"), "slices"
    finished = journal.finished(tiling)

    def write(z: int, ids: np.ndarray) -> None:
        if str(z) not in finished:
            target.write(Box((z, 0, 0), (z + 1, *ids.shape)), ids[None])
            journal.add(tiling, str(z))

    _, y, x = source.grid.voxel_size
    missing = project.image_facts.get("missing", ())
    following = Following(
        method=settings.method,
        smallest_body_px=max(1, round(settings.smallest_body_um2 * 1e6 / (y * x))),
        bad_slices=tuple(sorted({*settings.bad_slices, *missing})),
        longest_gap=settings.longest_gap,
        workers=max(1, n_workers(options.executor)),
    )
    labelled = [int(z) for z in cells.manifest["labelled_slices"]]
    complete = set(project.annotations.complete_slices(name))
    anchors = {z: _anchor(project, name, z) for z in labelled if z in complete}
    try:
        # Cells are stored slice by slice, and read so: a slab of them would stay as long as one of its planes is held.
        planes = Planes(source, thickness=shard_shape(source)[0])
        return follow(planes, write, anchors, settings=following, progress=options.progress("track"))
    except ValueError as error:
        raise DataError(f"the cells of {cells.path.name} cannot be tracked: {error}") from error


def _anchor(project: Project, name: str, z: int) -> np.ndarray:
    ids = project.annotations.read_ids(name, z)
    return np.where(ids == IGNORE_ID, np.uint32(0), ids)


def _write_tables(tracks: Tracks, run: Run) -> dict[str, Any]:
    """Write the tables, and return what is worth saying of them."""
    objects, conflicts, doubles = tracks.objects(), tracks.conflicts(), tracks.doubles()
    tables = {"links": tracks.links(), "objects": objects, "conflicts": conflicts, "doubles": doubles}
    for stem, table in tables.items():
        table.to_parquet(run.path / f"{stem}.parquet", index=False)
        table.to_csv(run.path / f"{stem}.csv", index=False)
    kinds = objects["kind"].value_counts()
    return {
        "n_objects": len(objects),
        "n_lonely_islands": int(kinds.get("island", 0)),
        "n_new_bodies": int(kinds.get("body", 0)),
        "n_conflicts": len(conflicts),
        "doubles": [[int(one), int(z)] for one, z in doubles[["object", "slice"]].drop_duplicates().to_numpy()],
    }


def _say(found: Mapping[str, Any], options: Options) -> None:
    if found["n_lonely_islands"]:
        options.notify(f"track: {found['n_lonely_islands']} islands reach no cell; they are listed in objects.csv")
    if found["n_conflicts"]:
        options.notify(
            f"track: in {found['n_conflicts']} places a cell changes its id, as labelled slices name it differently; "
            "they are listed in conflicts.csv"
        )
    if found["doubles"]:
        words = ", ".join(f"{one} on slice {z}" for one, z in found["doubles"][:5])
        more = f" and {len(found['doubles']) - 5} more" * (len(found["doubles"]) > 5)
        options.notify(
            f"track: one id for parts that lie far apart and never meet: {words}{more}; if these are two cells, give "
            "one of them another id and import the labels again (doubles.csv)"
        )


def _clear(run: Run) -> None:
    for path in run.path.glob("*.ome.zarr"):
        shutil.rmtree(path)
    (run.path / "slices").unlink(missing_ok=True)
