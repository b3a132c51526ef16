"""What can be exported of a project: single layers, and layers of several classes joined to one map of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import DataError, UsageError
from cristae.io.ome_zarr import list_labels, open_volume, read_facts
from cristae.io.opened import IGNORE_NAME, Material
from cristae.project import Project
from cristae.stages.corrected import corrected_layer
from cristae.volume import ArrayLike, Volume

JOINED = ("annotations", "truth", "masks")
"""Layers of all classes in one map of labels: what was painted, what results are scored against, what was predicted."""


@dataclass(frozen=True)
class Layer:
    """A layer that is ready to be written.

    Parameters
    ----------
    volume
        Its voxels.
    materials
        What the values of labels are, where each value is a class.
    values, background, unseen
        Where values were given anew for another program: that of each class, of what is none of them, and of what
        nobody looked at.
    """

    volume: Volume
    materials: tuple[Material, ...] = ()
    values: tuple[tuple[str, int], ...] = ()
    background: int = 0
    unseen: int | None = None


class Recoded:
    """An array of labels, uint8, whose values are others: value ``i`` becomes ``table[i]``."""

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, array: ArrayLike, table: np.ndarray) -> None:
        self._array, self._table = array, table
        self.shape = array.shape

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._table[np.asarray(self._array[index])]


class Masked:
    """An array of labels with one value for all that is not 0; uint8."""

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, array: ArrayLike, value: int) -> None:
        self._array, self._value = array, value
        self.shape = array.shape

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.where(np.asarray(self._array[index]) != 0, np.uint8(self._value), np.uint8(0))


class Joined:
    """Layers of classes as one map of labels, uint8: class i has value i + 1; later ones of `order` lie on top.

    Where no class was painted and one was not looked at, the value is `unseen`.
    """

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, arrays: Sequence[ArrayLike], order: Sequence[int], unseen: int) -> None:
        self._arrays, self._order, self._unseen = tuple(arrays), tuple(order), unseen
        self.shape = arrays[0].shape

    def __getitem__(self, index: Any) -> np.ndarray:
        joined: np.ndarray | None = None
        unseen: np.ndarray | None = None
        for i in self._order:
            values = np.asarray(self._arrays[i][index])
            nobody_looked = values == np.iinfo(values.dtype).max
            if joined is None or unseen is None:
                joined, unseen = np.zeros(values.shape, np.uint8), np.zeros(values.shape, np.bool_)
            joined[(values != 0) & ~nobody_looked] = i + 1
            unseen |= nobody_looked
        assert joined is not None and unseen is not None
        joined[unseen & (joined == 0)] = self._unseen
        return joined


def layers(project: Project) -> dict[str, Path]:
    """Return the names of all layers that can be exported now, and where each is."""
    found: dict[str, Path] = {}
    if "digest" in project.image_facts:
        found["image"] = project.image_path
        if project.file.prepared:
            found["raw"] = project.raw_path
    predicted = project.latest("predict")
    for path in sorted(predicted.path.glob("*.ome.zarr")) if predicted else ():
        name = path.name.removesuffix(".ome.zarr")
        if (path / "labels" / name).is_dir():
            assert predicted is not None
            found[name] = corrected_layer(project, predicted, name)
        found[f"{name}/probability"] = path
    labelled = project.latest("objects")
    if labelled:
        for name in labelled.manifest["classes"]:
            found[f"{name}/objects"] = corrected_layer(project, labelled, name)
    for stage in ("cells", "track"):  # ids that were tracked are shown in place of those before
        run = project.latest(stage)
        if run:
            name = run.manifest["name"]
            found[name] = corrected_layer(project, run, name)
    for kind in ("annotations", "truth"):
        folder = project.labels_folder / f"{kind}.ome.zarr"
        found |= {f"{kind}/{name}": folder / "labels" / name for name in list_labels(folder)}
    return found


def joined_layers(project: Project) -> dict[str, dict[str, Path]]:
    """Return the layers of `JOINED` that there are, with the classes of each and where these are."""
    single = layers(project)
    found: dict[str, dict[str, Path]] = {
        kind: {name.partition("/")[2]: path for name, path in single.items() if name.startswith(f"{kind}/")}
        for kind in ("annotations", "truth")
    }
    found["masks"] = {
        name: path for name, path in single.items() if f"{name}/probability" in single and "/" not in name
    }
    return {kind: classes for kind, classes in found.items() if classes}


def open_layer(project: Project, name: str, *, named: bool, unseen: str) -> Layer:
    """Open a layer by its name.

    Parameters
    ----------
    project, name
        One of `layers` or `joined_layers`.
    named
        Whether classes are wanted as values that have names, for formats that keep these.
    unseen
        Whether voxels that nobody looked at become a class of their own (``ignore``) or ``background``.

    Raises
    ------
    UsageError
        If there is no such layer.
    """
    single, joined = layers(project), joined_layers(project)
    if name in joined:
        return _joined(project, joined[name], unseen)
    if name not in single:
        known = ", ".join((*single, *joined)) or "none yet"
        raise UsageError(f"no layer {name!r} in {project.path}; there are: {known}")
    volume, of_people = open_volume(single[name]), name.startswith(("annotations/", "truth/"))
    if named and of_people and volume.dtype == np.uint8:
        return _joined(project, {name.partition("/")[2]: single[name]}, unseen)
    if volume.kind == "labels" and volume.dtype == np.uint8 and not of_people and "/" not in name:
        return Layer(volume, (_material(project, name, 1),))
    return Layer(volume)


def for_ilastik(layer: Layer, names: Sequence[str]) -> Layer:
    """Return classes as ilastik keeps labels: 0 nobody looked, 1 none of the classes, 2 and on the classes.

    Parameters
    ----------
    layer
        Classes in one map, or one class.
    names
        Of the classes, in the order of their values.

    Raises
    ------
    UsageError
        If it holds ids of objects or no labels.
    """
    if not layer.materials:
        raise UsageError("ilastik learns classes; export annotations, truth, masks, or one class of them")
    table = np.zeros(256, np.uint8)
    table[0 : len(names) + 1] = np.arange(1, len(names) + 2)
    materials = (
        Material("background", 1),
        *(replace(one, value=one.value + 1) for one in layer.materials if one.name != IGNORE_NAME),
    )
    volume = Volume(Recoded(layer.volume.array, table), layer.volume.grid, "labels")
    values = tuple((name, i + 2) for i, name in enumerate(names))
    return Layer(volume, materials, values, background=1, unseen=0)


def _joined(project: Project, classes: dict[str, Path], unseen: str) -> Layer:
    if len(classes) > 253:
        raise DataError(f"{len(classes)} classes do not fit into one map of 8 bit; export them one by one")
    volumes = [open_volume(path) for path in classes.values()]
    # What is small lies within what is large, as a nucleolus in its nucleus, and not the other way round.
    sizes = [_n_painted(path) for path in classes.values()]
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    materials = [_material(project, name, i + 1) for i, name in enumerate(classes)]
    value = 0
    if unseen == "ignore" and any("slices" in read_facts(path) for path in classes.values()):
        value = len(classes) + 1
        materials.append(Material(IGNORE_NAME, value, (0.5, 0.5, 0.5)))
    array = Joined([volume.array for volume in volumes], order, value)
    return Layer(Volume(array, volumes[0].grid, "labels"), tuple(materials))


def _n_painted(path: Path) -> int:
    slices = read_facts(path).get("slices", {})
    return sum(int(entry["n_voxels"]) for entry in slices.values())


def _material(project: Project, name: str, value: int) -> Material:
    """Return a class under the name and with the colour that it had in the file that its labels came from."""
    for kind in ("annotations", "truth"):
        path = project.labels_folder / f"{kind}.ome.zarr" / "labels" / name
        facts = read_facts(path) if path.is_dir() else {}
        if "material" in facts:
            colour = facts.get("colour")
            if not isinstance(colour, list) or len(colour) != 3:
                return Material(str(facts["material"]), value)
            return Material(str(facts["material"]), value, (float(colour[0]), float(colour[1]), float(colour[2])))
    return Material(name, value)
