"""What there is to see of a project: every layer with its name, kind, colour and place, for any viewer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cristae.annotations import IGNORE, IGNORE_ID
from cristae.errors import DataError
from cristae.io.ome_zarr import is_ome_zarr, list_labels, n_levels, open_volume, read_facts
from cristae.palette import ORANGE, class_colour
from cristae.project import Project
from cristae.stages.export_layers import layers
from cristae.stages.layers import disagreeing, disagreement_of
from cristae.volume import Volume


@dataclass(frozen=True)
class View:
    """A layer as it is shown.

    Parameters
    ----------
    name
        As `cristae export` knows it.
    path
        Its OME-Zarr.
    volumes
        Its levels, the finest first.
    kind
        ``image``, ``labels`` (ids), ``mask`` (one class) or ``probability``.
    colour
        ``#rrggbb`` of a class.
    visible
        Whether it is shown from the start.
    hidden_value
        Of labels: the value where nobody looked.
    """

    name: str
    path: Path
    volumes: tuple[Volume, ...]
    kind: str
    colour: str = "#ffffff"
    visible: bool = False
    hidden_value: int | None = None

    @property
    def contrast(self) -> tuple[float, float] | None:
        """Grey values that are black and white: five deviations about the mean; None where they are not known."""
        if self.kind == "probability":
            return 0.0, 255.0
        facts = read_facts(self.path)
        mean, spread = facts.get("slice_mean"), facts.get("slice_std")
        if self.kind != "image" or not mean or not spread:
            return None
        middle, wide = float(np.median(mean)), 3 * float(np.median(spread))
        top = float(np.iinfo(self.volumes[0].dtype).max) if self.volumes[0].dtype.kind in "ui" else float("inf")
        low, high = max(0.0, middle - wide), min(top, middle + wide)
        return (low, high) if high > low else None


def project_views(project: Project) -> list[View]:
    """Return all layers of a project, those that lie at the bottom first.

    Raises
    ------
    DataError
        If there is nothing to see.
    """
    predicted = project.latest("predict")
    unsure = {disagreement_of(name): name for name in disagreeing(predicted)} if predicted else {}
    found = []
    for name, path in layers(project).items():
        if name.removesuffix("/probability") in unsure:
            named = f"{unsure[name.removesuffix('/probability')]}/uncertainty"
            found.append(View(named, path, levels(path), "probability", ORANGE))
        else:
            found.append(_view(project, name, path))
    if not found:
        raise DataError(
            f"{project.path} has nothing to see yet; import an image with: cristae import image {project.path} SOURCE"
        )
    order = {"image": 0, "probability": 1, "mask": 2, "labels": 3}
    return sorted(found, key=lambda view: (order[view.kind], not view.name.startswith(("truth/", "annotations/"))))


def image_views(path: Path) -> list[View]:
    """Return what there is to see of an OME-Zarr: the image, and label layers in it.

    Raises
    ------
    DataError
        If it is no OME-Zarr with voxels of known size.
    """
    volumes = levels(path)
    found = [View(path.name.removesuffix(".zarr").removesuffix(".ome"), path, volumes, volumes[0].kind, visible=True)]
    for name in list_labels(path):
        inner = path / "labels" / name
        if is_ome_zarr(inner):
            volumes = levels(inner)
            hidden = _hidden(volumes[0]) if "slices" in read_facts(inner) else None
            found.append(View(name, inner, volumes, "labels", visible=True, hidden_value=hidden))
    return found


def levels(path: Path) -> tuple[Volume, ...]:
    """Return all levels of an OME-Zarr, the finest first."""
    return tuple(open_volume(path, level) for level in range(n_levels(path)))


def _view(project: Project, name: str, path: Path) -> View:
    volumes = levels(path)
    kind: str = volumes[0].kind
    by_hand = name.startswith(("annotations/", "truth/"))
    of = name.partition("/")[2] if by_hand else name.partition("/")[0]
    if kind == "labels" and volumes[0].dtype == np.uint8:
        kind = "mask"
    classes = project.classes
    colour = class_colour(classes.index(of)) if of in classes else "#ffffff"
    visible = name == "image" or (by_hand and not name.startswith("truth/")) or ("/" not in name and name in classes)
    facts: dict[str, Any] = read_facts(path)
    hidden = _hidden(volumes[0]) if by_hand and "slices" in facts else None
    return View(name, path, volumes, kind, colour, visible, hidden)


def _hidden(volume: Volume) -> int:
    return IGNORE if volume.dtype == np.uint8 else IGNORE_ID
