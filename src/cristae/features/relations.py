"""Tables of relations: who touches, overlaps or lies near whom, and how organelles lie to the membrane of their cell.

Counts and distances come from `cristae.features.contacts` and `cristae.features.distances`, merged over all blocks;
these functions give them units. A row of the table of pairs::

    a_id  b_id  relation   contact_um2  flush_um2  overlap_um3  min_dist_nm
       3    17  contact          0.042          0            0            8
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cristae.features.contacts import Contacts, area_um2
from cristae.features.definitions import Definition
from cristae.features.distances import Distances

_FACES = "by faces of voxels, about 1.5 times a smooth surface, less where it lies along the axes"
_CENTRES = "between centres of voxels; empty beyond the largest distance measured"

DEFINITIONS: Mapping[str, Definition] = {
    "a_id": Definition("", "one object of the pair; within one class the smaller id"),
    "b_id": Definition("", "the other object of the pair"),
    "relation": Definition("", "overlap (they share voxels), contact (they share faces), or near"),
    "contact_um2": Definition("µm²", f"area at which one ends and the other begins, {_FACES}", "Σ faces · their area"),
    "flush_um2": Definition("µm²", f"area at which both end on the same side, {_FACES}", "Σ faces · their area"),
    "overlap_um3": Definition("µm³", "volume of the voxels that both have"),
    "min_dist_nm": Definition("nm", f"smallest distance of the pair, 0 where they overlap, {_CENTRES}"),
    "nearest_id": Definition(
        "", "object of the other class at the smallest distance, of several the smallest id; or 0"
    ),
    "nearest_dist_nm": Definition("nm", f"distance to that object, {_CENTRES}"),
    "membrane_dist_nm": Definition(
        "nm", f"smallest distance to a voxel outside of the object's cell, 0 where it sticks out, {_CENTRES}"
    ),
    "membrane_contact_um2": Definition(
        "µm²", f"area at which the object and its cell end together, {_FACES}; empty without a cell"
    ),
}


def tabulate_relations(
    contacts: Contacts, distances: Distances, voxel_size: tuple[float, float, float]
) -> pd.DataFrame:
    """Return one row for every pair of objects that meet or come near each other.

    Parameters
    ----------
    contacts, distances
        Of all blocks together, with the same ids.
    voxel_size
        In nm (z, y, x).

    Returns
    -------
    pd.DataFrame
        ``a_id`` to ``min_dist_nm`` of `DEFINITIONS`, sorted by the ids (int64).
        ``min_dist_nm`` is NaN for neighbours that touch over a face longer than the largest distance.
    """
    meeting = pd.DataFrame(
        {
            "a_id": contacts.a,
            "b_id": contacts.b,
            "contact_um2": area_um2(contacts.n_faces, voxel_size),
            "flush_um2": area_um2(contacts.n_flush, voxel_size),
            "overlap_um3": contacts.n_shared * (float(np.prod(voxel_size)) * 1e-9),
        }
    )
    near = pd.DataFrame({"a_id": distances.a, "b_id": distances.b, "min_dist_nm": distances.distance_nm})
    table = meeting.merge(near, how="outer", on=["a_id", "b_id"]).sort_values(["a_id", "b_id"], ignore_index=True)
    amounts = ["contact_um2", "flush_um2", "overlap_um3"]
    table[amounts] = table[amounts].fillna(0.0)
    shared, touching = table["overlap_um3"] > 0, table["contact_um2"] > 0
    table.insert(2, "relation", np.where(shared, "overlap", np.where(touching, "contact", "near")))
    return table


def nearest_objects(distances: Distances, ids: np.ndarray) -> pd.DataFrame:
    """Return the nearest other object of every object.

    Parameters
    ----------
    distances
        Of all blocks together. Neighbours within one volume must be given both ways: ``d + d.swapped()``.
    ids
        The objects a to list.

    Returns
    -------
    pd.DataFrame
        One row per id in their order: ``nearest_id`` (int64, 0 for none) and ``nearest_dist_nm`` (NaN for none).
    """
    order = np.lexsort((distances.b, distances.distance_nm, distances.a))
    a, first = np.unique(distances.a[order], return_index=True)
    best = order[first]
    place = np.searchsorted(a, ids)
    found = place < a.size
    found[found] = a[place[found]] == ids[found]
    nearest, distance = np.zeros(len(ids), np.int64), np.full(len(ids), np.nan)
    nearest[found] = distances.b[best[place[found]]]
    distance[found] = distances.distance_nm[best[place[found]]]
    return pd.DataFrame({"nearest_id": nearest, "nearest_dist_nm": distance})


def tabulate_membranes(
    contacts: Contacts,
    distance_nm: np.ndarray,
    ids: np.ndarray,
    cell_of: np.ndarray,
    voxel_size: tuple[float, float, float],
) -> pd.DataFrame:
    """Return how every organelle lies to the membrane of its cell.

    Parameters
    ----------
    contacts
        Of organelles (a) with cells (b), of all blocks together.
    distance_nm
        float64 ``(n,)``: from `cristae.features.distances.add_membrane_distances`, smallest over all blocks.
    ids
        int64 ``(n,)``: ids of the organelles, in the order of the distances.
    cell_of
        int64 ``(n,)``: ids of their cells, 0 for none.
    voxel_size
        In nm (z, y, x).

    Returns
    -------
    pd.DataFrame
        One row per organelle: ``membrane_dist_nm`` and ``membrane_contact_um2``; both NaN without a cell.
    """
    area = pd.Series(area_um2(contacts.n_flush, voxel_size), index=pd.MultiIndex.from_arrays([contacts.a, contacts.b]))
    own = area.reindex(pd.MultiIndex.from_arrays([ids, cell_of]), fill_value=0.0).to_numpy()
    housed = cell_of != 0
    return pd.DataFrame(
        {
            "membrane_dist_nm": np.where(housed & np.isfinite(distance_nm), distance_nm, np.nan),
            "membrane_contact_um2": np.where(housed, own, np.nan),
        }
    )
