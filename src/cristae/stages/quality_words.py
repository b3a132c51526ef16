"""Quality in words: what to expect, and a list for proofreading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

MOST = 50
"""Flags in the list; the table has all."""
_FEW = 5


def how_severe(severity: float) -> str:
    """Return a severity (0–1) as a word."""
    return "severe" if severity >= 0.67 else "clear" if severity >= 0.33 else "mild"


def class_in_words(row: Mapping[Any, Any]) -> str:
    """Return what is to be expected of one class, from a row of ``classes``."""
    words = f"{row['class']}: 3D Dice about {row['expected_dice_3d']:.2f}"
    if not math.isnan(float(row["coverage"])):
        percent = f"{float(row['coverage']):.0%}".replace("%", " %")
        words += f", by {percent} between {row['dice_3d_low']:.2f} and {row['dice_3d_high']:.2f}"
    elif row["n_left_out"]:
        words += " (too few labelled slices for an interval)"
    else:
        words += " by its own account, which flatters"
    return words


def flag_in_words(row: Mapping[Any, Any]) -> str:
    """Return a flag as a line: what, where, why."""
    what = f"{row['class']} {row['object_id']}" if row["object_id"] else f"slice {row['z']}, {row['class']}"
    place = box_in_words(row)
    return (
        f"{what}{f' ({place})' if place else ''}: {row['reason']} ({row['kind']}, {how_severe(float(row['severity']))})"
    )


def box_in_words(row: Mapping[Any, Any]) -> str:
    """Return the box of the object that a flag is about; nothing where it is about a slice, or no box is known."""
    if middle_of(row) is None:
        return ""
    return ", ".join(f"{axis} {row[f'{axis}_start']}–{row[f'{axis}_stop'] - 1}" for axis in "zyx")


def middle_of(row: Mapping[Any, Any]) -> tuple[float, float, float] | None:
    """Return the middle of that box ``(z, y, x)`` in voxels; None where there is none."""
    if not row["object_id"] or pd.isna(row["z_start"]):
        return None
    z, y, x = (float(row[f"{axis}_start"] + row[f"{axis}_stop"] - 1) / 2 for axis in "zyx")
    return z, y, x


def proofreading(name: str, classes: pd.DataFrame, slices: pd.DataFrame, flags: pd.DataFrame) -> str:
    """Return the list for proofreading as Markdown: expectations, the slices to fear for, the flags."""
    lines = [f"# What to proofread in {name}", ""]
    lines += [f"- {class_in_words(row)}" for row in classes.to_dict("records")]
    asked = slices[slices["usable"] & ~slices["labelled"] & (slices["expected_errors"] > 0)]
    worst = asked.sort_values("expected_errors", ascending=False).groupby("class", sort=False).head(_FEW)
    if len(worst):
        lines += ["", "## Slices with most to correct", ""]
        lines += [
            f"- [ ] slice {row['z']}, {row['class']}: about {row['expected_errors']:.0f} wrong voxels, Dice about "
            f"{row['expected_dice']:.2f}"
            for row in worst.sort_values(["class", "expected_errors"], ascending=[True, False]).to_dict("records")
        ]
    lines += ["", f"## Red flags: {len(flags)}", ""]
    lines += [f"- [ ] {flag_in_words(row)}" for row in flags.head(MOST).to_dict("records")]
    if len(flags) > MOST:
        lines.append(f"\n… and {len(flags) - MOST} more in `flags.csv`.")
    return "\n".join([*lines, ""])
