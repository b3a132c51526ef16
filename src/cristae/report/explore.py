"""The part of the report that one plays with: 3D scene, slice browser and table of objects, linked to each other.

Everything is in the page itself: numbers as JSON, and bytes (triangles, slices) as base64 in scripts that no browser
runs, each read when it is needed. See ``page/`` for what reads them.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cristae.errors import DataError
from cristae.geometry import Grid
from cristae.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from cristae.report import browser, scene
from cristae.report.gather import Findings
from cristae.report.layers import Shown, open_levels, shown_layers
from cristae.report.measure import MAIN
from cristae.report.objects import colours_of
from cristae.stages.measured import feature_columns, read_measured, title_of, unit_of
from cristae.stages.options import Options

MOST_ROWS = 20_000
"""Objects in the table of the page, the largest of every class."""
MOST_VALUES = 400_000
"""Values in that table: with many objects, only the main features."""
COLOUR_PLANES = 24
"""Slices on which neighbours get different colours."""
_PARENTS = ("parent_cell_id", "parent_nucleus_id")
_EXACT = 2**53


@dataclass(frozen=True)
class ExplorePart:
    """What the section needs.

    Parameters
    ----------
    content
        JSON of all but the bytes.
    bytes_of
        Bytes as base64 by the name of the script that holds them.
    picture
        Picture of the scene as base64 of a JPEG; empty without one.
    first_slice
        Number of the slice shown first, and its picture as base64 of a WebP; empty without an image.
    classes
        Name, colour and number of objects of each class.
    is_truth
        Whether objects are the labels imported as truth.
    has_scene, has_slices, has_table
        What there is.
    left_out
        What the scene, the slices and the table do not hold, as sentences.
    rows
        The first rows of the table for browsers without scripts: class, id, and values as text.
    columns
        Headings of these values.
    """

    content: str
    bytes_of: Mapping[str, str]
    picture: str
    first_slice: tuple[int, str]
    classes: tuple[tuple[str, str, int], ...]
    is_truth: bool
    has_scene: bool
    has_slices: bool
    has_table: bool
    left_out: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...]


def explore_part(found: Findings, options: Options) -> ExplorePart | None:
    """Gather scene, slices and table; None where there is neither an image nor a layer."""
    shown = shown_layers(found.project)
    if found.image is None and not shown.layers:
        return None
    progress = options.progress("report: 3D and slices")
    table = object_table(found.project, shown)
    totals = table["class"].value_counts().to_dict() if len(table) else {}
    meshes = scene.make_meshes(shown.layers, scene.MOST_OBJECTS, scene.MOST_TRIANGLES)
    progress(1, 3)
    grid = found.image.grid if found.image else shown.layers[0].grid
    bounds = scene.Bounds.of(grid)
    packed = [scene.pack(one, bounds) for one in meshes]
    has_scene = any(one.meshes for one in meshes)
    picture = scene.still(shown.layers, meshes, bounds) if has_scene else b""
    progress(2, 3)
    sheets = list(_sheets(found, shown, grid))
    progress(3, 3)
    rows, columns, notes = _shorten(table)
    bytes_of = {
        f"mesh-{number}-{what}": text for number, (_, parts) in enumerate(packed) for what, text in parts.items()
    } | {f"slice-{sheet.z}": sheet.picture for sheet in sheets}
    content = {
        "bounds": {"low": bounds.low, "high": bounds.high, "start": bounds.start, "step": bounds.step},
        "view": {"azimuth": scene.AZIMUTH, "elevation": scene.ELEVATION},
        "voxel": grid.voxel_size,
        "origin": grid.origin,
        "depth": grid.shape[0],
        "names": {"cell": shown.cell, "nucleus": shown.nucleus},
        "isTruth": shown.is_truth,
        "layers": [
            {
                "name": layer.name,
                "colour": layer.colour,
                "opacity": layer.opacity,
                "hasIds": layer.has_ids,
                "ids": [_id(one) for one in made.ids],
                "mesh": numbers,
            }
            for layer, made, (numbers, _) in zip(shown.layers, meshes, packed, strict=True)
        ],
        "colours": _colours(shown),
        "slices": [_slice(sheet) for sheet in sheets],
        "size": _size(found, shown, grid),
        "table": _table(rows, columns, found, sheets),
    }
    words = [
        *(f"In 3D: {one}." for one in scene.left_out(shown.layers, meshes, totals)),
        *([_spread(sheets, grid)] if len(sheets) < grid.shape[0] else []),
        *notes,
    ]
    middle = sheets[len(sheets) // 2] if sheets else None
    return ExplorePart(
        json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
        bytes_of,
        base64.b64encode(picture).decode("ascii"),
        (middle.z, middle.picture) if middle else (0, ""),
        tuple(
            (layer.name, layer.colour, max(int(totals.get(layer.name, 0)), one.n_there if layer.has_ids else 0))
            for layer, one in zip(shown.layers, meshes, strict=True)
        ),
        shown.is_truth and bool(shown.layers),
        has_scene,
        bool(sheets),
        bool(len(rows)),
        tuple(words),
        tuple(_first_rows(rows, columns)),
        tuple(_heading(name, {}) for name in columns[:6]),
    )


def object_table(project: Any, shown: Shown) -> pd.DataFrame:
    """Return a row per object: what was measured, or what cells, objects and anatomy noted; it may be empty."""
    if shown.measured is not None:
        try:
            return read_measured(project).objects
        except DataError:
            pass
    if shown.is_truth:
        return pd.DataFrame({"class": [], "object_id": []})
    parts = []
    for stage in ("track", "objects"):
        run = project.latest(stage)
        try:
            part = pd.read_csv(run.path / "objects.csv", dtype={"class": str}) if run else None
        except (OSError, ValueError):
            continue
        if part is not None and stage == "track":
            part = part.rename(columns={"object": "object_id"}).assign(**{"class": str(run.manifest["name"])})
        if part is not None and {"class", "object_id", "n_voxels"} <= set(part):
            parts.append(part[[name for name in ("class", "object_id", "n_voxels", "volume_um3") if name in part]])
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"class": [], "object_id": []})
    anatomy = project.latest("anatomy")
    if anatomy is None or not len(table):
        return table
    try:
        parents = pd.read_parquet(anatomy.path / "parents.parquet", columns=["class", "object_id", "parent_cell_id"])
    except (OSError, ValueError, KeyError):
        return table
    return table.merge(parents, on=["class", "object_id"], how="left")


def shorten(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most `most` rows: of every class the largest objects, shared out fairly; their order stays."""
    if len(table) <= most:
        return table
    counts = table["class"].value_counts(sort=False)
    shares = dict(zip(counts.index, scene.share_out(counts.tolist(), most), strict=True))
    size = table["n_voxels"] if "n_voxels" in table else pd.Series(0, index=table.index)
    rank = size.groupby(table["class"]).rank(method="first", ascending=False)
    return table[rank <= table["class"].map(shares)]


def _shorten(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return the rows and the features of the page, and what is left out."""
    rows, notes = shorten(table, MOST_ROWS), []
    columns = feature_columns(rows) if len(rows) else []
    main = [name for name in MAIN if name in columns]
    columns = [*main, *(name for name in columns if name not in main)]
    if len(rows) < len(table):
        notes.append(
            f"The table holds the {len(rows):,} largest of {len(table):,} objects; all are in objects.csv of the run."
        )
    most = max(len(main), 1, MOST_VALUES // max(1, len(rows)))
    if len(columns) > most:
        notes.append(f"The table holds {most} of {len(columns)} features; all are in objects.csv of the run.")
    return rows, columns[:most], notes


def _table(
    rows: pd.DataFrame, columns: Sequence[str], found: Findings, sheets: Sequence[browser.Sheet]
) -> dict[str, Any]:
    """Return the table by columns, with the slice that shows most of each object."""
    meanings = _meanings(found)
    best = _best(sheets)
    keys = list(zip(rows["class"], rows["object_id"].tolist(), strict=True)) if len(rows) else []
    places = [best.get((str(name), int(number))) for name, number in keys]
    return {
        "class": [str(name) for name, _ in keys],
        "id": [_id(int(number)) for _, number in keys],
        "cut": rows["touches_edge"].astype(int).tolist() if "touches_edge" in rows else [],
        "parents": {
            name: [None if pd.isna(one) else _id(int(one)) for one in rows[name]] for name in _PARENTS if name in rows
        },
        "sheet": [-1 if place is None else place[0] for place in places],
        "box": [None if place is None else place[1] for place in places],
        "columns": [
            {
                "name": name,
                "title": title_of(name),
                "unit": unit_of(name, meanings),
                "meaning": meanings.get(name, {}).get("meaning", ""),
                "values": [_short(one) for one in rows[name].astype(np.float64)],
            }
            for name in columns
        ],
    }


def _meanings(found: Findings) -> Mapping[str, Mapping[str, str]]:
    try:
        return read_measured(found.project).dictionary
    except DataError:
        return {}


def _best(sheets: Sequence[browser.Sheet]) -> dict[tuple[str, int], tuple[int, tuple[int, int, int, int]]]:
    """Return for every object the number of the sheet that shows most of it, and its box there."""
    most: dict[tuple[str, int], tuple[int, int, tuple[int, int, int, int]]] = {}
    for number, sheet in enumerate(sheets):
        for name, objects in sheet.places.items():
            for one, (area, box) in objects.items():
                if area > most.get((name, one), (0, 0, box))[0]:
                    most[name, one] = area, number, box
    return {key: (number, box) for key, (_, number, box) in most.items()}


def _sheets(found: Findings, shown: Shown, grid: Grid) -> Iterator[browser.Sheet]:
    project = found.project
    source = _source(found, shown, grid)
    wanted: list[int] = []
    if every := sorted(set().union(*(one.slices for one in source.painted.values()))):
        wanted = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, browser.MOST_LABELLED).astype(int))]
    without = project.lost_slices if found.image else ()
    return browser.make_sheets(source, wanted, without, browser.MOST_BYTES)


def _source(found: Findings, shown: Shown, grid: Grid) -> browser.Source:
    project, image = found.project, found.image
    fits = tuple(layer for layer in shown.layers if layer.grid.shape == grid.shape)
    with_truth = image is not None and not shown.is_truth and project.truth.classes
    return browser.Source(
        open_levels(project.image_path) if image else (),
        fits,
        browser.painted_on(project.truth) if with_truth else {},
        browser.painted_on(project.annotations) if image else {},
        grid.shape,
        grid.voxel_size,
    )


def _size(found: Findings, shown: Shown, grid: Grid) -> tuple[int, int]:
    return _source(found, shown, grid).size


def _slice(sheet: browser.Sheet) -> dict[str, Any]:
    return {"z": sheet.z, "overlays": sheet.overlays}


def _colours(shown: Shown) -> dict[str, Any]:
    """Return the colours of cells, different for neighbours, and those that objects take in turn."""
    cells = next((layer for layer in shown.layers if layer.name == shown.cell and layer.has_ids), None)
    found: dict[int, str] = {}
    if cells is not None:
        depth = cells.grid.shape[0]
        numbers = np.unique(np.linspace(0, depth - 1, min(depth, COLOUR_PLANES)).astype(int))
        found = colours_of([cells.plane(int(z), 256) for z in numbers])
    cycle = (SKY, ORANGE, GREEN, PURPLE, YELLOW, VERMILLION, BLUE)
    return {"cells": {str(name): colour for name, colour in found.items()}, "cycle": cycle}


def _spread(sheets: Sequence[browser.Sheet], grid: Grid) -> str:
    return (
        f"The slice browser holds {len(sheets)} of {grid.shape[0]:,} slices, evenly spread with the labelled ones among "
        "them, so that the page stays small; all are in the project."
    )


def _first_rows(rows: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    head = rows.sort_values("n_voxels", ascending=False).head(20) if "n_voxels" in rows else rows.head(20)
    for row in head.to_dict("records"):
        values = (_short(float(row[name])) for name in columns[:6])
        yield str(row["class"]), str(row["object_id"]), *("–" if one is None else f"{one:g}" for one in values)


def _heading(name: str, meanings: Mapping[str, Mapping[str, str]]) -> str:
    unit = unit_of(name, meanings)
    return f"{title_of(name)} ({unit})" if unit else title_of(name)


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _id(value: int) -> int | str:
    """Return an id as JSON can hold it: as text where a browser would round it."""
    return value if abs(value) < _EXACT else str(value)
