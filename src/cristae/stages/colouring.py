"""Which colour objects have in pictures and files of meshes: that of their class, their own, or that of their cell."""

from __future__ import annotations

import colorsys
from typing import Literal

import numpy as np
import pandas as pd

from cristae.errors import UsageError
from cristae.palette import YELLOW, class_colour
from cristae.project import Project
from cristae.stages.fenestrations import SUFFIX, class_of
from cristae.stages.options import Options
from cristae.stages.status import corrected_since

ColourBy = Literal["class", "object", "cell"]
COLOUR_BY = "what has a colour of its own; by cell, organelles have that of the cell they lie in"


def usual_colour(project: Project, name: str, index: int) -> str:
    """Return the colour of a class, as ``#rrggbb``: by its place in the project; by `index` where it has none there."""
    if name in project.classes:
        return class_colour(project.classes.index(name))
    return YELLOW if name.endswith(SUFFIX) else class_colour(index)


def object_colour(number: int) -> tuple[float, float, float]:
    """Return the colour of an id, 0–1: hues a golden angle apart, in three brightnesses; grey for 0."""
    if number == 0:
        return 0.6, 0.6, 0.6
    hue = (number * 0.6180339887) % 1.0
    return colorsys.hls_to_rgb(hue, (0.42, 0.52, 0.62)[number % 3], 0.62)


def object_colours(name: str, ids: np.ndarray, parents: pd.DataFrame | None) -> np.ndarray:
    """Return the colours of the objects of a class, float32 ``(n, 3)``, 0–1: one each, or by `parents` their cell's."""
    if parents is not None:
        cells = parents[parents["class"] == class_of(name)].set_index("object_id")["parent_cell_id"]
        ids = ids if cells.empty else cells.reindex(ids).fillna(0).to_numpy(np.int64)
    return np.array([object_colour(int(number)) for number in ids], np.float32).reshape(-1, 3)


def hex_colour(colour: np.ndarray) -> str:
    """Return a colour, 0–1 each, as ``#rrggbb``."""
    return "#" + bytes(np.rint(255 * colour).astype(np.uint8).tolist()).hex()


def find_parents(
    project: Project, stage: str, how: tuple[ColourBy, str], options: Options
) -> tuple[str, pd.DataFrame] | None:
    """Return the cell of every organelle, and the name of the run that found it; None where it does not matter.

    Parameters
    ----------
    project, stage, options
        Who asks.
    how
        What has a colour of its own, and whether what is shown was "found" or is "truth".

    Raises
    ------
    UsageError
        If cells of organelles are not known.
    """
    by, source = how
    if by != "cell":
        return None
    run = project.latest("anatomy")
    if run is None or source == "truth":
        raise UsageError(
            f"{stage}.colour_by=cell needs to know which cell every organelle lies in; run: cristae anatomy "
            f"{project.path} (it knows what cristae found, not the truth), or colour by object or class"
        )
    if corrected_since(project, run):
        options.notify(f"{stage}: there are newer corrections; to colour by them run: cristae anatomy {project.path}")
    table = pd.read_parquet(run.path / "parents.parquet", columns=["class", "object_id", "parent_cell_id"])
    return run.as_input, table
