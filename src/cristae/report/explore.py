"""The part of the report that one plays with: 3D scene, slice browser and table of objects, linked to each other.

Everything is in the page itself: numbers as JSON, and bytes (triangles, slices) as base64 in scripts that no browser
runs, each read when it is needed. See ``page/`` for what reads them.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cristae.geometry import Grid
from cristae.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from cristae.report import browser, scene
from cristae.report.gather import Findings
from cristae.report.layers import Shown, open_levels, shown_layers
from cristae.report.objects import colours_of
from cristae.report.overlays import spread
from cristae.report.rows import as_json, object_rows
from cristae.stages.options import Options

COLOUR_PLANES = 24
"""Slices on which neighbouring cells get different colours."""
STILL_ROWS, STILL_COLUMNS = 20, 6
"""Of the table in browsers without scripts."""
_CYCLE = (SKY, ORANGE, GREEN, PURPLE, YELLOW, VERMILLION, BLUE)


@dataclass(frozen=True)
class ExplorePart:
    """What the section needs.

    Parameters
    ----------
    content
        JSON of all but the bytes, safe inside of a script.
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
        What is corrected, and what scene, slices and table do not hold, as sentences.
    rows, columns
        The first rows of the table for browsers without scripts: class, id, and values as text; headings of these.
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
    progress = options.progress("3D and slices")
    grid = found.image.grid if found.image else shown.layers[0].grid
    rows = object_rows(found.project, shown, math.prod(grid.voxel_size) / 1e9)
    meshes = scene.make_meshes(shown.layers, scene.MOST_OBJECTS, scene.MOST_TRIANGLES)
    progress(1, 3)
    bounds = scene.Bounds.of(grid)
    has_scene = any(one.meshes for one in meshes)
    picture = scene.still(shown.layers, meshes, bounds) if has_scene else b""
    progress(2, 3)
    source = _source(found, shown, grid)
    sheets = list(browser.make_sheets(source, _wanted(source), _without(found), browser.MOST_BYTES))
    progress(3, 3)
    packed = [scene.pack(one, bounds) for one in meshes]
    left_out = [_spread(len(sheets), grid.shape[0])] if len(sheets) < grid.shape[0] else []
    middle = sheets[len(sheets) // 2]
    content = {
        **_places(grid, bounds),
        "names": {"cell": shown.cell, "nucleus": shown.nucleus},
        "isTruth": shown.is_truth,
        "layers": [
            {
                "name": layer.name,
                "colour": layer.colour,
                "opacity": layer.opacity,
                "hasIds": layer.has_ids,
                "ids": [as_json(one) for one in made.ids],
                "mesh": numbers,
            }
            for layer, made, (numbers, _) in zip(shown.layers, meshes, packed, strict=True)
        ],
        "colours": {"cells": _cell_colours(shown), "cycle": _CYCLE},
        "slices": [{"z": sheet.z, "overlays": sheet.overlays} for sheet in sheets],
        "size": source.size,
        "table": rows.content(sheets),
    }
    return ExplorePart(
        content=as_script(content),
        bytes_of=_bytes_of(packed, sheets),
        picture=base64.b64encode(picture).decode("ascii"),
        first_slice=(middle.z, middle.picture),
        classes=tuple(
            (layer.name, layer.colour, max(rows.totals.get(layer.name, 0), one.n_there if layer.has_ids else 0))
            for layer, one in zip(shown.layers, meshes, strict=True)
        ),
        is_truth=shown.is_truth and bool(shown.layers),
        has_scene=has_scene,
        has_slices=bool(source.image or source.layers),
        has_table=bool(len(rows.table)),
        left_out=(*shown.words, *scene.left_out(shown.layers, meshes, rows.totals), *left_out, *rows.left_out),
        rows=tuple(rows.first(STILL_ROWS, STILL_COLUMNS)),
        columns=tuple(rows.heading(name) for name in rows.columns[:STILL_COLUMNS]),
    )


def as_script(content: Mapping[str, Any]) -> str:
    """Return JSON that cannot end the script it stands in, whatever names it holds."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _places(grid: Grid, bounds: scene.Bounds) -> dict[str, Any]:
    return {
        "bounds": {"low": bounds.low, "high": bounds.high, "start": bounds.start, "step": bounds.step},
        "view": {"azimuth": scene.AZIMUTH, "elevation": scene.ELEVATION},
        "voxel": grid.voxel_size,
        "origin": grid.origin,
        "depth": grid.shape[0],
    }


def _bytes_of(
    packed: Sequence[tuple[dict[str, Any], dict[str, str]]], sheets: Sequence[browser.Sheet]
) -> dict[str, str]:
    meshes = {f"mesh-{number}-{what}": text for number, (_, parts) in enumerate(packed) for what, text in parts.items()}
    return meshes | {f"slice-{sheet.z}": sheet.picture for sheet in sheets}


def _source(found: Findings, shown: Shown, grid: Grid) -> browser.Source:
    """Return what slices are made of; layers on another grid are not laid over the image."""
    project, image = found.project, found.image
    return browser.Source(
        image=open_levels(project.image_path) if image else (),
        layers=tuple(layer for layer in shown.layers if layer.grid.shape == grid.shape),
        truth=browser.painted_on(project.truth) if image and not shown.is_truth else {},
        painted=browser.painted_on(project.annotations) if image else {},
        shape=grid.shape,
        voxel_size=grid.voxel_size,
    )


def _wanted(source: browser.Source) -> list[int]:
    """Return labelled slices, evenly spread."""
    every = sorted(set().union(*(one.slices for one in source.painted.values())))
    return spread(every, browser.MOST_LABELLED)


def _without(found: Findings) -> Sequence[int]:
    return found.project.lost_slices if found.image else ()


def _cell_colours(shown: Shown) -> dict[str, str]:
    """Return a colour for every cell, different for those that lie beside each other."""
    cells = next((layer for layer in shown.layers if layer.name == shown.cell and layer.has_ids), None)
    if cells is None:
        return {}
    depth = cells.grid.shape[0]
    numbers = np.unique(np.linspace(0, depth - 1, min(depth, COLOUR_PLANES)).astype(int))
    found = colours_of([cells.plane(int(z), 256) for z in numbers])
    return {str(name): colour for name, colour in found.items()}


def _spread(n: int, depth: int) -> str:
    return (
        f"The slice browser holds {n} of {depth:,} slices, evenly spread with labelled ones among them, so that the "
        "page stays small; all are in the project."
    )
