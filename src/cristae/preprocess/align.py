"""Registration of one slice to another: how far the specimen moved in between, and how it turned.

::

    plane ──reduce──▸ 1/f ──flatten──▸ pyramid          moving(x) ≈ gain · fixed(M x) + offset
                                                        M: pixels of the moving slice → pixels of the fixed one
    coarsest level   phase correlation: shifts of any size
    every level      Gauss-Newton on the squared difference, each step on another random subset of pixels
    finest level     a polish on many more pixels

A step solves for motion, gain and offset at once, with weights that fall to 0 for pixels that fit badly. Pixels
without data are NaN in the pyramid (`cristae.preprocess.pyramid`) and are never looked at.

Whatever two slices hold, some shift makes them agree a little. A match counts only if they agree by more than chance.

Papers: P. Thévenaz, U. E. Ruttimann and M. Unser (1998), IEEE TIP 7, 27 (TurboReg: pyramid, least squares);
S. Klein, M. Staring and J. P. W. Pluim (2007), IEEE TIP 16, 2879 (random subsets of pixels, new ones each iteration);
C. D. Kuglin and D. C. Hines (1975), Proc. IEEE Cybernetics and Society, 163 (phase correlation);
S. Geman and D. McClure (1987), Bull. ISI 52, 5 (the weights);
M. S. Bartlett (1935), J. R. Stat. Soc. 98, 536 (correlation by chance of what is not white).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from cristae.preprocess.pyramid import Plane, Pyramid

Model = Literal["translation", "rigid", "affine"]

_CUT = 4.0
"""Residual, in standard deviations, at which the weight of a pixel has fallen to a quarter."""
_STEPS, _STILL = 12, 0.01
"""Most steps on a level, and the movement (px of that level) that ends them."""
_POLISH, _POLISH_STEPS = 4, 5
"""Pixels of the polish in multiples of those of a step, and its most steps."""
_PEAKS = 3
"""Peaks of the phase correlation that are tried."""
_FEWEST = 64
"""A match on fewer pixels than this is none."""
_ABOVE_CHANCE = 6.0
"""Standard deviations of the correlation of unrelated slices that a match is above; of 1260 pairs of them, made of
noise, textures and blobs, the best reached 5.8."""


@dataclass(frozen=True, slots=True)
class Match:
    """How a slice lies on another one.

    Parameters
    ----------
    matrix
        float64 ``(2, 3)``: where pixel ``(y, x)`` of the moving slice lies in the fixed one, both counted from the
        centre of the slice, in pixels: ``matrix[:, :2] @ (y, x) + matrix[:, 2]``.
    before, after
        Correlation of the two flattened slices where they overlap, -1 to 1, as they are and once matched.
    sigma
        Standard error of the shift in pixels that the fit itself claims; infinite where nothing could be matched.
    """

    matrix: NDArray[np.float64]
    before: float
    after: float
    sigma: float


def register(moving: Pyramid, fixed: Pyramid, model: Model, samples: int, seed: Sequence[int]) -> Match:
    """Find the motion between two slices.

    Parameters
    ----------
    moving, fixed
        From `build_pyramid`, of slices of one shape.
    model
        ``translation``, ``rigid`` (and turned), ``affine`` (and scaled and sheared).
    samples
        Pixels that each step looks at.
    seed
        Whole numbers that decide which pixels these are.

    Returns
    -------
    Match
        Matrix in pixels of the finest level. The identity with an infinite `sigma` where the slices cannot be matched:
        the fit fails, or they agree no better than unrelated slices of their texture may.
    """
    nothing = Match(np.eye(2, 3), 0.0, 0.0, np.inf)
    if not moving or not fixed or moving[0].shape != fixed[0].shape:
        return nothing
    coarse = len(moving) - 1
    matrix = np.eye(2, 3)
    matrix[:, 2] = _best_shift(moving[coarse], fixed[coarse])
    state = _State(matrix, 1.0, 0.0, 1.0, np.inf)
    for level in range(coarse, -1, -1):
        fit = _Fit(moving[level], fixed[level], model)
        state = fit.steps(state, samples, _STEPS, (*seed, level))
        if level:
            state.matrix[:, 2] *= 2
    fit = _Fit(moving[0], fixed[0], model)
    state = fit.steps(state, samples * _POLISH, _POLISH_STEPS, (*seed, len(moving)))
    (before, _), (after, overlap) = fit.correlation(np.eye(2, 3)), fit.correlation(state.matrix)
    if not np.isfinite(state.error) or after < max(before, 0.0) - 0.02 or after < fit.chance(overlap):
        return Match(np.eye(2, 3), before, before, np.inf)
    return Match(state.matrix, before, after, state.error)


def scaled(match: Match, factor: int) -> Match:
    """Return a match of reduced slices in pixels of the full ones."""
    matrix = match.matrix.copy()
    matrix[:, 2] *= factor
    return Match(matrix, match.before, match.after, match.sigma * factor)


@dataclass(slots=True)
class _State:
    """Where the fit is: motion, gain, offset, scale of the residuals, standard error of the shift."""

    matrix: NDArray[np.float64]
    gain: float
    offset: float
    scale: float
    error: float


class _Fit:
    """Gauss-Newton between two planes of one size."""

    def __init__(self, moving: Plane, fixed: Plane, model: Model) -> None:
        self.moving, self.fixed, self.model = moving, fixed, model
        self.radius = 0.5 * float(np.hypot(*moving.shape))
        self.n_motion = {"translation": 2, "rigid": 3, "affine": 6}[model]
        self.grid = max(1, max(moving.shape) // 256)

    def steps(self, state: _State, samples: int, most: int, seed: tuple[int, ...]) -> _State:
        """Go on from a state, on new pixels each time."""
        polish = most == _POLISH_STEPS
        for number in range(most):
            ys, xs = _drawn(self.moving.shape, samples, (*seed, number))
            normal, right, residuals, used = _accumulate(
                (self.moving, self.fixed),
                (ys, xs),
                state.matrix,
                (state.gain, state.offset, state.scale),
                (self.n_motion, self.radius, polish),
            )
            if used < _FEWEST:
                return _State(state.matrix, state.gain, state.offset, state.scale, np.inf)
            try:
                step, spread = np.linalg.solve(normal, right), np.linalg.inv(normal)
            except np.linalg.LinAlgError:
                return _State(state.matrix, state.gain, state.offset, state.scale, np.inf)
            scale = max(1.4826 * float(np.median(np.abs(residuals[:used]))), 1e-3)
            error = scale * float(np.sqrt(np.abs(np.diag(spread)[:2]).max()))
            motion = self._limited(step[: self.n_motion])
            matrix = self._moved(state.matrix, motion)
            gain = float(np.clip(state.gain + step[-2], 0.2, 5.0))
            state = _State(matrix, gain, state.offset + float(step[-1]), scale, error)
            if np.abs(motion).max() < (0.2 * _STILL if polish else _STILL):
                break
        return state

    def correlation(self, matrix: NDArray[np.float64]) -> tuple[float, float]:
        """Return the correlation of the planes under a motion, over a grid of pixels, and the share that overlap."""
        correlation, overlap = _correlation(self.moving, self.fixed, matrix, self.grid)
        return float(correlation), float(overlap)

    def chance(self, overlap: float) -> float:
        """Return the correlation that unrelated planes of such texture stay below where so much of them overlaps.

        Its variance is the sum of products of their autocorrelations over the number of pixels (Bartlett 1935): the
        mean product of their power spectra over the product of their means. Above 0 it is skewed, its inverse tangent
        is not (Fisher).
        """
        planes = [np.nan_to_num(plane[:: self.grid, :: self.grid]) for plane in (self.moving, self.fixed)]
        one, other = (np.abs(np.fft.rfft2(plane)) ** 2 for plane in planes)
        white = max(float(one.mean()) * float(other.mean()), 1e-12)
        deviation = np.sqrt(float((one * other).mean()) / white / (max(overlap, 1e-3) * planes[0].size))
        return float(np.tanh(_ABOVE_CHANCE * deviation))

    def _limited(self, motion: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cut a step to 2 px, beyond which the slopes that it rests on mean nothing."""
        return motion * min(1.0, 2.0 / max(float(np.abs(motion).max()), 1e-12))

    def _moved(self, matrix: NDArray[np.float64], motion: NDArray[np.float64]) -> NDArray[np.float64]:
        new = matrix.copy()
        new[:, 2] += motion[:2]
        if self.model == "rigid":
            angle = np.arctan2(matrix[1, 0], matrix[0, 0]) + motion[2] / self.radius
            cosine, sine = np.cos(angle), np.sin(angle)
            new[:, :2] = ((cosine, -sine), (sine, cosine))
        elif self.model == "affine":
            new[:, :2] += motion[2:].reshape(2, 2) / self.radius
        return new


def _drawn(shape: tuple[int, ...], samples: int, seed: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw pixels, one at random from each cell of a grid: spread evenly, and in the order of memory."""
    height, width = shape
    cell = max(1.0, np.sqrt(height * width / max(1, samples)))
    rows, columns = max(1, int(height / cell)), max(1, int(width / cell))
    random = np.random.default_rng(seed).random((2, rows, columns), dtype=np.float32)
    ys = ((np.arange(rows, dtype=np.float32)[:, None] + random[0]) * np.float32(height / rows)).astype(np.int32)
    xs = ((np.arange(columns, dtype=np.float32) + random[1]) * np.float32(width / columns)).astype(np.int32)
    return np.minimum(ys, height - 1).ravel(), np.minimum(xs, width - 1).ravel()


def _best_shift(moving: Plane, fixed: Plane) -> NDArray[np.float64]:
    """Return the whole shift, of those that phase correlation offers and of none at all, at which planes fit best."""
    height, width = moving.shape
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    one, other = (np.fft.rfft2(np.nan_to_num(plane) * window) for plane in (moving, fixed))
    cross = other * np.conj(one)
    sharp = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=(height, width)).astype(np.float32)
    peaks = cv2.GaussianBlur(sharp, (0, 0), 0.8)
    candidates = [(0, 0)]
    for place in np.argsort(peaks, axis=None)[::-1][: 4 * _PEAKS]:
        y, x = divmod(int(place), width)
        shift = (y - height if y > height // 2 else y, x - width if x > width // 2 else x)
        if all(max(abs(shift[0] - a), abs(shift[1] - b)) > 1 for a, b in candidates[1:]):
            candidates.append(shift)
        if len(candidates) > _PEAKS:
            break
    best, chosen = -np.inf, (0, 0)
    for shift in candidates:
        matrix = np.eye(2, 3)
        matrix[:, 2] = shift
        overlap = max(0.0, (1 - abs(shift[0]) / height) * (1 - abs(shift[1]) / width))
        # Far shifts leave few pixels, and few pixels agree by chance.
        fit = float(_correlation(moving, fixed, matrix, 1)[0]) * np.sqrt(overlap)
        if fit > best:
            best, chosen = fit, shift
    return np.array(chosen, np.float64)


@njit(cache=True, nogil=True)
def _slopes(plane: np.ndarray, y: float, x: float) -> tuple[float, float]:
    """Return the slopes along y and x of what `_value` returns; the place lies within the plane."""
    height, width = plane.shape
    y0, x0 = min(int(y), height - 2), min(int(x), width - 2)
    down, right = y - y0, x - x0
    a, b, c, d = plane[y0, x0], plane[y0, x0 + 1], plane[y0 + 1, x0], plane[y0 + 1, x0 + 1]
    return (c - a) * (1 - right) + (d - b) * right, (b - a) * (1 - down) + (d - c) * down


@njit(cache=True, nogil=True)
def _value(plane: np.ndarray, y: float, x: float) -> float:
    """Return the value between four pixels; NaN outside the plane, and beside pixels without data."""
    height, width = plane.shape
    if not (0.0 <= y <= height - 1 and 0.0 <= x <= width - 1):
        return np.nan
    y0, x0 = min(int(y), height - 2), min(int(x), width - 2)
    down, right = y - y0, x - x0
    above = plane[y0, x0] + (plane[y0, x0 + 1] - plane[y0, x0]) * right
    below = plane[y0 + 1, x0] + (plane[y0 + 1, x0 + 1] - plane[y0 + 1, x0]) * right
    return above + (below - above) * down


@njit(cache=True, nogil=True)
def _by_parameter(out: np.ndarray, slopes: tuple[float, float], place: tuple[float, float], there: float) -> None:
    """Fill in what a pixel changes by per parameter: shift; turn, or stretch and shear; gain and offset."""
    n = out.shape[0]
    out[0], out[1] = slopes
    if n == 5:
        out[2] = -slopes[0] * place[1] + slopes[1] * place[0]
    elif n == 8:
        out[2], out[3] = slopes[0] * place[0], slopes[0] * place[1]
        out[4], out[5] = slopes[1] * place[0], slopes[1] * place[1]
    out[n - 2], out[n - 1] = there, 1.0


@njit(cache=True, nogil=True)
def _accumulate(
    planes: tuple[np.ndarray, np.ndarray],
    pixels: tuple[np.ndarray, np.ndarray],
    matrix: np.ndarray,
    light: tuple[float, float, float],
    model: tuple[int, float, bool],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return normal matrix, right-hand side and residuals of one step, and how many pixels had data.

    Slopes are those of the moving plane. Its noise is not in the fixed one, so that nothing is drawn to whole or half
    pixels, as it is by slopes of an interpolated plane. But noise makes slopes steep, and steps short: in the polish
    the normal matrix is of slopes of the one and of the other (instrumental variables), and steps have their length.
    """
    moving, fixed = planes
    ys, xs = pixels
    gain, offset, scale = light
    n_motion, radius, polish = model
    n = n_motion + 2
    height, width = moving.shape
    middle_y, middle_x = 0.5 * (height - 1), 0.5 * (width - 1)
    normal, right = np.zeros((n, n)), np.zeros(n)
    residuals = np.empty(ys.shape[0], np.float32)
    slope, other = np.empty(n), np.empty(n)
    used = 0
    for k in range(ys.shape[0]):
        y, x = ys[k], xs[k]
        if not (0 < y < height - 1 and 0 < x < width - 1):
            continue
        from_y, from_x = y - middle_y, x - middle_x
        at_y = matrix[0, 0] * from_y + matrix[0, 1] * from_x + matrix[0, 2] + middle_y
        at_x = matrix[1, 0] * from_y + matrix[1, 1] * from_x + matrix[1, 2] + middle_x
        there = _value(fixed, at_y, at_x)
        slope_y = 0.5 * (moving[y + 1, x] - moving[y - 1, x])
        slope_x = 0.5 * (moving[y, x + 1] - moving[y, x - 1])
        residual = moving[y, x] - (gain * there + offset)
        if not np.isfinite(residual + slope_y + slope_x):
            continue
        residuals[used] = residual
        used += 1
        bad = residual / (_CUT * scale)
        weight = 1.0 / (1.0 + bad * bad) ** 2  # Geman-McClure
        _by_parameter(slope, (slope_y, slope_x), (from_y / radius, from_x / radius), there)
        if polish:
            slope_y, slope_x = _slopes(fixed, at_y, at_x)
            _by_parameter(other, (gain * slope_y, gain * slope_x), (from_y / radius, from_x / radius), there)
        else:
            other[:] = slope
        for i in range(n):
            part = weight * slope[i]
            right[i] += part * residual
            for j in range(n):
                normal[i, j] += part * other[j]
    for i in range(n):
        normal[i, i] *= 1 + 1e-6
    return normal, right, residuals, used


@njit(cache=True, nogil=True)
def _correlation(moving: np.ndarray, fixed: np.ndarray, matrix: np.ndarray, step: int) -> tuple[float, float]:
    """Return the correlation of two planes under a motion, over every `step`-th pixel, and the share that overlap.

    The correlation is -1 where few do.
    """
    height, width = moving.shape
    middle_y, middle_x = 0.5 * (height - 1), 0.5 * (width - 1)
    n, seen = 0, 0
    a = b = aa = bb = ab = 0.0
    for y in range(0, height, step):
        for x in range(0, width, step):
            seen += 1
            from_y, from_x = y - middle_y, x - middle_x
            there = _value(
                fixed,
                matrix[0, 0] * from_y + matrix[0, 1] * from_x + matrix[0, 2] + middle_y,
                matrix[1, 0] * from_y + matrix[1, 1] * from_x + matrix[1, 2] + middle_x,
            )
            here = moving[y, x]
            if np.isfinite(here + there):
                n += 1
                a += here
                b += there
                aa += here * here
                bb += there * there
                ab += here * there
    if n < 16 or n < 0.05 * seen:
        return -1.0, n / max(1, seen)
    spread = (aa - a * a / n) * (bb - b * b / n)
    if spread <= 0.0:
        return 0.0, n / seen
    return (ab - a * b / n) / np.sqrt(spread), n / seen
