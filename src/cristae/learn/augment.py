"""Cutting a patch and varying it: one resampling for all geometry, then grey values."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator


@dataclass(frozen=True)
class Augmentation:
    """What varies from patch to patch.

    Parameters
    ----------
    flips, quarter_turns
        Mirror along y and x; rotate by multiples of 90°. Exact: no interpolation.
    rotation_deg, scale
        Largest free rotation in degrees, and largest relative change of size. Interpolated.
    contrast, brightness, gamma
        Largest relative change of contrast, shift in standard deviations, and change of the exponent.
    noise, blur
        Largest standard deviation of added noise, and of a Gaussian blur in pixels.
    """

    flips: bool = True
    quarter_turns: bool = True
    rotation_deg: float = 0.0
    scale: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    blur: float = 0.0


def augment(  # noqa: PLR0913, PLR0917  three aligned arrays are one thing here
    image: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    centre: np.ndarray,
    tile_px: int,
    augmentation: Augmentation,
    rng: Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a square patch around `centre` and vary it.

    Parameters
    ----------
    image, target, weight
        float32 ``(channels, y, x)`` and ``(classes, y, x)`` twice; what lies beyond the slice gets weight 0.
    centre
        Middle of the patch ``(y, x)`` in pixels.
    tile_px
        Side of the patch.
    augmentation, rng
        What varies, and by chance of what.

    Returns
    -------
    The three patches, float32 ``(…, tile_px, tile_px)``.
    """
    free = augmentation.rotation_deg > 0 or augmentation.scale > 0
    angle = np.deg2rad(rng.uniform(-1, 1) * augmentation.rotation_deg)
    size = np.exp(rng.uniform(-1, 1) * np.log1p(augmentation.scale))
    cut = _resampled if free else _cropped
    patches = cut((image, target, weight), centre, tile_px, angle, size)
    flip_y, flip_x = rng.random(2) < 0.5
    n_turns = int(rng.integers(4))
    turned = []
    for patch in patches:
        if augmentation.flips:
            patch = patch[:, :: -1 if flip_y else 1, :: -1 if flip_x else 1]  # noqa: PLW2901
        if augmentation.quarter_turns:
            patch = np.rot90(patch, n_turns, (1, 2))  # noqa: PLW2901
        turned.append(np.ascontiguousarray(patch, np.float32))
    return vary_grey(turned[0], augmentation, rng), turned[1], turned[2]


def vary_grey(image: np.ndarray, augmentation: Augmentation, rng: Generator) -> np.ndarray:
    """Return a float32 ``(channels, y, x)`` image (mean about 0, deviation about 1) with its grey values varied."""
    gain = np.exp(rng.uniform(-1, 1) * np.log1p(augmentation.contrast))
    shift = rng.uniform(-1, 1) * augmentation.brightness
    exponent = np.exp(rng.uniform(-1, 1) * np.log1p(augmentation.gamma))
    sigma, spread = rng.uniform(0, 1, 2) * (augmentation.blur, augmentation.noise)
    varied = image
    if augmentation.gamma > 0:
        # Grey values of a normalised slice lie mostly within ±4; beyond that the curve goes on straight.
        unit = np.clip((varied + 4) / 8, 0, None)
        varied = 8 * unit**exponent - 4
    varied = varied * np.float32(gain) + np.float32(shift)
    if sigma > 0.3:  # below that a blur does nothing
        varied = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in varied])
    if spread > 0:
        varied = varied + rng.standard_normal(varied.shape, np.float32) * np.float32(spread)
    return varied.astype(np.float32, copy=False)


def _cropped(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray], centre: np.ndarray, tile_px: int, angle: float, size: float
) -> list[np.ndarray]:
    """Cut without interpolation; beyond the slice the image is mirrored and the weight 0."""
    height, width = arrays[0].shape[1:]
    start = np.round(centre - tile_px / 2).astype(int)
    low, high = np.maximum(start, 0), np.minimum(start + tile_px, (height, width))
    before, after = low - start, start + tile_px - high
    patches = []
    for array, mode in zip(arrays, ("reflect", "constant", "constant"), strict=True):
        part = array[:, low[0] : high[0], low[1] : high[1]]
        padding = [(0, 0), (before[0], after[0]), (before[1], after[1])]
        if any(map(any, padding)):
            part = np.pad(part, padding, mode="symmetric" if mode == "reflect" else "constant")
        patches.append(part)
    return patches


def _resampled(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray], centre: np.ndarray, tile_px: int, angle: float, size: float
) -> list[np.ndarray]:
    """Cut with linear interpolation, rotated and scaled."""
    cosine, sine = np.cos(angle) * size, np.sin(angle) * size
    middle = (tile_px - 1) / 2
    y, x = centre - 0.5
    # Maps patch coordinates (x, y) to slice coordinates, as WARP_INVERSE_MAP wants it.
    matrix = np.array([[cosine, -sine, x - middle * (cosine - sine)], [sine, cosine, y - middle * (sine + cosine)]])
    image, target, weight = arrays

    def warped(array: np.ndarray, border: int) -> np.ndarray:
        planes = [
            cv2.warpAffine(
                plane, matrix, (tile_px, tile_px), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
            )
            for plane in array
        ]
        return np.stack(planes)

    seen = warped(weight, cv2.BORDER_CONSTANT)
    # Only what was looked at may enter the interpolated target; a pixel counts when at least half of it was.
    share = warped(target * weight, cv2.BORDER_CONSTANT) / np.maximum(seen, 1e-6)
    known = seen >= 0.5
    return [warped(image, cv2.BORDER_REFLECT), np.where(known, share, 0), known.astype(np.float32)]
