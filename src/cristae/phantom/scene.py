"""The scene: every object of a phantom as a few numbers, found by place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from cristae.phantom.cells import (
    Floats,
    Ints,
    Lattice,
    Waves,
    half_gap,
    make_lattice,
    make_waves,
    reach,
)
from cristae.phantom.organelles import (
    ENDOSOME,
    FILOPODIUM,
    LYSOSOME,
    MITOCHONDRION,
    N_BUMPS,
    N_CUTS,
    Blob,
    Room,
    fill,
    fill_channel,
    is_channel,
    make_nucleoli,
    make_nucleus,
    make_room,
)
from cristae.phantom.settings import RENDER_HALO, PhantomSettings

FORMS = {
    MITOCHONDRION: (56.0, 90.0, 4, 15, 0.8, 0.28),
    ENDOSOME: (62.0, 112.0, 2, 2, 0.45, 0.5),
    LYSOSOME: (62.0, 104.0, 2, 3, 0.55, 0.6),
}
"""Radii (nm), numbers of spheres, stride (radii) and bend (radians) of the chains of each kind."""


class Blobs(NamedTuple):
    """Nuclei or nucleoli, stacked: ids and cell ids (n,), flat bounds (n, 3) nm, and the parts of `Blob`."""

    ids: Ints
    cells: Ints
    low: Floats
    high: Floats
    centre: Floats
    matrix: Floats
    bumps: Floats
    cuts: Floats


class Chains(NamedTuple):
    """Chains, stacked: kind, id and cell id (n,), flat bounds (n, 3) nm; chain n has spheres ``starts[n:n + 2]``."""

    kinds: Ints
    ids: Ints
    cells: Ints
    low: Floats
    high: Floats
    starts: Ints
    points: Floats


@dataclass(frozen=True)
class Filopodium:
    """A thin protrusion: the id of its cell, and its path (n, 4): flat z, y, x and radius in nm, root first."""

    cell: int
    path: Floats


@dataclass(frozen=True)
class Scene:
    """Everything that is in a phantom, as analytic objects in flat space (see `cristae.phantom.cells`), in nm.

    The size follows the number of cells, not of voxels. Build it with `build_scene`.
    """

    settings: PhantomSettings
    key: int
    waves: Waves
    lattice: Lattice
    nuclei: Blobs
    nucleoli: Blobs
    chains: Chains
    filopodia: tuple[Filopodium, ...] = field(repr=False)

    @property
    def origin(self) -> Floats:
        """Centre of the volume in nm, the zero of flat space, (3,)."""
        return np.array(self.settings.shape) * np.array(self.settings.voxel_size) / 2


def scene_key(seed: int) -> int:
    """Return the hash key of a seed, so that neighbouring seeds share nothing."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(2))


def drift(settings: PhantomSettings, z: Floats) -> Floats:
    """Return how far (pixels; rows y, x) the specimen has drifted in slices `z`, (2, n): 0 in slice 0.

    The mean speed is ``drift_px_per_slice``; the direction wanders.
    """
    speed = settings.drift_px_per_slice
    return np.stack([speed * (0.6 * z + 3.0 * np.sin(z / 9.0)), speed * (-0.8 * z + 4.0 * np.sin(z / 13.0))])


def build_scene(settings: PhantomSettings) -> Scene:
    """Place all objects that may show in the volume of the settings."""
    key, diameter = scene_key(settings.seed), settings.cell_diameter_nm
    waves = make_waves(settings.seed, diameter)
    size = np.array(settings.shape) * np.array(settings.voxel_size)
    shift = drift(settings, np.arange(settings.shape[0], dtype=np.float64)) * np.array(settings.voxel_size)[1:, None]
    room = np.array([0.0, np.abs(shift[0]).max(), np.abs(shift[1]).max()])
    half = size / 2 + room + reach(waves) + np.array(RENDER_HALO) * np.array(settings.voxel_size)
    margin = np.full(3, 2.0 * diameter)
    lattice = make_lattice(key, diameter, -half - margin, half + margin)
    near = np.all(np.abs(lattice.points) <= half + 0.95 * diameter, axis=1)
    places = _neighbourhoods(lattice, np.flatnonzero(near), diameter)
    cells = [_furnish(settings, key, lattice, place) for place in places]
    chains = _stack_chains(cells)
    return Scene(
        settings,
        key,
        waves,
        lattice,
        _stack_blobs([(cell.cell, cell.nucleus) for cell in cells if cell.nucleus is not None]),
        _stack_blobs([(cell.cell, nucleolus) for cell in cells for nucleolus in cell.nucleoli]),
        chains,
        tuple(
            Filopodium(int(chains.cells[n]), chains.points[chains.starts[n] : chains.starts[n + 1]])
            for n in np.flatnonzero(chains.kinds == FILOPODIUM)
        ),
    )


def _neighbourhoods(lattice: Lattice, rows: Ints, diameter: float) -> Iterator[tuple[int, Ints]]:
    tree = cKDTree(lattice.points)
    for row in rows:
        near = np.array(tree.query_ball_point(lattice.points[row], 1.9 * diameter, return_sorted=True), dtype=np.int64)
        others = near[near != row]
        yield int(row), others


class _Contents(NamedTuple):
    """What one cell brings to the scene: its id, its blobs, and chains as (kind, cell id, spheres (n, 4))."""

    cell: int
    nucleus: Blob | None
    nucleoli: list[Blob]
    chains: list[tuple[int, int, Floats]]


def _furnish(settings: PhantomSettings, key: int, lattice: Lattice, place: tuple[int, Ints]) -> _Contents:
    row, others = place
    cell = row + 1
    rng = np.random.default_rng([settings.seed, *(int(n) + 2**31 for n in lattice.keys[row])])
    own_key = int(rng.integers(2**62))
    code, codes = int(lattice.codes[row]), lattice.codes[others]
    gaps = np.array([half_gap(key, code, int(other)) for other in codes])
    room = make_room(lattice.points[row], lattice.points[others], gaps)
    nucleus = make_nucleus(rng, room, settings.cell_diameter_nm)
    nucleoli: list[Blob] = []
    if nucleus is not None:
        nucleoli = make_nucleoli(rng, nucleus)
        room = room._replace(
            nucleus_centre=nucleus.centre, nucleus_matrix=nucleus.matrix, nucleus_radius=nucleus.radius
        )
    chains = [(kind, cell, spheres) for kind, spheres in _organelles(settings, rng, room, own_key)]
    for face in np.flatnonzero(others > row):
        if is_channel(key, code, int(codes[face])):
            grown = _filopodia(settings, room, own_key + int(face), int(face), float(gaps[face]))
            chains += [(FILOPODIUM, (cell, int(others[face]) + 1)[n % 2], spheres) for n, spheres in grown]
    return _Contents(cell, nucleus, nucleoli, chains)


def _organelles(
    settings: PhantomSettings, rng: np.random.Generator, room: Room, key: int
) -> Iterator[tuple[int, Floats]]:
    crowding = rng.uniform(0.75, 1.25, 3) * (settings.cell_diameter_nm / 2700.0) ** 3
    wanted = (settings.endosomes_per_cell, settings.lysosomes_per_cell, settings.mitochondria_per_cell)
    kinds = np.repeat((ENDOSOME, LYSOSOME, MITOCHONDRION), np.rint(wanted * crowding).astype(int)).astype(np.int64)
    forms = np.array([FORMS[int(kind)] for kind in kinds], dtype=np.float64).reshape(-1, 6)
    points, starts = np.empty((16 * kinds.size, 4)), np.zeros(kinds.size + 1, dtype=np.int64)
    fill(room, key, (kinds, forms), points, starts)
    for n, kind in enumerate(kinds):
        if starts[n + 1] > starts[n]:
            yield int(kind), points[starts[n] : starts[n + 1]].copy()


def _filopodia(settings: PhantomSettings, room: Room, key: int, face: int, half: float) -> Iterator[tuple[int, Floats]]:
    points = np.empty((48 * settings.filopodia_per_channel, 4))
    starts = np.zeros(settings.filopodia_per_channel + 1, dtype=np.int64)
    fill_channel(room, key, face, half, points, starts)
    for n in range(settings.filopodia_per_channel):
        if starts[n + 1] > starts[n]:
            yield n, points[starts[n] : starts[n + 1]].copy()


def _stack_blobs(blobs: list[tuple[int, Blob]]) -> Blobs:
    n = len(blobs)
    centre = np.array([blob.centre for _, blob in blobs]).reshape(n, 3)
    matrix = np.array([blob.matrix for _, blob in blobs]).reshape(n, 3, 3)
    bumps = np.array([blob.bumps for _, blob in blobs]).reshape(n, N_BUMPS, 5)
    swelling = 1 + np.abs(bumps[:, :, 4]).sum(axis=1)
    extent = swelling[:, None] * np.linalg.norm(np.linalg.inv(matrix), axis=2)
    return Blobs(
        np.arange(1, n + 1, dtype=np.int64),
        np.array([cell for cell, _ in blobs], dtype=np.int64),
        centre - extent,
        centre + extent,
        centre,
        matrix,
        bumps,
        np.array([blob.cuts for _, blob in blobs]).reshape(n, N_CUTS, 12),
    )


def _stack_chains(contents: list[_Contents]) -> Chains:
    chains = [chain for one in contents for chain in one.chains]
    kinds = np.array([kind for kind, _, _ in chains], dtype=np.int64)
    ids = np.zeros(len(chains), dtype=np.int64)
    for kind in np.unique(kinds):
        ids[kinds == kind] = np.arange(1, np.count_nonzero(kinds == kind) + 1)
    starts = np.concatenate([[0], np.cumsum([len(spheres) for _, _, spheres in chains])]).astype(np.int64)
    points = np.concatenate([spheres for _, _, spheres in chains] or [np.empty((0, 4))])
    spans = [slice(a, b) for a, b in itertools.pairwise(starts)]
    return Chains(
        kinds,
        ids,
        np.array([cell for _, cell, _ in chains], dtype=np.int64),
        np.array([(points[s, :3] - points[s, 3:]).min(axis=0) for s in spans]).reshape(-1, 3),
        np.array([(points[s, :3] + points[s, 3:]).max(axis=0) for s in spans]).reshape(-1, 3),
        starts,
        points,
    )
