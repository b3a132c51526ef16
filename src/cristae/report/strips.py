"""Strips: every object a dot, a strip for each class or sample, a panel for each feature; and bars of what cells hold.

The form of Figures 11 and 12 of Machireddy et al. (2023), and of Figure 10E–H. Objects that touch the edge are
hollow. Of many objects some are drawn, evenly spread over all values; lines and quartiles are always those of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from cristae.figures import figure_bytes
from cristae.palette import PLAIN

MOST_POINTS = 300
"""Points drawn in a strip."""
PER_FIGURE = 20
"""Panels of a figure."""
COLUMNS = 4
"""Panels beside each other."""
_RASTER = 2500
"""Points from which on they are drawn as pixels: a page of a hundred thousand circles does not open."""
_WIDTH, _HEIGHT = 2.55, 1.75
_LINE = 31
"""Letters that fit above a panel."""
_DECADES = 1.7
"""Medians of strips further apart than this are drawn on a logarithmic axis."""
_STYLE: Any = {
    **PLAIN,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.fonttype": "path",
}


@dataclass(frozen=True, eq=False)
class Strip:
    """Values of one class or sample.

    Parameters
    ----------
    name
        Below the strip.
    values, hollow
        float and bool ``(n,)``; what is not finite is left out.
    colour, marker
        How points look.
    """

    name: str
    values: np.ndarray
    hollow: np.ndarray
    colour: str
    marker: str = "o"


@dataclass(frozen=True, eq=False)
class Panel:
    """One feature: its title, its unit ("" for none), its strips, and words below the title."""

    title: str
    unit: str
    strips: tuple[Strip, ...]
    remark: str = ""


@dataclass(frozen=True, eq=False)
class Bars:
    """One quantity of every cell: title, unit, values, which cells touch the edge, colour, and whether it is whole."""

    title: str
    unit: str
    values: np.ndarray
    hollow: np.ndarray
    colour: str
    whole: bool = False


def draw_strips(panels: Sequence[Panel], columns: int = COLUMNS) -> Figure:
    """Draw panels of strips, so many beside each other."""
    turned = [panel for panel in panels if len(panel.strips) * max(len(one.name) for one in panel.strips) > 34]
    longest = max((len(strip.name) for panel in turned for strip in panel.strips), default=0)
    below = min(1.6, 0.18 + 0.064 * longest) if turned else 0.3
    n_points = sum(min(MOST_POINTS, len(strip.values)) for panel in panels for strip in panel.strips)
    with mpl.rc_context(_STYLE):
        figure, axes = _grid(len(panels), columns, _HEIGHT + below, below)
        for place, (panel, one) in enumerate(zip(panels, axes, strict=True)):
            _draw_panel(one, panel, np.random.default_rng(place), rasterized=n_points > _RASTER)
            if panel in turned:
                one.tick_params(axis="x", rotation=90)
        return figure


def draw_bars(rows: Mapping[str, Sequence[Bars]], cells: Sequence[str]) -> Figure:
    """Draw a bar per cell, bars of cells that touch the edge hollow: a row per class, a column per quantity."""
    n_columns = max(map(len, rows.values()))
    wide = max(2.6, min(5.0, 0.11 * len(cells) + 0.6))
    with mpl.rc_context(_STYLE):
        below = 0.4 + 0.064 * max(map(len, cells))
        figure = Figure(figsize=(n_columns * wide + 0.4, 1.2 * len(rows) + 0.3 + below))
        figure.subplots_adjust(
            left=0.95 / figure.get_figwidth(),
            right=1 - 0.1 / figure.get_figwidth(),
            top=1 - 0.3 / figure.get_figheight(),
            bottom=below / figure.get_figheight(),
            hspace=0.35,
            wspace=0.28,
        )
        for at, (name, row) in enumerate(rows.items()):
            for column, bars in enumerate(row):
                axes = figure.add_subplot(len(rows), n_columns, at * n_columns + column + 1)
                _draw_bars(axes, bars, cells, last=at == len(rows) - 1)
                if at == 0:
                    unit = f" ({bars.unit})" if bars.unit else ""
                    axes.set_title(f"{bars.title}{unit}", loc="left", pad=6, parse_math=False)
                if column == 0:
                    axes.set_ylabel(_broken(name, 14), fontsize=9, fontweight="bold", parse_math=False)
                    axes.yaxis.set_label_coords(-0.62 / (wide - 0.4), 0.5)
        return figure


def save(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    """Return a figure as a file; the same bytes for the same figure."""
    with mpl.rc_context(_STYLE):
        return figure_bytes(figure, kind)


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Return the places of at most `most` values, evenly spread over all in their order, with smallest and largest."""
    order = np.argsort(values, kind="stable")
    if len(order) <= most:
        return order
    return order[np.round(np.linspace(0, len(order) - 1, most)).astype(int)]


def _grid(n: int, columns: int, height: float, below: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of `n` axes of one size, each `height` inches with what is above and below it."""
    rows = -(-n // columns)
    figure = Figure(figsize=(COLUMNS * _WIDTH, rows * height + 0.1))
    found = []
    for place in range(n):
        row, column = divmod(place, columns)
        left, bottom = column * _WIDTH + 0.62, (rows - 1 - row) * height + below + 0.05
        box = (left, bottom, _WIDTH - 0.72, height - below - 0.42)
        scale = figure.get_figwidth(), figure.get_figheight()
        found.append(figure.add_axes((box[0] / scale[0], box[1] / scale[1], box[2] / scale[0], box[3] / scale[1])))
    return figure, found


def _draw_panel(axes: Axes, panel: Panel, generator: np.random.Generator, rasterized: bool) -> None:
    most = min(MOST_POINTS, max(len(strip.values) for strip in panel.strips))
    size = 22 if most <= 30 else 12 if most <= 120 else 7
    for place, strip in enumerate(panel.strips):
        _draw_strip(axes, (place, size), strip, generator, rasterized)
    unit = f" ({panel.unit})" if panel.unit else ""
    if _is_wide(panel):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
        unit += ", log"
    else:
        if all(not np.nan_to_num(strip.values, posinf=0, neginf=0).any() for strip in panel.strips):
            axes.set_ylim(-0.05, 1)  # zeros alone have no scale
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    title = f"{panel.title}{unit}"
    axes.set_title(
        _broken(title, _LINE - (len(panel.remark) + 3) * bool(panel.remark)),
        loc="left",
        pad=4,
        parse_math=False,
        linespacing=1.05,
    )
    if panel.remark:
        axes.text(
            1, 1.0, panel.remark, transform=axes.transAxes, ha="right", va="bottom", fontsize=7.5, color="#57606a"
        )
    room = max(0.0, 1.5 - len(panel.strips) / 2)  # one strip alone need not fill the panel
    axes.set_xlim(-0.6 - room, len(panel.strips) - 0.4 + room)
    axes.set_xticks(range(len(panel.strips)), [strip.name for strip in panel.strips], parse_math=False)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", color="#ececec", linewidth=0.7)
    axes.set_axisbelow(True)


def _draw_strip(
    axes: Axes, look: tuple[int, int], strip: Strip, generator: np.random.Generator, rasterized: bool
) -> None:
    place, size = look
    finite = np.isfinite(strip.values)
    values, hollow = strip.values[finite], strip.hollow[finite]
    if not len(values):
        axes.text(place, 0.02, "none", transform=axes.get_xaxis_transform(), ha="center", fontsize=7.5, color="#57606a")
        return
    shown = thinned(values)
    spread = 0.06 if len(shown) == 1 else min(0.32, 0.06 + 0.03 * math.sqrt(len(shown)))
    x = place + generator.uniform(-spread, spread, len(shown)) * (len(shown) > 1)
    for cut in (False, True):
        chosen = hollow[shown] == cut
        if chosen.any():
            axes.scatter(
                x[chosen],
                values[shown][chosen],
                s=size,
                marker=strip.marker,
                facecolors="none" if cut else strip.colour,
                edgecolors=strip.colour if cut else "white",
                linewidths=0.8 if cut else 0.3,
                alpha=0.9 if size > 7 else 0.7,
                rasterized=rasterized,
                zorder=2,
            )
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    if len(values) > 1:
        axes.plot([place + 0.42] * 2, [low, high], color="black", linewidth=1.0, solid_capstyle="butt", zorder=3)
    axes.plot([place - 0.4, place + 0.45], [middle] * 2, color="black", linewidth=1.6, solid_capstyle="butt", zorder=4)


def _is_wide(panel: Panel) -> bool:
    """Say whether a panel needs a logarithmic axis: all above 0, and strips, or values, decades apart."""
    values = [strip.values[np.isfinite(strip.values)] for strip in panel.strips]
    values = [one for one in values if len(one)]
    if not values or min(one.min() for one in values) <= 0:
        return False
    medians = [float(np.median(one)) for one in values]
    quartiles = [np.quantile(one, [0.05, 0.95]) for one in values]
    inside = max(math.log10(high / low) for low, high in quartiles)
    return math.log10(max(medians) / min(medians)) > 1.2 or inside > _DECADES


def _draw_bars(axes: Axes, bars: Bars, cells: Sequence[str], last: bool) -> None:
    x = np.arange(len(cells))
    for cut in (False, True):
        chosen = bars.hollow == cut
        axes.bar(
            x[chosen],
            bars.values[chosen],
            width=0.8 if len(cells) > 1 else 0.3,
            color="none" if cut else bars.colour,
            edgecolor=bars.colour,
            linewidth=0.8,
        )
    axes.set_xlim(-0.7, max(len(cells), 2) - 0.3)
    axes.set_ylim(0, max(float(bars.values.max(initial=0)) * 1.08, 1e-12))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=bars.whole))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    step = max(1, -(-len(cells) // 20))
    axes.set_xticks(x[::step], cells[::step] if last else [""] * len(x[::step]), parse_math=False)
    longest = max(map(len, cells))
    axes.tick_params(axis="x", length=2, rotation=90 if last and longest * min(len(cells), 20) > 36 else 0)
    if last:
        axes.set_xlabel("cell")
    axes.grid(axis="y", color="#ececec", linewidth=0.7)
    axes.set_axisbelow(True)


def _broken(title: str, width: int) -> str:
    """Break a long title in two lines."""
    if len(title) <= width:
        return title
    at = title.rfind(" ", 0, width + 1)
    return f"{title[:at]}\n{title[at + 1 :]}" if at > 0 else title


def _tick(value: float, _: object) -> str:
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
