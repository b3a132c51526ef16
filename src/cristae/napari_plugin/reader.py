"""Projects and OME-Zarr as layers of napari: names, voxel sizes in nm, levels, colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cristae.errors import CristaeError
from cristae.io.ome_zarr import is_ome_zarr
from cristae.palette import rgb
from cristae.project import Project
from cristae.stages.measuring.sample import Known
from cristae.viewing.arrays import LazyArray
from cristae.viewing.layers import View, image_views, project_views
from cristae.volume import Volume

LayerData = tuple[Any, dict[str, Any], str]
PROJECT = "cristae_project"
"""Key of the metadata of a layer under which its project is named."""


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """Return what reads a folder, if it is a project or an OME-Zarr; None for all else."""
    if not isinstance(path, str):
        return None
    folder = Path(path)
    if folder.name == "project.toml" or (folder / "project.toml").is_file():
        return read_project
    return read_image if is_ome_zarr(folder) else None


def read_project(path: str) -> list[LayerData]:
    """Return the layers of a project, given its folder or the file in it."""
    project = Project.open(Path(path).parent if Path(path).name == "project.toml" else path)
    return [layer_data(view, {PROJECT: str(project.path.resolve())}) for view in project_views(project)]


def read_image(path: str) -> list[LayerData]:
    """Return the layers of an OME-Zarr; one in a project knows of it."""
    folder = Path(path).resolve()
    home = next((one for one in folder.parents if (one / "project.toml").is_file()), None)
    return [layer_data(view, {PROJECT: str(home)} if home else {}) for view in image_views(folder)]


def layer_data(view: View, metadata: dict[str, Any]) -> LayerData:
    """Return a layer as napari takes it: levels, keywords, type."""
    volumes = [_shown(volume, view.hidden_value) for volume in view.volumes]
    data = [LazyArray(volume) for volume in volumes]
    many = len(data) > 1
    keywords = placed(volumes[0]) | {
        "name": view.name,
        "visible": view.visible,
        "metadata": {**metadata, "cristae_layer": view.name},
        "multiscale": many,
    }
    if view.kind in ("labels", "mask"):
        if view.kind == "mask":
            keywords["colormap"] = mask_colours(view.colour)
        return data if many else data[0], keywords | {"opacity": 0.45}, "labels"
    if view.kind == "probability":
        keywords |= {"colormap": _fading(view.colour), "blending": "additive", "opacity": 0.8}
    if view.contrast:
        keywords["contrast_limits"] = view.contrast
    return data if many else data[0], keywords, "image"


def placed(volume: Volume) -> dict[str, Any]:
    """Return the keywords that say where a volume lies, in nm."""
    grid = volume.grid
    axes = {"axis_labels": ("z", "y", "x"), "units": ("nm", "nm", "nm")}
    return {"scale": grid.voxel_size, "translate": grid.origin, **axes}


def mask_colours(colour: str) -> dict[int | None, Any]:
    """Return the colours of a mask: of its class, and none."""
    return {None: (0.0, 0.0, 0.0, 0.0), 0: (0.0, 0.0, 0.0, 0.0), 1: (*(part / 255 for part in rgb(colour)), 1.0)}


def project_of(layers: Sequence[Any]) -> Project | None:
    """Return the project that layers of napari are from, if it is one and can be opened."""
    named = {str(layer.metadata[PROJECT]) for layer in layers if PROJECT in layer.metadata}
    if len(named) != 1:
        return None
    try:
        return Project.open(named.pop())
    except CristaeError:
        return None


def _shown(volume: Volume, hidden: int | None) -> Volume:
    return volume if hidden is None else Volume(Known(volume.array, hidden), volume.grid, volume.kind)


def _fading(colour: str) -> dict[str, Any]:
    """Return a scale of colours from black to that of a class, as napari understands it."""
    full = (*(part / 255 for part in rgb(colour)), 1.0)
    return {"name": f"to {colour}", "colors": [(0.0, 0.0, 0.0, 1.0), full]}
