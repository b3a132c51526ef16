"""What trials of a study found beside what is true, at a coarse resolution, so that no network is kept for a picture.

::

    trial-<id>/shapes.npz    per class: every so manieth scored slice, both reduced in the plane

Slices that a training was shown are not scored; between their neighbours both are interpolated alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cristae.geometry import Grid
from cristae.stages.score_masks import Pair

MOST_PX = 160
"""Of the longer side of a slice that is kept."""
FILE = "shapes.npz"
_LEAST = 0.5
"""Part of the depth that must be scored: less is no picture of the volume."""


@dataclass(frozen=True)
class Shape:
    """What was found of a class, and what is true of it.

    Parameters
    ----------
    name
        Of the class, or of the interior of its instances.
    values
        uint8 ``(2, z, y, x)``, 255 inside: what was found, and the truth.
    step_nm
        From one value to the next, along z, y and x.
    """

    name: str
    values: np.ndarray
    step_nm: tuple[float, float, float]


def keep_shapes(path: Path, pairs: Sequence[Pair], grid: Grid) -> None:
    """Write the masks that a trial is scored on at a coarse resolution; boundaries between instances are left out."""
    factor = -(-max(grid.shape[1:]) // MOST_PX)
    thin = max(1, round(factor * min(grid.voxel_size[1:]) / grid.voxel_size[0]))
    size = max(1, grid.shape[2] // factor), max(1, grid.shape[1] // factor)
    kept: dict[str, dict[int, np.ndarray]] = {}
    for name, z, mask, truth in pairs:
        of_class = kept.setdefault(name, {})
        if z // thin not in of_class:
            both = (mask & (truth <= 1), truth == 1)
            reduced = [cv2.resize(one.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) for one in both]
            of_class[z // thin] = np.stack(reduced)
    names = [name for name in kept if not name.endswith("_boundary")]
    step = (thin * grid.voxel_size[0], *(grid.voxel_size[i] * grid.shape[i] / size[2 - i] for i in (1, 2)))
    arrays = {"names": np.array(names), "depth": np.array(-(-grid.shape[0] // thin)), "step_nm": np.array(step)}
    for i, name in enumerate(names):
        places = sorted(kept[name])
        arrays |= {f"places_{i}": np.array(places), f"values_{i}": np.stack([kept[name][z] for z in places])}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def read_shapes(path: Path) -> list[Shape]:
    """Return what `keep_shapes` wrote, of the classes of which most slices were scored; of none where nothing was."""
    if not path.is_file():
        return []
    found = []
    with np.load(path, allow_pickle=False) as stored:
        depth = int(stored["depth"])
        z, y, x = stored["step_nm"].tolist()
        for i, name in enumerate(stored["names"].tolist()):
            places, values = stored[f"places_{i}"], stored[f"values_{i}"]
            if len(places) >= _LEAST * depth:
                found.append(Shape(str(name), _filled(places, values, depth), (z, y, x)))
    return found


def _filled(places: np.ndarray, values: np.ndarray, depth: int) -> np.ndarray:
    """Return values ``(n, 2, y, x)`` at `places` along z as uint8 ``(2, depth, y, x)``, those between interpolated."""
    filled = np.empty((depth, *values.shape[1:]), np.uint8)
    for z in range(depth):
        after = min(int(np.searchsorted(places, z)), len(places) - 1)
        before = after if places[after] <= z else max(0, after - 1)
        apart = max(1, int(places[after] - places[before]))
        share = min(max((z - int(places[before])) / apart, 0.0), 1.0)
        filled[z] = np.rint(values[before] * (1 - share) + values[after] * share)
    return filled.swapaxes(0, 1)
