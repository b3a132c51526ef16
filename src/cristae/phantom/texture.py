"""Grey values of each compartment, as functions of position in nm: what a stained, sharp, noiseless cut would show.

Levels overlap on purpose: a nucleus is on average as bright as cytoplasm, a mitochondrion as dark as chromatin
clumps, rough ER and lipid, an endosome's lumen as bright as resin. Texture, rim and context tell them apart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cristae.phantom.cells import Floats
from cristae.phantom.hashing import compiled, smooth_noise, unit

RESIN, CYTOPLASM, NUCLEUS, NUCLEOLUS, MITOCHONDRION, ENDOSOME, LYSOSOME = range(7)


class Sharp(NamedTuple):
    """How much of a texture of a given scale the voxels resolve: 1 all, 0 nothing."""

    grain: float
    cristae: float
    clumps: float


class Near(NamedTuple):
    """Softened masks in [0, 1], float32 (z, y, x): 0.5 on a class's surface, 1 well inside; plasma: 1 on membranes."""

    plasma: NDArray[np.float32]
    nucleus: NDArray[np.float32]
    nucleolus: NDArray[np.float32]
    mitochondrion: NDArray[np.float32]
    endosome: NDArray[np.float32]
    lysosome: NDArray[np.float32]


@compiled
def ramp(low: float, high: float, value: float) -> float:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@compiled
def line(value: float, middle: float, width: float) -> float:
    """Return a bell of height 1 at `middle` that is 0 beyond `width` on both sides."""
    t = (value - middle) / width
    return (1 - t * t) * (1 - t * t) if -1 < t < 1 else 0.0


@compiled
def cytoplasm(key: int, z: float, y: float, x: float, sharp: Sharp) -> float:
    """Return the grey of cytoplasm: ribosomes, sheets of ER in patches, small vesicles and lipid droplets."""
    patch = smooth_noise(key + 1, z / 520, y / 520, x / 520)
    value = 0.612 + 0.075 * patch
    value -= 0.18 * sharp.grain * ramp(0.15, 0.75, smooth_noise(key + 2, z / 21, y / 21, x / 21))
    sheets = smooth_noise(key + 3, z / 230, y / 180, x / 180) + 0.35 * smooth_noise(key + 4, z / 90, y / 80, x / 80)
    rough = ramp(-0.1, 0.35, smooth_noise(key + 5, z / 640, y / 640, x / 640))
    value -= 0.21 * rough * sharp.clumps * (line(abs(sheets), 0.16, 0.1) + line(abs(sheets), 0.5, 0.1))
    value += 0.05 * rough * line(sheets, 0.0, 0.1)
    value = vesicle(key + 6, z, y, x, value)
    return droplet(key + 7, z, y, x, value)


@compiled
def pocket(
    key: int, edge: float, point: tuple[float, float, float], form: tuple[float, float, float]
) -> tuple[float, float]:
    """Look up the ball that may lie in the lattice cube (edge in nm) around a point.

    `form` is the chance of a ball, and its least and greatest radius. Returns the distance to its centre (1e9 where
    there is none) and its radius, in nm.
    """
    a, b, c = math.floor(point[0] / edge), math.floor(point[1] / edge), math.floor(point[2] / edge)
    i, j, k = int(a), int(b), int(c)
    if unit(key, i, j, k) > form[0]:
        return 1e9, 1.0
    radius = form[1] + (form[2] - form[1]) * unit(key + 100, i, j, k)
    free = edge - 2.6 * radius
    dz = point[0] - a * edge - 1.3 * radius - free * unit(key + 200, i, j, k)
    dy = point[1] - b * edge - 1.3 * radius - free * unit(key + 300, i, j, k)
    dx = point[2] - c * edge - 1.3 * radius - free * unit(key + 400, i, j, k)
    return math.sqrt(dz * dz + dy * dy + dx * dx), radius


@compiled
def vesicle(key: int, z: float, y: float, x: float, value: float) -> float:
    """Draw small transport vesicles, much smaller than endosomes, over a grey value."""
    distance, radius = pocket(key, 150.0, (z, y, x), (0.3, 20.0, 30.0))
    if distance < 1.35 * radius:
        value += 0.14 * ramp(1.0, 0.5, distance / radius) - 0.2 * line(distance / radius, 1.0, 0.35)
    return value


@compiled
def droplet(key: int, z: float, y: float, x: float, value: float) -> float:
    """Draw lipid droplets, evenly dark and without a rim, over a grey value."""
    distance, radius = pocket(key, 460.0, (z, y, x), (0.32, 42.0, 84.0))
    if distance > 1.3 * radius:
        return value
    wobble = radius * (1 + 0.15 * smooth_noise(key, z / 70, y / 70, x / 70))
    inside = 1 - ramp(wobble - 7, wobble + 7, distance)
    shade = 0.18 + 0.24 * (radius * 7.77 - math.floor(radius * 7.77))
    return value + inside * (shade - value)


@compiled
def chromatin(key: int, z: float, y: float, x: float, edge: float) -> float:
    """Return the grey of a nucleus: pale euchromatin and dark clumps.

    `edge` is near 1 under the envelope, where clumps gather, and below 0 around nucleoli, where there are none.
    """
    clumps = 0.65 * smooth_noise(key + 21, z / 130, y / 130, x / 130)
    clumps += 0.5 * smooth_noise(key + 22, z / 48, y / 48, x / 48)
    dark = ramp(0.16, 0.4, clumps + 0.34 * edge)
    value = 0.607 + 0.045 * smooth_noise(key + 23, z / 27, y / 27, x / 27)
    return value - dark * (0.165 + 0.03 * smooth_noise(key + 24, z / 33, y / 33, x / 33))


@compiled
def nucleolus(key: int, z: float, y: float, x: float) -> float:
    """Return the grey of a nucleolus: dark, with coarse threads and fine granules."""
    value = 0.345 + 0.05 * smooth_noise(key + 31, z / 85, y / 85, x / 85)
    return value + 0.13 * smooth_noise(key + 32, z / 26, y / 26, x / 26)


@compiled
def mitochondrion(key: int, who: int, point: tuple[float, float, float], depth: float, cristae: float) -> float:
    """Return the grey of mitochondrion `who`: dark rim, pale gap beneath it, grey matrix with dark lamellae."""
    z, y, x = point
    angle, tilt = math.pi * unit(key + 41, who, 0, 0), unit(key + 41, who, 0, 1) - 0.5
    along = y * math.cos(angle) + x * math.sin(angle) + z * tilt
    bend = smooth_noise(key + 42, z / 120, y / 120, x / 120)
    phase = 2 * math.pi * along / 50 + 2.6 * bend
    present = ramp(-0.45, 0.1, smooth_noise(key + 43, z / 95, y / 95, x / 95)) * ramp(0.72, 0.95, depth)
    value = 0.475 + 0.05 * (unit(key + 41, who, 0, 2) - 0.5)
    value += 0.05 * smooth_noise(key + 44, z / 26, y / 26, x / 26)
    value -= 0.23 * cristae * present * ramp(0.1, 0.85, math.sin(phase))
    value += 0.12 * line(depth, 0.8, 0.17)
    return value


@compiled
def lysosome(key: int, who: int, z: float, y: float, x: float) -> float:
    """Return the grey of lysosome `who`: dark and mottled, with black granules and pale inclusions."""
    coarse = smooth_noise(key + 51, z / 45, y / 45, x / 45)
    value = 0.4 + 0.06 * (unit(key + 50, who, 0, 0) - 0.5) + 0.14 * smooth_noise(key + 52, z / 25, y / 25, x / 25)
    value -= 0.2 * ramp(0.12, 0.4, coarse)
    return value + 0.27 * ramp(0.1, 0.4, -coarse)


@compiled
def endosome(key: int, who: int, z: float, y: float, x: float) -> float:
    """Return the grey of endosome `who`: an almost empty lumen with a few small vesicles."""
    value = 0.765 + 0.06 * (unit(key + 61, who, 0, 0) - 0.5) + 0.03 * smooth_noise(key + 62, z / 24, y / 24, x / 24)
    return value - 0.2 * line(smooth_noise(key + 63, z / 44, y / 44, x / 44), 0.55, 0.22)


@compiled
def resin(key: int, z: float, y: float, x: float) -> float:
    """Return the grey of the space between cells: pale, with wisps of matrix."""
    wisps = smooth_noise(key + 71, z / 60, y / 110, x / 110)
    value = 0.775 + 0.03 * smooth_noise(key + 72, z / 300, y / 300, x / 300)
    return value - 0.14 * line(wisps, 0.1, 0.14) + 0.03 * smooth_noise(key + 73, z / 20, y / 20, x / 20)


@compiled
def compartment(key: int, code: int, who: int, point: tuple[float, float, float], depth: float, sharp: Sharp) -> float:
    """Return the grey of a compartment (code) of object `who` at a point in nm; `depth`: see `paint`."""
    z, y, x = point
    if code == CYTOPLASM:
        return cytoplasm(key, z, y, x, sharp) + 0.03 * (2 * unit(key + 8, who, 0, 0) - 1)
    if code == NUCLEUS:
        return chromatin(key, z, y, x, depth)
    if code == NUCLEOLUS:
        return nucleolus(key, z, y, x)
    if code == MITOCHONDRION:
        return mitochondrion(key, who, point, depth, sharp.cristae)
    if code == ENDOSOME:
        return endosome(key, who, z, y, x)
    return lysosome(key, who, z, y, x) if code == LYSOSOME else resin(key, z, y, x)


@compiled
def membranes(value: float, plasma: float, nucleus: float, mito: float, vesicles: tuple[float, float]) -> float:
    """Draw the membranes near a voxel over its grey value, from the softened masks there."""
    value += 0.13 * line(nucleus, 0.2, 0.14)
    dark = 0.34 * min(1.0, 1.5 * plasma)
    dark = max(dark, 0.31 * line(nucleus, 0.5, 0.24), 0.22 * line(nucleus, 0.06, 0.05))
    dark = max(dark, 0.27 * line(mito, 0.52, 0.3))
    dark = max(dark, 0.36 * line(vesicles[0], 0.54, 0.34), 0.3 * line(vesicles[1], 0.54, 0.32))
    return max(value - dark, min(value, 0.2))


@compiled
def paint(
    key: int,
    codes: NDArray[np.uint8],
    owners: NDArray[np.int64],
    near: Near,
    positions: tuple[Floats, Floats, Floats, Floats],
    sharp: Sharp,
) -> NDArray[np.float32]:
    """Paint a tile.

    Parameters
    ----------
    key : int
        Hash key of the phantom.
    codes : uint8 (z, y, x)
        Compartment of each voxel, 0 resin.
    owners : int64 (z, y, x)
        Id of the organelle, or of the cell where there is none.
    near : Near
        Softened masks.
    positions : tuple of float64
        z (z,), y (y,), x (x,) in nm, and what drift adds to y and x in each slice (2, z) in nm.
    sharp : Sharp
        What the voxels resolve.

    Returns
    -------
    float32 (z, y, x)
        Grey values, 0 black to 1 white.
    """
    zs, ys, xs, shifts = positions
    out = np.empty(codes.shape, dtype=np.float32)
    for z in range(zs.size):
        for y in range(ys.size):
            for x in range(xs.size):
                code = codes[z, y, x]
                mito, nucleus = near.mitochondrion[z, y, x], near.nucleus[z, y, x]
                point = (zs[z], ys[y] + shifts[0, z], xs[x] + shifts[1, z])
                depth = mito
                if code == NUCLEUS:
                    depth = 4 * nucleus * (1 - nucleus) - 2.5 * near.nucleolus[z, y, x]
                value = compartment(key, code, owners[z, y, x], point, depth, sharp)
                vesicles = near.endosome[z, y, x], near.lysosome[z, y, x]
                out[z, y, x] = membranes(value, near.plasma[z, y, x], nucleus, mito, vesicles)
    return out
