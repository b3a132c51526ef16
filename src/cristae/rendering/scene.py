"""A picture of a scene: solids and image planes seen by a camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cristae.meshing.smooth import vertex_normals
from cristae.rendering.camera import Camera
from cristae.rendering.raster import NOTHING, Buffers, Surface, draw, peel
from cristae.rendering.shade import Look, blend, shade

BAND = 128
"""Rows whose transparent layers are held at a time."""


@dataclass(frozen=True)
class Solid:
    """Objects that are equally transparent.

    Parameters
    ----------
    vertices, faces
        ``(n, 3)``, x, y, z in nm, and int32 ``(m, 3)``, of all of them.
    items
        int32 ``(m,)``: the object of each triangle, from 0.
    colours
        float32 ``(k, 3)``, 0–1, of the objects.
    opacity
        Above 0, to 1; of a surface seen straight.
    normals
        float64 ``(n, 3)``; see `solid`.
    """

    vertices: np.ndarray
    faces: np.ndarray
    items: np.ndarray
    colours: np.ndarray
    opacity: float
    normals: np.ndarray


@dataclass(frozen=True)
class Plane:
    """A slice of the micrograph, put up in the scene.

    Parameters
    ----------
    axis
        0, 1 or 2: that x, y or z is the same all over it.
    place_nm
        Where on that axis.
    grey
        uint8 ``(v, u)``: rows along the later of the other two axes, columns along the earlier (for z: y, x).
    start_nm, step_nm
        Of the centre of the first pixel, and from one to the next, along columns and rows (u, v).
    """

    axis: int
    place_nm: float
    grey: np.ndarray
    start_nm: tuple[float, float]
    step_nm: tuple[float, float]

    @property
    def corners(self) -> np.ndarray:
        """float64 ``(4, 3)``: x, y, z in nm."""
        low = [first - step / 2 for first, step in zip(self.start_nm, self.step_nm, strict=True)]
        high = [a + n * step for a, n, step in zip(low, self.grey.shape[::-1], self.step_nm, strict=True)]
        points = np.empty((4, 3))
        u, v = (axis for axis in range(3) if axis != self.axis)
        points[:, self.axis] = self.place_nm
        points[:, u], points[:, v] = (low[0], high[0], low[0], high[0]), (low[1], low[1], high[1], high[1])
        return points


def solid(meshes: Sequence[tuple[np.ndarray, np.ndarray]], colours: np.ndarray, opacity: float = 1.0) -> Solid:
    """Put meshes together, an object each, with colours float ``(k, 3)``, 0–1."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    vertices = np.concatenate([np.zeros((0, 3)), *(one for one, _ in meshes)])
    faces = np.concatenate(
        [np.zeros((0, 3), np.int32), *(one + start for (_, one), start in zip(meshes, starts, strict=False))]
    ).astype(np.int32)
    items = np.repeat(np.arange(len(meshes), dtype=np.int32), [len(one) for _, one in meshes])
    return Solid(vertices, faces, items, np.asarray(colours, np.float32), opacity, vertex_normals(vertices, faces))


def take_picture(
    solids: Sequence[Solid], planes: Sequence[Plane], camera: Camera, look: Look, samples: int = 2
) -> np.ndarray:
    """Take a picture.

    Parameters
    ----------
    solids, planes
        What there is to see; there may be nothing.
    camera
        Where it is seen from.
    look
        Light and background; `reach_px` in pixels of the picture.
    samples
        Each pixel is the mean of so many in either direction.

    Returns
    -------
    np.ndarray
        uint8 ``(height, width, 3)``.
    """
    fine = replace(camera, size=(camera.size[0] * samples, camera.size[1] * samples))
    look = replace(look, reach_px=look.reach_px * samples)
    opaque = [one for one in solids if one.opacity >= 1]
    glass = [one for one in solids if one.opacity < 1]
    buffers = Buffers.empty(*fine.size)
    first, depths = 0, [np.zeros(0, np.float32)]
    for one in opaque:
        surface = _seen(one, fine, first)
        draw(surface, buffers)
        depths.append(surface.seen[:, 2])
        first += len(one.colours)
    colours = np.concatenate([np.zeros((0, 3), np.float32), *(one.colours for one in opaque)])
    grey = _put_up(planes, fine, buffers, len(colours)) if planes else None
    shells, shell_colours, opacity = _together(glass, fine)
    depths.append(shells.seen[:, 2])
    span = _span(np.concatenate(depths), buffers.depth)
    picture = shade(buffers, colours, grey, nm_per_px=fine.nm_per_px, look=look, span=span)
    for row in range(0, fine.size[1] if len(shells.faces) else 0, BAND):
        rows = slice(row, row + BAND)
        blend(peel(shells, buffers.depth[rows], row), shell_colours, opacity, picture[rows])
    width, height = camera.size
    mean = picture.reshape(height, samples, width, samples, 3).mean(axis=(1, 3))
    return np.rint(np.clip(mean, 0, 1) * 255).astype(np.uint8)


def _seen(one: Solid, camera: Camera, first: int) -> Surface:
    normals = (one.normals @ camera.axes.T).astype(np.float32)
    return Surface(camera.project(one.vertices), normals, one.faces, one.items + np.int32(first))


def _together(glass: Sequence[Solid], camera: Camera) -> tuple[Surface, np.ndarray, np.ndarray]:
    """Return all transparent surfaces as one, with colours and opacities of their objects."""
    surfaces, n_vertices, n_items = [], 0, 0
    for one in glass:
        found = _seen(one, camera, n_items)
        surfaces.append(replace(found, faces=found.faces + np.int32(n_vertices)))
        n_vertices, n_items = n_vertices + len(one.vertices), n_items + len(one.colours)
    none = Surface(
        np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros(0, np.int32)
    )
    names = ("seen", "normals", "faces", "items")
    joined = Surface(*(np.concatenate([getattr(part, name) for part in (none, *surfaces)]) for name in names))
    colours = np.concatenate([np.zeros((0, 3), np.float32), *(one.colours for one in glass)])
    opacity = np.concatenate([np.zeros(0), *(np.full(len(one.colours), one.opacity) for one in glass)])
    return joined, colours, opacity.astype(np.float32)


def _span(depths: np.ndarray, drawn: np.ndarray) -> tuple[float, float]:
    """Return the depths of the nearest and the farthest thing."""
    known = np.concatenate([depths[np.isfinite(depths)], drawn[np.isfinite(drawn)][::97]])
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _put_up(planes: Sequence[Plane], camera: Camera, buffers: Buffers, first: int) -> np.ndarray:
    """Draw image planes; return their grey values float32 ``(h, w)``, 0–1."""
    grey = np.zeros(buffers.depth.shape, np.float32)
    points, directions = camera.rays()
    for number, plane in enumerate(planes):
        u, v = (axis for axis in range(3) if axis != plane.axis)
        slope = directions[..., plane.axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (np.float32(plane.place_nm) - points[..., plane.axis]) / slope
            column = (points[..., u] + depth * directions[..., u] - plane.start_nm[0]) / plane.step_nm[0]
            row = (points[..., v] + depth * directions[..., v] - plane.start_nm[1]) / plane.step_nm[1]
        height, width = plane.grey.shape
        with np.errstate(invalid="ignore"):
            hit = (column >= -0.5) & (column < width - 0.5) & (row >= -0.5) & (row < height - 0.5)
            hit &= (depth < buffers.depth) & ((depth > 0) if camera.distance_nm is not None else np.isfinite(depth))
        rows, columns = np.rint(row[hit]).astype(np.int64), np.rint(column[hit]).astype(np.int64)
        grey[hit] = plane.grey[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)] / np.float32(255)
        buffers.depth[hit] = depth[hit]
        buffers.item[hit] = first + number
        towards = -np.sign(slope[hit])[:, None] * camera.axes[:, plane.axis]
        buffers.normal[hit] = towards.astype(np.float32)
    return grey


def bounds(solids: Sequence[Solid], planes: Sequence[Plane]) -> np.ndarray:
    """Return points float64 ``(n, 3)`` that all of a scene lies between; two at 0 and 1 where there is nothing."""
    points = [one.vertices for one in solids if len(one.vertices)] + [plane.corners for plane in planes]
    if not points:
        return np.array([[0.0, 0, 0], [1, 1, 1]])
    low = np.min([part.min(axis=0) for part in points], axis=0)
    high = np.max([part.max(axis=0) for part in points], axis=0)
    return np.array([[(low, high)[i >> k & 1][k] for k in range(3)] for i in range(8)])


__all__ = ["NOTHING", "Look", "Plane", "Solid", "bounds", "solid", "take_picture"]
