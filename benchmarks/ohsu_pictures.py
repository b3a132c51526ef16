"""Pictures of Bx1 before and after: ``python -m benchmarks.ohsu_pictures FOLDER``. They show data that is not ours.

``cells.png``: slice 50 as the network's interior leaves it, its cells found from the labels of z 0, and as an expert
drew it. ``track.png``: slice 50 as it comes to tracking, its ids arbitrary, and after tracking from labels of z 0 and
100. There are no micrographs: the background is the boundary map, dark where it is sure, or nothing.
"""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.cells_ohsu import FOLDER, SCORED, half, planes, settings_for
from benchmarks.sets import data_folder
from benchmarks.track_ohsu import Slices, expert
from cristae.allocation import keep_freed_memory
from cristae.report.objects import colours_of, draw_objects, parts_of
from cristae.separation.separate import separate
from cristae.tracking import TrackSettings, follow

PIXEL_NM = (4.0, 4.0)


def main(folder: Path) -> None:
    """Draw both."""
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    _separated(folder / "cells.png")
    _tracked(folder / "track.png")


def _separated(path: Path) -> None:
    source = data_folder() / FOLDER
    interior, boundary = (
        tifffile.imread(source / f"{part}_probability_half_z001-050.tif") for part in ("interior", "boundary")
    )
    truth = {z: half(tifffile.imread(source / "cells_truth" / f"z{z:03d}.tif"), interior.shape[1:]) for z in (0, 50)}
    gap = planes(truth, interior, boundary, None)
    found = next(itertools.islice(separate(gap, "paths", settings_for(gap)), SCORED, None))
    background = 255 - boundary[SCORED - 1] // 2
    parts = parts_of(interior[SCORED - 1] >= 128)
    titles = (
        f"before: {parts.max()} connected parts of the network's interior, slice {SCORED}",
        "after: cells from the labels of slice 0, one colour and id each",
        "drawn by an expert",
    )
    _panels(path, titles, background, (parts, found, truth[SCORED]), tuple(2 * size for size in PIXEL_NM))


def _tracked(path: Path) -> None:
    slices, kept = Slices(101), {}

    def write(z: int, ids: np.ndarray) -> None:
        if z == SCORED:
            kept[z] = ids

    settings = TrackSettings(method="assign", island_id="highest", workers=2)
    follow(slices, write, {z: expert(z) for z in (0, 100)}, settings=settings)
    before = slices[SCORED]
    titles = (
        f"before: slice {SCORED} as separated, ids arbitrary, all islands under one",
        "after tracking: one colour and id per cell, islands with their cell",
        "drawn by an expert",
    )
    _panels(path, titles, None, (before, kept[SCORED], expert(SCORED)), PIXEL_NM)


def _panels(
    path: Path,
    titles: Sequence[str],
    background: np.ndarray | None,
    layers: Sequence[np.ndarray],
    pixel_nm: tuple[float, ...],
) -> None:
    """Draw layers of one slice below each other; those after the first share their ids, and so their colours."""
    shared = colours_of(layers[1:])
    figure = Figure(figsize=(11, 3.95 * len(layers)), layout="constrained")
    for i, (title, ids) in enumerate(zip(titles, layers, strict=True)):
        colours = shared if i else colours_of([ids])
        picture = draw_objects(background, ids, (pixel_nm[0], pixel_nm[1]), colours, numbers=i > 0)
        axes = figure.add_subplot(len(layers), 1, i + 1)
        axes.imshow(Image.open(io.BytesIO(picture)))
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
