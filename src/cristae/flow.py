"""Dense optical flow between two slices.

For everything that follows a structure from a slice where it is known (the source) to one where it is not (the
target). A flow is float32 ``(2, y, x)``, dy and dx in pixels, and says for each pixel of the target where it comes
from::

    target(x) ≈ source(x + flow(x))          so a plane is carried over by looking back, without holes

What it carries is in `cristae.warping`.

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
from numpy.typing import NDArray

Flow = NDArray[np.float32]

_SMALLEST = 64
"""Least side (px) given to OpenCV: below it DIS refuses images, returns NaN or, where they are long, crashes."""


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
