"""The figure of `cristae advise`: doubt along z, what is labelled, and what to label next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cristae.figures import save_figure
from cristae.palette import BLUE, GREEN, GRIDDED, ORANGE, VERMILLION


def draw_advice(table: pd.DataFrame, labelled: Sequence[int], depth: int, *paths: Path) -> None:
    """Draw the terms of an advice along z and save the figure under each path, in the form that its ending names.

    Parameters
    ----------
    table
        As `cristae.stages.advise.advise` makes it.
    labelled
        z of labelled slices.
    depth
        Slices of the volume.
    """
    along = table.sort_values("z")
    panels = [
        ("doubt\n(1 is usual)", along["doubt"], ORANGE),
        ("novelty\n(1 is usual)", along["novelty"], BLUE),
        ("still gained by\na label (%)", 100 * along["gain"].where(~along["advised"]), GREEN),
    ]
    shown = [panel for panel in panels if panel[1].notna().any()]
    with mpl.rc_context({**GRIDDED, "svg.fonttype": "path"}):
        figure = Figure(figsize=(8.6, 1.3 + 1.3 * len(shown)), layout="constrained")
        axes = np.atleast_1d(np.asarray(figure.subplots(max(1, len(shown)), 1, sharex=True)))
        for panel, (title, values, colour) in zip(axes, shown, strict=False):
            panel.plot(
                along["z"], values, color=colour, linewidth=1.2, marker="o" if len(along) < 40 else "", markersize=3
            )
            panel.set_ylabel(title)
            panel.set_ylim(bottom=0)
        for panel in axes:
            for place, z in enumerate(labelled):
                panel.axvline(z, color="black", linewidth=1, label="labelled" if place == 0 else None)
            for row in table[table["advised"]].itertuples():
                words = "advised, in this order" if row.rank == 1 else None
                panel.axvline(row.z, color=VERMILLION, linewidth=1.4, linestyle="--", label=words)
        for row in table[table["advised"]].itertuples():
            axes[0].annotate(
                str(row.rank),
                (row.z, 1),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                color=VERMILLION,
            )
        axes[-1].set_xlabel("slice (z)")
        axes[-1].set_xlim(-0.5, depth - 0.5)
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = dict(zip(*axes[0].get_legend_handles_labels()[::-1], strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
        save_figure(figure, *paths)
