"""Features of one object at a time: its crop is read, made coarser where it is too big, and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cristae.features.crops import Crop, fitted, halved, n_halvings
from cristae.features.registry import LoadedFeatures, measure_crop
from cristae.geometry import Box
from cristae.stages.measuring.sample import Layer, Sample, Walk

if TYPE_CHECKING:
    from cristae.stages.measuring.shapes import Sizes

_SLAB_VOXELS = 1 << 24
"""Voxels that are read at a time of an object that is too big for a crop."""


@dataclass(frozen=True)
class CropReader:
    """Reads crops of the objects of a layer.

    Parameters
    ----------
    layer
        Their ids.
    sample
        Voxel size and image.
    max_voxels
        A crop of at most so many voxels is left at its resolution.
    """

    layer: Layer
    sample: Sample
    max_voxels: int

    def read(self, sizes: Sizes, row: int) -> Crop:
        """Return the crop of an object: its bounding box, as `cristae.features.crops.fitted` would have it.

        What is made coarser is so slab by slab: the whole box is never in memory.
        """
        low, high = sizes.moments.low[row], sizes.moments.high[row] + 1
        box = Box((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))
        n = n_halvings(box.shape, self.max_voxels)
        factor = 2**n
        step = max(1, _SLAB_VOXELS // (box.shape[1] * box.shape[2] * factor)) * factor if n else box.shape[0]
        masks, images = [], []
        for z in range(box.start[0], box.stop[0], step):
            slab = Box((z, *box.start[1:]), (min(z + step, box.stop[0]), *box.stop[1:]))
            mask = self.layer.volume.read(slab) == sizes.ids[row]
            image = self.sample.image.read(slab) if self.sample.image else None
            for _ in range(n):
                mask, image = halved(mask, image)
            masks.append(mask)
            images.append(image)
        size = self.sample.grid.voxel_size
        voxel_size = (size[0] * factor, size[1] * factor, size[2] * factor)
        grey = None if self.sample.image is None else np.concatenate([one for one in images if one is not None])
        return Crop(np.concatenate(masks), grey, voxel_size, factor)


def measure_crops(
    reader: CropReader, sizes: Sizes, loaded: LoadedFeatures, walk: Walk
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the columns of features of crops, and what went wrong with which of them.

    Objects that are cut, of which no column means anything then, are passed over; their columns are NaN.
    """
    columns = [*loaded.definitions, "crop_factor"]
    values = np.full((len(sizes.ids), len(columns)), np.nan)
    whole = ~sizes.cut(reader.sample)
    todo = np.arange(len(whole)) if not all(loaded.meaningless_when_cut.values()) else np.flatnonzero(whole)
    problems: dict[str, str] = {}

    def work(row: int) -> tuple[int, Mapping[str, float], Mapping[str, str]]:
        crop = fitted(reader.read(sizes, row), reader.max_voxels)
        found, wrong = measure_crop(loaded.features, crop)
        return row, found, wrong

    largest = int(sizes.box_voxels[todo].max(initial=1))
    at_once = walk.crops_at_once(min(largest, reader.max_voxels))
    for done, (row, found, wrong) in enumerate(walk.crew.unordered(work, todo.tolist(), at_once), start=1):
        values[row] = [found[column] for column in columns]
        for name, sentence in wrong.items():
            problems.setdefault(name, f"{sentence} (object {sizes.ids[row]} of {reader.layer.name})")
        walk.meter.within(done, len(todo))
    return pd.DataFrame(values, columns=columns), problems
