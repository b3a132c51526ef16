"""Phantoms and how they are judged, for the tests of `cristae.preprocess`."""

from __future__ import annotations

import hashlib

import numpy as np

from cristae.geometry import Box
from cristae.phantom import PhantomSettings, build_scene, image
from cristae.preprocess.inspect import LAGS, Fit, Look, fit, look
from cristae.preprocess.stack import Stack, stack_of, table_of

CLEAN = {"brightness_jump": 0.0, "curtaining": 0.0, "charging": 0.0}


def render(shape: tuple[int, int, int], **changes) -> np.ndarray:
    settings = PhantomSettings(shape=shape, **changes)
    return image(build_scene(settings), Box((0, 0, 0), shape))


class Inspector:
    """Measures stacks; slices, and slices after others, that were measured before are not measured again."""

    def __init__(self) -> None:
        self.looks: dict[bytes, Look] = {}
        self.fits: dict[tuple[bytes, ...], Fit] = {}

    def __call__(self, stack: np.ndarray) -> Stack:
        keys = [hashlib.sha1(plane.tobytes() + repr((plane.shape, plane.dtype)).encode()).digest() for plane in stack]
        for key, plane in zip(keys, stack, strict=True):
            if key not in self.looks:
                self.looks[key] = look(plane)
        looks = [self.looks[key] for key in keys]
        fits = []
        for z, this in enumerate(looks):
            row = tuple(keys[max(0, z - LAGS) : z + 1])
            if row not in self.fits:
                self.fits[row] = fit(this, looks[max(0, z - LAGS) : z][::-1])
            fits.append(self.fits[row])
        return stack_of([table_of(looks, fits)])
