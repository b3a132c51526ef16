"""Exact labels of any box of a phantom, voxel by voxel from the analytic scene."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cristae.geometry import Box, blocks
from cristae.phantom.cells import (
    Floats,
    Ints,
    Waves,
    bend_row,
    cell_at,
    deciding_seeds,
    pair_tables,
    reach,
    wave_tables,
)
from cristae.phantom.hashing import compiled
from cristae.phantom.organelles import FILOPODIUM
from cristae.phantom.scene import Blobs, Chains, Scene, drift
from cristae.phantom.settings import CLASSES

Labels = NDArray[np.uint32]
TILE_NM = 320.0
"""Edge of the tiles in which a box is worked off; any value gives the same labels."""
NUCLEUS_DEPTH_NM = 50.0
ORGANELLE_DEPTH_NM = 16.0
"""Least depth (nm) in their cell of nuclei and of other organelles, whatever the bumps and the warp do."""


class Tile(NamedTuple):
    """What a kernel needs to label one tile: candidate objects, and positions of its voxels."""

    ids: Ints
    seeds: Floats
    gaps: Floats
    inverse: Floats
    waves: Waves
    zs: Floats
    ys: Floats
    xs: Floats
    shifts: Floats


def labels(scene: Scene, box: Box) -> dict[str, Labels]:
    """Label a box of the phantom.

    Parameters
    ----------
    scene : Scene
        From `build_scene`.
    box : Box
        Any box, z y x in voxels of the volume; it may leave the volume by `RENDER_HALO`, where the tissue goes on.

    Returns
    -------
    dict of str to uint32 (z, y, x)
        ``"cell"`` and one entry for each of `CLASSES`: instance ids, the same in every box of the scene; 0 is
        background. A nucleus includes its nucleoli; a nucleolus excludes its fenestrations; the island of a
        filopodium carries the id of its cell.
    """
    out = np.empty((1 + len(CLASSES), *box.shape), dtype=np.uint32)
    for tile in _tiles(box, scene.settings.voxel_size):
        part = np.zeros((1 + len(CLASSES), *tile.shape), dtype=np.uint32)
        _label_tile(scene, tile, part)
        out[(slice(None), *tile.within(box).slices)] = part
    return dict(zip(("cell", *CLASSES), out, strict=True))


def _tiles(box: Box, voxel_size: tuple[float, float, float]) -> Iterator[Box]:
    edge_z, edge_y, edge_x = (max(4, min(64, round(TILE_NM / size))) for size in voxel_size)
    for block in blocks(box, (edge_z, edge_y, edge_x)):
        yield block.write


def _label_tile(scene: Scene, box: Box, out: Labels) -> None:
    size = np.array(scene.settings.voxel_size)
    origin = scene.origin
    zs, ys, xs = (
        (np.arange(a, b) + 0.5) * step - middle
        for a, b, step, middle in zip(box.start, box.stop, size, origin, strict=True)
    )
    shifts = -drift(scene.settings, np.arange(box.start[0], box.stop[0], dtype=np.float64)) * size[1:, None]
    low = np.array([zs[0], ys[0] + shifts[0].min(), xs[0] + shifts[1].min()]) - reach(scene.waves)
    high = np.array([zs[-1], ys[-1] + shifts[0].max(), xs[-1] + shifts[1].max()]) + reach(scene.waves)
    rows = _candidate_cells(scene.lattice.points, low, high)
    ids, seeds = rows + 1, scene.lattice.points[rows]
    gaps, inverse = pair_tables(scene.key, scene.lattice.codes[rows], seeds)
    tile = Tile(ids, seeds, gaps, inverse, scene.waves, zs, ys, xs, shifts)
    chosen = [_meeting(objects, low, high) for objects in (scene.nuclei, scene.nucleoli, scene.chains)]
    label_voxels(tile, (scene.nuclei, scene.nucleoli), scene.chains, (chosen[0], chosen[1], chosen[2]), out)


def _candidate_cells(seeds: Floats, low: Floats, high: Floats) -> Ints:
    chosen = np.empty(len(seeds), dtype=np.int64)
    return chosen[: deciding_seeds(seeds, low, high, chosen)]


def _meeting(objects: Blobs | Chains, low: Floats, high: Floats) -> Ints:
    return np.flatnonzero(np.all((objects.low <= high) & (objects.high >= low), axis=1))


@compiled
def label_voxels(
    tile: Tile, blobs: tuple[Blobs, Blobs], chains: Chains, chosen: tuple[Ints, Ints, Ints], out: Labels
) -> None:
    """Label the voxels of a tile into `out`, uint32 (1 + classes, z, y, x), from the chosen rows of the objects."""
    tables = np.empty((tile.waves.phase.size, tile.xs.size)), np.empty((tile.waves.phase.size, tile.xs.size))
    near_seeds, squared = np.empty(tile.ids.size, np.int64), np.empty(tile.ids.size)
    near = np.empty(chosen[0].size, np.int64), np.empty(chosen[1].size, np.int64), np.empty(chosen[2].size, np.int64)
    points, depth, low, high = np.empty((tile.xs.size, 4)), np.empty(tile.xs.size), np.empty(3), np.empty(3)
    for z in range(tile.zs.size):
        wave_tables(tile.waves, tile.xs, tile.shifts[1, z], tables[0], tables[1])
        for y in range(tile.ys.size):
            row_y = tile.ys[y] + tile.shifts[0, z]
            for x in range(tile.xs.size):
                points[x, 0], points[x, 1], points[x, 2] = tile.zs[z], row_y, tile.xs[x] + tile.shifts[1, z]
                points[x, 3] = 1.0
            bend_row(tile.waves, (tile.zs[z], row_y), tables, points)
            corners(points, low, high)
            seeds = near_seeds[: deciding_seeds(tile.seeds, low, high, near_seeds)]
            nuclei = meeting(blobs[0].low, blobs[0].high, (low, high), chosen[0], near[0])
            nucleoli = meeting(blobs[1].low, blobs[1].high, (low, high), chosen[1], near[1])
            sausages = meeting(chains.low, chains.high, (low, high), chosen[2], near[2])
            for x in range(tile.xs.size):
                best, behind, closest = cell_at(points[x], tile.seeds, (tile.gaps, tile.inverse), seeds, squared)
                if behind > 0:
                    out[0, z, y, x] = tile.ids[best]
                depth[x] = min(behind, closest)
            row = out[:, z, y, :]
            label_blobs(points, depth, blobs[0], nuclei, row[0], row[1])
            if nucleoli.size > 0:
                label_blobs(points, depth, blobs[1], nucleoli, row[0], row[2])
                for x in range(tile.xs.size):
                    if row[1, x] == 0:
                        row[2, x] = 0
            label_chains(points, depth, chains, sausages, row)


@compiled
def corners(points: Floats, low: Floats, high: Floats) -> None:
    """Write the corners of the box around some points."""
    for axis in range(3):
        low[axis] = high[axis] = points[0, axis]
        for n in range(points.shape[0]):
            low[axis] = min(low[axis], points[n, axis])
            high[axis] = max(high[axis], points[n, axis])


@compiled
def meeting(low: Floats, high: Floats, box: tuple[Floats, Floats], chosen: Ints, near: Ints) -> Ints:
    """Return those of the chosen objects (bounds low to high) that meet a box; `near` is their storage."""
    count = 0
    for n in chosen:
        meets = True
        for axis in range(3):
            meets = meets and low[n, axis] <= box[1][axis] and high[n, axis] >= box[0][axis]
        if meets:
            near[count] = n
            count += 1
    return near[:count]


@compiled
def label_blobs(points: Floats, depth: Floats, blobs: Blobs, chosen: Ints, cells: Labels, out: Labels) -> None:
    """Label the voxels of a row (points (x, 4), depth in their cell (x,), cell ids (x,)) that lie in chosen blobs."""
    for n in chosen:
        low, high, cell = blobs.low[n], blobs.high[n], blobs.cells[n]
        for x in range(points.shape[0]):
            if cells[x] != cell or depth[x] <= NUCLEUS_DEPTH_NM or not bounded(points[x], low, high):
                continue
            if blob_depth(points[x], blobs.centre[n], blobs.matrix[n], blobs.bumps[n], blobs.cuts[n]) > 0:
                out[x] = blobs.ids[n]


@compiled
def label_chains(points: Floats, depth: Floats, chains: Chains, chosen: Ints, row: Labels) -> None:
    """Label the voxels of a row that lie in chosen chains: filopodia between the cells, organelles in them."""
    for n in chosen:
        low, high, cell, kind = chains.low[n], chains.high[n], chains.cells[n], chains.kinds[n]
        spheres = chains.points[chains.starts[n] : chains.starts[n + 1]]
        for x in range(points.shape[0]):
            if not bounded(points[x], low, high):
                continue
            if kind == FILOPODIUM:
                if row[0, x] == 0 and in_chain(points[x], spheres):
                    row[0, x] = cell
            elif row[0, x] == cell and depth[x] > ORGANELLE_DEPTH_NM and free(row, x) and in_chain(points[x], spheres):
                row[kind + 1, x] = chains.ids[n]


@compiled
def free(row: Labels, x: int) -> bool:
    """Say whether no organelle has voxel `x` of a row (1 + classes, x) yet."""
    ids = np.uint32(0)
    for n in range(1, row.shape[0]):
        ids |= row[n, x]
    return bool(ids == 0)


@compiled
def bounded(point: Floats, low: Floats, high: Floats) -> bool:
    """Say whether a point lies between two corners."""
    inside = True
    for axis in range(3):
        inside = inside and low[axis] <= point[axis] <= high[axis]
    return inside


@compiled
def blob_depth(point: Floats, centre: Floats, matrix: Floats, bumps: Floats, cuts: Floats) -> float:
    """Return how deep a point lies under the surface of a blob, in its radii; negative outside and in its cuts."""
    z, y, x = point[0] - centre[0], point[1] - centre[1], point[2] - centre[2]
    a = matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 2] * x
    b = matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 2] * x
    c = matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 2] * x
    depth = 1 - math.sqrt(a * a + b * b + c * c)
    for n in range(bumps.shape[0]):
        angle = bumps[n, 0] * a + bumps[n, 1] * b + bumps[n, 2] * c + bumps[n, 3]
        depth += bumps[n, 4] * math.sin(angle)
    if depth < 0:
        return depth
    for n in range(cuts.shape[0]):
        z, y, x = point[0] - cuts[n, 0], point[1] - cuts[n, 1], point[2] - cuts[n, 2]
        total = 0.0
        for row in range(3, 12, 3):
            value = cuts[n, row] * z + cuts[n, row + 1] * y + cuts[n, row + 2] * x
            total += value * value
        depth = min(depth, math.sqrt(total) - 1)
    return depth


@compiled
def in_chain(point: Floats, spheres: Floats) -> bool:
    """Say whether a point lies in a chain: between two neighbouring spheres (n, 4), with the radius in between."""
    for m in range(spheres.shape[0] - 1):
        along = total = 0.0
        for axis in range(3):
            step = spheres[m + 1, axis] - spheres[m, axis]
            along += (point[axis] - spheres[m, axis]) * step
            total += step * step
        t = min(max(along / total, 0.0), 1.0)
        radius = spheres[m, 3] + t * (spheres[m + 1, 3] - spheres[m, 3])
        squared = 0.0
        for axis in range(3):
            offset = point[axis] - spheres[m, axis] - t * (spheres[m + 1, axis] - spheres[m, axis])
            squared += offset * offset
        if squared < radius * radius:
            return True
    return False
