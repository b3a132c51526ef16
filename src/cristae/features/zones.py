"""Grey level size zones: how large the pieces of one grey level are inside an object.

A zone is a connected piece of voxels of one object and one level. In a slice, with diagonals joined::

    levels    1 1 4 4         the size zone matrix       size  1  3  5
              1 4 6 1         as rows that are not 0     1:    1  1
              6 6 6 6         (object, level, size, n)   4:       1
                                                         6:          1

Unlike the co-occurrence matrix it does not depend on how the object is turned. How zones are found block by block is in
`cristae.features.zone_parts`.

Papers: G. Thibault et al. (2009), PRIP, 140 (the matrix); Machireddy et al. (2023), "Texture", eqs. 14–15;
A. Zwanenburg et al. (2020), Radiology 295, 328 (IBSI), "Grey level size zone based features".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cristae.features.definitions import Definition

# In the formulas: s(i, j) zones of level i and size j, n_z zones in all, n_v voxels.
DEFINITIONS: Mapping[str, Definition] = {
    "szm_n_zones": Definition("", "Number of zones: connected pieces of one grey level.", "n_z = Σ s(i, j)", "IBSI"),
    "szm_zone_percentage": Definition(
        "",
        "Zones for each voxel, 0 to 1: fineness of the texture.",
        "n_z / n_v",
        "Machireddy et al. (2023), eq. 14; IBSI",
    ),
    "szm_szhge": Definition(
        "levels²",
        "Small zone high grey level emphasis: large where bright zones are small.",
        "Σ s(i, j) i² / j² / n_z",
        "IBSI. Machireddy et al. (2023), eq. 15, prints it without 1 / j²",
    ),
    "szm_szhge_eq15": Definition(
        "levels²",
        "Machireddy's eq. 15 to the letter, divided by the size of the largest zone, as its legend has it.",
        "Σ s(i, j) i² / max j",
        "Machireddy et al. (2023), eq. 15",
    ),
    "szm_centroid_size": Definition(
        "voxels",
        "Mean size of the zones: the centroid of the matrix along sizes.",
        "Σ s(i, j) j / n_z",
        "Machireddy et al. (2023), in words",
    ),
    "szm_centroid_level": Definition(
        "levels",
        "Mean level of the zones: the centroid of the matrix along levels.",
        "Σ s(i, j) i / n_z",
        "Machireddy et al. (2023), in words",
    ),
    "szm_sze": Definition("", "Small zone emphasis, 0 to 1.", "Σ s(i, j) / j² / n_z", "IBSI"),
    "szm_lze": Definition("voxels²", "Large zone emphasis.", "Σ s(i, j) j² / n_z", "IBSI"),
    "szm_lgze": Definition("", "Low grey level zone emphasis, 0 to 1.", "Σ s(i, j) / i² / n_z", "IBSI"),
    "szm_hgze": Definition("levels²", "High grey level zone emphasis.", "Σ s(i, j) i² / n_z", "IBSI"),
    "szm_szlge": Definition("", "Small zone low grey level emphasis.", "Σ s(i, j) / (i² j²) / n_z", "IBSI"),
    "szm_lzlge": Definition("voxels²", "Large zone low grey level emphasis.", "Σ s(i, j) j² / i² / n_z", "IBSI"),
    "szm_lzhge": Definition("", "Large zone high grey level emphasis.", "Σ s(i, j) i² j² / n_z", "IBSI"),
    "szm_glnu": Definition(
        "", "Grey level non-uniformity: low if levels are even.", "Σ_i (Σ_j s(i, j))² / n_z", "IBSI"
    ),
    "szm_zsnu": Definition("", "Zone size non-uniformity: low if sizes are even.", "Σ_j (Σ_i s(i, j))² / n_z", "IBSI"),
    "szm_level_variance": Definition(
        "levels²", "Variance of the levels of zones.", "Σ s(i, j) (i − μ)² / n_z, μ = Σ s(i, j) i / n_z", "IBSI"
    ),
    "szm_size_variance": Definition(
        "voxels²", "Variance of the sizes of zones.", "Σ s(i, j) (j − μ)² / n_z, μ = Σ s(i, j) j / n_z", "IBSI"
    ),
    "szm_entropy": Definition(
        "bit",
        "How many kinds of zones there are (zone size entropy).",
        "−Σ p log₂ p, p = s(i, j) / n_z",
        "IBSI",
    ),
}


@dataclass(frozen=True)
class Zones:
    """How many zones of every size and level each object has; those of disjoint parts of a volume add up.

    Only if no zone lies in two parts: `cristae.features.zone_parts` sees to that.

    Parameters
    ----------
    object_id, level, size
        int64: object, grey level and voxels; each triple once, in ascending order.
    n_zones
        int64, above 0.
    """

    object_id: np.ndarray
    level: np.ndarray
    size: np.ndarray
    n_zones: np.ndarray

    def __add__(self, other: Zones) -> Zones:
        return collect_zones(
            np.concatenate([self.object_id, other.object_id]),
            np.concatenate([self.level, other.level]),
            np.concatenate([self.size, other.size]),
            np.concatenate([self.n_zones, other.n_zones]),
        )


def collect_zones(object_id: np.ndarray, level: np.ndarray, size: np.ndarray, n_zones: np.ndarray) -> Zones:
    """Return the rows (int64, any order, doubles allowed) sorted, equal ones added up."""
    order = np.lexsort((size, level, object_id))
    object_id, level, size, n_zones = object_id[order], level[order], size[order], n_zones[order]
    first = _first_of_each(object_id, level, size)
    return Zones(
        object_id[first], level[first], size[first], np.add.reduceat(n_zones, first) if len(first) else n_zones
    )


def zone_table(zones: Zones, ids: np.ndarray, literal: bool = False) -> pd.DataFrame:
    """Return the texture of objects.

    Parameters
    ----------
    zones
        Those of the whole volume; objects that are not in `ids` are left out.
    ids
        int64 (n,): the objects of the table, each once, in any order.
    literal
        Whether to add what Machireddy's eq. 15 says to the letter: ``szm_szhge_eq15``.

    Returns
    -------
    pd.DataFrame
        Row i is ``ids[i]``; columns of `DEFINITIONS`, float64; NaN for objects without a zone.
    """
    order = np.argsort(ids)
    place = np.searchsorted(ids, zones.object_id, sorter=order)
    known = np.isin(zones.object_id, ids)
    row = order[place[known]]
    level, size, n = zones.level[known], zones.size[known], zones.n_zones[known]
    i, j = level.astype(np.float64), size.astype(np.float64)

    def total(weights: np.ndarray) -> np.ndarray:
        # Without rows, `bincount` forgets that weights are not whole numbers.
        return np.bincount(row, weights=weights * n, minlength=len(ids)).astype(np.float64)

    n_zones, n_voxels = total(np.ones(len(n))), total(j)
    n_zones[n_zones == 0] = np.nan
    share = n / n_zones[row]
    centroid_level, centroid_size = total(i) / n_zones, n_voxels / n_zones
    columns = {
        "szm_n_zones": n_zones,
        "szm_zone_percentage": n_zones / np.where(n_voxels > 0, n_voxels, np.nan),
        "szm_szhge": total(i**2 / j**2) / n_zones,
        "szm_centroid_size": centroid_size,
        "szm_centroid_level": centroid_level,
        "szm_sze": total(1 / j**2) / n_zones,
        "szm_lze": total(j**2) / n_zones,
        "szm_lgze": total(1 / i**2) / n_zones,
        "szm_hgze": total(i**2) / n_zones,
        "szm_szlge": total(1 / (i**2 * j**2)) / n_zones,
        "szm_lzlge": total(j**2 / i**2) / n_zones,
        "szm_lzhge": total(i**2 * j**2) / n_zones,
        "szm_glnu": _non_uniformity(row, level, n, len(ids)) / n_zones,
        "szm_zsnu": _non_uniformity(row, size, n, len(ids)) / n_zones,
        "szm_level_variance": total((i - centroid_level[row]) ** 2) / n_zones,
        "szm_size_variance": total((j - centroid_size[row]) ** 2) / n_zones,
        "szm_entropy": total(-np.log2(share)) / n_zones,
    }
    if literal:
        largest = np.zeros(len(ids))
        np.maximum.at(largest, row, j)
        columns["szm_szhge_eq15"] = columns["szm_hgze"] * n_zones / np.where(largest > 0, largest, np.nan)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(ids)))


def _first_of_each(*sorted_columns: np.ndarray) -> np.ndarray:
    """Return the places of rows that differ from the one before; the rows are sorted."""
    new = np.ones(len(sorted_columns[0]), np.bool_)
    if len(new):
        new[1:] = np.any([np.diff(column) != 0 for column in sorted_columns], axis=0)
    return np.flatnonzero(new)


def _non_uniformity(row: np.ndarray, values: np.ndarray, n: np.ndarray, n_rows: int) -> np.ndarray:
    """Return, for every row of the table, the sum over its different values of (zones with that value)²."""
    if not len(row):
        return np.zeros(n_rows)
    order = np.lexsort((values, row))
    first = _first_of_each(row[order], values[order])
    sums = np.add.reduceat(n[order], first).astype(np.float64)
    return np.bincount(row[order][first], weights=sums**2, minlength=n_rows)
