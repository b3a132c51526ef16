"""Projects with tracked cells, and masks and objects of one class: all that can be corrected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cell_projects import QUICK, cell_project, predicted, three_cells

import cristae
from cristae.io.ome_zarr import open_volume


def found_project(path: Path) -> cristae.Project:
    """Make a project in which something of every kind was found."""
    labels = three_cells()
    project = cell_project(path, labels, (0, 4, 8), maps=())
    dots = np.zeros(labels.shape, np.uint8)
    dots[2:5, 10:16, 10:16] = 255
    dots[2:5, 30:36, 40:46] = 255
    maps = {"cell_interior": np.where(labels > 0, 230, 10), "cell_boundary": np.where(labels > 0, 10, 200), "dot": dots}
    predicted(project, maps)
    cristae.cells(project, method="paths", **QUICK)
    cristae.track(project, smallest_body_um2=0.002)
    cristae.objects(project, smallest_um3=0.0, classes=["dot"])
    return project


def cells_of(project: cristae.Project) -> np.ndarray:
    """Return the cells as they were tracked."""
    return open_volume(project.latest("track").path / "cell.ome.zarr").read()
