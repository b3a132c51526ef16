"""How figures look: the colours of Okabe and Ito (2008), which colour-blind readers can tell apart, and plain axes."""

from __future__ import annotations

from typing import Any, Final

BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"
GREEN: Final = "#009E73"
PURPLE: Final = "#CC79A7"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
YELLOW: Final = "#F0E442"
BROWN: Final = "#8C510A"
"""Not of Okabe and Ito, for an eighth line."""
LINES: Final = "#e4e4e4"
"""Grid lines behind what is drawn."""

PLAIN: Final[Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINES,
    "legend.frameon": False,
    "svg.hashsalt": "cristae",
}
"""Settings of matplotlib for every figure; the salt makes the same figure the same file."""
GRIDDED: Final[Any] = {**PLAIN, "axes.grid": True}
"""The same, with grid lines along both axes."""

CLASSES: Final = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
"""Colours of classes, in the order of the project; they begin again after the last."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
"""Marks of classes, so that lines differ in print without colours too."""


def class_colour(index: int) -> str:
    """Return the colour of the class at `index` of the project, as ``#rrggbb``."""
    return CLASSES[index % len(CLASSES)]


def class_line(index: int, name: str) -> dict[str, Any]:
    """Return how the line of the class at `index` of the project looks, as keywords of matplotlib's ``plot``."""
    marker = MARKERS[index % len(MARKERS)]
    return {"color": class_colour(index), "marker": marker, "markersize": 4, "clip_on": False, "label": name}


def dice_begins(lowest: float) -> float:
    """Return where an axis of Dice begins: 0, or 0.5 or 0.8 where all values are above it.

    Dips near 1 would not be seen otherwise.
    """
    return max((bottom for bottom in (0.0, 0.5, 0.8) if lowest > bottom), default=0.0)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue (0–255) of a colour ``#rrggbb``."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
