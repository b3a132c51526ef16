"""Numbers of every slice, read from disk slab by slab and kept there, so that a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cristae.geometry import Box
from cristae.io.ome_zarr import CHUNK
from cristae.stages.options import Options
from cristae.volume import Volume

SLAB_BYTES = 2**27
"""Read at once of each layer, or one slice of it."""

Measure = Callable[[range], Mapping[str, np.ndarray]]
"""Returns arrays whose first axis are the slices of a range."""


_HELD = 16
"""Times a slab of bytes that measuring it may hold, in numbers of four bytes and copies of them."""


def slab_thickness(volume: Volume, max_ram_gb: float | None = None) -> int:
    """Return how many slices to read at a time, within a limit of memory in GB of 2³⁰ bytes; one at least."""
    _, height, width = volume.shape
    allowed = SLAB_BYTES if max_ram_gb is None else min(SLAB_BYTES, int(max_ram_gb * 2**30 / _HELD))
    return max(1, min(CHUNK[0], allowed // max(1, height * width * volume.dtype.itemsize)))


def read_slab(volume: Volume, slices: range) -> np.ndarray:
    """Return some consecutive slices ``(z, y, x)``."""
    _, height, width = volume.shape
    return volume.read(Box((slices.start, 0, 0), (slices.stop, height, width)))


def measure_slices(
    measure: Measure, volume: Volume, folder: Path, task: str, options: Options
) -> dict[str, np.ndarray]:
    """Return what is measured of all slices; slabs that are on disk are not measured again.

    Parameters
    ----------
    measure
        Of a slab; may be called by another thread or process.
    volume
        Tells how many slices there are, and how thick slabs are.
    folder
        Where slabs are kept; of this measure alone.
    task
        Name of the work for the progress bar.
    options
        How to work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    depth, thickness = volume.shape[0], slab_thickness(volume, options.max_ram_gb)
    slabs = {start: folder / f"{start}-{thickness}.npz" for start in range(0, depth, thickness)}

    def work(start: int) -> None:
        found = measure(range(start, min(start + thickness, depth)))
        partial = slabs[start].with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **found)  # type: ignore[arg-type]  # stubs take no mapping of arrays
        partial.replace(slabs[start])

    missing = [start for start, path in slabs.items() if not path.is_file()]
    progress = options.progress(task)
    ended = options.crew(folder).unordered(work, missing)
    for done, _ in enumerate(ended, start=len(slabs) - len(missing) + 1):
        progress(done, len(slabs))
    parts = []
    for path in slabs.values():
        with np.load(path, allow_pickle=False) as stored:
            parts.append(dict(stored))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
