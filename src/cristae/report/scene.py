"""The 3D scene of the report: few enough triangles of all objects, as bytes that a page holds, and a picture of them.

Objects are meshed anew from a coarse level of their layer, so that no other stage need have been run and a page stays
small; `cristae mesh` makes the fine ones. Vertices are whole numbers from 0 to 65535 in steps that are the same along
x, y and z::

    place (nm) = low + step × number
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cristae.features.numbering import number_from_one
from cristae.geometry import Grid
from cristae.meshing.build import Finish, build_mesh
from cristae.meshing.pieces import march
from cristae.meshing.simplify import simplify
from cristae.meshing.smooth import enclosed_volume, keep_volume
from cristae.palette import rgb
from cristae.rendering.camera import fit
from cristae.rendering.scale_bar import add_scale_bar
from cristae.rendering.scene import solid, take_picture
from cristae.rendering.shade import Look
from cristae.report.layers import Layer

MOST_VOXELS = 2**23
"""Of a layer when it is meshed."""
MOST_OBJECTS = 1500
"""In the scene, the largest of every class."""
MOST_TRIANGLES = 300_000
"""Of all objects together; about 9 bytes each."""
AZIMUTH, ELEVATION = 30.0, 20.0
"""From where the scene is seen at first, in degrees."""
_STEPS = 65535

Mesh = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class LayerMeshes:
    """The objects of one layer in the scene.

    Parameters
    ----------
    ids
        Of the objects, rising; of a mask one, 0.
    meshes
        Vertices (x, y, z in nm) and triangles of each.
    n_there
        Objects that the layer has at the level that was meshed.
    """

    ids: tuple[int, ...]
    meshes: tuple[Mesh, ...]
    n_there: int


@dataclass(frozen=True)
class Bounds:
    """Corners of the volume, x, y, z in nm, its voxels included."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    @classmethod
    def of(cls, grid: Grid) -> Bounds:
        """Return those of a grid."""
        low = [first - size / 2 for first, size in zip(grid.origin, grid.voxel_size, strict=True)]
        high = [a + n * size for a, n, size in zip(low, grid.shape, grid.voxel_size, strict=True)]
        return cls((low[2], low[1], low[0]), (high[2], high[1], high[0]))

    @property
    def step(self) -> float:
        """Nm from one whole number to the next; a little is left free, as smooth surfaces may bulge."""
        return max(b - a for a, b in zip(self.low, self.high, strict=True)) * 1.02 / _STEPS

    @property
    def start(self) -> tuple[float, float, float]:
        """What the number 0 stands for, x, y, z in nm."""
        x, y, z = (a - self.step * _STEPS * 0.01 for a in self.low)
        return x, y, z

    @property
    def corners(self) -> np.ndarray:
        """float64 ``(8, 3)``."""
        ends = zip(self.low, self.high, strict=True)
        return np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)


def share_out(wanted: Sequence[int], most: int) -> list[int]:
    """Share `most` out so that nobody has more than is wanted, and who wants more has no less than another.

    Parameters
    ----------
    wanted
        By each, at least 0.
    most
        In all.
    """
    given, left = [0] * len(wanted), most
    for done, place in enumerate(sorted(range(len(wanted)), key=lambda place: wanted[place])):
        given[place] = min(wanted[place], left // (len(wanted) - done))
        left -= given[place]
    return given


def make_meshes(layers: Sequence[Layer], most_objects: int, most_triangles: int) -> list[LayerMeshes]:
    """Mesh the largest objects of all layers, with at most about so many triangles together."""
    coarse = []
    for layer in layers:
        labels, grid = layer.coarse(MOST_VOXELS)
        ids, numbers = number_from_one(labels if layer.has_ids else (labels != 0).astype(np.uint8))
        coarse.append((ids if layer.has_ids else ids * 0, numbers, grid))
    shares = share_out([len(ids) for ids, _, _ in coarse], most_objects)
    found = [_mesh_layer(*one, most) for one, most in zip(coarse, shares, strict=True)]
    n_triangles = sum(len(faces) for one in found for _, faces in one.meshes)
    if n_triangles <= most_triangles:
        return found
    share = most_triangles / n_triangles
    return [LayerMeshes(one.ids, tuple(fewer(mesh, share) for mesh in one.meshes), one.n_there) for one in found]


def fewer(mesh: Mesh, share: float) -> Mesh:
    """Return a mesh with about that share of its triangles and the same volume, or as it is where that cannot be."""
    vertices, faces = np.asarray(mesh[0], np.float64), mesh[1]
    volume = enclosed_volume(vertices, faces)
    size = float(np.ptp(vertices, axis=0).max())
    simpler, triangles = simplify(vertices, faces, max_error=size, share=share)
    simpler = keep_volume(simpler, triangles, volume)
    sound = np.isfinite(simpler).all() and abs(enclosed_volume(simpler, triangles) - volume) <= 0.02 * volume
    return (simpler, triangles) if sound else mesh


def pack(one: LayerMeshes, bounds: Bounds) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a page needs of the meshes of a layer: numbers for JSON, and bytes as base64.

    Returns
    -------
    tuple
        ``vertex_starts`` and ``face_starts`` of the objects, ``wide`` (whether triangles have 32 bits); and
        ``vertices`` (uint16, x, y, z) and ``faces`` (uint16 or uint32, numbers of vertices of the same object),
        little-endian.
    """
    start, step = np.array(bounds.start), bounds.step
    vertices = [np.clip(np.rint((points - start) / step), 0, _STEPS) for points, _ in one.meshes]
    wide = any(len(points) > 2**16 for points in vertices)
    kind = "<u4" if wide else "<u2"
    numbers = {
        "vertex_starts": np.cumsum([0, *map(len, vertices)]).tolist(),
        "face_starts": np.cumsum([0, *(len(faces) for _, faces in one.meshes)]).tolist(),
        "wide": wide,
    }
    packed = {
        "vertices": _base64(b"".join(points.astype("<u2").tobytes() for points in vertices)),
        "faces": _base64(b"".join(faces.astype(kind).tobytes() for _, faces in one.meshes)),
    }
    return numbers, packed


def still(
    layers: Sequence[Layer], found: Sequence[LayerMeshes], bounds: Bounds, size: tuple[int, int] = (900, 900)
) -> bytes:
    """Return a picture of the scene as JPEG, seen from where it is seen at first: for browsers that cannot draw it."""
    solids = [
        solid(one.meshes, np.tile(np.array(rgb(layer.colour), np.float32) / 255, (len(one.meshes), 1)), layer.opacity)
        for layer, one in zip(layers, found, strict=True)
        if one.meshes
    ]
    camera = fit(bounds.corners, size, [(AZIMUTH, ELEVATION)])
    look = Look((1.0, 1.0, 1.0), 0.75, 0.045 * min(size), outlines=True)
    picture = add_scale_bar(take_picture(solids, (), camera, look, 1), camera.nm_per_px[0])
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def left_out(layers: Sequence[Layer], found: Sequence[LayerMeshes], totals: Mapping[str, int]) -> list[str]:
    """Say of which classes the scene does not hold all objects.

    Parameters
    ----------
    layers, found
        What there is, and what was meshed.
    totals
        Objects of each class, where that is known from tables.
    """
    words = []
    for layer, one in zip(layers, found, strict=True):
        total = max(totals.get(layer.name, 0), one.n_there)
        if layer.has_ids and len(one.ids) < total:
            words.append(f"In 3D there are the {len(one.ids):,} largest of {total:,} objects of {layer.name}.")
    return words


def _mesh_layer(ids: np.ndarray, numbers: np.ndarray, grid: Grid, most: int) -> LayerMeshes:
    n_voxels = np.bincount(numbers.ravel(), minlength=len(ids) + 1)[1:]
    rows = np.sort(np.argsort(-n_voxels, kind="stable")[:most])
    everything = tuple(slice(0, n) for n in grid.shape)
    pieces = march(numbers, len(ids), (everything[0], everything[1], everything[2]), volume_shape=grid.shape)
    finish = Finish(grid.voxel_size, grid.origin, n_steps=10, max_error_nm=0.3 * min(grid.voxel_size))
    meshes = tuple(build_mesh([pieces[int(row)]], grid.shape, finish) for row in rows)
    return LayerMeshes(tuple(ids[rows].tolist()), meshes, len(ids))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
