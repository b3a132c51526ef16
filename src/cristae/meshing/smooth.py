r"""Smoothing of closed meshes that keeps their volume: the steps of voxels go, the object stays as large as it was.

Each step moves every vertex towards the mean of its neighbours, and a second, slightly longer one away from it, so that
ripples of a few edges' length vanish and larger shapes stay. What little volume is lost is given back along the
normals. Where so little is left that this would change the shape (objects of a few voxels), fewer steps are taken::

    .-.   .-.            _.--._
    | '---' |    -->    /      \      volume before = volume after
    '-.   .-'           \_    _/
      '---'               '--'

Means of neighbours do not know the size of voxels, so the result scales with them along each axis.

Paper: G. Taubin (1995), A signal processing approach to fair surface design, SIGGRAPH 22, 351 (eqs. 8 and 9).
"""

from __future__ import annotations

import numpy as np
from numba import njit

_TOWARDS, _AWAY = 0.5, -0.53
_LARGEST_LOSS = 0.1


def enclosed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Return the volume inside a closed mesh, above 0 where triangles turn counterclockwise seen from outside.

    Parameters
    ----------
    vertices
        float ``(n, 3)``, x, y, z in nm.
    faces
        Integers ``(m, 3)``.

    Returns
    -------
    float
        nm³, by Gauss's theorem.
    """
    return float(_volume(np.ascontiguousarray(vertices, np.float64), faces))


def surface_area(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Return the area of a mesh in nm²; arguments are those of `enclosed_volume`."""
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, i]] for i in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def smooth(vertices: np.ndarray, faces: np.ndarray, n_steps: int) -> np.ndarray:
    """Smooth a closed mesh.

    Parameters
    ----------
    vertices
        float64 ``(n, 3)``, x, y, z in nm.
    faces
        int32 ``(m, 3)``.
    n_steps
        Pairs of steps; ten take away the steps of voxels. With 0 nothing is moved.

    Returns
    -------
    np.ndarray
        float64 ``(n, 3)``; the volume enclosed is that of before, to 0.1 %, or the mesh is the one that was given.
    """
    volume = enclosed_volume(vertices, faces)
    while n_steps > 0:
        moved = _taubin(vertices, faces, n_steps)
        lost = volume - enclosed_volume(moved, faces)
        if abs(lost) < _LARGEST_LOSS * volume:
            moved = keep_volume(moved, faces, volume)
            if abs(enclosed_volume(moved, faces) - volume) < 1e-3 * volume:
                return moved
        n_steps //= 2
    return vertices


def keep_volume(vertices: np.ndarray, faces: np.ndarray, volume: float) -> np.ndarray:
    """Move a mesh along its normals until it encloses a volume: Newton's method, as the area is the derivative.

    Parameters
    ----------
    vertices, faces
        As of `enclosed_volume`.
    volume
        nm³, not far from what it is.

    Returns
    -------
    np.ndarray
        float64 ``(n, 3)``.
    """
    moved = np.array(vertices, np.float64)
    for _ in range(4):
        missing = volume - enclosed_volume(moved, faces)
        area = surface_area(moved, faces)
        if abs(missing) < 1e-6 * volume or area == 0:
            break
        moved += missing / area * vertex_normals(moved, faces)
    return moved


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the unit normals float64 ``(n, 3)`` of vertices: means of those of their triangles, by area.

    Arguments are those of `enclosed_volume`. A vertex of triangles without area has a normal of 0.
    """
    normals = np.zeros((len(vertices), 3))
    _add_normals(np.ascontiguousarray(vertices, np.float64), faces, normals)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=normals, where=length > 0)


@njit(cache=True, nogil=True)
def _volume(vertices, faces):  # type: ignore[no-untyped-def]
    total = 0.0
    if not len(vertices):
        return total
    # Seen from a vertex of the mesh, numbers are small and rounding does not matter.
    x, y, z = vertices[0, 0], vertices[0, 1], vertices[0, 2]
    for i in range(len(faces)):
        a, b, c = faces[i, 0], faces[i, 1], faces[i, 2]
        a0, a1, a2 = vertices[a, 0] - x, vertices[a, 1] - y, vertices[a, 2] - z
        b0, b1, b2 = vertices[b, 0] - x, vertices[b, 1] - y, vertices[b, 2] - z
        c0, c1, c2 = vertices[c, 0] - x, vertices[c, 1] - y, vertices[c, 2] - z
        total += a0 * (b1 * c2 - b2 * c1) + a1 * (b2 * c0 - b0 * c2) + a2 * (b0 * c1 - b1 * c0)
    return total / 6


@njit(cache=True, nogil=True)
def _add_normals(vertices, faces, normals):  # type: ignore[no-untyped-def]
    for i in range(len(faces)):
        a, b, c = faces[i, 0], faces[i, 1], faces[i, 2]
        u0, u1, u2 = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        v0, v1, v2 = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        n0, n1, n2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
        for k in range(3):
            normals[faces[i, k], 0] += n0
            normals[faces[i, k], 1] += n1
            normals[faces[i, k], 2] += n2


@njit(cache=True, nogil=True)
def _taubin(vertices, faces, n_steps):  # type: ignore[no-untyped-def]
    """Return the vertices after pairs of steps; in a closed mesh every triangle at a vertex adds two of its edges."""
    n = len(vertices)
    places = vertices.copy()
    sums = np.empty((n, 3))
    share = np.zeros(n)
    for i in range(len(faces)):
        for k in range(3):
            share[faces[i, k]] += 2
    for step in range(2 * n_steps):
        weight = _AWAY if step % 2 else _TOWARDS
        sums[:] = 0
        for i in range(len(faces)):
            a, b, c = faces[i, 0], faces[i, 1], faces[i, 2]
            for axis in range(3):
                pa, pb, pc = places[a, axis], places[b, axis], places[c, axis]
                sums[a, axis] += pb + pc
                sums[b, axis] += pa + pc
                sums[c, axis] += pa + pb
        for i in range(n):
            for axis in range(3):
                if share[i]:
                    places[i, axis] += weight * (sums[i, axis] / share[i] - places[i, axis])
    return places
