r"""Meshes at several levels of detail, cut along the cells of an octree, so that a viewer loads what it shows.

Level 0 is the mesh; each further one has a quarter of the triangles and cells of twice the size, until there is but one
cell. Triangles are cut where they cross the borders of cells, and from level 1 on also those of the cells
below, so that a viewer may put a finer cell in the place of an eighth of a coarser one::

    level 0             level 1           level 2
    +--+--+--+--+       +-----+-----+     +-----------+
    |  | ./\|.  |       |   . | .   |     |     .     |
    +--+--+--+--+       |  /  |  \  |     |   /   \   |      both sides of a border have the same
    |  |/ |  |\ |       +-----+-----+     |  /     \  |      new vertices, so nothing gapes
    +--+--+--+--+       |     |     |     |           |
    ...                 +-----+-----+     +-----------+

Format that it is for: neuroglancer, ``src/datasource/precomputed/meshes.md``, multi-resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cristae.meshing.simplify import simplify
from cristae.meshing.smooth import enclosed_volume, keep_volume, surface_area

MeshArrays = tuple[np.ndarray, np.ndarray]

FEWEST = 500
"""Triangles; a mesh with fewer gets no coarser level."""
MOST_LEVELS = 6
_SHARE = 0.25
_MARGIN = 1e-3


@dataclass(frozen=True)
class Fragment:
    """What lies in one cell of the octree.

    Parameters
    ----------
    position
        Of the cell among those of its level: x, y, z.
    vertices
        float64 ``(n, 3)`` in cells: 0–1 along each axis, exactly there where the mesh was cut.
    faces
        int32 ``(m, 3)``.
    """

    position: tuple[int, int, int]
    vertices: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True)
class Octree:
    """A mesh at several levels of detail.

    Parameters
    ----------
    origin, cell
        float32 ``(3,)``, nm (x, y, z): the lowest corner, and the size of a cell of level 0; at level l it is
        2ˡ times as large.
    scales
        nm, rising: the length of an edge at each level, as if all triangles were the same and equilateral.
    levels
        The fragments of each level, the finest first, in the order of a Z-curve (x first).
    """

    origin: np.ndarray
    cell: np.ndarray
    scales: Sequence[float]
    levels: Sequence[Sequence[Fragment]]


def build_octree(vertices: np.ndarray, faces: np.ndarray, *, per_cell: int = 4000) -> Octree:
    """Make the levels of detail of a closed mesh, and cut them.

    Parameters
    ----------
    vertices
        float ``(n, 3)``, x, y, z in nm.
    faces
        Integers ``(m, 3)``.
    per_cell
        About how many triangles lie in a cell of a large mesh; a small one has one cell.

    Returns
    -------
    Octree
        Of at most `MOST_LEVELS` levels; there is a coarser one while there are more than `FEWEST` triangles, and
        half of them could go. All levels enclose the same volume, as near as `keep_volume` comes.

    Raises
    ------
    ValueError
        If there is no triangle.
    """
    if not len(faces):
        raise ValueError("expected a mesh of at least one triangle, got none")
    meshes = _details(np.array(vertices, np.float64), np.array(faces, np.int32))
    # A surface meets about as many cells as the square of how many there are along each axis.
    finest = round(math.log(max(1.0, len(faces) / per_cell), 4))
    n_cells = 2 ** min(finest, len(meshes) - 1)
    low = np.min([places.min(axis=0) for places, _ in meshes], axis=0)
    high = np.max([places.max(axis=0) for places, _ in meshes], axis=0)
    reach = np.maximum(high - low, _MARGIN)
    # Rounding to float32, which the format keeps, must leave nothing outside.
    margin = _MARGIN * reach + 1e-6 * np.abs(np.stack([low, high])).max(axis=0)
    origin = (low - margin).astype(np.float32)
    cell = ((reach + 2 * margin) / n_cells).astype(np.float32)
    levels, scales = [], [0.0]
    for level, (places, triangles) in enumerate(meshes):
        inside = (places - origin.astype(np.float64)) / (cell.astype(np.float64) * 2**level)
        levels.append(_fragments(inside, triangles, max(1, n_cells >> level), 0.5 if level else 1.0))
        edge = math.sqrt(surface_area(places, triangles) / len(triangles) * 4 / math.sqrt(3))
        scales.append(max(edge, 1.01 * scales[-1]))
    return Octree(origin, cell, scales[1:], levels)


def cut(vertices: np.ndarray, faces: np.ndarray, axis: int, place: float) -> MeshArrays:
    """Cut triangles along a plane across an axis, so that none crosses it.

    Parameters
    ----------
    vertices
        float64 ``(n, 3)``.
    faces
        int32 ``(m, 3)``.
    axis, place
        Of the plane: ``vertices[:, axis] == place``.

    Returns
    -------
    tuple
        Vertices, the new ones last and exactly on the plane, one for each edge that crosses it; and triangles. They
        turn as before and cover the same, so a closed mesh stays one.
    """
    side = np.sign(vertices[:, axis] - place).astype(np.int8)[faces]
    crossing = (side.min(axis=1) < 0) & (side.max(axis=1) > 0)
    if not crossing.any():
        return vertices, faces
    triangles, side = faces[crossing], side[crossing]
    # Turned so that the first corner is that alone on its side, or the one on the plane.
    alone = np.where((side == 0).any(axis=1), (side == 0).argmax(axis=1), (side * side.sum(axis=1)[:, None]).argmin(1))
    turned = np.take_along_axis(triangles, (alone[:, None] + np.arange(3)) % 3, axis=1)
    a, b, c = turned.T
    touching = (side == 0).any(axis=1)
    opposite = np.stack([b, c], axis=1)[touching]
    beside = np.concatenate([np.stack([a, b], axis=1)[~touching], np.stack([a, c], axis=1)[~touching]])
    edges, number = np.unique(np.sort(np.concatenate([opposite, beside]), axis=1), axis=0, return_inverse=True)
    first, second = vertices[edges[:, 0]], vertices[edges[:, 1]]
    part = (place - first[:, axis]) / (second[:, axis] - first[:, axis])
    new = first + part[:, None] * (second - first)
    new[:, axis] = place
    number = number.reshape(-1) + len(vertices)
    n_touching, n_through = len(opposite), len(beside) // 2
    on_bc = number[:n_touching]
    on_ab, on_ac = number[n_touching : n_touching + n_through], number[n_touching + n_through :]
    p, q, r = turned[touching].T
    a, b, c = turned[~touching].T
    pieces = [(p, q, on_bc), (p, on_bc, r), (a, on_ab, on_ac), (on_ab, b, c), (on_ab, c, on_ac)]
    made = [np.stack(corners, axis=1).astype(np.int32) for corners in pieces]
    return np.concatenate([vertices, new]), np.concatenate([faces[~crossing], *made])


def _details(vertices: np.ndarray, faces: np.ndarray) -> list[MeshArrays]:
    """Return the mesh and coarser ones, each with about a quarter of the triangles."""
    meshes, volume = [(vertices, faces)], enclosed_volume(vertices, faces)
    while len(meshes) < MOST_LEVELS and len(meshes[-1][1]) > FEWEST:
        finer = meshes[-1]
        places, triangles = simplify(*finer, max_error=math.inf, share=_SHARE)
        if len(triangles) > len(finer[1]) / 2:
            break
        meshes.append((keep_volume(places, triangles, volume), triangles))
    return meshes


def _fragments(vertices: np.ndarray, faces: np.ndarray, n_cells: int, step: float) -> list[Fragment]:
    """Cut a mesh, whose places are in cells, every `step` of a cell, and return what lies in each."""
    for axis in range(3):
        for number in range(1, round(n_cells / step)):
            vertices, faces = cut(vertices, faces, axis, number * step)
    cells = np.clip(np.floor(vertices[faces].min(axis=1)).astype(np.int64), 0, n_cells - 1)
    code = _z_curve(cells)
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    return [_fragment(vertices, faces, cells, rows) for rows in np.split(order, starts[1:])]


def _fragment(vertices: np.ndarray, faces: np.ndarray, cells: np.ndarray, rows: np.ndarray) -> Fragment:
    used, triangles = np.unique(faces[rows], return_inverse=True)
    x, y, z = cells[rows[0]].tolist()
    inside = np.clip(vertices[used] - (x, y, z), 0, 1)
    return Fragment((x, y, z), inside, triangles.reshape(-1, 3).astype(np.int32))


def _z_curve(cells: np.ndarray) -> np.ndarray:
    """Return the place of cells ``(n, 3)`` along a Z-curve: bits of x, y and z in turn, those of x the lowest."""
    code = np.zeros(len(cells), np.int64)
    for bit in range(MOST_LEVELS):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code
