"""What lies in what: the cell that every organelle belongs to, and organelles that lie across several cells.

For tables of organelles per cell, and for finding mistakes: an organelle belongs to one cell, so one that lies across
two shows that two cells are cut in the wrong place, or that two organelles are merged.

::

    +-- cell 3 --+-- cell 8 --+
    |  (1)     (2|22)         |      1: parent 3, share 1      2: parent 8, share 2/3; lies across 3 and 8
    +------------+------------+  (4)                           4: parent 0, share 0

Both tables come from counts of shared voxels, which add up over disjoint blocks: a volume need not fit in memory.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cristae.metrics.instance import Contingency


def parents(table: Contingency) -> pd.DataFrame:
    """Return the parent cell of every object: the one that holds most of its voxels.

    Parameters
    ----------
    table
        From ``contingency(objects, cells)``, ids of objects first; 0 is no object and no cell.

    Returns
    -------
    pd.DataFrame
        One row per object, by id: ``object_id``, ``n_voxels``, ``parent_cell_id`` (int64; 0 for objects wholly outside
        cells; of cells that hold equally much the smallest id), ``share_inside`` (0–1), the share of the object's
        voxels that its parent holds. The rest lies in other cells or in none.
    """
    parts = _parts(table)
    best = parts[~parts["object_id"].duplicated()].reset_index(drop=True)
    inside = best["cell_id"] != 0
    return pd.DataFrame(
        {
            "object_id": best["object_id"],
            "n_voxels": best["n_object_voxels"],
            "parent_cell_id": best["cell_id"],
            "share_inside": best["share"].where(inside, 0.0),
        }
    )


def across_cells(table: Contingency, smallest_share: float = 0.05) -> pd.DataFrame:
    """Return the objects that lie across cells: those of which cells beside the parent hold a share worth naming.

    Parameters
    ----------
    table
        As for `parents`.
    smallest_share
        Share of the object's voxels (0–1) that a cell beside the parent has to hold to be named. Outlines of objects
        and cells are drawn apart and seldom agree to the voxel, hence more than 0.

    Returns
    -------
    pd.DataFrame
        One row per object and cell: ``object_id``, ``cell_id``, ``n_voxels`` (int64, of the object in that cell),
        ``share`` (0–1, of all voxels of the object); by object, the parent first, then by falling share. Objects that
        keep to one cell have no row.

    Raises
    ------
    ValueError
        If the share is not between 0 and 1.
    """
    if not 0 <= smallest_share <= 1:
        raise ValueError(f"expected a share between 0 and 1, got {smallest_share}")
    parts = _parts(table)
    parts = parts[parts["cell_id"] != 0]
    named = parts[(parts["share"] >= smallest_share) | ~parts["object_id"].duplicated()]
    across = named[named["object_id"].duplicated(keep=False)]
    return across[["object_id", "cell_id", "n_voxels", "share"]].reset_index(drop=True)


def _parts(table: Contingency) -> pd.DataFrame:
    """Return one row per object and cell that it meets; by object, the largest part first, what lies outside last."""
    order = np.lexsort((table.truth, -table.n_voxels, table.truth == 0, table.segmentation))
    order = order[table.segmentation[order] != 0]
    parts = pd.DataFrame(
        {
            "object_id": table.segmentation[order],
            "cell_id": table.truth[order],
            "n_voxels": table.n_voxels[order],
            "n_object_voxels": table.n_segmentation[order],
        }
    )
    parts["share"] = parts["n_voxels"] / parts["n_object_voxels"]
    return parts
