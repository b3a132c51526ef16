"""`cristae track`: one id per cell through the volume, protrusions included, and why.

Separation names cells from the labelled slices; what it could not name, islands above all, is followed here from slice
to slice until it meets a body. The volume is read twice, a few slices at a time: once for a table of regions and of
how they overlap, once to write the ids.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cristae.allocation import keep_freed_memory
from cristae.annotations import IGNORE_ID, Annotations
from cristae.blockwise import Journal
from cristae.errors import DataError
from cristae.executors import Crew
from cristae.geometry import Box
from cristae.io.ome_zarr import build_pyramid, open_volume, shard_shape
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.cells import slice_layer
from cristae.stages.corrected import corrected_layer, corrected_run, corrections_of, in_words
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import keep_memory
from cristae.stages.options import Options
from cristae.stages.planes import Planes
from cristae.stages.predict import publish
from cristae.tracking import Tracks, find_tracks, relabeller
from cristae.tracking import TrackSettings as Following
from cristae.tracking.follow import Progress
from cristae.tracking.relabel import Relabeller
from cristae.volume import Volume
from cristae.wording import number_ranges


class TrackSettings(BaseModel):
    """Settings of `cristae track`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["assign", "greedy", "greedy_nearest"] = Field(
        "assign",
        description="all links at once, surest first; the rule of Machireddy et al.; that of the code released with it",
    )
    smallest_body_um2: float = Field(0.08, ge=0, description="a smaller part of a slice is an island")
    longest_gap: int = Field(16, ge=1, description="slices that a link may bridge")
    bad_slices: tuple[int, ...] = Field(
        (), description="slices to bridge, besides missing ones and the bad ones of the project"
    )


def track_settings(project: Project, changes: Mapping[str, Any]) -> TrackSettings:
    """Return the settings of a tracking: defaults, then project file, then `changes`."""
    return resolve_settings(TrackSettings, project.stage_settings("track"), changes)


def track(project: Project, settings: TrackSettings | None = None, options: Options | None = None) -> Run:
    """Give every cell that was separated last one id through the volume.

    Writes ``<class>.ome.zarr`` (uint32), shown beside the image too; ``links`` (a row per region of a slice: what it
    was linked to, why, and how certain it is), ``objects`` (a row per object, with how certain it is; those of kind
    ``island`` reach no body), ``conflicts`` (where labelled slices name one cell differently) and ``doubles`` (where a
    labelled slice gives one id to parts far apart that never meet), as Parquet and CSV.

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
    inputs = {"cells": cells.as_input} | _labels_since(project, cells, name) | corrections_of(project, cells, [name])
    run = project.run("track", settings, inputs)
    if nothing_to_do(project, run, options):
        return run
    options.check()
    settings, options = keep_memory("track", project, settings, options)
    keep_freed_memory()
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            _clear(run)
        if words := in_words({name: corrected_run(project, cells, name)}):
            options.notify(f"track: {words}")
        if "labels" in inputs:
            options.notify(
                f"track: labels of {name} were edited since its cells were separated, and hold on their slices as they "
                f"are now{_not_counted(project, cells, name)}; to separate the cells by them too: cristae cells "
                f"{project.path}"
            )
        tracks = _follow(project, cells, name, run, settings, options)
        found = _write_tables(tracks, run)
        build_pyramid(run.path / f"{name}.ome.zarr", options.crew(run.path).unordered)
        publish(run.path / f"{name}.ome.zarr", project.image_path / "labels" / name)
        run.update(name=name, learnt=[name], cells_run=cells.path.name, **found)
        _say(found, options)
    return run


def _labels_since(project: Project, cells: Run, name: str) -> dict[str, str]:
    """Return what labels a tracking rests on besides its cells: nothing unless they were edited since."""
    now = project.annotations.fingerprint([name])
    return {} if now == cells.manifest["inputs"].get("labels") else {"labels": now}


def _not_counted(project: Project, cells: Run, name: str) -> str:
    """Say on which labelled slices nothing holds: those labelled since, or left out when cells were separated."""
    new = sorted({*project.annotations.labelled_slices(name)} - {*map(int, cells.manifest["labelled_slices"])})
    return f", but for slices {number_ranges(new)}, which cells were not separated by" if new else ""


@dataclass(frozen=True)
class _Anchors(Mapping[int, np.ndarray]):
    """Ids of labelled slices by z, read when they are asked for; `IGNORE_ID` where nobody looked."""

    annotations: Annotations
    name: str
    slices: tuple[int, ...]

    def __getitem__(self, z: int) -> np.ndarray:
        if z not in self.slices:
            raise KeyError(z)
        return self.annotations.read_ids(self.name, z)

    def __contains__(self, z: object) -> bool:
        return z in self.slices

    def __iter__(self) -> Iterator[int]:
        return iter(self.slices)

    def __len__(self) -> int:
        return len(self.slices)


def _follow(project: Project, cells: Run, name: str, run: Run, settings: TrackSettings, options: Options) -> Tracks:
    source = open_volume(corrected_layer(project, cells, name))
    _, y, x = source.grid.voxel_size
    following = Following(
        method=settings.method,
        smallest_body_px=max(1, round(settings.smallest_body_um2 * 1e6 / (y * x))),
        bad_slices=tuple(sorted({*settings.bad_slices, *project.lost_slices})),
        longest_gap=settings.longest_gap,
        unseen_id=IGNORE_ID,
    )
    anchors = _Anchors(project.annotations, name, tuple(map(int, cells.manifest["labelled_slices"])))
    # Stored slice by slice, and read so: workers share no slab.
    slices = Planes(source, thickness=shard_shape(source)[0])
    crew, bar, n = options.crew(run.path), options.progress("track"), len(slices)

    def first(done: int, total: int) -> None:
        bar(done, total + n)

    def second(done: int, total: int) -> None:
        bar(n + done, total + n)

    try:
        tracks = find_tracks(slices, anchors, settings=following, progress=first, ordered=crew.ordered)
        target = slice_layer(run.path / f"{name}.ome.zarr", source.grid)
        _draw(relabeller(slices, tracks, anchors, IGNORE_ID), target, Journal(run.path / "slices"), crew, second)
    except ValueError as error:
        raise DataError(f"the cells of {cells.path.name} cannot be tracked: {error}") from error
    return tracks


def _draw(draw: Relabeller, target: Volume, journal: Journal, crew: Crew, progress: Progress) -> None:
    """Write the ids of all slices that are not there yet."""
    tiling = "slices"
    finished = journal.finished(tiling)
    todo = [z for z in range(target.shape[0]) if str(z) not in finished]

    def work(z: int) -> int:
        ids = draw(z)
        target.write(Box((z, 0, 0), (z + 1, *ids.shape)), ids[None])
        return z

    for done, z in enumerate(crew.unordered(work, todo), start=len(finished) + 1):
        journal.add(tiling, str(z))
        progress(done, target.shape[0])


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
        "highest_id": int(max(tracks.ids.max(initial=0), tracks.shared.id.max(initial=0))),
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
