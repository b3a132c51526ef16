"""Triangles to pixels: what is nearest in every pixel, and the nearest layers of what can be seen through.

Opaque surfaces go to a depth buffer. Of transparent ones, the nearest `LAYERS` in front of it are kept per pixel,
sorted as they come, so that the order of triangles does not matter (a k-buffer)::

    eye -->  ( shell 1, front )  ( shell 2, front )  ( shell 2, back )  |opaque|   hidden

Papers: J. Pineda (1988), SIGGRAPH 22, 17 (edge functions); L. Bavoil et al. (2007), I3D, 97 (k-buffer).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

LAYERS = 8
NOTHING = -1


@dataclass(frozen=True)
class Surface:
    """Triangles as a camera sees them.

    Parameters
    ----------
    seen
        float32 ``(n, 3)``: pixels from the left, from the top, and depth in nm; NaN where a vertex is not to be drawn.
    normals
        float32 ``(n, 3)``: to the right, down, ahead.
    faces
        int32 ``(m, 3)``.
    items
        int32 ``(m,)``: which object each triangle is of, from 0.
    """

    seen: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    items: np.ndarray


@dataclass(frozen=True)
class Buffers:
    """What is nearest in every pixel.

    Parameters
    ----------
    depth
        float32 ``(h, w)``, nm; infinite where there is nothing.
    item
        int32 ``(h, w)``; `NOTHING` where there is nothing.
    normal
        float32 ``(h, w, 3)``: to the right, down, ahead; of the side that is seen.
    """

    depth: np.ndarray
    item: np.ndarray
    normal: np.ndarray

    @classmethod
    def empty(cls, width: int, height: int) -> Buffers:
        """Return buffers in which there is nothing."""
        depth = np.full((height, width), np.inf, np.float32)
        return cls(depth, np.full((height, width), NOTHING, np.int32), np.zeros((height, width, 3), np.float32))


@dataclass(frozen=True)
class Layers:
    """The nearest transparent surfaces in every pixel of some rows, nearest first.

    Parameters
    ----------
    depth
        float32 ``(h, w, LAYERS)``, nm; infinite where there are no more.
    item
        int32, of the same shape.
    normal
        float32 ``(h, w, LAYERS, 3)``.
    """

    depth: np.ndarray
    item: np.ndarray
    normal: np.ndarray


def draw(surface: Surface, buffers: Buffers) -> None:
    """Draw opaque triangles into the buffers."""
    _draw((surface.seen, surface.normals), surface.faces, surface.items, (buffers.depth, buffers.item, buffers.normal))


def peel(surface: Surface, depth: np.ndarray, first_row: int) -> Layers:
    """Return the layers of transparent triangles in front of what is opaque.

    Parameters
    ----------
    surface
        Of all of them.
    depth
        float32 ``(h, w)``: of what is opaque, in some rows of the picture.
    first_row
        Row of the picture that `depth` begins with.
    """
    shape = (*depth.shape, LAYERS)
    depths, items = np.full(shape, np.inf, np.float32), np.full(shape, NOTHING, np.int32)
    layers = Layers(depths, items, np.zeros((*shape, 3), np.float32))
    _peel(
        (surface.seen, surface.normals),
        surface.faces,
        surface.items,
        (depth, first_row),
        (layers.depth, layers.item, layers.normal),
    )
    return layers


@njit(cache=True, nogil=True)
def _frame(seen, face, low, high, frame):  # type: ignore[no-untyped-def]
    """Set the pixels that a triangle may cover and return twice its area; 0 where there is nothing to draw."""
    a, b, c = face[0], face[1], face[2]
    x0, y0, x1, y1, x2, y2 = seen[a, 0], seen[a, 1], seen[b, 0], seen[b, 1], seen[c, 0], seen[c, 1]
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if not abs(area) > 1e-12:  # nor where a vertex is NaN
        return 0.0
    left, right = min(x0, x1, x2), max(x0, x1, x2)
    top, bottom = min(y0, y1, y2), max(y0, y1, y2)
    if right < low[0] or bottom < low[1] or left > high[0] or top > high[1]:
        return 0.0
    # A pixel is covered if its centre is.
    frame[0] = int(np.ceil(max(left, low[0]) - 0.5))
    frame[1] = int(np.floor(min(right, high[0]) - 0.5))
    frame[2] = int(np.ceil(max(top, low[1]) - 0.5))
    frame[3] = int(np.floor(min(bottom, high[1]) - 0.5))
    return area


@njit(cache=True, nogil=True)
def _weights(seen, face, x, y, area):  # type: ignore[no-untyped-def]
    """Return how much the corners of a triangle count in a point; some is below 0 outside."""
    a, b, c = face[0], face[1], face[2]
    u = ((seen[b, 0] - x) * (seen[c, 1] - y) - (seen[c, 0] - x) * (seen[b, 1] - y)) / area
    v = ((seen[c, 0] - x) * (seen[a, 1] - y) - (seen[a, 0] - x) * (seen[c, 1] - y)) / area
    return u, v, 1.0 - u - v


@njit(cache=True, nogil=True)
def _draw(vertices, faces, items, buffers):  # type: ignore[no-untyped-def]
    seen, normals = vertices
    depth, item, normal = buffers
    frame = np.zeros(4, np.int64)
    high = (float(depth.shape[1]), float(depth.shape[0]))
    for i in range(len(faces)):
        area = _frame(seen, faces[i], (0.0, 0.0), high, frame)
        if area == 0:
            continue
        a, b, c = faces[i, 0], faces[i, 1], faces[i, 2]
        side = -1.0 if area > 0 else 1.0  # its inside is seen
        for y in range(frame[2], frame[3] + 1):
            for x in range(frame[0], frame[1] + 1):
                u, v, w = _weights(seen, faces[i], x + 0.5, y + 0.5, area)
                if u >= 0 and v >= 0 and w >= 0:
                    d = u * seen[a, 2] + v * seen[b, 2] + w * seen[c, 2]
                    if d < depth[y, x]:
                        depth[y, x] = d
                        item[y, x] = items[i]
                        for axis in range(3):
                            mixed = u * normals[a, axis] + v * normals[b, axis] + w * normals[c, axis]
                            normal[y, x, axis] = side * mixed


@njit(cache=True, nogil=True)
def _peel(vertices, faces, items, opaque, layers):  # type: ignore[no-untyped-def]
    seen, normals = vertices
    depth, first = opaque
    frame = np.zeros(4, np.int64)
    low, high = (0.0, float(first)), (float(depth.shape[1]), float(first + depth.shape[0]))
    mixed = np.empty(3)
    for i in range(len(faces)):
        area = _frame(seen, faces[i], low, high, frame)
        if area == 0:
            continue
        a, b, c = faces[i, 0], faces[i, 1], faces[i, 2]
        side = -1.0 if area > 0 else 1.0  # its inside is seen
        for y in range(frame[2], frame[3] + 1):
            for x in range(frame[0], frame[1] + 1):
                u, v, w = _weights(seen, faces[i], x + 0.5, y + 0.5, area)
                # The lower and left sides belong to the neighbour: a pixel on a side counts once.
                if u >= 0 and v > 0 and w > 0:
                    d = u * seen[a, 2] + v * seen[b, 2] + w * seen[c, 2]
                    if d < depth[y - first, x]:
                        for axis in range(3):
                            mixed[axis] = u * normals[a, axis] + v * normals[b, axis] + w * normals[c, axis]
                            mixed[axis] *= side
                        _insert(d, items[i], mixed, (y - first, x), layers)


@njit(cache=True, nogil=True)
def _insert(d, item, normal, at, layers):  # type: ignore[no-untyped-def]
    """Put a surface where it belongs among the layers of a pixel; the farthest falls out."""
    depths, items, normals = layers
    y, x = at
    i = LAYERS - 1
    if d >= depths[y, x, i]:
        return
    while i > 0 and depths[y, x, i - 1] > d:
        depths[y, x, i] = depths[y, x, i - 1]
        items[y, x, i] = items[y, x, i - 1]
        for axis in range(3):
            normals[y, x, i, axis] = normals[y, x, i - 1, axis]
        i -= 1
    depths[y, x, i] = d
    items[y, x, i] = item
    for axis in range(3):
        normals[y, x, i, axis] = normal[axis]
