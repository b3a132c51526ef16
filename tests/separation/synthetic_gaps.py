"""Synthetic cells that move, touch, begin and end, with an image that moves with them."""

import functools
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from cristae.separation.gap import Gap

SHAPE = (112, 144)


@dataclass
class Disc:
    """A round cell: where it is at slice z, how large, and in which slices."""

    id: int
    centre: tuple[float, float]
    radius: float
    speed: tuple[float, float] = (0.0, 0.0)
    growth: float = 0.0
    slices: range = field(default_factory=lambda: range(10_000))

    def at(self, z):
        return self.centre[0] + z * self.speed[0], self.centre[1] + z * self.speed[1], self.radius + z * self.growth


def texture(seed, shape=SHAPE):
    noise = np.random.default_rng(seed).normal(size=(shape[0] + 80, shape[1] + 80))
    smooth = ndimage.gaussian_filter(noise, 2)
    return smooth / smooth.std()


@dataclass
class Stack:
    """Truth, image and maps of n slices."""

    truth: np.ndarray
    image: np.ndarray
    interior: np.ndarray
    boundary: np.ndarray

    def gap(self, **changes):
        planes = {"image": self.image, "interior": self.interior, "boundary": self.boundary}
        return Gap(**{**planes, "before": self.truth[0], "after": self.truth[-1], **changes})

    def cut(self, start, stop):
        return Stack(*(getattr(self, name)[start:stop] for name in ("truth", "image", "interior", "boundary")))


def stack_of(discs, n, shape=SHAPE, dtype=np.int32):
    """Draw discs; where two overlap they share a straight border, with a boundary map but no gap in the interior."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    ground = texture(99, shape)
    patterns = [texture(i, shape) for i, _ in enumerate(discs)]
    truth, image = np.zeros((n, *shape), dtype), np.empty((n, *shape), np.uint8)
    boundary = np.zeros((n, *shape), np.uint8)
    for z in range(n):
        nearest, plane = np.zeros(shape), ground[40:-40, 40:-40].copy()
        for disc, pattern in zip(discs, patterns, strict=True):
            row, column, radius = disc.at(z)
            beyond = np.hypot(y - row, x - column) - radius
            if z not in disc.slices:
                continue
            mine = beyond < nearest
            truth[z][mine] = disc.id
            shift = [y + 40 - disc.speed[0] * z, x + 40 - disc.speed[1] * z]
            plane[mine] = 2 + ndimage.map_coordinates(pattern, shift, order=1, mode="nearest")[mine]
            nearest = np.minimum(nearest, beyond)
        image[z] = np.clip(110 + 25 * plane, 1, 254)
        for axis in (0, 1):
            a, b = (np.take(truth[z], range(k, shape[axis] - 1 + k), axis) for k in (0, 1))
            edge = np.argwhere((a != b) & (a > 0) & (b > 0))
            boundary[z][tuple(edge.T)] = 255
        boundary[z] = ndimage.grey_dilation(boundary[z], 3)
    return Stack(truth, image, np.where(truth > 0, np.uint8(255), np.uint8(0)), boundary)


def dice(labels, truth):
    """Mean Dice of the cells of the truth, by id."""
    ids = np.unique(truth[truth > 0])
    found = [(2 * ((labels == i) & (truth == i)).sum()) / ((labels == i).sum() + (truth == i).sum()) for i in ids]
    return float(np.mean(found)) if found else 1.0


@functools.cache
def touching():
    """Two cells that touch and move together, a third apart, 9 slices."""
    discs = [
        Disc(7, (50, 48), 24, (0.6, 1.0)),
        Disc(70_001, (54, 88), 24, (0.6, 1.0)),
        Disc(3, (94, 30), 10, (-0.5, 0.5)),
    ]
    return stack_of(discs, 9)


@functools.cache
def static():
    """The first slice of touching cells, 6 times."""
    one = touching().cut(0, 1)
    return Stack(*(np.repeat(getattr(one, name), 6, axis=0) for name in ("truth", "image", "interior", "boundary")))
