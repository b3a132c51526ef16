"""Volumes in the formats that importers read, written by the libraries of these formats or byte by byte."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import mrcfile
import nibabel
import nrrd
import numpy as np
import scipy.io
import tifffile
from PIL import Image

from cristae.geometry import Grid
from cristae.io.mib import write_mib
from cristae.io.ome_zarr import create_volume
from cristae.io.opened import Material
from cristae.io.webknossos import write_webknossos
from cristae.volume import Volume

SIZE = (45.0, 4.6, 5.2)
SHAPE = (5, 12, 14)


def grey(dtype="uint8", shape=SHAPE):
    return np.random.default_rng(0).integers(1, 120, shape).astype(dtype)


def painted(shape=SHAPE, dtype="uint8"):
    """Labels 0, 1 and 2 in patches, as people paint."""
    values = np.zeros(shape, dtype)
    values[:, 2:8, 3:9] = 1
    values[1:, 4:6, 4:6] = 2
    return values


def mrc(path: Path, values: np.ndarray) -> Path:
    with mrcfile.new(path, values, overwrite=True) as file:
        file.voxel_size = tuple(10 * size for size in reversed(SIZE))
    return path


def hdf5(path: Path, values: np.ndarray, name="volumes/raw", **keywords) -> Path:
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(name, data=values, **keywords)
        dataset.attrs["resolution"] = SIZE
    return path


def nifti(path: Path, values: np.ndarray) -> Path:
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([*(size / 1e3 for size in reversed(SIZE)), 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, path)
    return path


def nrrd_file(path: Path, values: np.ndarray, encoding="raw") -> Path:
    header = {
        "encoding": encoding,
        "space dimension": 3,
        "space directions": np.diag(SIZE[::-1]),
        "space units": ["nm"] * 3,
    }
    nrrd.write(str(path), values.transpose(2, 1, 0), header)
    return path


def run_lengths(values: bytes) -> bytes:
    """Return bytes in Amira's run-length code."""
    out, at = bytearray(), 0
    while at < len(values):
        n = 1
        while at + n < len(values) and n < 127 and values[at + n] == values[at]:
            n += 1
        if n > 2:
            out += bytes([n, values[at]])
        else:
            n = min(5, len(values) - at)
            out += bytes([128 | n]) + values[at : at + n]
        at += n
    return bytes(out)


AMIRA_TYPES = {"uint8": "byte", "int16": "short", "uint16": "ushort", "int32": "int", "float32": "float"}


def amira(path: Path, values: np.ndarray, form="BINARY-LITTLE-ENDIAN", codec="", unit="nm") -> Path:
    z, y, x = values.shape
    raw = values.astype(values.dtype.newbyteorder(">" if form == "BINARY" else "<")).tobytes()
    if form == "ASCII":
        raw = b"\n".join(str(value).encode() for value in values.ravel())
    elif codec:
        raw = zlib.compress(raw) if codec == "HxZip" else run_lengths(raw)
    coded = f"({codec},{len(raw)})" if codec else ""
    box = " ".join(f"0 {(n - 1) * size:.10g}" for n, size in ((x, SIZE[2]), (y, SIZE[1]), (z, SIZE[0])))
    units = f'Units {{\n        Coordinates "{unit}"\n    }}\n' if unit else ""
    header = f"""# AmiraMesh {form} 2.1


define Lattice {x} {y} {z}

Parameters {{
    Materials {{
        Exterior {{
            Id 1
        }}
        Nucleus {{
            Color 0.8 0.1 0.2,
            Id 2
        }}
        "My mito" {{
            Id 3,
            Color 0 1 0
        }}
    }}
    {units}    Content "{x}x{y}x{z} byte, uniform coordinates",
    BoundingBox {box},
    CoordType "uniform"
}}

Lattice {{ {AMIRA_TYPES[values.dtype.name]} Labels }} @1{coded}

# Data section follows
@1
"""
    path.write_bytes(header.encode() + raw + b"\n")
    return path


MATERIALS = (Material("nucleus", 1, (0.9, 0.25, 0.125)), Material("Mitochondrion µ", 2, (0.0, 0.5, 1.0)))


def model(path: Path, values: np.ndarray) -> Path:
    return write_mib(Volume(values, Grid(values.shape, SIZE), "labels"), path, MATERIALS, overwrite=True)


def model5(path: Path, values: np.ndarray, compressed=True) -> Path:
    """A model as version 5, written by SciPy."""
    z, y, x = values.shape
    box = [0, max(1, x - 1) * SIZE[2] / 1e3, 0, max(1, y - 1) * SIZE[1] / 1e3, 0, max(1, z - 1) * SIZE[0] / 1e3]
    facts = {
        "mibModel": values.transpose(1, 2, 0),
        "modelMaterialNames": np.array([material.name for material in MATERIALS], object)[:, None],
        "modelMaterialColors": np.array([material.colour for material in MATERIALS]),
        "BoundingBox": np.array([box]),
        "modelVariable": "mibModel",
        "modelType": 63.0,
    }
    scipy.io.savemat(path, facts, appendmat=False, do_compression=compressed)
    return path


def tiff(path: Path, values: np.ndarray, **keywords) -> Path:
    tifffile.imwrite(path, values, photometric="minisblack", **keywords)
    return path


def picture(path: Path) -> Path:
    Image.fromarray(grey(shape=(40, 50))).save(path)
    return path


def gz(path: Path, raw: bytes) -> Path:
    path.write_bytes(gzip.compress(raw, 1, mtime=0))
    return path


def mrc_header(path: Path, place: int, form: str, *values: float) -> Path:
    """Change a header in place."""
    raw = bytearray(path.read_bytes())
    struct.pack_into(form, raw, place, *values)
    path.write_bytes(bytes(raw))
    return path


IMAGES: dict[str, Callable[[Path], Path]] = {
    "mrc": lambda folder: mrc(folder / "a.mrc", grey("int16")),
    "hdf5": lambda folder: hdf5(folder / "a.h5", grey(), chunks=(2, 4, 4), compression="gzip"),
    "hdf5 plain": lambda folder: hdf5(folder / "b.h5", grey()),
    "nifti": lambda folder: nifti(folder / "a.nii", grey()),
    "nifti.gz": lambda folder: nifti(folder / "a.nii.gz", grey()),
    "nrrd": lambda folder: nrrd_file(folder / "a.nrrd", grey()),
    "nrrd gzip": lambda folder: nrrd_file(folder / "b.nrrd", grey(), "gzip"),
    "nrrd bzip2": lambda folder: nrrd_file(folder / "c.nrrd", grey(), "bzip2"),
    "nrrd ascii": lambda folder: nrrd_file(folder / "d.nrrd", grey(), "ascii"),
    "amira": lambda folder: amira(folder / "a.am", grey()),
    "amira ascii": lambda folder: amira(folder / "b.am", grey(), "ASCII"),
    "amira rle": lambda folder: amira(folder / "c.am", painted(), codec="HxByteRLE"),
    "amira zip": lambda folder: amira(folder / "d.am", grey(), codec="HxZip"),
    "tiff": lambda folder: tiff(folder / "a.tif", grey()),
    "tiff lzw tiles": lambda folder: tiff(folder / "b.tif", grey(), compression="lzw", tile=(16, 16)),
    "tiff jpeg": lambda folder: tiff(folder / "c.tif", grey(), compression="jpeg", tile=(16, 16)),
    "png": lambda folder: picture(folder / "a.png"),
    "jpeg": lambda folder: picture(folder / "a.jpg"),
}
"""Every importer of images, with a small file of its own."""

LABELS: dict[str, Callable[[Path], Path]] = {
    "mib 7.3": lambda folder: model(folder / "a.model", painted()),
    "mib 5": lambda folder: model5(folder / "b.model", painted()),
    "mib 5 plain": lambda folder: model5(folder / "c.model", painted(), compressed=False),
    "amira labels": lambda folder: amira(folder / "e.am", painted(), codec="HxByteRLE"),
}
"""Importers of labels."""


def ome_zarr(path: Path, values: np.ndarray, kind: str) -> Path:
    stored = create_volume(path, Grid(values.shape, SIZE), values.dtype, kind)
    stored.write(stored.grid.box, values)
    return path


def slices(path: Path, values: np.ndarray) -> Path:
    path.mkdir()
    for z, plane in enumerate(values):
        tiff(path / f"z{z:03}.tif", plane, compression="zlib" if z % 2 else None)
    return path


def webknossos(path: Path) -> Path:
    return write_webknossos(Volume(painted(), Grid(SHAPE, SIZE), "labels"), path, "nucleus")


FOLDERS: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "ome-zarr": (lambda folder: ome_zarr(folder / "a.ome.zarr", grey(), "image"), False),
    "ome-zarr labels": (lambda folder: ome_zarr(folder / "b.ome.zarr", painted(), "labels"), True),
    "slices": (lambda folder: slices(folder / "slices", grey()), False),
    "slices labels": (lambda folder: slices(folder / "painted", painted()), True),
    "webknossos": (lambda folder: webknossos(folder / "dataset"), True),
}
"""Importers of folders, and whether they are of labels."""
