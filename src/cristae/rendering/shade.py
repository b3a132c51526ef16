"""Light and colour of pixels: soft light from above, shade in crevices, outlines, haze, and glass.

What lies deep between other things gets less light (ambient occlusion, from depths around a pixel); where a surface
ends before a farther one, a dark line is drawn; what can be seen through is clearer where one looks straight at it
and denser at its rim, as thin shells are.

Papers: M. Mittring (2007), SIGGRAPH courses, 97, and L. Bavoil, M. Sainz (2008), NVIDIA (screen-space ambient
occlusion); T. Saito, T. Takahashi (1990), SIGGRAPH 24, 197 (outlines from depths).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cristae.rendering.raster import Buffers, Layers

_LIGHT = np.array([-0.45, -0.62, -0.64])
"""Direction of the light: from the upper left, behind the viewer (right, down, ahead)."""


@dataclass(frozen=True)
class Look:
    """How a picture looks.

    Parameters
    ----------
    background
        Red, green, blue, 0–1.
    shade
        How much darker crevices are, 0–1.
    reach_px
        How far around a pixel is looked for what shades it.
    outlines
        Whether outlines are drawn.
    haze
        Part of the background's colour in the farthest things, 0–1.
    """

    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shade: float = 0.75
    reach_px: float = 40.0
    outlines: bool = True
    haze: float = 0.25


def shade(
    buffers: Buffers,
    colours: np.ndarray,
    grey: np.ndarray | None,
    *,
    nm_per_px: tuple[float, float],
    look: Look,
    span: tuple[float, float],
) -> np.ndarray:
    """Return the colours float32 ``(h, w, 3)``, 0–1, of what is opaque.

    Parameters
    ----------
    buffers
        What is nearest in every pixel.
    colours
        float32 ``(n, 3)``, 0–1, of items. Items from n on are image planes.
    grey
        float32 ``(h, w)``, 0–1, of image planes, where there are any.
    nm_per_px
        See `cristae.rendering.camera.Camera.nm_per_px`.
    look
        See `Look`.
    span
        nm: depths of the nearest and the farthest thing, between which haze grows.
    """
    picture = np.empty((*buffers.depth.shape, 3), np.float32)
    free = _free(buffers, nm_per_px, look) if look.shade > 0 else np.ones(buffers.depth.shape, np.float32)
    _light(
        (buffers.depth, buffers.item, buffers.normal),
        (colours, np.zeros((1, 1), np.float32) if grey is None else grey, free),
        (np.array(look.background, np.float32), look.haze, span[0], max(span[1] - span[0], 1e-6)),
        picture,
    )
    if look.outlines:
        _outline((buffers.depth, buffers.item), len(colours), np.array(nm_per_px), picture)
    return picture


def blend(layers: Layers, colours: np.ndarray, opacity: np.ndarray, picture: np.ndarray) -> None:
    """Put transparent layers over a picture float32 ``(h, w, 3)`` of the same rows.

    Parameters
    ----------
    layers
        Nearest first.
    colours, opacity
        float32 ``(n, 3)`` and ``(n,)``, 0–1, of items; the opacity is that of a surface seen straight.
    picture
        Is changed.
    """
    _blend((layers.depth, layers.item, layers.normal), colours, opacity, picture)


def _free(buffers: Buffers, nm_per_px: tuple[float, float], look: Look) -> np.ndarray:
    """Return how much light reaches every pixel, 0–1."""
    free = np.ones(buffers.depth.shape, np.float32)
    _occlude((buffers.depth, buffers.normal), np.array(nm_per_px), (look.reach_px, look.shade), free)
    smooth = np.ones_like(free)
    _average(free, buffers.depth, smooth)
    return smooth


@njit(cache=True, nogil=True)
def _occlude(buffers, nm_per_px, how, free):  # type: ignore[no-untyped-def]
    depth, normal = buffers
    reach, strength = how
    height, width = depth.shape
    n_samples = 16
    for y in range(height):
        for x in range(width):
            d = depth[y, x]
            if not np.isfinite(d):
                continue
            size = nm_per_px[0] + nm_per_px[1] * d
            nx, ny, nz = normal[y, x, 0], normal[y, x, 1], normal[y, x, 2]
            # Flat triangles with round normals must not shade themselves, least of all seen at a slant.
            least = 0.12 + 0.5 * max(0.0, 1 + nz / max(1e-6, np.sqrt(nx * nx + ny * ny + nz * nz)))
            # Neighbouring pixels look in other directions; averaging over 4 × 4 of them uses all.
            start = ((x & 3) * 4 + (y & 3)) * 0.3926990817 / 16 * 5
            lost = 0.0
            for i in range(n_samples):
                angle = start + i * 2.399963
                far = reach * ((i + 0.5) / n_samples)
                sx, sy = int(x + far * np.cos(angle)), int(y + far * np.sin(angle))
                if 0 <= sx < width and 0 <= sy < height and np.isfinite(depth[sy, sx]):
                    u, v, w = (sx - x) * size, (sy - y) * size, depth[sy, sx] - d
                    length = np.sqrt(u * u + v * v + w * w)
                    if length > 0:
                        rise = (u * nx + v * ny + w * nz) / length
                        near = length / (reach * size)
                        if rise > least:
                            lost += (rise - least) / (1 + near * near)
            free[y, x] = 1 - strength * min(1.0, 1.9 * lost / n_samples)


@njit(cache=True, nogil=True)
def _average(values, depth, smooth):  # type: ignore[no-untyped-def]
    """Average over 4 × 4 pixels where there is something."""
    height, width = values.shape
    for y in range(height):
        for x in range(width):
            if np.isfinite(depth[y, x]):
                total, n = 0.0, 0
                for dy in range(-2, 2):
                    for dx in range(-2, 2):
                        v, u = y + dy, x + dx
                        if 0 <= v < height and 0 <= u < width and np.isfinite(depth[v, u]):
                            total += values[v, u]
                            n += 1
                smooth[y, x] = total / n


@njit(cache=True, nogil=True)
def _light(buffers, surface, haze, picture):  # type: ignore[no-untyped-def]
    depth, item, normal = buffers
    colours, grey, free = surface
    background, strength, nearest, span = haze
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            number = item[y, x]
            if number < 0:
                for k in range(3):
                    picture[y, x, k] = background[k]
                continue
            mist = strength * min(1.0, max(0.0, (depth[y, x] - nearest) / span))
            if number >= len(colours):
                for k in range(3):
                    picture[y, x, k] = (1 - mist) * grey[y, x] * (0.4 + 0.6 * free[y, x]) + mist * background[k]
                continue
            body, shine = _glow(normal[y, x])
            body *= free[y, x]
            for k in range(3):
                value = min(1.0, colours[number, k] * body + shine * free[y, x])
                picture[y, x, k] = (1 - mist) * value + mist * background[k]


@njit(cache=True, nogil=True)
def _glow(normal):  # type: ignore[no-untyped-def]
    """Return how bright a surface is, and how much it shines."""
    length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    if length == 0:
        return 0.9, 0.0
    nx, ny, nz = normal[0] / length, normal[1] / length, normal[2] / length
    key = nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2]
    # Half-way between light and viewer (0, 0, -1).
    hx, hy, hz = _LIGHT[0], _LIGHT[1], _LIGHT[2] - 1.0
    shine = max(0.0, (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)) ** 40
    soft = 0.5 + 0.5 * key  # light that wraps around, as from a large window
    return 0.38 + 0.72 * soft * soft + 0.08 * -nz, 0.16 * shine


@njit(cache=True, nogil=True)
def _outline(buffers, n_items, nm_per_px, picture):  # type: ignore[no-untyped-def]
    """Darken what lies in front of something much farther, or of nothing, and where two things touch."""
    depth, item = buffers
    height, width = depth.shape
    for y in range(height):
        for x in range(width):
            number = item[y, x]
            if number < 0 or number >= n_items:
                continue
            d = depth[y, x]
            step = 6.0 * (nm_per_px[0] + nm_per_px[1] * d)
            dark = 0.0
            for k in range(4):
                v, u = y + (k == 0) - (k == 1), x + (k == 2) - (k == 3)
                if 0 <= v < height and 0 <= u < width:
                    if depth[v, u] > d + step + 2 * _slope(depth, item, (y, x), (2 * y - v, 2 * x - u)):
                        dark = max(dark, 0.62)
                    elif item[v, u] != number and depth[v, u] >= d:
                        dark = max(dark, 0.35)
            for k in range(3):
                picture[y, x, k] *= 1 - dark


@njit(cache=True, nogil=True)
def _slope(depth, item, at, beside):  # type: ignore[no-untyped-def]
    """Return how much depth changes towards a neighbour of the same thing: a steep side is no end of a surface."""
    y, x = at
    v, u = beside
    if 0 <= v < depth.shape[0] and 0 <= u < depth.shape[1] and item[v, u] == item[y, x]:
        return abs(depth[v, u] - depth[y, x])
    return 0.0


@njit(cache=True, nogil=True)
def _blend(layers, colours, opacity, picture):  # type: ignore[no-untyped-def]
    depth, item, normal = layers
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            for i in range(depth.shape[2] - 1, -1, -1):
                number = item[y, x, i]
                if number < 0:
                    continue
                n = normal[y, x, i]
                length = np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2)
                facing = abs(n[2]) / length if length > 0 else 1.0
                # The way through a thin shell is longer where it is seen at a slant.
                cover = 1 - (1 - opacity[number]) ** (1 / max(0.12, facing))
                body, shine = _glow(n)
                for k in range(3):
                    value = min(1.0, colours[number, k] * body + shine)
                    picture[y, x, k] = (1 - cover) * picture[y, x, k] + cover * value
