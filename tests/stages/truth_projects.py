"""Projects whose truth is measured: two cells with what lies in them, at ids with gaps."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

import cristae
from cristae.annotations import Annotations
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.stages.survey import survey
from cristae.volume import Volume

SHAPE = (34, 44, 70)
SIZE = (20.0, 10.0, 10.0)
CELLS = (7, 4_000_000_000)
FAST = {"spectrum_radius": 2, "bins": 8}


def ball(centre, radius, shape=SHAPE) -> np.ndarray:
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (2 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2


def tissue() -> dict[str, np.ndarray]:
    """Two whole cells and one that is cut; nuclei, one of them cut; nucleoli, one with a hole; mitochondria."""
    cells = np.zeros(SHAPE, np.uint32)
    cells[2:32, 3:40, 2:34] = CELLS[0]
    cells[3:31, 4:42, 34:66] = CELLS[1]
    cells[0:2, 0:4, 0:8] = 12
    nuclei = ball((17, 20, 17), 13) | ball((16, 22, 50), 11) | ball((0, 2, 3), 3)
    nucleoli = ball((17, 18, 15), 7) ^ ball((17, 18, 15), 2)
    nucleoli |= ball((16, 24, 52), 4)
    mitochondria = np.zeros(SHAPE, bool)
    mitochondria[5:10, 6:11, 6:26] = True
    mitochondria[24:28, 34:38, 29:39] = True  # in both cells, one half each
    mitochondria[20:23, 34:37, 45:60] = True
    mitochondria[8:12, 41:44, 67:70] = True  # in no cell, cut by the edge
    return {"cell": cells, "nucleus": nuclei, "nucleolus": nucleoli, "mitochondrion": mitochondria}


def grey(shape=SHAPE, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 60, shape)
    return (values + 4 * (np.arange(shape[2]) % 16)).astype(np.uint8)


def put_image(project: cristae.Project, values: np.ndarray, size=SIZE) -> None:
    image = create_volume(project.image_path, Grid(values.shape, size), values.dtype, "image")
    image.write(image.grid.box, values)
    write_facts(project.image_path, survey(Volume(values, image.grid), lambda done, total, **facts: None))


def put_truth(project: cristae.Project, layers: Mapping[str, np.ndarray], size=SIZE, slices=None) -> None:
    for name, values in layers.items():
        truth = Annotations(project.path / "truth.ome.zarr", Grid(values.shape, size))
        dtype = np.uint8 if values.dtype == bool else np.uint32
        chosen = range(len(values)) if slices is None else slices
        truth.write_slices(name, [(z, values[z].astype(dtype)) for z in chosen])


def truth_project(path: Path, layers=None, image=True, size=SIZE) -> cristae.Project:
    layers = tissue() if layers is None else layers
    project = cristae.init(path, voxel_size=size)
    if image:
        put_image(project, grey(next(iter(layers.values())).shape), size)
    put_truth(project, layers, size)
    return project
