"""Faults put into a stack on purpose, one at a time, where it is known what is wrong and in which slice.

For tests of what finds faults, and for trying `cristae check` on a volume of your own. Strength 1 is what a
microscopist would see at once, 0.5 what one would see when looking for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import cv2
import numpy as np
from numpy.random import Generator

Fault = Callable[[np.ndarray, int, float, Generator], np.ndarray]


def brightness(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Make one slice brighter or darker, by 0.6 of its deviation at strength 1."""
    side = 1 if rng.random() < 0.5 else -1
    return _with(image, z, image[z] + side * 0.6 * strength * image[z].std())


def contrast(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Stretch the grey values of one slice about their mean, or press them together, by 40 % at strength 1."""
    gain = (1 + 0.4 * strength) ** (1 if rng.random() < 0.5 else -1)
    return _with(image, z, (image[z] - image[z].mean()) * gain + image[z].mean())


def curtaining(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Lay vertical stripes over one slice, sharp and broad, of 0.6 of its deviation at strength 1."""
    white = rng.normal(size=(1, image.shape[2])).astype(np.float32)
    mixed = cv2.GaussianBlur(white, (0, 0), 0.9) / 0.56 + cv2.GaussianBlur(white[:, ::-1], (0, 0), 4) / 0.27
    rows = np.linspace(0.7, 1.3, image.shape[1])[:, None]
    return _with(image, z, image[z] + 0.6 * strength * image[z].std() * rows * mixed / mixed.std())


def charging(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Let a place in one slice shine: a halo of 8 % of the slice's side, of five deviations at strength 1."""
    height, width = image.shape[1:]
    y0, x0 = rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
    y, x = np.ogrid[:height, :width]
    radius = 0.08 * min(height, width)
    halo = np.exp(-((y - y0) ** 2 + ((x - x0) / 1.6) ** 2) / (2 * radius**2))
    side = 1 if rng.random() < 0.7 else -1
    return _with(image, z, image[z] + side * 5 * strength * image[z].std() * halo)


def out_of_focus(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Blur one slice by a Gaussian of 2.5 pixels at strength 1, under as much noise as before."""
    plane = image[z].astype(np.float32)
    # The noise of a detector does not depend on the focus; Immerkaer (1996) measures it.
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    noise = float(np.abs(cv2.filter2D(plane, -1, kernel)).mean() * np.sqrt(np.pi / 2) / 6)
    blurred = cv2.GaussianBlur(plane, (0, 0), 2.5 * strength)
    return _with(image, z, blurred + rng.normal(0, noise, plane.shape))


def missing(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Put nothing in the place of one slice."""
    return _with(image, z, np.zeros(image.shape[1:]))


def duplicated(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Put the slice before in the place of one slice; below strength 1, with grey values moved by a little."""
    again = image[z - 1] if strength >= 1 else image[z - 1] + rng.normal(0, 0.6, image.shape[1:])
    return _with(image, z, again)


def shuffled(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Swap one slice with the next; see `swapped` for slices farther apart."""
    return swapped(image, z, z + 1)


def swapped(image: np.ndarray, one: int, other: int) -> np.ndarray:
    """Return a stack in which two slices have changed their places."""
    found = image.copy()
    found[[one, other]] = image[[other, one]]
    return found


def gap(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Take out slices from `z` on, without a trace: two at strength 1, one below."""
    n = 2 if strength >= 1 else 1
    return np.concatenate([image[:z], image[z + n :]])


def shift(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Move one slice by 8 pixels at strength 1, in any direction; what comes in is mirrored."""
    angle = rng.uniform(0, 2 * np.pi)
    return _with(image, z, moved(image[z], round(8 * strength * np.sin(angle)), round(8 * strength * np.cos(angle))))


def drift(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Let all slices drift along x, by 2 pixels per slice at strength 1."""
    return np.stack([moved(plane, 0, 2 * strength * k) for k, plane in enumerate(image)])


def padding(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Set the first rows of one slice to 0: a tenth of them at strength 1."""
    found = image.copy()
    found[z, : max(9, round(0.1 * strength * image.shape[1]))] = 0
    return found


def saturated(image: np.ndarray, z: int, strength: float, rng: Generator) -> np.ndarray:
    """Expose one slice for too long: what is brighter than one deviation above the mean is clipped at strength 1."""
    plane, top = image[z].astype(np.float64), float(np.iinfo(image.dtype).max)
    knee = plane.mean() + plane.std() / strength
    return _with(image, z, plane * (top / knee))


FAULTS: Final[Mapping[str, Fault]] = {
    "missing": missing,
    "duplicated": duplicated,
    "shuffled": shuffled,
    "gap": gap,
    "out_of_focus": out_of_focus,
    "charging": charging,
    "curtaining": curtaining,
    "saturated": saturated,
    "padding": padding,
    "brightness": brightness,
    "contrast": contrast,
    "shift": shift,
    "drift": drift,
}
"""Each takes an image ``(z, y, x)``, a slice, a strength and a generator, and returns a new image of the same type."""


def moved(plane: np.ndarray, y: float, x: float) -> np.ndarray:
    """Return a slice ``(y, x)`` whose content lies so many pixels farther; what comes in is mirrored."""
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    size = (plane.shape[1], plane.shape[0])
    return cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _with(image: np.ndarray, z: int, plane: np.ndarray) -> np.ndarray:
    """Return a stack with another slice, clipped to what the type holds."""
    found = image.copy()
    found[z] = np.clip(np.rint(plane), 0, np.iinfo(image.dtype).max).astype(image.dtype)
    return found
