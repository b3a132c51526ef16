"""New ids: numbers that no object of a layer has or had.

The highest id that a layer came with is noted beside its corrections, ``highest.json``; those given since are in the
journal. Where it is not noted, the layer is read once for it, file by file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from cristae.corrections.store import Corrections
from cristae.files import writable, write_atomically
from cristae.geometry import Box, blocks
from cristae.io.ome_zarr import shard_shape
from cristae.volume import Volume


def highest_id(
    volume: Volume, slices: Sequence[int] | None = None, progress: Callable[[int, int], object] | None = None
) -> int:
    """Return the highest id of a layer, reading it once.

    Parameters
    ----------
    volume
        The layer.
    slices
        Slices that can hold ids; all by default.
    progress
        Told how much of how much was read; what it raises ends the reading.
    """
    _, height, width = volume.shape
    if slices is None:
        shard = shard_shape(volume)
        todo = [one.write for one in blocks(volume.grid.box, shard if shard != (1, 1, 1) else (1, height, width))]
    else:
        todo = [Box((at, 0, 0), (at + 1, height, width)) for at in slices]
    highest = 0
    for done, box in enumerate(todo, start=1):
        highest = max(highest, int(volume.read(box).max(initial=0)))
        if progress is not None:
            progress(done, len(todo))
    return highest


def known_highest(corrections: Corrections) -> int | None:
    """Return the highest id that the layer came with; None where nobody has looked yet."""
    try:
        return int(json.loads((corrections.folder / "highest.json").read_text())["highest_id"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def note_highest(corrections: Corrections, highest: int) -> None:
    """Note the highest id that the layer came with."""
    with writable(corrections.folder):
        write_atomically(corrections.folder / "highest.json", json.dumps({"highest_id": highest}) + "\n")


def new_ids(corrections: Corrections, n: int, slices: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return ids that no object of a layer has or had; where they are not known, the layer is read once for that.

    Parameters
    ----------
    corrections
        The layer, open for corrections.
    n
        How many.
    slices
        As in `highest_id`.

    Raises
    ------
    UsageError
        If there is no number left.
    """
    highest = known_highest(corrections)
    if highest is None:
        highest = highest_id(corrections.original, slices)
        note_highest(corrections, highest)
    highest = max([highest, *(one for entry in corrections.entries for one in entry.ids)])
    return tuple(corrections.check_label(highest + 1 + i) for i in range(n))
