"""Dense optical flow between two slices, and what it carries: labels, maps and points.

For everything that follows a structure from a slice where it is known (the source) to one where it is not (the
target). A flow is float32 ``(2, y, x)``, dy and dx in pixels, and says for each pixel of the target where it comes
from::

    target(x) ≈ source(x + flow(x))          so a plane is carried over by looking back, without holes

    target --first--> middle --then--> source        compose(first, then): x → x + first(x) + then(x + first(x))

Flows are composed and labels warped once: nearest-neighbour warps one after another would fray every edge.

Papers: G. Farnebäck (2003), SCIA, 363 (polynomial expansion); T. Kroeger et al. (2016), ECCV, 471 (dense inverse
search, DIS); A. Machireddy et al. (2023), Front. Bioinform. 3, 1308708, §3.3 (flow between labelled slices).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

Flow = NDArray[np.float32]

_SMALLEST = 64
"""Least side (px) given to OpenCV: below it DIS refuses images, returns NaN or, where they are long, crashes."""
_STEPS, _CLOSE = 50, 0.01
"""Most steps of the inversion of a flow at a point, and the miss (px) that ends it."""


@dataclass(frozen=True, slots=True)
class Farneback:
    """Flow by polynomial expansion (Farnebäck 2003).

    Parameters
    ----------
    levels
        Smaller images used beside the full one. MATLAB's ``NumPyramidLevels`` counts the full one too, so it is one
        more. Levels whose shorter side would be under 32 px are left out.
    scale
        Size of each level relative to the one above, between 0 and 1.
    window
        Side (px) of the window that displacements are averaged over; 30 and 31 are the same, as half is taken on
        either side.
    iterations
        Passes per level.
    neighbourhood
        Side (px) of the neighbourhood that each polynomial is fitted to.
    sigma
        Width (px) of the Gaussian that weights the fit: 1.1 goes with a neighbourhood of 5 px, 1.5 with 7 px.
    gaussian
        Average displacements with a Gaussian instead of a box: slower, sharper.
    reduction
        1 for full resolution, 2 for half, and so on: images are averaged over squares of this side (px).

    Raises
    ------
    ValueError
        If a value is out of bounds.
    """

    levels: int = 3
    scale: float = 0.5
    window: int = 15
    iterations: int = 3
    neighbourhood: int = 5
    sigma: float = 1.2
    gaussian: bool = False
    reduction: int = 1

    def __post_init__(self) -> None:
        counts = (self.window, self.iterations, self.neighbourhood, self.reduction)
        if min(counts) < 1 or self.levels < 0 or not 0 < self.scale < 1 or not self.sigma > 0:
            raise ValueError(f"expected positive counts, sigma above 0 and scale between 0 and 1; got {self}")


@dataclass(frozen=True, slots=True)
class Dis:
    """Flow by dense inverse search (Kroeger et al. 2016).

    Parameters
    ----------
    preset
        OpenCV's trade of speed for accuracy. The two faster ones match at a quarter of the size given to them,
        ``medium`` at half.
    reduction
        As in `Farneback`.

    Raises
    ------
    ValueError
        If a value is out of bounds.
    """

    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    reduction: int = 1

    def __post_init__(self) -> None:
        if self.preset not in _DIS_PRESETS or self.reduction < 1:
            raise ValueError(f"expected a preset of {sorted(_DIS_PRESETS)} and a reduction of at least 1; got {self}")


FlowMethod = Farneback | Dis

_DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}

PRESETS: Mapping[str, FlowMethod] = MappingProxyType(
    {
        # The text gives MATLAB's names: pyramid levels 6 (the full image is one of them), pyramid scale 0.2,
        # filter size 30 (MATLAB averages with a Gaussian), iterations 3, neighbourhood 5 (sigma 1.1 comes with it).
        "machireddy2023": Farneback(
            levels=5, scale=0.2, window=30, iterations=3, neighbourhood=5, sigma=1.1, gaussian=True
        ),
        # What the code released with it runs, in OpenCV.
        "released": Farneback(levels=3, scale=0.5, window=15, iterations=3, neighbourhood=5, sigma=1.2),
        "dis": Dis(),
    }
)
"""Flow methods by name: the paper's text, its released code, and ours."""


def dense_flow(target: np.ndarray, source: np.ndarray, method: FlowMethod) -> Flow:
    """Return where each pixel of the target comes from in the source.

    Parameters
    ----------
    target, source
        uint8 ``(y, x)`` of one shape.
    method
        From `PRESETS`, or a `Farneback` or `Dis` of one's own.

    Returns
    -------
    float32 (2, y, x)
        dy and dx in pixels: ``target(x) ≈ source(x + flow(x))``. Finite; exactly 0 between equal images.

    Raises
    ------
    ValueError
        If the images are not uint8 planes of one shape with at least one pixel.
    """
    for image in (target, source):
        if image.dtype != np.uint8 or image.ndim != 2 or not image.size:
            raise ValueError(f"flow needs uint8 planes (y, x); got {image.dtype} of shape {image.shape}")
    if target.shape != source.shape:
        raise ValueError(f"target and source differ in shape: {target.shape} and {source.shape}")
    height, width = target.shape
    if np.array_equal(target, source):
        # Farnebäck's treatment of the border would move it by up to 0.1 px, which adds up in a static stack.
        return np.zeros((2, height, width), np.float32)
    small = _estimate(_reduced(target, method.reduction), _reduced(source, method.reduction), method)
    flow = np.empty((2, height, width), np.float32)
    for axis, channel in enumerate((1, 0)):
        step = cv2.extractChannel(small, channel)
        if method.reduction > 1:
            step *= method.reduction
            size = (step.shape[1] * method.reduction, step.shape[0] * method.reduction)
            step = cv2.resize(step, size, interpolation=cv2.INTER_LINEAR)
        flow[axis] = step[:height, :width]
    return flow


def compose(first: Flow, then: Flow) -> Flow:
    """Return the flow from target to source by way of a middle plane.

    Parameters
    ----------
    first
        float32 ``(2, y, x)``, target to middle.
    then
        float32 ``(2, y, x)``, middle to source; between pixels it is interpolated, outside the plane its border counts.

    Raises
    ------
    ValueError
        If the flows are not float32 ``(2, y, x)`` of one shape.
    """
    _check_flow(first, then.shape[1:])
    _check_flow(then, first.shape[1:])
    composed = np.empty_like(first)
    _compose(first, then, composed)
    return composed


def forward_backward_error(flow: Flow, back: Flow) -> NDArray[np.float32]:
    """Return by how far each pixel of the target misses itself after going to the source and back.

    Parameters
    ----------
    flow
        float32 ``(2, y, x)``, target to source.
    back
        float32 ``(2, y, x)``, source to target.

    Returns
    -------
    float32 (y, x)
        Pixels; 0 where the two flows undo each other, large where there is nothing to match.

    Raises
    ------
    ValueError
        As `compose`.
    """
    _check_flow(flow, back.shape[1:])
    _check_flow(back, flow.shape[1:])
    error = np.empty(flow.shape[1:], np.float32)
    _miss(flow, back, error)
    return error


def warp_labels(labels: np.ndarray, flow: Flow) -> np.ndarray:
    """Carry the labels of the source to the target; each pixel takes one id, ids never mix.

    Parameters
    ----------
    labels
        Integers (or bool) ``(y, x)`` of the source; 0 is background.
    flow
        float32 ``(2, y, x)``, target to source.

    Returns
    -------
    (y, x) of the dtype of `labels`
        The id nearest to where each pixel comes from; for what lies outside the source, that of the nearest pixel of
        its border. A half is rounded up.

    Raises
    ------
    ValueError
        If the labels are not integers, or the shapes differ.
    """
    if labels.dtype.kind not in "iub":
        raise ValueError(f"expected integer labels, got {labels.dtype}; warp maps with warp_map")
    _check_flow(flow, labels.shape)
    warped = np.empty_like(labels, order="C")
    _warp_nearest(labels, flow, warped)
    return warped


def warp_map(values: np.ndarray, flow: Flow) -> np.ndarray:
    """Carry a map of the source (a probability, an image) to the target, bilinearly.

    Parameters
    ----------
    values
        uint8 or float32 ``(y, x)`` of the source.
    flow
        float32 ``(2, y, x)``, target to source.

    Returns
    -------
    (y, x) of the dtype of `values`
        uint8 is rounded. What lies outside the source takes the value of the nearest pixel of its border.

    Raises
    ------
    ValueError
        If the dtype is another one, or the shapes differ.
    """
    if values.dtype not in (np.uint8, np.float32):
        raise ValueError(f"expected a map of uint8 or float32, got {values.dtype}; warp ids with warp_labels")
    _check_flow(flow, values.shape)
    warped = np.empty_like(values, order="C")
    _warp_bilinear(values, flow, np.float32(0.5 if values.dtype == np.uint8 else 0), warped)
    return warped


def warp_points(points: np.ndarray, flow: Flow) -> NDArray[np.float64]:
    """Return where points of the source land in the target.

    The flow leads from target to source, so it is inverted at each point, by the fixed-point iteration x ← p − flow(x)
    from x = p. No backward flow is needed, and a point lands where `warp_labels` takes the label at that point to.
    Where the flow folds there is no inverse; then the x that came nearest is returned.

    Parameters
    ----------
    points
        ``(n, 2)``, y and x in the source, in pixels.
    flow
        float32 ``(2, y, x)``, target to source.

    Returns
    -------
    float64 (n, 2)
        y and x in the target; outside the plane for points that leave it.

    Raises
    ------
    ValueError
        If the points are not ``(n, 2)``, or the flow is not float32 ``(2, y, x)``.
    """
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"expected points (n, 2) of y and x, got shape {points.shape}")
    _check_flow(flow, flow.shape[1:])
    landed = np.array(points, np.float64)
    _invert(landed, flow)
    return landed


def _reduced(image: np.ndarray, reduction: int) -> np.ndarray:
    """Average squares of `reduction` px; the plane is first continued to whole squares and to what OpenCV can bear."""
    height, width = image.shape
    below = max(-height % reduction, _SMALLEST * reduction - height)
    beside = max(-width % reduction, _SMALLEST * reduction - width)
    if below or beside:
        image = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    if reduction == 1:
        return image
    size = (image.shape[1] // reduction, image.shape[0] // reduction)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _estimate(target: np.ndarray, source: np.ndarray, method: FlowMethod) -> np.ndarray:
    """Return OpenCV's flow, float32 ``(y, x, 2)`` = dx, dy."""
    target, source = np.ascontiguousarray(target), np.ascontiguousarray(source)
    if isinstance(method, Dis):
        return cv2.DISOpticalFlow.create(_DIS_PRESETS[method.preset]).calc(target, source, None)  # type: ignore[call-overload]
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN if method.gaussian else 0
    fit: Any = method.neighbourhood, method.sigma, flags
    pyramid: Any = None, method.scale, method.levels, method.window, method.iterations
    return cv2.calcOpticalFlowFarneback(target, source, *pyramid, *fit)


def _check_flow(flow: np.ndarray, shape: tuple[int, ...]) -> None:
    if flow.dtype != np.float32 or flow.ndim != 3 or flow.shape[0] != 2 or flow.shape[1:] != shape:
        raise ValueError(f"expected a flow float32 (2, y, x) for planes of {shape}, got {flow.dtype} {flow.shape}")


@njit(cache=True, nogil=True)
def _clamp(position: Any, n: int) -> Any:
    """Return the position within the first and last of `n` pixels; NaN gives the first."""
    last = np.float32(n - 1)
    inside = position if position > 0 else np.float32(0)
    return inside if inside < last else last


@njit(cache=True, nogil=True)
def _bilinear(plane: np.ndarray, y: Any, x: Any) -> Any:
    """Return the value between the four pixels around (y, x), which is first clamped to the plane."""
    height, width = plane.shape
    y, x = _clamp(y, height), _clamp(x, width)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    down, right = y - np.float32(y0), x - np.float32(x0)
    corner = np.float32(plane[y0, x0])
    above = corner + (np.float32(plane[y0, x1]) - corner) * right
    corner = np.float32(plane[y1, x0])
    below = corner + (np.float32(plane[y1, x1]) - corner) * right
    return above + (below - above) * down


@njit(cache=True, nogil=True)
def _compose(first: np.ndarray, then: np.ndarray, composed: np.ndarray) -> None:
    for y in range(first.shape[1]):
        for x in range(first.shape[2]):
            middle_y, middle_x = np.float32(y) + first[0, y, x], np.float32(x) + first[1, y, x]
            composed[0, y, x] = first[0, y, x] + _bilinear(then[0], middle_y, middle_x)
            composed[1, y, x] = first[1, y, x] + _bilinear(then[1], middle_y, middle_x)


@njit(cache=True, nogil=True)
def _miss(flow: np.ndarray, back: np.ndarray, error: np.ndarray) -> None:
    for y in range(flow.shape[1]):
        for x in range(flow.shape[2]):
            there_y, there_x = np.float32(y) + flow[0, y, x], np.float32(x) + flow[1, y, x]
            dy = flow[0, y, x] + _bilinear(back[0], there_y, there_x)
            dx = flow[1, y, x] + _bilinear(back[1], there_y, there_x)
            error[y, x] = np.sqrt(dy * dy + dx * dx)


@njit(cache=True, nogil=True)
def _warp_nearest(labels: np.ndarray, flow: np.ndarray, warped: np.ndarray) -> None:
    height, width = labels.shape
    half = np.float32(0.5)
    for y in range(height):
        for x in range(width):
            from_y = int(_clamp(np.float32(y) + flow[0, y, x], height) + half)
            from_x = int(_clamp(np.float32(x) + flow[1, y, x], width) + half)
            warped[y, x] = labels[from_y, from_x]


@njit(cache=True, nogil=True)
def _warp_bilinear(values: np.ndarray, flow: np.ndarray, rounding: np.float32, warped: np.ndarray) -> None:
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            from_y, from_x = np.float32(y) + flow[0, y, x], np.float32(x) + flow[1, y, x]
            warped[y, x] = _bilinear(values, from_y, from_x) + rounding


@njit(cache=True, nogil=True)
def _invert(points: np.ndarray, flow: np.ndarray) -> None:
    for i in range(points.shape[0]):
        y, x = points[i, 0], points[i, 1]
        best, best_y, best_x = np.inf, y, x
        for _ in range(_STEPS):
            next_y = points[i, 0] - _bilinear(flow[0], y, x)
            next_x = points[i, 1] - _bilinear(flow[1], y, x)
            miss = np.hypot(next_y - y, next_x - x)
            if miss < best:
                best, best_y, best_x = miss, y, x
            if miss < _CLOSE:
                break
            y, x = next_y, next_x
        points[i, 0], points[i, 1] = best_y, best_x
