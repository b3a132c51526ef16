"""Pieces of surface: the marching-cubes meshes of all objects of a block in one pass, and how pieces become meshes.

Every cell of 2 × 2 × 2 voxel centres is looked at once, whatever the number of objects; where all corners are alike it
costs a comparison. An edge between two voxels of different objects carries a vertex for each of them, so that every
object has a surface of its own, closed also where it touches another or the border of the volume::

    . . . . .        . . . . .
    . 1 1 2 .        .(1 1)2 .      the meshes of 1 and 2 lie face to face, half-way between the voxel centres
    . 1 1 2 .   -->  .(1 1)(2).
    . . . . .        . . . . .

Vertices are named by the edge they lie on, in numbers that count through the volume. So pieces of neighbouring blocks
are sewn together by equal names, and the mesh, its order included, does not depend on the blocks. Every edge has two
triangles, or four where voxels of one object touch by an edge only.

Papers: W. E. Lorensen and H. E. Cline (1987), SIGGRAPH 21, 163; T. Lewiner et al. (2003), J. Graph. Tools 8, 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from cristae.features.marching import cell_tables
from cristae.features.surface import corners_of_cells
from cristae.meshing.lattice import emit, group, mark

HALO = 1
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Piece:
    """A part of the surface of one object.

    Parameters
    ----------
    names
        int64 ``(n,)``, rising: the edge of the volume's lattice that each vertex lies on; see `positions`.
    faces
        int32 ``(m, 3)``, triangles as numbers of vertices; seen from outside, in the axes x, y, z, they turn
        counterclockwise.
    cells
        int64 ``(m,)``, rising: the name of the cell that each triangle lies in.
    """

    names: np.ndarray
    faces: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True)
class Pieces:
    """The pieces of all objects of a block, one after another; `pieces[i]` is that of object i + 1.

    Parameters
    ----------
    names, faces, cells
        As of `Piece`; triangles count the vertices of their own object.
    vertex_starts, face_starts
        int64 ``(n + 1,)``, where those of each object begin, and the end.
    """

    names: np.ndarray
    faces: np.ndarray
    cells: np.ndarray
    vertex_starts: np.ndarray
    face_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.vertex_starts) - 1

    def __getitem__(self, row: int) -> Piece:
        """Return the piece of the object in that row."""
        vertices = slice(self.vertex_starts[row], self.vertex_starts[row + 1])
        triangles = slice(self.face_starts[row], self.face_starts[row + 1])
        return Piece(self.names[vertices], self.faces[triangles], self.cells[triangles])


def march(
    labels: np.ndarray,
    n_objects: int,
    inner: tuple[slice, slice, slice],
    *,
    start: Triple = (0, 0, 0),
    volume_shape: Triple,
) -> Pieces:
    """Mesh the cells that the inner part of a block owns: those whose lowest corner lies in it.

    Cells that begin one voxel outside the volume belong to the block at that border.

    Parameters
    ----------
    labels
        Integers ``(z, y, x)``, 0 background, objects 1 to `n_objects`. Needs a halo of `HALO` voxels at the upper ends;
        what lies beyond the array counts as background.
    n_objects
        Number of pieces to return.
    inner
        Part of the block to mesh.
    start
        Index of the block's first voxel in the volume.
    volume_shape
        Of the volume, by which vertices are named.
    """
    corners, _ = corners_of_cells(labels, inner, start, 0)
    begin = [s + part.indices(n)[0] for s, part, n in zip(start, inner, labels.shape, strict=True)]
    first = np.array([low + (low > 0) for low in begin], np.int64)  # counted from one voxel outside the volume
    corners = corners.astype(np.int32, copy=False)
    tables = cell_tables()
    small = tables.n_triangles.astype(np.int8), tables.triangles.astype(np.int8)  # to stay in the processor's cache
    ends = np.zeros((*corners.shape[:2], -(-corners.shape[2] // 8)), np.uint64)
    mark(corners, ends.view(np.uint8))
    lattice = first, np.array(volume_shape, np.int64) + 2
    counts = np.zeros((n_objects + 1, 2), np.int64)
    vertices, triangles = emit(corners, ends, small, lattice, int(np.bitwise_count(ends).sum()), counts)
    n_vertices, n_triangles = counts[0].tolist()
    starts = np.zeros((n_objects + 1, 2), np.int64)
    np.cumsum(counts[1:], axis=0, out=starts[1:])
    names, faces = np.empty(starts[-1, 0], np.int64), np.empty((starts[-1, 1], 3), np.int32)
    cells = np.empty(len(faces), np.int64)
    group(vertices[:n_vertices], (*triangles, n_triangles), starts, (names, faces, cells))
    return Pieces(names, faces, cells, starts[:, 0].copy(), starts[:, 1].copy())


def sew(pieces: Sequence[Piece]) -> tuple[np.ndarray, np.ndarray]:
    """Join the pieces of one object, in any order.

    Parameters
    ----------
    pieces
        Of all blocks that it reaches; every cell lies in one of them.

    Returns
    -------
    tuple
        Names of vertices int64 ``(n,)``, rising and each once; triangles int32 ``(m, 3)``, in the order of their cells.
    """
    if len(pieces) == 1:
        return np.asarray(pieces[0].names), np.asarray(pieces[0].faces)
    names = np.concatenate([piece.names for piece in pieces])
    starts = np.cumsum([0, *(len(piece.names) for piece in pieces)])
    order = _order(names, starts)
    number = np.empty(len(names), np.int32)
    known = _rename(names, order, number)
    faces = np.concatenate([number[piece.faces + start] for piece, start in zip(pieces, starts, strict=False)])
    cells = np.concatenate([piece.cells for piece in pieces])
    return known, faces[_order(cells, np.cumsum([0, *(len(piece.cells) for piece in pieces)]))]


def _order(keys: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the stable order of keys in sorted runs, of which `starts` has the beginnings and the end."""
    return np.argsort(keys, kind="stable") if len(starts) > 16 else _merge(keys, starts)


@njit(cache=True, nogil=True)
def _merge(keys, starts):  # type: ignore[no-untyped-def]
    order = np.empty(len(keys), np.int64)
    heads = starts[:-1].copy()
    for i in range(len(keys)):
        first = -1
        for run in range(len(heads)):
            if heads[run] < starts[run + 1] and (first < 0 or keys[heads[run]] < keys[heads[first]]):
                first = run
        order[i] = heads[first]
        heads[first] += 1
    return order


@njit(cache=True, nogil=True)
def _rename(names, order, number):  # type: ignore[no-untyped-def]
    """Return the names in order, each once, and set for every name which of them it is."""
    known = np.empty(len(names), np.int64)
    n = 0
    for i in order:
        if n == 0 or names[i] != known[n - 1]:
            known[n] = names[i]
            n += 1
        number[i] = n - 1
    return known[:n].copy()


def positions(
    names: np.ndarray,
    volume_shape: Triple,
    voxel_size: tuple[float, float, float],
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Return where named vertices lie: float64 ``(n, 3)``, x, y, z in nm.

    Parameters
    ----------
    names
        int64, from `march` or `sew`.
    volume_shape
        That they were named by.
    voxel_size, origin
        nm (z, y, x): the size of a voxel, and the centre of the first.
    """
    places = np.empty((len(names), 3))
    _place(names, np.array(volume_shape) + 2, np.array([voxel_size, origin], np.float64), places)
    return places


@njit(cache=True, nogil=True)
def _place(names, wide, grid, places):  # type: ignore[no-untyped-def]
    for i in range(len(names)):
        rest, axis = names[i] >> 2, names[i] & 3
        rest, x = rest // wide[2], rest % wide[2]
        plane, y = rest // wide[1], rest % wide[1]
        # The middle of a cell is named in the layer above it, as it is met after that layer's edges.
        z = plane // 2 - plane % 2
        middle = axis == 3
        places[i, 0] = (x - 1 + 0.5 * (middle or axis == 2)) * grid[0, 2] + grid[1, 2]
        places[i, 1] = (y - 1 + 0.5 * (middle or axis == 1)) * grid[0, 1] + grid[1, 1]
        places[i, 2] = (z - 1 + 0.5 * (middle or axis == 0)) * grid[0, 0] + grid[1, 0]
