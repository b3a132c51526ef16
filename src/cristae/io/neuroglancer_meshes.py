"""Meshes for neuroglancer: its precomputed multi-resolution format, one file of fragments and one index per object.

::

    info                  {"@type": "neuroglancer_multilod_draco", "vertex_quantization_bits": 16, ...}
    7.index               cells of the octree of object 7, and where each one's fragment lies
    7                     the fragments, one after another, in the encoding of Draco
    segment_properties/   names of segments: "nucleus 7"

Ids go up to 2⁶⁴ − 1. A web server must answer requests for ranges of bytes.

Format: neuroglancer, ``src/datasource/precomputed/meshes.md`` (unsharded); encoding: Google, Draco 2.2.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import ResourceError
from cristae.io.meshes import MeshStore
from cristae.meshing.octree import Fragment, Octree, build_octree

BITS = 16
"""Of a coordinate within a cell."""
PER_CELL = 4000
"""Triangles, so that a fragment is some ten thousand bytes."""
_COMPRESSION = 7
"""Of 0 to 10; more takes longer and gains nothing to speak of."""


def find_draco() -> Any:
    """Return the library that encodes fragments.

    Raises
    ------
    ResourceError
        If it is not installed.
    """
    try:
        import DracoPy  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ResourceError(
            "DracoPy is not installed, which encodes meshes for neuroglancer; install it with: pip install "
            "'cristae[draco]', or write another of mesh.formats: glb, ply, stl"
        ) from error
    return DracoPy


def write_neuroglancer_meshes(path: Path, name: str, meshes: MeshStore, shift_nm: Sequence[float]) -> None:
    """Write a folder of meshes for neuroglancer.

    Parameters
    ----------
    path
        Of the folder.
    name
        Of the class.
    meshes
        Of its objects.
    shift_nm
        x, y, z: from where neuroglancer counts from to the centre of the first voxel.

    Raises
    ------
    ResourceError
        If DracoPy is not installed.
    """
    draco = find_draco()
    path.mkdir(parents=True, exist_ok=True)
    info = {
        "@type": "neuroglancer_multilod_draco",
        "vertex_quantization_bits": BITS,
        "transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
        "lod_scale_multiplier": 1,
        "segment_properties": "segment_properties",
    }
    (path / "info").write_text(json.dumps(info))
    for number, vertices, faces in meshes:
        octree = build_octree(vertices.astype(np.float64) + shift_nm, faces, per_cell=PER_CELL)
        encoded = [[_encoded(draco, fragment) for fragment in level] for level in octree.levels]
        (path / str(number)).write_bytes(b"".join(content for level in encoded for content in level))
        sizes = [[len(content) for content in level] for level in encoded]
        (path / f"{number}.index").write_bytes(_manifest(octree, sizes))
    ids = [str(number) for number in meshes.ids]
    label = {"id": "label", "type": "label", "values": [f"{name} {number}" for number in ids]}
    properties = {"@type": "neuroglancer_segment_properties", "inline": {"ids": ids, "properties": [label]}}
    (path / "segment_properties").mkdir(exist_ok=True)
    (path / "segment_properties" / "info").write_text(json.dumps(properties))


def _encoded(draco: Any, fragment: Fragment) -> bytes:
    """Return a fragment with whole numbers as places; empty where nothing is left of it."""
    # int32, the only whole numbers that neuroglancer's decoder takes; the middle, 0.5, must become 2^(BITS - 1).
    places = np.floor(fragment.vertices * (2**BITS - 1) + 0.5).astype(np.int32)
    used, number = np.unique(places, axis=0, return_inverse=True)
    faces = number.reshape(-1)[fragment.faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    if not len(faces):
        return b""
    kept, faces = np.unique(faces, return_inverse=True)
    return draco.encode(used[kept], faces.reshape(-1, 3).astype(np.uint32), compression_level=_COMPRESSION)


def _manifest(octree: Octree, sizes: Sequence[Sequence[int]]) -> bytes:
    n = len(octree.levels)
    head = octree.cell.astype("<f4").tobytes() + octree.origin.astype("<f4").tobytes() + struct.pack("<I", n)
    head += np.array(octree.scales, "<f4").tobytes() + np.zeros((n, 3), "<f4").tobytes()
    parts = [head, np.array([len(level) for level in octree.levels], "<u4").tobytes()]
    for level, lengths in zip(octree.levels, sizes, strict=True):
        positions = np.array([fragment.position for fragment in level], "<u4").reshape(-1, 3)
        parts += [np.ascontiguousarray(positions.T).tobytes(), np.array(lengths, "<u4").tobytes()]
    return b"".join(parts)
