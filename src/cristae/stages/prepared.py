"""Prepared images: what alignment and equalisation make, how a project takes one into use, and how it goes back.

The raw image is never changed. A prepared one lies in the folder of the run that made it, and ``project.toml`` says
which is in use; every stage reads that one::

    bx1/image.ome.zarr                        raw
    bx1/runs/align-<id>/image.ome.zarr        made from the raw image
    bx1/runs/equalise-<id>/image.ome.zarr     made from the raw image, or from an aligned one

Until it is whole a prepared image has a hidden name, so that a killed run never looks finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blockwise import Execution, Journal, map_blocks
from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.io.ome_zarr import build_pyramid, create_volume, open_volume, read_facts, shard_shape, write_facts
from cristae.project import Project, Run
from cristae.project_file import PREPARING
from cristae.stages.moving_labels import align_run, carry_all, check_raw
from cristae.stages.options import Options
from cristae.stages.survey import blank_inside, survey
from cristae.volume import Volume
from cristae.wording import number_ranges

RAW = "raw"
"""Name of the image as it was imported."""

_HIDDEN = ".image.ome.zarr"
_OWN = ("digest", "slice_mean", "slice_std", "blank", "kind", "missing")
"""What is noted of an image that does not hold of one made from it."""


def use_image(project: Project, name: str, options: Options | None = None) -> Volume:
    """Take an image into use: for training, prediction and all else. Labels follow; see `moving_labels`.

    Parameters
    ----------
    project
        Whose image.
    name
        ``raw``, a run such as ``align-0123456789ab``, or ``align`` or ``equalise`` for the newest one.
    options
        Told what was done.

    Returns
    -------
    Volume
        The image that is in use now.

    Raises
    ------
    UsageError
        If there is no such image.
    DataError
        If it was made from another raw image.
    ResourceError
        If the project is in use or the disk is full.
    """
    options = options or Options()
    with project.lock():
        if name == RAW:
            switch(project, "", "", options)
            return project.image
        runs = {run.path.name: run for stage in PREPARING for run in project.runs(stage) if is_made(run)}
        newest = project.latest(name) if name in PREPARING else None
        run = runs.get(newest.path.name if newest else name)
        if run is None:
            raise UsageError(f"no image {name!r} in {project.path}; there are {', '.join([RAW, *runs])}")
        take_into_use(project, run, options)
        return project.image


def is_made(run: Run) -> bool:
    """Say whether the image of a run is there, and whole."""
    return run.finished and (run.path / "image.ome.zarr").exists()


def take_into_use(project: Project, run: Run, options: Options) -> None:
    """Take the image of a finished run into use; the project is locked already."""
    if run.manifest.get("raw") != str(project.raw_facts.get("digest")):
        raise DataError(
            f"{run.path.name} was made from another image than the one that is there now; make it anew with: "
            f"cristae {run.stage} {project.path}"
        )
    aligned = str(run.manifest["aligned"])
    if read_facts(run.path / "image.ome.zarr")["digest"] == project.raw_facts["digest"]:
        options.notify(f"{run.path.name} changed nothing: the raw image is as it should be, and is in use")
        switch(project, "", "", options)
    else:
        switch(project, run.path.name, aligned, options)


def used_again(project: Project, run: Run, options: Options) -> bool:
    """Take the image of a run that is made already into use again; say whether there was nothing to do but that."""
    if not is_made(run) or options.force:
        return False
    with project.lock():
        take_into_use(project, run, options)
    project.ask_again(run)
    options.notify(f"{run.stage}: nothing to do, {run.path.name} is finished (do it again with --force)")
    return True


def switch(project: Project, prepared: str, aligned: str, options: Options) -> None:
    """Enter another image in ``project.toml``, once labels lie on its slices."""
    before = project.file
    if (before.prepared or "", before.aligned or "") == (prepared, aligned):
        return
    if (before.aligned or "") != aligned:
        carry_all(project, before.aligned or "", aligned, options)
    project.put_to_use(prepared, aligned)
    options.notify(f"image in use: {f'runs/{prepared}' if prepared else RAW}")


def write_image(
    function: Callable[..., np.ndarray],
    run: Run,
    source: tuple[Volume, dict[str, Any]],
    grid: Grid,
    options: Options,
    reads: bool = False,
) -> None:
    """Make the image of a run, slab by slab, with its pyramid and what is noted of it; go on where a kill stopped it.

    Parameters
    ----------
    function
        Block function, given blocks of whole slices.
    run
        Where the image goes.
    source
        What it is made of, and what is noted of that.
    grid
        Of the image.
    options
        Executor and progress.
    reads
        Whether the function is given the slab of `source`, too.
    """
    volume, facts = source
    path = run.path / _HIDDEN
    target = open_volume(path, mode="r+") if path.exists() else create_volume(path, grid, volume.dtype, "image")
    depth, rows, columns = shard_shape(target)
    whole = (depth, -(-grid.shape[1] // rows) * rows, -(-grid.shape[2] // columns) * columns)
    execution = Execution(options.executor, options.progress(run.stage), Journal(run.path / "slabs"))
    map_blocks(function, [volume] if reads else [], [target], block_shape=whole, execution=execution)
    options.notify("writing coarser levels")
    with ThreadPoolExecutor(1) as beside:
        surveyed = beside.submit(survey, open_volume(path), options.progress("surveying image"))
        build_pyramid(path)
        noted = surveyed.result()
    blank = blank_inside(noted)
    missing = sorted({*(int(z) for z in facts.get("missing", ())), *blank})
    kept = {key: value for key, value in facts.items() if key not in _OWN}
    write_facts(path, {**kept, **noted, "missing": missing, "prepared": run.path.name})
    _put_in_place(run.path)


def begin_again(run: Run) -> None:
    """Drop what a run has noted on its way; an image that is whole stays until the next one takes its place."""
    for name in (_HIDDEN, ".pairs"):
        shutil.rmtree(run.path / name, ignore_errors=True)
    (run.path / "slabs").unlink(missing_ok=True)


def source_of(project: Project) -> tuple[Volume, dict[str, Any], str]:
    """Return what is to be equalised: the aligned image in use, or the raw one; its facts; name of the align run.

    Raises
    ------
    DataError
        If the aligned image is gone.
    """
    aligned = project.file.aligned or ""
    path = align_run(project, aligned).path / "image.ome.zarr" if aligned else project.raw_path
    return open_volume(path), read_facts(path), aligned


def describe(volume: Volume) -> str:
    """Return in words how large an image is."""
    size = " × ".join(f"{length:g}" for length in volume.grid.voxel_size)
    return f"{' × '.join(map(str, volume.shape))} voxels of {size} nm (z, y, x), {volume.dtype}"


def say_bad(slices: list[int]) -> str:
    """Return which slices are stood in for, with a comma before; empty without any."""
    return f", without slices {number_ranges(slices)}" if slices else ""


def _put_in_place(folder: Path) -> None:
    image, old = folder / "image.ome.zarr", folder / ".old.ome.zarr"
    shutil.rmtree(old, ignore_errors=True)
    if image.exists():
        image.rename(old)
    (folder / _HIDDEN).rename(image)
    shutil.rmtree(old, ignore_errors=True)
    (folder / "slabs").unlink(missing_ok=True)


__all__ = [
    "PREPARING",
    "RAW",
    "begin_again",
    "check_raw",
    "describe",
    "is_made",
    "say_bad",
    "source_of",
    "switch",
    "take_into_use",
    "use_image",
    "used_again",
    "write_image",
]
