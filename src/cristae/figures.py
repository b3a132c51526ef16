"""Figures as files: the same figure is the same file, whichever process drew it.

The solver of a constrained layout meets its constraints in another order in each process, so that places of axes differ
in their last bits. Coordinates in an SVG are written with few digits and do not show that; names of clip paths, which
are hashes of places in full, do.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

_DIGITS = 9
"""Of places of axes, as shares of the figure: far below a pixel, far above what the solver is off by."""


def figure_bytes(figure: Figure, kind: Literal["svg", "png"], dpi: int = 150) -> bytes:
    """Return a figure as a file, without a date; its layout is settled and stays.

    Parameters
    ----------
    figure
        Drawn under settings with a ``svg.hashsalt``, as those of `cristae.palette` are, which still hold.
    kind
        The form.
    dpi
        Pixels per inch.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        place = axes.get_position(original=True)
        axes.set_position(Bbox(place.get_points().round(_DIGITS)), which="original")
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else None
    figure.savefig(buffer, format=kind, metadata=metadata, dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: Figure, *paths: Path) -> None:
    """Save a figure under each path, in the form that its ending names."""
    for path in paths:
        path.write_bytes(figure_bytes(figure, "svg" if path.suffix == ".svg" else "png"))
