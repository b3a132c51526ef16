"""`Annotations`: what people painted on a few slices, and what they did not look at.

One layer per class, so that a nucleolus may lie inside a nucleus. A voxel of a layer is

- 1: this class, painted by hand;
- 0: looked at and not this class: on slices where the class is complete, or where a correction erased it;
- 255 (`IGNORE`): nobody looked. **Unlabelled is never background**; ignored voxels enter no loss and no score.

A class of **instances**, such as cells, holds the id of an object in place of 1, the same id on every slice, and
`IGNORE_ID` in place of `IGNORE`; `Annotations.read_slice` shows it as a mask all the same.

On disk an OME-Zarr per class in one folder; slices nobody touched take no space::

    annotations.ome.zarr/labels/<class>      chunks of one slice, fill value 255; 4294967295 of instances

The truth that results are scored against is kept the same way, in ``truth.ome.zarr``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cristae.errors import DataError, UsageError
from cristae.geometry import Box, Grid
from cristae.io.ome_zarr import (
    Storage,
    create_volume,
    is_ome_zarr,
    list_labels,
    open_volume,
    read_facts,
    register_labels,
    write_facts,
)
from cristae.volume import Volume

IGNORE = 255
"""Value of voxels that nobody looked at."""
IGNORE_ID = 2**32 - 1
"""The same in a class of instances."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_class_name(name: str) -> str:
    """Return `name` if it can name a class (and so a folder), else raise UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a class: use up to 64 letters, digits, '-' and '_', a letter or digit first"
        )
    return name


def digest_of(labels: np.ndarray) -> str:
    """Return what is noted of the labels of a slice as they are stored: the same labels, the same words."""
    return hashlib.blake2b(labels.tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Annotations:
    """Sparse labels of one project.

    Parameters
    ----------
    path
        The folder ``annotations.ome.zarr`` or ``truth.ome.zarr``; need not exist yet.
    grid
        Grid of the image; layers have its shape.
    """

    path: Path
    grid: Grid

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that have a layer, in the order in which they were added."""
        return list_labels(self.path)

    def labelled_slices(self, name: str | None = None) -> tuple[int, ...]:
        """Return the z of all slices with labels of class `name` (of any class without one), ascending."""
        names = [name] if name else self.classes
        return tuple(sorted({int(z) for one in names for z in self._slices(one)}))

    def complete_slices(self, name: str) -> tuple[int, ...]:
        """Return the z of all slices on which every object of class `name` was painted."""
        return tuple(sorted(int(z) for z, entry in self._slices(name).items() if entry["complete"]))

    def read_slice(self, name: str, z: int) -> np.ndarray:
        """Return one slice of a class: uint8 ``(y, x)`` of 0, 1 and `IGNORE`; all `IGNORE` where nobody looked."""
        stored = self._stored_slice(name, z)
        if stored.dtype == np.uint8:
            return stored
        return np.where(stored == IGNORE_ID, np.uint8(IGNORE), (stored != 0).astype(np.uint8))

    def read_ids(self, name: str, z: int) -> np.ndarray:
        """Return one slice of a class of instances: uint32 ``(y, x)`` of ids, 0 and `IGNORE_ID`.

        Raises
        ------
        UsageError
            If the class has no labels, or masks only.
        """
        stored = self._stored_slice(name, z)
        if stored.dtype == np.uint8:
            raise UsageError(f"the labels of {name!r} are masks; import them with the ids of objects (--instances)")
        return stored

    def has_instances(self, name: str) -> bool:
        """Say whether a class has labels and they tell objects apart."""
        return name in self.classes and self.layer(name).dtype != np.uint8

    def _stored_slice(self, name: str, z: int) -> np.ndarray:
        if name not in self.classes:
            raise UsageError(f"no labels of class {name!r}; there are {', '.join(self.classes) or 'none'}")
        return self.layer(name).read(self._slice_box(z))[0]

    def layer(self, name: str) -> Volume:
        """Return the whole layer of a class, read lazily."""
        return open_volume(self.path / "labels" / name)

    def write_slice(self, name: str, z: int, labels: np.ndarray, *, complete: bool = True) -> None:
        """Store one slice of a class; see `write_slices`."""
        self.write_slices(name, [(z, labels)], complete=complete)

    def write_slices(
        self,
        name: str,
        slices: Iterable[tuple[int, np.ndarray]],
        *,
        complete: bool = True,
        origins: Mapping[int, str] | None = None,
        background_seen: bool = False,
    ) -> None:
        """Store slices of a class, replacing what was there.

        Parameters
        ----------
        name
            Class; its layer is made when needed.
        slices
            Pairs of slice index and labels ``(y, x)``, taken one at a time. Masks are uint8: 1 the class, 0 not,
            `IGNORE` not looked at. Instances are uint32: ids, 0 and `IGNORE_ID`.
        complete
            Whether every object of the class on these slices is painted. If not, 0 becomes `IGNORE`.
        origins
            Of slices that were not painted here but moved from slices that lie otherwise: the digests of those.
        background_seen
            Whether 0 was looked at and is not the class, on incomplete slices too, as where people took away what was
            wrong: what nobody looked at is marked.

        Raises
        ------
        DataError
            If z lies outside the volume, the slice has another size, or holds other values.
        UsageError
            If masks are given where instances are stored, or the other way round.
        """
        check_class_name(name)
        layer: Volume | None = None
        entries: dict[str, Mapping[str, int | bool | str]] = {}
        moved = origins or {}
        try:
            for z, labels in slices:
                ignore = labels.dtype.type(IGNORE if labels.dtype == np.uint8 else IGNORE_ID)
                n_voxels = self._check(z, labels)
                values = labels if complete or background_seen else np.where(labels == 0, ignore, labels)
                layer = layer or self._writable_layer(name, labels.dtype)
                self._forget(name, z)
                layer.write(self._slice_box(z), values[None])
                origin = {"origin": moved[z]} if z in moved else {}
                entries[str(z)] = {"complete": complete, "n_voxels": n_voxels, "digest": digest_of(values), **origin}
        finally:
            # What was written is known even when a later slice fails.
            if entries:
                write_facts(self.path / "labels" / name, {"slices": {**self._slices(name), **entries}})

    def write_over(self, name: str, z: int, labels: np.ndarray, *, complete: bool) -> None:
        """Store a slice as it is, 0 as 0, with its notes never gone, for which a mix of old and new is no harm."""
        n_voxels = self._check(z, labels)
        self._writable_layer(name, labels.dtype).write(self._slice_box(z), labels[None])
        entry = {"complete": complete, "n_voxels": n_voxels, "digest": digest_of(labels)}
        write_facts(self.path / "labels" / name, {"slices": {**self._slices(name), str(z): entry}})

    def drop_slice(self, name: str, z: int) -> None:
        """Make a slice of a class one that nobody looked at."""
        if name in self.classes:
            layer = self.layer(name)
            ignore = IGNORE if layer.dtype == np.uint8 else IGNORE_ID
            self.write_slice(name, z, np.full(self.grid.shape[1:], ignore, layer.dtype), complete=False)
            self._forget(name, z)

    def _forget(self, name: str, z: int) -> None:
        """Drop what is noted of a slice before it is overwritten: a kill must not leave old notes on new voxels."""
        slices = self._slices(name)
        if str(z) in slices:
            kept = {key: entry for key, entry in slices.items() if key != str(z)}
            write_facts(self.path / "labels" / name, {"slices": kept})

    def _check(self, z: int, labels: np.ndarray) -> int:
        """Return the number of labelled pixels of a slice that may be stored."""
        if not 0 <= z < self.grid.shape[0]:
            raise DataError(f"slice {z} lies outside the volume, whose slices run from 0 to {self.grid.shape[0] - 1}")
        if labels.shape != self.grid.shape[1:]:
            raise DataError(
                f"labels of slice {z} are {labels.shape} (y, x); the image's slices are {self.grid.shape[1:]}"
            )
        if labels.dtype == np.uint32:
            return int(((labels != 0) & (labels != IGNORE_ID)).sum())
        counts = np.bincount(labels.ravel(), minlength=256)
        if counts[2:IGNORE].any():
            wrong = 2 + int(np.argmax(counts[2:IGNORE] > 0))
            raise DataError(f"labels of slice {z} hold the value {wrong}; expected 0, 1 and {IGNORE}")
        return int(counts[1])

    def _writable_layer(self, name: str, dtype: np.dtype) -> Volume:
        path = self.path / "labels" / name
        if not is_ome_zarr(path):
            ignore = IGNORE if dtype == np.uint8 else IGNORE_ID
            storage = Storage(chunk=(1, 512, 512), shard=(1, 512, 512), fill_value=ignore)
            return create_volume(path, self.grid, dtype, "labels", storage)
        register_labels(path)  # a kill may have come between making it and entering it
        layer = open_volume(path, mode="r+")
        if layer.dtype != dtype:
            kinds = {True: "masks", False: "ids of objects"}
            raise UsageError(
                f"the labels of {name!r} are {kinds[layer.dtype == np.uint8]}, not {kinds[dtype == np.uint8]}; "
                f"choose another class name, or remove {path} first"
            )
        return layer

    def noted(self, name: str) -> dict[int, Mapping[str, int | bool | str]]:
        """Return the notes on each labelled slice: ``complete``, ``n_voxels``, ``digest``, and ``origin`` if moved."""
        return {int(z): entry for z, entry in self._slices(name).items()}

    def n_voxels(self, name: str) -> int:
        """Return how many voxels were painted as class `name`."""
        return sum(int(entry["n_voxels"]) for entry in self._slices(name).values())

    def fingerprint(self, names: Sequence[str] | None = None) -> str:
        """Return a hash of all labels of the named classes (all without names): the same labels, the same hash."""
        total = hashlib.blake2b(digest_size=16)
        for name in sorted(names if names is not None else self.classes):
            total.update(name.encode())
            for z, entry in sorted(self._slices(name).items(), key=lambda item: int(item[0])):
                total.update(f"{z}:{entry['complete']}:{entry['digest']};".encode())
        return total.hexdigest()

    def _slices(self, name: str) -> Mapping[str, Mapping[str, int | bool | str]]:
        if name not in self.classes:
            return {}
        return read_facts(self.path / "labels" / name).get("slices", {})

    def _slice_box(self, z: int) -> Box:
        _, height, width = self.grid.shape
        return Box((z, 0, 0), (z + 1, height, width))
