"""What one slice of a micrograph says of itself, and how it fits the slices before it.

Every number here is a measure, not a verdict: `cristae.preprocess.verdicts` sets them against the rest of the stack. A
slice is looked at once, at full resolution where noise, blur and stripes are concerned and reduced to `LONGEST` pixels
where neighbours are compared, so that its cost grows with its pixels and its memory hardly at all::

    plane (y, x) ──> Look: grey values, padding, stripes, sharpness, coarse grid
                      │
    the looks before ─┴─> Fit: likeness and shift at each lag, copies
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

LONGEST = 768
"""Pixels of the longer side of a slice when it is compared with its neighbours."""
LAGS = 6
"""Slices before it that a slice is compared with."""
DISTANCES = 32
"""Reduced pixels along y and x up to which a slice is compared with itself."""
GRID = 32
"""Blocks along the longer side of the coarse grid, at most."""
_AT_ONCE = 2**20
_TILE = 256
_TILES = 3
_BANDS = 8
_CORE = 128
_PADDING_BLOCK = 8
_STRIPE_SIGMA = 12.0
_BAND_PASS = (1.0, 12.0)
_MARGIN = 0.25
"""A shift of more than this share of a side is not looked for."""


@dataclass(frozen=True, eq=False)
class Look:
    """What a slice says of itself.

    Parameters
    ----------
    blank
        Whether it holds one value throughout: nothing was imaged.
    digest
        The same pixels, the same bytes.
    brightness
        Median grey value, without padding.
    contrast
        Spread of grey values: the distance from the 10th to the 90th percentile over that of a normal distribution, so
        that it is a standard deviation that few extreme pixels do not change. At least 1e-6.
    dark, bright
        Share (0–1) of pixels that hold the lowest and the highest value, where these stand out of the histogram.
    padding
        Share (0–1) of the slice that is 0 and connected to its edge.
    stripes, rows
        Strength of vertical and of horizontal stripes, in units of the contrast.
    sharpness
        Natural logarithm of the power of fine structures over that of coarse ones, noise taken out.
    noise
        Standard deviation of the pixel noise, in units of the contrast.
    grid
        float32 ``(m, n)``: block means, in units of the contrast, 0 at the median.
    likeness
        float32 ``(DISTANCES + 1,)``: likeness of the slice to itself moved by so many reduced pixels, 1 at 0.
    factor
        Side of a reduced pixel in pixels.
    chance
        Likeness that two slices of this size have that have nothing to do with each other.
    spectrum, core
        What `fit` compares: complex and float32 arrays, not kept.
    """

    blank: bool
    digest: bytes
    brightness: float
    contrast: float
    dark: float
    bright: float
    padding: float
    stripes: float
    rows: float
    sharpness: float
    noise: float
    grid: np.ndarray
    likeness: np.ndarray
    factor: int
    chance: float
    spectrum: np.ndarray
    core: np.ndarray


@dataclass(frozen=True)
class Fit:
    """How a slice fits the ones before it.

    Parameters
    ----------
    likeness
        float64 ``(LAGS,)``: greatest correlation with the slice 1, 2... before, over all shifts; NaN where there is
        none, or nothing to compare.
    shift_y, shift_x
        How far the slice lies from the one before, in pixels; NaN without.
    copy
        Greatest correlation of fine detail, noise included, with one of the slices before, unmoved.
    copy_lag
        How many slices before that one is; 0 without.
    """

    likeness: np.ndarray
    shift_y: float
    shift_x: float
    copy: float
    copy_lag: int


def look(plane: np.ndarray) -> Look:
    """Measure one slice.

    Parameters
    ----------
    plane
        uint8 or uint16 ``(y, x)``; 0 is padding where it is connected to the edge.

    Returns
    -------
    Look
        Of a slice without content, or too small for a measure, that measure is 0 or NaN.
    """
    plane = np.ascontiguousarray(plane)
    digest = hashlib.blake2b(plane.data, digest_size=16).digest()
    factor = max(1, -(-max(plane.shape) // LONGEST))
    counts = histogram(plane)
    if np.count_nonzero(counts) <= 1:
        return _blank(plane, digest, factor)
    outside = padding(plane) if counts[0] else None
    n_outside = int(outside.sum()) if outside is not None else 0
    counts[0] -= n_outside
    brightness, contrast = grey_levels(counts)
    dark, bright = saturation(counts)
    values = plane.astype(np.float32)
    if outside is not None:
        values[outside] = brightness  # an edge of padding is no structure
    values -= brightness
    values /= contrast
    reduced = _reduced(values, factor)
    sharpness, noise = sharpness_and_noise(values)
    spectrum = _spectrum(reduced)
    return Look(
        blank=False,
        digest=digest,
        brightness=brightness,
        contrast=contrast,
        dark=dark,
        bright=bright,
        padding=n_outside / plane.size,
        stripes=stripes(values),
        rows=stripes(values.T),
        sharpness=sharpness,
        noise=noise,
        grid=_grid(reduced),
        likeness=_likeness_to_itself(spectrum, reduced.shape),
        factor=factor,
        chance=chance_of(reduced.shape),
        spectrum=spectrum,
        core=_core(values),
    )


def fit(this: Look, before: Sequence[Look]) -> Fit:
    """Compare a slice with those before it.

    Parameters
    ----------
    this
        The slice.
    before
        The slices before it, the nearest first; of more than `LAGS` the rest is not looked at.
    """
    likeness = np.full(LAGS, np.nan)
    shift, copy, lag = (np.nan, np.nan), 0.0, 0
    for k, other in enumerate(before[:LAGS]):
        if this.blank or other.blank or this.spectrum.shape != other.spectrum.shape:
            continue
        likeness[k], moved = _correlate(this.spectrum, other.spectrum)
        if k == 0:
            shift = (moved[0] * this.factor, moved[1] * this.factor)
        same = 1.0 if this.digest == other.digest else float(np.vdot(this.core, other.core))
        if same > copy:
            copy, lag = same, k + 1
    return Fit(likeness, shift[0], shift[1], copy, lag)


def chance_of(shape: tuple[int, ...]) -> float:
    """Return the greatest correlation, over all shifts, to expect of two reduced slices that have nothing in common.

    Of n independent pixels a correlation is about normal with deviation 1 / sqrt(n), and the greatest of m such numbers
    about sqrt(2 ln m) deviations. Pixels within a smoothed spot are one, and the window leaves three eighths of each
    side.
    """
    fine = 4 * np.pi * _BAND_PASS[0] ** 2
    n_pixels = max(1.0, float(np.prod(shape)) * 0.375**2 / fine)
    n_shifts = max(2.0, float(np.prod(shape)) * (2 * _MARGIN) ** 2 / fine)
    return float(min(1.0, np.sqrt(2 * np.log(n_shifts) / n_pixels)))


def histogram(plane: np.ndarray) -> np.ndarray:
    """Return how often each grey value occurs, int64 ``(n,)`` up to the highest, in little memory."""
    counts = np.zeros(int(plane.max()) + 1, np.int64)
    for rows in np.array_split(plane, max(1, plane.size // _AT_ONCE)):
        counts += np.bincount(rows.ravel(), minlength=len(counts))
    return counts


def grey_levels(counts: np.ndarray) -> tuple[float, float]:
    """Return median and robust standard deviation of grey values that occur `counts` times, int64 ``(n,)``."""
    below = np.cumsum(counts)
    low, middle, high = (int(np.searchsorted(below, share * below[-1])) for share in (0.1, 0.5, 0.9))
    return float(middle), max((high - low) / 2.5631, 0.25)


def saturation(counts: np.ndarray) -> tuple[float, float]:
    """Return the shares (0–1) of pixels that are clipped at the lower and the upper end of a histogram.

    Clipped pixels heap up at the last value in use. The pile counts only as far as it is higher than the values beside
    it would let one expect; a histogram that runs out has none.

    Parameters
    ----------
    counts
        int64 ``(n,)``: how often each grey value occurs.
    """
    used = np.flatnonzero(counts)
    if len(used) < 3:
        return 0.0, 0.0
    width = max(2, (int(used[-1]) - int(used[0])) // 48)
    total = counts.sum()

    def pile(ordered: np.ndarray) -> float:
        beside = float(ordered[1 : 1 + width].max())
        # Beyond what the next values would let one expect, for a histogram that ends on a slope is not clipped.
        return max(0.0, float(ordered[0]) - 3 * beside) / float(total)

    inside = counts[used[0] : used[-1] + 1]
    return pile(inside), pile(inside[::-1])


def padding(plane: np.ndarray) -> np.ndarray:
    """Return where a slice is padded: bool ``(y, x)``, blocks of zeros that are connected to its edge."""
    side = _PADDING_BLOCK
    height, width = plane.shape
    extra = ((0, -height % side), (0, -width % side))
    zero = np.pad(plane == 0, extra, mode="edge")
    blocks = zero.reshape(zero.shape[0] // side, side, zero.shape[1] // side, side).all(axis=(1, 3))
    full = np.asarray(blocks, np.uint8)
    _, parts = cv2.connectedComponents(full, connectivity=4)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    wide = np.isin(parts, np.setdiff1d(edge, [0]))
    # One block further, so that the ragged rim of what is padded belongs to it.
    wide = cv2.dilate(wide.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return (np.repeat(np.repeat(wide, side, axis=0), side, axis=1) & zero)[:height, :width]


def stripes(values: np.ndarray) -> float:
    """Return the strength of vertical stripes: their standard deviation, in the unit of `values`.

    Means of columns are taken in horizontal bands. A stripe is there in bands far apart, tissue is not: the covariance
    of the fine part of such profiles is the variance of stripes.

    Parameters
    ----------
    values
        float32 ``(y, x)``.
    """
    height, width = values.shape
    if height < 2 * _BANDS or width < 16:
        return 0.0
    edges = np.linspace(0, height, _BANDS + 1).astype(int)
    profiles = np.stack([values[a:b].mean(axis=0) for a, b in pairwise(edges)])
    fine = profiles - cv2.GaussianBlur(profiles, (0, 0), sigmaX=_STRIPE_SIGMA, sigmaY=1e-3)
    covariance = fine @ fine.T / width
    apart = np.abs(np.subtract.outer(np.arange(_BANDS), np.arange(_BANDS))) >= 2
    return float(np.sqrt(max(0.0, float(np.median(covariance[apart])))))


def sharpness_and_noise(values: np.ndarray) -> tuple[float, float]:
    """Return how sharp a slice is and how noisy, from the power spectrum of tiles spread over it.

    Noise is white: what the highest frequencies hold is taken out of all. What remains of the fine structures (4 to 8
    pixels) is set against coarse ones (12 to 40 pixels): a lens out of focus takes the fine ones first, whatever the
    tissue.

    Parameters
    ----------
    values
        float32 ``(y, x)``.
    """
    side = min(_TILE, *values.shape)
    if side < 48:
        return np.nan, np.nan
    power = np.zeros((side, side // 2 + 1))
    window = np.outer(np.hanning(side), np.hanning(side)).astype(np.float32)
    corners = [np.unique(np.linspace(0, n - side, _TILES).astype(int)) for n in values.shape]
    for y in corners[0]:
        for x in corners[1]:
            tile = values[y : y + side, x : x + side]
            power += np.abs(np.fft.rfft2((tile - tile.mean()) * window)) ** 2
    power /= len(corners[0]) * len(corners[1]) * float((window**2).sum())
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    floor = float(power[frequency > 0.42].mean())
    fine = float(power[(frequency > 1 / 8) & (frequency < 1 / 4)].mean()) - floor
    coarse = float(power[(frequency > 1 / 40) & (frequency < 1 / 12)].mean()) - floor
    sharpness = np.log(max(fine, 1e-6) / max(coarse, 1e-6))
    return float(sharpness), float(np.sqrt(max(floor, 0.0)))


def _blank(plane: np.ndarray, digest: bytes, factor: int) -> Look:
    nothing, grey = np.zeros((0, 0), np.float32), float(plane.flat[0])
    likeness = np.zeros(DISTANCES + 1, np.float32)
    shape = _grid(_reduced(np.zeros(plane.shape, np.float32), factor))
    empty = float(grey == 0)
    measures = (0.0, 0.0, empty, 0.0, 0.0, np.nan, np.nan)
    return Look(True, digest, grey, 0.25, *measures, shape, likeness, factor, 1.0, nothing, nothing)


def _reduced(values: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return values
    height, width = (max(1, n // factor) for n in values.shape)
    return cv2.resize(values[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)


def _grid(reduced: np.ndarray) -> np.ndarray:
    side = max(4, -(-max(reduced.shape) // GRID))
    return _reduced(reduced, side)


def _spectrum(reduced: np.ndarray) -> np.ndarray:
    """Return the spectrum of the middle frequencies of a slice, complex64, scaled so that its power is 1."""
    fine, coarse = _BAND_PASS
    band = cv2.GaussianBlur(reduced, (0, 0), fine) - cv2.GaussianBlur(reduced, (0, 0), coarse)
    # Whatever shines a hundred times brighter than tissue would be all that is compared.
    band = np.clip(band, -3, 3)
    window = np.outer(np.hanning(band.shape[0] + 2)[1:-1], np.hanning(band.shape[1] + 2)[1:-1])
    band = (band - band.mean()) * window.astype(np.float32)
    norm = float(np.sqrt((band**2).sum()))
    # Even sides, for a spectrum of real numbers does not say whether its last side was odd.
    shape = tuple(2 * cv2.getOptimalDFTSize(-(-n // 2)) for n in band.shape)
    return (np.fft.rfft2(band / max(norm, 1e-9), shape)).astype(np.complex64)


def _map(product: np.ndarray) -> np.ndarray:
    """Return the map of a spectrum, float32 ``(y, x)`` of even sides."""
    return np.fft.irfft2(product).astype(np.float32)


def _correlate(this: np.ndarray, other: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Return the greatest correlation of two slices, and where: how far `this` lies from `other`."""
    found = _map(this * np.conj(other))
    far = tuple(max(2, int(_MARGIN * n)) for n in found.shape)
    window = np.roll(found, far, axis=(0, 1))[: 2 * far[0] + 1, : 2 * far[1] + 1]
    y, x = np.unravel_index(int(np.argmax(window)), window.shape)
    peak, moved = float(window[y, x]), []
    for place, n, line in ((int(y), window.shape[0], window[:, x]), (int(x), window.shape[1], window[y])):
        offset = 0.0
        if 0 < place < n - 1:
            before, after = float(line[place - 1]), float(line[place + 1])
            bend = before - 2 * float(line[place]) + after
            if bend < 0:
                offset = 0.5 * (before - after) / bend
                peak -= 0.25 * (before - after) * offset
        moved.append(place + offset)
    return min(peak, 1.0), (moved[0] - far[0], moved[1] - far[1])


def _likeness_to_itself(spectrum: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found = _map(np.abs(spectrum) ** 2)
    reach = min(DISTANCES + 1, *(n // 2 for n in shape))
    likeness = np.full(DISTANCES + 1, np.nan, np.float32)
    likeness[:reach] = (found[:reach, 0] + found[0, :reach]) / 2
    return likeness


def _core(values: np.ndarray) -> np.ndarray:
    """Return fine detail of four squares of a slice, of length 1: two pictures of one thing differ in it by noise."""
    side = min(_CORE, *values.shape)
    corners = [sorted({(n - side) // 4, 3 * (n - side) // 4}) for n in values.shape]
    tiles = [values[y : y + side, x : x + side] for y in corners[0] for x in corners[1]]
    fine = np.stack([tile - cv2.GaussianBlur(tile, (0, 0), 1.5) for tile in tiles]).ravel()
    return fine / max(float(np.linalg.norm(fine)), 1e-9)
