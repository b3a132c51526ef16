"""Assertions for tests of segmentations, those of cristae and those of others.

>>> import numpy as np
>>> from cristae.testing import assert_same_objects
>>> assert_same_objects(found=np.array([7, 7, 0, 2]), expected=np.array([1, 1, 0, 2]))
"""

from __future__ import annotations

import numpy as np

from cristae.metrics.instance import Contingency, contingency

_N_NAMED = 3
"""Parts that a message names before it only counts them."""


def assert_same_objects(found: np.ndarray, expected: np.ndarray) -> None:
    """Assert that two labellings have the same objects, whatever their ids are.

    Every found object has to be exactly one expected object, and the other way round; 0 has to be where 0 is.

    Parameters
    ----------
    found, expected
        Non-negative integer ids of one shape; 0 is background.

    Raises
    ------
    AssertionError
        If shapes or objects differ. The message names the expected object of smallest id that was not found as it is
        (failing that, the found object of smallest id that was not expected), its parts, and the first voxel at which
        it differs.
    ValueError
        If the arrays are not of integers, or hold negative ids.
    """
    if found.shape != expected.shape:
        raise AssertionError(f"expected labels of shape {expected.shape}, found shape {found.shape}")
    table = contingency(found, expected)
    both = (table.truth != 0) & (table.segmentation != 0)
    alone = ~_repeated(table.truth) & ~_repeated(table.segmentation)
    wrong = np.where(both, ~alone, table.truth != table.segmentation)
    if not wrong.any():
        return
    true_ids = table.truth[wrong & (table.truth != 0)]
    if true_ids.size:
        raise AssertionError(_difference(found, expected, table, int(true_ids[0])))
    invented = int(table.segmentation[wrong][0])
    n_voxels = int(table.n_voxels[table.segmentation == invented].sum())
    where = _first(found == invented)
    raise AssertionError(f"found object {invented} ({n_voxels} voxels, first at {where}) where nothing was expected")


def _difference(found: np.ndarray, expected: np.ndarray, table: Contingency, true_id: int) -> str:
    """Say in one sentence how the expected object was found."""
    covered = table.truth == true_id
    ids, n_voxels = table.segmentation[covered], table.n_voxels[covered]
    title = f"expected object {true_id} ({n_voxels.sum()} voxels)"
    if not ids.any():
        return f"{title} was not found; its first voxel is {_first(expected == true_id)}"
    main = int(ids[np.argmax(np.where(ids != 0, n_voxels, 0))])
    holds = (table.segmentation == main) & ~covered
    faults = []
    if ids.size > 1:
        faults.append(f"was found as {_parts('object', ids, n_voxels)}")
    if holds.any():
        others = _parts("expected object", table.truth[holds], table.n_voxels[holds])
        faults.append(f"shares found object {main} with {others}")
    first = _first((expected == true_id) != (found == main))
    return f"{title} {' and '.join(faults)}; the first voxel that differs is {first}"


def _parts(kind: str, ids: np.ndarray, n_voxels: np.ndarray) -> str:
    """Name parts, the largest first."""
    order = np.argsort(-n_voxels, kind="stable")
    named = [f"{f'{kind} {ids[i]}' if ids[i] else 'background'} ({n_voxels[i]} voxels)" for i in order[:_N_NAMED]]
    return ", ".join(named) + (f" and {ids.size - _N_NAMED} more" if ids.size > _N_NAMED else "")


def _repeated(ids: np.ndarray) -> np.ndarray:
    """Mark ids that occur more than once."""
    _, place, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return np.asarray(counts[place] > 1)


def _first(mask: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first voxel in the mask, in the order of the array."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))
