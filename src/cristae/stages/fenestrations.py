"""The holes of objects as objects of their own, for `cristae mesh` and `cristae render`: ``nucleolus_fenestrations``.

They have the ids of the objects they are holes of. What a hole is, is said in `cristae.features.fenestrations`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from cristae.costs.steps import Memory, Step
from cristae.errors import DataError
from cristae.features.fenestrations import find_fenestrations
from cristae.features.numbering import number_from_one
from cristae.geometry import Box, blocks
from cristae.io.ome_zarr import create_volume, open_volume
from cristae.stages.limits import within
from cristae.stages.options import Options
from cristae.volume import Volume

SUFFIX = "_fenestrations"
BYTES = 24
"""Per voxel of the box of an object: ids, mask, what is surrounded, and the parts in planes."""


def class_of(name: str) -> str:
    """Return the class whose holes have that name; the name itself of anything else."""
    return name.removesuffix(SUFFIX)


def classes_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the classes to be read for layers of these names, each once."""
    return tuple(dict.fromkeys(class_of(name) for name in names))


def names_of(asked: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """Return the layers that are asked for (all classes, without any): classes in the order of `there`, then holes."""
    return (*(one for one in there if not asked or one in asked), *(one for one in asked if one not in there))


def layers_of(names: Sequence[str], volumes: Mapping[str, Volume], folder: Path, options: Options) -> dict[str, Volume]:
    """Return the layers of these names: classes as they are, and the holes of classes, found now.

    Parameters
    ----------
    names
        Classes, and classes with ``_fenestrations``.
    volumes
        Ids of every class.
    folder
        In which holes are kept, as ``<name>.ome.zarr``.
    options
        Workers and progress.

    Raises
    ------
    DataError
        If there are negative ids.
    ResourceError
        If the box of the largest object needs more memory than allowed.
    """
    return {
        name: volumes[name] if name in volumes else _holes_of(name, volumes[class_of(name)], folder, options)
        for name in names
    }


def _holes_of(name: str, volume: Volume, folder: Path, options: Options) -> Volume:
    path = folder / f"{name}.ome.zarr"
    if path.is_dir():
        return open_volume(path)
    partial = folder / f".{name}.partial.ome.zarr"
    boxes = _boxes(class_of(name), volume)
    largest = max((box.n_voxels for box in boxes.values()), default=0)
    within("mesh", Memory((Step(f"holes of the largest {class_of(name)}", BYTES * float(largest)),)), (0.0, 1), options)
    shutil.rmtree(partial, ignore_errors=True)
    written = create_volume(partial, volume.grid, volume.dtype, "labels")
    progress = options.progress(f"holes of {class_of(name)}")
    for done, (number, box) in enumerate(boxes.items(), start=1):
        found = find_fenestrations(volume.read(box) == number)
        if found.any():
            there = written.read(box)
            there[found] = number
            written.write(box, there)
        progress(done, len(boxes))
    partial.rename(path)
    return open_volume(path)


def _boxes(name: str, volume: Volume) -> dict[int, Box]:
    """Return the box of every object, by rising id."""
    boxes: dict[int, Box] = {}
    for number, part in _parts(name, volume):
        whole = boxes.get(number, part)
        low = np.minimum(whole.start, part.start).tolist()
        high = np.maximum(whole.stop, part.stop).tolist()
        boxes[number] = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return dict(sorted(boxes.items()))


def _parts(name: str, volume: Volume) -> Iterator[tuple[int, Box]]:
    for block in blocks(volume.grid.box, (256, 256, 256), (0, 0, 0)):
        try:
            ids, labels = number_from_one(volume.read(block.write))
        except ValueError as error:
            raise DataError(f"objects of {name}: {error}") from error
        for number, part in zip(ids.tolist(), ndimage.find_objects(labels), strict=True):
            z, y, x = (
                (one.start + first, one.stop + first) for one, first in zip(part, block.write.start, strict=True)
            )
            yield number, Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))
