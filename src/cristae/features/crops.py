"""One object's crop: trimmed, made coarser where it is too big, and its surface as faces of voxels.

Features that do not add up over blocks are measured on one object at a time: its mask in its bounding box. What lies
outside the crop counts as not the object, so nothing depends on the margin that a crop comes with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from cristae.features.definitions import Definition

Nanometres = tuple[float, float, float]

DEFINITIONS: Mapping[str, Definition] = {
    "crop_factor": Definition(
        "", "features of crops were measured on voxels so many times larger along each axis; 1 is full resolution"
    )
}
"""The column beside features of crops."""


@dataclass(frozen=True)
class Crop:
    """One object in its bounding box.

    Parameters
    ----------
    mask
        bool ``(z, y, x)``.
    image
        Grey values of the same shape, or None.
    voxel_size
        nm, ``(z, y, x)``.
    factor
        How many times larger along each axis these voxels are than those that were measured.
    """

    mask: np.ndarray
    image: np.ndarray | None
    voxel_size: Nanometres
    factor: int = 1


@dataclass(frozen=True)
class Faces:
    """The faces between voxels of an object and voxels that are not.

    Parameters
    ----------
    lower
        int32 ``(n, 3)``: index of the voxel on the low side of each face.
    axis
        int8: the axis that the face is normal to.
    sign
        int8: 1 where the object is on the low side, so that its outside is up the axis, else −1.
    """

    lower: np.ndarray
    axis: np.ndarray
    sign: np.ndarray

    def centres(self, voxel_size: Nanometres) -> np.ndarray:
        """Return the centre of each face, float64 ``(n, 3)`` in nm from the centre of the crop's first voxel."""
        centres = self.lower.astype(np.float64)
        centres[np.arange(self.axis.size), self.axis] += 0.5
        centres *= voxel_size
        return centres

    def areas(self, voxel_size: Nanometres) -> np.ndarray:
        """Return the area of each face, float64 in nm²."""
        z, y, x = voxel_size
        return np.take(np.array([y * x, z * x, z * y], np.float64), self.axis)


def trimmed(mask: np.ndarray, margin: int = 0) -> np.ndarray:
    """Return the object in its bounding box with a margin of False, a new C-contiguous bool array."""
    box = bounding_box(mask)
    whole = np.zeros([n + 2 * margin for n in mask[box].shape], np.bool_)
    whole[tuple(slice(margin, n - margin) for n in whole.shape)] = mask[box]
    return whole


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box that holds every True voxel; one without voxels if there is none."""
    box = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(there[0]), int(there[-1]) + 1) if there.size else slice(0, 0))
    return tuple(box)


def fitted(crop: Crop, max_voxels: int) -> Crop:
    """Return a crop that is small enough: voxels doubled along each axis until it is.

    Parameters
    ----------
    crop
        One object. It is trimmed to its bounding box first, so that the result does not depend on the margin.
    max_voxels
        A crop of at most so many voxels is left at its resolution.

    Returns
    -------
    Crop
        A coarse voxel is of the object if at least half of its 2×2×2 voxels are, so that a sheet of one voxel can
        survive; its grey value is their mean (float32). Structures thinner than a coarse voxel may be lost.
    """
    box = bounding_box(crop.mask)
    mask, image = crop.mask[box], None if crop.image is None else crop.image[box]
    voxel_size, factor = crop.voxel_size, crop.factor
    for _ in range(n_halvings(mask.shape, max_voxels)):
        mask, image = halved(mask, image)
        voxel_size = (2 * voxel_size[0], 2 * voxel_size[1], 2 * voxel_size[2])
        factor *= 2
    return Crop(mask, image, voxel_size, factor)


def n_halvings(shape: tuple[int, ...], max_voxels: int) -> int:
    """Return how often `fitted` doubles the voxels of a bounding box of some shape."""
    n = 0
    while math.prod(shape) > max(1, max_voxels):
        shape, n = tuple(-(-length // 2) for length in shape), n + 1
    return n


def halved(mask: np.ndarray, image: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a mask, and its grey values if there are any, with voxels twice as long; see `fitted`.

    Slabs of an even number of planes, halved one by one, are the slabs of the whole.
    """
    coarse = 2 * _sum_of_eight(mask, np.dtype(np.uint8)) >= 8
    return coarse, None if image is None else _sum_of_eight(image, np.dtype(np.float32)) / np.float32(8)


def _sum_of_eight(values: np.ndarray, dtype: np.dtype[np.uint8] | np.dtype[np.float32]) -> np.ndarray:
    """Return sums over blocks of 2×2×2; at an odd end a mask goes on with False, an image with its last plane."""
    mode = "constant" if values.dtype == np.bool_ else "edge"
    values = np.pad(values, [(0, n % 2) for n in values.shape], mode=mode)  # type: ignore[call-overload]
    total = values[::2].astype(dtype) + values[1::2]
    total = total[:, ::2] + total[:, 1::2]
    return np.asarray(total[..., ::2] + total[..., 1::2])


def surface_faces(mask: np.ndarray) -> Faces:
    """Return the faces of the surface of an object.

    Parameters
    ----------
    mask
        bool ``(z, y, x)`` with a margin of at least one False voxel on each side.
    """
    lower, axis, sign = _faces(np.ascontiguousarray(mask), _n_faces(np.ascontiguousarray(mask)))
    return Faces(lower, axis, sign)


@njit(cache=True, nogil=True)
def _n_faces(mask: np.ndarray) -> int:
    n_z, n_y, n_x = mask.shape
    n = 0
    for z in range(n_z - 1):
        for y in range(n_y - 1):
            for x in range(n_x - 1):
                here = mask[z, y, x]
                n += (here != mask[z + 1, y, x]) + (here != mask[z, y + 1, x]) + (here != mask[z, y, x + 1])
    return n


@njit(cache=True, nogil=True)
def _faces(mask: np.ndarray, n_faces: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_z, n_y, n_x = mask.shape
    lower = np.empty((n_faces, 3), np.int32)
    axis = np.empty(n_faces, np.int8)
    sign = np.empty(n_faces, np.int8)
    n = 0
    for z in range(n_z - 1):
        for y in range(n_y - 1):
            for x in range(n_x - 1):
                here = mask[z, y, x]
                for along in range(3):
                    if here != mask[z + (along == 0), y + (along == 1), x + (along == 2)]:
                        lower[n, 0], lower[n, 1], lower[n, 2] = z, y, x
                        axis[n] = along
                        sign[n] = 1 if here else -1
                        n += 1
    return lower, axis, sign
