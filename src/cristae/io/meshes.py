"""Meshes on disk: a plain store that stages read from, and GLB, PLY and STL files for other programs.

Vertices are x, y, z in nm, as floats of 32 bits; x to the right, y downwards, z into the stack, which is right-handed.
0 is the centre of the first voxel.

========== ============================================================================================
store      ``vertices.bin`` · ``faces.bin`` · ``index.npz``: all objects of a class, one after another
GLB        one file per class, a node per object: ``name`` "nucleus 7", ``extras`` {"class", "id"}
PLY        one file per class, binary; ``object_id`` of every face, a colour of every vertex
STL        a folder per class, ``<id>.stl`` each: the format knows neither ids nor shared vertices
========== ============================================================================================

Formats: Khronos glTF 2.0; G. Turk, The PLY Polygon File Format; 3D Systems, StereoLithography Interface Specification.
Those of neuroglancer are in `cristae.io.neuroglancer_meshes`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cristae.errors import DataError
from cristae.palette import rgb

_MOST_BYTES = 2**32
MeshArrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class MeshStore:
    """The meshes of one class, read one at a time.

    Parameters
    ----------
    path
        Folder of the store.
    ids
        int64 ``(n,)``, rising.
    vertex_starts, face_starts
        int64 ``(n + 1,)``.
    """

    path: Path
    ids: np.ndarray
    vertex_starts: np.ndarray
    face_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield id, vertices float32 ``(n, 3)`` in nm and triangles int32 ``(m, 3)`` of every object."""
        for row, number in enumerate(self.ids):
            yield int(number), *self[row]

    def __getitem__(self, row: int) -> MeshArrays:
        """Return vertices and triangles of the object in that row."""
        return (
            _part(self.path / "vertices.bin", np.float32, self.vertex_starts[row : row + 2]),
            _part(self.path / "faces.bin", np.int32, self.face_starts[row : row + 2]),
        )


def write_store(path: Path, meshes: Iterable[tuple[int, np.ndarray, np.ndarray]]) -> MeshStore:
    """Write meshes as they come: ids rising, vertices ``(n, 3)`` in nm, triangles ``(m, 3)``."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "index.npz").unlink(missing_ok=True)
    ids, vertex_starts, face_starts = [], [0], [0]
    with (path / "vertices.bin").open("wb") as one, (path / "faces.bin").open("wb") as other:
        for number, vertices, faces in meshes:
            one.write(vertices.astype("<f4").tobytes())
            other.write(faces.astype("<i4").tobytes())
            ids.append(number)
            vertex_starts.append(vertex_starts[-1] + len(vertices))
            face_starts.append(face_starts[-1] + len(faces))
    rows, vertices_at, faces_at = (np.array(values, np.int64) for values in (ids, vertex_starts, face_starts))
    np.savez(path / "index.npz", ids=rows, vertex_starts=vertices_at, face_starts=faces_at)
    return open_store(path)


def open_store(path: Path) -> MeshStore:
    """Open the meshes of a class.

    Raises
    ------
    DataError
        If they are missing or incomplete.
    """
    try:
        with (path / "index.npz").open("rb") as file, np.load(file, allow_pickle=False) as index:
            found = MeshStore(path, index["ids"], index["vertex_starts"], index["face_starts"])
        sizes = [(path / name).stat().st_size for name in ("vertices.bin", "faces.bin")]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{path} holds no complete meshes ({error}); make them again: cristae mesh --force") from error
    if sizes != [12 * int(found.vertex_starts[-1]), 12 * int(found.face_starts[-1])]:
        raise DataError(f"{path} is damaged: its files are too short or too long; make it again: cristae mesh --force")
    return found


def _part(path: Path, kind: type, bounds: np.ndarray) -> np.ndarray:
    first, last = (int(bound) for bound in bounds)
    values = np.fromfile(path, np.dtype(kind).newbyteorder("<"), 3 * (last - first), offset=12 * first)
    return values.reshape(-1, 3)


def write_glb(path: Path, name: str, meshes: MeshStore, colour: Callable[[int], str]) -> None:
    """Write all objects of a class in one binary glTF file, a node per object.

    Parameters
    ----------
    path
        Of the file.
    name
        Of the class.
    meshes
        Of its objects.
    colour
        Returns ``#rrggbb`` for an id.

    Raises
    ------
    DataError
        If the file would have more than 4 GiB, which the format cannot have.
    """
    gltf = _Gltf()
    for row, number in enumerate(meshes.ids):
        gltf.add(name, int(number), meshes[row], colour(int(number)))
    scene = {"name": name, "nodes": list(range(len(meshes))), "extras": {"unit": "nm", "axes": "x, y, z"}}
    content = {
        "asset": {"version": "2.0", "generator": "cristae"},
        "scene": 0,
        "scenes": [scene if len(meshes) else {"name": name}],
        **{key: values for key, values in gltf.lists.items() if values},
        **({"buffers": [{"byteLength": gltf.n_bytes}]} if gltf.n_bytes else {}),
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + (8 + gltf.n_bytes if gltf.n_bytes else 0)
    if total >= _MOST_BYTES:
        raise DataError(
            f"the meshes of {name} take {total / 2**30:.1f} GiB, and a GLB file holds less than 4; mesh a coarser "
            'level (--set mesh.level=1), allow more error (mesh.max_error_nm), or write mesh.formats=["ply"]'
        )
    with path.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, total) + struct.pack("<I4s", len(text), b"JSON") + text)
        if gltf.n_bytes:
            file.write(struct.pack("<I4s", gltf.n_bytes, b"BIN\0"))
            for row in range(len(meshes)):
                vertices, faces = meshes[row]
                file.write(vertices.astype("<f4").tobytes())
                file.write(faces.astype("<u4").tobytes())


class _Gltf:
    """The lists of a glTF file, as objects are added."""

    def __init__(self) -> None:
        self.lists: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("nodes", "meshes", "materials", "accessors", "bufferViews")
        }
        self.n_bytes = 0
        self._materials: dict[str, int] = {}

    def add(self, name: str, number: int, mesh: MeshArrays, colour: str) -> None:
        vertices, faces = mesh
        identity = {"class": name, "id": number}
        primitive = {
            "attributes": {"POSITION": self._accessor(vertices, 5126, "VEC3")},
            "indices": self._accessor(faces, 5125, "SCALAR"),
            "material": self._material(colour),
        }
        self.lists["nodes"].append({"name": f"{name} {number}", "mesh": len(self.lists["meshes"]), "extras": identity})
        self.lists["meshes"].append({"name": f"{name} {number}", "primitives": [primitive], "extras": identity})

    def _accessor(self, values: np.ndarray, kind: int, shape: str) -> int:
        view = {"buffer": 0, "byteOffset": self.n_bytes, "byteLength": 4 * values.size}
        view["target"] = 34962 if shape == "VEC3" else 34963
        accessor = {"bufferView": len(self.lists["bufferViews"]), "componentType": kind, "type": shape}
        accessor["count"] = len(values) if shape == "VEC3" else values.size
        if shape == "VEC3":
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        self.lists["bufferViews"].append(view)
        self.lists["accessors"].append(accessor)
        self.n_bytes += 4 * values.size
        return len(self.lists["accessors"]) - 1

    def _material(self, colour: str) -> int:
        if colour not in self._materials:
            # glTF wants linear light.
            light = [round((byte / 255) ** 2.2, 5) for byte in rgb(colour)]
            shine = {"baseColorFactor": [*light, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7}
            self._materials[colour] = len(self.lists["materials"])
            self.lists["materials"].append({"name": colour, "pbrMetallicRoughness": shine})
        return self._materials[colour]


def write_ply(path: Path, name: str, meshes: MeshStore, colour: Callable[[int], str]) -> None:
    """Write all objects of a class in one binary PLY file, with the id of every face and the colour of every vertex.

    Ids are uint32; where one does not fit, all are float64, exact up to 2⁵³. Other arguments are those of `write_glb`.
    """
    large = len(meshes) > 0 and int(meshes.ids[-1]) >= 2**32
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"comment {name}, x y z in nm, made by cristae\n"
        f"element vertex {int(meshes.vertex_starts[-1])}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {int(meshes.face_starts[-1])}\n"
        f"property list uchar int vertex_indices\nproperty {'double' if large else 'uint'} object_id\nend_header\n"
    )
    kind = np.dtype([("n", "u1"), ("face", "<i4", 3), ("id", "<f8" if large else "<u4")])
    with path.open("wb") as file:
        file.write(header.encode())
        for number, vertices, _ in meshes:
            points = np.empty(len(vertices), [("place", "<f4", 3), ("colour", "u1", 3)])
            points["place"], points["colour"] = vertices, rgb(colour(number))
            file.write(points.tobytes())
        for row, (number, _, faces) in enumerate(meshes):
            rows = np.empty(len(faces), kind)
            rows["n"], rows["face"], rows["id"] = 3, faces + meshes.vertex_starts[row], number
            file.write(rows.tobytes())


def write_stl(path: Path, name: str, meshes: MeshStore) -> None:
    """Write every object of a class as ``<id>.stl`` (binary) to a folder."""
    path.mkdir(parents=True, exist_ok=True)
    kind = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    for number, vertices, faces in meshes:
        rows = np.zeros(len(faces), kind)
        rows["corners"] = vertices[faces]
        a, b, c = (rows["corners"][:, i].astype(np.float64) for i in range(3))
        normals = np.cross(b - a, c - a)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        rows["normal"] = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
        head = f"cristae {name} {number}, nm".encode("ascii", "replace")[:80].ljust(80)
        (path / f"{number}.stl").write_bytes(head + struct.pack("<I", len(faces)) + rows.tobytes())
