"""The table of objects that the page holds: which rows and columns, and where each object is best seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cristae.errors import DataError
from cristae.project import Project, Run
from cristae.report.browser import Sheet
from cristae.report.layers import Shown
from cristae.report.measure import MAIN
from cristae.report.scene import share_out
from cristae.stages.corrected import corrected_objects, layers_of
from cristae.stages.measured import feature_columns, read_measured, title_of, unit_of
from cristae.stages.score_cells import last_cells
from cristae.stages.status import corrected_since

MOST_ROWS = 20_000
"""Objects in the table of the page, the largest of every class."""
MOST_VALUES = 400_000
"""Values in that table: with many objects, only the first features."""
SEEN = "volume_seen_um3"
_SEEN_MEANING = "volume of its voxels, as far as it lies in the volume"
_PARENTS = ("parent_cell_id", "parent_nucleus_id")
_EXACT = 2**53
_NONE = pd.DataFrame({"class": pd.Series(dtype="str"), "object_id": pd.Series(dtype="int64")})

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Rows:
    """Objects of the page.

    Parameters
    ----------
    table
        A row per object: ``class``, ``object_id``, parents and features as far as they are known.
    columns
        Features, the main ones first.
    meanings
        Of columns: ``unit`` and ``meaning``.
    totals
        Objects of each class, those that the page does not hold included.
    left_out
        What the page does not hold, as sentences.
    """

    table: pd.DataFrame
    columns: tuple[str, ...]
    meanings: Mapping[str, Mapping[str, str]]
    totals: Mapping[str, int]
    left_out: tuple[str, ...]

    def heading(self, name: str) -> str:
        """Return the name of a feature with its unit."""
        unit = unit_of(name, self.meanings)
        return f"{title_of(name)} ({unit})" if unit else title_of(name)

    def first(self, n_rows: int, n_columns: int) -> Iterator[tuple[str, ...]]:
        """Yield the largest objects as text: class, id, and values."""
        table = self.table
        head = table.sort_values("n_voxels", ascending=False) if "n_voxels" in table else table
        for row in head.head(n_rows).to_dict("records"):
            values = (short(float(row[name])) for name in self.columns[:n_columns])
            yield str(row["class"]), str(row["object_id"]), *("–" if one is None else f"{one:g}" for one in values)

    def content(self, sheets: Sequence[Sheet]) -> dict[str, Any]:
        """Return the table as columns for JSON, with the sheet that shows most of each object, and its box there."""
        table, best = self.table, best_places(sheets)
        keys = list(zip(map(str, table["class"]), map(int, table["object_id"]), strict=True))
        places = [best.get(key) for key in keys]
        return {
            "class": [name for name, _ in keys],
            "id": [as_json(number) for _, number in keys],
            "cut": table["touches_edge"].astype(int).tolist() if "touches_edge" in table else [],
            "parents": {
                name: [None if pd.isna(one) else as_json(int(one)) for one in table[name]]
                for name in _PARENTS
                if name in table
            },
            "sheet": [-1 if place is None else place[0] for place in places],
            "box": [None if place is None else place[1] for place in places],
            "columns": [
                {
                    "name": name,
                    "title": title_of(name),
                    "unit": unit_of(name, self.meanings),
                    "meaning": self.meanings.get(name, {}).get("meaning", ""),
                    "values": [short(one) for one in table[name].astype(np.float64)],
                }
                for name in self.columns
            ],
        }


def object_rows(project: Project, shown: Shown, voxel_um3: float) -> Rows:
    """Return the objects of a project: those measured, or else what cells, objects and anatomy noted."""
    every, meanings = _known(project, shown)
    table, notes = shorten(every, MOST_ROWS), []
    if "n_voxels" in table:
        table = table.assign(**{SEEN: table["n_voxels"] * voxel_um3})
        meanings = {**meanings, SEEN: {"unit": "µm³", "meaning": _SEEN_MEANING}}
    if len(table) < len(every):
        notes.append(
            f"The table holds the {len(table):,} largest of {len(every):,} objects; all are in objects.csv of the run."
        )
    columns = feature_columns(table) if len(table) else []
    first = [name for name in (SEEN, *MAIN) if name in columns]
    columns = [*first, *(name for name in columns if name not in first)]
    most = max(1, MOST_VALUES // max(1, len(table)))
    if len(columns) > most:
        notes.append(f"The table holds {most} of {len(columns)} features; all are in objects.csv of the run.")
    totals = {str(name): int(n) for name, n in every["class"].value_counts().items()}
    return Rows(table, tuple(columns[:most]), meanings, totals, tuple(notes))


def shorten(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most `most` rows: of every class the largest objects, shared out fairly; their order stays."""
    if len(table) <= most:
        return table
    counts = table["class"].value_counts(sort=False)
    shares = dict(zip(counts.index, share_out(counts.tolist(), most), strict=True))
    size = table["n_voxels"] if "n_voxels" in table else pd.Series(0, index=table.index)
    rank = size.groupby(table["class"]).rank(method="first", ascending=False)
    return table[rank <= table["class"].map(shares)]


def best_places(sheets: Sequence[Sheet]) -> dict[tuple[str, int], tuple[int, Box]]:
    """Return for every object (class, id) the number of the sheet that shows most of it, and its box there."""
    most: dict[tuple[str, int], tuple[int, int, Box]] = {}
    for number, sheet in enumerate(sheets):
        for name, objects in sheet.places.items():
            for one, (area, box) in objects.items():
                if area > most.get((name, one), (0, 0, box))[0]:
                    most[name, one] = area, number, box
    return {key: (number, box) for key, (_, number, box) in most.items()}


def short(value: float) -> float | None:
    """Return a value with four digits; None where there is none."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def as_json(number: int) -> int | str:
    """Return an id as JSON can hold it: as text where a browser would round it."""
    return number if abs(number) < _EXACT else str(number)


def _known(project: Project, shown: Shown) -> tuple[pd.DataFrame, Mapping[str, Mapping[str, str]]]:
    if shown.measured is not None:
        try:
            measured = read_measured(project)
            return measured.objects, measured.dictionary
        except DataError:
            pass
    if shown.is_truth:
        return _NONE, {}
    cells = last_cells(project)
    runs = [(cells[1] or cells[0]) if cells else None, project.latest("objects")]
    parts = [part for run in runs if run is not None and (part := _counted(project, run)) is not None]
    return (_with_parents(project, pd.concat(parts, ignore_index=True)) if parts else _NONE), {}


def _counted(project: Project, run: Run) -> pd.DataFrame | None:
    """Return the voxels of every cell or object of a run, as corrected; None where its tables are gone."""
    columns = ["class", "object_id", "n_voxels"]
    try:
        corrected = {name: corrected_objects(project, run, name) for name in layers_of(run)}
    except DataError:
        return None
    parts = [table[columns] for table in corrected.values() if table is not None]
    if len(parts) < len(corrected):
        try:
            table = pd.read_csv(run.path / "objects.csv", dtype={"class": str})
        except (OSError, ValueError):
            table = pd.DataFrame()
        if run.stage == "track":
            table = table.rename(columns={"object": "object_id"}).assign(**{"class": str(run.manifest["name"])})
        if set(columns) <= set(table):
            alone = [name for name, one in corrected.items() if one is None]
            parts.insert(0, table.loc[table["class"].isin(alone), columns])
    return pd.concat(parts, ignore_index=True) if parts else None


def _with_parents(project: Project, table: pd.DataFrame) -> pd.DataFrame:
    run = project.latest("anatomy")
    if run is None or corrected_since(project, run):
        return table
    try:
        parents = pd.read_parquet(run.path / "parents.parquet", columns=["class", "object_id", "parent_cell_id"])
    except (OSError, ValueError, KeyError):
        return table
    return table.merge(parents, on=["class", "object_id"], how="left")
