"""Randomness without state: hashes of integers, and smooth noise over space.

Every random value of the phantom is a function of a seed and of where (or for whom) it is asked for, never of how
many values were drawn before. This is what makes a block equal to the same part of the whole volume, bit for bit.
The mixing step is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_K1 = np.uint64(0x9E3779B97F4A7C15)
_K2 = np.uint64(0xC2B2AE3D27D4EB4F)
_K3 = np.uint64(0x165667B19E3779F9)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_TO_UNIT = 2.0**-53


def compiled(function: Kernel) -> Kernel:
    """Compile a kernel to machine code at its first call, keeping its Python type."""
    return cast(Kernel, numba.njit(nogil=True)(function))


@compiled
def mix(h: np.uint64) -> np.uint64:
    """Scramble 64 bits so that inputs that differ little give outputs that have nothing in common."""
    h = (h ^ (h >> _S30)) * _M1
    h = (h ^ (h >> _S27)) * _M2
    return h ^ (h >> _S31)


@compiled
def hash3(key: int, a: int, b: int, c: int) -> np.uint64:
    """Hash three integers (negative ones too) under a key to 64 bits."""
    return mix(mix(np.uint64(key) + np.uint64(a) * _K1) + np.uint64(b) * _K2 + np.uint64(c) * _K3)


@compiled
def unit(key: int, a: int, b: int, c: int) -> float:
    """Hash three integers to a uniform number in [0, 1)."""
    return float(hash3(key, a, b, c) >> _S11) * _TO_UNIT


@compiled
def normal(key: int, a: int, b: int, c: int) -> float:
    """Hash three integers to a nearly normal number, mean 0 and standard deviation 1 (four 16-bit uniforms)."""
    h = hash3(key, a, b, c)
    low = np.uint64(0xFFFF)
    total = (h & low) + ((h >> np.uint64(16)) & low) + ((h >> np.uint64(32)) & low) + (h >> np.uint64(48))
    return (float(total) - 131070.0) * (1.7320508075688772 / 65536.0)


@compiled
def _corner(h: np.uint64) -> float:
    h = (h ^ (h >> _S31)) * _M1
    h = (h ^ (h >> _S27)) * _M2
    return float(h >> _S11) * (2.0 * _TO_UNIT) - 1.0


@compiled
def smooth_noise(key: int, z: float, y: float, x: float) -> float:
    """Value noise in [-1, 1] at a point, with one random value per unit of length and smooth ramps between them."""
    fz, fy, fx = math.floor(z), math.floor(y), math.floor(x)
    tz, ty, tx = z - fz, y - fy, x - fx
    tz, ty, tx = tz * tz * (3 - 2 * tz), ty * ty * (3 - 2 * ty), tx * tx * (3 - 2 * tx)
    h = np.uint64(key) + np.uint64(np.int64(fz)) * _K1 + np.uint64(np.int64(fy)) * _K2
    h += np.uint64(np.int64(fx)) * _K3
    near = _corner(h) * (1 - tx) + _corner(h + _K3) * tx
    far = _corner(h + _K2) * (1 - tx) + _corner(h + _K2 + _K3) * tx
    low = near * (1 - ty) + far * ty
    h += _K1
    near = _corner(h) * (1 - tx) + _corner(h + _K3) * tx
    far = _corner(h + _K2) * (1 - tx) + _corner(h + _K2 + _K3) * tx
    return low * (1 - tz) + (near * (1 - ty) + far * ty) * tz
