"""Other ids for some objects of a block of labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit


def renamed(labels: np.ndarray, names: Mapping[int, int]) -> np.ndarray:
    """Return labels in which some ids are replaced.

    Parameters
    ----------
    labels
        Unsigned integers of any shape.
    names
        The new id of each id to be replaced; ids that do not occur are no harm.

    Returns
    -------
    ndarray
        As `labels`; the very same array where nothing is to be replaced.
    """
    if not names:
        return labels
    keys = np.array(sorted(names), labels.dtype)
    values = np.array([names[int(key)] for key in keys], labels.dtype)
    flat = np.ascontiguousarray(labels).ravel()
    out = np.empty_like(flat)
    _rename(flat, keys, values, out)
    return out.reshape(labels.shape)


@njit(cache=True, nogil=True)
def _rename(flat: np.ndarray, keys: np.ndarray, values: np.ndarray, out: np.ndarray) -> None:
    for i in range(flat.size):
        if i and flat[i] == flat[i - 1]:  # labels change rarely
            out[i] = out[i - 1]
            continue
        place = np.searchsorted(keys, flat[i])
        out[i] = values[place] if place < keys.size and keys[place] == flat[i] else flat[i]
