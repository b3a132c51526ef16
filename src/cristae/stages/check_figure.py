"""The figure of `cristae check`: measures along z, and above them which slices have which fault.

Built on `matplotlib.figure.Figure` alone, so that drawing touches no global state and needs no screen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cristae.figures import save_figure
from cristae.palette import BLUE, GREEN, ORANGE, PLAIN, PURPLE, SKY, VERMILLION
from cristae.preprocess.stack import SEVERE
from cristae.preprocess.wording import TITLES

_STYLE: Any = {**PLAIN, "font.size": 9, "axes.grid": True, "svg.fonttype": "path"}
_PANELS: tuple[tuple[str, tuple[tuple[str, str, str], ...], tuple[str, ...]], ...] = (
    ("median grey value", (("brightness", "", BLUE),), ("brightness",)),
    ("contrast", (("contrast", "", ORANGE),), ("contrast",)),
    ("sharpness (log)", (("sharpness", "", GREEN),), ("out_of_focus",)),
    (
        "stripes / contrast",
        (("stripes_vertical", "vertical", PURPLE), ("stripes_horizontal", "horizontal", SKY)),
        ("curtaining",),
    ),
    (
        "likeness to the slice",
        (("likeness_1", "before", BLUE), ("likeness_2", "two before", SKY)),
        ("gap", "shuffled", "duplicated"),
    ),
    ("shift (px)", (("shift_y_px", "along y", BLUE), ("shift_x_px", "along x", VERMILLION)), ("shift",)),
)
"""Title of each panel; column, words and colour of its lines; and the faults that are marked in it."""


def draw_check(table: pd.DataFrame, *paths: Path) -> None:
    """Draw the measures of all slices and save the figure under each path, in the form that its ending names.

    Parameters
    ----------
    table
        As `cristae.stages.check.slice_table` returns it.
    """
    z = table["z"].to_numpy()
    kinds = [kind for kind in TITLES if f"score_{kind}" in table and (table[f"score_{kind}"] >= 1).any()]
    with mpl.rc_context(_STYLE):
        heights = [0.35 + 0.22 * max(1, len(kinds)), *(1.25 for _ in _PANELS)]
        figure = Figure(figsize=(8.6, sum(heights) + 0.7), layout="constrained")
        axes = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
        _draw_faults(axes[0], table, kinds)
        for panel, (title, lines, marked) in zip(axes[1:], _PANELS, strict=True):
            for column, words, colour in lines:
                values = np.where(table["blank"], np.nan, table[column].to_numpy(float))
                alone = "o" if len(z) < 3 else ""
                panel.plot(z, values, color=colour, linewidth=1.1, marker=alone, markersize=3, label=words or None)
            for kind in marked:
                for at in z[table[f"score_{kind}"].to_numpy() >= 1]:
                    panel.axvline(at, color=VERMILLION, linewidth=1, alpha=0.5, zorder=0)
            panel.set_ylabel(title)
            panel.yaxis.set_major_locator(MaxNLocator(4))
            if len(lines) > 1:
                panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
        axes[-1].set_xlabel("slice (z)")
        axes[-1].set_xlim(-0.5, len(z) - 0.5)
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        save_figure(figure, *paths)


def _draw_faults(panel: Axes, table: pd.DataFrame, kinds: list[str]) -> None:
    """Mark every faulty slice on a line of its fault; severe ones by squares."""
    panel.set_title("what is wrong with which slice" if kinds else "no slice is wrong", loc="left", fontsize=10)
    for row, kind in enumerate(reversed(kinds)):
        at = table["z"].to_numpy()[table[f"score_{kind}"].to_numpy() >= 1]
        severe = kind in SEVERE
        panel.plot(
            at, np.full(len(at), row), linestyle="none", marker="s" if severe else "|",
            color=VERMILLION if severe else BLUE, markersize=5 if severe else 8,
        )  # fmt: skip
    panel.set_yticks(range(len(kinds)), [TITLES[kind] for kind in reversed(kinds)])
    panel.set_ylim(-0.7, max(1, len(kinds)) - 0.3)
    panel.grid(axis="x", visible=False)
