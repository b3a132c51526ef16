"""Smooth surfaces of all objects: the level 0.5 of each object's mask after a Gaussian filter, as a mesh.

The mesh of a mask itself has steps; its area is 8–9 % too large however fine the voxels. After smoothing by about one
voxel, a ball of radius 10 voxels has a sphericity of .996. Objects so thin that smoothing wears them away keep the
mesh of their mask, and the table says so.

Each object's own mask is smoothed, so that touching objects do not feel each other. It happens tile by tile, in the
box that the object takes up of a tile, in whole numbers: filter weights are 1/1024ths, a value is a sum in 2⁻³⁰ths.
So a value, and with it the mesh, is exactly the same whatever the tile, the block or the order::

    tile        +-----------+      box of object 1 in this tile, filtered along x, y and z;
                | ..1111.   |      then marching cubes in the same small array
                | .111111.  |22
                |  .1111. 22|2     object 2 has another box

Papers: W. E. Lorensen and H. E. Cline (1987), SIGGRAPH 21, 163; T. Lewiner et al. (2003), J. Graph. Tools 8, 1. Which
diagonal of an ambiguous face is joined is decided as for a mask, not by the values: rare, and smaller than the
error of either choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cristae.features.hull import Hulls, merge_hulls, settle
from cristae.features.marching import cell_tables
from cristae.features.moments import Moments
from cristae.features.surface import VoxelSurface, corners_of_cells
from cristae.features.tiles import march

_UNIT = 1024


@dataclass(frozen=True)
class Meshing:
    """How objects become meshes.

    Parameters
    ----------
    voxel_size
        nm (z, y, x).
    sigma_px
        Standard deviation of the Gaussian filter, in voxels along each axis, from 0 (mesh of the mask) to 5.

    Raises
    ------
    ValueError
        If the standard deviation lies outside.
    """

    voxel_size: tuple[float, float, float]
    sigma_px: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_px <= 5:
            raise ValueError(f"expected a standard deviation of 0 to 5 voxels, got {self.sigma_px}")

    @cached_property
    def weights(self) -> np.ndarray:
        """int32 weights of the voxel itself, of its neighbours, of the next, ...; all together they make 1024."""
        if self.sigma_px == 0:
            return np.array([_UNIT], np.int32)
        distance = np.arange(int(np.ceil(5 * self.sigma_px)) + 1)
        bell = np.exp(-(distance**2) / (2 * self.sigma_px**2))
        weights = np.rint(_UNIT * bell / (2 * bell.sum() - 1)).astype(np.int32)
        weights[0] = _UNIT - 2 * weights[1:].sum()
        return np.trim_zeros(weights, "b")

    @property
    def halo(self) -> int:
        """Voxels that a block needs around its inner part, along every axis."""
        return len(self.weights)


@dataclass(frozen=True)
class Outlines:
    """What a first pass over the volume knows of every object, row i for object i + 1.

    Parameters
    ----------
    centroid_px
        float64 ``(n, 3)``, in the whole volume.
    low, high
        int64 ``(n, 3)``, smallest and largest index in the whole volume.
    wanted
        bool ``(n, 2)``: whether to make the smooth mesh, and that of the mask.
    """

    centroid_px: np.ndarray
    low: np.ndarray
    high: np.ndarray
    wanted: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Outlines:
        """Return the rows of some objects, in that order."""
        return Outlines(self.centroid_px[rows], self.low[rows], self.high[rows], self.wanted[rows])


def outlines(moments: Moments, surface: VoxelSurface, sigma_px: float = 1.0) -> Outlines:
    """Return what the second pass needs of the first, given its sums over the whole volume.

    Of objects with more than 0.75 σ voxels per exposed voxel face (sheets of two voxels, rods of four by four, balls
    of radius four), smoothing by σ leaves most, and only the smooth mesh is wanted. Of the others both are, as only
    the smooth one can tell whether enough is left.
    """
    smooth = np.full(len(moments.n_voxels), sigma_px > 0)
    thick = moments.n_voxels > sigma_px * 0.75 * surface.n_faces
    return Outlines(moments.centroid_px, moments.low, moments.high, np.stack([smooth, ~(smooth & thick)], axis=1))


@dataclass(frozen=True)
class Mesh:
    """Sums over the meshes of objects, row i for object i + 1; the smooth mesh first, then that of the mask.

    `merge_meshes` adds up blocks.

    Parameters
    ----------
    area_nm2, volume_nm3
        float64 ``(n, 2)``, of the mesh and of what it encloses. The parts of a volume mean something only together.
    n_vertices
        int64 ``(n, 2)``.
    radius_nm, radius_nm2
        float64 ``(n, 2)``, sums over vertices of the distance to the object's centroid, and of its square.
    hulls
        Convex hulls of the vertices, with two rows per object.
    """

    area_nm2: np.ndarray
    volume_nm3: np.ndarray
    n_vertices: np.ndarray
    radius_nm: np.ndarray
    radius_nm2: np.ndarray
    hulls: Hulls


def add_mesh(
    labels: np.ndarray,
    n_objects: int,
    inner: tuple[slice, slice, slice],
    *,
    start: tuple[int, int, int] = (0, 0, 0),
    objects: Outlines,
    meshing: Meshing,
) -> Mesh:
    """Mesh the cells that the inner part of a block owns: those whose lowest corner lies in it.

    Cells that begin one voxel outside the volume belong to the block at that border.

    Parameters
    ----------
    labels
        Integers ``(z, y, x)``, 0 background, objects 1 to `n_objects`, with a halo of ``meshing.halo`` voxels; what
        lies beyond the array counts as background.
    n_objects
        Number of rows to return.
    inner
        Part of the block to count.
    start
        Index of the block's first voxel in the volume.
    objects
        What is known of them, from `outlines`, by the block's ids.
    meshing
        Voxel size and smoothing.

    Returns
    -------
    Mesh
        Of the cells owned. Hulls of objects that lie wholly inside are measured; of others, corners are kept.
    """
    margin = len(meshing.weights) - 1
    corners, _ = corners_of_cells(labels, inner, start, margin)
    begin = np.array([s + part.indices(n)[0] for s, part, n in zip(start, inner, labels.shape, strict=True)], np.int64)
    first = begin - (begin == 0)
    centre = np.where(objects.high >= 0, objects.centroid_px, 0)
    nearest = np.floor(centre + 0.5).astype(np.int64)
    tables = cell_tables()
    sums = np.zeros((2 * n_objects, 5))
    vertices = march(
        corners.astype(np.int32, copy=False),
        (meshing.weights, first, np.asarray(meshing.voxel_size, np.float64)),
        (tables.n_triangles, tables.triangles, tables.edges, tables.centre),
        (nearest, centre - nearest, objects.wanted),
        sums,
    )
    unknown = np.full(2 * n_objects, np.nan)
    # The last corners are those of the next block's first cells, so an object that reaches them is not complete.
    last = first + np.array(corners.shape) - 2 * margin - 1
    complete = ((objects.low > first) & (objects.high < last)).all(axis=1).repeat(2)
    hulls = settle(
        Hulls(unknown, unknown, vertices[:, 0].astype(np.int64), vertices[:, 1:]), complete, meshing.voxel_size
    )
    area, volume, n_vertices, radius, radius2 = np.moveaxis(sums.reshape(n_objects, 2, 5), 2, 0)
    return Mesh(area, volume, n_vertices.astype(np.int64), radius, radius2, hulls)


def merge_meshes(parts: Sequence[Mesh], rows: Sequence[np.ndarray], n_objects: int) -> Mesh:
    """Add up the meshes of blocks.

    Parameters
    ----------
    parts
        Of the blocks.
    rows
        For each of them int64 ``(n,)``, the row that each of its rows becomes.
    n_objects
        Number of rows of the result.

    Returns
    -------
    Mesh
        Of all cells. ``hulls.completed`` measures the hulls that several blocks share.
    """
    names = ("area_nm2", "volume_nm3", "n_vertices", "radius_nm", "radius_nm2")
    sums = {name: np.zeros((n_objects, 2), np.int64 if name == "n_vertices" else np.float64) for name in names}
    for part, places in zip(parts, rows, strict=True):
        for name, total in sums.items():
            np.add.at(total, places, getattr(part, name))
    of_hulls = [(2 * places[:, None] + (0, 1)).ravel() for places in rows]
    return Mesh(**sums, hulls=merge_hulls([part.hulls for part in parts], of_hulls, 2 * n_objects))
