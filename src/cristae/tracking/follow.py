"""Tracking from slices to slices: the two readings of the volume with the decision between them.

::

    labels[z] --> regions of each slice --> table of regions and overlaps --> object of every region
    labels[z] --------------------------------------------------------------> relabelled[z] --> written

Slices are read where they are needed and never held, so that memory does not grow with their number; several are
worked on at a time. Nothing that comes out depends on how many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from cristae.tracking.assign import assign
from cristae.tracking.greedy import greedy, greedy_nearest
from cristae.tracking.links import Tracks
from cristae.tracking.overlap import UNSEEN, SliceRegions, find_regions
from cristae.tracking.relabel import Relabeller
from cristae.tracking.shared import Shared, find_shared
from cristae.tracking.table import Rules, Slice, tabulate

Method = Literal["assign", "greedy", "greedy_nearest"]
Ordered = Callable[[Callable[[int], Any], Iterable[int]], Iterator[Any]]
"""Yields what a function returns of each slice in their order, as `map` does, however it is worked out."""
Progress = Callable[[int, int], None]
"""Called with the number of slices done, of both readings together, and their total."""


class Slices(Protocol):
    """Slices by number, such as an array (z, y, x); several threads may ask at once."""

    def __len__(self) -> int:
        """Return the number of slices."""
        ...

    def __getitem__(self, z: int, /) -> np.ndarray:
        """Return ids (y, x) of slice `z`; 0 is background."""
        ...


@dataclass(frozen=True)
class TrackSettings:
    """How to track.

    Parameters
    ----------
    method
        ``assign``: all links at once, surest first; ``greedy``: the rule of Machireddy et al. (2023) slice by slice;
        ``greedy_nearest``: that of the code released with it. See the modules of these names.
    smallest_body_px
        Smaller regions are islands, at least 1.
    island_id
        Id of islands that belong to no body: one for all slices, or one per slice, or ``highest`` of each; None for
        no such id.
    unassigned_id
        Id in labelled slices of islands of unknown cell, which are then tracked as if the slice did not know them;
        0 for none.
    unseen_id
        Id in labelled slices of pixels that nobody looked at: there the slice itself counts. None for none.
    bad_slices
        Slices to be bridged, besides empty ones. Their regions get the ids of their neighbours.
    longest_gap
        Slices that links may bridge, counted from region to region, at least 1.
    workers
        Slices worked on at a time, at least 1.
    """

    method: Method = "assign"
    smallest_body_px: int = 5000
    island_id: int | tuple[int, ...] | Literal["highest"] | None = None
    unassigned_id: int = 0
    unseen_id: int | None = None
    bad_slices: tuple[int, ...] = ()
    longest_gap: int = 16
    workers: int = 1


def follow(
    labels: Slices,
    write: Callable[[int, np.ndarray], None],
    anchors: Mapping[int, np.ndarray] | None = None,
    *,
    settings: TrackSettings | None = None,
    progress: Progress | None = None,
) -> Tracks:
    """Give every region of every slice one id per object, consistent through the volume.

    Parameters
    ----------
    labels
        Integer ids of each slice (y, x), at least 0, 0 for background; they mean nothing outside of their slice.
    write
        Called with z and the uint32 ids (y, x), in order of z.
    anchors
        By slice, ids (y, x) that an expert gave: they are the result there, and flow into the other slices. Other
        objects get new ids, above all of these. 0 is known background; see ``settings.unseen_id``.
    settings
        How to track.
    progress
        Called after each slice.

    Returns
    -------
    Tracks
        Object of every region, with tables of links, objects, and conflicts between labelled slices.

    Raises
    ------
    ValueError
        If a setting, an id or the number of a labelled or bad slice makes no sense, or slices differ in shape.
    """
    settings = settings or TrackSettings()
    total = 2 * len(labels)
    tracks = find_tracks(labels, anchors, settings=settings, progress=_shifted(progress, 0, total))
    second = _shifted(progress, len(labels), total)
    for z, plane in enumerate(relabelled(labels, tracks, anchors, settings=settings)):
        write(z, plane)
        if second:
            second(z + 1, len(labels))
    return tracks


def find_tracks(
    labels: Slices,
    anchors: Mapping[int, np.ndarray] | None = None,
    *,
    settings: TrackSettings | None = None,
    progress: Progress | None = None,
    ordered: Ordered | None = None,
) -> Tracks:
    """Read the slices once and decide which object every region belongs to.

    Parameters are as in `follow`; `ordered` takes the place of ``settings.workers`` threads.
    """
    settings = settings or TrackSettings()
    known = anchors or {}
    _check(settings, len(labels), known)
    load = _loader(labels, known, settings.unseen_id)
    nearest = _nearest(known, load) if settings.method == "greedy_nearest" else lambda z: None

    def read(z: int) -> Slice:
        regions = load(z)
        # The id of islands is one of the slice itself, and what was drawn over it may hide the highest.
        ids = np.asarray(labels[z]) if z in known and settings.island_id == "highest" else regions.source
        return Slice(regions, z in known, _island_id(settings, z, ids), nearest(z))

    def report() -> Iterator[Slice]:
        ahead = ordered or partial(_ahead, workers=settings.workers)
        for z, this in enumerate(ahead(read, range(len(labels)))):
            yield this
            if progress:
                progress(z + 1, len(labels))

    rules = Rules(
        settings.smallest_body_px, settings.longest_gap, frozenset(settings.bad_slices), settings.unassigned_id
    )
    regions = tabulate(report(), rules)
    solve = {"assign": assign, "greedy": greedy, "greedy_nearest": greedy_nearest}[settings.method]
    ids, state = solve(regions)
    shared = find_shared(regions, ids) if settings.method == "assign" else Shared.nothing()
    return Tracks(regions, ids, state, shared)


def relabelled(
    labels: Slices,
    tracks: Tracks,
    anchors: Mapping[int, np.ndarray] | None = None,
    *,
    settings: TrackSettings | None = None,
) -> Iterator[np.ndarray]:
    """Yield uint32 ids (y, x) of every slice in order of z, from the same slices that were tracked, with `settings`.

    Raises
    ------
    ValueError
        If the slices are others.
    """
    settings = settings or TrackSettings()
    draw = relabeller(labels, tracks, anchors, settings.unseen_id)
    yield from _ahead(draw, range(len(labels)), settings.workers)


def relabeller(
    labels: Slices, tracks: Tracks, anchors: Mapping[int, np.ndarray] | None = None, unseen_id: int | None = None
) -> Relabeller:
    """Return what draws uint32 ids (y, x) of slice z, in any order, from the same slices that were tracked.

    `unseen_id` is that of the settings they were tracked with.

    Raises
    ------
    ValueError
        If the slices are others.
    """
    if len(labels) != tracks.regions.n_slices:
        raise ValueError(f"tracked were {tracks.regions.n_slices} slices, got {len(labels)}")
    return Relabeller(tracks, _loader(labels, anchors or {}, unseen_id))


Result = TypeVar("Result")


def _ahead(function: Callable[[int], Result], slices: Iterable[int], workers: int) -> Iterator[Result]:
    """Yield what `function` returns of slices in their order, with `workers` of them worked on at a time."""
    if workers == 1:
        yield from map(function, slices)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Result]] = deque()
        for z in slices:
            if len(running) == workers:
                yield running.popleft().result()
            running.append(pool.submit(function, z))
        while running:
            yield running.popleft().result()


def _loader(labels: Slices, anchors: Mapping[int, np.ndarray], unseen_id: int | None) -> Callable[[int], SliceRegions]:
    """Return what finds the regions of slice z, in the labels of the expert where there are any."""

    def plane(z: int) -> np.ndarray:
        if z not in anchors:
            return np.asarray(labels[z])
        drawn = np.asarray(anchors[z])
        unseen = np.zeros(drawn.shape, bool) if unseen_id is None else drawn == unseen_id
        return _completed(drawn, unseen, np.asarray(labels[z])) if unseen.any() else drawn

    def load(z: int) -> SliceRegions:
        try:
            return find_regions(plane(z))
        except ValueError as error:
            raise ValueError(f"slice {z}: {error}") from error

    return load


def _completed(drawn: np.ndarray, unseen: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return what an expert drew, and what was found where that expert did not look, as ids from `UNSEEN` on."""
    if found.shape != drawn.shape:
        raise ValueError(f"labels of shape {drawn.shape} do not fit the slice, of shape {found.shape}")
    known, rest = drawn[~unseen], found[unseen]
    if max(known.max(initial=0), rest.max(initial=0)) >= UNSEEN:
        raise ValueError("ids of a slice that is labelled in part must lie below 2**62")
    completed = np.empty(drawn.shape, np.int64)
    completed[~unseen] = known
    completed[unseen] = np.where(rest > 0, rest.astype(np.int64) + UNSEEN, 0)
    return completed


def _nearest(
    anchors: Mapping[int, np.ndarray], load: Callable[[int], SliceRegions]
) -> Callable[[int], SliceRegions | None]:
    """Return what finds the regions of the labelled slice nearest to z, the earlier of two."""
    cached = lru_cache(maxsize=2)(load)
    slices = sorted(anchors)

    def nearest(z: int) -> SliceRegions | None:
        return cached(min(slices, key=lambda other: abs(other - z))) if slices else None

    return nearest


def _island_id(settings: TrackSettings, z: int, ids: np.ndarray) -> int:
    if settings.island_id == "highest":
        return int(ids.max(initial=0))
    if isinstance(settings.island_id, tuple):
        return settings.island_id[z]
    return settings.island_id or 0


def _check(settings: TrackSettings, n_slices: int, anchors: Mapping[int, np.ndarray]) -> None:
    for name in ("smallest_body_px", "longest_gap", "workers"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(settings, name)}")
    for name, slices in (("labelled", anchors), ("bad", settings.bad_slices)):
        outside = [z for z in slices if not 0 <= z < n_slices]
        if outside:
            raise ValueError(f"{name} slices must lie in 0..{n_slices - 1}, got {outside}")
    if isinstance(settings.island_id, tuple) and len(settings.island_id) != n_slices:
        raise ValueError(f"expected an island id for each of {n_slices} slices, got {len(settings.island_id)}")


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    return (lambda n, _: progress(done + n, total)) if progress else None
