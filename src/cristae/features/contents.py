"""What every cell holds: number, volume and share of the organelles of each class, from the table of objects.

::

    objects: class  parent_cell_id  n_voxels      contents: cell_id  class          n_objects  volume_um3  share_of_cell
             mito   3               100      ->             3        mito           2          0.3         0.02
             mito   3               200                     3        lysosome       0          0           0

Paper: A. Machireddy et al. (2023), Front. Bioinform. 3, 1308708, Figure 10E–H (volume of organelles in each cell).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cristae.features.definitions import Definition

_PAPER = "Machireddy et al. (2023), Figure 10"
DEFINITIONS: Mapping[str, Definition] = {
    "cell_id": Definition("", "the cell"),
    "class": Definition("", "class of what lies in it"),
    "n_objects": Definition("", "objects of that class whose parent it is", "", _PAPER),
    "volume_um3": Definition("µm³", "volume of their voxels", "Σ n_voxels · voxel volume", _PAPER),
    "share_of_cell": Definition(
        "", "that volume over the volume of the cell", "Σ n_voxels / n_voxels of the cell", _PAPER
    ),
    "touches_edge": Definition(
        "", "whether the cell touches the edge of the volume: then it is what lies inside of it"
    ),
}


def contents_of_cells(objects: pd.DataFrame, cell_class: str, voxel_um3: float) -> pd.DataFrame:
    """Return how much of every class lies in every cell.

    Parameters
    ----------
    objects
        One row per object of all classes of one sample: ``class``, ``object_id``, ``parent_cell_id`` (0 or missing for
        none), ``n_voxels``, ``touches_edge``.
    cell_class
        Class of the cells.
    voxel_um3
        Volume of a voxel in µm³.

    Returns
    -------
    pd.DataFrame
        One row per cell and other class, cells and classes in the order of the table; columns of `DEFINITIONS`. 0 where
        a cell holds none. Objects that the volume's edge cuts count with the part that is there.

    Raises
    ------
    ValueError
        If two cells have one id.
    """
    cells = objects[objects["class"] == cell_class].set_index("object_id")
    if cells.index.has_duplicates:
        twice = cells.index[cells.index.duplicated()][0]
        raise ValueError(f"expected one row per cell, found two with the id {twice}")
    others = objects[objects["class"] != cell_class]
    classes = list(dict.fromkeys(others["class"]))
    rows = pd.MultiIndex.from_product([cells.index, classes], names=["cell_id", "class"])
    # Missing parents make the column float; ids are exact in it up to 2⁵³.
    parent = others["parent_cell_id"].astype(np.float64).fillna(0).astype(np.int64)
    sums = others["n_voxels"].astype(np.int64).groupby([parent, others["class"]]).agg(["size", "sum"])
    found = sums.reindex(rows, fill_value=0).astype(np.int64)
    size = cells["n_voxels"].astype(np.float64).reindex(rows.get_level_values("cell_id")).to_numpy()
    table = pd.DataFrame(
        {
            "n_objects": found["size"],
            "volume_um3": found["sum"] * voxel_um3,
            "share_of_cell": found["sum"].to_numpy() / size,
            "touches_edge": cells["touches_edge"].astype(bool).reindex(rows.get_level_values("cell_id")).to_numpy(),
        },
        index=rows,
    )
    return table.reset_index()
