"""Projects with labelled cells and the maps that a network would have predicted, so small that stages run at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

import cristae
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume
from cristae.stages.cells_settings import CellsSettings

SHAPE = (9, 64, 80)
SIZE = (10.0, 10.0, 10.0)
QUICK = {"smallest_body_um2": 0.002, "edge_nm": 0.0, "new_um3": 1e-4, "flow_reduction": 1}


def three_cells() -> np.ndarray:
    """Two cells that touch and one apart, all moving by a pixel per slice."""
    truth = np.zeros(SHAPE, np.uint32)
    for z in range(SHAPE[0]):
        truth[z, 6:40, 4 + z : 24 + z] = 300
        truth[z, 6:40, 24 + z : 44 + z] = 70_001
        truth[z, 46:60, 50 + z : 66 + z] = 9
    return truth


def write_slices(folder: Path, shape: Sequence[int], black: Sequence[int] = (), grey: int = 0) -> Path:
    """Write a texture that moves by a pixel per slice as TIFFs; `black` slices are of one `grey` value."""
    folder.mkdir()
    depth, height, width = shape
    texture = np.random.default_rng(0).integers(60, 200, (height, width + depth)).astype(np.uint8)
    for z in range(depth):
        plane = np.roll(texture, z, axis=1)[:, :width]
        tifffile.imwrite(folder / f"z{z:03d}.tif", np.full_like(plane, grey) if z in black else plane)
    return folder


def cell_project(
    path: Path, labels: np.ndarray, labelled: Sequence[int], *, truth: np.ndarray | None = None, **rules: Any
) -> cristae.Project:
    """Make a project whose `labels` are known on the `labelled` slices.

    Maps are those of a perfect network for `truth`, or the labels; of the rules, `maps` names those that are there, and
    `black` the slices that were lost, `grey` their value.
    """
    truth = labels if truth is None else truth
    black = list(rules.get("black", ()))
    project = cristae.init(path, voxel_size=SIZE)
    cristae.import_image(
        project, write_slices(path.with_name(f"{path.name}-slices"), truth.shape, black, rules.get("grey", 0))
    )
    project.annotations.write_slices("cell", [(z, labels[z]) for z in labelled])
    project.add_classes(("cell",))
    boundary = np.zeros(truth.shape, np.bool_)
    for axis in (1, 2):
        for step in (1, -1):
            boundary |= np.roll(truth, step, axis) != truth
    masks = {"cell_interior": truth > 0, "cell_boundary": boundary}
    maps = {name: np.where(masks[name], 230, 10) for name in rules.get("maps", masks)}
    for one in maps.values():
        one[black] = 0
    if maps:
        predicted(project, maps)
    return project


def predicted(project: cristae.Project, maps: Mapping[str, np.ndarray]) -> None:
    """Put probabilities × 255, and masks of 128 and above, where a prediction would have put them."""
    settings = CellsSettings()  # any will do
    run = project.run("predict", settings, {"maps": str(sorted(maps))})
    grid = Grid(project.image.shape, SIZE)
    with project.record(run, settings, {}):
        for name, values in maps.items():
            path = run.path / f"{name}.ome.zarr"
            create_volume(path, grid, np.uint8, "probability").write(grid.box, values.astype(np.uint8))
            mask = create_volume(path / "labels" / name, grid, np.uint8, "labels")
            mask.write(grid.box, (np.asarray(values) >= 128).astype(np.uint8))
        run.update(classes=list(maps))
