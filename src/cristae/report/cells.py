"""The section on cells: how they were found, what they look like, how good they are, and what tracking left open."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cristae.errors import DataError
from cristae.io.ome_zarr import open_volume
from cristae.project import Run
from cristae.report import figures, objects
from cristae.report.gather import Findings, read_table
from cristae.report.parts import Picture, Writer, read_slice
from cristae.stages.choose import NO_FLOW, flow_adds_nothing
from cristae.stages.corrected import as_corrected, corrected_layer, corrected_run, n_corrections, with_corrections
from cristae.stages.score_cells import last_cells
from cristae.volume import Volume

MOST_GAPS = 3
"""Gaps between labelled slices of which the middle is shown, at most."""
MOST_ROWS = 10
"""Islands and conflicts listed, at most."""

_SCORES: tuple[tuple[str, str, str], ...] = (
    ("dice_median", "Median Dice", "Half of the cells are better than this, half are worse."),
    (
        "dice_met_mean",
        "Mean Dice, labelled cells",
        "Cells that a labelled slice meets; they are compared by their id.",
    ),
    (
        "dice_unmet_mean",
        "Mean Dice, other cells",
        "Cells that no labelled slice meets; compared with what fits them best.",
    ),
    ("pq", "PQ", "Panoptic quality, 0–1: how many cells were found, times how well. Any object counts, however small."),
    ("ap50", "AP50", "Of all cells, found and true, the part that overlaps by more than half (IoU above 0.5)."),
    ("ap75", "AP75", "The same with IoU above 0.75."),
    ("voi_split", "VI split", "Bits per voxel lost to cells that were cut apart; 0 is best."),
    ("voi_merge", "VI merge", "Bits per voxel lost to cells that were joined; 0 is best."),
    ("arand", "Adapted Rand error", "0–1, over pairs of voxels: are they together where they should be? 0 is best."),
    (
        "island_share",
        "Islands brought home",
        "Of the voxels of protrusions that lie apart from their body in a slice, the part that went to the right cell.",
    ),
)


@dataclass(frozen=True)
class CellsPart:
    """What the section tells.

    Parameters
    ----------
    separated, tracked
        The runs it tells of; the tracking is None where there is none of these cells.
    facts
        Sentences on how cells were found.
    methods
        Per method tried: name, number of slices, mean and lowest Dice, seconds per slice, and whether it was used.
    slices
        Pairs of pictures in the middle of gaps, before and after.
    curve
        Dice over z; None without scores.
    headline
        Scores as ``scores.json`` has them; None without.
    corrections
        "with 3 corrections" where people corrected the cells that are shown, else empty.
    before
        The headline of cells that nobody had corrected yet; None where nobody has.
    scores
        Name, value, value before corrections (None without) and meaning of each of the other scores.
    tracking
        Term and number.
    islands, conflicts
        Rows of the largest islands that reach no cell, and of the places where a cell changes its id.
    """

    separated: Run
    tracked: Run | None
    facts: tuple[str, ...]
    methods: tuple[Mapping[str, Any], ...]
    slices: tuple[Picture, ...]
    curve: Picture | None
    headline: Mapping[str, Any] | None
    corrections: str
    before: Mapping[str, Any] | None
    scores: tuple[tuple[str, Any, Any, str], ...]
    tracking: tuple[tuple[str, int], ...]
    islands: tuple[Mapping[str, Any], ...]
    conflicts: tuple[Mapping[str, Any], ...]


def cells_part(found: Findings, writer: Writer) -> CellsPart | None:
    """Gather the section on cells and write its pictures; None where no cells were separated."""
    last = last_cells(found.project)
    if last is None or found.image is None:
        return None
    separated, tracked = last
    scored = next((one for one in found.score_sets if "cells" in one.scores), None)
    per_slice = read_table(scored.run, "cells_slices.csv", []) if scored else None
    headline = scored.scores["cells"] if scored else None
    before = headline.get("before_corrections") if headline else None
    run, name = tracked or separated, str(separated.manifest["name"])
    corrections = with_corrections(n_corrections(corrected_run(found.project, run, name)))
    return CellsPart(
        separated=separated,
        tracked=tracked,
        facts=tuple(_facts(separated, corrections)),
        methods=tuple(_methods(separated)),
        slices=tuple(_pictures(found, found.image, (separated, tracked), per_slice, writer)),
        curve=_curve(per_slice, headline, scored.run if before and scored else None, writer),
        headline=headline,
        corrections=corrections,
        before=before,
        scores=tuple((name, headline.get(key), (before or {}).get(key), words) for key, name, words in _SCORES)
        if headline
        else (),
        tracking=tuple(_tracking(tracked)),
        islands=tuple(_islands(found, tracked)),
        conflicts=tuple(_conflicts(tracked)),
    )


def _tried(separated: Run) -> pd.DataFrame | None:
    table = read_table(separated, "methods.csv", [])
    return table if table is not None and {"method", "z", "dice", "worst", "seconds"} <= set(table) else None


def _facts(separated: Run, corrections: str) -> Iterator[str]:
    if corrections:
        yield f"Cells are shown {corrections} that people made by hand."
    facts, table = separated.manifest, _tried(separated)
    method = facts.get("method")
    if table is None:
        yield f"Cells were found by the method {method}; no others were tried."
        return
    means = table.groupby("method", sort=False)["dice"].mean()
    yield (
        f"Cells were found by the method {method}. Labelled slices were left out one at a time and found again from "
        f"their neighbours by every method: {method} reached a mean Dice of {means.get(method, math.nan):.3f} there."
    )
    if flow_adds_nothing(means):
        yield f"{NO_FLOW[0].upper()}{NO_FLOW[1:]}."


def _methods(separated: Run) -> Iterator[Mapping[str, Any]]:
    table = _tried(separated)
    if table is None:
        return
    groups = table.groupby("method", sort=False)
    means = groups["dice"].mean().sort_values(ascending=False, kind="stable")
    for method, mean in means.items():
        rows = groups.get_group(method)
        yield {
            "method": method,
            "n_slices": len(rows),
            "mean": float(mean),
            "worst": float(rows["worst"].min()),
            "seconds": float(rows["seconds"].mean()),
            "used": method == separated.manifest.get("method"),
        }


def middles(labelled: Sequence[int], depth: int, missing: Sequence[int], n: int) -> list[tuple[int, int]]:
    """Return the middle slice of evenly spread gaps between labelled slices, with its distance to the nearest.

    Parameters
    ----------
    labelled
        Ascending z.
    depth
        Number of slices.
    missing
        Slices that have no image and are passed over.
    n
        How many gaps at most.
    """
    ends = sorted({0, *labelled, depth - 1})
    found = []
    for first, last in pairwise(ends):
        middle = (first + last) // 2
        inside = sorted((z for z in range(first + 1, last) if z not in missing), key=lambda z: (abs(z - middle), z))
        if inside:
            found.append(inside[0])
    n = min(n, len(found))
    chosen = [found[int((i + 0.5) * len(found) / n)] for i in range(n)]
    return [(z, min((abs(z - other) for other in labelled), default=0)) for z in chosen]


def _pictures(
    found: Findings,
    image: Volume,
    runs: tuple[Run, Run | None],
    per_slice: pd.DataFrame | None,
    writer: Writer,
) -> Iterator[Picture]:
    separated, tracked = runs
    name = str(separated.manifest["name"])
    try:
        cells = open_volume(corrected_layer(found.project, tracked or separated, name))
    except DataError:
        return
    labelled = [int(z) for z in separated.manifest["labelled_slices"]]
    missing = found.project.lost_slices
    shown = middles(labelled, image.shape[0], missing, MOST_GAPS)
    planes = [read_slice(cells, z) for z, _ in shown]
    colours = objects.colours_of(planes)
    dice = {} if per_slice is None else dict(zip(per_slice["z"], per_slice["dice"], strict=True))
    pixel = image.grid.voxel_size[1], image.grid.voxel_size[2]
    interior = _interior(found, separated, name)
    for (z, distance), ids in zip(shown, planes, strict=True):
        grey = read_slice(image, z)
        if interior is not None:
            threshold = float(separated.settings.get("interior_threshold", 0.5))
            parts = objects.parts_of(read_slice(interior, z) >= max(1, round(threshold * 255)))
            yield writer.slice(
                objects.draw_objects(grey, parts, pixel, objects.colours_of([parts]), numbers=False),
                f"Slice {z} before: {int(parts.max())} connected parts of what the network marks as inside of a cell.",
                f"Slice {z}, before: what the network marks as inside of a cell, each connected part in any colour. "
                "Cells that touch are one, islands are alone.",
            )
        words = f", mean Dice of cells {dice[z]:.3f}" if not math.isnan(dice.get(z, math.nan)) else ""
        n_cells = int(np.setdiff1d(ids, 0).size)
        yield writer.slice(
            objects.draw_objects(grey, ids, pixel, colours),
            f"Slice {z} after: {n_cells} objects, each with one id and colour{words}.",
            f"Slice {z}, after: {n_cells} objects, {distance} slices from the nearest labelled one{words}.",
        )


def _interior(found: Findings, separated: Run, name: str) -> Volume | None:
    """Return the map of the prediction that these cells were made from, if it is still there."""
    made_from = str(separated.manifest.get("inputs", {}).get("predict", ""))
    for run in found.project.runs("predict"):
        if made_from == f"{run.id} of {run.manifest.get('ended')}":
            try:
                return open_volume(run.path / f"{name}_interior.ome.zarr")
            except DataError:
                return None
    return None


def _curve(
    per_slice: pd.DataFrame | None, headline: Mapping[str, Any] | None, corrected: Run | None, writer: Writer
) -> Picture | None:
    if per_slice is None or headline is None or not per_slice["dice"].notna().any():
        return None
    labelled = [int(z) for z in headline.get("labelled_slices", ())]
    lowest = min(_records(per_slice.dropna(subset="dice")), key=lambda row: float(row["dice"]))
    before = read_table(corrected, "cells_slices_before.csv", []) if corrected else None
    return writer.figure(
        figures.cells_per_slice(per_slice, labelled, before),
        f"Mean Dice of cells in every slice; lowest {lowest['dice']:.3f} on slice {int(lowest['z'])}.",
        "Mean Dice of the cells of each slice, and below it that of the worst cell; black lines mark the slices that "
        "cells were found from. A step or a dip half-way between two lines shows where what came from one side meets "
        f"what came from the other. {'' if before is None else 'Dashed lines: before corrections. '}"
        "Mind where the axis begins.",
    )


def _tracking(tracked: Run | None) -> Iterator[tuple[str, int]]:
    if tracked is None:
        return
    words = {
        "n_objects": "Objects",
        "n_new_bodies": "Cells that no labelled slice meets",
        "n_lonely_islands": "Islands that reach no cell",
        "n_conflicts": "Conflicts between labelled slices",
    }
    for key, term in words.items():
        if key in tracked.manifest:
            yield term, int(tracked.manifest[key])


def _islands(found: Findings, tracked: Run | None) -> Iterator[Mapping[str, Any]]:
    table = read_table(tracked, "objects.csv", []) if tracked else None
    if tracked is None or table is None or found.image is None:
        return
    um3 = math.prod(found.image.grid.voxel_size) / 1e9
    with contextlib.suppress(DataError):
        table = as_corrected(found.project, tracked, table)
    rows = table[table["kind"] == "island"].sort_values(["n_voxels", "object"], ascending=[False, True])
    for row in _records(rows.head(MOST_ROWS)):
        yield {**row, "um3": row["n_voxels"] * um3}


def _conflicts(tracked: Run | None) -> Iterator[Mapping[str, Any]]:
    table = read_table(tracked, "conflicts.csv", []) if tracked else None
    if table is not None:
        yield from _records(table.sort_values("overlap_px", ascending=False, kind="stable").head(MOST_ROWS))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
