"""Which slices are matched to which: slab by slab, with the last good slices of the slab before at hand.

Where the stack falls apart, the slices that come next are matched over those that fit nothing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from cristae.files import write_atomically
from cristae.geometry import Box
from cristae.io.ome_zarr import CHUNK
from cristae.preprocess.align import Match, Model, register, scaled
from cristae.preprocess.pyramid import Pyramid, build_pyramid, reduction
from cristae.preprocess.trajectory import Pairs, parts_of
from cristae.project import Run
from cristae.stages.moving_labels import MATRIX
from cristae.stages.options import Options
from cristae.volume import Volume

_SLAB = CHUNK[0]
_REACH = 8
"""Slices before the beginning of a part of the stack in which one is looked for that it can be joined to."""
Row = tuple[int, int, list[float], float, float, float]
Known = tuple[int, Pyramid]
"""A slice, and what it is matched by."""


class _Matching(Protocol):
    """What of the settings decides how slices are matched."""

    @property
    def model(self) -> Model: ...
    @property
    def neighbours(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def seed(self) -> int: ...


def measure_pairs(raw: Volume, bad: Sequence[int], run: Run, settings: _Matching, options: Options) -> pd.DataFrame:
    """Match every good slice to the good ones before it; go on where a kill stopped it.

    Returns
    -------
    DataFrame
        A row per pair: ``moving``, ``fixed`` (z), the matrix in pixels counted from the centre of a slice (moving →
        fixed), ``correlation_before``, ``correlation_after``, ``sigma_px`` (infinite where nothing could be matched).
    """
    folder = run.path / ".pairs"
    folder.mkdir(exist_ok=True)
    slabs = range(0, raw.shape[0], _SLAB)
    matching = _Slabs(raw, frozenset(bad), settings, folder)
    todo = [first for first in slabs if not matching.file(first).is_file()]
    crew, progress = options.crew(folder), options.progress("match")
    finished = crew.unordered(matching, todo) if crew.kind == "dask" else matching.in_turn(todo, crew.n_here)
    for done, _ in enumerate(finished, start=len(slabs) - len(todo) + 1):
        progress(done, len(slabs))
    rows = [row for first in slabs for row in json.loads(matching.file(first).read_text())]
    rows += crew.unordered(matching.match_read, _between_parts(rows, raw.shape[0], settings.neighbours))
    return _table(sorted(rows, key=lambda row: (row[0], -row[1])))


@dataclass(frozen=True)
class _Slabs:
    """Matches the slices of a slab to one another and to those before, and notes what was found."""

    raw: Volume
    lost: frozenset[int]
    settings: _Matching
    folder: Path

    def file(self, first: int) -> Path:
        """Return where the matches of a slab are noted."""
        return self.folder / f"{first}.json"

    def __call__(self, first: int) -> int:
        """Work off one slab alone."""
        self._work_off(first, self._read(first), self._before(first), map)
        return first

    def in_turn(self, todo: Sequence[int], n_threads: int) -> Iterator[int]:
        """Work off slabs one after the other in this process, while the next one is read."""
        before, known = deque[Known](maxlen=self.settings.neighbours), -1  # the slab after those that `before` holds
        with ThreadPoolExecutor(n_threads) as pool, ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, todo[0]) if todo else None
            for first, later in zip(todo, [*todo[1:], None], strict=False):
                if known != first:
                    before.extend(self._before(first))
                assert ahead is not None
                slab = ahead.result()
                ahead = None if later is None else reader.submit(self._read, later)
                before.extend(self._work_off(first, slab, before, pool.map))
                known = first + _SLAB
                yield first

    def match_read(self, pair: tuple[int, int]) -> Row:
        """Match two slices that are read for that alone."""
        moving, fixed = ((z, build_pyramid(self._read(z, 1)[0])) for z in pair)
        return self._match((moving, fixed))

    def _work_off(
        self, first: int, slab: np.ndarray, before: Iterable[Known], each: Callable[..., Iterable[Any]]
    ) -> list[Known]:
        """Match and note a slab; return its slices that later ones can be matched to."""
        good = [z for z in range(first, first + len(slab)) if z not in self.lost]
        pyramids = each(build_pyramid, [slab[z - first] for z in good])
        known = [one for one in zip(good, pyramids, strict=True) if one[1]]  # a blank slice is bridged
        near, pairs = deque(before, maxlen=self.settings.neighbours), list[tuple[Known, Known]]()
        for one in known:
            pairs += [(one, other) for other in reversed(near)]
            near.append(one)
        write_atomically(self.file(first), json.dumps(list(each(self._match, pairs))))
        return known

    def _match(self, pair: tuple[Known, Known]) -> Row:
        (moving, one), (fixed, other) = pair
        how, factor = self.settings, reduction((self.raw.shape[1], self.raw.shape[2]))
        match: Match = scaled(register(one, other, how.model, how.samples, (how.seed, moving, fixed)), factor)
        return moving, fixed, match.matrix.ravel().tolist(), match.before, match.after, match.sigma

    def _before(self, first: int) -> Iterator[Known]:
        """Return the last good slices before a slab, in order."""
        found: list[Known] = []
        for start in range(first - _SLAB, -1, -_SLAB):
            slab = self._read(start)
            for z in range(start + len(slab) - 1, start - 1, -1):
                if z not in self.lost and len(found) < self.settings.neighbours:
                    found += [(z, pyramid)] if (pyramid := build_pyramid(slab[z - start])) else []
            if len(found) == self.settings.neighbours:
                break
        return reversed(found)

    def _read(self, first: int, n: int = _SLAB) -> np.ndarray:
        return self.raw.read(Box((first, 0, 0), (min(first + n, self.raw.shape[0]), *self.raw.shape[1:])))


def _between_parts(rows: Sequence[Row], n: int, neighbours: int) -> list[tuple[int, int]]:
    """Return what else is to be matched, moving and fixed: the beginning of each part to the parts before it."""
    parts = parts_of(n, pairs_of(_table(rows)))
    known, wanted = {(row[0], row[1]) for row in rows}, list[tuple[int, int]]()
    for part in range(parts.max(initial=0) + 1):
        for z in np.flatnonzero(parts == part)[:neighbours].tolist():
            before = np.arange(max(0, z - _REACH), z)
            for other in np.setdiff1d(parts[before], [part, -1]):
                wanted += [(z, fixed) for fixed in before[parts[before] == other][-neighbours:].tolist()]
    return [pair for pair in wanted if pair not in known]


def pairs_of(table: pd.DataFrame) -> Pairs:
    """Return the matches of a table as they are solved."""
    return Pairs(
        table["moving"].to_numpy(np.int64),
        table["fixed"].to_numpy(np.int64),
        table[list(MATRIX)].to_numpy(np.float64).reshape(-1, 2, 3),
        table["sigma_px"].to_numpy(np.float64),
    )


def _table(rows: Sequence[Row]) -> pd.DataFrame:
    flat = np.array([row[2] for row in rows], np.float64).reshape(-1, 6)
    columns: dict[str, Any] = {
        "moving": np.array([row[0] for row in rows], np.int64),
        "fixed": np.array([row[1] for row in rows], np.int64),
        **{name: flat[:, i] for i, name in enumerate(MATRIX)},
        "correlation_before": np.array([row[3] for row in rows], np.float64),
        "correlation_after": np.array([row[4] for row in rows], np.float64),
        "sigma_px": np.array([row[5] for row in rows], np.float64),
    }
    return pd.DataFrame(columns)
