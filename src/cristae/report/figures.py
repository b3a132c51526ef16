"""Diagrams of the report, each as the text of an SVG: learning, Dice per slice, Dice by distance, scores per class.

Built on `matplotlib.figure.Figure` alone, so that drawing touches no global state and needs no screen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cristae.figures import figure_bytes
from cristae.palette import BLUE, GREEN, GRIDDED, ORANGE, VERMILLION, class_colour, class_line, dice_begins

_WIDTH = 8.6
_BESIDE: Any = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}


def training_curve(history: pd.DataFrame, classes: Sequence[str], best_step: int | None = None) -> str:
    """Draw the loss, and the Dice on held-out labels, against training steps.

    Parameters
    ----------
    history
        Columns ``step``, ``loss`` and, where measured, ``dice_<class>`` (NaN on rows without).
    classes
        Classes of the project, in order.
    best_step
        Step whose weights were kept; marked when given.

    Returns
    -------
    str
        SVG.
    """
    measured = [name for name in classes if f"dice_{name}" in history and history[f"dice_{name}"].notna().any()]
    with mpl.rc_context(GRIDDED):
        figure = Figure(figsize=(_WIDTH, 4.8 if measured else 2.6), layout="constrained")
        axes = _panels(figure, 2 if measured else 1)
        loss = history[["step", "loss"]].dropna()
        _draw_loss(axes[0], loss)
        for name in measured:
            index = list(classes).index(name)
            rows = history[["step", f"dice_{name}"]].dropna()
            axes[1].plot(rows["step"], rows[f"dice_{name}"], **class_line(index, name))
        if measured:
            _dice_axis(axes[1], "held-out Dice")
            axes[1].legend(**_BESIDE)
        if best_step is not None:
            for panel in axes:
                panel.axvline(best_step, color="black", linestyle=":", linewidth=1)
            axes[0].annotate(
                " weights kept", (best_step, 1), xycoords=("data", "axes fraction"), va="top", fontsize=8.5
            )
        axes[-1].set_xlabel("training step")
        return as_svg(figure)


def dice_per_slice(table: pd.DataFrame, labelled: Mapping[str, Sequence[int]], classes: Sequence[str]) -> str:
    """Draw the 2D Dice of every slice, slices used for training marked by black lines.

    The form of Figure 5 of Pagano et al. (2023): peaks at the marks and dips between them show that a network knows
    its training slices better than the rest. Slices that are rightly empty are left out; crosses at 0 are slices
    without the class on which something was predicted.

    Parameters
    ----------
    table
        Per-slice scores as `cristae.stages.evaluate.score_slices` makes them.
    labelled
        Per class, the z of slices used for training.
    classes
        Classes of the project, in order; those of the table are drawn, one panel each.

    Returns
    -------
    str
        SVG.
    """
    names = [name for name in classes if (table["class"] == name).any()]
    with mpl.rc_context(GRIDDED):
        figure = Figure(figsize=(_WIDTH, 0.7 + 1.9 * len(names)), layout="constrained")
        panels = _panels(figure, len(names))
        for panel, name in zip(panels, names, strict=True):
            for i, z in enumerate(labelled.get(name, ())):
                panel.axvline(z, color="black", linewidth=1.2, label="used for training" if i == 0 else None)
            _draw_slices(panel, table[table["class"] == name], class_colour(list(classes).index(name)))
            _dice_axis(panel, "Dice (2D)", table["dice"].min())
            panel.set_title(name, loc="left", fontsize=10, fontweight="bold", parse_math=False)
            if panel.get_legend_handles_labels()[0]:
                panel.legend(loc="upper right", bbox_to_anchor=(1, 1.2), ncols=3, fontsize=8.5)
        panels[-1].set_xlabel("slice (z)")
        return as_svg(figure)


def cells_per_slice(table: pd.DataFrame, labelled: Sequence[int], before: pd.DataFrame | None = None) -> str:
    """Draw the mean Dice of the cells of every slice, and that of the worst, labelled slices marked by black lines.

    Parameters
    ----------
    table
        ``z``, ``dice`` and ``worst`` as `cristae.stages.score_cells.compare` makes them.
    labelled
        z of the slices that cells were found from.
    before
        As `table`, before cells were corrected: drawn dashed.

    Returns
    -------
    str
        SVG.
    """
    rows = table.sort_values("z")
    z = np.arange(int(rows["z"].min()), int(rows["z"].max()) + 1)
    lines = rows.set_index("z").reindex(z)  # a row of NaN at every z without truth breaks the line there
    with mpl.rc_context(GRIDDED):
        figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
        panels = _panels(figure, 2)
        for panel, column, words, colour in zip(
            panels, ("dice", "worst"), ("mean of cells", "worst cell"), (BLUE, VERMILLION), strict=True
        ):
            for i, at in enumerate(labelled):
                panel.axvline(at, color="black", linewidth=1.2, label="labelled" if i == 0 else None)
            alone = lines[column].notna() & lines[column].shift(1).isna() & lines[column].shift(-1).isna()
            panel.plot(z, lines[column], color=colour, linewidth=1.6)
            panel.plot(z[alone.to_numpy()], lines.loc[alone, column], color=colour, marker="o", linestyle="none")
            lowest = float(rows[column].min())
            if before is not None:
                earlier = before.set_index("z")[column].reindex(z)
                panel.plot(z, earlier, color=colour, linewidth=1.2, linestyle="--", label="before corrections")
                lowest = min(lowest, float(earlier.min()))
            _dice_axis(panel, f"Dice, {words}", lowest)
        if len(labelled) or before is not None:
            panels[0].legend(loc="upper right", bbox_to_anchor=(1, 1.2), fontsize=8.5, ncols=2)
        panels[-1].set_xlabel("slice (z)")
        return as_svg(figure)


def dice_by_distance(distance: pd.DataFrame, classes: Sequence[str]) -> str:
    """Draw the Dice against the distance to the nearest slice used for training.

    Parameters
    ----------
    distance
        Columns ``class``, ``distance_slices``, ``distance_nm``, ``dice``.
    classes
        Classes of the project, in order.

    Returns
    -------
    str
        SVG.
    """
    with mpl.rc_context(GRIDDED):
        figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for index, name in enumerate(classes):
            rows = distance[distance["class"] == name]
            if len(rows):
                axes.plot(rows["distance_slices"], rows["dice"], **class_line(index, name))
        _dice_axis(axes, "Dice of all slices\nat that distance", distance["dice"].min())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("slices to the nearest slice used for training")
        apart = distance[distance["distance_slices"] > 0]
        if len(apart):
            far, unit = (1e3, "µm") if float(apart["distance_nm"].max()) >= 1e3 else (1.0, "nm")
            step = float(apart["distance_nm"].iloc[0]) / float(apart["distance_slices"].iloc[0]) / far
            above = axes.secondary_xaxis("top", functions=(partial(np.multiply, step), partial(np.multiply, 1 / step)))
            above.set_xlabel(unit)
        axes.legend(**_BESIDE)
        return as_svg(figure)


def scores_per_class(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw 3D Dice, precision and recall of each class as bars; a score that cannot be told has none.

    Parameters
    ----------
    scores
        Per class the entries of ``scores.json``.

    Returns
    -------
    str
        SVG.
    """
    bars = (("3D Dice", "dice_3d", BLUE), ("precision", "precision", ORANGE), ("recall", "recall", GREEN))
    names = list(scores)
    with mpl.rc_context({**GRIDDED, "axes.grid": False}):
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.75 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        for i, (label, key, colour) in enumerate(bars):
            values = [_number(scores[name].get(key)) for name in names]
            places = [row + (i - 1) * 0.25 for row in range(len(names))]
            drawn = axes.barh(places, [0 if math.isnan(v) else v for v in values], 0.23, color=colour, label=label)
            axes.bar_label(drawn, [" –" if math.isnan(v) else f" {v:.3f}" for v in values], fontsize=8)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.08)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
        return as_svg(figure)


def as_svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG, without a date: the same figure is the same text."""
    return figure_bytes(figure, "svg").decode()


def _panels(figure: Figure, n: int) -> list[Axes]:
    """Return `n` axes above each other that share what runs to the right."""
    first = figure.add_subplot(n, 1, 1)
    axes = [first, *(figure.add_subplot(n, 1, i + 1, sharex=first) for i in range(1, n))]
    for panel in axes[:-1]:
        panel.tick_params(labelbottom=False)
    return axes


def _draw_loss(axes: Axes, loss: pd.DataFrame) -> None:
    """Draw every value faintly and a running median over a fiftieth of the training."""
    window = max(1, len(loss) // 50)
    smooth = loss["loss"].rolling(window, center=True, min_periods=1).median()
    if window > 1:
        axes.plot(loss["step"], loss["loss"], color="#bbbbbb", linewidth=0.7, rasterized=len(loss) > 5000)
    axes.plot(loss["step"], smooth, color="black", linewidth=1.4)
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=min(0.0, float(loss["loss"].min())) if len(loss) else 0)


def _draw_slices(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    rows = rows.sort_values("z")
    empty = (rows["n_truth"] == 0) & (rows["n_predicted"] == 0)
    invented = rows[(rows["n_truth"] == 0) & ~empty]
    # a row of NaN at every z without truth breaks the line there
    z = np.arange(int(rows["z"].min()), int(rows["z"].max()) + 1)
    dice = rows.assign(dice=rows["dice"].where(~empty)).set_index("z")["dice"].reindex(z)
    alone = dice.notna() & dice.shift(1).isna() & dice.shift(-1).isna()
    axes.plot(z, dice, color=colour, linewidth=1.6)
    axes.plot(z[alone.to_numpy()], dice[alone], color=colour, marker="o", markersize=4, linestyle="none")
    if len(invented):
        axes.plot(
            invented["z"],
            [0] * len(invented),
            color=VERMILLION,
            marker="x",
            linestyle="none",
            clip_on=False,
            label="predicted where there is none",
        )


def _dice_axis(axes: Axes, label: str, lowest: float = 0.0) -> None:
    axes.set_ylim(dice_begins(lowest), 1.01)
    axes.set_ylabel(label)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
