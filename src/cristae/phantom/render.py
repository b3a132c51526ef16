"""Labels to micrograph: paint every compartment, blur like a beam, expose like a detector.

Works from labels alone, a phantom's or real ones. Every step is local, so a box rendered with a margin of
`RENDER_HALO` voxels of labels around it equals the same part of the whole picture, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from cristae.geometry import Box, blocks
from cristae.phantom.artefacts import Amplitudes, expose
from cristae.phantom.cells import Floats, merge
from cristae.phantom.hashing import compiled
from cristae.phantom.raster import labels as scene_labels
from cristae.phantom.scene import Scene, drift, scene_key
from cristae.phantom.settings import CLASSES, RENDER_HALO, PhantomSettings
from cristae.phantom.texture import CYTOPLASM, NUCLEOLUS, NUCLEUS, RESIN, Near, Sharp, paint

SOFTENING_NM = 20.0
SOFTENING_VOXELS = 3.4
BEAM_VOXELS = 0.72
BEAM_HALO = (0, 3, 3)
_MARGIN = tuple(slice(wide - thin, thin - wide) for wide, thin in zip(RENDER_HALO, BEAM_HALO, strict=True))
TILE = (32, 128, 256)

LabelArray = NDArray[np.integer[Any]]
Picture = NDArray[np.uint8]
Soft = NDArray[np.float32]


def render(labels: Mapping[str, LabelArray], box: Box, settings: PhantomSettings) -> Picture:
    """Make a micrograph of label volumes.

    Parameters
    ----------
    labels : mapping of str to integer (z, y, x)
        ``"cell"`` and any of `CLASSES`, all of the box's shape: instance ids (or 0 and 1), 0 is background. Absent
        classes do not show; without ``"cell"`` everything is taken to lie within one cell.
    box : Box
        Where the arrays lie in the volume, z y x in voxels: textures and artefacts follow the place.
    settings : PhantomSettings
        Voxel size, seed and artefacts; its shape does not matter.

    Returns
    -------
    uint8 (z, y, x)
        The picture of the box; 0 in missing slices. Voxels nearer than `RENDER_HALO` to a side see the labels
        there continued outwards.

    Raises
    ------
    ValueError
        If a class is unknown, there is none at all, or a shape is not the box's.
    """
    _check(labels, box)
    out = np.empty(box.shape, dtype=np.uint8)
    for block in blocks(box, TILE):
        tile = block.write
        around = {name: _padded(array, tile.within(box)) for name, array in labels.items()}
        out[tile.within(box).slices] = _render_tile(around, tile, settings)
    return out


def image(scene: Scene, box: Box) -> Picture:
    """Make the micrograph of a box of the phantom: uint8 (z, y, x), 0 in missing slices.

    Equals `render` of the labels of the box grown by `RENDER_HALO`, cropped to the box; the tissue goes on beyond the
    volume, so the volume's sides are no special case.
    """
    grown = box.grow(RENDER_HALO)
    return render(scene_labels(scene, grown), grown, scene.settings)[box.within(grown).slices]


def _check(labels: Mapping[str, LabelArray], box: Box) -> None:
    unknown = sorted(set(labels) - {"cell", *CLASSES})
    if unknown or not labels:
        raise ValueError(f"expected labels of 'cell' and {CLASSES}, got {unknown or 'none'}; rename or drop them")
    for name, array in labels.items():
        if array.shape != box.shape:
            raise ValueError(f"expected {name} labels of the box's shape {box.shape}, got {array.shape}; cut them")


def _padded(array: LabelArray, part: Box) -> LabelArray:
    """Cut a part with `RENDER_HALO` around it, continuing the outermost voxels beyond the array."""
    wanted = part.grow(RENDER_HALO)
    index = np.ix_(
        *(np.clip(np.arange(a, b), 0, n - 1) for a, b, n in zip(wanted.start, wanted.stop, array.shape, strict=True))
    )
    return np.ascontiguousarray(array[index])


def _render_tile(labels: Mapping[str, LabelArray], tile: Box, settings: PhantomSettings) -> Picture:
    key, grown = scene_key(settings.seed), tile.grow(RENDER_HALO)
    codes, owners = compartments(labels, grown.shape)
    near = Near(
        _lines(labels.get("cell"), (codes, owners), key, settings.voxel_size),
        *(
            _soft_mask(labels.get(name), grown.shape, settings.voxel_size)
            for name in ("nucleus", "nucleolus", "mitochondrion", "endosome", "lysosome")
        ),
    )
    positions = _positions(tile.grow(BEAM_HALO), settings)
    codes, owners = np.ascontiguousarray(codes[_MARGIN]), np.ascontiguousarray(owners[_MARGIN])
    clean = paint(key, codes, owners, near, positions, _sharp(settings.voxel_size))
    beam = gaussian_weights(BEAM_VOXELS, BEAM_HALO[1])
    for axis in (1, 2):
        clean = correlate1d(clean, beam, axis=axis, mode="nearest", output=np.float32)
    strength = Amplitudes(settings.noise, settings.brightness_jump, settings.curtaining, settings.charging)
    lost = np.array(settings.missing_slices, dtype=np.int64)
    return expose(
        key,
        np.ascontiguousarray(clean[:, BEAM_HALO[1] : -BEAM_HALO[1], BEAM_HALO[2] : -BEAM_HALO[2]]),
        tile.start,
        lost,
        strength,
    )


def compartments(
    labels: Mapping[str, LabelArray], shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Fold label volumes into one: compartment codes (uint8, 0 resin) and owner ids (int64, cell or organelle)."""
    if "cell" in labels:
        owners = labels["cell"].astype(np.int64)
        codes = np.where(owners > 0, np.uint8(CYTOPLASM), np.uint8(RESIN))
    else:
        owners, codes = np.ones(shape, dtype=np.int64), np.full(shape, CYTOPLASM, dtype=np.uint8)
    for code, name in enumerate(CLASSES, start=NUCLEUS):
        if name in labels:
            inside = labels[name] > 0
            codes[inside] = code
            owners[inside] = labels[name][inside]
    return codes, owners


def _positions(box: Box, settings: PhantomSettings) -> tuple[Floats, Floats, Floats, Floats]:
    zs, ys, xs = (
        (np.arange(a, b, dtype=np.float64) + 0.5) * size
        for a, b, size in zip(box.start, box.stop, settings.voxel_size, strict=True)
    )
    slices = np.arange(box.start[0], box.stop[0], dtype=np.float64)
    shifts: Floats = -drift(settings, slices) * np.array(settings.voxel_size)[1:, None]
    return zs, ys, xs, shifts


def _sharp(voxel_size: tuple[float, float, float]) -> Sharp:
    coarsest = max(voxel_size[1:])
    return Sharp(*(min(1.0, scale / (2.4 * coarsest)) for scale in (21.0, 50.0, 120.0)))


def gaussian_weights(sigma: float, radius: int) -> NDArray[np.float64]:
    """Return the weights of a Gaussian of standard deviation `sigma` (voxels), cut at `radius`; they sum to 1."""
    weights = np.array([math.exp(-0.5 * (n / sigma) ** 2) for n in range(-radius, radius + 1)])
    return weights / weights.sum()


def _blurred(array: Soft, sigmas: tuple[float, ...]) -> Soft:
    """Blur an array that has `RENDER_HALO` around it, along z, y, x (voxels), and leave `BEAM_HALO` around it."""
    for axis, sigma in enumerate(sigmas):
        weights = gaussian_weights(sigma, math.ceil(2.3 * sigma))
        array = correlate1d(array, weights, axis=axis, mode="nearest", output=np.float32)
        array = array[(slice(None),) * axis + (_MARGIN[axis],)]
    return np.ascontiguousarray(array)


def _soft_mask(array: LabelArray | None, shape: tuple[int, int, int], voxel_size: tuple[float, float, float]) -> Soft:
    """Blur the mask of a class over `SOFTENING_NM`."""
    if array is None or not array.any():
        return np.zeros(shape, dtype=np.float32)[_MARGIN].copy()
    sigmas = tuple(min(max(SOFTENING_NM / size, 0.45), SOFTENING_VOXELS) for size in voxel_size)
    return _blurred((array > 0).astype(np.float32), sigmas)


def _lines(
    cells: LabelArray | None,
    objects: tuple[NDArray[np.uint8], NDArray[np.int64]],
    key: int,
    voxel_size: tuple[float, float, float],
) -> Soft:
    """Return where membranes lie that part cells or touching organelles (codes and owners): about 1 on them, 0 off."""
    codes, owners = objects
    edges = np.zeros(codes.shape, dtype=np.float32)
    if cells is not None:
        edges = cell_edges(cells.astype(np.int64), key, min(1.0, 8.0 / voxel_size[0]))
    mark_seams(codes, owners, edges)
    return _blurred(edges, (0.5, 0.7, 0.7))


@compiled
def cell_edges(cells: NDArray[np.int64], key: int, across: float) -> Soft:
    """Mark both voxels of every pair of neighbours in different cells, or in and out of one, unless they merge.

    Pairs along z count `across`. Returns float32 (z, y, x), 0 off the edges and 1 on them.
    """
    edges = np.zeros(cells.shape, dtype=np.float32)
    depth, height, width = cells.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if x + 1 < width and visible(key, cells[z, y, x], cells[z, y, x + 1]):
                    edges[z, y, x] = edges[z, y, x + 1] = 1.0
                if y + 1 < height and visible(key, cells[z, y, x], cells[z, y + 1, x]):
                    edges[z, y, x] = edges[z, y + 1, x] = 1.0
                if z + 1 < depth and visible(key, cells[z, y, x], cells[z + 1, y, x]):
                    edges[z, y, x] = max(edges[z, y, x], np.float32(across))
                    edges[z + 1, y, x] = max(edges[z + 1, y, x], np.float32(across))
    return edges


@compiled
def mark_seams(codes: NDArray[np.uint8], owners: NDArray[np.int64], edges: Soft) -> None:
    """Add to `edges` the voxels where, within a slice, two different organelles of one class touch."""
    depth, height, width = codes.shape
    for z in range(depth):
        for y in range(height - 1):
            for x in range(width - 1):
                code, owner = codes[z, y, x], owners[z, y, x]
                if code < NUCLEUS or code == NUCLEOLUS:
                    continue
                if codes[z, y, x + 1] == code and owners[z, y, x + 1] != owner:
                    edges[z, y, x] = edges[z, y, x + 1] = 1.0
                if codes[z, y + 1, x] == code and owners[z, y + 1, x] != owner:
                    edges[z, y, x] = edges[z, y + 1, x] = 1.0


@compiled
def visible(key: int, one: int, other: int) -> bool:
    """Say whether a membrane shows between neighbouring voxels of cells `one` and `other` (0 is outside)."""
    return one != other and (one == 0 or other == 0 or not merge(key, one, other))
