"""`cristae align`: the slices of the raw stack are laid on one another.

The raw image is read twice. First each slice is matched to those before it, reduced, a slab at a time; then all pairs
are solved for one path (`cristae.preprocess.trajectory`). With that, every slice is warped once, from raw::

    runs/align-<id>/   .pairs/<slab>.json ──▸ pairs · transforms · alignment.svg ──▸ image.ome.zarr

A killed run goes on with the slab it was at.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from cristae.allocation import keep_freed_memory
from cristae.errors import DataError, UsageError
from cristae.geometry import Block, Box, Grid, Nanometres
from cristae.preprocess.align import Model
from cristae.preprocess.trajectory import Matrices, Path, solve_path, without_drift
from cristae.preprocess.warp import Interpolation, warp_plane
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.align_figure import draw_alignment
from cristae.stages.align_pairs import measure_pairs, pairs_of
from cristae.stages.limits import keep_memory_of_image
from cristae.stages.moving_labels import MATRIX, read_transforms
from cristae.stages.objects import write_table
from cristae.stages.options import Options
from cristae.stages.prepared import begin_again, check_raw, describe, say_bad, take_into_use, used_again, write_image
from cristae.volume import Volume
from cristae.wording import number_ranges

SNAP_PX = 0.03
"""Shifts nearer than this to whole pixels are whole, so that slices that lie right are copied and not interpolated."""
_LARGEST = 4.0
"""An aligned slice that would have more pixels than so many raw ones is a sign of a failure."""


class AlignSettings(BaseModel):
    """Settings of `cristae align`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Model = Field(
        "translation", description="what a slice may do: be shifted; turned, too; sheared, scaled, too"
    )
    neighbours: int = Field(2, ge=1, le=8, description="slices before each one that it is matched to")
    samples: int = Field(30_000, ge=1000, description="pixels that each step of a match looks at, drawn anew each time")
    seed: int = Field(0, ge=0, description="of the pixels that are drawn")
    pull: float = Field(1e-3, ge=0, le=10, description="weight of no turn and no stretch against that of one match")
    remove_drift: float | None = Field(
        None,
        gt=0,
        description="movement slower than so many slices is taken out of the correction and stays as recorded; none: "
        "all movement is corrected",
    )
    interpolation: Literal["cubic", "linear", "whole"] = Field(
        "cubic", description="between pixels; whole: shifts are rounded, grey values stay as recorded"
    )
    canvas: Literal["all", "common", "raw"] = Field(
        "all", description="what is kept: all that was recorded, what all slices share, or the frame of the raw slices"
    )


def align_settings(project: Project, changes: Mapping[str, Any]) -> AlignSettings:
    """Return the settings of an alignment: defaults, then project file, then `changes`."""
    return resolve_settings(AlignSettings, project.stage_settings("align"), changes)


def align(project: Project, settings: AlignSettings | None = None, options: Options | None = None) -> Run:
    """Align the raw stack, and take the aligned image into use.

    Writes ``image.ome.zarr``; ``transforms`` (a row per slice: where its pixels were recorded) and ``pairs`` (a row per
    match) as Parquet and CSV; ``alignment.svg`` and ``.png``. Labels are moved along; the raw image and labels stay.
    Slices that fit nothing are bridged. Where nothing joins the slices before and after, the stack is left as it was
    recorded, which is said and noted (``parts``).

    Raises
    ------
    DataError
        If there is no image, no two slices can be matched, or no area is common to all slices.
    UsageError
        If shifts are to be whole and slices to be turned.
    ResourceError
        If the project is in use, the disk is full, or more memory is needed than allowed.
    """
    settings, options = settings or align_settings(project, {}), options or Options()
    if settings.interpolation == "whole" and settings.model != "translation":
        raise UsageError(
            f"slices that are turned ({settings.model}) cannot be moved by whole pixels; choose one of them"
        )
    raw, facts = check_raw(project)
    bad = list(project.lost_raw_slices)
    inputs = {"raw": project.raw_fingerprint}
    run = project.run("align", settings, inputs)
    if used_again(project, run, options):
        return run
    keep_memory = partial(keep_memory_of_image, "align", itemsize=raw.dtype.itemsize)
    options = keep_memory(raw.grid, options=options)
    keep_freed_memory()
    with project.lock():
        with project.record(run, settings, inputs):
            if options.force:
                begin_again(run)
            options.notify(f"align: {describe(raw)}{say_bad(bad)}")
            table = measure_pairs(raw, bad, run, settings, options)
            path, found = _path(table, raw.shape, settings)
            write_table(table, run.path / "pairs")
            grid, start = _canvas(path.matrices, raw.grid, bad, settings.canvas)
            options = keep_memory(grid, options=options)  # it may have more pixels than the raw slices
            _write_transforms(run, path, (start, raw.grid, bad))
            size = raw.grid.voxel_size[1:]
            for kind, content in draw_alignment(pd.read_parquet(run.path / "transforms.parquet"), table, size).items():
                (run.path / f"alignment.{kind}").write_bytes(content)
            interpolation: Interpolation = "linear" if settings.interpolation == "linear" else "cubic"
            write_image(Warping(raw, read_transforms(run), grid, interpolation), run, (raw, facts), grid, options)
            shape = list(grid.shape)
            run.update(raw=str(facts["digest"]), aligned=run.path.name, shape=shape, bad_slices=bad, **found)
            _say(found, table, path, options)
            shutil.rmtree(run.path / ".pairs", ignore_errors=True)
        take_into_use(project, run, options)
    return run


class Warping:
    """Block function without inputs: reads the raw slices of a slab and puts their pixels where they belong."""

    def __init__(self, raw: Volume, transforms: Matrices, grid: Grid, interpolation: Interpolation) -> None:
        self.raw, self.transforms, self.grid, self.interpolation = raw, transforms, grid, interpolation

    def __call__(self, block: Block, *_: np.ndarray) -> np.ndarray:
        """Return the aligned slices of the write box, which spans whole slices."""
        first, stop = block.write.start[0], block.write.stop[0]
        slab = self.raw.read(Box((first, 0, 0), (stop, *self.raw.shape[1:])))
        aligned = np.empty(block.write.shape, self.raw.dtype)
        for z, plane in enumerate(slab, start=first):
            shape = (self.grid.shape[1], self.grid.shape[2])
            aligned[z - first] = warp_plane(plane, self.transforms[z], shape, self.interpolation)
        return aligned


def _path(table: pd.DataFrame, shape: Sequence[int], settings: AlignSettings) -> tuple[Path, dict[str, Any]]:
    """Solve for the path; enter in the table what each pair had to say; return what is worth saying."""
    pairs = pairs_of(table)
    if not np.isfinite(pairs.sigma).any():
        raise DataError(
            "no two slices of this stack could be matched: they are blank, too small (64 px at least), or share nothing"
        )
    radius = 0.5 * float(np.hypot(shape[1], shape[2]))
    path = solve_path(shape[0], pairs, settings.model, radius, settings.pull)
    matrices = path.matrices
    if settings.remove_drift:
        matrices = without_drift(matrices, settings.remove_drift)
    matrices = _snapped(matrices, radius, whole=settings.interpolation == "whole")
    table["residual_px"], table["weight"] = path.residual, path.weight
    next_to = table["moving"] - table["fixed"] == 1
    before = np.hypot(table["y0"], table["x0"])[next_to & np.isfinite(table["sigma_px"])]
    found = {
        "shift_px_median": float(np.median(before)) if len(before) else 0.0,
        "residual_px_median": float(np.nanmedian(path.residual)),
        "residual_px_worst": float(np.nanmax(path.residual)),
        "n_pairs": len(table),
        "n_outvoted": int((path.weight[np.isfinite(path.residual)] < 0.1).sum()),
        "n_unmatched": int((~np.isfinite(pairs.sigma)).sum()),
        "parts": _parts(path.parts),
    }
    return replace(path, matrices=matrices), found


def _parts(parts: NDArray[np.int64]) -> list[str]:
    """Return which slices belong to each part of the stack, in words."""
    return [number_ranges(np.flatnonzero(parts == part).tolist()) for part in range(parts.max() + 1)]


def _snapped(matrices: Matrices, radius: float, whole: bool) -> Matrices:
    """Make shifts whole that nearly are; all of them if asked for."""
    snapped = matrices.copy()
    none = np.abs(matrices[:, :, :2] - np.eye(2)).max((1, 2)) * radius < SNAP_PX
    snapped[none, :, :2] = np.eye(2)
    near = np.rint(matrices[:, :, 2])
    close = none[:, None] & (np.abs(matrices[:, :, 2] - near) < (0.5 if whole else SNAP_PX))
    snapped[:, :, 2] = np.where(close | whole, near, matrices[:, :, 2])
    return snapped


def _canvas(matrices: Matrices, grid: Grid, bad: Sequence[int], canvas: str) -> tuple[Grid, tuple[int, int]]:
    """Return the grid of the aligned stack, and which raw pixel of an unmoved slice its first one is."""
    height, width = grid.shape[1:]
    if canvas == "raw":
        return grid, (0, 0)
    good = sorted(set(range(grid.shape[0])) - set(bad)) or list(range(grid.shape[0]))
    middle = np.array([0.5 * (height - 1), 0.5 * (width - 1)])
    ends = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * middle
    back = np.linalg.inv(matrices[good][:, :, :2])
    corners = np.einsum("nij,nkj->nki", back, ends - matrices[good][:, None, :, 2]) + middle
    if canvas == "all":
        low = np.floor(corners.min((0, 1)) + 1e-6).astype(int)
        high = np.ceil(corners.max((0, 1)) - 1e-6).astype(int) + 1
    else:  # the two corners on each side bound what a slice surely covers
        top, left = corners[:, :2, 0].max(), corners[:, ::2, 1].max()
        bottom, right = corners[:, 2:, 0].min(), corners[:, 1::2, 1].min()
        low = np.ceil(np.array([top, left]) - 1e-6).astype(int)
        high = np.floor(np.array([bottom, right]) + 1e-6).astype(int) + 1
    size = high - low
    if size.min() < 1:
        raise DataError(
            "no area is common to all slices: they drift further than a slice is wide. Keep all of it "
            "(--set align.canvas=all), or see in pairs.csv whether a match went wrong"
        )
    if float(size[0]) * float(size[1]) > _LARGEST * height * width:
        raise DataError(
            f"the aligned slices would be {size[0]} × {size[1]} px, of raw ones of {height} × {width}: a match must "
            "have gone wrong. See pairs.csv; leave out bad slices (cristae check --exclude-slices 12), or keep to the "
            "raw frame (--set align.canvas=raw)"
        )
    _, y_nm, x_nm = grid.voxel_size
    origin: Nanometres = (grid.origin[0], grid.origin[1] + int(low[0]) * y_nm, grid.origin[2] + int(low[1]) * x_nm)
    shape = (grid.shape[0], int(size[0]), int(size[1]))
    return Grid(shape, grid.voxel_size, origin), (int(low[0]), int(low[1]))


def _write_transforms(run: Run, path: Path, frame: tuple[tuple[int, int], Grid, Sequence[int]]) -> None:
    """Write where the pixels of each aligned slice were recorded; `frame` is where they begin, raw grid, bad slices."""
    start, grid, bad = frame
    middle = np.array([0.5 * (grid.shape[1] - 1), 0.5 * (grid.shape[2] - 1)])
    turn = path.matrices[:, :, :2]
    shift = (turn @ (np.array(start) - middle)) + middle + path.matrices[:, :, 2]
    # Where nothing is turned, shifts that are whole must stay so to the last bit.
    plain = (turn == np.eye(2)).all((1, 2))
    shift[plain] = path.matrices[plain][:, :, 2] + np.array(start)
    flat = np.concatenate([turn, shift[:, :, None]], axis=2).reshape(-1, 6)
    slices = np.arange(grid.shape[0])
    transforms = pd.DataFrame({"z": slices, **{name: flat[:, i] for i, name in enumerate(MATRIX)}})
    transforms["shift_y_px"], transforms["shift_x_px"] = path.matrices[:, 0, 2], path.matrices[:, 1, 2]
    transforms["shift_y_nm"] = transforms["shift_y_px"] * grid.voxel_size[1]
    transforms["shift_x_nm"] = transforms["shift_x_px"] * grid.voxel_size[2]
    transforms["turn_degrees"] = np.degrees(np.arctan2(turn[:, 1, 0] - turn[:, 0, 1], turn[:, 0, 0] + turn[:, 1, 1]))
    transforms["bridged"] = np.isin(slices, bad) | (path.parts < 0)
    transforms["part"] = path.parts
    write_table(transforms, run.path / "transforms")


def _say(found: Mapping[str, Any], table: pd.DataFrame, path: Path, options: Options) -> None:
    options.notify(
        f"align: neighbours lay {found['shift_px_median']:.3g} px apart in the median; matches now agree with the path "
        f"within {found['residual_px_median']:.3g} px in the median, {found['residual_px_worst']:.3g} px at worst"
    )
    if found["n_unmatched"]:
        lost = sorted({int(z) for z in table.loc[~np.isfinite(table["sigma_px"]), "moving"]})
        options.notify(f"align: slices {number_ranges(lost)} could not be matched to all before them; see pairs.csv")
    if len(found["parts"]) > 1:
        options.notify(
            f"align: no match joins slices {' to slices '.join(found['parts'])}; these parts were left on one another "
            "as they were recorded. See whether slices are missing or bad where one ends and the next begins (cristae "
            "check)"
        )
    alone = np.flatnonzero(path.parts < 0).tolist()
    if alone:
        options.notify(f"align: slices {number_ranges(alone)} lie where those around them say")


__all__ = ["SNAP_PX", "AlignSettings", "Warping", "align", "align_settings"]
