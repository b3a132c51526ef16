"""Targets: what a network is to answer, and how that is made from labels.

A class of masks is one output map. A class of instances, such as cells, is two: its interior and its boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cristae.annotations import IGNORE_ID, Annotations
from cristae.separation.maps import boundary_map, interior_map

Part = Literal["mask", "interior", "boundary"]


@dataclass(frozen=True)
class Target:
    """One output map of a network.

    Parameters
    ----------
    layer
        Class whose labels it is made from.
    part
        The mask itself, or the interior or boundary of instances.
    width
        Of the boundary in voxels of the image.
    """

    layer: str
    part: Part
    width: float = 0.0

    @property
    def name(self) -> str:
        """Name of the map: the class, with the part where it is not the mask itself."""
        return self.layer if self.part == "mask" else f"{self.layer}_{self.part}"

    def read(self, annotations: Annotations, z: int) -> np.ndarray:
        """Return the labels of one slice: uint8 ``(y, x)`` of 1, 0 and `IGNORE`."""
        if self.part == "mask":
            return annotations.read_slice(self.layer, z)
        ids = annotations.read_ids(self.layer, z)
        if self.part == "interior":
            return interior_map(ids, IGNORE_ID)
        return boundary_map(ids, self.width, IGNORE_ID, z in annotations.complete_slices(self.layer))


def targets_of(annotations: Annotations, classes: Sequence[str], boundary_nm: float) -> tuple[Target, ...]:
    """Return the output maps for some classes, in their order; boundaries of instances are `boundary_nm` wide."""
    width = boundary_nm / min(annotations.grid.voxel_size[1:])
    found: list[Target] = []
    for name in classes:
        if annotations.has_instances(name):
            found += [Target(name, "interior"), Target(name, "boundary", width)]
        else:
            found.append(Target(name, "mask"))
    return tuple(found)
