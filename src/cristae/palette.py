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

CLASSES: Final = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
"""Colours of classes, in the order of the project; they begin again after the last."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
"""Marks of classes, so that lines differ in print without colours too."""


def class_colour(index: int) -> str:
    """Return the colour of the class at `index` of the project, as ``#rrggbb``."""
    return CLASSES[index % len(CLASSES)]


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue (0–255) of a colour ``#rrggbb``."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
