"""`cristae objects`: every predicted organelle gets an id that is the same in all slices.

The mask of a class is read twice, block by block: once for the parts in each block and what lies on its faces, once to
write the ids. Between the two, parts that touch across blocks are joined; see `cristae.components`. What the first
reading finds is kept on disk until the ids are written, so that a killed run goes on with the block it was at::

    runs/objects-<id>/.<class>.parts.<shape>/<block>.parts.npz      <class>.ome.zarr      objects.parquet  objects.csv
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.allocation import keep_freed_memory
from cristae.blockwise import Execution, Journal, map_blocks
from cristae.components import DIRECTIONS, Objects, Parts, Place, find_parts, label_parts, number_objects, touching
from cristae.errors import DataError, UsageError
from cristae.geometry import Block, Grid, Voxels, blocks
from cristae.io.ome_zarr import build_pyramid, create_volume, open_volume
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.corrected import corrected_run, corrections_of, in_words, open_mask
from cristae.stages.limits import keep_memory
from cristae.stages.options import Options
from cristae.stages.predict import publish
from cristae.volume import Volume

BLOCK: Voxels = (32, 1024, 1024)
"""Unit of work, for which about half a gigabyte is taken per worker. The result does not depend on it."""


class ObjectsSettings(BaseModel):
    """Settings of `cristae objects`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...] = Field((), description="classes of which objects are told apart; empty means all masks")
    connectivity: Literal[6, 18, 26] = Field(
        26, description="neighbours of a voxel: sharing a face; or an edge, too; or a corner, too"
    )
    smallest_um3: float = Field(1e-4, ge=0, description="smaller objects are dropped, in µm³")


def objects_settings(project: Project, changes: Mapping[str, Any]) -> ObjectsSettings:
    """Return the settings of a labelling of objects: defaults, then project file, then `changes`."""
    return resolve_settings(ObjectsSettings, project.stage_settings("objects"), changes)


def mask_classes(project: Project, predicted: Run) -> tuple[str, ...]:
    """Return the predicted classes that are masks of organelles: all but the maps by which cells are told apart."""
    annotations = project.annotations
    instances = [name for name in annotations.classes if annotations.has_instances(name)]
    maps = {f"{name}_{part}" for name in instances for part in ("interior", "boundary")}
    return tuple(name for name in predicted.manifest["classes"] if name not in maps)


def objects_inputs(project: Project, predicted: Run) -> dict[str, str]:
    """Return what the objects of a prediction depend on: the prediction, and corrections of its masks."""
    return {"predict": predicted.as_input} | corrections_of(project, predicted, mask_classes(project, predicted))


def objects(project: Project, settings: ObjectsSettings | None = None, options: Options | None = None) -> Run:
    """Give every object of the masks that were predicted last an id of its own.

    Writes ``<class>.ome.zarr`` (uint32: objects from 1 without holes, in the order of their first voxels), shown
    beside the image as ``<class>_objects``, and ``objects`` (a row per object: ``class``, ``object_id``, ``n_voxels``,
    ``volume_um3``) as Parquet and CSV.

    Raises
    ------
    DataError
        If nothing has been predicted, or no masks.
    UsageError
        If a named class is not among the masks.
    ResourceError
        If the project is in use or the disk is full.
    """
    settings, options = settings or objects_settings(project, {}), options or Options()
    predicted = project.latest("predict")
    if predicted is None:
        raise DataError(f"{project.path} has no predicted masks yet; make some with: cristae predict {project.path}")
    names = _chosen(mask_classes(project, predicted), settings.classes, project)
    inputs = objects_inputs(project, predicted)
    run = project.run("objects", settings, inputs)
    if run.finished and not options.force:
        _show_again(project, run)
        options.notify(f"objects: nothing to do, {run.path.name} is finished (do it again with --force)")
        return run
    options.check()
    settings, options = keep_memory("objects", project, settings, options)
    keep_freed_memory()
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            _clear(run)
        if words := in_words({name: corrected_run(project, predicted, name) for name in names}):
            options.notify(f"objects: masks of {words}")
        tables, dropped = [], {}
        for name in names:
            mask = open_mask(project, predicted, name)
            found = label_objects(mask, name, run, settings, options)
            voxel_um3 = math.prod(mask.grid.voxel_size) / 1e9
            tables.append(_table(name, found, voxel_um3))
            dropped[name] = found.n_dropped
            _finish(project, run, name, options)
            size = f", {found.n_dropped} below {settings.smallest_um3:g} µm³ left out" * bool(found.n_dropped)
            options.notify(f"objects: {name}: {len(found.n_voxels)} objects{size}")
        write_table(pd.concat(tables, ignore_index=True), run.path / "objects")
        counts = {name: len(table) for name, table in zip(names, tables, strict=True)}
        run.update(classes=list(names), predict_run=predicted.path.name, n_objects=counts, n_dropped=dropped)
        for folder in run.path.glob(".*.parts.*"):
            shutil.rmtree(folder)
    return run


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet and CSV; `path` is that of both without the ending."""
    table.to_parquet(path.with_suffix(".parquet"), index=False)
    table.to_csv(path.with_suffix(".csv"), index=False)


def _chosen(masks: Sequence[str], wanted: Sequence[str], project: Project) -> tuple[str, ...]:
    if not masks:
        raise DataError(
            f"{project.path} has no predicted masks of organelles; label some on slices, then train and predict"
        )
    unknown = [name for name in wanted if name not in masks]
    if unknown:
        raise UsageError(f"no predicted masks of {', '.join(unknown)}; there are {', '.join(masks)}")
    return tuple(dict.fromkeys(wanted)) or tuple(masks)


def label_objects(mask: Volume, name: str, run: Run, settings: ObjectsSettings, options: Options) -> Objects:
    """Write the ids of one class to ``<name>.ome.zarr`` in the folder of a run; return its objects.

    What is found of blocks on the way is kept in hidden folders there, ``.<name>.parts.<shape>``.
    """
    folder = run.path / f".{name}.parts.{'x'.join(map(str, BLOCK))}"
    folder.mkdir(exist_ok=True)
    todo = list(blocks(mask.grid.box, BLOCK))
    _read_parts(mask, name, folder, todo, settings, options)
    found = _join(folder, todo, mask.grid, settings)
    for block, of_part in zip(todo, found.ids, strict=True):
        np.savez_compressed(_file(folder, _place(block), "ids"), ids=of_part)

    def paint(block: Block, values: np.ndarray) -> np.ndarray:
        with np.load(_file(folder, _place(block), "ids")) as stored:
            return stored["ids"][label_parts(values, settings.connectivity)]

    execution = Execution(options.executor, options.progress(f"label {name}"), Journal(run.path / f"{name}.blocks"))
    map_blocks(
        paint, [mask], [_layer(run.path / f"{name}.ome.zarr", mask.grid)], block_shape=BLOCK, execution=execution
    )
    return found


def _read_parts(
    mask: Volume, name: str, folder: Path, todo: Sequence[Block], settings: ObjectsSettings, options: Options
) -> None:
    """Find the parts of every block that is not on disk yet."""

    def work(block: Block) -> None:
        labels = label_parts(mask.read(block.write), settings.connectivity)
        _save(_file(folder, _place(block)), find_parts(labels, block.write.start, mask.shape))

    missing = [block for block in todo if not _file(folder, _place(block)).is_file()]
    progress = options.progress(f"find {name}")
    ended = options.crew(folder).unordered(work, missing)
    for done, _ in enumerate(ended, start=len(todo) - len(missing) + 1):
        progress(done, len(todo))


def _join(folder: Path, todo: Sequence[Block], grid: Grid, settings: ObjectsSettings) -> Objects:
    """Join the parts of all blocks; those of a layer of blocks are held at a time."""
    places = {_place(block): number for number, block in enumerate(todo)}
    n_layer = 1 + sum(place[0] == 0 for place in places)
    load = lru_cache(maxsize=n_layer + max((place[2] for place in places), default=0) + 3)(
        lambda place: _load(_file(folder, place))
    )

    def touches() -> Iterator[tuple[int, int, np.ndarray]]:
        for here, step in itertools.product(places, DIRECTIONS):
            there = (here[0] + step[0], here[1] + step[1], here[2] + step[2])
            if there in places:
                pairs = touching(load(here), load(there), step, settings.connectivity)
                yield places[here], places[there], pairs

    joined = list(touches())
    parts = [(one.n_voxels, one.first) for one in map(load, places)]
    smallest = math.ceil(settings.smallest_um3 * 1e9 / math.prod(grid.voxel_size) - 1e-9)
    return number_objects(parts, joined, max(1, smallest))


def _place(block: Block) -> Place:
    z, y, x = (low // n for low, n in zip(block.write.start, BLOCK, strict=True))
    return z, y, x


def _file(folder: Path, place: Place, what: str = "parts") -> Path:
    return folder / f"{place[0]}-{place[1]}-{place[2]}.{what}.npz"


def _save(path: Path, parts: Parts) -> None:
    arrays: dict[str, Any] = {"n_voxels": parts.n_voxels, "first": parts.first}
    for axis, (low, high) in enumerate(parts.faces):
        arrays |= {f"face{axis}0": low, f"face{axis}1": high}
    partial = path.with_name(f"{path.stem}.partial.npz")
    np.savez_compressed(partial, **arrays)
    partial.replace(path)


def _load(path: Path) -> Parts:
    with np.load(path) as stored:
        faces = tuple((stored[f"face{axis}0"], stored[f"face{axis}1"]) for axis in range(3))
        return Parts(stored["n_voxels"], stored["first"], faces)


def _layer(path: Path, grid: Grid) -> Volume:
    """Open a layer of ids for writing, or make it."""
    if path.exists():
        try:
            return open_volume(path, mode="r+")
        except DataError:  # killed while it was being made, before any block
            shutil.rmtree(path)
    return create_volume(path, grid, np.uint32, "labels")


def _table(name: str, found: Objects, voxel_um3: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "class": pd.Series([name] * len(found.n_voxels), dtype="str"),
            "object_id": np.arange(1, len(found.n_voxels) + 1, dtype=np.int64),
            "n_voxels": found.n_voxels,
            "volume_um3": found.n_voxels * voxel_um3,
        }
    )


def _finish(project: Project, run: Run, name: str, options: Options) -> None:
    """Build the pyramid and show the ids beside the image."""
    build_pyramid(run.path / f"{name}.ome.zarr", options.crew(run.path).unordered)
    publish(run.path / f"{name}.ome.zarr", _shown(project, name))


def _shown(project: Project, name: str) -> Path:
    return project.image_path / "labels" / f"{name}_objects"


def _show_again(project: Project, run: Run) -> None:
    """Put the ids of a finished run beside the image where those of another run, or none, are now."""
    names = run.manifest["classes"]
    if project.latest("objects") != run or not all(_shown(project, name).is_dir() for name in names):
        with project.lock():
            for name in names:
                publish(run.path / f"{name}.ome.zarr", _shown(project, name))
        project.ask_again(run)


def _clear(run: Run) -> None:
    for path in (*run.path.glob("*.ome.zarr"), *run.path.glob(".*.parts.*")):
        shutil.rmtree(path)
    for path in run.path.glob("*.blocks"):
        path.unlink()
