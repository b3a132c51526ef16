r"""Fewer triangles: edges are collapsed, the one first that changes the surface least, as long as the mesh stays sound.

A vertex remembers the planes of all triangles that it came from, as the sum of their squared distances, weighted with
area. A collapse puts two vertices where that sum is smallest::

    \   |   /            \     /
     \  |  /              \   /
      u-----v    -->         p         two triangles, three edges and one vertex fewer
     /  |  \              /   \
    /   |   \            /     \

It is refused where it would pinch the surface (the ends share more than the two neighbours of their edge) or fold a
triangle over; so what was closed stays closed, and every edge has two triangles. Libraries that were tried
(fast-simplification 0.2, pyfqmr 0.5, zmesh 1.15) do not check the first, and left open or pinched edges.

Papers: M. Garland and P. S. Heckbert (1997), SIGGRAPH 24, 209 (quadrics); T. K. Dey et al. (1999), Publ. Inst. Math.
66, 23 (which collapses keep the topology).
"""

from __future__ import annotations

import numpy as np
from numba import njit

_MOST = 48
"""Triangles at a vertex; more would make slivers."""
_TURN = 0.3
"""Cosine of the largest angle that a triangle may turn by in a collapse."""


def simplify(
    vertices: np.ndarray, faces: np.ndarray, *, max_error: float, share: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Collapse edges until the error or the number of triangles is reached, whichever comes first.

    Parameters
    ----------
    vertices
        float64 ``(n, 3)``, nm.
    faces
        int32 ``(m, 3)``, of a closed mesh in which every edge has two triangles.
    max_error
        nm: largest root mean square distance (weighted with area) of a vertex from the planes of the triangles that
        it stands for. 0 changes nothing.
    share
        Of the triangles, 0–1, that are left at least.

    Returns
    -------
    tuple
        Vertices float64 ``(k, 3)`` and triangles int32 ``(l, 3)``, in the order of those they came from.

    Raises
    ------
    ValueError
        If the error is negative, or the share not between 0 and 1.
    """
    if not max_error >= 0 or not 0 <= share <= 1:
        raise ValueError(f"expected an error of at least 0 nm and a share from 0 to 1, got {max_error} and {share}")
    if max_error == 0 or share == 1 or len(faces) < 5:
        return vertices, faces
    origin = vertices[0]
    places, triangles = vertices - origin, faces.copy()
    alive = np.ones(len(faces), np.bool_)
    _collapse_all(places, triangles, alive, max_error**2, max(4, int(np.ceil(share * len(faces)))))
    left = triangles[alive]
    used = np.zeros(len(vertices), np.bool_)
    used[left] = True
    number = np.cumsum(used, dtype=np.int32) - 1
    return places[used] + origin, number[left].astype(np.int32)


@njit(cache=True, nogil=True)
def _collapse_all(places, faces, alive, limit, n_least):  # type: ignore[no-untyped-def]
    """Collapse edges in place; triangles that go are marked in `alive`."""
    n = len(places)
    quadrics = _quadrics(places, faces)
    following, ends = _lists(faces, n)
    versions = np.zeros(n, np.int64)
    marks = np.zeros(n, np.int64)
    around = np.empty((2, _MOST), np.int32)
    heap = np.empty((len(faces) * 4 + 64, 4))
    place = np.empty(3)
    n_heap = _push_all(heap, faces, (quadrics, places), limit)
    n_left, stamp = len(faces), 0
    while n_heap > 0 and n_left > n_least:
        u, v, version = int(heap[0, 1]), int(heap[0, 2]), int(heap[0, 3])
        n_heap = _pop(heap, n_heap)
        if version != versions[u] + versions[v]:
            continue
        n_u, n_v = _around(u, faces, alive, following, ends, around[0]), 0
        if n_u > 0:
            n_v = _around(v, faces, alive, following, ends, around[1])
        _cost(quadrics, places, u, v, place)
        stamp += 2
        near = around[0, :n_u], around[1, :n_v]
        if not (0 < n_v <= _MOST - n_u and _is_sound((u, v), near, faces, places, place, (marks, stamp))):
            continue
        n_left -= _merge((u, v), around[1, :n_v], faces, alive, following, ends)
        for axis in range(3):
            places[u, axis] = place[axis]
        for j in range(11):
            quadrics[u, j] += quadrics[v, j]
        versions[u] += 1
        versions[v] = -1 << 40  # gone
        n_u = _around(u, faces, alive, following, ends, around[0])
        if n_heap + 2 * _MOST > len(heap):
            heap = _longer(heap)
        n_heap = _push_around(heap, n_heap, (u, around[0, :n_u], limit), (faces, quadrics, places), versions, place)


@njit(cache=True, nogil=True)
def _quadrics(places, faces):  # type: ignore[no-untyped-def]
    """Return for every vertex the sum of squared distances from the planes of its triangles, weighted with area.

    Six numbers of the square, three of the linear part, the constant, and the area.
    """
    quadrics = np.zeros((len(places), 11))
    one = np.empty(11)
    for i in range(len(faces)):
        a, b, c = places[faces[i, 0]], places[faces[i, 1]], places[faces[i, 2]]
        u0, u1, u2 = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        v0, v1, v2 = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        x, y, z = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
        area = np.sqrt(x * x + y * y + z * z)
        if area > 0:
            x, y, z = x / area, y / area, z / area
            d = -(x * a[0] + y * a[1] + z * a[2])
            one[0], one[1], one[2], one[3], one[4], one[5] = x * x, x * y, x * z, y * y, y * z, z * z
            one[6], one[7], one[8], one[9], one[10] = x * d, y * d, z * d, d * d, 1.0
            for k in range(3):
                for j in range(11):
                    quadrics[faces[i, k], j] += area * one[j]
    return quadrics


@njit(cache=True, nogil=True)
def _cost(quadrics, places, u, v, place):  # type: ignore[no-untyped-def]
    """Set the best place for two vertices in one, and return the mean square distance there from their planes.

    A little of the squared distance from the middle is added, which decides where planes leave a choice.
    """
    q, p = quadrics[u], quadrics[v]
    weight = q[10] + p[10]
    x, y, z = (places[u, 0] + places[v, 0]) / 2, (places[u, 1] + places[v, 1]) / 2, (places[u, 2] + places[v, 2]) / 2
    if weight == 0:
        place[0], place[1], place[2] = x, y, z
        return 0.0
    xx, xy, xz, yy, yz, zz = q[0] + p[0], q[1] + p[1], q[2] + p[2], q[3] + p[3], q[4] + p[4], q[5] + p[5]
    x1, y1, z1 = q[6] + p[6], q[7] + p[7], q[8] + p[8]
    soft = 1e-3 * (xx + yy + zz)
    a, d, f = xx + soft, yy + soft, zz + soft
    r, s, t = soft * x - x1, soft * y - y1, soft * z - z1
    c0, c1, c2 = d * f - yz * yz, xz * yz - xy * f, xy * yz - xz * d
    det = a * c0 + xy * c1 + xz * c2
    c3, c4, c5 = a * f - xz * xz, xy * xz - a * yz, a * d - xy * xy
    x = (c0 * r + c1 * s + c2 * t) / det
    y = (c1 * r + c3 * s + c4 * t) / det
    z = (c2 * r + c4 * s + c5 * t) / det
    place[0], place[1], place[2] = x, y, z
    square = xx * x * x + yy * y * y + zz * z * z + 2 * (xy * x * y + xz * x * z + yz * y * z)
    return max(0.0, square + 2 * (x1 * x + y1 * y + z1 * z) + q[9] + p[9]) / weight


@njit(cache=True, nogil=True)
def _lists(faces, n):  # type: ignore[no-untyped-def]
    """Return linked lists of the corners at each vertex: what follows a corner, and first and last of a vertex."""
    following = np.full(3 * len(faces), -1, np.int64)
    ends = np.full((n, 2), -1, np.int64)
    for corner in range(3 * len(faces)):
        v = faces[corner // 3, corner % 3]
        if ends[v, 0] < 0:
            ends[v, 0] = corner
        else:
            following[ends[v, 1]] = corner
        ends[v, 1] = corner
    return following, ends


@njit(cache=True, nogil=True)
def _around(v, faces, alive, following, ends, found):  # type: ignore[no-untyped-def]
    """List the triangles at a vertex; return how many, or 0 if too many. Those gone are taken off the list."""
    n = 0
    corner, last = ends[v, 0], -1
    while corner >= 0:
        after = following[corner]
        if alive[corner // 3]:
            if n == found.size:
                return 0
            found[n] = corner // 3
            n += 1
            last = corner
        elif last >= 0:
            following[last] = after
            if after < 0:
                ends[v, 1] = last
        else:
            ends[v, 0] = after
        corner = after
    return n


@njit(cache=True, nogil=True)
def _is_sound(edge, around, faces, places, place, marking):  # type: ignore[no-untyped-def]
    """Say whether an edge may be collapsed to a place."""
    u, v = edge
    marks, stamp = marking
    return (
        _keeps_topology(edge, around, faces, marks, stamp)
        and _keeps_turn((u, v), around[0], faces, places, place)
        and _keeps_turn((v, u), around[1], faces, places, place)
    )


@njit(cache=True, nogil=True)
def _keeps_topology(edge, around, faces, marks, stamp):  # type: ignore[no-untyped-def]
    """Say whether the ends of an edge share but the two neighbours beside it, and have others."""
    u, v = edge
    around_u, around_v = around
    n_u, n_common, n_v = 0, 0, 0
    for i in around_u:
        for k in range(3):
            w = faces[i, k]
            if w not in (u, v) and marks[w] < stamp:
                marks[w] = stamp
                n_u += 1
    for i in around_v:
        for k in range(3):
            w = faces[i, k]
            if w not in (u, v) and marks[w] <= stamp:
                n_common += marks[w] == stamp
                n_v += 1
                marks[w] = stamp + 1
    return n_common == 2 and n_u + n_v > 4


@njit(cache=True, nogil=True)
def _keeps_turn(edge, around, faces, places, place):  # type: ignore[no-untyped-def]
    """Say whether no triangle at the first end turns over when that end is put elsewhere."""
    u, v = edge
    for i in around:
        k = 0 if faces[i, 0] == u else 1 if faces[i, 1] == u else 2
        b, c = faces[i, (k + 1) % 3], faces[i, (k + 2) % 3]
        if v in (b, c):
            continue
        u0, u1, u2 = places[b, 0] - places[c, 0], places[b, 1] - places[c, 1], places[b, 2] - places[c, 2]
        v0, v1, v2 = places[u, 0] - places[c, 0], places[u, 1] - places[c, 1], places[u, 2] - places[c, 2]
        w0, w1, w2 = place[0] - places[c, 0], place[1] - places[c, 1], place[2] - places[c, 2]
        x, y, z = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
        r, s, t = u1 * w2 - u2 * w1, u2 * w0 - u0 * w2, u0 * w1 - u1 * w0
        before, after = x * x + y * y + z * z, r * r + s * s + t * t
        dot = x * r + y * s + z * t
        if after <= 1e-12 * before or (before > 0 and dot <= _TURN * np.sqrt(before * after)):
            return False
    return True


@njit(cache=True, nogil=True)
def _merge(edge, around_v, faces, alive, following, ends):  # type: ignore[no-untyped-def]
    """Give the triangles of the second end to the first; return how many go."""
    u, v = edge
    n_gone = 0
    for i in around_v:
        if faces[i, 0] == u or faces[i, 1] == u or faces[i, 2] == u:
            alive[i] = False
            n_gone += 1
        else:
            for k in range(3):
                if faces[i, k] == v:
                    faces[i, k] = u
    following[ends[u, 1]] = ends[v, 0]
    ends[u, 1] = ends[v, 1]
    return n_gone


@njit(cache=True, nogil=True)
def _push_all(heap, faces, surface, limit):  # type: ignore[no-untyped-def]
    """Put every edge on the heap, once."""
    quadrics, places = surface
    place = np.empty(3)
    n = 0
    for i in range(len(faces)):
        for k in range(3):
            u, v = faces[i, k], faces[i, (k + 1) % 3]
            if u < v:
                cost = _cost(quadrics, places, u, v, place)
                if cost <= limit:
                    n = _push(heap, n, cost, (u, v, 0))
    return n


@njit(cache=True, nogil=True)
def _push_around(heap, n, what, mesh, versions, place):  # type: ignore[no-untyped-def]
    """Put the edges of a vertex on the heap."""
    u, around, limit = what
    faces, quadrics, places = mesh
    for i in around:
        k = 0 if faces[i, 0] == u else 1 if faces[i, 1] == u else 2
        v = faces[i, (k + 1) % 3]  # in a closed mesh every neighbour comes next once
        cost = _cost(quadrics, places, u, v, place)
        if cost <= limit:
            n = _push(heap, n, cost, (min(u, v), max(u, v), versions[u] + versions[v]))
    return n


@njit(cache=True, nogil=True)
def _longer(heap):  # type: ignore[no-untyped-def]
    longer = np.empty((2 * len(heap), 4))
    longer[: len(heap)] = heap
    return longer


@njit(cache=True, nogil=True)
def _push(heap, n, cost, edge):  # type: ignore[no-untyped-def]
    """Put an edge on the heap; return the number of edges there."""
    child = n
    while child > 0:
        parent = (child - 1) // 2
        if heap[parent, 0] <= cost:
            break
        _move(heap, parent, child)
        child = parent
    heap[child, 0], heap[child, 1], heap[child, 2], heap[child, 3] = cost, edge[0], edge[1], edge[2]
    return n + 1


@njit(cache=True, nogil=True)
def _pop(heap, n):  # type: ignore[no-untyped-def]
    """Take off the first edge; return the number of edges left."""
    n -= 1
    cost = heap[n, 0]
    parent, child = 0, 1
    while child < n:
        if child + 1 < n and heap[child + 1, 0] < heap[child, 0]:
            child += 1
        if heap[child, 0] >= cost:
            break
        _move(heap, child, parent)
        parent, child = child, 2 * child + 1
    _move(heap, n, parent)
    return n


@njit(cache=True, nogil=True)
def _move(heap, start, stop):  # type: ignore[no-untyped-def]
    heap[stop, 0], heap[stop, 1], heap[stop, 2], heap[stop, 3] = (
        heap[start, 0],
        heap[start, 1],
        heap[start, 2],
        heap[start, 3],
    )
