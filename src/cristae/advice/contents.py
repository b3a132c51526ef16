"""What a slice shows, in few numbers: how unlike are the contents of two slices, wherever on them it lies.

::

    slice ──> squares ──> mean, spread, roughness of each ──> their quantiles         (where things lie drops out)
    probability of a class ──> squares ──> how much of each is the class ──> sum, largest, how much outline

Numbers are put on one scale (robust deviations over all slices), and the picture and each class weigh the same. Two
equal slices have distance 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MAD = 1.4826


def describe_picture(plane: np.ndarray, side: int = 32) -> np.ndarray:
    """Return numbers that tell what a slice shows, float64 ``(15,)``.

    Parameters
    ----------
    plane
        Grey values ``(y, x)`` of any type.
    side
        Of the squares, in px.
    """
    squares = _squares(np.asarray(plane, np.float32), side)
    steps = np.abs(np.diff(squares, axis=-1)).mean(axis=(-2, -1)) if squares.shape[-1] > 1 else np.zeros(len(squares))
    kinds = (squares.mean(axis=(-2, -1)), squares.std(axis=(-2, -1)), steps)
    return np.concatenate([np.quantile(one, QUANTILES) for one in kinds]).astype(np.float64)


def describe_class(probability: np.ndarray, side: int = 32) -> np.ndarray:
    """Return numbers that tell how much of a class a slice shows, float64 ``(4,)``.

    Parameters
    ----------
    probability
        uint8 ``(y, x)``, × 255.
    side
        Of the squares, in px.

    Returns
    -------
    float64 (4,)
        Square roots, so that the first objects on a slice count more than the next: of the share of the slice, of the
        share of the fullest square, of the share of squares with some of it, of the share of voxels in doubt.
    """
    squares = _squares(np.asarray(probability, np.float32) / 255, side).mean(axis=(-2, -1))
    doubt = 1 - np.abs(np.asarray(probability, np.float32) / 127.5 - 1)
    return np.sqrt([squares.mean(), squares.max(), (squares > 0.02).mean(), doubt.mean()]).astype(np.float64)


def content_distances(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return how unlike contents are, over what is usual between two of these slices, float32 ``(n, n)``.

    Parameters
    ----------
    groups
        Descriptions of one kind each, float ``(n, n_numbers)``; kinds weigh the same.

    Returns
    -------
    float32 (n, n)
        Symmetric, 0 on the diagonal; the median of the others is 1, unless more than half of the pairs are equal.

    Raises
    ------
    ValueError
        If there is no kind, or they are of different numbers of slices.
    """
    if not groups or len({len(one) for one in groups}) > 1:
        raise ValueError("expected descriptions of the same slices, of at least one kind")
    n = len(groups[0])
    total = np.zeros((n, n), np.float64)
    for group in groups:
        total += _squared(_scaled(np.asarray(group, np.float64))) / len(groups)
    found = np.sqrt(np.maximum(total, 0))
    usual = float(np.median(found[np.triu_indices(n, 1)])) if n > 1 else 0.0
    return np.asarray(found / usual if usual > 0 else found, np.float32)


def _squares(plane: np.ndarray, side: int) -> np.ndarray:
    """Return whole squares of a plane, ``(n, side, side)``; what is left at its far edges is not looked at."""
    side = max(1, min(side, *plane.shape))
    height, width = (length - length % side for length in plane.shape)
    cut = plane[:height, :width].reshape(height // side, side, width // side, side)
    return cut.swapaxes(1, 2).reshape(-1, side, side)


def _scaled(table: np.ndarray) -> np.ndarray:
    """Put columns on one scale, and give them together the weight of one."""
    middle = np.median(table, axis=0)
    spread = _MAD * np.median(np.abs(table - middle), axis=0)
    # A class that is on few slices has no median deviation, and yet tells slices apart.
    spread = np.where(spread > 0, np.maximum(spread, 0.5 * table.std(axis=0)), table.std(axis=0))
    told = spread > 0
    # One odd slice is unlike all others, but not a hundred times as unlike.
    scaled = np.clip((table[:, told] - middle[told]) / spread[told], -6, 6)
    return np.asarray(scaled / np.sqrt(max(1, told.sum())))


def _squared(table: np.ndarray) -> np.ndarray:
    norm = (table**2).sum(axis=1)
    squared = norm[:, None] + norm[None] - 2 * table @ table.T
    squared[squared < 1e-10 * max(1.0, float(norm.max(initial=0)))] = 0  # equal ones are equal, whatever the rounding
    return np.asarray(squared)
