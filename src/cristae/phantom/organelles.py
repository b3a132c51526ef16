"""What lies in and between the cells of the phantom: nuclei, nucleoli, sausages, vesicles and filopodia.

Two shapes make everything, in flat space (see `cristae.phantom.cells`): *blobs*, ellipsoids with bumps out of which
thin ellipsoids are cut (nuclei with clefts, nucleoli with fenestrations), and *chains*, spheres swept along a curved
path with a changing radius (mitochondria, endosomes, lysosomes, filopodia).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cristae.phantom.cells import CHANNEL, Floats, Ints, face_kind
from cristae.phantom.hashing import compiled, normal, unit

MITOCHONDRION, ENDOSOME, LYSOSOME, FILOPODIUM = 2, 3, 4, 5
N_BUMPS, N_CUTS = 4, 6
FAR_NM = 1e12
MEMBRANE_NM = 45.0
"""Organelles keep this far from the plasma membrane and from the nucleus."""
SPACING_NM = 34.0
"""Organelles keep this far from each other."""


class Blob(NamedTuple):
    """One bumpy ellipsoid: centre (3,) nm, matrix (3, 3) that maps it to a unit ball, bumps (4, 5), cuts (6, 12)."""

    centre: Floats
    matrix: Floats
    bumps: Floats
    cuts: Floats
    radius: float


class Room(NamedTuple):
    """A cell's polyhedron: seed (3,), unit normals (n, 3) and offsets (n,) of its faces in nm, nucleus if it has one.

    A point is inside when ``offsets - normals @ (point - seed)`` is positive for every face.
    """

    seed: Floats
    normals: Floats
    offsets: Floats
    nucleus_centre: Floats
    nucleus_matrix: Floats
    nucleus_radius: float


def make_room(seed: Floats, others: Floats, gaps: Floats) -> Room:
    """Build the polyhedron of the cell at `seed` among `others` (n, 3) with half `gaps` (n,), nm, still empty."""
    span = np.linalg.norm(others - seed, axis=1)
    return Room(seed, (others - seed) / span[:, None], span / 2 - gaps, np.full(3, FAR_NM), np.eye(3), 1.0)


def ellipsoid(rng: np.random.Generator, axes: Floats, outward: Floats | None = None) -> Floats:
    """Return the (3, 3) matrix of a randomly turned ellipsoid with semi-axes `axes` (nm), the first along `outward`."""
    basis = rng.normal(size=(3, 3))
    if outward is not None:
        basis[:, 0] = outward
    turned, upper = np.linalg.qr(basis)
    turned = turned * np.sign(np.diag(upper))
    return np.ascontiguousarray((turned / axes).T)


def make_nucleus(rng: np.random.Generator, room: Room, diameter: float) -> Blob | None:
    """Put a nucleus with one to three clefts where the cell is widest; None where there is no room for one."""
    centre = room.seed.copy()
    for _ in range(40):
        depth = room.offsets - room.normals @ (centre - room.seed)
        centre = centre - room.normals[np.argmin(depth)] * 15.0 * np.array([0.5, 1.0, 1.0])
    depth = room.offsets - room.normals @ (centre - room.seed)
    radius = min(float(depth.min()) - 90.0, diameter * rng.uniform(0.265, 0.325))
    if radius < 0.15 * diameter:
        return None
    cuts = no_cuts()
    for n in range(int(rng.integers(1, 4))):
        outward = rng.normal(size=3) * np.array([0.45, 1.0, 1.0])
        outward /= np.linalg.norm(outward)
        axes = np.array([rng.uniform(0.3, 0.55) * radius, rng.uniform(0.25, 0.5) * radius, rng.uniform(26, 50)])
        cuts[n, :3] = centre + outward * radius * 1.02
        cuts[n, 3:] = ellipsoid(rng, axes, outward).ravel()
    axes = radius * rng.uniform(0.88, 1.06, 3)
    return Blob(centre, ellipsoid(rng, axes), bumps(rng, 0.022, 3.0), cuts, float(axes.min()))


def make_nucleoli(rng: np.random.Generator, nucleus: Blob) -> list[Blob]:
    """Put one to six fenestrated nucleoli into a nucleus, clear of its clefts and of each other."""
    wanted = int(rng.choice(np.arange(1, 7), p=[0.04, 0.08, 0.18, 0.28, 0.25, 0.17]))
    placed: list[Blob] = []
    for _ in range(wanted):
        radius = rng.uniform(185.0, 250.0)
        for _ in range(40):
            radius *= 0.99
            spot = _nucleolus_centre(rng, nucleus, radius, placed)
            if spot is not None:
                placed.append(_nucleolus(rng, spot, radius))
                break
    return placed or [_nucleolus(rng, nucleus.centre, 0.25 * nucleus.radius)]


def _nucleolus_centre(rng: np.random.Generator, nucleus: Blob, radius: float, placed: list[Blob]) -> Floats | None:
    inside = 1 - (1.15 * radius + 50.0) / nucleus.radius
    direction = rng.normal(size=3)
    direction *= np.array([0.7, 1.0, 1.0]) * max(inside, 0.0) * rng.uniform() ** (1 / 3) / np.linalg.norm(direction)
    spot: Floats = nucleus.centre + np.linalg.solve(nucleus.matrix, direction)
    for other in placed:
        if np.linalg.norm(spot - other.centre) < 1.15 * (radius + other.radius) + 30.0:
            return None
    for cut in nucleus.cuts:
        matrix = cut[3:].reshape(3, 3)
        reach = 1 / np.sqrt((matrix**2).sum(axis=1)) + 1.15 * radius
        along = matrix @ (spot - cut[:3]) / np.sqrt((matrix**2).sum(axis=1))
        if float(((along / reach) ** 2).sum()) < 1:
            return None
    return spot


def _nucleolus(rng: np.random.Generator, centre: Floats, radius: float) -> Blob:
    cuts = no_cuts()
    for n in range(int(rng.integers(2, N_CUTS))):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        cuts[n, :3] = centre + direction * radius * rng.uniform(0.15, 0.65)
        width = rng.uniform(28.0, 42.0)
        cuts[n, 3:] = ellipsoid(rng, np.array([width * rng.uniform(1.0, 4.0), width, width])).ravel()
    axes = radius * rng.uniform(0.85, 1.15, 3)
    return Blob(centre, ellipsoid(rng, axes), bumps(rng, 0.05, 3.6), cuts, radius)


def bumps(rng: np.random.Generator, size: float, frequency: float) -> Floats:
    """Draw the bumps of a blob: rows of wave vector (3), phase, size, all in units of the ellipsoid's axes."""
    waves = np.empty((N_BUMPS, 5))
    waves[:, :3] = rng.normal(size=(N_BUMPS, 3))
    waves[:, :3] *= frequency * rng.uniform(0.7, 1.4, (N_BUMPS, 1)) / np.linalg.norm(waves[:, :3], axis=1)[:, None]
    waves[:, 3] = rng.uniform(0, 2 * math.pi, N_BUMPS)
    waves[:, 4] = size
    return waves


def no_cuts() -> Floats:
    """Return the cuts of a whole blob: rows of centre (3) and matrix (9), all out of reach."""
    cuts = np.zeros((N_CUTS, 12))
    cuts[:, :3] = FAR_NM
    cuts[:, 3:] = np.eye(3).ravel()
    return cuts


@compiled
def dot(a: Floats, b: Floats) -> float:
    """Return the inner product of the first three numbers of two vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled
def moved(point: Floats, direction: Floats, length: float) -> Floats:
    """Return the point at a length along a direction from another."""
    there = np.empty(3)
    for axis in range(3):
        there[axis] = point[axis] + length * direction[axis]
    return there


@compiled
def clearance(room: Room, point: Floats) -> float:
    """Return a lower bound (nm) of how far a point is from the cell's faces and from its nucleus, less a margin."""
    offset = moved(point, room.seed, -1.0)
    free = 1e9
    for n in range(room.offsets.size):
        free = min(free, room.offsets[n] - dot(room.normals[n], offset))
    offset = moved(point, room.nucleus_centre, -1.0)
    total = 0.0
    for row in range(3):
        value = dot(room.nucleus_matrix[row], offset)
        total += value * value
    return min(free, (math.sqrt(total) - 1.07) * room.nucleus_radius) - MEMBRANE_NM


@compiled
def apart(point: Floats, radius: float, points: Floats, count: int) -> bool:
    """Say whether a sphere keeps its distance from the first `count` placed spheres (rows z, y, x, radius in nm)."""
    for n in range(count):
        gap = radius + points[n, 3] + SPACING_NM
        dz, dy, dx = point[0] - points[n, 0], point[1] - points[n, 1], point[2] - points[n, 2]
        if dz * dz + dy * dy + dx * dx < gap * gap:
            return False
    return True


@compiled
def turn(direction: Floats, bend: float, key: int, who: int, step: int) -> Floats:
    """Return a direction bent at random, by about `bend` radians."""
    bent = np.empty(3)
    for axis in range(3):
        bent[axis] = direction[axis] + bend * normal(key, who, step, axis)
    return scaled(bent, 1 / math.sqrt(dot(bent, bent)))


@compiled
def scaled(vector: Floats, factor: float) -> Floats:
    """Return a vector times a number."""
    return moved(vector, vector, factor - 1.0)


@compiled
def grow(room: Room, key: int, who: int, form: Floats, placed: tuple[Floats, int]) -> int:
    """Grow one chain inside a cell, onto the end of the placed points.

    Parameters
    ----------
    room : Room
        The cell.
    key, who : int
        Where the randomness comes from.
    form : float64 (6,)
        Least and greatest radius (nm), least and greatest number of spheres, step as a fraction of the radius,
        bend per step (radians).
    placed : tuple of float64 (n, 4), int
        Spheres placed so far (z, y, x, radius in nm) and how many of them count.

    Returns
    -------
    int
        Number of spheres added, 0 where no place was found.
    """
    points, count = placed
    radius = form[0] + (form[1] - form[0]) * unit(key, who, 0, 0)
    wanted = int(form[2] + (form[3] - form[2] + 1) * unit(key, who, 0, 1))
    span = 1e9
    for offset in room.offsets:
        span = min(span, 1.75 * offset)
    least = int(form[2])
    for trial in range(40):
        point = np.empty(3)
        for axis in range(3):
            point[axis] = room.seed[axis] + span * (2 * unit(key, who, 1 + trial, axis) - 1)
        if clearance(room, point) < radius or not apart(point, radius, points, count):
            continue
        direction = turn(np.zeros(3), 1.0, key, who, 100 + trial)
        added = _extend(room, (key, who, trial), (point, direction), (radius, wanted, form[4], form[5]), placed)
        if added >= least:
            return added
    return 0


@compiled
def _extend(
    room: Room,
    source: tuple[int, int, int],
    start: tuple[Floats, Floats],
    form: tuple[float, int, float, float],
    placed: tuple[Floats, int],
) -> int:
    (key, who, trial), (point, direction), (base, wanted, stride, bend) = source, start, form
    points, count = placed
    added, radius = 0, base
    while added < wanted and count + added < points.shape[0]:
        put(points, count + added, point, radius)
        added += 1
        for attempt in range(6):
            salt = 1000 + trial * 1000 + added * 10 + attempt
            ahead = turn(direction, bend * (1 + attempt), key, who, salt)
            radius = base * (0.84 + 0.32 * unit(key, who, salt, 7))
            there = moved(point, ahead, stride * base)
            if clearance(room, there) > radius and apart(there, radius, points, count):
                point, direction = there, ahead
                break
        else:
            break
    return added


@compiled
def fill(room: Room, key: int, plan: tuple[Ints, Floats], points: Floats, starts: Ints) -> int:
    """Grow the chains of a plan (kinds (n,), forms (n, 6)) in a cell; return the number of spheres.

    Writes spheres to `points` and the first sphere of each chain to ``starts[:-1]`` (an absent chain is empty).
    """
    kinds, forms = plan
    count = 0
    for who in range(kinds.size):
        starts[who] = count
        count += grow(room, key, who, forms[who], (points, count))
    starts[kinds.size] = count
    return count


@compiled
def put(points: Floats, n: int, point: Floats, radius: float) -> None:
    """Write a sphere to row `n`."""
    points[n, 0], points[n, 1], points[n, 2], points[n, 3] = point[0], point[1], point[2], radius


@compiled
def fill_channel(room: Room, key: int, face: int, half: float, points: Floats, starts: Ints) -> int:
    """Grow filopodia along one face of a cell, in the channel before it; even ones leave this cell, odd ones the other.

    Writes spheres and chain starts as `fill` does; `half` is half the channel's width in nm.
    """
    across = room.normals[face]
    middle = moved(room.seed, across, room.offsets[face] + half)
    spheres = np.empty((40, 4))
    count = 0
    for who in range(starts.size - 1):
        starts[who] = count
        radius = 60.0 + 42.0 * unit(key, who, 0, 0)
        wanted = 8 + int(26 * unit(key, who, 0, 1))
        side = 1.0 - 2.0 * (who % 2)
        for trial in range(30):
            ahead = turn(np.zeros(3), 1.0, key, who, 100 + trial)
            ahead[0] *= 0.6
            ahead = moved(ahead, across, -dot(ahead, across))
            ahead = scaled(ahead, 1 / math.sqrt(dot(ahead, ahead)))
            root = turn(np.zeros(3), 1.0, key, who, 200 + trial)
            root = moved(root, across, -dot(root, across))
            root = moved(middle, root, 900.0 * unit(key, who, trial, 3))
            put(spheres, 0, moved(root, across, -side * (half + 130.0)), radius)
            added = _creep(room, (key, who, face), (root, ahead, middle), (radius, half), spheres[: wanted + 1])
            if added < 7 or not _all_apart(spheres[:added], points, count):
                continue
            for n in range(added):
                put(points, count + n, spheres[n], spheres[n, 3])
            count += added
            break
    starts[starts.size - 1] = count
    return count


@compiled
def _all_apart(spheres: Floats, points: Floats, count: int) -> bool:
    clear = True
    for n in range(spheres.shape[0]):
        clear = clear and apart(spheres[n], spheres[n, 3], points, count)
    return clear


@compiled
def _in_channel(room: Room, face: int, point: Floats, radius: float) -> bool:
    offset = moved(point, room.seed, -1.0)
    for n in range(room.offsets.size):
        if n != face and room.offsets[n] - dot(room.normals[n], offset) < radius + 25.0:
            return False
    return True


@compiled
def _creep(
    room: Room,
    source: tuple[int, int, int],
    start: tuple[Floats, Floats, Floats],
    form: tuple[float, float],
    spheres: Floats,
) -> int:
    (key, who, face), (point, direction, middle), (radius, half) = source, start, form
    across, added = room.normals[face], 1
    slack = max(0.78 * half - radius - 20.0, 0.0)
    while added < spheres.shape[0] and _in_channel(room, face, point, radius):
        put(spheres, added, point, radius * (0.9 + 0.2 * unit(key, who, 2000 + added, 5)))
        added += 1
        direction = turn(direction, 0.22, key, who, 3000 + added)
        point = moved(point, direction, 70.0)
        height = dot(moved(point, middle, -1.0), across)
        point = moved(point, across, min(max(height, -slack), slack) - height)
    return added


def is_channel(key: int, one: int, other: int) -> bool:
    """Say whether two cells (codes) leave a channel between them that is wide enough for filopodia."""
    return bool(face_kind(key, one, other) == CHANNEL)
