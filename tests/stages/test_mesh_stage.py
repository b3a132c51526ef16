"""`cristae mesh` on whole projects: any ids, any blocks, killed and resumed, and what cannot be."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import trimesh
from truth_projects import CELLS, SIZE, tissue, truth_project

import cristae
from cristae.errors import DataError, ResourceError, UsageError
from cristae.geometry import Grid
from cristae.io.meshes import open_store
from cristae.io.ome_zarr import build_pyramid, create_volume
from cristae.project import Run
from cristae.stages import mesh as stage
from cristae.stages.colouring import object_colour
from cristae.stages.measuring.sources import Source
from cristae.stages.mesh import open_meshes


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return truth_project(tmp_path_factory.mktemp("mesh") / "p", image=False)


@pytest.fixture(scope="module")
def meshed(project):
    return cristae.mesh(project, source="truth", formats=["glb", "ply", "stl", "precomputed"])


def content(run) -> dict[str, bytes]:
    return {path.name + path.parent.name: path.read_bytes() for path in sorted(run.path.glob("*.meshes/*.bin"))}


def test_every_object_has_a_closed_mesh_with_its_volume(project, meshed) -> None:
    table = pd.read_parquet(meshed.path / "meshes.parquet")
    plain = cristae.mesh(project, source="truth", smoothing=0, max_error_nm=0)
    expected = pd.read_parquet(plain.path / "meshes.parquet")
    assert sorted(table.loc[table["class"] == "cell", "object_id"]) == sorted([12, *CELLS])
    assert table["class"].value_counts().to_dict() == {"cell": 3, "mitochondrion": 4, "nucleus": 3, "nucleolus": 2}
    np.testing.assert_allclose(table["volume_um3"], expected["volume_um3"], rtol=2e-3)
    assert table["n_faces"].sum() < expected["n_faces"].sum() / 2
    for name in meshed.manifest["classes"]:
        scene = trimesh.load(meshed.path / f"{name}.glb")
        assert all(node.is_watertight and node.volume > 0 for node in scene.geometry.values())
        for kind in ("ply", "stl", "precomputed"):
            assert (meshed.path / f"{name}.{kind}").exists()
    # Voxels of the box of one cell, and its place: 30 × 37 × 32 from (2, 3, 2).
    cell = trimesh.load(meshed.path / "cell.glb").geometry[f"cell {CELLS[0]}"]
    assert cell.metadata["id"] == CELLS[0]
    assert cell.volume == pytest.approx(30 * 37 * 32 * 20 * 10 * 10, rel=0.01)
    np.testing.assert_allclose(cell.centroid, [17.5 * 10, 21 * 10, 16.5 * 20], atol=2)


def test_blocks_and_workers_change_nothing(project, meshed, tmp_path) -> None:
    whole = content(meshed)
    other = truth_project(tmp_path / "q", image=False)
    options = cristae.Options(executor="threads:3")
    parts = cristae.mesh(other, source="truth", block_side=16, options=options)
    assert content(parts) == whole


def test_a_killed_run_goes_on_and_comes_to_the_same(project, meshed, tmp_path, monkeypatch) -> None:
    other = truth_project(tmp_path / "q", image=False)
    plain, calls = stage.march, []

    def killed(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return plain(*arguments, **keywords)

    monkeypatch.setattr(stage, "march", killed)
    with pytest.raises(KeyboardInterrupt):
        cristae.mesh(other, source="truth", block_side=16)
    monkeypatch.setattr(stage, "march", plain)
    done = [path.stat().st_mtime_ns for path in other.path.glob("runs/mesh-*/.pieces/*/*.index.npy")]
    assert len(done) == 8
    run = cristae.mesh(other, source="truth", block_side=16)
    assert run.manifest["resumed"] == 1
    assert content(run) == content(meshed)
    assert not (run.path / ".pieces").exists()


def test_chosen_objects_alone_are_meshed(project) -> None:
    run = cristae.mesh(project, source="truth", classes=["cell"], objects={"cell": [CELLS[1]]})
    assert open_meshes(run)["cell"].ids.tolist() == [CELLS[1]]


def test_a_second_run_does_nothing_and_force_does_it_again(project, meshed) -> None:
    said = []
    again = cristae.mesh(
        project,
        source="truth",
        formats=["glb", "ply", "stl", "precomputed"],
        options=cristae.Options(notify=said.append),
    )
    assert again.path == meshed.path
    assert "nothing to do" in said[0]
    before = content(meshed)
    cristae.mesh(
        project, source="truth", formats=["glb", "ply", "stl", "precomputed"], options=cristae.Options(force=True)
    )
    assert content(meshed) == before


def test_objects_have_colours_of_their_own_as_in_pictures(project, meshed) -> None:
    def colours(run) -> dict[str, tuple[int, ...]]:
        nodes = trimesh.load(run.path / "cell.glb").geometry
        return {name: tuple(node.visual.material.baseColorFactor[:3]) for name, node in nodes.items()}

    assert len(set(colours(meshed).values())) == 1
    run = cristae.mesh(project, source="truth", classes=["cell"], colour_by="object", formats=["glb", "ply"])
    found = colours(run)
    for number in (12, *CELLS):
        light = np.array(object_colour(number)) ** 2.2  # glTF has linear light
        np.testing.assert_allclose(np.array(found[f"cell {number}"]) / 255, light, atol=0.01)
    ply = trimesh.load(run.path / "cell.ply", process=False)
    seen = {tuple(row) for row in ply.visual.vertex_colors[:, :3].tolist()}
    assert seen == {tuple(round(255 * value) for value in object_colour(number)) for number in (12, *CELLS)}


def test_by_cell_needs_to_know_the_cells(project) -> None:
    with pytest.raises(UsageError, match=r"mesh\.colour_by=cell needs .* run: cristae anatomy"):
        cristae.mesh(project, source="truth", colour_by="cell")


def test_without_draco_nothing_is_begun(project, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(ResourceError, match=r"cristae\[draco\]"):
        cristae.mesh(project, source="truth", classes=["cell"], formats=["precomputed"])


def test_a_coarser_level_lies_in_the_same_place(tmp_path, monkeypatch) -> None:
    project = truth_project(tmp_path / "q", {"cell": tissue()["cell"]}, image=False)
    monkeypatch.setattr("cristae.io.levels.SMALLEST_LEVEL", 32)
    run = Run(project.path / "runs" / "track-1", "track", "1")
    cells = create_volume(run.path / "cell.ome.zarr", Grid(tissue()["cell"].shape, SIZE), np.uint32, "labels")
    cells.write(cells.grid.box, tissue()["cell"])
    build_pyramid(run.path / "cell.ome.zarr")
    source = Source(("cell",), "cell", {"track": "1"}, {"cell": run})
    monkeypatch.setattr(stage, "find_source", lambda *rest: source)
    fine, coarse = cristae.mesh(project, level=0), cristae.mesh(project, level=1)
    one, other = open_meshes(fine)["cell"], open_meshes(coarse)["cell"]
    row = one.ids.tolist().index(CELLS[0])
    places = [(vertices.min(axis=0) + vertices.max(axis=0)) / 2 for vertices, _ in (one[row], other[row])]
    np.testing.assert_allclose(*places, atol=max(SIZE))
    assert coarse.manifest["voxel_size_nm"] == [20.0, 20.0, 20.0]
    with pytest.raises(UsageError, match=r"there is no level 9; expected 0 to \d"):
        cristae.mesh(project, level=9)
    monkeypatch.setattr(stage, "MOST_VOXELS", cells.grid.box.n_voxels - 1)
    assert cristae.mesh(project).manifest["level"] == 1


def test_thousands_of_objects_some_of_one_voxel(tmp_path) -> None:
    labels = np.zeros((20, 40, 40), np.uint32)
    labels[::2, ::2, ::2] = np.arange(1, 4001).reshape(10, 20, 20) * 1_000_003 % (2**32 - 2)
    project = truth_project(tmp_path / "q", {"cell": labels}, image=False)
    run = cristae.mesh(project, source="truth", block_side=16)
    store = open_meshes(run)["cell"]
    assert len(store) == 4000
    assert store.ids.max() > 2**31
    assert (np.diff(store.face_starts) == 8).all()


def test_a_class_of_nothing_is_meshed_to_nothing(tmp_path) -> None:
    layers = {"cell": tissue()["cell"], "lysosome": np.zeros((34, 44, 70), bool)}
    run = cristae.mesh(truth_project(tmp_path / "q", layers, image=False), source="truth")
    assert run.manifest["n_objects"] == {"cell": 3, "lysosome": 0}
    assert len(open_meshes(run)["lysosome"]) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": ["ribosome"]}, "no objects of ribosome; there are cell"),
        ({"objects": {"ribosome": [1]}}, "no objects of ribosome to mesh; there are cell"),
        ({"objects": {"cell": [5, 99]}}, "no object of cell has the id 5, 99"),
        ({"level": 2}, "truth is stored at full size only: level 0, not 2"),
        ({"max_error_nm": -1}, "max_error_nm"),
        ({"formats": ["obj"]}, "formats"),
    ],
)
def test_what_is_not_there_is_named(project, settings, words) -> None:
    with pytest.raises(UsageError, match=words):
        cristae.mesh(project, source="truth", **settings)


def test_a_project_without_predictions_says_what_to_do(project) -> None:
    with pytest.raises(DataError, match=r"no objects or cells yet; find some with: cristae predict"):
        cristae.mesh(project)


def test_negative_ids_are_refused(tmp_path, monkeypatch) -> None:
    project = truth_project(tmp_path / "q", {"cell": tissue()["cell"]}, image=False)

    def refuse(labels):
        raise ValueError("expected ids from 0 to 2^63 - 1, got -4; number the objects anew")

    monkeypatch.setattr(stage, "number_from_one", refuse)
    with pytest.raises(DataError, match="objects of cell: expected ids from 0"):
        cristae.mesh(project, source="truth")


def test_a_damaged_store_says_how_to_make_it_again(tmp_path) -> None:
    run = cristae.mesh(truth_project(tmp_path / "q", {"cell": tissue()["cell"]}, image=False), source="truth")
    (run.path / "cell.meshes" / "faces.bin").write_bytes(b"")
    with pytest.raises(DataError, match="cristae mesh --force"):
        open_store(run.path / "cell.meshes")
