"""Histogram matching: a monotone curve that gives the grey values of one volume the distribution of another's.

::

    share of pixels at most as bright
    1 ┤        ╭── source      ╭── target      a grey value of the target becomes that grey value of the
      │  q ───●┄┄┄┄┄┄┄┄┄┄┄┄┄┄●                 source at which the same share of pixels is at most as bright
    0 ┤  ╭────╯        ╭──────╯

What one curve for a whole volume can mend is all that keeps the order of grey values: gamma, another detector, another
stain. Gain and offset of each slice are gone before (`cristae.learn.scale.normalise`).

R. C. Gonzalez and R. E. Woods (2018), Digital Image Processing, section 3.3: histogram specification.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

LEVELS = (0.001, 0.002, 0.005, *(float(f"{n / 100:g}") for n in range(1, 100)), 0.995, 0.998, 0.999)
"""Shares of pixels at which a distribution is kept; beyond them there is little but noise."""
MOST_PIXELS = 2**16
"""Of one slice that are looked at: enough for the thousandth part."""


@dataclass(frozen=True)
class Curve:
    """A monotone map of grey values, straight between knots, and of slope 1 beyond them.

    Parameters
    ----------
    knots
        Grey values, rising.
    values
        What they become, not falling; as many. With none the curve changes nothing.
    """

    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __call__(self, grey: np.ndarray) -> np.ndarray:
        """Return float32 grey values of the same shape, each mapped by itself: blocks agree with the whole."""
        if not self.knots:
            return grey.astype(np.float32, copy=False)
        inside = np.clip(grey, self.knots[0], self.knots[-1])
        beyond = grey - inside
        return (np.interp(inside, self.knots, self.values) + beyond).astype(np.float32)


UNCHANGED = Curve()
"""The curve that leaves grey values as they are."""


def quantiles(planes: Iterable[tuple[np.ndarray, float]], seed: int = 0) -> tuple[float, ...]:
    """Return the grey values below which the shares `LEVELS` of the pixels of some slices lie, all pooled.

    Parameters
    ----------
    planes
        Slices ``(y, x)``, each with the grey value of its padding, which is left out.
    seed
        Of the pixels that are drawn from slices of more than `MOST_PIXELS`.

    Returns
    -------
    tuple of float
        Empty where nothing but padding was given.
    """
    found = []
    for number, (plane, padding) in enumerate(planes):
        grey = plane[plane != np.float32(padding)]
        if len(grey) > MOST_PIXELS:
            drawn = np.random.default_rng([seed, number, 41]).integers(len(grey), size=MOST_PIXELS)
            grey = grey[drawn]
        found.append(grey)
    pooled = np.concatenate(found) if found else np.empty(0, np.float32)
    if not len(pooled):
        return ()
    return tuple(round(float(value), 6) for value in np.quantile(pooled.astype(np.float64), LEVELS))


def matching_curve(target: tuple[float, ...], source: tuple[float, ...]) -> Curve:
    """Return the curve that gives grey values distributed as `target` the distribution `source`.

    Parameters
    ----------
    target, source
        From `quantiles`. Where many pixels of the target share one grey value it becomes the mean of theirs.
    """
    if not target or not source:
        return UNCHANGED
    knots, where = np.unique(np.array(target), return_inverse=True)
    values = np.bincount(where, source) / np.bincount(where)
    return Curve(tuple(map(float, knots)), tuple(map(float, values)))
