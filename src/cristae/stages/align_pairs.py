"""Which slices are matched to which: slab by slab, with the last good slices of the slab before at hand."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from cristae.files import write_atomically
from cristae.geometry import Box
from cristae.io.ome_zarr import CHUNK
from cristae.preprocess.align import Match, Model, register, scaled
from cristae.preprocess.pyramid import Pyramid, build_pyramid, reduction
from cristae.project import Run
from cristae.stages.moving_labels import MATRIX
from cristae.stages.options import Options
from cristae.volume import Volume

_SLAB = CHUNK[0]
Row = tuple[int, int, list[float], float, float, float]


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
    progress = options.progress("match")
    lost, before = set(bad), deque[tuple[int, Pyramid]](maxlen=settings.neighbours)
    match = partial(_row, factor=reduction((raw.shape[1], raw.shape[2])), settings=settings)
    known = True  # whether `before` holds what is before the slab
    with ThreadPoolExecutor(options.crew(folder).n_here) as pool, ThreadPoolExecutor(1) as reader:
        todo = [z for z in slabs if not _file(folder, z).is_file()]
        ahead = reader.submit(_read, raw, todo[0]) if todo else None
        for number, first in enumerate(slabs, start=1):
            if first not in todo:
                known = False
                continue
            if not known:
                before.extend(_before(raw, first, lost, settings.neighbours))
                known = True
            assert ahead is not None
            slab = ahead.result()
            later = todo[todo.index(first) + 1 :]
            ahead = reader.submit(_read, raw, later[0]) if later else None
            good = [z for z in range(first, first + len(slab)) if z not in lost]
            pyramids = zip(good, pool.map(build_pyramid, [slab[z - first] for z in good]), strict=True)
            pairs: list[tuple[tuple[int, Pyramid], tuple[int, Pyramid]]] = []
            for one in pyramids:
                if one[1]:  # a blank slice is bridged
                    pairs += [(one, other) for other in reversed(before)]
                    before.append(one)
            rows = list(pool.map(match, pairs))
            write_atomically(_file(folder, first), json.dumps(rows))
            progress(number, len(slabs))
    return _table([row for first in slabs for row in json.loads(_file(folder, first).read_text())])


def _row(pair: tuple[tuple[int, Pyramid], tuple[int, Pyramid]], factor: int, settings: _Matching) -> Row:
    (moving, one), (fixed, other) = pair
    match: Match = scaled(
        register(one, other, settings.model, settings.samples, (settings.seed, moving, fixed)), factor
    )
    return moving, fixed, match.matrix.ravel().tolist(), match.before, match.after, match.sigma


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


def _before(raw: Volume, first: int, lost: set[int], wanted: int) -> Iterator[tuple[int, Pyramid]]:
    """Return the last good slices before a slab, in order: those that a killed run had at hand."""
    found: list[tuple[int, Pyramid]] = []
    for start in range(first - _SLAB, -1, -_SLAB):
        slab = _read(raw, start)
        for z in range(start + len(slab) - 1, start - 1, -1):
            if z not in lost and len(found) < wanted and (pyramid := build_pyramid(slab[z - start])):
                found.append((z, pyramid))
        if len(found) == wanted:
            break
    return reversed(found)


def _read(raw: Volume, first: int) -> np.ndarray:
    stop = min(first + _SLAB, raw.shape[0])
    return raw.read(Box((first, 0, 0), (stop, *raw.shape[1:])))


def _file(folder: Path, first: int) -> Path:
    return folder / f"{first}.json"
