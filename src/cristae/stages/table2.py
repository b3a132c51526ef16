"""The form of Table 2 of Machireddy et al. (2023): methods down, gaps across, the best in bold; and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from cristae.wording import markdown_table

COPY_NEAREST = "copy nearest"
"""Name of the baseline: every slice has the cells of the labelled slice nearest to it."""

ROWS: tuple[tuple[str, str, str], ...] = (
    ("Segmentation alone", "Mask", "mask"),
    ("Segmentation alone", "Mask + border", "mask+boundary"),
    ("Propagation alone", "Optical flow", "flow"),
    ("Segmentation + propagation", "Mask + optical flow (OF)", "mask+flow"),
    ("Segmentation + propagation", "Mask + border + OF (selective)", "mask+boundary+flow"),
    ("Segmentation + propagation", "Mask + border + OF (through frames)", "mask+boundary+flow frames"),
    ("cristae", "Cheapest paths in 3D", "paths"),
    ("cristae", "Basins in 3D", "basins"),
    ("Baseline", "Copy of the nearest labelled slice", COPY_NEAREST),
)
"""Group and name of each row as the paper has them, and the name of the method in cristae."""

_LEAST_GAIN = 0.002
"""Dice below which one method is no better than another."""
_FURTHER = {
    "gap_slices": "gap",
    "method": "method",
    "n_cells": "cells",
    "worst": "worst cell",
    "worst_id": "its id",
    "n_cells_met": "cells met",
    "dice_met": "Dice of these",
    "dice_matched": "Dice by match",
    "adapted_rand_error": "ARAND",
    "voi_split_bits": "VI split",
    "voi_merge_bits": "VI merge",
    "panoptic_quality": "PQ",
    "seconds_per_slice": "s per slice",
}


@dataclass(frozen=True)
class Entry:
    """A number of the table as text, and whether none in its column is better."""

    text: str
    best: bool


@dataclass(frozen=True)
class Row:
    """A method of the table with an entry per gap; `group` is empty where it is that of the row above."""

    group: str
    words: str
    method: str
    entries: tuple[Entry, ...]


def gap_titles(table: pd.DataFrame) -> list[str]:
    """Return the heads of the columns: how far labelled slices are apart, such as ``10 slices (0.2 µm)``."""
    gaps = table.drop_duplicates("gap_slices")
    return [
        f"{slices} slices ({nm / 1000:g} µm)" for slices, nm in zip(gaps["gap_slices"], gaps["gap_nm"], strict=True)
    ]


def table_rows(table: pd.DataFrame) -> list[Row]:
    """Return the rows of Table 2.

    Parameters
    ----------
    table
        One row per gap and method: ``gap_slices``, ``gap_nm``, ``method``, ``n_cells``, ``dice`` and ``dice_sd`` (0–1).

    Returns
    -------
    list of Row
        Methods of the table in the order of the paper. Of equal ones, to three digits, all are best.
    """
    gaps = list(dict.fromkeys(table["gap_slices"]))
    dice = {(int(one.gap_slices), str(one.method)): (float(one.dice), float(one.dice_sd)) for one in _tuples(table)}
    best = {gap: max(round(mean, 3) for (at, _), (mean, _) in dice.items() if at == gap) for gap in gaps}
    rows, above = [], ""
    for group, words, method in ROWS:
        if (gaps[0], method) in dice:
            entries = tuple(_entry(*dice[gap, method], best[gap]) for gap in gaps)
            rows.append(Row(group if group != above else "", words, method, entries))
            above = group
    return rows


def markdown(table: pd.DataFrame, words: str, notes: Sequence[str]) -> str:
    """Return the whole as Markdown: what it says, Table 2, notes, and the other measures."""
    lines = [words, "", *markdown_table(["", "Dice of cells", *gap_titles(table)], _cells(table)), ""]
    lines += [*(f"- {note}" for note in notes), "", "Other measures:", ""]
    further = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in table[list(_FURTHER)].itertuples(index=False, name=None)
    ]
    lines += markdown_table(list(_FURTHER.values()), further)
    lines += [
        "",
        "Cells met: those that a labelled slice meets. Dice by match: the other cells are compared with the objects "
        "that fit them best. ARAND (adapted Rand error) and VI (variation of information, bits): 0 is perfect. PQ "
        "(panoptic quality): 1 is perfect. Seconds are those of one thread, reading included.",
    ]
    return "\n".join(lines) + "\n"


def in_words(table: pd.DataFrame) -> str:
    """Say in one sentence which method won at which gap, and whether optical flow adds anything."""
    won: dict[str, list[tuple[int, float]]] = {}
    for gap, rows in table.groupby("gap_slices"):
        highest = rows["dice"].max()
        names = list(rows.loc[rows["dice"].round(3) == round(highest, 3), "method"])
        winner = "every method" if len(names) == len(rows) > 1 else " and ".join(names)
        won.setdefault(winner, []).append((int(str(gap)), float(highest)))
    parts = [
        f"{winner} at {_at([gap for gap, _ in there])} ({', '.join(f'{dice:.3f}' for _, dice in there)})"
        for winner, there in won.items()
    ]
    flow = _flow_in_words(table)
    return f"Best by mean Dice of cells: {', '.join(parts)}" + (f"; {flow}." if flow else ".")


def _flow_in_words(table: pd.DataFrame) -> str:
    """Compare the best rows of the paper with and without flow; empty where there are not both."""
    of_paper = [method for group, _, method in ROWS if group not in ("cristae", "Baseline")]
    gains: dict[int, float] = {}
    for gap, rows in table[table["method"].isin(of_paper)].groupby("gap_slices"):
        with_flow = rows["method"].str.contains("flow")
        if with_flow.any() and not with_flow.all():
            gains[int(str(gap))] = float(rows.loc[with_flow, "dice"].max() - rows.loc[~with_flow, "dice"].max())
    adds = {gap: gain for gap, gain in gains.items() if gain > _LEAST_GAIN}
    if not gains:
        return ""
    if not adds:
        return "optical flow adds nothing on this volume: of the methods of the paper, those without it do as well"
    more = ", ".join(f"{gain:.3f}" for gain in adds.values())
    words = f"optical flow adds {more} at {_at(list(adds))} to the best method of the paper without it"
    others = [gap for gap in gains if gap not in adds]
    return words + (f", and nothing at {_at(others)}" if others else "")


def _at(gaps: Sequence[int]) -> str:
    listed = [str(gap) for gap in gaps]
    joined = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    return f"{'a gap' if len(listed) == 1 else 'gaps'} of {joined} slices"


def _entry(mean: float, deviation: float, best: float) -> Entry:
    spread = "" if pd.isna(deviation) else f" ± {deviation:.3f}"
    return Entry("–" if pd.isna(mean) else f"{mean:.3f}{spread}", round(mean, 3) == best)


def _cells(table: pd.DataFrame) -> Iterator[list[str]]:
    for row in table_rows(table):
        shown = [f"**{entry.text}**" if entry.best else entry.text for entry in row.entries]
        yield [row.group, f"{row.words} (`{row.method}`)", *shown]


def _tuples(table: pd.DataFrame) -> Iterator[pd.Series]:
    return (row for _, row in table.iterrows())
