"""Holes of a class as a layer of their own, meshed and in pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import trimesh
from PIL import Image
from truth_projects import truth_project

import cristae
from cristae.errors import ResourceError, UsageError
from cristae.features.fenestrations import find_fenestrations
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume
from cristae.stages.fenestrations import layers_of
from cristae.stages.mesh import open_meshes
from cristae.stages.options import Options
from cristae.volume import Volume

SHAPE, SIZE = (30, 44, 44), (10.0, 10.0, 10.0)
RING, SOLID = 9, 3_000_000_000


def rings() -> np.ndarray:
    """A torus around z, in the middle of (15, 15, 15), and a ball without holes."""
    z, y, x = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.uint32)
    labels[np.hypot(np.hypot(y - 15, x - 15) - 9, z - 15) <= 4] = RING
    labels[(z - 15) ** 2 + (y - 35) ** 2 + (x - 35) ** 2 <= 36] = SOLID
    return labels


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return truth_project(tmp_path_factory.mktemp("rings") / "p", {"nucleolus": rings()}, image=False, size=SIZE)


def test_the_hole_of_a_ring_is_meshed_alone(project) -> None:
    run = cristae.mesh(project, source="truth", classes=["nucleolus_fenestrations"], formats=["glb", "stl"])
    assert list(open_meshes(run)) == ["nucleolus_fenestrations"]
    table = pd.read_parquet(run.path / "meshes.parquet")
    assert table["object_id"].tolist() == [RING]  # the ball has none
    assert table["class"].tolist() == ["nucleolus_fenestrations"]
    n_voxels = find_fenestrations(rings() == RING).sum()
    assert table["volume_um3"][0] == pytest.approx(n_voxels * 1e3 / 1e9, rel=0.03)
    plug = trimesh.load(run.path / "nucleolus_fenestrations.stl" / f"{RING}.stl")
    assert plug.is_watertight
    np.testing.assert_allclose(plug.centroid, (150, 150, 150), atol=2)
    # It fills the hole: as wide as that is in the middle, no higher than the ring.
    np.testing.assert_allclose(plug.bounds[:, 2], (110, 190), atol=12)
    middle = plug.vertices[np.abs(plug.vertices[:, 2] - 150) < 8]
    assert np.hypot(*(middle[:, :2] - 150).T).max() == pytest.approx(50, abs=8)
    assert not list(run.path.glob("*.ome.zarr"))


def test_ring_and_hole_together_are_a_plate(project) -> None:
    run = cristae.mesh(project, source="truth", classes=["nucleolus_fenestrations", "nucleolus"], formats=["glb"])
    found = open_meshes(run)
    assert list(found) == ["nucleolus", "nucleolus_fenestrations"]
    assert found["nucleolus"].ids.tolist() == [RING, SOLID]
    both = [trimesh.load(run.path / f"{name}.glb").geometry[f"{name} {RING}"] for name in found]
    colours = {tuple(one.visual.material.baseColorFactor) for one in both}
    assert len(colours) == 2


def test_a_picture_shows_the_hole_alone_and_where_it_is(project) -> None:
    how = {
        "source": "truth",
        "width": 120,
        "height": 90,
        "samples": 1,
        "scale_bar": False,
        "azimuth": 0,
        "elevation": 0,
    }
    alone = cristae.render(project, classes=["nucleolus_fenestrations"], **how)
    with Image.open(alone.path / "picture.png") as picture:
        drawn = (np.asarray(picture).astype(int) < 235).any(axis=2)
    rows, columns = np.nonzero(drawn)
    # Seen along z it is a disc, and fills the frame.
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=4)
    assert np.ptp(rows) > 60
    assert drawn.sum() == pytest.approx(np.pi / 4 * np.ptp(rows) ** 2, rel=0.1)
    assert alone.manifest["n_objects"] == {"nucleolus_fenestrations": 1}
    both = cristae.render(project, classes=["nucleolus", "nucleolus_fenestrations"], **how)
    with Image.open(both.path / "picture.png") as picture:
        seen = np.asarray(picture).astype(int)
    yellow = (seen[..., 0] > 120) & (seen[..., 2] < 0.7 * seen[..., 0]) & (seen[..., 1] > 0.8 * seen[..., 0])
    assert yellow.sum() > 100  # through the ring, which is glass


def test_chosen_objects_alone_have_holes(project) -> None:
    name = "nucleolus_fenestrations"
    run = cristae.mesh(project, source="truth", classes=[name], objects={name: [RING]})
    assert open_meshes(run)[name].ids.tolist() == [RING]
    with pytest.raises(UsageError, match=f"no object of {name} has the id {SOLID}"):
        cristae.mesh(project, source="truth", classes=[name], objects={name: [SOLID]})


def test_a_killed_run_begins_its_holes_anew(project, tmp_path, monkeypatch) -> None:
    whole = cristae.mesh(project, source="truth", classes=["nucleolus_fenestrations"])
    other = truth_project(tmp_path / "q", {"nucleolus": rings()}, image=False, size=SIZE)
    with monkeypatch.context() as patch:
        patch.setattr("cristae.stages.fenestrations.open_volume", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cristae.mesh(other, source="truth", classes=["nucleolus_fenestrations"])
    again = cristae.mesh(other, source="truth", classes=["nucleolus_fenestrations"])
    (one,), (two,) = open_meshes(whole).values(), open_meshes(again).values()
    np.testing.assert_array_equal(one[0][0], two[0][0])


@pytest.mark.parametrize("seed", range(3))
def test_holes_are_those_of_each_object_alone_wherever_it_lies(tmp_path, seed) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((4, 24, 290), np.uint32)  # longer than what is read at a time
    for number in (7, 2, 70_000):  # later ones lie over earlier ones, so that boxes and holes do, too
        start = int(rng.integers(200, 225))
        labels[:, 4:20, start : start + 60][:, rng.random((16, 60)) < 0.6] = number
    expected = np.zeros_like(labels)
    for number in (2, 7, 70_000):
        expected[find_fenestrations(labels == number)] = number
    name, whole = "nucleolus_fenestrations", {"nucleolus": Volume(labels, Grid(labels.shape, SIZE), "labels")}
    killed = create_volume(tmp_path / f".{name}.partial.ome.zarr", whole["nucleolus"].grid, np.uint32, "labels")
    killed.write(killed.grid.box, np.full_like(labels, 5))
    found = layers_of([name], whole, tmp_path, Options())[name].read()
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 2


def test_an_object_whose_box_needs_too_much_memory_is_refused(tmp_path) -> None:
    labels = np.zeros((4, 300, 300), np.uint32)
    labels[:, ::299, ::299] = 3
    whole, name = {"nucleolus": Volume(labels, Grid(labels.shape, SIZE), "labels")}, "nucleolus_fenestrations"
    with pytest.raises(ResourceError, match="holes of the largest nucleolus"):
        layers_of([name], whole, tmp_path, Options(max_ram_gb=1e-3))
    assert not list(tmp_path.iterdir())


def test_holes_of_what_is_not_there_are_named(project) -> None:
    with pytest.raises(UsageError, match="no objects of ribosome; there are nucleolus"):
        cristae.mesh(project, source="truth", classes=["ribosome_fenestrations"])
