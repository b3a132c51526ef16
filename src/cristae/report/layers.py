"""Layers that the report lets people look at: which there are, and reading little of them, however large they are.

What has been measured comes first, as its ids are those of the tables; then cells and objects that were not measured
yet; then predicted masks, which know no objects; then the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cristae.annotations import IGNORE, IGNORE_ID
from cristae.errors import DataError
from cristae.geometry import Box, Grid, Voxels, blocks
from cristae.io.ome_zarr import n_levels, open_volume
from cristae.project import Project, Run
from cristae.stages.colouring import usual_colour
from cristae.stages.corrected import corrected_layer, corrected_run, in_words, layers_of
from cristae.stages.measuring.sample import Known
from cristae.stages.objects import mask_classes
from cristae.stages.render_settings import CELL_COLOUR, GLASS
from cristae.stages.score_cells import last_cells
from cristae.stages.status import corrected_since
from cristae.volume import Volume

_BLOCK: Voxels = (64, 1024, 1024)


@dataclass(frozen=True)
class Layer:
    """One class as it can be shown.

    Parameters
    ----------
    name
        Of the class.
    levels
        Of the pyramid, the finest first: ids, or a mask.
    has_ids
        Whether objects are told apart.
    colour, opacity
        As in the pictures of `cristae render`.
    """

    name: str
    levels: tuple[Volume, ...]
    has_ids: bool
    colour: str
    opacity: float = 1.0

    @property
    def grid(self) -> Grid:
        """Grid of the finest level."""
        return self.levels[0].grid

    def plane(self, z: int, longest: int) -> np.ndarray:
        """Return slice `z` (of the finest level), ``(y, x)``, from the coarsest level of at least `longest` pixels."""
        return read_plane(self.levels, z, longest)

    def coarse(self, most_voxels: int) -> tuple[np.ndarray, Grid]:
        """Return the whole layer with at most about so many voxels, and the grid of what is returned.

        The finest level that is small enough; if none is, every n-th voxel of the coarsest.
        """
        level = next((one for one in self.levels if np.prod(one.shape) <= most_voxels), self.levels[-1])
        step = max(1, int(np.ceil((np.prod(level.shape) / most_voxels) ** (1 / 3))))
        if step == 1:
            return level.read(), level.grid
        shape = _triple(-(-n // step) for n in level.shape)
        found = np.zeros(shape, level.dtype)
        for block in blocks(level.grid.box, _BLOCK):
            first = [-(-start // step) for start in block.write.start]
            part = level.read(block.write)[
                tuple(slice(n * step - start, None, step) for n, start in zip(first, block.write.start, strict=True))
            ]
            found[tuple(slice(n, n + size) for n, size in zip(first, part.shape, strict=True))] = part
        z, y, x = (size * step for size in level.grid.voxel_size)
        return found, Grid(shape, (z, y, x), level.grid.origin)


@dataclass(frozen=True)
class Shown:
    """All layers, and what they are.

    Parameters
    ----------
    layers
        May be none.
    is_truth
        Whether they are the labels imported as truth.
    cell, nucleus
        Names of these classes.
    measured
        The measurement whose tables belong to the layers.
    words
        What is to be said of corrections, as sentences.
    """

    layers: tuple[Layer, ...]
    is_truth: bool
    cell: str
    nucleus: str
    measured: Run | None
    words: tuple[str, ...] = ()


def shown_layers(project: Project) -> Shown:
    """Find what a project has to look at; layers that are missing or damaged are left out."""
    measured = project.latest("measure")
    facts = measured.manifest if measured else {}
    cell, nucleus = str(facts.get("cell", "cell")), str(facts.get("nucleus", "nucleus"))
    is_truth, words = facts.get("source") == "truth", list[str]()
    if measured and not is_truth and corrected_since(project, measured):
        words.append("What was measured was corrected since, and is shown without its features; measure it again.")
        measured = None
    found = dict(_measured(project, measured)) if measured else {}
    if not found:
        is_truth, found = False, dict(_found(project))
    if not found:
        is_truth, found = True, dict(_truth(project))
    last = last_cells(project)
    if last and not is_truth:
        cell = str(last[0].manifest.get("name", cell))
    layers = []
    holds = any(name.startswith("nucleol") for name in found)
    found = {name: one for name, one in found.items() if one[0][0].dtype.kind in "iu"}
    for index, (name, (levels, has_ids)) in enumerate(found.items()):
        opacity = _opacity(name, (cell, nucleus), holds) if len(found) > 1 else 1.0
        colour = CELL_COLOUR if opacity < 1 and name == cell else usual_colour(project, name, index)
        layers.append(Layer(name, levels, has_ids, colour, opacity))
    if not is_truth and (corrected := in_words(_holding(project, measured, found))):
        words.insert(0, f"Shown as people corrected it: {corrected}.")
    return Shown(tuple(layers), is_truth, cell, nucleus, measured, tuple(words))


def read_plane(levels: tuple[Volume, ...], z: int, longest: int) -> np.ndarray:
    """Return the slice at `z` of the finest level from the coarsest that has `longest` pixels along its longer side."""
    level = next((one for one in reversed(levels) if max(one.shape[1:]) >= longest), levels[0])
    fine = levels[0].grid
    place = fine.origin[0] + z * fine.voxel_size[0]
    index = round((place - level.grid.origin[0]) / level.grid.voxel_size[0])
    index = min(level.shape[0] - 1, max(0, index))
    return level.read(Box((index, 0, 0), (index + 1, *level.shape[1:])))[0]


def open_levels(path: Path) -> tuple[Volume, ...]:
    """Open all levels of a pyramid, the finest first.

    Raises
    ------
    DataError
        If it is missing.
    """
    return tuple(open_volume(path, level) for level in range(n_levels(path)))


_Found = Iterator[tuple[str, tuple[tuple[Volume, ...], bool]]]


def _opacity(name: str, containers: tuple[str, str], with_nucleoli: bool) -> float:
    cell, nucleus = containers
    if name == cell:
        return GLASS["cell"]
    return GLASS["nucleus"] if name == nucleus and with_nucleoli else 1.0


def _holding(project: Project, measured: Run | None, names: Iterable[str]) -> dict[str, Run]:
    """Return the runs that the shown layers are of, by class."""
    if measured:
        sources, runs = measured.manifest.get("source_runs", {}), {run.path.name: run for run in project.runs()}
        return {name: runs[sources[name]] for name in names if sources.get(name) in runs}
    cells, labelled, predicted = last_cells(project), project.latest("objects"), project.latest("predict")
    found = {name: corrected_run(project, predicted, name) for name in names} if predicted else {}
    for run in filter(None, (labelled, (cells[1] or cells[0]) if cells else None)):
        found |= {name: corrected_run(project, run, name) for name in layers_of(run) if name in names}
    return found


def _measured(project: Project, run: Run) -> _Found:
    """Yield the layers that were measured, as far as they are still there."""
    sources = run.manifest.get("source_runs", {})
    for name in map(str, run.manifest.get("classes", ())):
        folder = project.path / "runs" / str(sources[name]) if name in sources else run.path
        path = folder / f"{name}.ome.zarr"
        if path.is_dir():
            yield from _ids(name, path)
        elif run.manifest.get("source") == "truth":
            yield from (one for one in _truth(project) if one[0] == name and one[1][1])


def _found(project: Project) -> _Found:
    cells, labelled, predicted = last_cells(project), project.latest("objects"), project.latest("predict")
    if cells:
        run = cells[1] or cells[0]
        name = str(run.manifest["name"])
        yield from _ids(name, corrected_layer(project, run, name))
    if labelled:
        for name in map(str, labelled.manifest.get("classes", ())):
            yield from _ids(name, corrected_layer(project, labelled, name))
    elif predicted and project.has_image:
        for name in map(str, mask_classes(project, predicted)):
            try:
                yield name, (open_levels(corrected_layer(project, predicted, name)), False)
            except DataError:
                continue


def _ids(name: str, path: Path) -> _Found:
    try:
        yield name, (open_levels(path), True)
    except DataError:
        return


def _truth(project: Project) -> _Found:
    for name in project.truth_classes:
        try:
            raw = project.truth.layer(name)
        except DataError:
            continue
        has_ids = raw.dtype != np.uint8
        yield name, ((Volume(Known(raw.array, IGNORE_ID if has_ids else IGNORE), raw.grid, "labels"),), has_ids)


def _triple(values: Iterator[int]) -> Voxels:
    z, y, x = values
    return z, y, x
