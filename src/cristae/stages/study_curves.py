"""The figures of a study of networks: Dice over the number of labelled slices, and Dice along z.

The second is Figure 5 of Pagano et al. (2023), the first draws what their Tables 5 and 6 hold. Built on
`matplotlib.figure.Figure` alone, so that drawing touches no global state and needs no screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cristae.figures import save_figure
from cristae.palette import BLUE, BROWN, GREEN, LINES, MARKERS, ORANGE, PLAIN, PURPLE, SKY, VERMILLION, dice_begins
from cristae.stages.study_tables import methods_table, summary, with_methods

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, BROWN, SKY)
_DASHES = {"supervised": ":", "cps": "--", "cps_cutmix": "-"}
_MOST = 6
"""Methods drawn along z, the best: more lines cannot be told apart."""
_PANEL = 3.1
"""Height of a panel in inches."""


def draw_curves(table: pd.DataFrame, *paths: Path) -> None:
    """Draw 3D Dice over the number of labelled slices, a panel per class and a line per method.

    Parameters
    ----------
    table
        A row per trial and class.
    paths
        Where the figure is saved, in the form that each ending names.
    """
    means, looks = summary(table), _looks(table)
    classes, numbers = list(dict.fromkeys(means["class"])), sorted(means["n_slices"].unique())
    with mpl.rc_context(PLAIN):
        figure, panels = _panels(len(classes))
        for axes, name in zip(panels, classes, strict=True):
            for place, (method, look) in enumerate(looks.items()):
                rows = means[(means["class"] == name) & (means["method"] == method)].sort_values("n_slices")
                # A little aside, so that marks of one number do not hide each other.
                x = rows["n_slices"].to_numpy(float) * 1.03 ** (place - (len(looks) - 1) / 2)
                dice, spread = rows["dice_3d"].to_numpy(float), np.nan_to_num(rows["dice_3d_sd"].to_numpy(float))
                # A Dice is never outside 0–1, however much it varies.
                reach = np.stack([dice - np.maximum(dice - spread, 0), np.minimum(dice + spread, 1) - dice])
                axes.errorbar(x, dice, np.nan_to_num(reach), fmt="none", ecolor=look["color"], alpha=0.45)
                axes.plot(x, dice, **look, markersize=5, linewidth=1.4, label=method)
            axes.set_xscale("log", base=2)
            axes.set_xticks(numbers, [str(n) for n in numbers])
            axes.set_xticks([], minor=True)
            axes.set_xlim(numbers[0] / 1.3, numbers[-1] * 1.3)
            axes.set_title(name, loc="left")
            axes.set_ylabel("3D Dice: mean ± sd")
            _bounds(axes, float((means["dice_3d"] - means["dice_3d_sd"].fillna(0)).min()))
        panels[-1].set_xlabel("labelled slices shown")
        _finish(figure, panels, paths)


def draw_along_z(table: pd.DataFrame, slices: pd.DataFrame, *paths: Path) -> None:
    """Draw the 2D Dice of every scored slice, a panel per class, with the slices shown as black lines.

    It is that of the first repeat with the fewest slices shown, where dips between them are deepest, by the methods of
    the best average ranks.

    Parameters
    ----------
    table, slices
        A row per trial and class; a row per trial, class and slice.
    paths
        Where the figure is saved, in the form that each ending names.
    """
    named = with_methods(table)
    first = named[(named["repeat"] == 0) & (named["n_slices"] == named["n_slices"].min())]
    methods = [one for one in methods_table(table)["method"] if (first["method"] == one).any()][:_MOST]
    looks, classes = _looks(table), list(dict.fromkeys(first["class"]))
    shown = [int(z) for z in str(first["slices"].iloc[0]).split()]
    with mpl.rc_context(PLAIN):
        figure, panels = _panels(len(classes))
        for axes, name in zip(panels, classes, strict=True):
            for z in shown:
                axes.axvline(z, color="black", linewidth=0.8)
            lowest = 1.0
            for method in methods:
                trial = int(first.loc[first["method"] == method, "trial"].iloc[0])
                rows = slices[(slices["trial"] == trial) & (slices["class"] == name)]
                rows = rows[(rows["n_truth"] > 0) | (rows["n_predicted"] > 0)].set_index("z")["dice"].sort_index()
                if len(rows):
                    lowest = min(lowest, float(rows.min()))
                    marks = {**looks[method], "marker": looks[method]["marker"] if len(rows) < 40 else ""}
                    axes.plot(rows.index, rows, **marks, markersize=4, linewidth=1.2, label=method)
            axes.set_title(name, loc="left")
            axes.set_ylabel("Dice of the slice")
            _bounds(axes, lowest)
        panels[-1].set_xlabel("z (slice)")
        _finish(figure, panels, paths)


def _looks(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how each line looks: schemes by dashes and marks, networks by colour where there are several."""
    rows = with_methods(table).drop_duplicates("method")
    networks, schemes, contexts = (list(dict.fromkeys(rows[one])) for one in ("network", "scheme", "context_nm"))
    looks = {}
    for _, row in rows.iterrows():
        mark = schemes.index(row["scheme"]) + len(schemes) * contexts.index(row["context_nm"])
        colour = networks.index(row["network"]) if len(networks) > 1 else mark
        looks[str(row["method"])] = {
            "color": _COLOURS[colour % len(_COLOURS)],
            "linestyle": _DASHES.get(row["scheme"], "-."),
            "marker": MARKERS[mark % len(MARKERS)],
        }
    return looks


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9.4, 0.7 + _PANEL * n), layout="constrained")
    return figure, list(figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0])


def _bounds(axes: Axes, lowest: float) -> None:
    axes.set_ylim(dice_begins(lowest), 1.02)
    axes.grid(axis="y", color=LINES)
    axes.set_axisbelow(True)


def _finish(figure: Figure, panels: Sequence[Axes], paths: Sequence[Path]) -> None:
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save_figure(figure, *paths)
