"""Warping a slice once, from where its pixels were recorded to where they belong.

A matrix ``(2, 3)`` says for each pixel of the new slice where it lies in the recorded one::

    recorded (y, x) = matrix[:, :2] @ new (y, x) + matrix[:, 2]        pixels, centres at whole numbers

Shifts by whole pixels copy. All else is interpolated once: by cubic convolution, or by straight lines. What lies
outside the recorded slice is 0, and so is what comes from pixels without data (0); they never bleed into others, nor
do others into them.

R. G. Keys (1981), IEEE TASSP 29, 1153: cubic convolution, eq. 15 with a = -1/2.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

Interpolation = Literal["cubic", "linear"]

_EXACT = 1e-6
"""Shifts nearer (px) than this to a whole number are whole."""


def warp_plane(
    plane: np.ndarray, matrix: NDArray[np.float64], shape: tuple[int, int], interpolation: Interpolation = "cubic"
) -> np.ndarray:
    """Return a slice of `shape` with every pixel taken from where the matrix says.

    Parameters
    ----------
    plane
        uint8 or uint16 ``(y, x)``; 0 is no data.
    matrix
        float64 ``(2, 3)``, new pixels → pixels of `plane`.
    shape
        Of the new slice.
    interpolation
        Between pixels.

    Returns
    -------
    (y, x) of the dtype of `plane`
        0 where there are no data; nowhere else.

    Raises
    ------
    ValueError
        If the plane is of another type, or the matrix is not ``(2, 3)``.
    """
    if plane.dtype not in (np.uint8, np.uint16) or plane.ndim != 2:
        raise ValueError(f"expected a plane of uint8 or uint16, got {plane.dtype} of shape {plane.shape}")
    _check(matrix)
    new = np.zeros(shape, plane.dtype)
    if np.abs(matrix[:, :2] - np.eye(2)).max() > 0:
        _interpolate(np.ascontiguousarray(plane), matrix, interpolation == "cubic", new)
        return new
    whole = np.floor(matrix[:, 2] + _EXACT)
    y, x = int(whole[0]), int(whole[1])
    down, right = (matrix[:, 2] - whole).tolist()
    if max(abs(down), abs(right)) <= _EXACT:
        _copy(plane, (y, x), new)
    elif plane.all():
        _copy(_between(plane, down, right, interpolation), (y, x), new)
    else:
        _interpolate(np.ascontiguousarray(plane), matrix, interpolation == "cubic", new)
    return new


def warp_labels_plane(
    labels: np.ndarray, matrix: NDArray[np.float64], shape: tuple[int, int], outside: int
) -> np.ndarray:
    """Return labels of a slice of `shape`: each pixel takes that of the nearest pixel of where it comes from.

    Parameters
    ----------
    labels
        Integers ``(y, x)``; 0 is background. Ids never mix.
    matrix
        float64 ``(2, 3)``, new pixels → pixels of `labels`. A half is rounded up.
    shape
        Of the new slice.
    outside
        What pixels get that come from outside.

    Raises
    ------
    ValueError
        If the labels are not integers, or the matrix is not ``(2, 3)``.
    """
    if labels.dtype.kind not in "iu" or labels.ndim != 2:
        raise ValueError(f"expected a plane of integers, got {labels.dtype} of shape {labels.shape}")
    _check(matrix)
    new = np.full(shape, outside, labels.dtype)
    _nearest(np.ascontiguousarray(labels), matrix, new)
    return new


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix of the way back.

    Raises
    ------
    ValueError
        If there is none.
    """
    _check(matrix)
    if abs(np.linalg.det(matrix[:, :2])) < 1e-6:
        raise ValueError(f"a matrix that flattens the plane has no inverse: {matrix.tolist()}")
    back = np.linalg.inv(matrix[:, :2])
    return np.concatenate([back, -back @ matrix[:, 2:]], axis=1)


def _check(matrix: np.ndarray) -> None:
    if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
        raise ValueError(f"expected a finite matrix (2, 3), got shape {matrix.shape}: {matrix.tolist()}")


def _copy(plane: np.ndarray, shift: tuple[int, int], new: np.ndarray) -> None:
    """Copy what lies inside, by whole pixels."""
    (height, width), (y, x) = plane.shape, shift
    top, bottom = max(0, -y), min(new.shape[0], height - y)
    left, end = max(0, -x), min(new.shape[1], width - x)
    if top < bottom and left < end:
        new[top:bottom, left:end] = plane[top + y : bottom + y, left + x : end + x]


def _weights(part: float, interpolation: Interpolation) -> NDArray[np.float32]:
    """Return the weights of the four pixels from one before to two after, at a part of a pixel."""
    if interpolation == "linear" or part <= _EXACT:
        return np.array([0, 1 - part, part, 0], np.float32)
    t = part
    return np.array(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ],
        np.float32,
    )


def _between(plane: np.ndarray, down: float, right: float, interpolation: Interpolation) -> np.ndarray:
    """Return a plane moved by a part of a pixel; the last row and column, which would need one more, are left out."""
    rows, columns = _weights(down, interpolation), _weights(right, interpolation)
    moved = cv2.sepFilter2D(plane, -1, columns, rows, anchor=(1, 1), borderType=cv2.BORDER_REPLICATE)
    moved = moved[: plane.shape[0] - (down > _EXACT), : plane.shape[1] - (right > _EXACT)]
    return np.maximum(moved, 1)  # there are data: what the cubic takes below 1 is dark, not absent


@njit(cache=True, nogil=True)
def _tap(part: float, k: int, cubic: bool) -> float:
    """Return the weight of pixel `k` of four, as `_weights`."""
    t = part
    if not cubic:
        return (1 - t) if k == 1 else (t if k == 2 else 0.0)
    if k == 0:
        return -0.5 * t + t * t - 0.5 * t * t * t
    if k == 1:
        return 1 - 2.5 * t * t + 1.5 * t * t * t
    if k == 2:
        return 0.5 * t + 2 * t * t - 1.5 * t * t * t
    return -0.5 * t * t + 0.5 * t * t * t


@njit(cache=True, nogil=True)
def _interpolate(plane: np.ndarray, matrix: np.ndarray, cubic: bool, new: np.ndarray) -> None:
    """Fill `new`. Where one of the 16 pixels has no data, straight lines between the 4 nearest that have some do."""
    height, width = plane.shape
    most = 255.0 if plane.itemsize == 1 else 65535.0
    slack = _EXACT
    for i in range(new.shape[0]):
        for j in range(new.shape[1]):
            y = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2]
            x = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2]
            if not (-slack <= y <= height - 1 + slack and -slack <= x <= width - 1 + slack):
                continue
            y0, x0 = int(np.floor(y + slack)), int(np.floor(x + slack))
            down, right = max(0.0, y - y0), max(0.0, x - x0)
            total, lost = 0.0, False
            for k in range(4):
                row = _tap(down, k, cubic)
                if row == 0.0:
                    continue
                at = min(max(y0 + k - 1, 0), height - 1)
                for m in range(4):
                    column = _tap(right, m, cubic)
                    if column == 0.0:
                        continue
                    value = plane[at, min(max(x0 + m - 1, 0), width - 1)]
                    lost = lost or value == 0
                    total += row * column * value
            if lost:
                total = _known(plane, (y0, x0), (down, right))
                if total == 0.0:
                    continue
            new[i, j] = int(min(max(np.floor(total + 0.5), 1.0), most))


@njit(cache=True, nogil=True)
def _known(plane: np.ndarray, corner: tuple[int, int], part: tuple[float, float]) -> float:
    """Return the mean of those of four pixels that have data; 0 where they carry less than half of the weight."""
    height, width = plane.shape
    total = weights = 0.0
    for k in range(2):
        row = part[0] if k else 1 - part[0]
        for m in range(2):
            weight = row * (part[1] if m else 1 - part[1])
            value = plane[min(corner[0] + k, height - 1), min(corner[1] + m, width - 1)]
            if value > 0:
                total += weight * value
                weights += weight
    return total / weights if weights >= 0.5 else 0.0


@njit(cache=True, nogil=True)
def _nearest(labels: np.ndarray, matrix: Any, new: np.ndarray) -> None:
    height, width = labels.shape
    for i in range(new.shape[0]):
        for j in range(new.shape[1]):
            y = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2]
            x = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2]
            # The same pixels as of the image: there is no label where there are no grey values.
            if -_EXACT <= y <= height - 1 + _EXACT and -_EXACT <= x <= width - 1 + _EXACT:
                new[i, j] = labels[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))]
