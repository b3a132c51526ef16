"""Cells as glass, nucleoli in transparent nuclei, and the holes of nucleoli. Usage: python see_in_3d.py FOLDER.

Draws FOLDER/render-cells.png, render-nuclei.png and render-fenestrations.png of a phantom, which is left in
FOLDER/phantom.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import cristae


def pictures(project: cristae.Project, folder: Path, width: int) -> None:
    """Draw the pictures of a project that has a truth of cells, nuclei, nucleoli and others."""
    size = {"source": "truth", "width": width, "height": width * 3 // 4}
    cells = cristae.render(project, azimuth=35, elevation=25, **size)
    shutil.copy(cells.path / "picture.png", folder / "render-cells.png")
    nuclei = cristae.render(
        project,
        classes=["nucleus", "nucleolus"],
        planes={"z": project.image.shape[0] - 1},
        background="dark",
        azimuth=-25,
        elevation=20,
        **size,
    )
    shutil.copy(nuclei.path / "picture.png", folder / "render-nuclei.png")
    holes = cristae.render(
        project,
        classes=["nucleolus", "nucleolus_fenestrations"],
        background="dark",
        azimuth=-25,
        elevation=20,
        **size,
    )
    shutil.copy(holes.path / "picture.png", folder / "render-fenestrations.png")


def main(folder: Path, shape: tuple[int, int, int] = (48, 192, 192), width: int = 1000) -> None:
    """Make the phantom, and draw it."""
    folder.mkdir(parents=True, exist_ok=True)
    project = cristae.make_phantom(folder / "phantom", shape=shape, voxel_size=(40.0, 16.0, 16.0), with_cells=True)
    pictures(project, folder, width)
    print(f"pictures: {', '.join(str(path) for path in sorted(folder.glob('render-*.png')))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
