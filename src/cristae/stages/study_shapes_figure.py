"""The truth beside what the best method of a study found, in 3D: Figure 2 of Pagano et al. (2023) for your own volume.

Drawn by cristae itself (`cristae.rendering`) and `matplotlib.figure.Figure` alone: it needs no screen and no graphics
card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from skimage.measure import marching_cubes

from cristae.palette import PLAIN, class_colour, rgb
from cristae.project import Project
from cristae.rendering.camera import fit
from cristae.rendering.scale_bar import add_scale_bar
from cristae.rendering.scene import Solid, bounds, solid, take_picture
from cristae.rendering.shade import Look
from cristae.stages.render_settings import GLASS
from cristae.stages.study_shapes import FILE, Shape, read_shapes
from cristae.stages.study_tables import methods_table, with_methods

_SIZE = (760, 620)
"""Width and height of each picture in pixels."""
_VIEW = (30.0, 20.0)
"""From where: degrees around the vertical axis, and above."""


def draw_shapes(project: Project, table: pd.DataFrame, folders: Mapping[int, Path], *paths: Path) -> str:
    """Draw the truth beside what the best method found, in its first repeat with the fewest slices shown.

    Parameters
    ----------
    project
        Whose classes have their colours.
    table
        A row per trial and class.
    folders
        Of the trials, by their number.
    paths
        Where the figure is saved, in the form that each ending names; what is there of an earlier one is removed.

    Returns
    -------
    str
        Why there is no figure; empty if there is one.
    """
    for path in paths:
        path.unlink(missing_ok=True)
    method = str(methods_table(table)["method"].iloc[0])
    named = with_methods(table)
    of_method = named[(named["method"] == method) & (named["repeat"] == 0)].sort_values("n_slices", kind="stable")
    first = of_method.iloc[0]
    shapes = read_shapes(folders[int(first["trial"])] / FILE)
    if not shapes:
        return "there is no truth of most slices to show beside what was found"
    colours = {shape.name: _colour(project, shape.name, i) for i, shape in enumerate(shapes)}
    found, truth = (_solids(shapes, side, colours) for side in (0, 1))
    camera = fit(bounds([*found, *truth], ()), _SIZE, [_VIEW])
    look = Look(reach_px=0.045 * min(_SIZE))
    titles = ("truth", f"{method}, {first['n_slices']} labelled slices")
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(9.4, 4.7), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, solids, title in zip(panels, (truth, found), titles, strict=True):
            axes.imshow(add_scale_bar(take_picture(solids, (), camera, look), camera.nm_per_px[0]))
            axes.set_title(title, loc="left")
            axes.set_axis_off()
        handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
        for path in paths:
            metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=150, metadata=metadata)
    return ""


def _colour(project: Project, name: str, index: int) -> str:
    of_class = name.removesuffix("_interior")
    return class_colour(project.classes.index(of_class) if of_class in project.classes else index)


def _solids(shapes: Sequence[Shape], side: int, colours: Mapping[str, str]) -> list[Solid]:
    """Return the surfaces of what was found (0) or is true (1)."""
    solids = []
    for shape in shapes:
        values = np.pad(shape.values[side], 1)
        if values.max() < 128:
            continue
        vertices, faces, *_ = marching_cubes(values.astype(np.float32), 127.5, spacing=shape.step_nm)  # type: ignore[no-untyped-call]
        colour = np.array([rgb(colours[shape.name])], np.float32) / 255
        opacity = GLASS.get(shape.name.removesuffix("_interior"), 1.0) if len(shapes) > 1 else 1.0
        # From (z, y, x) to (x, y, z), which turns triangles over.
        mesh = np.ascontiguousarray(vertices[:, ::-1], np.float64), np.ascontiguousarray(faces[:, ::-1], np.int32)
        solids.append(solid([mesh], colour, opacity))
    return solids
