"""What `cristae measure` left in a project, for whoever shows it or compares it: tables, dictionary, names of features.

The run folder holds ``objects.parquet`` (a row per object of all classes), ``relations.parquet``, ``violations.csv``
and ``dictionary.json`` (unit, meaning, equation and paper of each column). All but the objects may be missing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cristae.errors import DataError
from cristae.features.contents import contents_of_cells
from cristae.project import Project, Run
from cristae.stages.status import is_stale

_NEEDED = ("class", "object_id", "n_voxels")
_NO_FEATURE = re.compile(
    r".*_id|class|n_voxels|n_filled_voxels|touches_edge|share_in(side|_nucleus)|crop_factor|surface_smoothed"
    r"|(centroid|bbox|orientation)_.*"
)
"""Columns that say which object it is, where it lies, or how it was measured: nothing to compare."""
_SHORT = {"glcm": "GLCM", "szm": "SZM", "ps": "PS"} | {
    word: word.upper() for word in ("sze", "lze", "lgze", "hgze", "szlge", "szhge", "lzlge", "lzhge", "glnu", "zsnu")
}
_UNITS = {"um": "µm", "um2": "µm²", "um3": "µm³", "nm": "nm", "nm2": "nm²", "nm3": "nm³", "px": "px"}
_FAMILIES = (
    ("Size and shape", r"(mesh|convex|filled)_volume_um3"),
    ("Grey values and co-occurrence", r"(grey|glcm)_.*"),
    ("Size zones", r"szm_.*"),
    ("Pattern spectrum", r"ps_.*"),
    (
        "Surface, holes and skeleton",
        r"(mean_curvature|gaussian|curvedness|concave|invagination|skeleton|n|fenestrated)_.*",
    ),
    (
        "Contents and neighbours",
        r".+_(count|per_um3|volume_fraction|volume_um3)|(nearest|membrane|envelope|proximity|nucleus_centre)_.*",
    ),
    ("Size and shape", r".*"),
)
"""Headings, and the features under each; the first that fits counts."""
_ORDER = (0, 4, 5, 1, 2, 3)
"""In which order headings are shown."""


@dataclass(frozen=True)
class Measured:
    """The measurements of one project.

    Parameters
    ----------
    project, run
        Where they are from.
    sample
        Name of the sample.
    classes
        All that were measured, also those without objects.
    objects
        One row per object; ``touches_edge`` is bool and ``class`` text.
    contents
        What every cell holds, a row per cell and class; None without cells or parents.
    violations
        What does not lie where it should; None where there is no such table, or no row in it.
    dictionary
        For each column ``unit``, ``meaning``, ``equation``, ``paper``.
    stale
        Whether what was measured has changed since.
    """

    project: Project
    run: Run
    sample: str
    classes: tuple[str, ...]
    objects: pd.DataFrame
    contents: pd.DataFrame | None
    violations: pd.DataFrame | None
    dictionary: Mapping[str, Mapping[str, str]]
    stale: bool


def read_measured(project: Project) -> Measured:
    """Read the measurements that finished last.

    Raises
    ------
    DataError
        If nothing has been measured, or a table is damaged.
    """
    run = project.latest("measure")
    if run is None:
        begun = " (a measurement was begun, but not finished)" if project.runs("measure") else ""
        raise DataError(f"{project.path} has no measurements{begun}; run: cristae measure {project.path}")
    objects = _objects(run)
    dictionary = _dictionary(run)
    return Measured(
        project,
        run,
        _sample(project, objects),
        tuple(dict.fromkeys([*map(str, run.manifest.get("classes", ())), *objects["class"]])),
        objects,
        _contents(project, run, objects),
        _table(run, "violations"),
        dictionary,
        _changed(project, run),
    )


def feature_columns(objects: pd.DataFrame) -> list[str]:
    """Return the columns that are features: numbers that say what an object is like, with a value in some row."""
    return [
        str(name)
        for name in objects.columns
        if not _NO_FEATURE.fullmatch(str(name))
        and pd.api.types.is_numeric_dtype(objects[name])
        and np.isfinite(objects[name].astype(np.float64)).any()
    ]


def by_family(features: Iterable[str]) -> dict[str, list[str]]:
    """Return features by the heading that they are shown under; headings without features are left out."""
    found: dict[str, list[str]] = {_FAMILIES[place][0]: [] for place in _ORDER}
    for feature in features:
        found[next(title for title, pattern in _FAMILIES if re.fullmatch(pattern, feature))].append(feature)
    return {title: names for title, names in found.items() if names}


def unit_of(feature: str, dictionary: Mapping[str, Mapping[str, str]]) -> str:
    """Return the unit of a feature, "" for none: from the dictionary, else from the end of its name."""
    if feature in dictionary:
        return str(dictionary[feature].get("unit", "") or "")
    return _UNITS.get(feature.rpartition("_")[2], "")


def title_of(feature: str) -> str:
    """Return the name of a feature as people read it, without its unit: ``volume_um3`` is "volume"."""
    name = re.sub(r"_(?:per_)?(um|um2|um3|nm|nm2|nm3|px)$", "", feature)
    if feature.endswith("_per_um3"):
        name += "_density"
    words = [_SHORT.get(word, word) for word in name.split("_")]
    if "n" in words[:2]:
        at = words.index("n")
        words[at : at + 1] = ["number", "of"]
    return " ".join(words)


def _objects(run: Run) -> pd.DataFrame:
    path = run.path / "objects.parquet"
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; measure again: cristae measure --force") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); measure again: cristae measure --force") from error
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; measure again: cristae measure --force")
    table["class"] = table["class"].astype(str)
    cut = table["touches_edge"] if "touches_edge" in table.columns else pd.Series(False, index=table.index)
    table["touches_edge"] = cut.astype("boolean").fillna(False).astype(bool)
    return table.reset_index(drop=True)


def _sample(project: Project, objects: pd.DataFrame) -> str:
    names = list(dict.fromkeys(objects["sample_id"].astype(str))) if "sample_id" in objects.columns else []
    if len(names) > 1:
        raise DataError(
            f"the measurements of {project.path} are of several samples ({', '.join(names)}); expected one for each "
            "project: measure again with cristae measure --force"
        )
    return names[0] if names else project.name


def _dictionary(run: Run) -> dict[str, Mapping[str, str]]:
    """Return what columns mean: from a list under ``objects``, or from a mapping of columns."""
    try:
        found = dict(json.loads((run.path / "dictionary.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
    entries = found.get("objects")
    if isinstance(entries, list):
        found = {str(one["name"]): one for one in entries if isinstance(one, Mapping) and "name" in one}
    return {
        str(name): {key: str(one.get(key) or "") for key in ("unit", "equation", "paper")}
        | {"meaning": str(one.get("meaning") or one.get("definition") or "")}
        for name, one in found.items()
        if isinstance(one, Mapping)
    }


def _table(run: Run, name: str) -> pd.DataFrame | None:
    for path, read in ((run.path / f"{name}.parquet", pd.read_parquet), (run.path / f"{name}.csv", pd.read_csv)):
        try:
            table = read(path)
        except (OSError, ValueError):
            continue
        return table if len(table) else None
    return None


def _contents(project: Project, run: Run, objects: pd.DataFrame) -> pd.DataFrame | None:
    cells = str(run.manifest.get("cell", "cell"))
    if "parent_cell_id" not in objects.columns or not (objects["class"] == cells).any():
        return None
    try:
        return contents_of_cells(objects, cells, math.prod(project.file.voxel_size_nm) * 1e-9)
    except ValueError:  # two cells of one id: what they hold cannot be told apart
        return None


def _changed(project: Project, run: Run) -> bool:
    try:
        return is_stale(project, run)
    except DataError:  # without its image a project still has its tables
        return False


def settings_that_differ(runs: Iterable[Run]) -> list[str]:
    """Return the settings in which measurements differ, as ``name: value, value``."""
    settings: list[dict[str, Any]] = []
    for run in runs:
        try:
            settings.append(run.settings)
        except (OSError, ValueError):
            return []
    found = {
        name: [one.get(name) for one in settings] for name in dict.fromkeys(key for one in settings for key in one)
    }
    return [
        f"{name}: {', '.join(map(str, dict.fromkeys(map(str, values))))}"
        for name, values in found.items()
        if any(value != values[0] for value in values)
    ]
