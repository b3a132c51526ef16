"""Planes carried along a dense flow: labels, maps and points; and flows put together.

A flow is float32 ``(2, y, x)``, dy and dx in pixels, and says for each pixel of the target where it comes from in the
source; see `cristae.flow`::

    target --first--> middle --then--> source        compose(first, then): x → x + first(x) + then(x + first(x))

Flows are composed and labels warped once: nearest-neighbour warps one after another would fray every edge.

Paper: A. Machireddy et al. (2023), Front. Bioinform. 3, 1308708, §3.3 (flow between labelled slices).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cristae.flow import Flow

_STEPS, _CLOSE = 50, 0.01
"""Most steps of the inversion of a flow at a point, and the miss (px) that ends it."""


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
def _by_way(first: np.ndarray, then: np.ndarray, y: int, x: int) -> Any:
    """Return where a pixel comes from by way of the middle plane, as dy and dx."""
    dy, dx = first[0, y, x], first[1, y, x]
    middle_y, middle_x = np.float32(y) + dy, np.float32(x) + dx
    return dy + _bilinear(then[0], middle_y, middle_x), dx + _bilinear(then[1], middle_y, middle_x)


@njit(cache=True, nogil=True)
def _compose(first: np.ndarray, then: np.ndarray, composed: np.ndarray) -> None:
    for y in range(first.shape[1]):
        for x in range(first.shape[2]):
            composed[0, y, x], composed[1, y, x] = _by_way(first, then, y, x)


@njit(cache=True, nogil=True)
def _miss(flow: np.ndarray, back: np.ndarray, error: np.ndarray) -> None:
    for y in range(flow.shape[1]):
        for x in range(flow.shape[2]):
            dy, dx = _by_way(flow, back, y, x)
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
