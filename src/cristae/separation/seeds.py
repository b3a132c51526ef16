"""Seeds: one pixel inside each cell from which it is flooded.

The paper takes the centroid, which lies outside a cell that is bent like a kidney, in its neighbour perhaps. The
deepest pixel cannot.

Paper: A. Machireddy et al. (2023), Front. Bioinform. 3, 1308708, §3.3 (centroids of the nearest labelled slice).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cristae.separation.outlines import depth
from cristae.separation.runs import Runs, compress, expand


@dataclass(frozen=True, slots=True)
class Seeds:
    """One pixel per cell.

    Parameters
    ----------
    ids
        ``(n,)``, ids of the cells, sorted, in the dtype of the labels.
    positions
        int64 ``(n, 2)``, y and x of a pixel that carries that id.
    """

    ids: np.ndarray
    positions: np.ndarray


def deepest_seeds(labels: np.ndarray) -> Seeds:
    """Return the pixel of each cell that is farthest from its outline.

    Parameters
    ----------
    labels
        Non-negative integers ``(y, x)``; 0 is background. The edge of the plane is no outline.

    Returns
    -------
    Seeds
        Among pixels of equal depth the one nearest to the centroid, then the first from above and the left.
    """
    ids, numbered = _number(labels)
    return Seeds(ids, deepest_pixels(numbered, ids.size))


def centroid_seeds(labels: np.ndarray) -> Seeds:
    """Return the pixel of each cell that is nearest to its centroid: the paper's seeds, moved inside.

    Parameters
    ----------
    labels
        Non-negative integers ``(y, x)``; 0 is background.

    Returns
    -------
    Seeds
        Of pixels equally near, the first from above and the left.
    """
    ids, numbered = _number(labels)
    return Seeds(ids, central_pixels(numbered, ids.size))


def deepest_pixels(numbered: np.ndarray, n_cells: int) -> np.ndarray:
    """As `deepest_seeds`, for int32 labels 1 to `n_cells` that all occur: int64 ``(n_cells, 2)`` of y and x."""
    return _best_pixels(numbered, depth(numbered), n_cells)


def central_pixels(numbered: np.ndarray, n_cells: int) -> np.ndarray:
    """As `centroid_seeds`, for int32 labels 1 to `n_cells` that all occur: int64 ``(n_cells, 2)`` of y and x."""
    return _best_pixels(numbered, np.ones((1, 1), np.float32), n_cells)


def _number(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids above 0, sorted, and the labels renamed to their places among them, from 1."""
    runs = compress(labels)
    ids = np.unique(runs.ids)
    ids = ids[ids > 0]
    places = np.where(runs.ids > 0, np.searchsorted(ids, runs.ids) + 1, 0).astype(np.int32)
    return ids, expand(Runs(runs.shape, runs.lengths, places))


@njit(cache=True, nogil=True)
def _best_pixels(numbered: np.ndarray, depths: np.ndarray, n_cells: int) -> np.ndarray:
    """Return the deepest pixel of each cell, of equals the most central; depths of one pixel stand for all equal."""
    height, width = numbered.shape
    uniform = depths.size < numbered.size
    sums = np.zeros((n_cells + 1, 3))
    for y in range(height):
        for x in range(width):
            cell = numbered[y, x]
            sums[cell, 0] += 1
            sums[cell, 1] += y
            sums[cell, 2] += x
    best = np.zeros((n_cells + 1, 2), np.int64)
    deepest = np.full(n_cells + 1, -1.0)
    offside = np.zeros(n_cells + 1)
    for y in range(height):
        for x in range(width):
            cell = numbered[y, x]
            here = 1.0 if uniform else depths[y, x]
            if cell == 0 or here < deepest[cell]:
                continue
            from_y, from_x = y - sums[cell, 1] / sums[cell, 0], x - sums[cell, 2] / sums[cell, 0]
            away = from_y * from_y + from_x * from_x
            if here > deepest[cell] or away < offside[cell]:
                deepest[cell], offside[cell] = here, away
                best[cell, 0], best[cell, 1] = y, x
    return best[1:]
