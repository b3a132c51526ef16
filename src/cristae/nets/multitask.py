"""Two more maps that say what a mask is, and the loss that asks for all three: mask, boundary, distance.

::

    mask        boundary     distance
    . . . . .   . 1 1 1 .    . . . . .       boundary: the outermost pixels of the mask, one pixel further out and one
    . # # # .   1 1 1 1 1    . ½ ½ ½ .       further in. distance: from the nearest background, divided by its largest
    . # # # .   1 1 1 1 1    . ½ 1 ½ .       value in the object, so that each object reaches 1 however small it is
    . # # # .   1 1 1 1 1    . ½ ½ ½ .
    . . . . .   . 1 1 1 .    . . . . .

Both follow from the mask, but only where enough of the mask is known: `Known` says where.

References
----------
Diakogiannis et al. 2020 (ResUNet-a) and Diakogiannis, Waldner and Caccetta 2021. They divide distances by the largest
of a whole crop; here every object has its own, and the edge of a crop counts as background, so that a crop full of
foreground has distances, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from cristae.nets.tanimoto import tanimoto_loss

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


class Known(NamedTuple):
    """A map and where it is known.

    Parameters
    ----------
    values
        0–1, float32 ``(y, x)``; 0 where unknown.
    weight
        1 where known, 0 where the mask leaves it open; float32 ``(y, x)``.
    """

    values: np.ndarray
    weight: np.ndarray


def boundary_of(mask: np.ndarray, looked_at: np.ndarray) -> Known:
    """Return the band of outlines: 2 pixels inside objects, 1 outside.

    Parameters
    ----------
    mask
        Bool ``(y, x)``; what it says where nobody looked does not count.
    looked_at
        Bool ``(y, x)``.

    Notes
    -----
    The papers find outlines by OpenCV's Canny and widen them. That has the same band on the right and below; left and
    above it lies one pixel further out. Here all sides are alike, so that mirrored masks have mirrored bands.

    A pixel is known to be in the band if a known outline is beside it, and not to be in it if none can be, whatever
    the ignored pixels are. The edge of the crop is no outline.
    """
    inside, outside = mask & looked_at, ~mask & looked_at
    certain = _band(inside, outside)
    possible = certain if looked_at.all() else _band(~outside, ~inside)
    known = looked_at & (certain | ~possible)
    return Known((certain & known).astype(np.float32), known.astype(np.float32))


def _band(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return the pixels of `inside` that touch `outside`, and what touches those, bool."""
    outline = inside & _grown(outside)
    return _grown(outline)


def _grown(mask: np.ndarray, element: np.ndarray = _CROSS) -> np.ndarray:
    grown: np.ndarray = cv2.dilate(mask.astype(np.uint8), element) > 0
    return grown


def distance_of(mask: np.ndarray, looked_at: np.ndarray) -> Known:
    """Return the distance from the background inside objects, divided by its largest value in each; 0 outside.

    Parameters
    ----------
    mask
        Bool ``(y, x)``; what it says where nobody looked does not count.
    looked_at
        Bool ``(y, x)``.

    Notes
    -----
    Objects are 8-connected. The distance of an object that touches ignored pixels is unknown: it may go on there, and
    then its largest distance is another. The edge of the crop counts as background.
    """
    inside = mask & looked_at
    known = looked_at
    framed = np.pad(inside.astype(np.uint8), 1)
    distance: np.ndarray = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    count, objects = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)
    if count > 1:
        largest = np.asarray(ndimage.maximum(distance, objects, np.arange(count)), np.float32)
        largest[0] = 1  # the background
        distance = distance / largest[objects]
    if not looked_at.all():
        cut = np.zeros(count, bool)
        cut[objects[_grown(~looked_at, np.ones((3, 3), np.uint8))]] = True
        cut[0] = False
        known = looked_at & ~cut[objects]
    return Known((distance * known).astype(np.float32), known.astype(np.float32))


def multitask_loss(outputs: Mapping[str, Tensor], target: Tensor, weight: Tensor, depth: int = 0) -> Tensor:
    """Return the mean of the fractal Tanimoto losses of mask, boundary and distance.

    Parameters
    ----------
    outputs
        ``logits`` of the mask, and ``boundary`` and ``distance``, 0–1; each ``(n, classes, y, x)``.
    target, weight
        ``(n, classes, y, x)``: 0–1, fractions where voxels were reduced; and above 0 where the class was looked at.
        Boundary and distance are those of the target from a half up.
    depth
        Of the fractal; see `cristae.nets.tanimoto.tanimoto_loss`.
    """
    boundary, boundary_weight = _maps(boundary_of, target, weight)
    distance, distance_weight = _maps(distance_of, target, weight)
    mask_loss = tanimoto_loss(torch.sigmoid(outputs["logits"]), target, (weight > 0).to(target.dtype), depth)
    boundary_loss = tanimoto_loss(outputs["boundary"], boundary, boundary_weight, depth)
    distance_loss = tanimoto_loss(outputs["distance"], distance, distance_weight, depth)
    return (mask_loss + boundary_loss + distance_loss) / 3


def _maps(made: Callable[[np.ndarray, np.ndarray], Known], target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a map of each sample and class, and its weight; both like `target`."""
    if target.is_meta:  # shapes are followed, there is nothing to make maps of
        return torch.empty_like(target), torch.empty_like(weight)
    masks = (target.detach() >= 0.5).cpu().numpy()
    looked_at = (weight.detach() > 0).cpu().numpy()
    shape = masks.shape
    planes = zip(masks.reshape(-1, *shape[2:]), looked_at.reshape(-1, *shape[2:]), strict=True)
    found = [made(mask, seen) for mask, seen in planes]
    values = torch.from_numpy(np.stack([one.values for one in found]).reshape(shape))
    known = torch.from_numpy(np.stack([one.weight for one in found]).reshape(shape))
    return values.to(target), known.to(target)
