"""What the microscope adds to the specimen: shot noise, brightness jumps, curtaining, charging, lost slices."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cristae.phantom.cells import Ints
from cristae.phantom.hashing import compiled, normal, smooth_noise, unit

JUMP_CHANCE = 0.14
"""Fraction of slices whose brightness jumps; the others only flicker."""


class Amplitudes(NamedTuple):
    """Strength of each artefact as a fraction of full scale (see `PhantomSettings`)."""

    noise: float
    brightness_jump: float
    curtaining: float
    charging: float


@compiled
def slice_brightness(key: int, z: int, jump: float) -> tuple[float, float]:
    """Return gain and offset of slice `z`; 1 and 0 where nothing happens."""
    side = 2 * unit(key + 81, z, 0, 0) - 1
    if unit(key + 81, z, 0, 1) < JUMP_CHANCE:
        return 1 + 1.2 * jump * side, jump * math.copysign(0.6 + 0.6 * abs(side), side)
    return 1.0, 0.12 * jump * side


@compiled
def curtain(key: int, z: int, x: int) -> float:
    """Return the strength, in about [-1, 1], of the sharp and broad milling stripes in column `x` of slice `z`."""
    sharp = smooth_noise(key + 82, z / 7, 0.0, x / 2.3) * smooth_noise(key + 83, z / 12, 0.0, x / 31)
    return 1.6 * sharp + 0.5 * smooth_noise(key + 84, z / 9, 0.0, x / 24)


@compiled
def smear(key: int, z: int, y: int, x: int) -> float:
    """Return the charge in [-1, 1] at a pixel: 0 nearly everywhere, long streaks along x where a slice charged."""
    charge = smooth_noise(key + 85, z / 1.7, y / 26, x / 170)
    beyond = abs(charge) - 0.42
    return math.copysign(min(beyond * 3.2, 1.0), charge) if beyond > 0 else 0.0


@compiled
def expose(
    key: int, clean: NDArray[np.float32], start: tuple[int, int, int], lost: Ints, strength: Amplitudes
) -> NDArray[np.uint8]:
    """Take the picture of a tile.

    Parameters
    ----------
    key : int
        Hash key of the phantom.
    clean : float32 (z, y, x)
        Grey values, 0 black to 1 white.
    start : tuple of int
        Voxel (z, y, x) of the tile's first corner in the volume.
    lost : int64 (n,)
        Slices that are missing.
    strength : Amplitudes
        How bad each artefact is.

    Returns
    -------
    uint8 (z, y, x)
        The picture; 0 in lost slices.
    """
    out = np.zeros(clean.shape, dtype=np.uint8)
    stripes = np.empty(clean.shape[2])
    for n in range(clean.shape[0]):
        z = start[0] + n
        if is_in(z, lost):
            continue
        gain, offset = slice_brightness(key, z, strength.brightness_jump)
        for m in range(clean.shape[2]):
            stripes[m] = strength.curtaining * curtain(key, z, start[2] + m)
        for k in range(clean.shape[1]):
            y = start[1] + k
            waving = 0.75 + 0.5 * smooth_noise(key + 86, z / 5, y / 400, 0.0)
            for m in range(clean.shape[2]):
                x = start[2] + m
                value = (clean[n, k, m] - 0.55) * gain + 0.55 + offset + waving * stripes[m]
                if strength.charging > 0:
                    value += strength.charging * smear(key, z, y, x)
                value += strength.noise * math.sqrt(0.35 + max(value, 0.0)) * normal(key + 87, z, y, x)
                out[n, k, m] = np.uint8(min(max(value, 0.004), 1.0) * 255.0)
    return out


@compiled
def is_in(value: int, values: Ints) -> bool:
    """Say whether a number is among others."""
    found = False
    for other in values:
        found = found or other == value
    return found
