"""Labelled slices on which nobody looked somewhere: the gaps on both sides have cells there, and one id for each.

::

    runs/cells-<id>/ends/3.npz      of gap 3: ``z12`` and ``z18`` (ids ``(y, x)``; 0 where somebody looked), ``new`` ids
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cristae.annotations import IGNORE_ID
from cristae.separation.across import Shared, one_id
from cristae.stages.gaps import GapSources

FOLDER = "ends"


@dataclass(frozen=True)
class GapEnds:
    """What gaps have on the labelled slices that they share with the next one, kept until all gaps are done.

    Parameters
    ----------
    folder
        Of the run.
    sources
        Labels.
    gaps
        First and last slice of every gap.
    """

    folder: Path
    sources: GapSources
    gaps: Sequence[tuple[int, int]]

    @cached_property
    def slices(self) -> tuple[int, ...]:
        """The z of all slices between two gaps on which nobody looked somewhere."""
        shared = [last for _, last in self.gaps[:-1]]
        return tuple(z for z in shared if not self.sources.seen(z).all())

    def open_part(self, z: int, labels: np.ndarray) -> np.ndarray:
        """Return the ids ``(y, x)`` of one of `slices` where nobody looked, 0 elsewhere."""
        return np.where(self.sources.seen(z), 0, labels)

    def keep(self, index: int, parts: Mapping[int, np.ndarray], new: Sequence[int]) -> None:
        """Keep what one gap has on its ends, and its new ids; nothing where `parts` is empty."""
        if not parts:
            return
        path = self._path(index)
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            arrays = {f"z{z}": part for z, part in parts.items()} | {"new": np.array(new, np.int64)}
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # stubs take no mapping of arrays
        partial.replace(path)

    def same(self, highest: int) -> dict[int, int]:
        """Return which new ids are to become which others; see `one_id`."""
        return one_id((self._shared(z) for z in self.slices), highest)

    def n_fewer(self, same: Mapping[int, int], highest: int) -> int:
        """Return how many fewer new objects there are when those that are the same are counted once."""
        indices = [index for index, ends in enumerate(self.gaps) if set(ends) & set(self.slices)]
        new = {int(one) for index in indices for one in self._read(index, "new")}
        return len(new) - len({one for one in (same.get(one, one) for one in new) if one > highest})

    def _shared(self, z: int) -> Shared:
        after = next(index for index, (first, _) in enumerate(self.gaps) if first == z)
        complete = z in self.sources.annotations.complete_slices(self.sources.name)
        ids = np.unique(self.sources.ids(z))
        whole = ids[(ids != 0) & (ids != IGNORE_ID) & (not complete)]
        return Shared(self._read(after - 1, f"z{z}"), self._read(after, f"z{z}"), whole)

    def _read(self, index: int, name: str) -> np.ndarray:
        with np.load(self._path(index), allow_pickle=False) as stored:
            return np.asarray(stored[name])

    def _path(self, index: int) -> Path:
        return self.folder / FOLDER / f"{index}.npz"
