"""How numbers in label files become labels of classes: rules, and the slices that come of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cristae.errors import DataError, UsageError
from cristae.geometry import Nanometres
from cristae.io.opened import Material


@dataclass(frozen=True)
class LabelRules:
    """How numbers in files become labels.

    Parameters
    ----------
    values
        Per class the values that are it; None takes every value but 0 and `ignore_value`, for one class alone.
    slices
        z in the volume, counted from 0: of each page in order, or which slices of a stack of full depth are labelled.
    first_slice
        Number that the file name of slice 0 of the volume carries.
    ignore_value
        Value that says nobody looked.
    instances
        Whether values are ids of objects, to be kept.
    others
        Whether values of no class may occur; they are background.
    """

    values: Mapping[str, tuple[int, ...] | None]
    slices: tuple[int, ...] | None = None
    first_slice: int = 0
    ignore_value: int | None = None
    instances: bool = False
    others: bool = False


class LabelSlice(NamedTuple):
    """One labelled slice: z, and per class ``(y, x)``: 1 or the id of an object, 0, the largest value nobody looked.

    uint8 of masks and uint32 of instances.
    """

    z: int
    layers: dict[str, np.ndarray]


@dataclass(frozen=True)
class LabelSource:
    """Labels that are ready to be read, slice by slice.

    Parameters
    ----------
    source
        Where they come from.
    pages
        z of the volume and page of the source, ascending in z.
    read
        Returns the ids ``(y, x)`` of a page.
    rules
        How ids become labels.
    notes
        Sentences that the user should see.
    materials
        The structures that the file names, if it does.
    voxel_size
        Size of a voxel (z, y, x) in nm as the file states it.
    """

    source: Path
    pages: tuple[tuple[int, int], ...]
    read: Callable[[int], np.ndarray]
    rules: LabelRules
    notes: tuple[str, ...] = ()
    materials: tuple[Material, ...] = ()
    voxel_size: Nanometres | None = None

    def material(self, name: str) -> Material | None:
        """Return what the file itself says of a class; None where it names nothing."""
        values = self.rules.values.get(name)
        found = [material for material in self.materials if values and material.value == values[0]]
        return found[0] if found else None

    def slices(self) -> Iterator[LabelSlice]:
        """Yield every labelled slice, ascending in z.

        Without a selection of slices, those that are wholly "ignore" are passed over.

        Raises
        ------
        DataError
            If a value is in no class, or a file is damaged.
        """
        for z, page in self.pages:
            ids = self.read(page)
            if self.rules.slices is None and self._untouched(ids):
                continue
            yield LabelSlice(z, self._layers(ids, z))

    def check(self) -> dict[int, dict[str, int]]:
        """Read everything once and return per z and class how many voxels are labelled.

        Raises
        ------
        DataError
            If a value is in no class, a class has no voxel on any slice, nothing is labelled, or a file is damaged.
        """
        counts = {z: {name: _n_labelled(layer) for name, layer in layers.items()} for z, layers in self.slices()}
        for name in self.rules.values:
            if not any(count[name] for count in counts.values()):
                raise DataError(
                    f"{self.source}: no voxel of class {name!r} on {len(counts)} labelled slices; check the file and "
                    "the values of the class"
                )
        return counts

    def _untouched(self, ids: np.ndarray) -> bool:
        return self.rules.ignore_value is not None and bool((ids == self.rules.ignore_value).all())

    def _layers(self, ids: np.ndarray, z: int) -> dict[str, np.ndarray]:
        ignore = self.rules.ignore_value
        ignored = ids == ignore if ignore is not None else np.zeros(ids.shape, np.bool_)
        layers: dict[str, np.ndarray] = {}
        known = {0} | ({ignore} if ignore is not None else set())
        if ignore is None and not self.rules.instances and None in self.rules.values.values() and _ambiguous(ids):
            raise DataError(
                f"{self.source}: slice {z} holds 0, 1 and 255, and 255 may be the class or mean nobody looked; say "
                "which: name 255 as the ignore value, or give the values of the class, such as NAME=1,255"
            )
        for name, values in self.rules.values.items():
            inside = np.isin(ids, values) if values else (ids != 0) & ~ignored
            known |= set(values or ())
            layers[name] = np.where(ignored, np.uint8(255), inside.astype(np.uint8))
            if self.rules.instances:
                layers[name] = np.where(ignored, np.uint32(2**32 - 1), self._ids(ids, z) * inside)
        if None not in self.rules.values.values() and not self.rules.others:
            unknown = [int(value) for value in np.unique(ids) if int(value) not in known]
            if unknown:
                raise DataError(
                    f"{self.source}: slice {z} holds the value{'s' * (len(unknown) > 1)} "
                    f"{', '.join(map(str, unknown[:10]))}, which no class has; expected {sorted(known)}. "
                    "Add a class for it, or name it as the ignore value"
                )
        return layers

    def _ids(self, ids: np.ndarray, z: int) -> np.ndarray:
        low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
        if low < 0 or high >= 2**32 - 1:
            raise DataError(
                f"{self.source}: slice {z} holds the id {low if low < 0 else high}; expected ids from 0 (none) to "
                f"{2**32 - 2}. Number the objects anew, or name the value as the ignore value"
            )
        return ids.astype(np.uint32)


def _n_labelled(layer: np.ndarray) -> int:
    return int(((layer != 0) & (layer != np.iinfo(layer.dtype).max)).sum())


def _ambiguous(ids: np.ndarray) -> bool:
    """Say whether 1 and 255 occur, and nothing else but 0."""
    one, full = ids == 1, ids == 255
    return bool(one.any() and full.any() and (one | full | (ids == 0)).all())


def check_rules(rules: LabelRules) -> None:
    """Raise UsageError if the rules do not fit each other."""
    if not rules.values:
        raise UsageError("name at least one class that the labels are of")
    if rules.instances and len(rules.values) > 1:
        raise UsageError("ids of objects are of one class; import each class of instances by itself")
    if len(rules.values) > 1 and not all(rules.values.values()):
        raise UsageError("with several classes in one source give the values of each, as in nucleus=1, nucleolus=2")
    taken = {value for values in rules.values.values() for value in values or ()}
    if 0 in taken or rules.ignore_value in taken:
        ignored = "" if rules.ignore_value is None else f" and {rules.ignore_value} is ignored"
        raise UsageError(f"0 is background{ignored}: that cannot be the value of a class")
