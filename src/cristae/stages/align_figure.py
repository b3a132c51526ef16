"""The picture of an alignment: where the slices were, and how far neighbours lay apart before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cristae.figures import figure_bytes
from cristae.palette import BLUE, GREEN, ORANGE, PLAIN, PURPLE, VERMILLION

_STYLE: Any = {**PLAIN, "axes.grid": True}


def draw_alignment(transforms: pd.DataFrame, pairs: pd.DataFrame, pixel_nm: Sequence[float]) -> dict[str, bytes]:
    """Draw shifts along z, displacement and residual of neighbours, and how well they agree.

    Parameters
    ----------
    transforms, pairs
        Tables of an align run.
    pixel_nm
        Size of a pixel along y and x.

    Returns
    -------
    dict
        The figure as ``svg`` and ``png``.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.6, 7.2), layout="constrained")
        shifts, apart, agreement = figure.subplots(3, 1, sharex=True)
        bridged = transforms["bridged"].to_numpy()
        for axis, colour in (("y", BLUE), ("x", ORANGE)):
            values = transforms[f"shift_{axis}_px"]
            shifts.plot(transforms["z"], values, color=colour, linewidth=1.4, label=f"along {axis}")
            lost = transforms["z"][bridged], values[bridged]
            shifts.plot(*lost, color=colour, marker="o", markersize=4, markerfacecolor="white", linestyle="none")
        if bridged.any():
            shifts.plot([], [], color="black", marker="o", markerfacecolor="white", linestyle="none", label="bridged")
        for number, first in enumerate(_beginnings(transforms)):
            for panel in (shifts, apart, agreement):
                words = "no match joins" if not number and panel is shifts else None
                panel.axvline(first - 0.5, color=PURPLE, linewidth=1.2, linestyle="--", label=words)
        shifts.set_ylabel("shift of the slice\n(px)")
        shifts.legend(loc="upper right", bbox_to_anchor=(1, 1.2), ncols=3, fontsize=8.5)
        nm = float(pixel_nm[0])
        shifts.secondary_yaxis("right", functions=(lambda v: v * nm, lambda v: v / nm)).set_ylabel("nm")
        rows = _neighbours(pairs)
        before = np.hypot(rows["y0"], rows["x0"])
        least = 1e-3
        apart.plot(rows["moving"], np.maximum(before, least), color=VERMILLION, linewidth=1.2, label="before")
        after = np.maximum(rows["residual_px"].to_numpy(), least)
        apart.plot(rows["moving"], after, color=GREEN, linewidth=1.2, label="after: what the path leaves of it")
        apart.set_yscale("log")
        apart.set_ylabel("from the slice\nbefore (px)")
        apart.legend(loc="upper right", bbox_to_anchor=(1, 1.2), ncols=2, fontsize=8.5)
        agreement.plot(rows["moving"], rows["correlation_before"], color=VERMILLION, linewidth=1.2, label="before")
        agreement.plot(rows["moving"], rows["correlation_after"], color=GREEN, linewidth=1.2, label="after")
        agreement.set_ylabel("correlation with\nthe slice before")
        agreement.set_xlabel("slice (z)")
        return {"svg": figure_bytes(figure, "svg"), "png": figure_bytes(figure, "png", dpi=130)}


def _beginnings(transforms: pd.DataFrame) -> list[int]:
    """Return the slices at which another part of the stack begins, or goes on."""
    held = transforms[transforms["part"] >= 0]
    return held["z"][held["part"].diff().fillna(0) != 0].tolist()


def _neighbours(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pair of each slice with the nearest one before it that is there."""
    near = pairs.loc[pairs.groupby("moving")["fixed"].idxmax()]
    return near[np.isfinite(near["sigma_px"])].sort_values("moving")
