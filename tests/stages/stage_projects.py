"""A project on which every stage has something to do, in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cell_projects import QUICK, cell_project

import cristae

SHAPE = (40, 64, 80)
PREDICT = {"device": "cpu", "engine": "torch", "tile_px": 64, "overlap_px": 16}
MEASURE = {"block_side": 32, "spectrum_radius": 2, "bins": 8, "max_distance_nm": 60.0}
SETTINGS = {
    "predict": PREDICT,
    "cells": {"method": "paths", **QUICK},
    "track": {"smallest_body_um2": 0.002},
    "objects": {"smallest_um3": 0.0},
    "find_parents": {},
    "measure": MEASURE,
}
"""Settings of the stages, in their order."""


def moving_cells() -> np.ndarray:
    """Two cells that touch and one apart, moving a pixel every third slice."""
    truth = np.zeros(SHAPE, np.uint32)
    for z in range(SHAPE[0]):
        at = z // 3
        truth[z, 6:40, 4 + at : 24 + at] = 300
        truth[z, 6:40, 24 + at : 44 + at] = 70_001
        truth[z, 46:60, 50 + at : 64 + at] = 9
    return truth


def bodies() -> dict[str, np.ndarray]:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    disc = (y - 22) ** 2 + (x - 16 - z / 3) ** 2 < 49 + 0 * z
    return {"disc": disc, "dot": ((z % 9 < 5) & ((y - 14) ** 2 + (x - 36 - z / 3) ** 2 < 9))}


def begin(path: Path, tiny: dict) -> cristae.Project:
    """Make a project with labels of cells and of two kinds of bodies, and trained networks."""
    project = cell_project(path, moving_cells(), (0, 13, 26, 39), maps=())
    for name, mask in bodies().items():
        project.annotations.write_slices(name, [(z, mask[z].astype(np.uint8)) for z in (0, 13, 26, 39)])
        project.truth.write_slices(name, [(z, mask[z].astype(np.uint8)) for z in range(SHAPE[0])])
    project.add_classes(tuple(bodies()))
    cristae.train(project, **tiny | {"updates": 30, "context_nm": 320.0})
    return project
