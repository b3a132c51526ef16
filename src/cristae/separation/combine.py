"""One slice: cells carried to it, and the network's maps of it, made into separate cells.

::

    interior mask ── cut along the network's boundary ──> parts
    carried cells ── on the parts ──> which cells a part holds
        no cell             a new object
        one cell            the part is that cell
        several             cut along the carried outlines, then flooded from a seed per cell
        island              the cell that covers most of it

Paper: A. Machireddy et al. (2023), Front. Bioinform. 3, 1308708, §3.3 and §5.5. The distances of 5 px and the 5,000 px
below which a part is an island are those of the code released with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cc3d
import numpy as np
from numba import njit

from cristae.errors import UsageError
from cristae.flow import PRESETS, FlowMethod
from cristae.separation.grow import Growth
from cristae.separation.outlines import depth_inside, inner_lines, outline, skeleton
from cristae.separation.runs import overlaps
from cristae.separation.seeds import central_pixels, deepest_pixels
from cristae.separation.watershed import flood, levels_of

_LEAST_ISLAND_PX = 12
"""Carried islands of fewer pixels are no seeds where they lie on other cells."""


@dataclass(frozen=True)
class SeparationSettings:
    """How cells are separated; all but the flow in pixels and shares.

    Parameters
    ----------
    interior_threshold, boundary_threshold
        Least value (1–255) of a map that counts as interior or boundary.
    edge_distance_px
        Lines that run within this distance of the edge of the interior are no cuts (the network's boundary, and
        carried outlines where they are selective): there, the network drew the edge already.
    smallest_body_px
        Connected parts below are islands: they are never cut, and go to the cell that covers most of them. 0: none.
    least_share
        A cell is seeded in a part if half of it lies there, or if it covers more of the part than other cells do, and
        at least this share of it (0–1). What else it covers it has only slipped onto.
    seeds
        ``depth``: the pixel farthest from the outline; ``centroid``: the paper's, moved inside.
    neighbours
        Where flow methods carry labels from: the ``nearest`` labelled slice, as in the paper, or ``both``.
        Without effect on methods that carry nothing, or go from frame to frame.
    flow
        How slices are matched.
    growth
        How cells grow in 3D, for the method ``paths`` alone.
    reduction
        Of slices while they grow; outlines are found again at full resolution.

    Raises
    ------
    UsageError
        If a value is out of bounds.
    """

    interior_threshold: int = 128
    boundary_threshold: int = 128
    edge_distance_px: float = 5.0
    smallest_body_px: int = 5000
    least_share: float = 0.1
    seeds: Literal["depth", "centroid"] = "depth"
    neighbours: Literal["nearest", "both"] = "nearest"
    flow: FlowMethod = field(default_factory=lambda: PRESETS["dis"])
    growth: Growth = field(default_factory=Growth)
    reduction: int = 1

    def __post_init__(self) -> None:
        right = all(1 <= t <= 255 for t in (self.interior_threshold, self.boundary_threshold))
        right &= self.edge_distance_px >= 0 and self.smallest_body_px >= 0 and 0 <= self.least_share <= 1
        right &= self.reduction >= 1
        right &= self.seeds in ("depth", "centroid") and self.neighbours in ("nearest", "both")
        if not right:
            raise UsageError(f"a setting of the separation is out of bounds; see SeparationSettings: {self}")


@dataclass(frozen=True, slots=True)
class _Parts:
    """Connected parts of the cut interior, and the pieces of carried cells that lie on them.

    Everything is counted from 1. `label` is what a part becomes as a whole: a cell, below 0 a new object, or 0 where
    it must be flooded. `n_cells` is the number of cells seeded in a part, `seeded` says for which pieces.
    """

    part_of: np.ndarray
    piece_of: np.ndarray
    cell: np.ndarray
    part: np.ndarray
    seeded: np.ndarray
    n_cells: np.ndarray
    label: np.ndarray


def combine(
    cells: np.ndarray,
    inside: np.ndarray,
    boundary: np.ndarray | None,
    lines: Literal["none", "all", "selective"],
    settings: SeparationSettings,
) -> np.ndarray:
    """Separate the cells of one slice.

    Parameters
    ----------
    cells
        int32 ``(y, x)``, cells carried to this slice: 1 to n without large holes; 0 is background.
    inside
        bool ``(y, x)``, the interior mask.
    boundary
        bool ``(y, x)``, the network's boundary to cut along; None for no such cut.
    lines
        Carried outlines to cut along besides: ``none``, ``all``, or ``selective``: where a part holds two cells or
        more, away from edges that exist.
    settings
        Distances, sizes and seeds.

    Returns
    -------
    int32 (y, x)
        Cells 1 to n; −1, −2, … objects that no carried cell meets; 0 outside the interior, and only there.
    """
    if not inside.any():
        return np.zeros(cells.shape, np.int32)
    remaining = inside
    if boundary is not None:
        remaining = inside & ~inner_lines(skeleton(boundary), depth_inside(inside), settings.edge_distance_px)
    parts = _sort_parts(cells, inside, remaining, settings)
    labels = parts.label[parts.part_of]
    if (parts.label[1:] == 0).any() or remaining.sum() < inside.sum():
        _plant(labels, parts, settings.seeds)
        carried = _lines(cells, remaining, parts, lines, settings.edge_distance_px)
        labels = flood(levels_of(depth_inside(remaining & ~carried)), labels, inside)
        _return_lines(labels, cells, carried)
        _name_rest(labels, cells, inside)
    return labels


def _lines(cells: np.ndarray, remaining: np.ndarray, parts: _Parts, lines: str, edge_distance_px: float) -> np.ndarray:
    """Return where carried outlines cut."""
    if lines == "none":
        return np.zeros(cells.shape, bool)
    cut = outline(cells)
    cut &= remaining
    if lines == "selective":
        cut &= (parts.n_cells > 1)[parts.part_of]
        cut = inner_lines(cut, depth_inside(remaining), edge_distance_px)
    return cut


def _sort_parts(cells: np.ndarray, inside: np.ndarray, remaining: np.ndarray, settings: SeparationSettings) -> _Parts:
    """Say for each part which cells it holds and what becomes of it."""
    part_of = _components(remaining)
    piece_of = _components(np.where(remaining, cells, 0))
    n_parts, n_pieces, n_ids = int(part_of.max()), int(piece_of.max()), int(cells.max())
    part_area, cell_area = np.zeros(n_parts + 1, np.int64), np.zeros(n_ids + 1, np.int64)
    pieces, is_open = np.zeros((4, n_pieces + 1), np.int64), np.zeros(n_parts + 1, bool)
    lying_of = _components(cells)
    lying_area = np.bincount(lying_of.ravel())
    _measure((cells, lying_of), part_of, piece_of, part_area, cell_area, pieces)
    _mark_open(part_of, inside, is_open)
    area, cell, part, lying = pieces
    # Pieces of one cell in one part belong together; the first pair is that of no piece, part 0 and cell 0.
    (pair_part, pair_cell), pair = np.unique(np.stack([part, cell]), axis=1, return_inverse=True)
    pair = pair.ravel()
    shared = np.bincount(pair, weights=area)
    covering = _largest_cell(pair_part, pair_cell, shared, n_parts)
    at_home = 2 * shared >= cell_area[pair_cell]
    at_home |= (covering[pair_part] == pair_cell) & (shared >= settings.least_share * part_area[pair_part])
    at_home[0] = False
    # What lies apart from the rest of its cell has not slipped there: an island beside another cell, without a gap.
    apart = (2 * area >= lying_area[lying]) & (2 * lying_area[lying] < cell_area[cell]) & (area >= _LEAST_ISLAND_PX)
    apart &= np.bincount(pair_part[at_home], minlength=n_parts + 1)[part] > 0
    apart[0] = False
    seeded = at_home[pair] & (area >= settings.least_share * shared[pair]) | apart
    at_home[pair[apart]] = True
    n_cells = np.bincount(pair_part[at_home], minlength=n_parts + 1)
    only = np.zeros(n_parts + 1, np.int64)
    only[pair_part[at_home]] = pair_cell[at_home]
    island = part_area < settings.smallest_body_px
    label = np.where(island, covering, np.where(n_cells == 1, only, 0))
    new = np.where(island, (covering == 0) & ~is_open, n_cells == 0)
    new[0] = label[0] = 0
    label[new] = -1 - np.arange(np.count_nonzero(new))
    return _Parts(part_of, piece_of, cell, part, seeded, n_cells, label.astype(np.int32))


def _largest_cell(part: np.ndarray, cell: np.ndarray, shared: np.ndarray, n_parts: int) -> np.ndarray:
    """Return the cell that covers most of each part, of equals the one with the lower id; 0 where there is none."""
    covering = np.zeros(n_parts + 1, np.int64)
    order = np.lexsort((-cell, shared))
    for i in order:  # the last one written stays: the largest
        covering[part[i]] = cell[i]
    return covering


def _plant(labels: np.ndarray, parts: _Parts, seeds: str) -> None:
    """Set one pixel of each seeded piece of the parts that are to be flooded."""
    planted = parts.seeded & (parts.label == 0)[parts.part]
    if planted.any():
        numbers = np.where(planted, np.cumsum(planted), 0).astype(np.int32)
        find = deepest_pixels if seeds == "depth" else central_pixels
        y, x = find(numbers[parts.piece_of], int(numbers.max())).T
        labels[y, x] = parts.cell[planted]


def _name_rest(labels: np.ndarray, cells: np.ndarray, inside: np.ndarray) -> None:
    """Give what no water reached to the cell that covers half of it or more; the rest is new objects.

    These are remains between cuts with no seed in them, or cells so small that the boundary covers them.
    """
    dry = inside & (labels == 0)
    if dry.any():
        rest = _components(dry)
        area = np.bincount(rest.ravel())
        names = np.zeros(area.size, np.int32)
        for part, cell, n_pixels in zip(*overlaps(rest, cells), strict=True):
            if 2 * n_pixels >= area[part] and not names[part]:
                names[part] = cell
        new = np.flatnonzero(names == 0)[1:]
        names[new] = min(0, int(labels.min())) - 1 - np.arange(new.size)
        labels[dry] = names[rest[dry]]


@njit(cache=True, nogil=True)
def _return_lines(labels: np.ndarray, cells: np.ndarray, cut: np.ndarray) -> None:
    """Give pixels of carried outlines back to their cell where it lies beside them: they fell to either side."""
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            own = cells[y, x]
            if not cut[y, x] or labels[y, x] == own or own == 0:
                continue
            beside = labels[max(y - 1, 0), x] == own or labels[min(y + 1, height - 1), x] == own
            if beside or labels[y, max(x - 1, 0)] == own or labels[y, min(x + 1, width - 1)] == own:
                labels[y, x] = own


def _components(plane: np.ndarray) -> np.ndarray:
    """Return the connected parts of equal values above 0, in the order of their first pixels: int32 from 1."""
    return cc3d.connected_components(plane, connectivity=4, out_dtype=np.uint32).view(np.int32)


@njit(cache=True, nogil=True)
def _measure(
    carried: tuple[np.ndarray, np.ndarray],
    part_of: np.ndarray,
    piece_of: np.ndarray,
    part_area: np.ndarray,
    cell_area: np.ndarray,
    pieces: np.ndarray,
) -> None:
    """Count pixels of parts, cells and pieces, and note the cell of each piece, its part, and what it is a piece of."""
    cells, lying_of = carried
    for y in range(cells.shape[0]):
        for x in range(cells.shape[1]):
            part, cell, piece = part_of[y, x], cells[y, x], piece_of[y, x]
            part_area[part] += 1
            cell_area[cell] += 1
            if piece:
                pieces[0, piece] += 1
                pieces[1, piece] = cell
                pieces[2, piece] = part
                pieces[3, piece] = lying_of[y, x]


@njit(cache=True, nogil=True)
def _mark_open(part_of: np.ndarray, inside: np.ndarray, is_open: np.ndarray) -> None:
    """Mark parts that touch a cut, that is a pixel of the interior in no part."""
    height, width = part_of.shape
    for y in range(height):
        for x in range(width):
            if inside[y, x] and part_of[y, x] == 0:
                is_open[part_of[max(y - 1, 0), x]] = True
                is_open[part_of[min(y + 1, height - 1), x]] = True
                is_open[part_of[y, max(x - 1, 0)]] = True
                is_open[part_of[y, min(x + 1, width - 1)]] = True
