"""How near a nucleolus lies to the envelope of its nucleus (Figure 1F of the paper).

::

         ╭───────────────╮        dcc  from the centre of the nucleus · to that of the nucleolus ×
         │               │        ds   from there to the nearest point of the surface of the nucleus
         │       · dcc × │ds
         │               │        proximity = dcc / (dcc + ds): 0 in the middle, towards 1 at the envelope
         ╰───────────────╯

The surface is that of the voxels: distances are to the nearest point of the nearest face, not to centres of voxels.
Where the volume cuts a nucleus there is no envelope, so nothing is measured to the cut.

Paper: Machireddy et al. (2023), eq. 9.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numba import njit

from cristae.features.contacts import check_ids
from cristae.features.definitions import Definition

Box = tuple[slice, slice, slice]
HALO = (1, 1, 1)  # voxels around a block that its distances depend on

DEFINITIONS: Mapping[str, Definition] = {
    "nucleus_centre_distance_nm": Definition(
        "nm", "distance between the centroids of nucleolus and nucleus", "dcc", "Machireddy et al. (2023), eq. 9"
    ),
    "envelope_distance_nm": Definition(
        "nm",
        "distance from the centroid of the nucleolus to the nearest point of the surface of the nucleus's voxels",
        "ds",
        "Machireddy et al. (2023), eq. 9",
    ),
    "proximity_to_envelope": Definition(
        "",
        "how near the nucleolus lies to the nuclear envelope: 0 in the centre, towards 1 at the envelope",
        "dcc / (dcc + ds)",
        "Machireddy et al. (2023), eq. 9",
    ),
}


def add_envelope_distances(
    labels: np.ndarray,
    start: tuple[int, int, int],
    inner: Box,
    points: np.ndarray,
    object_of: np.ndarray,
    voxel_size: tuple[float, float, float],
) -> np.ndarray:
    """Find the distance from points to the surface of an object each, as far as a block shows it.

    Parameters
    ----------
    labels
        Integer ids of nuclei ``(z, y, x)`` from 0 to 2³¹ − 1, with a halo of one voxel, less only where the volume
        ends.
    start
        Place of the block's first voxel in the volume, in voxels.
    inner
        The part of the block to look at: a face belongs to the first of its two voxels.
    points
        float64 ``(n, 3)``: points (z, y, x) in voxels of the volume, whole numbers being centres of voxels: the
        centroids of nucleoli.
    object_of
        int64 ``(n,)``: the id in `labels` of the nucleus of every point; 0 for none.
    voxel_size
        In nm (z, y, x).

    Returns
    -------
    np.ndarray
        float64 ``(n,)`` nm, inf where no surface of the nucleus lies in the block. Over blocks the smallest counts.

    Raises
    ------
    ValueError
        If labels are not a volume of such ids, or points and their objects differ in number.
    """
    check_ids(labels, labels)
    if points.shape != (len(object_of), 3):
        raise ValueError(f"expected {len(object_of)} points (z, y, x), got an array of shape {points.shape}")
    low, high = np.array([part.indices(n)[:2] for part, n in zip(inner, labels.shape, strict=True)]).T
    # Points of one object stand together, so that those of a face are a range.
    order = np.argsort(object_of, kind="stable")
    ids = np.arange(max(int(labels.max(initial=0)), 0) + 2)
    first = np.searchsorted(object_of[order], ids)
    first[0] = first[1]  # background has no points
    squared = np.full(len(order), np.inf)
    size = np.array(voxel_size, np.float64)
    for axis in range(3):
        ends = high.copy()
        ends[axis] = min(high[axis], labels.shape[axis] - 1)  # the last face needs a voxel behind it
        box = np.stack([low, ends, np.array(start)])
        _approach(labels, box, axis, (points[order].astype(np.float64), first, size), squared)
    distance = np.empty(len(order))
    distance[order] = np.sqrt(squared)
    return distance


def tabulate_proximity(
    nucleoli_nm: np.ndarray, nuclei_nm: np.ndarray, envelope_distance_nm: np.ndarray
) -> pd.DataFrame:
    """Return how near nucleoli lie to the envelope.

    Parameters
    ----------
    nucleoli_nm
        float64 ``(n, 3)``: centroids of nucleoli (nm).
    nuclei_nm
        float64 ``(n, 3)``: centroid of the nucleus of each; NaN where it has none.
    envelope_distance_nm
        float64 ``(n,)``: smallest over all blocks, from `add_envelope_distances`; inf where there is no surface.

    Returns
    -------
    pd.DataFrame
        One row per nucleolus; columns as in `DEFINITIONS`, NaN without a nucleus or without a surface.
    """
    to_centre = np.sqrt(((nucleoli_nm - nuclei_nm) ** 2).sum(axis=1))
    to_surface = np.where(np.isfinite(envelope_distance_nm), envelope_distance_nm, np.nan)
    to_surface = np.where(np.isnan(to_centre), np.nan, to_surface)
    both = to_centre + to_surface
    return pd.DataFrame(
        {
            "nucleus_centre_distance_nm": to_centre,
            "envelope_distance_nm": to_surface,
            "proximity_to_envelope": to_centre / np.where(both > 0, both, np.nan),
        }
    )


@njit(cache=True, nogil=True)
def _approach(
    labels: np.ndarray,
    box: np.ndarray,
    axis: int,
    points: tuple[np.ndarray, np.ndarray, np.ndarray],
    squared: np.ndarray,
) -> None:
    """Lower the squared distances of points to what the faces across one axis leave them.

    `box` is first and end voxel of the part to look at, and the block's start; `points` are their places, the first of
    every object, and the size of voxels.
    """
    place, first, size = points
    step = np.zeros(3, np.int64)
    step[axis] = 1
    face = np.empty(3)
    for z in range(box[0, 0], box[1, 0]):
        for y in range(box[0, 1], box[1, 1]):
            for x in range(box[0, 2], box[1, 2]):
                here, there = labels[z, y, x], labels[z + step[0], y + step[1], x + step[2]]
                if here == there:
                    continue
                face[0], face[1], face[2] = box[2, 0] + z, box[2, 1] + y, box[2, 2] + x
                face[axis] += 0.5
                for label in (here, there):
                    for i in range(first[label], first[label + 1]):
                        total = 0.0
                        for k in range(3):
                            away = abs(place[i, k] - face[k])
                            if k != axis:
                                away = max(0.0, away - 0.5)
                            total += (away * size[k]) ** 2
                        squared[i] = min(squared[i], total)
