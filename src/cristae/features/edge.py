"""What an object that the volume's edge cuts through makes meaningless: such columns are left empty, not wrong.

Half of a cell has a volume, a surface and a solidity, but not those of the cell. What is sampled from inside, like
texture, stays; so does what is said of the object as it lies there: its voxels, its box, where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from cristae.features.curvature import DEFINITIONS as CURVATURE
from cristae.features.holes import DEFINITIONS as HOLES
from cristae.features.invagination import DEFINITIONS as INVAGINATION
from cristae.features.skeleton import DEFINITIONS as SKELETON

_MEANINGLESS = (
    "volume_um3",
    "equivalent_diameter_um",
    "surface_um2",
    "mesh_volume_um3",
    "convex_volume_um3",
    "solidity",
    "sphericity",
    "circular_variance",
    "euler_number",
    "axis_1_nm",
    "axis_2_nm",
    "axis_3_nm",
    "elongation",
    "flatness",
    "orientation_z",
    "orientation_y",
    "orientation_x",
    "nucleus_centre_distance_nm",
    "envelope_distance_nm",
    "proximity_to_envelope",
    "nearest_id",
    "nearest_dist_nm",
    "membrane_dist_nm",
    "membrane_contact_um2",
    *HOLES,
    *CURVATURE,
    *INVAGINATION,
    *SKELETON,
)
_MEANINGFUL = (
    "sample_id",
    "object_id",
    "class",
    "parent_cell_id",
    "parent_nucleus_id",
    "share_inside",
    "model_id",
    "run_id",
    "n_voxels",
    "touches_edge",
    "surface_smoothed",
    "crop_factor",
    *(f"centroid_{axis}_nm" for axis in "zyx"),
    *(f"bbox_{axis}_{end}_px" for axis in "zyx" for end in ("start", "stop")),
    "grey_min",
    "grey_max",
    "grey_mean",
)
_TEXTURE = ("glcm_", "szm_", "ps_")
"""How columns begin that are sampled from inside an object."""

MEANINGLESS_WHEN_CUT: Mapping[str, bool] = MappingProxyType(
    {**dict.fromkeys(_MEANINGLESS, True), **dict.fromkeys(_MEANINGFUL, False)}
)
"""Columns of feature tables, and whether they mean nothing for a cut object; texture stays and is not listed."""


def meaningless_when_cut(columns: Iterable[str], more: Mapping[str, bool] = MappingProxyType({})) -> list[str]:
    """Return those of some columns that mean nothing for a cut object.

    Parameters
    ----------
    columns
        Names of columns.
    more
        The same for columns that cristae does not know, those of third parties.

    Raises
    ------
    ValueError
        If nothing is known about a column: whether it stays must be said, not guessed.
    """
    columns = list(columns)
    known = {**more, **MEANINGLESS_WHEN_CUT}
    unknown = [name for name in columns if name not in known and not name.startswith(_TEXTURE)]
    if unknown:
        raise ValueError(
            f"nothing says whether an object cut by the edge has a {', '.join(unknown)}; pass it in `more`"
        )
    return [name for name in columns if known.get(name, False)]


def blank_cut(table: pd.DataFrame, columns: Iterable[str], cut: np.ndarray | None = None) -> pd.DataFrame:
    """Return a table in which cut objects have no value in columns that mean nothing for them.

    Parameters
    ----------
    table
        One row per object.
    columns
        Those to empty, for example from `meaningless_when_cut`; those that the table lacks are passed over.
    cut
        bool, one per row: whether the object is cut. By default the column ``touches_edge``. For what depends on a
        second object too, say whether either is cut: the distance of a nucleolus to its envelope means nothing if the
        nucleus is cut.

    Returns
    -------
    pd.DataFrame
        A copy. Emptied columns are float64 whether or not an object is cut, so that their type does not depend on it.
    """
    cut = np.asarray(table["touches_edge"] if cut is None else cut, np.bool_)
    table = table.copy()
    for name in columns:
        if name in table.columns:
            table[name] = table[name].astype(np.float64).mask(cut)
    return table
