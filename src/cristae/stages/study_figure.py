"""The figure of `cristae study cells`: mean Dice of cells by each method, against how far labelled slices are apart.

Built on `matplotlib.figure.Figure` alone, so that drawing touches no global state and needs no screen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cristae.figures import save_figure
from cristae.palette import BLUE, BROWN, GREEN, LINES, ORANGE, PLAIN, PURPLE, SKY, VERMILLION, dice_begins
from cristae.stages.table2 import ROWS, gap_titles

# Orange, purple, vermillion and brown use flow, the others do not.
_LOOKS: dict[str, dict[str, Any]] = {
    "mask": {"color": SKY, "marker": "o"},
    "mask+boundary": {"color": GREEN, "marker": "s"},
    "flow": {"color": ORANGE, "marker": "^"},
    "mask+flow": {"color": PURPLE, "marker": "v"},
    "mask+boundary+flow": {"color": VERMILLION, "marker": "D"},
    "mask+boundary+flow frames": {"color": BROWN, "marker": "P"},
    "paths": {"color": "#000000", "marker": "o"},
    "basins": {"color": BLUE, "marker": "s"},
    "copy nearest": {"color": "#999999", "marker": "x"},
}
_ROOM = 0.78
"""Share of the way from one gap to the next that the marks of one gap take."""


def draw_study(table: pd.DataFrame, *paths: Path) -> None:
    """Draw the table of a study and save it under each of `paths`, in the form that its ending names.

    Parameters
    ----------
    table
        One row per gap and method, gaps ascending: ``gap_slices``, ``gap_nm``, ``method``, ``dice`` and ``dice_sd``.
    """
    gaps = list(dict.fromkeys(table["gap_slices"]))
    methods = [method for _, _, method in ROWS if (table["method"] == method).any()]
    words = {method: words for _, words, method in ROWS}
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(9.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for place, method in enumerate(methods):
            rows = table[table["method"] == method].set_index("gap_slices").loc[gaps]
            dice, spread = rows["dice"].to_numpy(float), np.nan_to_num(rows["dice_sd"].to_numpy(float))
            x = np.arange(len(gaps)) + _ROOM * ((place + 0.5) / len(methods) - 0.5)
            look = _LOOKS[method]
            # A Dice is never outside 0–1, however much it varies.
            reach = np.stack([dice - np.maximum(dice - spread, 0), np.minimum(dice + spread, 1) - dice])
            axes.errorbar(x, dice, reach, fmt="none", ecolor=look["color"], elinewidth=1.2, alpha=0.45)
            axes.plot(x, dice, **look, linewidth=0.7, linestyle=":", markersize=6, label=words[method])
        axes.set_xticks(range(len(gaps)), [title.replace(" (", "\n(") for title in gap_titles(table)])
        axes.set_xlim(-0.5, len(gaps) - 0.5)
        for between in np.arange(len(gaps) - 1) + 0.5:
            axes.axvline(between, color=LINES, linewidth=1)
        axes.set_xlabel("from one labelled slice to the next")
        lowest = float((table["dice"] - table["dice_sd"].fillna(0)).min())
        axes.set_ylim(dice_begins(lowest), 1.02)
        axes.set_ylabel("Dice of cells: mean ± sd")
        axes.grid(axis="y", color=LINES)
        axes.set_axisbelow(True)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        save_figure(figure, *paths)
