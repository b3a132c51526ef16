"""`cristae mesh`: smooth closed surfaces of any objects, as files that other programs show.

The volume of a class is read once, block by block, for the pieces of surface of all objects. They are kept on disk,
and each object is then sewn together, smoothed and simplified by itself, so that memory is bounded by a block and by
the largest object; a killed run goes on with the block it was at::

    runs/mesh-<id>/    .pieces/<class>/<block>.*      <class>.meshes/ (what cristae render reads)
                       <class>.glb  .ply  .stl/  .precomputed/      meshes.parquet  meshes.csv

Layers are classes, and the holes of a class (``nucleolus_fenestrations``).
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cristae.allocation import keep_freed_memory
from cristae.costs.memory import objects_memory
from cristae.costs.surfaces import block_side, mesh_memory, object_memory
from cristae.costs.work import Meshing, Work
from cristae.errors import DataError, UsageError
from cristae.features.numbering import number_from_one
from cristae.geometry import Block, Grid, Voxels, blocks
from cristae.io.meshes import MeshStore, open_store, write_glb, write_ply, write_stl, write_store
from cristae.io.neuroglancer_meshes import find_draco, write_neuroglancer_meshes
from cristae.io.ome_zarr import n_levels, open_volume
from cristae.meshing.build import Finish, build_mesh
from cristae.meshing.pieces import HALO, Piece, march
from cristae.meshing.smooth import enclosed_volume, surface_area
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.colouring import (
    find_parents,
    hex_colour,
    object_colours,
    usual_colour,
)
from cristae.stages.fenestrations import classes_of, layers_of, names_of
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import n_threads, within
from cristae.stages.measuring.settings import MeasureSettings
from cristae.stages.measuring.sources import Source, find_source, open_sample
from cristae.stages.mesh_settings import MeshSettings
from cristae.stages.objects import write_table
from cristae.stages.options import Options
from cristae.volume import Volume

__all__ = ["MeshSettings", "mesh", "mesh_settings", "open_meshes"]

MOST_VOXELS = 2**28
"""Of the level that is taken where none is named."""


@dataclass(frozen=True)
class Layers:
    """The layers to mesh, on one grid: by class, volumes of ids."""

    volumes: Mapping[str, Volume]
    grid: Grid


def mesh_settings(project: Project, changes: Mapping[str, Any]) -> MeshSettings:
    """Return the settings of meshing: defaults, then project file, then `changes`."""
    return resolve_settings(MeshSettings, project.stage_settings("mesh"), changes)


def mesh(project: Project, settings: MeshSettings | None = None, options: Options | None = None) -> Run:
    """Make the surface meshes of objects and cells.

    Rests on what `cristae measure` would measure. Writes a store per class, the files of the formats asked for, and
    ``meshes`` as Parquet and CSV: per object ``class``, ``object_id``, ``n_vertices``, ``n_faces``,
    ``volume_um3`` and ``surface_um2`` of its mesh.

    Raises
    ------
    DataError
        If there is nothing to mesh, or layers do not fit each other.
    UsageError
        If a class, an id or a level that is named is not there.
    ResourceError
        If the project is in use, the disk is full, or more memory is needed than allowed; how much the largest object
        needs is known once all pieces are on disk.
    """
    settings, options = settings or mesh_settings(project, {}), options or Options()
    measured, source, names = _source(project, settings, options)
    parents = find_parents(project, "mesh", (settings.colour_by, settings.source), options)
    inputs = {name: value for name, value in source.inputs.items() if name not in ("image", "features")}
    if parents is not None:
        inputs["anatomy"] = parents[0]
    run = project.run("mesh", settings.model_copy(update={"block_side": 256}), inputs)
    if nothing_to_do(project, run, options):
        return run
    level = _level(project, source, settings)
    settings, options = _keep_memory(_level_shape(project, source, level), source, settings, options)
    options.check()
    keep_freed_memory()  # blocks ask for the same memory again and again
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            _clear(run)
        if source.corrections:
            options.notify(f"mesh: {source.corrections}")
        layers = _open(project, source, (measured, level), run, options)
        finish = _finish(layers.grid, settings)
        tables, stores = [], {}
        for name, volume in layers_of(names, layers.volumes, run.path, options).items():
            stores[name] = _mesh_class(name, volume, run, settings, finish, options)
            tables.append(_table(name, stores[name]))
        _export(project, run, stores, settings, (layers.grid, None if parents is None else parents[1]))
        table = pd.concat(tables, ignore_index=True)
        write_table(table, run.path / "meshes")
        run.update(
            classes=list(stores),
            source=settings.source,
            level=level,
            voxel_size_nm=list(layers.grid.voxel_size),
            max_error_nm=finish.max_error_nm,
            n_objects={name: len(store) for name, store in stores.items()},
            n_faces={name: int(store.face_starts[-1]) for name, store in stores.items()},
            formats=list(settings.formats),
        )
        shutil.rmtree(run.path / ".pieces", ignore_errors=True)
        for path in (*run.path.glob("*.ome.zarr"), *run.path.glob(".*.parts.*")):
            shutil.rmtree(path)
        for path in run.path.glob("*.blocks"):
            path.unlink()
    return run


def _source(
    project: Project, settings: MeshSettings, options: Options
) -> tuple[MeasureSettings, Source, tuple[str, ...]]:
    """Say what is read, and which layers are meshed."""
    if "precomputed" in settings.formats:
        find_draco()
    measured = MeasureSettings(source=settings.source, classes=classes_of(settings.classes), families=("shape",))
    source = find_source(project, measured, options)
    names = names_of(settings.classes, source.classes)
    if strange := sorted(set(settings.objects) - set(names)):
        raise UsageError(f"no objects of {', '.join(strange)} to mesh; there are {', '.join(names)}")
    return measured, source, names


def _keep_memory(
    shape: Voxels, source: Source, settings: MeshSettings, options: Options
) -> tuple[MeshSettings, Options]:
    """Return settings and options with which ``options.max_ram_gb`` is kept; what comes out does not depend on them."""
    if options.max_ram_gb is None:
        return settings, options
    work = Work(shape, workers=n_threads(options), surfaces=Meshing(shape, settings.block_side))
    if not source.runs:  # objects of true masks are found first
        _, options = within("mesh", objects_memory(work), (math.inf, work.at_once), options)
    n = max(1, n_threads(options))
    allowed, options = within("mesh", mesh_memory(work), (math.inf, n), options)
    side = block_side(work, allowed, max(1, n_threads(options)))
    return settings.model_copy(update={"block_side": side}), options


def _level_shape(project: Project, source: Source, level: int) -> Voxels:
    """Return the shape of the layers at a level."""
    if not source.runs:
        return project.truth.grid.shape
    name = source.classes[0]
    return open_volume(source.runs[name].path / f"{name}.ome.zarr", level).shape


def open_meshes(run: Run) -> dict[str, MeshStore]:
    """Return the meshes of a finished run by class."""
    return {str(name): open_store(run.path / f"{name}.meshes") for name in run.manifest["classes"]}


def _level(project: Project, source: Source, settings: MeshSettings) -> int:
    """Return the level to mesh: the one named, or the finest that is not too large."""
    if not source.runs:
        if settings.level:
            raise UsageError(f"truth is stored at full size only: level 0, not {settings.level}")
        return 0
    paths = [source.runs[name].path / f"{name}.ome.zarr" for name in source.classes]
    there = min(n_levels(path) for path in paths)
    if settings.level is not None:
        if settings.level >= there:
            raise UsageError(f"there is no level {settings.level}; expected 0 to {there - 1}")
        return settings.level
    sizes = [math.prod(open_volume(paths[0], level).shape) for level in range(there)]
    return next((level for level, size in enumerate(sizes) if size <= MOST_VOXELS), there - 1)


def _open(project: Project, source: Source, how: tuple[MeasureSettings, int], run: Run, options: Options) -> Layers:
    measured, level = how
    if not source.runs:
        sample = open_sample(project, source, measured, run, options)
        return Layers({name: layer.volume for name, layer in sample.layers.items()}, sample.grid)
    volumes = {name: open_volume(source.runs[name].path / f"{name}.ome.zarr", level) for name in source.classes}
    first = next(iter(volumes.values())).grid
    for name, volume in volumes.items():
        if volume.shape != first.shape or volume.dtype.kind not in "iu":
            raise DataError(
                f"{name} has {volume.dtype} voxels of shape {volume.shape}, other layers {first.shape}; expected whole "
                "numbers on one grid: make it again (cristae objects --force, cristae track --force)"
            )
    return Layers(volumes, first)


def _finish(grid: Grid, settings: MeshSettings) -> Finish:
    error = settings.max_error_nm
    return Finish(
        grid.voxel_size,
        grid.origin,
        n_steps=settings.smoothing,
        max_error_nm=min(grid.voxel_size) / 4 if error is None else error,
        share=settings.keep_share,
    )


def _mesh_class(
    name: str, volume: Volume, run: Run, settings: MeshSettings, finish: Finish, options: Options
) -> MeshStore:
    """Mesh the objects of one class, unless that is done."""
    path = run.path / f"{name}.meshes"
    if (path / "index.npz").is_file():
        return open_store(path)
    folder = run.path / ".pieces" / f"{name}.{settings.block_side}"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = np.unique(np.array(settings.objects[name], np.int64)) if name in settings.objects else None
    side = settings.block_side
    todo = list(blocks(volume.grid.box, (side, side, side), (HALO, HALO, HALO)))
    _cut_pieces(volume, folder, todo, wanted, (name, options))
    index = _Index.of(folder, len(todo))
    if wanted is not None and len(absent := np.setdiff1d(wanted, index.ids)):
        raise UsageError(
            f"no object of {name} has the id {', '.join(map(str, absent[:10]))}; ids are those of its label layer"
        )
    number, n_vertices = index.largest
    needed = object_memory(n_vertices, f"the mesh of {name} {number}")
    _, options = within("mesh", needed, (0.0, max(1, n_threads(options))), options)
    return write_store(path, _finished(index, volume.shape, finish, (name, options)))


def _cut_pieces(
    volume: Volume, folder: Path, todo: Sequence[Block], wanted: np.ndarray | None, how: tuple[str, Options]
) -> None:
    """Keep the pieces of every block on disk that are not there yet."""
    name, options = how

    def work(number: int) -> None:
        block = todo[number]
        try:
            ids, labels = number_from_one(volume.read(block.read))
        except ValueError as error:
            raise DataError(f"objects of {name}: {error}") from error
        if wanted is not None:
            ids, labels = _only(ids, labels, wanted)
        found = march(
            labels,
            len(ids),
            block.write.within(block.read).slices,
            start=block.read.start,
            volume_shape=volume.shape,
        )
        np.save(folder / f"{number}.names.npy", found.names)
        np.save(folder / f"{number}.faces.npy", found.faces)
        np.save(folder / f"{number}.cells.npy", found.cells)
        partial = folder / f"{number}.partial.npy"
        np.save(partial, np.stack([np.append(ids, 0), found.vertex_starts, found.face_starts]))
        partial.replace(folder / f"{number}.index.npy")

    missing = [number for number in range(len(todo)) if not (folder / f"{number}.index.npy").is_file()]
    progress = options.progress(f"read {name}")
    for done, _ in enumerate(options.crew(folder).unordered(work, missing), start=len(todo) - len(missing) + 1):
        progress(done, len(todo))


def _only(ids: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and numbers of the objects that are wanted."""
    chosen = np.isin(ids, wanted)
    numbers = np.zeros(len(ids) + 1, np.int32)
    numbers[1:][chosen] = np.arange(1, chosen.sum() + 1)
    return ids[chosen], numbers[labels]


@dataclass(frozen=True)
class _Index:
    """Where on disk the pieces of every object are: rows of block, vertices from and to, triangles from and to."""

    folder: Path
    ids: np.ndarray
    starts: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, folder: Path, n_blocks: int) -> _Index:
        parts = [np.zeros((0, 6), np.int64)]
        for number in range(n_blocks):
            ids, vertices, faces = np.load(folder / f"{number}.index.npy", allow_pickle=False)
            columns = (ids[:-1], np.full(len(ids) - 1, number), vertices[:-1], vertices[1:], faces[:-1], faces[1:])
            # An object in the halo alone has no surface in a block.
            part = np.stack(columns, axis=1)
            parts.append(part[part[:, 5] > part[:, 4]])
        rows = np.concatenate(parts)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        ids, starts = np.unique(rows[:, 0], return_index=True)
        return cls(folder, ids, np.append(starts, len(rows)), rows[:, 1:])

    @property
    def largest(self) -> tuple[int, int]:
        """The id of the object of which there are most vertices, and how many; those between pieces count twice."""
        if not len(self.ids):
            return 0, 0
        sizes = np.add.reduceat(self.rows[:, 2] - self.rows[:, 1], self.starts[:-1])
        row = int(sizes.argmax())
        return int(self.ids[row]), int(sizes[row])

    def pieces(self, row: int) -> list[Piece]:
        """Read the pieces of the object in that row."""
        return [
            Piece(
                np.array(np.load(self.folder / f"{block}.names.npy", mmap_mode="r")[v0:v1]),
                np.array(np.load(self.folder / f"{block}.faces.npy", mmap_mode="r")[f0:f1]),
                np.array(np.load(self.folder / f"{block}.cells.npy", mmap_mode="r")[f0:f1]),
            )
            for block, v0, v1, f0, f1 in self.rows[self.starts[row] : self.starts[row + 1]].tolist()
        ]


def _finished(
    index: _Index, shape: Voxels, finish: Finish, how: tuple[str, Options]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the meshes of all objects, by rising id."""
    name, options = how
    progress = options.progress(f"mesh {name}")

    def work(row: int) -> tuple[np.ndarray, np.ndarray]:
        return build_mesh(index.pieces(row), shape, finish)

    made = options.crew(index.folder).ordered(work, range(len(index.ids)))
    for row, (vertices, faces) in enumerate(made):
        yield int(index.ids[row]), vertices, faces
        progress(row + 1, len(index.ids))


def _table(name: str, store: MeshStore) -> pd.DataFrame:
    measured = [(enclosed_volume(*made) / 1e9, surface_area(*made) / 1e6) for _, *made in store]
    return pd.DataFrame(
        {
            "class": pd.Series([name] * len(store), dtype="str"),
            "object_id": store.ids,
            "n_vertices": np.diff(store.vertex_starts),
            "n_faces": np.diff(store.face_starts),
            "volume_um3": np.array([volume for volume, _ in measured], np.float64),
            "surface_um2": np.array([area for _, area in measured], np.float64),
        }
    )


def _export(
    project: Project,
    run: Run,
    stores: Mapping[str, MeshStore],
    settings: MeshSettings,
    how: tuple[Grid, pd.DataFrame | None],
) -> None:
    """Write the files of all classes."""
    grid, parents = how
    corner = [size / 2 - first for size, first in zip(grid.voxel_size, grid.origin, strict=True)]
    for index, (name, store) in enumerate(stores.items()):
        colours = dict.fromkeys(store.ids.tolist(), usual_colour(project, name, index))
        if settings.colour_by != "class":
            own = map(hex_colour, object_colours(name, store.ids, parents))
            colours = dict(zip(store.ids.tolist(), own, strict=True))
        for one in dict.fromkeys(settings.formats):
            path = run.path / f"{name}.{one}"
            if one == "glb":
                write_glb(path, name, store, colours.__getitem__)
            elif one == "ply":
                write_ply(path, name, store, colours.__getitem__)
            elif one == "stl":
                write_stl(path, name, store)
            else:
                write_neuroglancer_meshes(path, name, store, corner[::-1])


def _clear(run: Run) -> None:
    shutil.rmtree(run.path / ".pieces", ignore_errors=True)
    for path in (*run.path.glob("*.meshes"), *run.path.glob("*.stl"), *run.path.glob("*.precomputed")):
        shutil.rmtree(path)
