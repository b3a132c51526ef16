"""Slices to leaf through: which of them, their pictures, and for each layer which object every pixel belongs to.

A page cannot hold a stack of gigabytes. It holds as many evenly spread slices as fit a number of bytes, reduced in
size, and says so. What lies on a slice is kept as runs of equal pixels, row after row, in numbers of one to five bytes
(seven bits each, the lowest first, the highest bit says that more follow)::

    pixels 0 0 0 7 7 0      values [0, 7]      runs (place in values, length): 0 3, 1 2, 0 1
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects

from cristae.annotations import IGNORE, IGNORE_ID, Annotations
from cristae.geometry import Box
from cristae.report.layers import Layer, read_plane
from cristae.report.overlays import grey_picture, true_size
from cristae.volume import Volume

MOST_BYTES = 12_000_000
"""Of all pictures and runs, before they are written as text, which takes a third more."""
MOST_SLICES = 256
LONGEST = 768
"""Pixels of the longer side of a slice, at most."""
MOST_LABELLED = 12
"""Labelled slices that are there in any case."""
FOUND, TRUTH, PAINTED = "found", "truth", "painted"
"""Kinds of what lies on a slice: objects shown, truth beside them, labels painted by people."""


@dataclass(frozen=True)
class Painted:
    """The labels of one class, and the slices that have some."""

    volume: Volume
    slices: frozenset[int]

    def plane(self, z: int) -> np.ndarray:
        """Return a slice ``(y, x)`` with 0 where nobody looked."""
        _, height, width = self.volume.shape
        found = self.volume.read(Box((z, 0, 0), (z + 1, height, width)))[0]
        unknown = IGNORE if found.dtype == np.uint8 else IGNORE_ID
        return np.where(found == unknown, 0, found)


def painted_on(labels: Annotations) -> dict[str, Painted]:
    """Return the labels of all classes."""
    return {name: Painted(labels.layer(name), frozenset(labels.labelled_slices(name))) for name in labels.classes}


@dataclass(frozen=True)
class Source:
    """What slices are made of.

    Parameters
    ----------
    image
        Levels of the micrograph, the finest first; none without it.
    layers
        Shown objects.
    truth, painted
        Labels beside them, by class.
    shape, voxel_size
        Of the finest level: voxels (z, y, x), and nm.
    """

    image: tuple[Volume, ...]
    layers: tuple[Layer, ...]
    truth: Mapping[str, Painted]
    painted: Mapping[str, Painted]
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a picture in pixels: in true proportions, never larger than the slice."""
        return true_size(self.shape[1:], (self.voxel_size[1], self.voxel_size[2]), LONGEST)


@dataclass(frozen=True)
class Sheet:
    """One slice as the page holds it.

    Parameters
    ----------
    z
        Of the volume.
    picture
        WebP as base64; empty without an image.
    overlays
        By kind and class: ``values`` (ids, of masks 1) and ``runs`` as base64.
    places
        By class and id: area and box (x0, y0, x1, y1) in pixels of the picture.
    """

    z: int
    picture: str
    overlays: Mapping[str, Mapping[str, Mapping[str, Any]]]
    places: Mapping[str, Mapping[int, tuple[int, tuple[int, int, int, int]]]] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """Letters in the page."""
        maps = (one for of_kind in self.overlays.values() for one in of_kind.values())
        return len(self.picture) + sum(len(one["runs"]) + 9 * len(one["values"]) for one in maps)


def choose(depth: int, n: int, wanted: Sequence[int], without: Sequence[int]) -> list[int]:
    """Return about `n` evenly spread slices, the first and the last among them, and those wanted.

    Parameters
    ----------
    depth
        Number of slices of the volume.
    n
        How many evenly spread ones, at least 1.
    wanted
        Slices to show besides.
    without
        Slices that have no image and are passed over, unless there are no others.
    """
    there = np.setdiff1d(np.arange(depth), np.asarray(without, int))
    there = there if len(there) else np.arange(depth)
    spread = there[np.unique(np.rint(np.linspace(0, len(there) - 1, min(n, len(there)))).astype(int))]
    return np.union1d(spread, np.intersect1d(there, np.asarray(wanted, int))).astype(int).tolist()


def make_sheets(source: Source, wanted: Sequence[int], without: Sequence[int], most_bytes: int) -> Iterator[Sheet]:
    """Yield as many slices as fit `most_bytes`, by rising z; three are made first to see what one takes."""
    depth = source.shape[0]
    tried = {z: make_sheet(source, z) for z in choose(depth, 3, (), without)}
    each = max(1.0, float(np.mean([one.n_bytes for one in tried.values()])) * 3 / 4)
    n = int(min(MOST_SLICES, max(3, most_bytes / each)))
    for z in choose(depth, n, wanted, without):
        yield tried.get(z) or make_sheet(source, z)


def make_sheet(source: Source, z: int) -> Sheet:
    """Make one slice: picture, runs of every layer, and where its objects are."""
    size = source.size
    grey = read_plane(source.image, z, max(size)) if source.image else None
    overlays: dict[str, dict[str, dict[str, Any]]] = {FOUND: {}, TRUTH: {}, PAINTED: {}}
    places: dict[str, dict[int, tuple[int, tuple[int, int, int, int]]]] = {}
    for layer in source.layers:
        ids = reduce_ids(layer.plane(z, max(size)), size)
        ids = ids if layer.has_ids else (ids != 0).astype(np.uint8)
        overlays[FOUND][layer.name] = encode(ids)
        if layer.has_ids:
            places[layer.name] = where(ids)
    for kind, labels in ((TRUTH, source.truth), (PAINTED, source.painted)):
        for name, one in labels.items():
            if z in one.slices:
                overlays[kind][name] = encode(reduce_ids(one.plane(z), size))
    return Sheet(z, "" if grey is None else _webp(grey_picture(grey, size)), overlays, places)


def encode(ids: np.ndarray) -> dict[str, Any]:
    """Return ids ``(y, x)`` as ``values`` and ``runs``; see the top of this module."""
    flat = ids.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]) if flat.size else np.zeros(0, int)
    values, place = np.unique(flat[starts], return_inverse=True)
    lengths = np.diff(np.append(starts, flat.size))
    runs = varints(np.stack([place.ravel(), lengths], axis=1).ravel())
    return {"values": values.tolist(), "runs": base64.b64encode(runs).decode("ascii")}


def varints(numbers: np.ndarray) -> bytes:
    """Write whole numbers below 2³⁵ in one to five bytes each, seven bits to a byte, the lowest first."""
    parts = np.asarray(numbers, np.uint64)[:, None] >> (np.arange(5, dtype=np.uint64) * np.uint64(7))
    more = np.concatenate([parts[:, 1:] != 0, np.zeros((len(parts), 1), np.bool_)], axis=1)
    content = (parts & np.uint64(127)).astype(np.uint8) | (more.astype(np.uint8) << 7)
    kept = np.concatenate([np.ones((len(parts), 1), np.bool_), more[:, :-1]], axis=1)
    return content[kept].tobytes()


def where(ids: np.ndarray) -> dict[int, tuple[int, tuple[int, int, int, int]]]:
    """Return area and box (x0, y0, x1, y1), in pixels, of every object on a slice ``(y, x)``."""
    names, place = np.unique(ids, return_inverse=True)
    place = place.reshape(ids.shape)
    areas = np.bincount(place.ravel(), minlength=len(names))
    found = {}
    for name, area, box in zip(names.tolist(), areas.tolist(), find_objects(place + 1), strict=True):
        if name and box is not None:
            found[name] = area, (box[1].start, box[0].start, box[1].stop, box[0].stop)
    return found


def reduce_ids(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return ids ``(y, x)`` at a size (width, height): each pixel the id in its middle."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * of / n).astype(int), of - 1)
        for n, of in zip(size[::-1], ids.shape, strict=True)
    )
    return ids[np.ix_(rows, columns)]


def _webp(grey: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "WEBP", quality=62, method=2)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
