"""OME-Zarr: volumes on disk. Writes 0.5 (Zarr 3, sharded), reads 0.4 and 0.5.

For every other room of the house a volume on disk is a folder that `create_volume` makes and `open_volume` opens.
Voxel size and unit stand on every level, as viewers expect. Metadata goes through ome-zarr-models, so that what
is written is valid and what is read is understood.

Specification: https://ngff.openmicroscopy.org/0.5
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import zarr
from ome_zarr_models.v04.multiscales import Multiscale as Multiscale04
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.coordinate_transformations import VectorScale, VectorTranslation
from ome_zarr_models.v05.multiscales import Dataset, Multiscale
from pydantic import ValidationError
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, ZstdCodec

from cristae.errors import DataError
from cristae.geometry import Block, Box, Grid, Nanometres, Voxels, blocks
from cristae.io.levels import factors_of, grids_of, reduce_block
from cristae.io.opened import refusing
from cristae.io.stored import StoredArray, clear_partial, times, triple
from cristae.volume import ArrayLike, Kind, Volume

CHUNK: Voxels = (16, 128, 128)
"""Unit of reading: 256 kB of 8-bit voxels."""
SHARD: Voxels = (16, 1024, 1024)
"""Unit of writing, one file: 16 MB of 8-bit voxels."""

_NM_PER_UNIT = {
    "angstrom": 0.1,
    "nanometer": 1.0,
    "micrometer": 1e3,
    "millimeter": 1e6,
    "centimeter": 1e7,
    "meter": 1e9,
    "picometer": 1e-3,
}


@dataclass(frozen=True)
class Storage:
    """How a new volume is laid out on disk.

    Parameters
    ----------
    chunk, shard
        Unit of reading and unit of writing in voxels; both are cut to the volume.
    fill_value
        What voxels hold that were never written; their chunks take no space.
    """

    chunk: Voxels = CHUNK
    shard: Voxels = SHARD
    fill_value: int = 0


def create_volume(
    path: Path,
    grid: Grid,
    dtype: np.typing.DTypeLike,
    kind: Kind,
    storage: Storage | None = None,
) -> Volume:
    """Create an OME-Zarr 0.5 image (or label layer) with empty level 0 and return that level, writable.

    A path of the form ``<image>/labels/<name>`` is entered in the list of labels of that image. Coarser levels come
    with `build_pyramid` once the voxels are there.

    Raises
    ------
    FileExistsError
        If there is something at `path` already.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already; remove it or choose another name")
    # Made under another name first: a kill leaves no half-made volume where one is expected.
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    group = zarr.open_group(partial, mode="w-", zarr_format=3)
    _create_level(group, 0, grid, dtype, kind, storage or Storage())
    _write_metadata(group, kind, [grid], path.name)
    partial.rename(path)
    if kind == "labels" and path.parent.name == "labels":
        register_labels(path)
    return Volume(_open_array(path, "0", "r+"), grid, kind)


Each = Callable[[Callable[[Block], None], Iterable[Block]], Iterable[None]]
"""Calls a function for each block, as `map` does, in any order and by whomever."""


def build_pyramid(path: Path, each: Each = map) -> None:
    """Write all coarser levels from level 0, slab by slab: means of images, nearest voxels of labels.

    Parameters
    ----------
    path
        The image.
    each
        Works on the blocks of a level, such as `cristae.executors.Crew.unordered`.
    """
    fine, factors = open_volume(path), factors_of(open_volume(path).grid)
    for coarse, factor in zip(create_levels(path), factors, strict=True):
        for _ in each(_Reduction(fine, coarse, factor), blocks(coarse.grid.box, shard_shape(coarse))):
            pass
        fine = coarse
    enter_levels(path)


def create_levels(path: Path) -> list[Volume]:
    """Make the arrays of all coarser levels, empty, and return them; `enter_levels` tells viewers of them."""
    finest = open_volume(path, mode="r+")
    group = zarr.open_group(path, mode="r+")
    storage = Storage(fill_value=int(group["0"].fill_value))  # type: ignore[union-attr]
    made = []
    for level, grid in enumerate(grids_of(finest.grid, factors_of(finest.grid))[1:], start=1):
        if str(level) in group:
            del group[str(level)]
        _create_level(group, level, grid, finest.dtype, finest.kind, storage)
        made.append(Volume(_open_array(path, str(level), "r+"), grid, finest.kind))
    return made


def enter_levels(path: Path) -> None:
    """Enter all levels in the metadata, once their voxels are there."""
    finest = open_volume(path)
    levels = grids_of(finest.grid, factors_of(finest.grid))
    _write_metadata(zarr.open_group(path, mode="r+"), finest.kind, levels, path.name)


@dataclass(frozen=True)
class _Reduction:
    """Writes a block of a level from the next finer one."""

    fine: Volume
    coarse: Volume
    factor: Voxels

    def __call__(self, block: Block) -> None:
        start, stop = times(block.write.start, self.factor), times(block.write.stop, self.factor)
        values = self.fine.read(Box(start, stop).clip(self.fine.grid.box))
        self.coarse.write(block.write, reduce_block(values, self.factor, self.fine.kind))


def open_volume(
    path: Path,
    level: int = 0,
    mode: Literal["r", "r+"] = "r",
    channel: int = 0,
    voxel_size: Nanometres | None = None,
) -> Volume:
    """Open one level of an OME-Zarr 0.4 or 0.5 image or label layer.

    Axes other than z, y, x are cut at their first index, the channel axis at `channel`. The array is read lazily.
    A `voxel_size` of that level (nm) replaces what the metadata say, which then need no units.

    Raises
    ------
    DataError
        If the folder is no OME-Zarr image, misses that level, or has no z, y, x axes in units of length.
    """
    group = _open_group(path, mode)
    if mode == "r+":
        clear_partial(path)  # who opens for writing is the only one
    with refusing(path):
        multiscale = _multiscale(group, path)
        if not 0 <= level < len(multiscale.datasets):
            raise DataError(f"{path} has {len(multiscale.datasets)} levels; level {level} was asked for")
        dataset = multiscale.datasets[level]
        array: ArrayLike = _open_array(path, dataset.path, mode)
        names = [str(axis.name) for axis in multiscale.axes]
        if names[-3:] != ["z", "y", "x"]:
            raise DataError(f"{path}: expected the last axes to be z, y, x; got {', '.join(names)}")
        if len(names) > 3:
            lead = tuple(min(channel, array.shape[i] - 1) if name == "c" else 0 for i, name in enumerate(names[:-3]))
            array = _Fixed(array, lead)
        placed = (voxel_size,) if voxel_size else _transforms(multiscale, dataset, path)
        return Volume(array, Grid(triple(array.shape), *placed), _kind(group))


def is_ome_zarr(path: Path) -> bool:
    """Say whether `path` looks like an OME-Zarr image."""
    if not any((path / name).is_file() for name in ("zarr.json", ".zattrs")):
        return False
    try:
        _multiscale(_open_group(path, "r"), path)
    except DataError:
        return False
    return True


def n_levels(path: Path) -> int:
    """Return the number of levels of an OME-Zarr image."""
    return len(_multiscale(_open_group(path, "r"), path).datasets)


def shard_shape(volume: Volume) -> Voxels:
    """Return the shape of the unit of writing: parallel writers must each own whole ones."""
    array = volume.array
    return triple(array.shard) if isinstance(array, StoredArray) else (1, 1, 1)


def stored_at(volume: Volume) -> Path | None:
    """Return the folder of the image that a volume is a level of; None where it is not as it is on disk."""
    return volume.array.image if isinstance(volume.array, StoredArray) else None


def read_facts(path: Path) -> dict[str, Any]:
    """Return what cristae noted about a volume beside the metadata of the format; empty for foreign volumes."""
    facts = _open_group(path, "r").attrs.get("cristae", {})
    return dict(facts) if isinstance(facts, Mapping) else {}


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Add `facts` (anything JSON can hold) to what cristae notes about a volume."""
    group = _open_group(path, "r+")
    group.attrs["cristae"] = {**read_facts(path), **facts}


def list_labels(path: Path) -> tuple[str, ...]:
    """Return the names of the label layers of an OME-Zarr image, in the order in which they were made."""
    folder = path / "labels"
    if not any((folder / name).is_file() for name in ("zarr.json", ".zgroup")):
        return ()
    attributes = _open_group(folder, "r").attrs.asdict()
    ome = attributes.get("ome", attributes)
    names = ome.get("labels", ()) if isinstance(ome, Mapping) else ()
    return tuple(str(name) for name in names) if isinstance(names, Sequence) else ()


def register_labels(path: Path) -> None:
    """Enter the label layer at `path` in the list of labels of its image."""
    clear_partial(path.parent)
    folder = zarr.open_group(path.parent, mode="a", zarr_format=3)
    names = list(list_labels(path.parent.parent))
    if path.name not in names:
        folder.attrs["ome"] = {"version": "0.5", "labels": [*names, path.name]}


class _Fixed:
    """A view of an array of more than three axes with the leading ones held at one index."""

    def __init__(self, array: ArrayLike, lead: tuple[int, ...]) -> None:
        self._array, self._lead = array, lead
        self.shape = array.shape[len(lead) :]
        self.dtype = array.dtype

    def __getitem__(self, index: Any) -> Any:
        return self._array[(*self._lead, *index)]


def _create_level(
    group: zarr.Group, level: int, grid: Grid, dtype: np.typing.DTypeLike, kind: Kind, storage: Storage
) -> None:
    chunk = triple(max(1, min(c, n)) for c, n in zip(storage.chunk, grid.shape, strict=True))
    shard = triple(
        c * math.ceil(min(s, max(1, n)) / c) for c, s, n in zip(chunk, storage.shard, grid.shape, strict=True)
    )
    group.create_array(
        str(level),
        shape=grid.shape,
        dtype=dtype,
        chunks=chunk,
        shards=shard,
        compressors=_codecs(np.dtype(dtype), kind),
        fill_value=storage.fill_value,
        dimension_names=("z", "y", "x"),
    )


def _codecs(dtype: np.dtype[Any], kind: Kind) -> list[BytesBytesCodec]:
    # Micrographs are noise: zstd saves little more of them than lz4, and takes longer to read.
    name: Literal["lz4", "zstd"] = "lz4" if kind == "image" else "zstd"
    packed = BloscCodec(cname=name, clevel=1, shuffle="bitshuffle", typesize=dtype.itemsize)
    # Damaged chunks unpack to other voxels more often than not, so each lies in a frame of zstd with a checksum, at a
    # level that hardly tries to pack it again. Parts of chunks are read without a look at the codec crc32c.
    return [packed, ZstdCodec(level=-7, checksum=True)]


def _open_array(path: Path, name: str, mode: Literal["r", "r+"] = "r") -> StoredArray:
    if not any((path / name / metadata).is_file() for metadata in ("zarr.json", ".zarray")):
        raise DataError(f"{path} names a level {name!r} that is not there; the copy is incomplete")
    with refusing(path / name):
        return StoredArray(path, name, mode)


def _open_group(path: Path, mode: Literal["r", "r+"]) -> zarr.Group:
    if not any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs")):
        raise DataError(f"{path} is no OME-Zarr image: expected a folder with zarr.json or .zattrs in it")
    with refusing(path):
        return zarr.open_group(path, mode=mode)


def _multiscale(group: zarr.Group, path: Path) -> Multiscale | Multiscale04:
    attributes = group.attrs.asdict()
    ome = attributes.get("ome")
    model, found = (Multiscale, ome) if isinstance(ome, Mapping) else (Multiscale04, attributes)
    scales = found.get("multiscales") if isinstance(found, Mapping) else None
    if not isinstance(scales, Sequence) or not scales:
        raise DataError(f"{path} is a Zarr group without OME-Zarr metadata: no 'multiscales' in its attributes")
    try:
        return model.model_validate(scales[0])
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(f"{path} has OME-Zarr metadata that break the standard: {problem['msg']}") from error


def _transforms(multiscale: Multiscale | Multiscale04, dataset: Any, path: Path) -> tuple[Nanometres, Nanometres]:
    """Voxel size and origin of one level in nanometres; a transform of the whole group is applied on top."""
    units = [axis.unit for axis in multiscale.axes][-3:]
    unknown = [unit for unit in units if unit not in _NM_PER_UNIT]
    if unknown:
        raise DataError(
            f"{path}: expected axes in a unit of length such as nanometer; got {unknown[0]!r}. "
            "Give the voxel size when importing, or mend the metadata"
        )
    nm = np.array([_NM_PER_UNIT[str(unit)] for unit in units])
    scale, origin = np.ones(3), np.zeros(3)
    for transforms in (dataset.coordinateTransformations, multiscale.coordinateTransformations or ()):
        for transform in transforms:
            values: Any = transform
            if values.type == "scale":
                factor = np.array(values.scale[-3:], float)
                scale, origin = scale * factor, origin * factor
            elif values.type == "translation":
                origin = origin + np.array(values.translation[-3:], float)
    return _floats(scale * nm), _floats(origin * nm)


def _write_metadata(group: zarr.Group, kind: Kind, levels: Sequence[Grid], name: str) -> None:
    reduction = "nearest" if kind == "labels" else "mean"
    multiscale = Multiscale(
        axes=[Axis(name=name, type="space", unit="nanometer") for name in "zyx"],
        datasets=tuple(
            Dataset(
                path=str(level),
                coordinateTransformations=(
                    VectorScale(type="scale", scale=list(grid.voxel_size)),
                    VectorTranslation(type="translation", translation=list(grid.origin)),
                ),
            )
            for level, grid in enumerate(levels)
        ),
        name=name,
        type=reduction,
    )
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [multiscale.model_dump(exclude_none=True)]}
    if kind == "labels":
        ome["image-label"] = {"source": {"image": "../../"}}
    group.attrs["ome"] = ome
    facts = group.attrs.get("cristae", {})
    group.attrs["cristae"] = {**(facts if isinstance(facts, Mapping) else {}), "kind": kind}


def _kind(group: zarr.Group) -> Kind:
    attributes = group.attrs.asdict()
    facts, ome = attributes.get("cristae"), attributes.get("ome", attributes)
    noted = facts.get("kind") if isinstance(facts, Mapping) else None
    if noted in get_args(Kind):
        return cast(Kind, noted)
    return "labels" if isinstance(ome, Mapping) and "image-label" in ome else "image"


def _floats(values: Any) -> Nanometres:
    z, y, x = (float(value) for value in values)
    return z, y, x
