"""The section on measurements: how many objects, their features in numbers and strips, what cells hold, what is wrong.

Figures are in the form of Figures 10E–H, 11 and 12 of Machireddy et al. (2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cristae.errors import DataError
from cristae.palette import MARKERS, class_colour
from cristae.project import Project
from cristae.report.parts import Picture, Writer
from cristae.report.strips import MOST_POINTS, PER_FIGURE, Bars, Panel, Strip, draw_bars, draw_strips, save
from cristae.stages.comparison_text import number
from cristae.stages.measured import Measured, by_family, feature_columns, read_measured, title_of, unit_of

MAIN = (
    "volume_um3",
    "surface_um2",
    "solidity",
    "sphericity",
    "circular_variance",
    "elongation",
    "fenestrated_fraction",
    "proximity_to_envelope",
    "invagination_depth_max_nm",
    "skeleton_length_um",
    "glcm_homogeneity",
    "glcm_correlation",
    "glcm_variance",
    "glcm_contrast",
    "szm_zone_percentage",
    "szm_szhge",
    "szm_centroid_size",
    "ps_opening_mean",
    "ps_closing_mean",
)
"""Features of the table; those of the paper first."""
MOST_BARS = 60
"""Cells that have a bar each; of more, each is a point."""
MOST_ROWS = 20
"""Violations listed."""
_SHARE = "share of the cell"
_FILES = ("objects.csv", "objects.parquet", "relations.csv", "relations.parquet", "violations.csv", "dictionary.json")


@dataclass(frozen=True)
class Row:
    """A feature in numbers: title, unit, and per class median, quartiles, number; None for a class without it."""

    title: str
    unit: str
    entries: tuple[tuple[str, str, int] | None, ...]


@dataclass(frozen=True)
class MeasurePart:
    """What the section tells; where `problem` is not empty, nothing else could be read.

    Parameters
    ----------
    run
        Name of the run folder.
    problem, stale
        Sentences, or empty.
    problems
        What went wrong in measuring, as sentences.
    counts
        Class, number of objects, and how many of them touch the edge.
    columns, rows
        The table of main features: classes with objects and how many, and rows with an entry for each.
    figures
        Heading and pictures of each family of features.
    thinned
        Points of a strip where some have more objects; 0 where all are drawn.
    cells
        What cells hold; None without cells.
    kinds, violations, n_violations
        How many violations of each kind, the first rows, and how many there are.
    files
        Names and addresses of tables.
    """

    run: str
    problem: str = ""
    stale: str = ""
    problems: tuple[str, ...] = ()
    counts: tuple[tuple[str, int, int], ...] = ()
    columns: tuple[tuple[str, int], ...] = ()
    rows: tuple[Row, ...] = ()
    figures: tuple[tuple[str, tuple[Picture, ...]], ...] = ()
    thinned: int = 0
    cells: Picture | None = None
    kinds: tuple[tuple[str, int], ...] = ()
    violations: tuple[Mapping[str, Any], ...] = ()
    n_violations: int = 0
    files: tuple[tuple[str, str], ...] = ()


def measure_part(project: Project, writer: Writer) -> MeasurePart | None:
    """Gather the section on measurements and write its pictures; None where nothing was measured."""
    run = project.latest("measure")
    if run is None:
        return None
    try:
        measured = read_measured(project)
    except DataError as error:
        return MeasurePart(run.path.name, problem=str(error))
    objects = measured.objects
    numbers = objects["class"].value_counts()
    classes = [name for name in measured.classes if name in numbers]
    cut = objects.loc[objects["touches_edge"], "class"].value_counts()
    violations = measured.violations
    return MeasurePart(
        run=run.path.name,
        stale="What was measured has changed since; measure again." if measured.stale else "",
        problems=tuple(map(str, run.manifest.get("problems", ()))),
        counts=tuple((name, int(numbers.get(name, 0)), int(cut.get(name, 0))) for name in measured.classes),
        columns=tuple((name, int(numbers[name])) for name in classes),
        rows=tuple(_rows(measured, classes)),
        figures=tuple(_figures(measured, classes, writer)),
        thinned=MOST_POINTS if len(numbers) and numbers.max() > MOST_POINTS else 0,
        cells=_cells(measured, classes, writer),
        kinds=_kinds(violations),
        violations=() if violations is None else tuple(_records(violations.head(MOST_ROWS))),
        n_violations=0 if violations is None else len(violations),
        files=tuple((name, f"../runs/{run.path.name}/{name}") for name in _FILES if (run.path / name).is_file()),
    )


def _rows(measured: Measured, classes: Sequence[str]) -> list[Row]:
    features = feature_columns(measured.objects)
    chosen = [name for name in MAIN if name in features] or features[: len(MAIN)]
    found = []
    for feature in chosen:
        entries: list[tuple[str, str, int] | None] = []
        for kind in classes:
            values = _values(measured.objects[measured.objects["class"] == kind], feature)
            values = values[np.isfinite(values)]
            if not len(values):
                entries.append(None)
                continue
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            quartiles = f"{number(low)} – {number(high)}" if len(values) > 1 else ""
            entries.append((number(middle), quartiles, len(values)))
        found.append(Row(title_of(feature), unit_of(feature, measured.dictionary), tuple(entries)))
    return found


def _figures(measured: Measured, classes: Sequence[str], writer: Writer) -> list[tuple[str, tuple[Picture, ...]]]:
    """Draw every feature, under its heading: a strip per class that has it."""
    tables = {kind: measured.objects[measured.objects["class"] == kind] for kind in classes}
    found = []
    for title, features in by_family(feature_columns(measured.objects)).items():
        pictures = []
        for start in range(0, len(features), PER_FIGURE):
            shown = features[start : start + PER_FIGURE]
            panels = [
                Panel(title_of(name), unit_of(name, measured.dictionary), _strips(name, tables)) for name in shown
            ]
            svg = save(draw_strips(panels), "svg").decode("utf-8")
            told = ", ".join(panel.title for panel in panels)
            pictures.append(writer.figure(svg, f"{title}: strips of {told}; their medians are in the tables.", ""))
        found.append((title, tuple(pictures)))
    return found


def _strips(feature: str, tables: Mapping[str, pd.DataFrame]) -> tuple[Strip, ...]:
    strips = []
    for place, (kind, table) in enumerate(tables.items()):
        values = _values(table, feature)
        if np.isfinite(values).any():
            hollow = table["touches_edge"].to_numpy(np.bool_)
            strips.append(Strip(kind, values, hollow, class_colour(place), MARKERS[place % len(MARKERS)]))
    return tuple(strips)


def _cells(measured: Measured, classes: Sequence[str], writer: Writer) -> Picture | None:
    """Draw number, volume and share of what every cell holds."""
    contents = measured.contents
    if contents is None or not len(contents):
        return None
    kinds = list(dict.fromkeys(contents["class"]))
    ids = list(dict.fromkeys(contents["cell_id"]))
    colours = {kind: class_colour(list(classes).index(kind)) for kind in kinds}
    tables = {kind: contents[contents["class"] == kind] for kind in kinds}
    quantities = (
        ("n_objects", "number", "", 1),
        ("volume_um3", "volume", "µm³", 1),
        ("share_of_cell", _SHARE, "%", 100),
    )

    def values(kind: str, column: str) -> np.ndarray:
        return tables[kind][column].to_numpy(np.float64)

    def hollow(kind: str) -> np.ndarray:
        return tables[kind]["touches_edge"].to_numpy(np.bool_)

    if len(ids) <= MOST_BARS:
        rows = {
            kind: [
                Bars(title, unit, values(kind, key) * times, hollow(kind), colours[kind], key == "n_objects")
                for key, title, unit, times in quantities
            ]
            for kind in kinds
        }
        drawn, form = draw_bars(rows, [str(one) for one in ids]), "A bar per cell, with its id"
    else:
        panels = [
            Panel(f"{kind}: {title}", unit, (Strip("", values(kind, key) * times, hollow(kind), colours[kind]),))
            for kind in kinds
            for key, title, unit, times in quantities
        ]
        drawn, form = draw_strips(panels, len(quantities)), "A point per cell, lines at the medians"
    totals = ", ".join(f"{int(tables[kind]['n_objects'].sum()):,} {kind}" for kind in kinds)
    caption = (
        f"{form}; hollow where the cell touches the edge of the volume, so that only a part of it is seen. Volume is "
        "that of the voxels, share that of the cell as far as it is seen."
    )
    alt = f"What {len(ids)} cells hold: {totals}; number, volume and share of the cell."
    return writer.figure(save(drawn, "svg").decode("utf-8"), alt, caption)


def _kinds(violations: pd.DataFrame | None) -> tuple[tuple[str, int], ...]:
    if violations is None or "kind" not in violations.columns:
        return ()
    return tuple((str(kind), int(n)) for kind, n in violations["kind"].value_counts().items())


def _values(table: pd.DataFrame, feature: str) -> np.ndarray:
    return table[feature].astype(np.float64).to_numpy()


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            str(key).replace("_", " "): number(value) if isinstance(value, float) else str(value)
            for key, value in row.items()
        }
        for row in table.to_dict("records")
    ]
