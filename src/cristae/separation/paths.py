"""A gap between labelled slices by growth in 3D, at a resolution that fits in memory, and outlines at the full one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from cristae.separation.combine import SeparationSettings
from cristae.separation.gap import Gap
from cristae.separation.grow import grow, without_rim
from cristae.separation.watershed import flood

BYTES_PER_VOXEL = 40
"""What growing holds for each voxel at the resolution it works at, at its peak; half as much again of a noisy map."""


def reduction_for(gap: Gap, max_bytes: float) -> int:
    """Return the least whole number by which slices are to be reduced so that growing through a gap fits in memory."""
    factor = 1
    while len(gap) * np.prod([-(-n // factor) for n in gap.shape]) * BYTES_PER_VOXEL > max_bytes:
        factor += 1
    return factor


def grow_through(gap: Gap, settings: SeparationSettings) -> Iterator[np.ndarray]:
    """Yield the cells of a gap, slice by slice, grown from its labelled slices; see `cristae.separation.grow`.

    Parameters
    ----------
    gap
        Labelled slices and maps; the image is not used. There must be a boundary map.
    settings
        Growth (its steps are those of full resolution), the threshold of the interior, and the reduction.

    Yields
    ------
    integers (y, x)
        In the dtype of the gap, slice 0 first; 0 is outside the interior. Labelled slices come out as they went in,
        except that cells of the gap may come where nobody looked.

    Raises
    ------
    DataError
        If there is no boundary map, or maps differ in size.
    """
    growth, reduction, interior_threshold = settings.growth, settings.reduction, settings.interior_threshold
    known = _known_ids(gap)
    volumes = _reduced_gap(gap, known, interior_threshold, reduction)
    sides = (growth.steps[0], growth.steps[1] * reduction, growth.steps[2] * reduction)
    z, y, x = (side / min(sides) for side in sides)
    coarse = replace(growth, steps=(z, y, x), new_voxels=max(1, growth.new_voxels // reduction**2))
    grown = grow(volumes.seeds, volumes.boundary, volumes.allowed, coarse, known.size + 1, volumes.beside)
    names = _names(gap, known, int(grown.max(initial=0)))
    for z, plane in enumerate(grown):
        labels = plane if reduction == 1 else _full_size(plane, gap, z, settings)
        named = names[labels]
        for labelled, index, unseen in _ends(gap):
            if z == index:
                named = labelled if unseen is None else np.where(unseen & (labelled == 0), named, labelled)
                named = named.astype(gap.dtype)
        yield named


class _Volumes(NamedTuple):
    """What cells grow in: seeds, numbered from 1 in the order of their ids; and see `grow`."""

    seeds: np.ndarray
    boundary: np.ndarray
    allowed: np.ndarray
    beside: np.ndarray | None


def _reduced_gap(gap: Gap, known: np.ndarray, interior_threshold: int, reduction: int) -> _Volumes:
    height, width = (-(-n // reduction) for n in gap.shape)
    seeds = np.zeros((len(gap), height, width), np.int32)
    boundary = np.zeros(seeds.shape, np.uint8)
    allowed = np.zeros(seeds.shape, np.bool_)
    for z in range(len(gap)):
        boundary[z] = reduced(gap.boundary_at(z), reduction)
        allowed[z] = reduced(gap.interior_at(z), reduction) >= interior_threshold
    half = reduction // 2

    def sampled(plane: np.ndarray) -> np.ndarray:
        padded = np.pad(plane, [(0, -n % reduction) for n in gap.shape], mode="edge")
        return padded[half::reduction, half::reduction]

    beside = None if gap.seen or all(gap.complete) else np.zeros(seeds.shape, np.bool_)
    for labelled, z, unseen in _ends(gap):
        ids = sampled(labelled)
        seeds[z] = np.where(ids > 0, np.searchsorted(known, ids) + 1, 0)
        allowed[z] &= False if unseen is None else sampled(unseen)
        if beside is not None and not gap.complete[z > 0]:
            beside[z] = allowed[z] & (ids == 0)
        allowed[z] |= ids > 0
    return _Volumes(seeds, boundary, allowed, beside)


def _ends(gap: Gap) -> Iterator[tuple[np.ndarray, int, np.ndarray | None]]:
    """Yield the ids of each labelled slice, its number, and where nobody looked."""
    for labelled, index, unseen in zip((gap.before, gap.after), (0, len(gap) - 1), gap.unseen, strict=True):
        if labelled is not None:
            yield labelled, index, unseen


def _full_size(plane: np.ndarray, gap: Gap, z: int, settings: SeparationSettings) -> np.ndarray:
    """Return grown cells of one slice at full resolution, their outlines on the crest of its boundary map."""
    height, width = gap.shape
    reduction = settings.reduction
    large = plane.repeat(reduction, 0).repeat(reduction, 1)[:height, :width]
    inside, boundary = gap.interior_at(z) >= settings.interior_threshold, gap.boundary_at(z)[None]
    cells = np.where(inside, large, 0)[None]
    cores = without_rim(cells, reduction, (False, True, True), boundary, settings.growth.new_depth)
    return flood(boundary, cores, inside[None])[0]


def _known_ids(gap: Gap) -> np.ndarray:
    ids = [np.unique(labels) for labels in (gap.before, gap.after) if labels is not None]
    found = np.unique(np.concatenate([one.astype(gap.dtype) for one in ids]))
    return found[found > 0]


def _names(gap: Gap, known: np.ndarray, n_grown: int) -> np.ndarray:
    """Return the id of each number that growing used."""
    first = gap.new_ids_from(n_grown - known.size)
    new = np.arange(max(0, n_grown - known.size)).astype(gap.dtype) + np.asarray(first, gap.dtype)
    return np.concatenate([np.zeros(1, gap.dtype), known, new])


def reduced(plane: np.ndarray, factor: int) -> np.ndarray:
    """Return means over squares of `factor` pixels of a plane ``(y, x)``; what sticks out repeats the edge."""
    if factor == 1:
        return plane
    padded = np.pad(plane, [(0, -n % factor) for n in plane.shape], mode="edge")
    size = (padded.shape[1] // factor, padded.shape[0] // factor)
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
