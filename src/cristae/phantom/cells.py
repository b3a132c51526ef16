"""Cells of the phantom: a jittered, staggered lattice of seeds, its faces, and the warp that bends it.

The tissue is defined in *flat* space, where every cell is a convex polyhedron (the Voronoi cell of its seed, each
face set back by half the width of the gap there); `displacement` waves bend flat space into real space. ::

    flat:  |  A  | B  |        real:  (  A  ( B  )      faces touch (with a visible membrane or without),
           |-----+----|               (-----(----)      leave a gap, or leave a channel wide enough for filopodia
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cristae.phantom.hashing import compiled, hash3, unit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOUCHING, GAP, CHANNEL = 0, 1, 2
KEY_FACE, KEY_SEED, KEY_WAVE, KEY_MERGE, KEY_CODE = 11, 12, 15, 16, 17
CORNER_NM = 260.0
"""Radius to which the edges between two set-back faces are rounded."""
TAPER_NM = 320.0
"""Gaps close over this distance towards a face where cells touch."""
WIDEST_GAP_NM = 340.0
"""No cell is set back further than this from a face."""


class Waves(NamedTuple):
    """Plane waves that bend the tissue: what they act on (0 z, 1 y, 2 x, 3 gap width), vector (1/nm), phase, size."""

    component: Ints
    vector: Floats
    phase: Floats
    size: Floats


class Lattice(NamedTuple):
    """Seeds of the cells: lattice indices (n, 3), a code of them (n,), positions (n, 3) nm; a cell's id is row + 1.

    The code of a cell, unlike its id, does not depend on how far the lattice goes.
    """

    keys: Ints
    codes: Ints
    points: Floats


def make_waves(seed: int, diameter: float) -> Waves:
    """Draw the waves of the displacement field: five for each axis, three for the width of gaps.

    The gradient of each wave is small, so that the sum never folds space in practice; lengths follow the cell
    diameter (nm), sizes are nm (the gap's are fractions).
    """
    rng = np.random.default_rng([seed, KEY_WAVE])
    component = np.repeat(np.arange(4), (5, 5, 5, 3)).astype(np.int64)
    length = diameter * rng.uniform(0.35, 1.3, component.size)
    length[component == 3] = rng.uniform(350, 900, 3)
    direction = rng.normal(size=(component.size, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    size = 0.17 * length / (2 * math.pi)
    size[component == 3] = 0.09
    return Waves(
        component,
        direction * (2 * math.pi / length)[:, None],
        rng.uniform(0, 2 * math.pi, component.size),
        size,
    )


def reach(waves: Waves) -> float:
    """Return the largest displacement along any axis, in nm."""
    return max(float(waves.size[waves.component == axis].sum()) for axis in range(3))


def make_lattice(key: int, diameter: float, low: Floats, high: Floats) -> Lattice:
    """Place the seeds whose flat position may lie between `low` and `high` (nm, z y x).

    Layers are 0.82 diameters apart and staggered like the rows in a layer; layer 0 lies near z = 0 of the given
    frame, so a thin volume around it cuts its cells near the middle.
    """
    step = np.array([0.82, 0.88, 1.0]) * diameter
    first = np.floor(low / step).astype(np.int64) - 1
    last = np.ceil(high / step).astype(np.int64) + 1
    grid = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first, last, strict=True)), indexing="ij")
    keys = np.stack([axis.ravel() for axis in grid], axis=1).astype(np.int64)
    points = keys * step
    points[:, 1] += (keys[:, 0] % 2) * step[1] * 0.6
    points[:, 2] += (keys[:, 1] % 2) * step[2] * 0.5 + (keys[:, 0] % 2) * step[2] * 0.25
    points += _jitter(key, keys) * np.array([0.06, 0.13, 0.13]) * diameter
    inside = np.all((points >= low) & (points <= high), axis=1)
    return Lattice(keys[inside], _codes(key, keys[inside]), points[inside])


@compiled
def _codes(key: int, keys: Ints) -> Ints:
    codes = np.empty(keys.shape[0], np.int64)
    for n in range(keys.shape[0]):
        codes[n] = np.int64(hash3(key + KEY_CODE, keys[n, 0], keys[n, 1], keys[n, 2]) >> np.uint64(2))
    return codes


@compiled
def _jitter(key: int, keys: Ints) -> Floats:
    offsets = np.empty((keys.shape[0], 3))
    for n in range(keys.shape[0]):
        for axis in range(3):
            offsets[n, axis] = 2 * unit(key + KEY_SEED + axis, keys[n, 0], keys[n, 1], keys[n, 2]) - 1
    return offsets


@compiled
def face_kind(key: int, one: int, other: int) -> int:
    """Say how two cells (codes of the lattice) meet: `TOUCHING`, with a `GAP`, or with a `CHANNEL`."""
    u = unit(key + KEY_FACE, min(one, other), max(one, other), 0)
    if u < 0.42:
        return TOUCHING
    return GAP if u < 0.7 else CHANNEL


@compiled
def merge(key: int, one: int, other: int) -> bool:
    """Say whether no membrane shows where two cells (ids) touch."""
    return unit(key + KEY_MERGE, min(one, other), max(one, other), 0) < 0.5


@compiled
def half_gap(key: int, one: int, other: int) -> float:
    """Return how far (nm) each of two cells (codes) keeps from their common face: 0 where they touch."""
    kind = face_kind(key, one, other)
    u = unit(key + KEY_FACE, min(one, other), max(one, other), 1)
    if kind == GAP:
        return 32.0 + 40.0 * u
    return 185.0 + 75.0 * u if kind == CHANNEL else 0.0


@compiled
def wave_tables(waves: Waves, xs: Floats, shift: float, sines: Floats, cosines: Floats) -> None:
    """Fill (wave, x) tables of the waves along the last axis for the x positions (nm, plus a shift) of a row."""
    for w in range(waves.phase.size):
        for n in range(xs.size):
            sines[w, n] = math.sin(waves.vector[w, 2] * (xs[n] + shift))
            cosines[w, n] = math.cos(waves.vector[w, 2] * (xs[n] + shift))


@compiled
def bend_row(waves: Waves, place: tuple[float, float], tables: tuple[Floats, Floats], points: Floats) -> None:
    """Add the waves' displacement to the points (x, 4) of a row at z, y (nm), given its `wave_tables`."""
    sines, cosines = tables
    for w in range(waves.phase.size):
        angle = waves.phase[w] + waves.vector[w, 0] * place[0] + waves.vector[w, 1] * place[1]
        a, b, component = waves.size[w] * math.sin(angle), waves.size[w] * math.cos(angle), waves.component[w]
        for n in range(points.shape[0]):
            points[n, component] += a * cosines[w, n] + b * sines[w, n]


@compiled
def deciding_seeds(seeds: Floats, low: Floats, high: Floats, chosen: Ints) -> int:
    """Choose the seeds that can decide anything between two corners (nm): rows to `chosen`, returns how many.

    A face matters up to `CORNER_NM` behind where it is set back to, and the two seeds of a face that is as far away
    as d differ by at most 2 d in their distance from a point.
    """
    nearest, radius, n_chosen = 1e18, 0.0, 0
    for axis in range(3):
        radius += (high[axis] - low[axis]) ** 2
    margin = math.sqrt(radius) + 2 * (CORNER_NM + WIDEST_GAP_NM)
    for turn in range(2):
        for n in range(seeds.shape[0]):
            squared = 0.0
            for axis in range(3):
                squared += (seeds[n, axis] - (low[axis] + high[axis]) / 2) ** 2
            if turn == 0:
                nearest = min(nearest, math.sqrt(squared))
            elif math.sqrt(squared) <= nearest + margin:
                chosen[n_chosen] = n
                n_chosen += 1
    return n_chosen


@compiled
def cell_at(
    point: Floats, seeds: Floats, pairs: tuple[Floats, Floats], chosen: Ints, squared: Floats
) -> tuple[int, float, float]:
    """Find the cell whose flat polyhedron holds a point.

    Parameters
    ----------
    point : float64 (4,)
        Flat position z, y, x in nm, and the factor on gap widths there.
    seeds : float64 (n, 3)
        Seeds, nm.
    pairs : tuple of two float64 (n, n)
        Half gap (nm) of each pair of seeds, and half the inverse of their distance (1/nm).
    chosen : int64 (m,)
        Rows of the seeds to look at.
    squared : float64 (n,)
        Scratch.

    Returns
    -------
    tuple of int, float, float
        Row of the nearest seed; its depth (nm) behind the rounded faces that are set back, negative in
        extracellular space; and the depth behind the nearest face of any kind.
    """
    gaps, inverse = pairs
    best = chosen[0]
    for n in chosen:
        dz, dy, dx = point[0] - seeds[n, 0], point[1] - seeds[n, 1], point[2] - seeds[n, 2]
        squared[n] = dz * dz + dy * dy + dx * dx
        if squared[n] < squared[best]:
            best = n
    first = second = touching = 1e9
    for n in chosen:
        if n != best and gaps[best, n] == 0:
            touching = min(touching, (squared[n] - squared[best]) * inverse[best, n])
    opened = min(touching / TAPER_NM, 1.0)
    closest = touching
    for n in chosen:
        if gaps[best, n] > 0:
            depth = (squared[n] - squared[best]) * inverse[best, n]
            closest = min(closest, depth - gaps[best, n])
            depth -= gaps[best, n] * point[3] * opened * (2 - opened)
            second = min(second, max(first, depth))
            first = min(first, depth)
    if second < CORNER_NM:
        a, b = CORNER_NM - first, CORNER_NM - second
        first = CORNER_NM - math.sqrt(a * a + b * b)
    return best, first, closest


@compiled
def pair_tables(key: int, codes: Ints, seeds: Floats) -> tuple[Floats, Floats]:
    """Return the half gap (nm) and half the inverse distance (1/nm) of each pair of cells: two float64 (n, n)."""
    n = codes.size
    gaps, inverse = np.zeros((n, n)), np.zeros((n, n))
    for a in range(n):
        for b in range(n):
            if a != b:
                gaps[a, b] = half_gap(key, codes[a], codes[b])
                dz, dy, dx = seeds[a, 0] - seeds[b, 0], seeds[a, 1] - seeds[b, 1], seeds[a, 2] - seeds[b, 2]
                inverse[a, b] = 0.5 / math.sqrt(dz * dz + dy * dy + dx * dx)
    return gaps, inverse
