"""The table of objects from the parts that families have left, and what its columns mean.

One table for all classes, one row per object: readers filter it by ``class``, put projects one below the other, and
need no list of files. Columns that a class does not have are empty there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cristae.errors import DataError
from cristae.features import crops, glcm, holes, moments, morphology, parentage, proximity, relations, zones
from cristae.features.definitions import Definition
from cristae.features.edge import blank_cut, meaningless_when_cut
from cristae.features.spectrum import spectrum_definitions
from cristae.stages.measuring.sample import Sample

FIRST = ("sample_id", "class", "object_id", "parent_cell_id", "share_inside", "parent_nucleus_id")
"""Columns at the left of the table."""

_ABOUT: Mapping[str, Definition] = {
    "sample_id": Definition("", "name of the project"),
    "class": Definition("", "class of the object"),
    "object_id": Definition("", "number of the object in the layer of its class"),
    "parent_cell_id": Definition("", "cell that holds most of its voxels; 0 for none, empty without a layer of cells"),
    "share_inside": Definition("", "share of its voxels in that cell"),
    "parent_nucleus_id": Definition("", "of nucleoli: nucleus that holds most of its voxels; 0 for none"),
}
_WITHIN = {
    "count": Definition("", "{child} objects of which it holds more voxels than any other"),
    "volume_um3": Definition("µm³", "volume of these"),
    "per_um3": Definition("1/µm³", "number of these for each µm³ of the object", "count / volume"),
    "volume_fraction": Definition("", "volume of these over that of the object"),
}
VIOLATION_TYPES = {
    "class": "str",
    "object_id": "int64",
    "parent_class": "str",
    "parent_id": "int64",
    "kind": "str",
    "share_outside": "float64",
}
"""Columns of the list of violations with their types, which hold for empty ones too."""
_RELATION_TYPES = {
    "a_class": "str",
    "a_id": "int64",
    "b_class": "str",
    "b_id": "int64",
    "relation": "str",
    "contact_um2": "float64",
    "flush_um2": "float64",
    "overlap_um3": "float64",
    "min_dist_nm": "float64",
    "a_touches_edge": "bool",
    "b_touches_edge": "bool",
}
_RELATIONS: Mapping[str, Definition] = {
    "a_class": Definition("", "class of the one object"),
    "b_class": Definition("", "class of the other"),
    "a_touches_edge": Definition("", "whether the one is cut, so that what is said of the pair may be too little"),
    "b_touches_edge": Definition("", "whether the other is cut"),
}


def add_contents(tables: Mapping[str, pd.DataFrame], sample: Sample) -> dict[str, pd.DataFrame]:
    """Add to tables of cells and nuclei how many objects of each class lie in them, and how much of their volume.

    Number and volume are empty where the parent is cut; what is told of each µm³ stays.

    Parameters
    ----------
    tables
        By class, with ``touches_edge``, voxels, and parents.
    sample
        Which classes lie in which.
    """
    found = dict(tables)
    voxel_um3 = float(np.prod(sample.grid.voxel_size)) * 1e-9
    for child, parent in sample.parents:
        column = "parent_cell_id" if parent == sample.cell else "parent_nucleus_id"
        inside = tables[child].groupby(column)["n_voxels"].agg(["size", "sum"])
        table = found[parent]
        inside = inside.reindex(table["object_id"]).fillna(0)
        whole = table["n_voxels"].to_numpy() * voxel_um3
        count, volume = inside["size"].to_numpy(np.int64), inside["sum"].to_numpy(np.float64) * voxel_um3
        more = {
            "touches_edge": table["touches_edge"].to_numpy(),
            f"{child}_count": count,
            f"{child}_volume_um3": volume,
            f"{child}_per_um3": count / whole,
            f"{child}_volume_fraction": volume / whole,
        }
        if clash := sorted({*more} & {*table.columns} - {"touches_edge"}):
            raise DataError(f"class {child!r} would have a column {clash[0]}, which is another feature; rename it")
        contents = blank_cut(pd.DataFrame(more), [f"{child}_count", f"{child}_volume_um3"])
        found[parent] = pd.concat([table, contents.drop(columns="touches_edge")], axis=1)
    return found


def blanked(table: pd.DataFrame, more: Mapping[str, bool]) -> pd.DataFrame:
    """Empty the columns that mean nothing for cut objects.

    Parameters
    ----------
    table
        Of one class, before `add_contents`.
    more
        What third parties say of their columns.
    """
    nearest = {name: True for name in table.columns if re.fullmatch(r"nearest_.+_(id|dist_nm)", name)}
    return blank_cut(table, meaningless_when_cut(table.columns, {**more, **nearest}))


def joined(tables: Mapping[str, pd.DataFrame], sample: Sample) -> pd.DataFrame:
    """Put the tables of all classes one below the other."""
    filled = {name: table for name, table in tables.items() if len(table)} or dict(list(tables.items())[:1])
    # All columns of one type before joining: pandas would guess from those that are wholly empty.
    columns = dict.fromkeys(name for table in filled.values() for name in table.columns)
    types = {name: _type(name, filled) for name in columns}
    parts = [table.reindex(columns=list(columns)).astype(types) for table in filled.values()]
    table = pd.concat(parts, ignore_index=True)
    sample_id = pd.DataFrame({"sample_id": pd.Series([sample.name] * len(table), dtype="str")})
    left = [name for name in FIRST[1:] if name in columns]
    return pd.concat([sample_id, table[[*left, *(name for name in columns if name not in left)]]], axis=1)


def _type(name: str, tables: Mapping[str, pd.DataFrame]) -> Any:
    """Return the type of a column: whole numbers that some classes do not have need one that knows empty."""
    held = {str(table[name].dtype) for table in tables.values() if name in table.columns}
    everywhere = all(name in table.columns for table in tables.values())
    if held <= {"int64", "Int64"}:
        return "int64" if held == {"int64"} and everywhere else "Int64"
    if held == {"bool"}:
        return "bool" if everywhere else "boolean"
    return "float64" if held <= {"int64", "Int64", "float64"} else "str"


def definitions(columns: list[str], spectrum_radius: int, plugins: Mapping[str, Definition]) -> dict[str, Definition]:
    """Return what the columns of the table of objects mean, in their order."""
    known = {
        **_ABOUT,
        **moments.DEFINITIONS,
        **morphology.DEFINITIONS,
        **holes.DEFINITIONS,
        **glcm.DEFINITIONS,
        **zones.DEFINITIONS,
        **spectrum_definitions(spectrum_radius),
        **relations.DEFINITIONS,
        **proximity.DEFINITIONS,
        **crops.DEFINITIONS,
        **plugins,
    }
    return {name: known[name] if name in known else _derived(name, known) for name in columns}


def relation_definitions() -> dict[str, Definition]:
    """Return what the columns of the table of pairs mean, in their order."""
    known = {**relations.DEFINITIONS, **_RELATIONS}
    return {name: known[name] for name in _RELATION_TYPES}


def no_relations() -> pd.DataFrame:
    """Return a table of pairs without rows."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _RELATION_TYPES.items()})


def violation_definitions() -> dict[str, Definition]:
    """Return what the columns of the list of violations mean."""
    return dict(parentage.DEFINITIONS)


def _derived(name: str, known: Mapping[str, Definition]) -> Definition:
    """Return what a column means whose name holds a class or a distance."""
    if match := re.fullmatch(r"(glcm_.+)_d(\d+)", name):
        base = known[match[1]]
        return Definition(base.unit, f"{base.meaning} At distance {match[2]} voxels.", base.equation, base.paper)
    if match := re.fullmatch(r"nearest_(.+)_(id|dist_nm)", name):
        base = known[f"nearest_{match[2]}"]
        return Definition(base.unit, f"{match[1]}: {base.meaning}; empty where the edge of the volume is nearer")
    for ending, meaning in _WITHIN.items():
        if name.endswith(f"_{ending}"):
            child = name.removesuffix(f"_{ending}")
            of_these = meaning.meaning.format(child=child) if ending == "count" else f"{child}: {meaning.meaning}"
            return Definition(meaning.unit, of_these, meaning.equation)
    raise KeyError(f"nothing says what column {name!r} means")


def write_with_units(table: pd.DataFrame, path: Path, meanings: Mapping[str, Definition]) -> None:
    """Write a table as CSV, and as Parquet with unit and meaning of each column in its metadata."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    fields = [
        field.with_metadata({"unit": meanings[field.name].unit, "meaning": meanings[field.name].meaning})
        for field in arrow.schema
    ]
    schema = pa.schema(fields, metadata=arrow.schema.metadata)
    pq.write_table(arrow.cast(schema), path.with_suffix(".parquet"))
    table.to_csv(path.with_suffix(".csv"), index=False)
