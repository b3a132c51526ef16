"""Where cells end in a slice: outlines of labels, depth below them, and the middle line of a thick boundary."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

# The eight neighbours of a pixel in a circle, starting above it: bit k of a pattern is neighbour k.
_AROUND = np.array([[-1, 0], [-1, 1], [0, 1], [1, 1], [1, 0], [1, -1], [0, -1], [-1, -1]])


def outline(labels: np.ndarray) -> NDArray[np.bool_]:
    """Return a line one pixel wide along every change of id; no step to one of four neighbours crosses it unseen.

    Parameters
    ----------
    labels
        Integers ``(y, x)``; 0 is background, and counts as an id.

    Returns
    -------
    bool (y, x)
        True where the pixel below or to the right has another id.
    """
    line = np.zeros(labels.shape, bool)
    np.not_equal(labels[:-1], labels[1:], out=line[:-1])
    line[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return line


def depth(labels: np.ndarray) -> NDArray[np.float32]:
    """Return how deep each pixel lies in its region: 1 on its outline, rising with the distance to it.

    Parameters
    ----------
    labels
        Integers or bool ``(y, x)``; 0 is a region like others. The edge of the plane is no outline, for cells go on
        beyond it.

    Returns
    -------
    float32 (y, x)
        Pixels, at least 1; where there is one region only, the sum of both sides of the plane.
    """
    inner = np.ones(labels.shape, np.uint8)
    for one, other in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        same = labels[one] == labels[other]
        inner[one] &= same
        inner[other] &= same
    if inner.all():  # OpenCV returns any number when nothing is outside
        return np.full(labels.shape, sum(labels.shape), np.float32)
    return _distance(inner) + np.float32(1)


def depth_inside(mask: np.ndarray) -> NDArray[np.float32]:
    """Return the distance of each pixel of a mask to the nearest pixel outside it.

    Parameters
    ----------
    mask
        bool ``(y, x)``. The edge of the plane is not outside.

    Returns
    -------
    float32 (y, x)
        Pixels, at least 1 inside and 0 outside; when nothing is outside, the sum of both sides of the plane.
    """
    if mask.all():
        return np.full(mask.shape, sum(mask.shape), np.float32)
    return _distance(mask.view(np.uint8))


def _distance(inside: np.ndarray) -> NDArray[np.float32]:
    return np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def skeleton(mask: np.ndarray) -> NDArray[np.bool_]:
    """Thin a mask to lines one pixel wide, with the same connected parts and holes.

    Layer by layer from above, below, left and right, pixels are taken away whose loss neither parts nor joins
    anything; the last pixel of a line stays.

    Parameters
    ----------
    mask
        bool ``(y, x)``.

    Returns
    -------
    bool (y, x)
        Part of the mask; connected through edges and corners, as the mask is.
    """
    height, width = mask.shape
    framed = np.zeros((height + 2, width + 2), np.uint8)
    framed[1:-1, 1:-1] = mask
    steps = _AROUND @ np.array([width + 2, 1])
    _thin(framed.ravel(), np.flatnonzero(framed), steps, _removable())
    return framed[1:-1, 1:-1].astype(bool)


def _removable() -> NDArray[np.bool_]:
    """Say for each of 256 patterns of neighbours whether the pixel may go.

    It may if it has more than one neighbour, and exactly one connected part of background touches it along an edge
    (crossing number of Yokoi for 8-connected masks).
    """
    pattern = np.arange(256)
    there = (pattern[:, None] >> np.arange(8)) & 1
    gone = 1 - there
    crossings = sum(gone[:, k] - gone[:, k] * gone[:, k + 1] * gone[:, (k + 2) % 8] for k in (0, 2, 4, 6))
    return (crossings == 1) & (there.sum(axis=1) > 1)


def inner_lines(line: np.ndarray, depths: np.ndarray, distance: float) -> NDArray[np.bool_]:
    """Leave out what of a line runs along an edge, and keep what leads up to it.

    Parameters
    ----------
    line
        bool ``(y, x)``, lines one pixel wide.
    depths
        float32 ``(y, x)``, pixels from the edge, from `depth_inside`.
    distance
        Pixels; what is deeper is kept, and what is within as many steps along the line.

    Returns
    -------
    bool (y, x)
        Part of the line.
    """
    kept = line & (depths > distance)
    square = np.ones((3, 3), np.uint8)
    for _ in range(math.ceil(distance)):
        kept = cv2.dilate(kept.view(np.uint8), square).view(bool) & line
    return kept


@njit(cache=True, nogil=True)
def _thin(mask: np.ndarray, pixels: np.ndarray, steps: np.ndarray, removable: np.ndarray) -> None:
    border = np.empty(pixels.size, np.int64)
    n_pixels: int = pixels.size
    unchanged, side = 0, 0
    while unchanged < 4:
        n_border = 0
        for i in range(n_pixels):
            if mask[pixels[i] + steps[side]] == 0:
                border[n_border] = pixels[i]
                n_border += 1
        n_removed = 0
        for i in range(n_border):
            pattern = np.int64(0)
            for k in range(8):
                pattern |= np.int64(mask[border[i] + steps[k]]) << k
            if removable[pattern]:
                mask[border[i]] = 0
                n_removed += 1
        if n_removed:
            kept = 0
            for i in range(n_pixels):
                if mask[pixels[i]]:
                    pixels[kept] = pixels[i]
                    kept += 1
            n_pixels = kept
        unchanged = 0 if n_removed else unchanged + 1
        side = (side + 2) % 8
