"""`cristae cells`: every cell in every slice, from the labelled slices, the network's maps and the image.

The volume is worked off gap by gap, from one labelled slice to the next; gaps know nothing of each other, so that they
can be worked on side by side, and a killed run goes on with the gaps that are missing. Which method is used is
decided by trying them: each labelled slice in turn is left out and found again from its two neighbours.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cristae.allocation import keep_freed_memory
from cristae.annotations import IGNORE_ID
from cristae.blockwise import Journal
from cristae.costs.memory import growth_bytes, growth_reduction
from cristae.errors import DataError, UsageError
from cristae.geometry import Box, Grid, Voxels
from cristae.io.ome_zarr import Storage, build_pyramid, create_volume, open_volume
from cristae.project import Project, Run
from cristae.separation.handover import Handovers
from cristae.separation.separate import METHODS, OURS, separate
from cristae.stages.cells_settings import CellsSettings, cells_settings, separation
from cristae.stages.choose import TRIALS, choose
from cristae.stages.finished import nothing_to_do
from cristae.stages.gaps import GapSources
from cristae.stages.limits import keep_memory
from cristae.stages.options import Options
from cristae.volume import Volume
from cristae.wording import number_ranges

IDS_PER_GAP = 1_000_000
"""New objects of each gap are numbered from a multiple of this above the highest labelled id."""


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
        "image": project.image_fingerprint,
        "labels": project.annotations.fingerprint([name]),
        "predict": predicted.as_input if predicted else "",
    }
    run = project.run("cells", settings.model_copy(update={"max_ram_gb": None}), inputs)
    if nothing_to_do(project, run, options):
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
    options.check()
    settings, options = keep_memory("cells", project, settings, options)
    keep_freed_memory()
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            _clear(run)
        size = " × ".join(f"{length:g}" for length in project.image.grid.voxel_size)
        options.notify(f"cells: {name} from slices {number_ranges(labelled)}, voxels of {size} nm (z, y, x)")
        method = settings.method
        if method == "auto":
            method = choose(sources, settings, run, options)
        _tell_reduced(sources, method, settings, run, options)
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


def _separate_all(sources: GapSources, method: str, settings: CellsSettings, run: Run, options: Options) -> int:
    """Work off all gaps, several at a time; return the number of cells that no labelled slice meets."""
    target = slice_layer(run.path / f"{sources.name}.ome.zarr", sources.project.image.grid)
    gaps = sources.gaps()
    journal, tiling = Journal(run.path / "gaps"), f"{method} {gaps}"
    finished = journal.finished(tiling)
    crew, at_most = options.crew(run.path), _at_once(sources, method, settings)
    highest = max(int(sources.labels(z).max()) for z in sources.labelled)
    progress = options.progress("cells")
    if at_most and at_most < min(crew.n_together, len(gaps)):
        options.notify(
            f"cells: memory lets {at_most} of {crew.n_together} gaps be worked on at a time; raise cells.max_ram_gb "
            f"({settings.max_ram_gb:g}), or lower cells.growth_gb ({settings.growth_gb:g}), with which cells grow at a "
            "coarser resolution"
        )

    def work(index: int) -> str:
        first, last = gaps[index]
        gap = replace(sources.gap(first, last), first_new_id=highest + 1 + index * IDS_PER_GAP)
        how = separation(settings, gap, sources.project.image.grid.voxel_size)
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
            if n_new > IDS_PER_GAP and index + 1 < len(gaps):
                raise DataError(
                    f"{method} finds more than {IDS_PER_GAP:,} cells between slices {first} and {last} that neither "
                    "knows, which would take the ids of the next gap; look at the maps there (so many are mostly "
                    "noise), raise cells.new_um3 or cells.interior_threshold, or choose another method"
                )
            target.write(Box((z, 0, 0), (z + 1, *labels.shape)), labels[None].astype(np.uint32))
        renamed = ",".join(f"{found.before}:{found.after}" for found in handovers.found())
        return f"{index} {n_new} {renamed}"

    notes = list(finished)
    todo = [index for index in range(len(gaps)) if not any(note.split()[0] == str(index) for note in notes)]
    for note in crew.unordered(work, todo, at_most):
        journal.add(tiling, note)
        notes.append(note)
        progress(len(notes), len(gaps))
    build_pyramid(run.path / f"{sources.name}.ome.zarr", crew.unordered)
    run.update(renamed=_tell_renamed(notes, gaps, options))
    return sum(int(note.split()[1]) for note in notes)


def _at_once(sources: GapSources, method: str, settings: CellsSettings) -> int | None:
    """Return how many gaps may be in work at a time, one at least; None where they hold too little to matter.

    Only methods that grow hold a gap as a whole.
    """
    if method not in OURS:
        return None
    growth, shapes = settings.growth_gb * 2**30, _shapes(sources)
    most = max(growth_bytes(shape, growth_reduction(shape, growth)) for shape in shapes)
    return max(1, int(settings.max_ram_gb * 2**30 // most))


def _shapes(sources: GapSources) -> list[Voxels]:
    """Return the shape of every gap in voxels."""
    _, height, width = sources.project.image.shape
    return [(last - first + 1, height, width) for first, last in sources.gaps()]


def _tell_reduced(sources: GapSources, method: str, settings: CellsSettings, run: Run, options: Options) -> None:
    """Note by how much slices are reduced in each gap while cells grow, and say so where it is by more than 1."""
    shapes = _shapes(sources) if method in OURS else []
    factors = [growth_reduction(shape, settings.growth_gb * 2**30) for shape in shapes]
    run.update(growth_reductions=factors)
    _, y, x = sources.project.image.grid.voxel_size
    for factor in sorted(set(factors) - {1}):
        lengths = [shape[0] for shape, one in zip(shapes, factors, strict=True) if one == factor]
        longest = f"{min(lengths)} to {max(lengths)}" if min(lengths) < max(lengths) else str(max(lengths))
        options.notify(
            f"cells: in {len(lengths)} of {len(shapes)} gaps ({longest} slices) cells grow at {y * factor:g} × "
            f"{x * factor:g} nm (y, x) in place of {y:g} × {x:g}, to keep to cells.growth_gb ({settings.growth_gb:g}); "
            "outlines are found at the full resolution. Thin processes may be lost; raise cells.growth_gb, or label "
            "a slice in between"
        )


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
    for name in (TRIALS, "gaps"):
        (run.path / name).unlink(missing_ok=True)
