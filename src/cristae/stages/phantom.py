"""`cristae phantom`: a project with a synthetic tumour, its exact truth, and a few labelled slices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cristae.blockwise import Execution, Journal
from cristae.errors import UsageError
from cristae.files import writable
from cristae.geometry import Grid
from cristae.io.ome_zarr import (
    build_pyramid,
    create_volume,
    is_ome_zarr,
    open_volume,
    read_facts,
    write_facts,
)
from cristae.phantom import CLASSES, PhantomSettings, build_scene
from cristae.phantom.volume import write_phantom
from cristae.project import Project
from cristae.stages.options import Options
from cristae.stages.planes import Planes
from cristae.stages.survey import survey
from cristae.volume import Volume

LAYERS = ("cell", *CLASSES)
"""Label layers of a phantom: ids of cells and of every organelle."""


def phantom(
    path: Path | str,
    settings: PhantomSettings,
    n_labelled: int = 7,
    with_cells: bool = False,
    options: Options | None = None,
) -> Project:
    """Make a project folder around a phantom.

    Instance ids of every class are kept under ``phantom_truth.ome.zarr/labels``; the masks of all slices become the
    truth of the project, and those of `n_labelled` evenly spaced slices its annotations; the ids of cells are among the
    truth, and, if `with_cells`, on the labelled slices too. A killed call goes on.

    Raises
    ------
    UsageError
        If more slices are to be labelled than there are, or the folder holds another project.
    """
    options = options or Options()
    depth = settings.shape[0]
    if not 0 <= n_labelled <= depth:
        raise UsageError(f"cannot label {n_labelled} of {depth} slices; choose from 0 to {depth}")
    project = _project(Path(path), settings)
    grid = Grid(settings.shape, settings.voxel_size)
    options.notify(
        f"phantom: {' × '.join(map(str, grid.shape))} voxels of "
        f"{' × '.join(f'{size:g}' for size in grid.voxel_size)} nm (z, y, x), seed {settings.seed}"
    )
    noted = project.raw_facts.get("n_labelled")
    if noted is not None:
        if noted != n_labelled or with_cells != ("cell" in project.classes):
            cells = "with" if "cell" in project.classes else "without"
            raise UsageError(
                f"{path} holds this phantom with {noted} labelled slices {cells} cells; choose another folder"
            )
        options.notify("phantom: nothing to do, it is there")
        return project
    options.check()
    with project.lock(), writable(project.path):
        ids = project.path / "phantom_truth.ome.zarr"
        image = _layer(project.raw_path, grid, np.uint8)
        layers = {name: _layer(ids / "labels" / name, grid, np.uint32) for name in LAYERS}
        journal = Journal(project.path / ".phantom.blocks")
        write_phantom(
            build_scene(settings), image, layers, Execution(options.executor, options.progress("phantom"), journal)
        )
        if "digest" not in read_facts(project.raw_path):
            build_pyramid(project.raw_path, options.crew(project.path).unordered)
            facts = survey(open_volume(project.raw_path), options.progress("survey"), options.crew(project.path))
            write_facts(project.raw_path, {**facts, "missing": list(settings.missing_slices), "source_name": "phantom"})
        seen = [z for z in range(depth) if z not in settings.missing_slices]
        labelled = [seen[round(i)] for i in np.linspace(0, len(seen) - 1, n_labelled)] if n_labelled else []
        for name in CLASSES:
            project.truth.write_slices(name, _masks(layers[name], range(depth)))
            project.annotations.write_slices(name, _masks(layers[name], labelled))
        project.truth.write_slices("cell", _ids(layers["cell"], range(depth)))
        if with_cells:
            project.annotations.write_slices("cell", _ids(layers["cell"], labelled))
        project.add_classes((*CLASSES, "cell") if with_cells else CLASSES)
        write_facts(project.raw_path, {"n_labelled": n_labelled})
        journal.path.unlink(missing_ok=True)
    return project


def _project(path: Path, settings: PhantomSettings) -> Project:
    """Make the project, or go on with the same phantom."""
    if not (path / "project.toml").exists():
        project = Project.create(path, settings.voxel_size)
        project.set_settings("phantom", settings.model_dump(mode="json", exclude_defaults=True))
        return project
    project = Project.open(path)
    if PhantomSettings.model_validate(project.stage_settings("phantom")) != settings:
        raise UsageError(f"{path} holds another project already; choose another folder")
    return project


def _layer(path: Path, grid: Grid, dtype: np.typing.DTypeLike) -> Volume:
    if is_ome_zarr(path):
        return open_volume(path, mode="r+")
    return create_volume(path, grid, dtype, "image" if path.parent.name != "labels" else "labels")


def _masks(layer: Volume, slices: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    planes = Planes(layer)
    return ((z, (planes[z] != 0).astype(np.uint8)) for z in slices)


def _ids(layer: Volume, slices: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    planes = Planes(layer)
    return ((z, planes[z]) for z in slices)
