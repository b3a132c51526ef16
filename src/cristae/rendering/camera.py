"""Where a scene is seen from, and where its points fall on the picture.

Seen with azimuth and elevation 0, a volume looks as its slices do: x to the right, y downwards, z away::

    right = x          azimuth turns the viewer around the vertical axis, elevation lifts him above the scene
    down  = y
    ahead = z

Rays are parallel, so that a scale bar holds for everything in the picture, unless a distance is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A view of a scene.

    Parameters
    ----------
    target
        x, y, z in nm of the point in the middle of the picture.
    height_nm
        What the height of the picture measures at the target.
    size
        Width and height in pixels.
    azimuth, elevation
        Degrees.
    distance_nm
        Of the eye from the target; None for parallel rays.
    """

    target: tuple[float, float, float]
    height_nm: float
    size: tuple[int, int]
    azimuth: float = 0.0
    elevation: float = 0.0
    distance_nm: float | None = None

    @property
    def axes(self) -> np.ndarray:
        """float64 ``(3, 3)``: directions to the right, down and ahead, as rows of x, y, z."""
        turn, lift = np.radians(self.azimuth), np.radians(self.elevation)
        ahead = np.array([np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift)])
        right = np.array([np.cos(turn), 0.0, -np.sin(turn)])
        return np.stack([right, np.cross(ahead, right), ahead])

    @property
    def nm_per_px(self) -> tuple[float, float]:
        """What a pixel measures: a constant, and how much more per nm of depth."""
        size = self.height_nm / self.size[1]
        return (size, 0.0) if self.distance_nm is None else (0.0, size / self.distance_nm)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return where points are seen.

        Parameters
        ----------
        points
            ``(n, 3)``: x, y, z in nm.

        Returns
        -------
        np.ndarray
            float32 ``(n, 3)``: pixels from the left and from the top, and depth in nm: from the target if rays are
            parallel, else from the eye; points at or behind the eye are NaN.
        """
        seen = (np.asarray(points, np.float64) - self.target) @ self.axes.T
        seen[:, 2] += self.distance_nm or 0.0
        size, growth = self.nm_per_px
        scale = size + growth * seen[:, 2]
        if self.distance_nm is not None:
            scale[seen[:, 2] <= 0.02 * self.distance_nm] = np.nan
        seen[:, :2] = seen[:, :2] / scale[:, None] + np.array(self.size) / 2
        return seen.astype(np.float32)

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for every pixel a point float32 ``(h, w, 3)`` and a direction: point + depth × direction is seen."""
        right, down, ahead = self.axes
        width, height = self.size
        size = self.height_nm / height
        across = ((np.arange(width) + 0.5 - width / 2) * size)[None, :, None] * right
        along = ((np.arange(height) + 0.5 - height / 2) * size)[:, None, None] * down
        at_target = (across + along).astype(np.float32)
        middle = np.array(self.target)
        if self.distance_nm is None:
            return at_target + middle.astype(np.float32), np.broadcast_to(ahead.astype(np.float32), at_target.shape)
        eye = (middle - ahead * self.distance_nm).astype(np.float32)
        directions = ahead.astype(np.float32) + at_target / np.float32(self.distance_nm)
        return np.broadcast_to(eye, at_target.shape), directions


def fit(points: np.ndarray, size: tuple[int, int], views: list[tuple[float, float]], margin: float = 0.06) -> Camera:
    """Return the camera of the first view that shows all points from every view, at one scale.

    Parameters
    ----------
    points
        ``(n, 3)``: x, y, z in nm.
    size
        Width and height in pixels.
    views
        Azimuth and elevation of each, in degrees.
    margin
        Part of the picture that stays free at each side.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    x, y, z = ((low + high) / 2).tolist()
    height = 0.0
    for azimuth, elevation in views:
        axes = Camera((x, y, z), 1.0, size, azimuth, elevation).axes
        right, down, _ = np.abs((points - (x, y, z)) @ axes.T).max(axis=0)
        height = max(height, 2 * down, 2 * right * size[1] / size[0])
    return Camera((x, y, z), max(height, 1e-3) / (1 - 2 * margin), size, *views[0])
