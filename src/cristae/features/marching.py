"""The 256 ways in which a surface can pass a cell of 2 × 2 × 2 voxel centres, as tables for the surface kernels.

Bit ``4 dz + 2 dy + dx`` of a configuration says whether that corner lies inside. The triangles are those that
scikit-image puts into a cell of a mask at level 0.5, read off once by meshing each configuration by itself: they do
not depend on neighbouring cells, and where two diagonal corners of a face are inside they are joined::

    inside  o-----.      both inside corners of the face hang together; as the cells on either side see the same face,
            |     |      meshes are closed
            .-----o  inside

Papers: T. Lewiner et al. (2003), J. Graph. Tools 8, 1 (marching cubes); C. M. Park and A. Rosenfeld (1971), tech.
rep. TR-164, University of Maryland (Euler number by 2 × 2 × 2 counts).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import product

import numpy as np
from skimage.measure import marching_cubes

# Corner indices at both ends of each edge, lower first, and the axis it runs along (0 z, 1 y, 2 x).
_ENDS = [(low, low | 4 >> axis, axis) for axis in range(3) for low in range(8) if not low & 4 >> axis]
EDGE_LOW = np.array([low for low, _, _ in _ENDS])
EDGE_HIGH = np.array([high for _, high, _ in _ENDS])
CENTRE = 12  # the extra vertex of a few configurations, in the middle of the others


@dataclass(frozen=True)
class CellTables:
    """Per configuration of 8 corners, what a cell adds to the object that its set corners belong to.

    Parameters
    ----------
    n_triangles, triangles
        int64 ``(256,)`` and ``(256, 12, 3)``: vertices 0–11 on the edges, 12 at the centre; seen from outside all turn
        the same way.
    edges
        int64 ``(256,)``: bit e is set if edge e carries a vertex.
    centre
        bool ``(256,)``: whether there is a vertex at the centre.
    counts
        int64 ``(256, 4)``: Euler number in eighths, exposed voxel faces in quarters, area facing +z in eighths of a
        voxel face, and volume below the surface along z, from the cell's lower corners on, in 48ths of a voxel.
    """

    n_triangles: np.ndarray
    triangles: np.ndarray
    edges: np.ndarray
    centre: np.ndarray
    counts: np.ndarray

    def areas(self, voxel_size: tuple[float, float, float]) -> np.ndarray:
        """Return the area float64 ``(256,)`` of a mask's surface in a cell, in nm² for a voxel size in nm (z, y, x)."""
        corners = _middles() * np.asarray(voxel_size)
        a, b, c = (corners[self.triangles[:, :, i]] for i in range(3))
        doubled = np.linalg.norm(np.cross(b - a, c - a), axis=2)
        return doubled.sum(axis=1) / 2


@functools.cache
def cell_tables() -> CellTables:
    """Return the tables; made on first use, in some milliseconds."""
    n_triangles = np.zeros(256, np.int64)
    triangles = np.zeros((256, 12, 3), np.int64)
    for configuration in range(1, 255):
        found = _triangles(configuration)
        n_triangles[configuration] = len(found)
        triangles[configuration, : len(found)] = found
    used = np.arange(12) < n_triangles[:, None]
    vertices = np.zeros((256, 13), bool)
    for i in range(3):
        np.logical_or.at(vertices, (np.nonzero(used)[0], triangles[:, :, i][used]), True)
    edges = (vertices[:, :12] << np.arange(12)).sum(axis=1)
    euler = np.array([_euler_eighths(configuration) for configuration in range(256)])
    faces = np.array([_steps(configuration) for configuration in range(256)])
    # Doubled coordinates are whole numbers, and so are the signed sums of the triangles. Unused rows of the table are
    # triangles of one point and add nothing.
    a, b, c = (np.rint(2 * _middles()).astype(np.int64)[triangles[:, :, i]] for i in range(3))
    facing = np.cross(b - a, c - a)[:, :, 0]
    below = facing * (a + b + c)[:, :, 0]
    counts = np.stack([euler, faces, facing.sum(axis=1), below.sum(axis=1)], axis=1)
    return CellTables(n_triangles, triangles, edges, vertices[:, CENTRE], counts.astype(np.int64))


def _middles() -> np.ndarray:
    """Return the place (13, 3) of every vertex in the cell when it lies half-way along its edge."""
    corners = np.array(list(product((0, 1), repeat=3)), np.float64)
    return np.concatenate([(corners[EDGE_LOW] + corners[EDGE_HIGH]) / 2, [[0.5, 0.5, 0.5]]])


def _corners(configuration: int) -> np.ndarray:
    """Return the corners bool (2, 2, 2)."""
    return (configuration >> np.arange(8) & 1).astype(bool).reshape(2, 2, 2)


def _triangles(configuration: int) -> np.ndarray:
    """Return the triangles (n, 3) of a configuration, as vertex numbers."""
    places, faces, _, _ = marching_cubes(_corners(configuration).astype(np.float32), 0.5)  # type: ignore[no-untyped-call]
    known = _middles()
    numbers = np.array([int(np.flatnonzero((known == place).all(axis=1))[0]) for place in places])
    return numbers[faces[:, ::-1]]  # in the order z, y, x the triangles of scikit-image face inwards


def _euler_eighths(configuration: int) -> int:
    """Return 8 × the part of the corner's voxels, edges, faces and point in the Euler number of closed voxels."""
    cell = _corners(configuration)
    faces = sum(int((cell.take(0, axis) | cell.take(1, axis)).sum()) for axis in range(3))
    edges = sum(int(cell.take(side, axis).any()) for axis in range(3) for side in range(2))
    return 8 * int(cell.any()) - 4 * edges + 2 * faces - int(cell.sum())


def _steps(configuration: int) -> int:
    """Return between how many of the 12 pairs of neighbouring corners the inside ends."""
    cell = _corners(configuration)
    return sum(int((cell.take(0, axis) != cell.take(1, axis)).sum()) for axis in range(3))
