"""The figure of `cristae quality`: expected Dice with its interval along z, left-out slices, and where flags are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cristae.figures import save_figure
from cristae.palette import GRIDDED, VERMILLION, class_colour


def draw_quality(
    slices: pd.DataFrame, left_out: pd.DataFrame, flags: pd.DataFrame, names: Sequence[str], *paths: Path
) -> None:
    """Draw what is to be expected of every slice and save the figure under each path, in the form its ending names.

    Parameters
    ----------
    slices, left_out, flags
        Tables of `cristae.stages.quality.quality`.
    names
        Classes, in order.
    """
    with mpl.rc_context({**GRIDDED, "svg.fonttype": "path"}):
        figure = Figure(figsize=(8.6, 1.3 + 1.9 * len(names)), layout="constrained")
        axes = np.atleast_1d(np.asarray(figure.subplots(len(names), 1, sharex=True)))
        for index, (panel, name) in enumerate(zip(axes, names, strict=True)):
            rows, colour = slices[(slices["class"] == name) & slices["usable"]], class_colour(index)
            panel.plot(rows["z"], rows["expected_dice"], color=colour, linewidth=1.4, label="expected Dice")
            if (rows["dice_high"] - rows["dice_low"]).min() < 1:
                panel.fill_between(
                    rows["z"],
                    rows["dice_low"],
                    rows["dice_high"],
                    color=colour,
                    alpha=0.2,
                    linewidth=0,
                    label="interval",
                )
            painted = rows.loc[rows["labelled"], "z"]
            panel.plot(painted, np.zeros(len(painted)), "|", color="black", markersize=9, label="labelled")
            known = left_out[left_out["class"] == name]
            panel.plot(known["z"], known["dice"], "o", color="black", markersize=4, label="true, left out")
            panel.plot(
                known["z"], known["expected_dice"], "o", color="black", mfc="none", markersize=4, label="told, left out"
            )
            at = flags.loc[(flags["class"] == name) & (flags["z"] >= 0), "z"]
            if len(at):  # an unclipped line of no points would have no size to lay out
                panel.plot(at, np.ones(len(at)), "v", color=VERMILLION, markersize=5, clip_on=False, label="red flag")
            panel.set_ylim(0, 1.02)
            panel.set_ylabel(f"Dice of\n{name}")
        axes[-1].set_xlabel("slice (z)")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = {
            words: handle for panel in axes for handle, words in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
        save_figure(figure, *paths)
