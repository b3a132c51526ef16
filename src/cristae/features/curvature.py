"""How the surface of an object bends: mean and Gaussian curvature, and how much of it is concave.

The mask is smoothed by a Gaussian f. The level set of f through a point has the curvatures

    2 H = (∇fᵀ F ∇f − |∇f|² tr F) / |∇f|³        K = ∇fᵀ adj(F) ∇f / |∇f|⁴

with F the Hessian of f, which is larger inside; H of a ball of radius r is 1/r, that of a cylinder 1/(2r), and K of a
ball is 1/r². Both are taken at the centres of the faces of the mask, not on the level ½ of f: that level of a ball lies
inside it by about σ²/r, so its curvature would come out too high, while the level set through a point of the ball's
surface is a sphere of just that radius. A face of area a whose axis makes an angle θ with the normal stands for
a·|cos θ| of the surface, since faces of a surface along each axis have together its area as seen along that axis; so no
mesh is needed, and means are over area.

Papers: M. P. do Carmo (1976), Differential Geometry of Curves and Surfaces, 3.3; R. Goldman (2005), Comput. Aided Geom.
Des. 22, 632, eqs 4.1 and 4.2 (curvature of implicit surfaces).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numba import njit

from cristae.features.crops import Nanometres, surface_faces, trimmed
from cristae.features.definitions import Definition

_PAPER = "Goldman (2005), Comput. Aided Geom. Des. 22, 632"
_SMOOTHING = 2.0
"""σ in voxels of the coarsest axis unless it is set: at 2 the curvature of a ball is right to 1 %, at 1 to 3 %."""
_FLAT = 0.02
"""Mean curvature · σ down to which noise of a flat surface reaches: what is less concave is not called concave."""
_FAINT = 0.01
"""A gradient below this share of that of a flat surface has no direction to speak of; such faces are left out."""

_STATISTICS = {
    "": "mean over the surface",
    "_sd": "standard deviation over the surface",
    "_p05": "5th percentile over the surface",
    "_p95": "95th percentile over the surface",
}

DEFINITIONS: Mapping[str, Definition] = {
    **{
        f"mean_curvature{ending}_per_um": Definition(
            "1/µm", f"mean curvature H, above 0 where convex: {what}", "H = ½ div n; 1/r on a ball", _PAPER
        )
        for ending, what in _STATISTICS.items()
    },
    **{
        f"gaussian_curvature{ending}_per_um2": Definition(
            "1/µm²", f"Gaussian curvature K, below 0 on saddles: {what}", "K = κ₁ κ₂; 1/r² on a ball", _PAPER
        )
        for ending, what in _STATISTICS.items()
    },
    "curvedness_per_um": Definition(
        "1/µm",
        "curvedness, how far from flat: mean over the surface",
        "√((κ₁² + κ₂²) / 2) = √(2H² − K)",
        "Koenderink and van Doorn (1992), Image Vis. Comput. 10, 557",
    ),
    "concave_fraction": Definition("", "share of the surface that is concave", f"area with H < −{_FLAT}/σ, over area"),
}
"""Columns of `Curvature`."""


@dataclass(frozen=True)
class SurfaceCurvature:
    """Curvatures at the faces of a surface: float64 arrays, one row per face.

    Parameters
    ----------
    mean
        H in 1/nm, above 0 where the object is convex.
    gaussian
        K in 1/nm².
    area
        nm² of the surface that the face stands for.
    """

    mean: np.ndarray
    gaussian: np.ndarray
    area: np.ndarray


@dataclass(frozen=True)
class Curvature:
    """Summary of the curvature of an object's surface, a feature of crops.

    Parameters
    ----------
    smoothing_nm
        σ of the Gaussian, the same along each axis; by default two voxels of the coarsest axis. Bends tighter than
        that are smoothed away. To compare volumes of different voxel size, set it. Objects smaller than a ball of
        radius σ are not measured.
    """

    smoothing_nm: float | None = None
    definitions: ClassVar[Mapping[str, Definition]] = DEFINITIONS
    meaningless_when_cut: ClassVar[frozenset[str]] = frozenset(DEFINITIONS)

    def __call__(self, mask: np.ndarray, image: np.ndarray | None, voxel_size: Nanometres) -> dict[str, float]:
        """Return the columns of `DEFINITIONS`; the image is not used."""
        sigma = self.smoothing_nm or _SMOOTHING * max(voxel_size)
        if np.count_nonzero(mask) * math.prod(voxel_size) < 4 / 3 * math.pi * sigma**3:
            return dict.fromkeys(DEFINITIONS, math.nan)
        surface = surface_curvature(mask, voxel_size, sigma)
        if not surface.area.any():
            return dict.fromkeys(DEFINITIONS, math.nan)
        mean, gaussian = surface.mean * 1e3, surface.gaussian * 1e6
        share = surface.area / surface.area.sum()
        curvedness = np.sqrt(np.maximum(0, 2 * mean**2 - gaussian))
        values = [*_summary(mean, share), *_summary(gaussian, share), curvedness @ share]
        values.append(share[surface.mean < -_FLAT / sigma].sum())
        return dict(zip(DEFINITIONS, map(float, values), strict=True))


def surface_curvature(mask: np.ndarray, voxel_size: Nanometres, sigma_nm: float) -> SurfaceCurvature:
    """Return the curvatures of the surface of an object.

    Parameters
    ----------
    mask
        bool ``(z, y, x)``, with at least one voxel. What is outside the crop counts as outside the object.
    voxel_size
        nm, ``(z, y, x)``.
    sigma_nm
        σ of the Gaussian that smooths the mask. Below 1½ voxels of the coarsest axis, noise grows quickly.
    """
    mask = trimmed(mask, margin=3)
    faces = surface_faces(mask)
    smooth = _smoothed(mask, tuple(sigma_nm / length for length in voxel_size))
    faintest = _FAINT / (math.sqrt(2 * math.pi) * sigma_nm)
    curvature = _at_faces(smooth, faces.lower, faces.axis, np.array(voxel_size, np.float64), faintest)
    return SurfaceCurvature(curvature[:, 0], curvature[:, 1], curvature[:, 2] * faces.areas(voxel_size))


def _summary(values: np.ndarray, share: np.ndarray) -> tuple[float, float, float, float]:
    """Return mean, standard deviation, 5th and 95th percentile of values that stand for shares of the surface."""
    mean = float(values @ share)
    order = np.argsort(values, kind="stable")
    middle = np.cumsum(share[order]) - share[order] / 2
    low, high = np.interp([0.05, 0.95], middle, values[order])
    return mean, math.sqrt((values - mean) ** 2 @ share), float(low), float(high)


def _smoothed(mask: np.ndarray, sigma: tuple[float, ...]) -> np.ndarray:
    """Return the mask smoothed by a Gaussian of so many voxels along each axis, float32; 0 outside."""
    smooth = mask.astype(np.float32)
    kernels = [_gaussian(s) for s in sigma]
    flat = smooth.reshape(len(smooth), -1)
    cv2.sepFilter2D(flat, cv2.CV_32F, np.ones(1), kernels[0], dst=flat, borderType=cv2.BORDER_CONSTANT)
    for plane in smooth:
        cv2.sepFilter2D(plane, cv2.CV_32F, kernels[2], kernels[1], dst=plane, borderType=cv2.BORDER_CONSTANT)
    return smooth


def _gaussian(sigma: float) -> np.ndarray:
    """Return a sampled Gaussian of sum 1, cut at 4σ."""
    reach = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    return kernel


@njit(cache=True, nogil=True)
def _at_faces(f: np.ndarray, lower: np.ndarray, axis: np.ndarray, spacing: np.ndarray, faintest: float) -> np.ndarray:
    """Return mean curvature, Gaussian curvature and |cos| of normal and axis at each face; 0 where f is too flat."""
    found = np.zeros((axis.size, 3))
    gradient, hessian = np.empty(3), np.empty((3, 3))
    for i in range(axis.size):
        z, y, x = lower[i]
        gradient[:] = 0
        hessian[:] = 0
        _add_derivatives(f[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2], spacing, gradient, hessian)
        z, y, x = z + (axis[i] == 0), y + (axis[i] == 1), x + (axis[i] == 2)
        _add_derivatives(f[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2], spacing, gradient, hessian)
        slope = math.sqrt(gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2)
        if slope < faintest:
            continue
        along, adjugate = 0.0, 0.0
        for a in range(3):
            for b in range(3):
                p, q, r, s = (a + 1) % 3, (a + 2) % 3, (b + 1) % 3, (b + 2) % 3
                minor = hessian[p, r] * hessian[q, s] - hessian[p, s] * hessian[q, r]
                along += gradient[a] * hessian[a, b] * gradient[b]
                adjugate += gradient[a] * minor * gradient[b]
        trace = hessian[0, 0] + hessian[1, 1] + hessian[2, 2]
        found[i, 0] = (along - slope**2 * trace) / (2 * slope**3)
        found[i, 1] = adjugate / slope**4
        found[i, 2] = abs(gradient[axis[i]]) / slope
    return found


@njit(cache=True, nogil=True)
def _add_derivatives(f: np.ndarray, spacing: np.ndarray, gradient: np.ndarray, hessian: np.ndarray) -> None:
    """Add half of the derivatives in the middle of 3×3×3 values."""
    dz, dy, dx = spacing
    gradient[0] += (f[2, 1, 1] - f[0, 1, 1]) / (4 * dz)
    gradient[1] += (f[1, 2, 1] - f[1, 0, 1]) / (4 * dy)
    gradient[2] += (f[1, 1, 2] - f[1, 1, 0]) / (4 * dx)
    twice = 2 * f[1, 1, 1]
    hessian[0, 0] += (f[2, 1, 1] + f[0, 1, 1] - twice) / (2 * dz * dz)
    hessian[1, 1] += (f[1, 2, 1] + f[1, 0, 1] - twice) / (2 * dy * dy)
    hessian[2, 2] += (f[1, 1, 2] + f[1, 1, 0] - twice) / (2 * dx * dx)
    hessian[0, 1] += (f[2, 2, 1] + f[0, 0, 1] - f[2, 0, 1] - f[0, 2, 1]) / (8 * dz * dy)
    hessian[0, 2] += (f[2, 1, 2] + f[0, 1, 0] - f[2, 1, 0] - f[0, 1, 2]) / (8 * dz * dx)
    hessian[1, 2] += (f[1, 2, 2] + f[1, 0, 0] - f[1, 2, 0] - f[1, 0, 2]) / (8 * dy * dx)
    hessian[1, 0], hessian[2, 0], hessian[2, 1] = hessian[0, 1], hessian[0, 2], hessian[1, 2]
