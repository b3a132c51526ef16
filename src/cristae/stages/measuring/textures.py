"""Texture of the objects of a layer: co-occurrence, size zones, pattern spectrum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cristae.errors import DataError
from cristae.features.glcm import Aggregation, Cooccurrence, Pairing, add_pairs, cooccurrence_table, halo
from cristae.features.quantise import Quantisation, highest_level, quantise
from cristae.features.spectrum import Grains, SpectrumSums, add_spectrum, tabulate_spectrum
from cristae.features.zone_merge import ZoneMerge
from cristae.features.zone_parts import ZonePart, find_zones
from cristae.features.zones import zone_table
from cristae.geometry import Block, Voxels
from cristae.stages.measuring.sample import Layer, Sample, Walk, inner, rows_of
from cristae.stages.measuring.shapes import Sizes
from cristae.volume import Volume

LARGEST_MATRIX = 1024
"""Levels beyond which matrices of every object would fill any memory."""


@dataclass(frozen=True)
class Texture:
    """How texture is measured; see `cristae.features.glcm`, `zones` and `spectrum`."""

    quantisation: Quantisation
    distances: tuple[int, ...]
    aggregation: Aggregation
    literal: bool
    connectivity: int
    grains: Grains
    floor: str


@dataclass(frozen=True)
class Greys:
    """The objects of a layer with their grey values.

    Parameters
    ----------
    layer, sizes
        Objects and what is known of them.
    sample, image
        Where they lie, and the micrograph.
    """

    layer: Layer
    sizes: Sizes
    sample: Sample
    image: Volume

    @property
    def ranges(self) -> np.ndarray:
        """int64 ``(n, 2)``: smallest and largest grey value of every object; 0 where the image lacks all its slices."""
        assert self.sizes.moments.grey is not None
        return np.where(self.sizes.n_pictured[:, None] > 0, self.sizes.moments.grey[:, :2], 0)

    def read(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the objects that a block reads, and their numbers from 1 where the image has a slice."""
        ids, labels = self.layer.read(block.read)
        return rows_of(self.sizes.ids, ids), self.sample.pictured(labels, block.read)

    def levels(self, block: Block, quantisation: Quantisation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows of the objects that a block reads, their numbers from 1, and the levels of voxels."""
        rows, labels = self.read(block)
        low, high = self.ranges[rows].T
        return rows, labels, quantise(labels, self.image.read(block.read), low, high, quantisation)


def measure_pairs(greys: Greys, texture: Texture, walk: Walk) -> pd.DataFrame:
    """Return the columns of `cristae.features.glcm`.

    An object's matrices are dropped as soon as the last block that it reaches has come.
    """
    pairing = _pairing(greys, texture)
    around = halo(texture.distances)

    def work(block: Block) -> tuple[np.ndarray, Cooccurrence] | None:
        if not greys.sizes.meets(block.write):
            return None
        rows, labels, levels = greys.levels(block, texture.quantisation)
        return rows, add_pairs(labels, len(rows), inner(block), levels, pairing)

    last = walk.number_of(greys.sample.grid, around, greys.sizes.moments.high)
    order = np.argsort(last, kind="stable")
    waiting: dict[int, np.ndarray] = {}
    tables: list[pd.DataFrame] = []
    n_ended = 0
    found = walk.over(greys.sample.grid, around, work)
    for number, (rows, counted) in found:
        for row, pairs in zip(rows.tolist(), counted.pairs, strict=True):
            if row in waiting:
                waiting[row] += pairs
            elif pairs.any() or last[row] >= number:
                waiting[row] = pairs.astype(np.int64)
        n_now = int(np.searchsorted(last[order], number, side="right"))
        ended = [row for row in order[n_ended:n_now].tolist() if row in waiting]
        n_ended = n_now
        if ended:
            whole = Cooccurrence(np.stack([waiting.pop(row) for row in ended]), texture.distances)
            tables.append(cooccurrence_table(whole, texture.aggregation, texture.literal).set_axis(ended, axis=0))
    if not tables:
        empty = Cooccurrence(np.zeros((0, len(texture.distances), 13, 1, 1), np.int64), texture.distances)
        return cooccurrence_table(empty, texture.aggregation, texture.literal)
    return pd.concat(tables).reindex(range(len(greys.sizes.ids)))


def _pairing(greys: Greys, texture: Texture) -> Pairing:
    low, high = greys.ranges.T
    n_levels = max(1, _checked(lambda: highest_level(low, high, texture.quantisation)))
    if n_levels > LARGEST_MATRIX:
        raise DataError(
            f"{greys.layer.name} would have {n_levels} grey levels, and matrices as large; choose at most "
            f"{LARGEST_MATRIX}: fewer bins, or wider ones"
        )
    return Pairing(n_levels, texture.distances, texture.aggregation != "counts")


def _checked(work: Callable[[], int]) -> int:
    try:
        return work()
    except ValueError as error:
        raise DataError(f"the image cannot be divided into grey levels: {error}") from error


def measure_zones(greys: Greys, texture: Texture, walk: Walk) -> pd.DataFrame:
    """Return the columns of `cristae.features.zones`."""
    sizes, shape = greys.sizes, greys.sample.grid.shape

    def work(block: Block) -> ZonePart:
        if not sizes.meets(block.write):
            nothing = np.zeros(block.write.shape, np.uint8)
            labels, ids = nothing.astype(np.int32), np.zeros(0, np.int64)
            return find_zones(labels, ids, nothing, block.write.start, shape, texture.connectivity)
        rows, labels, levels = greys.levels(block, texture.quantisation)
        return find_zones(labels, rows, levels, block.write.start, shape, texture.connectivity)

    merge = ZoneMerge()
    for _, part in walk.over(greys.sample.grid, (0, 0, 0), work):
        merge.add(part)
    return zone_table(merge.result(), np.arange(len(sizes.ids)), texture.literal)


def measure_spectrum(greys: Greys, texture: Texture, walk: Walk) -> pd.DataFrame:
    """Return the columns of `cristae.features.spectrum`."""
    sizes, grains = greys.sizes, texture.grains
    levels = greys.ranges.copy()
    if texture.floor == "zero":
        levels[:, 0] = 0
    around: Voxels = grains.halo

    def work(block: Block) -> tuple[np.ndarray, SpectrumSums] | None:
        if not sizes.meets(block.write):
            return None
        rows, labels = greys.read(block)
        image = greys.image.read(block.read)
        return rows, add_spectrum(labels, len(rows), inner(block), image, levels[rows], grains)

    bright, dark = (np.zeros((len(sizes.ids), grains.radius + 1), np.int64) for _ in range(2))
    for _, (rows, sums) in walk.over(greys.sample.grid, around, work):
        bright[rows] += sums.bright
        dark[rows] += sums.dark
    return tabulate_spectrum(SpectrumSums(bright, dark))
