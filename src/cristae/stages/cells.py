"""`cristae cells`: every cell in every slice, from the labelled slices, the network's maps and the image.

The volume is worked off gap by gap, from one labelled slice to the next; gaps know nothing of each other, so that they
can be worked on side by side, and a killed run goes on with the gaps that are missing. Which method is used is
decided by trying them: each labelled slice in turn is left out and found again from its two neighbours.
"""

from __future__ import annotations

import itertools
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.annotations import IGNORE_ID
from cristae.blockwise import Journal, n_workers, unordered
from cristae.errors import DataError, UsageError
from cristae.flow import PRESETS
from cristae.geometry import Box, Grid, Nanometres
from cristae.io.ome_zarr import Storage, build_pyramid, create_volume, open_volume
from cristae.metrics.instance import contingency
from cristae.metrics.matching import dice_by_match, summarise_dice
from cristae.project import Project, Run
from cristae.separation.combine import SeparationSettings
from cristae.separation.gap import Gap
from cristae.separation.grow import Growth
from cristae.separation.handover import Handovers
from cristae.separation.paths import reduction_for
from cristae.separation.separate import METHODS, TABLE2, separate
from cristae.settings import resolve_settings
from cristae.stages.gaps import GapSources
from cristae.stages.options import Options
from cristae.volume import Volume
from cristae.wording import number_ranges

IDS_PER_GAP = 1_000_000
"""New objects of each gap are numbered from a multiple of this above the highest labelled id."""

NO_FLOW = "flow adds nothing here: the network's maps alone do as well"


class CellsSettings(BaseModel):
    """Settings of `cristae cells`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("", description="class of instances; empty means the only one there is")
    method: str = Field("auto", description="auto tries all on labelled slices; or one of them by name")
    slices: tuple[int, ...] = Field((), description="labelled slices to start from; empty means all")
    interior_threshold: float = Field(0.5, gt=0, le=1, description="probability from which on a voxel is of a cell")
    boundary_threshold: float = Field(0.5, gt=0, le=1, description="probability that counts as boundary when it is cut")
    barrier: float = Field(300.0, ge=0, description="what a sure boundary costs a path, in times its own length")
    new_height: float = Field(0.5, ge=0, le=1.01, description="boundary around a cell that no labelled slice meets")
    new_depth: float = Field(0.25, ge=0, le=1, description="boundary below which voxels of such a cell count")
    weakest: float = Field(0.4, ge=0, le=1, description="basins are joined where the mean boundary is below this")
    new_um3: float = Field(2e-4, ge=0, description="least volume of a cell that no labelled slice meets, in µm³")
    rim_px: int = Field(2, ge=0, le=20, description="voxels along every outline that are flooded a second time")
    flow: Literal["dis", "machireddy2023", "released"] = Field("dis", description="how slices are matched")
    flow_reduction: int = Field(2, ge=1, le=16, description="slices are reduced by this before they are matched")
    neighbours: Literal["nearest", "both"] = Field("both", description="labelled slices that flow methods carry from")
    edge_nm: float = Field(20.0, ge=0, description="cuts this near to the edge of the interior are left out")
    smallest_body_um2: float = Field(0.08, ge=0, description="a smaller part of a slice is an island, never cut")
    tries: int = Field(5, ge=1, description="labelled slices that methods are tried on, evenly spread")
    try_px: int = Field(1024, ge=64, description="longest side of slices when methods are tried; larger are reduced")
    max_ram_gb: float = Field(4.0, gt=0, description="memory that gaps in work may take")


def cells_settings(project: Project, changes: Mapping[str, Any]) -> CellsSettings:
    """Return the settings of a separation: defaults, then project file, then `changes`."""
    settings = resolve_settings(CellsSettings, project.stage_settings("cells"), changes)
    if settings.method not in ("auto", *METHODS):
        raise UsageError(f"unknown method {settings.method!r}; there are auto, {', '.join(METHODS)}")
    return settings


def cells(project: Project, settings: CellsSettings | None = None, options: Options | None = None) -> Run:
    """Give every cell in every slice its id.

    Writes ``<class>.ome.zarr`` (uint32 ids; those of the labelled slices, and new ones for cells that no labelled
    slice meets), and, where methods were tried, ``methods.csv`` (one row per method and left-out slice).

    Raises
    ------
    DataError
        If there are no labelled slices with ids, or a map that the method needs was not predicted.
    UsageError
        If there are several classes of instances and none is named, or a named slice has no labels.
    ResourceError
        If the project is in use or the disk is full.
    """
    settings, options = settings or cells_settings(project, {}), options or Options()
    name = _class_name(project, settings.name)
    labelled = _labelled_slices(project, name, settings.slices)
    predicted = project.latest("predict")
    found = set(predicted.manifest["classes"]) if predicted else set()
    inputs = {
        "image": str(project.image_facts["digest"]),
        "labels": project.annotations.fingerprint([name]),
        "predict": f"{predicted.id} of {predicted.manifest['ended']}" if predicted else "",
    }
    run = project.run("cells", settings.model_copy(update={"max_ram_gb": None}), inputs)
    if run.finished and not options.force:
        project.ask_again(run)
        options.notify(f"cells: nothing to do, {run.path.name} is finished (do it again with --force)")
        return run
    maps = {part: _map(predicted, f"{name}_{part}", found) for part in ("interior", "boundary")}
    sources = GapSources(project, name, maps["interior"], maps["boundary"], labelled)
    if settings.method != "auto" and not sources.can(settings.method):
        possible = ", ".join(method for method in METHODS if sources.can(method))
        lacking = " and ".join(part for part, volume in maps.items() if volume is None)
        raise DataError(
            f"{settings.method} needs a map of the interior, the boundary or both, and there is no {lacking} map of "
            f"{name}; predict one (cristae train, cristae predict), or choose among {possible}"
        )
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            _clear(run)
        size = " × ".join(f"{length:g}" for length in project.image.grid.voxel_size)
        options.notify(f"cells: {name} from slices {number_ranges(labelled)}, voxels of {size} nm (z, y, x)")
        method = settings.method
        if method == "auto":
            method = _choose(sources, settings, run, options)
        n_new = _separate_all(sources, method, settings, run, options)
        run.update(name=name, learnt=[name], method=method, labelled_slices=list(labelled), n_new=n_new)
    return run


def _class_name(project: Project, wanted: str) -> str:
    """Return the class of instances that is meant."""
    names = [name for name in project.annotations.classes if project.annotations.has_instances(name)]
    if (wanted and wanted not in names) or not names:
        raise DataError(
            f"{project.path} has no labelled slices with ids of {wanted or 'cells'}; import some with: "
            f"cristae import labels {project.path} SOURCE --class {wanted or 'cell'} --instances"
        )
    if not wanted and len(names) > 1:
        raise UsageError(f"there are several classes of instances ({', '.join(names)}); name one: --set cells.name=...")
    return wanted or names[0]


def _labelled_slices(project: Project, name: str, wanted: Sequence[int]) -> tuple[int, ...]:
    known = project.annotations.labelled_slices(name)
    absent = sorted(set(wanted) - set(known))
    if absent:
        raise UsageError(f"slices {number_ranges(absent)} have no labels of {name}; there are {number_ranges(known)}")
    if not known:
        raise DataError(f"{project.path} has no labelled slice of {name}; import some with: cristae import labels")
    return tuple(sorted(wanted)) or known


def _map(predicted: Run | None, name: str, found: set[str]) -> Volume | None:
    if predicted is None or name not in found:
        return None
    return open_volume(predicted.path / f"{name}.ome.zarr")


def separation(settings: CellsSettings, gap: Gap, voxel_size: Nanometres, max_bytes: float) -> SeparationSettings:
    """Return the settings of a separation in voxels, for one gap of slices of this voxel size."""
    pixel = min(voxel_size[1:])
    smallest = min(voxel_size)
    z, y, x = (size / smallest for size in voxel_size)
    growth = Growth(
        barrier=settings.barrier,
        steps=(z, y, x),
        new_height=round(settings.new_height * 255),
        new_depth=round(settings.new_depth * 255),
        weakest=settings.weakest * 255,
        new_voxels=max(1, round(settings.new_um3 * 1e9 / math.prod(voxel_size))),
        rim=settings.rim_px,
    )
    return SeparationSettings(
        interior_threshold=max(1, round(settings.interior_threshold * 255)),
        boundary_threshold=max(1, round(settings.boundary_threshold * 255)),
        edge_distance_px=settings.edge_nm / pixel,
        smallest_body_px=round(settings.smallest_body_um2 * 1e6 / (voxel_size[1] * voxel_size[2])),
        neighbours=settings.neighbours,
        flow=replace(PRESETS[settings.flow], reduction=settings.flow_reduction),
        growth=growth,
        reduction=reduction_for(gap, max_bytes),
    )


def flow_adds_nothing(means: pd.Series) -> bool:
    """Say whether a method of Table 2 without flow does as well as the best with it, given the mean Dice by method."""
    flows = [name for name in means.index if "flow" in name]
    others = [name for name in TABLE2 if "flow" not in name and name in means.index]
    return bool(flows and others and means[others].max() >= means[flows].max() - 0.002)


def _choose(sources: GapSources, settings: CellsSettings, run: Run, options: Options) -> str:
    """Leave out one labelled slice at a time, find its cells by every method, and return the best one."""
    methods = [name for name in METHODS if sources.can(name)]
    inner = sources.labelled[1:-1]
    if not inner or len(methods) == 1:
        chosen = "paths" if "paths" in methods else methods[-1]
        options.notify(f"cells: {chosen}, as there are too few labelled slices (3) or maps to try methods on")
        return chosen
    tried = [inner[round(i)] for i in np.linspace(0, len(inner) - 1, min(settings.tries, len(inner)))]
    progress, rows = options.progress("try methods"), []
    for done, (z, method) in enumerate(itertools.product(dict.fromkeys(tried), methods), start=1):
        rows.append(_try(sources, settings, z, method))
        progress(done, len(set(tried)) * len(methods))
    table = pd.DataFrame(rows)
    table.to_csv(run.path / "methods.csv", index=False)
    means = table.groupby("method", sort=False)["dice"].mean()
    chosen = str(means.idxmax())
    ranking = ", ".join(f"{name} {dice:.3f}" for name, dice in means.sort_values(ascending=False).items())
    options.notify(f"cells: mean Dice of cells on left-out slices: {ranking}")
    if flow_adds_nothing(means):
        options.notify(f"cells: {NO_FLOW}")
    options.notify(f"cells: {chosen} is used")
    run.update(tried={name: round(float(dice), 4) for name, dice in means.items()})
    return chosen


def _try(sources: GapSources, settings: CellsSettings, z: int, method: str) -> dict[str, Any]:
    """Score one method on one labelled slice that it is not shown."""
    at = sources.labelled.index(z)
    first, last = sources.labelled[at - 1], sources.labelled[at + 1]
    grid = sources.project.image.grid
    factor = max(1, -(-max(grid.shape[1:]) // settings.try_px))
    gap = sources.gap(first, last, factor)
    voxel_size = (grid.voxel_size[0], grid.voxel_size[1] * factor, grid.voxel_size[2] * factor)
    begun = time.monotonic()
    how = separation(settings, gap, voxel_size, settings.max_ram_gb * 2**30)
    found = next(itertools.islice(separate(gap, method, how), z - first, None))
    truth = sources.labels(z, factor)
    seen = sources.seen(z, factor)
    table = contingency(np.where(seen, found, 0), np.where(seen, truth, 0))
    known = np.union1d(sources.labels(first, factor), sources.labels(last, factor))
    scores = summarise_dice(dice_by_match(table, how.smallest_body_px // 10 + 1, known[known > 0]))
    return {
        "method": method,
        "z": z,
        "distance_slices": min(z - first, last - z),
        "n_cells": scores.n_objects,
        "dice": scores.mean,
        "worst": scores.worst,
        "seconds": round(time.monotonic() - begun, 3),
    }


def _separate_all(sources: GapSources, method: str, settings: CellsSettings, run: Run, options: Options) -> int:
    """Work off all gaps, several at a time; return the number of cells that no labelled slice meets."""
    target = slice_layer(run.path / f"{sources.name}.ome.zarr", sources.project.image.grid)
    gaps = sources.gaps()
    journal, tiling = Journal(run.path / "gaps"), f"{method} {gaps}"
    finished = journal.finished(tiling)
    workers = max(1, n_workers(options.executor))
    max_bytes = settings.max_ram_gb * 2**30 / workers
    highest = max(int(sources.labels(z).max()) for z in sources.labelled)
    progress = options.progress("cells")

    def work(index: int) -> str:
        first, last = gaps[index]
        gap = replace(sources.gap(first, last), first_new_id=highest + 1 + index * IDS_PER_GAP)
        how = separation(settings, gap, sources.project.image.grid.voxel_size, max_bytes)
        # A labelled slice between two gaps is written by the later one.
        stop = last if index + 1 < len(gaps) else last + 1
        n_new, handovers = 0, Handovers(gap.before, gap.after)
        for z, labels in enumerate(separate(gap, method, how), start=first):
            handovers.see(labels)
            if z == stop:
                continue
            top = int(labels.max())
            if top >= IGNORE_ID:
                raise DataError(
                    f"no ids are left for cells that no labelled slice meets: labels go up to {highest}; give cells "
                    f"numbers below {IGNORE_ID - len(gaps) * IDS_PER_GAP}, and import the labels again"
                )
            n_new = max(n_new, top - highest - index * IDS_PER_GAP)
            target.write(Box((z, 0, 0), (z + 1, *labels.shape)), labels[None].astype(np.uint32))
        renamed = ",".join(f"{found.before}:{found.after}" for found in handovers.found())
        return f"{index} {n_new} {renamed}"

    notes = list(finished)
    todo = [index for index in range(len(gaps)) if not any(note.split()[0] == str(index) for note in notes)]
    for note in unordered(work, todo, workers):
        journal.add(tiling, note)
        notes.append(note)
        progress(len(notes), len(gaps))
    build_pyramid(run.path / f"{sources.name}.ome.zarr")
    run.update(renamed=_tell_renamed(notes, gaps, options))
    return sum(int(note.split()[1]) for note in notes)


def _tell_renamed(notes: Sequence[str], gaps: Sequence[tuple[int, int]], options: Options) -> list[list[int]]:
    """Name the cells to which the labelled slices at the two ends of a gap seem to give different ids.

    Return the two ids and the two slices of each.
    """
    found = []
    for note in sorted(notes, key=lambda note: int(note.split()[0])):
        number, _, *renamed = note.split()
        first, last = gaps[int(number)]
        for pair in renamed[0].split(",") if renamed else ():
            before, after = map(int, pair.split(":"))
            found.append([before, after, first, last])
            options.notify(
                f"cells: what is {before} on slice {first} seems to be {after} on slice {last}; if it is one cell, "
                "give it one id and import the labels again"
            )
    return found


def slice_layer(path: Path, grid: Grid) -> Volume:
    """Open a layer of ids for writing, or make it; each slice is stored by itself, as gaps end anywhere."""
    if path.exists():
        try:
            return open_volume(path, mode="r+")
        except DataError:  # killed while it was being made
            shutil.rmtree(path)
    return create_volume(path, grid, np.uint32, "labels", Storage(chunk=(1, 512, 512), shard=(1, 2048, 2048)))


def _clear(run: Run) -> None:
    for path in run.path.glob("*.ome.zarr"):
        shutil.rmtree(path)
    (run.path / "gaps").unlink(missing_ok=True)
