"""Convex hulls of points on a fine grid of whole numbers, decided exactly.

A closed surface of triangles grows from four points. Each triangle keeps a list of the points beyond it; the furthest
of them becomes a corner: the triangles that it sees go, and new ones join it to the edge of what it saw, the horizon::

           p                     p
                               . ' .          points of the lists of the triangles that went
      .____.____.   ->       .       .        go to the new ones, or lie inside now
      |         |            |       |

Whether a point lies beyond a triangle is decided exactly: by a floating-point number with a bound of its error, and
where that does not suffice, in whole numbers. Meshes are full of points that lie in one plane or almost; a hull by
rounded decisions can come out folded there.

Paper: C. B. Barber, D. P. Dobkin and H. Huhdanpaa (1996), ACM Trans. Math. Softw. 22, 469 (Quickhull).
"""

from __future__ import annotations

import numpy as np
from numba import njit

LARGEST = 1 << 29  # coordinates; products of three differences then fit twice 64 bits
_LOW_BITS = (1 << 31) - 1
_ERROR = LARGEST * 2.0**-48  # of a height, per size of the normal: some thirty roundings
# Columns of a triangle: three corners, three neighbours (across the edge from corner i to corner i + 1), the first and
# the furthest point beyond it, and its state. Planes: normal, offset, height of the
# furthest point, and bound of the error of heights.
_FIRST, _FURTHEST, _STATE = 6, 7, 8
_PRESENT, _SEEN = 1, 2


@njit(cache=True, nogil=True)
def quickhull(points):  # type: ignore[no-untyped-def]
    """Return the triangles of a convex hull.

    Parameters
    ----------
    points
        int64 ``(m, 3)``, below `LARGEST` in magnitude.

    Returns
    -------
    np.ndarray
        int32 ``(f, 3)``, rows of `points`, anticlockwise from outside; none where the points lie in a plane.
    """
    corners = _first_corners(points)
    if corners[3] < 0:
        return np.empty((0, 3), np.int32)
    n = len(points)
    room = 2 * n + 64
    faces = np.full((room, 9), -1, np.int32)
    planes = np.empty((room, 6))
    after = np.empty(n, np.int32)
    seen, horizon, begins = np.empty(room, np.int32), np.empty((2 * room, 2), np.int32), np.full(n, -1, np.int32)
    new = np.empty(room, np.int32)
    free = np.arange(room - 1, -1, -1).astype(np.int32)
    todo = np.empty(8 * room, np.int32)
    n_free, n_todo = room - 4, 4
    _start(points, corners, faces, planes, after)
    for face in range(4):
        todo[face] = face
    while n_todo > 0:
        n_todo -= 1
        face = todo[n_todo]
        point = faces[face, _FURTHEST]
        if faces[face, _STATE] != _PRESENT or point < 0:
            continue
        seen[0] = face
        n_seen, n_horizon = _look(points, point, (faces, planes), seen, horizon)
        if n_horizon > min(n_free, len(todo) - n_todo) or not _is_ring(faces, horizon[:n_horizon], begins):
            return np.empty((0, 3), np.int32)
        for i in range(n_horizon):
            n_free -= 1
            new[i] = free[n_free]
            todo[n_todo] = new[i]
            n_todo += 1
        _join(point, faces, new, horizon[:n_horizon], begins)
        for i in range(n_horizon):
            _set_plane(points, new[i], faces, planes)
        for i in range(n_seen):
            faces[seen[i], _STATE] = -1
            _hand_on(points, faces[seen[i], _FIRST], (new[:n_horizon], point), faces, planes, after)
            free[n_free] = seen[i]
            n_free += 1
    return faces[faces[:, _STATE] == _PRESENT, :3].copy()


@njit(cache=True, nogil=True)
def volume_and_area(points, triangles, scale):  # type: ignore[no-untyped-def]
    """Return what a closed surface of triangles encloses, and its area.

    Parameters
    ----------
    points
        int64 ``(m, 3)``.
    triangles
        int32 ``(f, 3)``, rows of `points`, anticlockwise from outside.
    scale
        float64 ``(3,)``, size of a grid step along each axis.

    Returns
    -------
    tuple of float
        Volume and area.
    """
    volume, area = 0.0, 0.0
    origin = points[triangles[0, 0]]
    corners = np.empty((3, 3))
    for triangle in triangles:
        for i in range(3):
            for j in range(3):
                corners[i, j] = (points[triangle[i], j] - origin[j]) * scale[j]
        n0, n1, n2 = _normal(corners[0], corners[1], corners[2])
        volume += (n0 * corners[0, 0] + n1 * corners[0, 1] + n2 * corners[0, 2]) / 6
        area += np.sqrt(n0 * n0 + n1 * n1 + n2 * n2) / 2
    return volume, area


@njit(cache=True, nogil=True)
def _first_corners(points):  # type: ignore[no-untyped-def]
    """Return four points that span a volume, the last below the plane of the others; −1 for it if there are none."""
    corners = np.full(4, -1, np.int64)
    corners[0], corners[1] = points[:, 0].argmin(), points[:, 0].argmax()
    a, b = points[corners[0]], points[corners[1]]
    best = 0.0
    for i in range(len(points)):
        n0, n1, n2 = _normal(a, b, points[i])
        size = float(n0) ** 2 + float(n1) ** 2 + float(n2) ** 2
        if size > best:
            best = size
            corners[2] = i
    if best == 0:
        return corners
    c = points[corners[2]]
    n0, n1, n2 = _normal(a, b, c)
    furthest = -1.0
    above = False
    for i in range(len(points)):
        p = points[i]
        height = abs(float(n0) * (p[0] - a[0]) + float(n1) * (p[1] - a[1]) + float(n2) * (p[2] - a[2]))
        if height > furthest and (_is_above(a, b, c, p) or _is_above(b, a, c, p)):
            furthest = height
            above = _is_above(a, b, c, p)
            corners[3] = i
    if above:
        corners[1], corners[2] = corners[2], corners[1]
    return corners


@njit(cache=True, nogil=True)
def _normal(a, b, c):  # type: ignore[no-untyped-def]
    """Return the vector normal to a triangle, twice its area long."""
    u0, u1, u2 = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    v0, v1, v2 = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0


@njit(cache=True, nogil=True)
def _is_above(a, b, c, p):  # type: ignore[no-untyped-def]
    """Return whether a point lies strictly above a triangle, exactly."""
    n0, n1, n2 = _normal(a, b, c)
    d0, d1, d2 = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    high = (n0 >> 31) * d0 + (n1 >> 31) * d1 + (n2 >> 31) * d2
    low = (n0 & _LOW_BITS) * d0 + (n1 & _LOW_BITS) * d1 + (n2 & _LOW_BITS) * d2
    high += low >> 31
    return high > 0 or (high == 0 and (low & _LOW_BITS) > 0)


@njit(cache=True, nogil=True)
def _is_beyond(points, point, face, faces):  # type: ignore[no-untyped-def]
    """Return whether a point lies strictly above a triangle of the surface, where its rounded height cannot tell."""
    abc = faces[face]
    return _is_above(points[abc[0]], points[abc[1]], points[abc[2]], points[point])


@njit(cache=True, nogil=True)
def _set_plane(points, face, faces, planes):  # type: ignore[no-untyped-def]
    """Set the plane of a new triangle, and an empty list."""
    a = points[faces[face, 0]]
    normal = _normal(a, points[faces[face, 1]], points[faces[face, 2]])
    offset, size = 0.0, 0.0
    for i in range(3):
        planes[face, i] = normal[i]
        offset += planes[face, i] * a[i]
        size += abs(planes[face, i])
    planes[face, 3] = offset
    planes[face, 4] = 0
    planes[face, 5] = size * _ERROR
    faces[face, _FIRST] = faces[face, _FURTHEST] = -1
    faces[face, _STATE] = _PRESENT


@njit(cache=True, nogil=True)
def _start(points, corners, faces, planes, after):  # type: ignore[no-untyped-def]
    """Make the first four triangles, and give them the points beyond them."""
    a, b, c, d = corners
    for face, rows in enumerate(((a, b, c, 1, 2, 3), (b, a, d, 0, 3, 2), (c, b, d, 0, 1, 3), (a, c, d, 0, 2, 1))):
        for i in range(6):
            faces[face, i] = rows[i]
        _set_plane(points, face, faces, planes)
    for point in range(len(points)):
        after[point] = point + 1
    after[len(points) - 1] = -1
    _hand_on(points, 0, (np.arange(4).astype(np.int32), -1), faces, planes, after)


@njit(cache=True, nogil=True)
def _hand_on(points, point, to, faces, planes, after):  # type: ignore[no-untyped-def]
    """Give each point of a list to the first of the new triangles that it lies beyond, but for the new corner."""
    new, corner = to
    while point >= 0:
        following = after[point]
        p0, p1, p2 = float(points[point, 0]), float(points[point, 1]), float(points[point, 2])
        for i in range(len(new) if point != corner else 0):
            face = new[i]
            height = planes[face, 0] * p0 + planes[face, 1] * p1 + planes[face, 2] * p2 - planes[face, 3]
            error = planes[face, 5]
            if height > error or (height >= -error and _is_beyond(points, point, face, faces)):
                after[point] = faces[face, _FIRST]
                faces[face, _FIRST] = point
                if height > planes[face, 4] or faces[face, _FURTHEST] < 0:
                    planes[face, 4] = height
                    faces[face, _FURTHEST] = point
                break
        point = following


@njit(cache=True, nogil=True)
def _look(points, point, surface, seen, horizon):  # type: ignore[no-untyped-def]
    """List the triangles that a point sees, and the sides at which its sight ends; return the number of both."""
    faces, planes = surface
    p0, p1, p2 = float(points[point, 0]), float(points[point, 1]), float(points[point, 2])
    faces[seen[0], _STATE] = _SEEN
    n_seen, n_horizon, i = 1, 0, 0
    while i < n_seen:
        face = seen[i]
        for side in range(3):
            other = faces[face, 3 + side]
            if faces[other, _STATE] == _PRESENT:
                height = planes[other, 0] * p0 + planes[other, 1] * p1 + planes[other, 2] * p2 - planes[other, 3]
                error = planes[other, 5]
                if height > error or (height >= -error and _is_beyond(points, point, other, faces)):
                    faces[other, _STATE] = _SEEN
                    seen[n_seen] = other
                    n_seen += 1
                else:
                    horizon[n_horizon, 0], horizon[n_horizon, 1] = face, side
                    n_horizon += 1
        i += 1
    return n_seen, n_horizon


@njit(cache=True, nogil=True)
def _is_ring(faces, horizon, begins):  # type: ignore[no-untyped-def]
    """Note which side of the horizon begins at which point; return whether they make up one ring."""
    for i in range(len(horizon)):
        begin = faces[horizon[i, 0], horizon[i, 1]]
        if begins[begin] >= 0:
            return False
        begins[begin] = i
    i, steps = 0, 0
    while steps == 0 or (i != 0 and steps <= len(horizon)):
        i = begins[faces[horizon[i, 0], (horizon[i, 1] + 1) % 3]]
        if i < 0:
            return False
        steps += 1
    return steps == len(horizon)


@njit(cache=True, nogil=True)
def _join(point, faces, new, horizon, begins):  # type: ignore[no-untyped-def]
    """Join a point to the sides of the horizon by new triangles, and these to their neighbours."""
    for i in range(len(horizon)):
        old, side = horizon[i, 0], horizon[i, 1]
        begin, end = faces[old, side], faces[old, (side + 1) % 3]
        face, outer, neighbour = new[i], faces[old, 3 + side], new[begins[end]]
        faces[face, 0], faces[face, 1], faces[face, 2] = begin, end, point
        faces[face, 3], faces[face, 4], faces[neighbour, 5] = outer, neighbour, face
        for k in range(3):
            if faces[outer, 3 + k] == old and faces[outer, k] == end:
                faces[outer, 3 + k] = face
    for i in range(len(horizon)):
        begins[faces[horizon[i, 0], horizon[i, 1]]] = -1
