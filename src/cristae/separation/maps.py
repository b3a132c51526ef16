"""What a network for cells learns: where cells are, and where one ends.

The interior map is every pixel of any cell, so touching cells form one blob; the boundary map is the band along the
outline of each of them, by which they are told apart.

Paper: Machireddy et al. 2023, section 3.3 (two maps from the labels of a few slices).
"""

from __future__ import annotations

import cv2
import numpy as np

UNKNOWN = 255
"""Value in both maps where nobody looked."""


def interior_map(ids: np.ndarray, ignore_id: int) -> np.ndarray:
    """Return where cells are.

    Parameters
    ----------
    ids
        Integer ``(y, x)`` instance ids; 0 is no cell, `ignore_id` not looked at.
    ignore_id
        See `ids`.

    Returns
    -------
    ndarray
        uint8 ``(y, x)``: 1 cell, 0 none, `UNKNOWN`.
    """
    return np.where(ids == ignore_id, np.uint8(UNKNOWN), (ids != 0).astype(np.uint8))


def boundary_map(ids: np.ndarray, width: float, ignore_id: int, complete: bool = True) -> np.ndarray:
    """Return the band along the outlines of cells.

    Parameters
    ----------
    ids
        Integer ``(y, x)`` instance ids; 0 is no cell, `ignore_id` not looked at.
    width
        Of the band in pixels, centred on the line between two ids. It is never thinner than one pixel on either side.
    ignore_id
        See `ids`.
    complete
        Whether cells end where the unlabelled begins only because nobody went on looking. If not every cell was
        painted, those that were are whole, and their rim is boundary.

    Returns
    -------
    ndarray
        uint8 ``(y, x)``: 1 boundary, 0 inside or outside cells, `UNKNOWN` where nobody looked and, if `complete`,
        where a boundary may lie just beyond.
    """
    unseen = ids == ignore_id
    cell = (ids != 0) & ~unseen
    known, open_end = np.zeros((2, *ids.shape), np.bool_)
    everything = slice(None)
    for first, second in (
        ((slice(None, -1), everything), (slice(1, None), everything)),
        ((everything, slice(None, -1)), (everything, slice(1, None))),
    ):
        differ = ids[first] != ids[second]
        half_seen = unseen[first] | unseen[second]
        for side in (first, second):
            known[side] |= differ & ~half_seen
            open_end[side] |= differ & half_seen & cell[side]
    if not complete:
        known |= open_end
    band = _grown(known, width / 2)
    result = band.astype(np.uint8)
    if complete and open_end.any():
        result[_grown(open_end, width / 2) & ~band] = UNKNOWN
    result[unseen] = UNKNOWN
    return result


def _grown(rim: np.ndarray, radius: float) -> np.ndarray:
    """Mark all pixels whose centre is less than `radius` from the line that the rim lies along on both sides."""
    if not rim.any() or radius <= 1:
        return rim
    # Rim pixels are half a pixel from the line.
    distance = cv2.distanceTransform((~rim).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance <= radius - 0.5
