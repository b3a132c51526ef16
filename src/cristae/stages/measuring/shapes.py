"""Size, shape and holes of the objects of a layer: the passes that every other family rests on.

The first pass finds which objects there are, where they lie, and their range of grey values. Others then pass over
blocks in which none lies without reading them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cristae.errors import DataError
from cristae.features.crops import fitted
from cristae.features.holes import filled, find_holes, hole_columns
from cristae.features.mesh import Mesh, Meshing, add_mesh, merge_meshes, outlines
from cristae.features.moments import Moments, add_moments, moments_table
from cristae.features.morphology import measure_shapes, morphology_table
from cristae.features.parts import BlockParts, block_parts, join_parts
from cristae.features.surface import HALO, VoxelSurface, add_voxel_surface
from cristae.geometry import Block, Box
from cristae.stages.measuring.crops import CropReader
from cristae.stages.measuring.sample import Layer, Sample, Walk, inner, rows_of, triple


@dataclass(frozen=True)
class Sizes:
    """What the first pass finds of the objects of a layer; row i is the object ``ids[i]``.

    Parameters
    ----------
    ids
        int64, rising.
    moments, surface
        As `cristae.features.moments` and `cristae.features.surface` have them.
    beside_unseen
        bool, whether the object borders on voxels that nobody looked at.
    n_pictured
        int64, voxels on slices that the image has.
    """

    ids: np.ndarray
    moments: Moments
    surface: VoxelSurface
    beside_unseen: np.ndarray
    n_pictured: np.ndarray

    @property
    def box_voxels(self) -> np.ndarray:
        """int64 ``(n,)``: voxels of the bounding box of each object."""
        return (self.moments.high + 1 - self.moments.low).astype(np.int64).prod(axis=1)

    def meets(self, box: Box) -> bool:
        """Say whether any bounding box reaches into a box."""
        return bool(((self.moments.low < box.stop) & (self.moments.high >= box.start)).all(axis=1).any())

    def cut(self, sample: Sample) -> np.ndarray:
        """Return bool ``(n,)``: objects that go on, or may, where there is nothing to be seen."""
        at_edge = (self.moments.low == 0) | (self.moments.high + 1 == sample.grid.shape)
        return at_edge.any(axis=1) | self.beside_unseen

    def table(self, sample: Sample) -> pd.DataFrame:
        """Return the columns of `cristae.features.moments`."""
        table = moments_table(self.moments, sample.grid.voxel_size, sample.grid.shape)
        table["touches_edge"] = self.cut(sample)
        if self.moments.grey is not None:
            there = self.n_pictured > 0
            for column in ("grey_min", "grey_max"):
                table[column] = table[column].where(there)
            table["grey_mean"] = self.moments.grey[:, 2] / np.where(there, self.n_pictured, np.nan)
        return table

    def save(self, path: Path) -> None:
        """Write all of it to one file."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ("ids", "beside_unseen", "n_pictured")}
        for part in ("moments", "surface"):
            held = getattr(self, part)
            named = {field.name: getattr(held, field.name) for field in fields(held)}
            arrays |= {f"{part}.{name}": value for name, value in named.items() if value is not None}
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Sizes:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            parts: dict[str, dict[str, np.ndarray]] = {"moments": {}, "surface": {}}
            for name in stored.files:
                part, _, field = name.partition(".")
                if field:
                    parts[part][field] = stored[name]
            return cls(
                stored["ids"],
                Moments(**parts["moments"]),
                VoxelSurface(**parts["surface"]),
                stored["beside_unseen"],
                stored["n_pictured"],
            )


def find_sizes(layer: Layer, sample: Sample, walk: Walk) -> Sizes:
    """Find the objects of a layer and measure their size, place, range of grey values and voxel faces."""

    def work(block: Block) -> tuple[np.ndarray, Moments, VoxelSurface, np.ndarray, np.ndarray] | None:
        ids, labels = layer.read(block.read)
        if not ids.size:
            return None
        n, part, start = len(ids), inner(block), block.read.start
        moments = add_moments(labels, n, part, start=start)
        pictured = moments.n_voxels
        if sample.image:
            grey = add_moments(sample.pictured(labels, block.read), n, part, image=sample.image.read(block.read))
            moments, pictured = replace(moments, grey=grey.grey), grey.n_voxels
        surface = add_voxel_surface(labels, n, part, start=start, voxel_size=sample.grid.voxel_size)
        beside = _beside(labels, layer.unseen(block.read), n)
        return ids, moments, surface, beside, pictured

    found = [result for _, result in walk.over(sample.grid, triple(HALO), work)]
    ids = np.unique(np.concatenate([np.zeros(0, np.int64), *(part[0] for part in found)]))
    moments, surface = Moments.empty(len(ids), grey=sample.image is not None), VoxelSurface.empty(len(ids))
    beside, n_pictured = np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.int64)
    for of_block, more, faces, unseen, pictured in found:
        rows = rows_of(ids, of_block)
        _add_moments(moments, rows, more)
        surface.counts[rows] += faces.counts
        surface.area_nm2[rows] += faces.area_nm2
        beside[rows] |= unseen
        n_pictured[rows] += pictured
    # One that only the halo of blocks holds lies in the inner part of another.
    return Sizes(ids, moments, surface, beside, n_pictured)


def _add_moments(total: Moments, rows: np.ndarray, more: Moments) -> None:
    for name in ("n_voxels", "first", "second"):
        getattr(total, name)[rows] += getattr(more, name)
    total.low[rows] = np.minimum(total.low[rows], more.low)
    total.high[rows] = np.maximum(total.high[rows], more.high)
    if total.grey is not None and more.grey is not None:
        total.grey[rows, 0] = np.minimum(total.grey[rows, 0], more.grey[:, 0])
        total.grey[rows, 1] = np.maximum(total.grey[rows, 1], more.grey[:, 1])
        total.grey[rows, 2] += more.grey[:, 2]


def _beside(labels: np.ndarray, unseen: np.ndarray | None, n: int) -> np.ndarray:
    """Return bool ``(n,)``: objects that share a voxel face with voxels that nobody looked at."""
    beside = np.zeros(n + 1, np.bool_)
    if unseen is not None:
        for axis in range(3):
            low = tuple(slice(None, -1) if one == axis else slice(None) for one in range(3))
            high = tuple(slice(1, None) if one == axis else slice(None) for one in range(3))
            beside[labels[low][unseen[high]]] = True
            beside[labels[high][unseen[low]]] = True
    return beside[1:]


def measure_holes(layer: Layer, sizes: Sizes, sample: Sample, walk: Walk) -> pd.DataFrame:
    """Return the columns of `cristae.features.holes`."""

    def work(block: Block) -> BlockParts:
        # Where no object lies all is background, and need not be read.
        if not sizes.meets(block.write):
            return block_parts(np.zeros(block.write.shape, np.uint8), block.write.start, sample.grid.shape)
        ids, labels = layer.read(block.write)
        named = np.concatenate([np.zeros(1, np.int64), rows_of(sizes.ids, ids) + 1])
        return block_parts(named[labels], block.write.start, sample.grid.shape)

    found = walk.over(sample.grid, (0, 0, 0), work)
    holes = find_holes(join_parts((parts for _, parts in found), sample.grid.shape))
    return hole_columns(holes, sample.grid.voxel_size).reset_index(drop=True)


def measure_shape(layer: Layer, sizes: Sizes, sample: Sample, walk: Walk, sigma_px: float) -> pd.DataFrame:
    """Return the columns of `cristae.features.morphology`."""
    meshing = Meshing(sample.grid.voxel_size, sigma_px)
    objects = outlines(sizes.moments, sizes.surface, sigma_px)

    def work(block: Block) -> tuple[Mesh, np.ndarray] | None:
        # A cell of the mesh begins one voxel before the object.
        if not sizes.meets(block.write.grow(triple(meshing.halo))):
            return None
        ids, labels = layer.read(block.read)
        rows = rows_of(sizes.ids, ids)
        known = objects[rows]
        return (
            add_mesh(labels, len(ids), inner(block), start=block.read.start, objects=known, meshing=meshing),
            rows,
        )

    found = [result for _, result in walk.over(sample.grid, triple(meshing.halo), work)]
    meshes: Sequence[Mesh] = [mesh for mesh, _ in found]
    mesh = merge_meshes(meshes, [rows for _, rows in found], len(sizes.ids))
    return morphology_table(mesh, sizes.moments, sizes.surface, sample.grid.voxel_size)


def filled_solidity(
    reader: CropReader, sizes: Sizes, solidity: np.ndarray, holes: np.ndarray, sigma_px: float
) -> np.ndarray:
    """Return the solidity of objects with their holes filled: that of the paper for nucleoli.

    Parameters
    ----------
    reader
        Of crops of the objects.
    sizes
        Of the objects.
    solidity
        float64 ``(n,)``, with holes.
    holes
        int64 ``(n,)``, how many holes each has; without any nothing changes.
    sigma_px
        Smoothing of surfaces.
    """
    solidity = solidity.copy()
    for row in np.flatnonzero((holes > 0) & ~np.isnan(solidity)):
        crop = fitted(reader.read(sizes, int(row)), reader.max_voxels)
        shape = measure_shapes(filled(crop.mask).view(np.uint8), crop.voxel_size, sigma_px=sigma_px)
        if len(shape) != 1:
            raise DataError(f"object {sizes.ids[row]} vanished from its layer while it was measured")
        solidity[row] = shape["solidity"].iloc[0]
    return solidity
