"""From the slices of a drifting microscope to a stack that is aligned and of one brightness, on the phantom.

Run it with ``python examples/raw_stack.py FOLDER``. It writes ``slices/``, as a microscope would, makes a project of
them, aligns and equalises it, and draws ``prepared.png`` (the stack cut along z, before and after) and
``alignment.png`` (what was corrected).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import tifffile
from matplotlib.figure import Figure

import cristae
from cristae.geometry import Box, Grid
from cristae.phantom import PhantomSettings, build_scene, image
from cristae.volume import Volume

DEPTH, SIDE, ROOM, VOXEL = 48, 256, 24, (8.0, 8.0, 8.0)
"""Slices, their side, and how far (px) they may drift."""


def drifting_slices(folder: Path) -> np.ndarray:
    """Write slices between which the specimen moves by a random walk of whole pixels; return how far it has come."""
    wide = SIDE + 2 * ROOM
    settings = PhantomSettings(shape=(DEPTH, wide, wide), voxel_size=VOXEL, brightness_jump=0.15, missing_slices=(30,))
    phantom = image(build_scene(settings), Box((0, 0, 0), settings.shape))
    walk = np.cumsum(np.random.default_rng(4).normal(0, 2, (DEPTH, 2)), axis=0)
    walk = np.clip(np.rint(walk - walk.mean(0)), -ROOM, ROOM).astype(int) + ROOM
    folder.mkdir(parents=True)
    for z, (y, x) in enumerate(walk):
        slice_ = phantom[z, y : y + SIDE, x : x + SIDE]
        tifffile.imwrite(folder / f"slice_{z:04}.tif", slice_, photometric="minisblack")
    return walk


def cut(volume: Volume, row: int) -> np.ndarray:
    """Return one row of every slice: the stack as seen from the side."""
    depth, _, width = volume.shape
    return volume.read(Box((0, row, 0), (depth, row + 1, width)))[:, 0]


def draw(pictures: dict[str, np.ndarray], path: Path) -> None:
    """Draw cuts below each other."""
    figure = Figure(figsize=(7.2, 1.75 * len(pictures)), layout="constrained")
    for number, (title, values) in enumerate(pictures.items(), start=1):
        axes = figure.add_subplot(len(pictures), 1, number)
        axes.imshow(values, cmap="gray", vmin=0, vmax=255, aspect=1.3, interpolation="nearest")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylabel("z")
    figure.savefig(path, dpi=130)


def main(folder: Path) -> None:
    """Prepare a stack and say how well it went."""
    folder.mkdir(parents=True, exist_ok=True)
    walk = drifting_slices(folder / "slices")
    project = cristae.init(folder / "bx1", voxel_size=VOXEL)
    raw = cristae.import_image(project, folder / "slices")
    run = cristae.align(project)
    aligned = project.image
    cristae.equalise(project)
    row = SIDE // 2 - int(aligned.grid.origin[1] / VOXEL[1])
    pictures = {
        "raw": cut(raw, SIDE // 2),
        "aligned": cut(aligned, row),
        "aligned and equalised": cut(project.image, row),
    }
    draw(pictures, folder / "prepared.png")
    shutil.copy(run.path / "alignment.png", folder / "alignment.png")
    transforms = np.loadtxt(run.path / "transforms.csv", delimiter=",", skiprows=1, usecols=(7, 8))
    left = transforms + walk
    left = np.hypot(*(left - np.median(left, axis=0)).T)
    grid: Grid = project.image.grid
    print(f"{grid.shape[0]} slices, {np.median(left):.2f} px off in the median, {left.max():.2f} px at worst")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "raw_stack"))
