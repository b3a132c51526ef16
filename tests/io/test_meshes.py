"""Meshes on disk: what other programs read is what was written."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import trimesh

from cristae.errors import DataError
from cristae.io.meshes import open_store, write_glb, write_ply, write_stl, write_store
from cristae.meshing.smooth import enclosed_volume, surface_area
from meshing_solids import awkward, mesh_of

IDS = (7, 3_000_000_000, 2**40)
"""With gaps, above 2³¹, and above 2³²."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    meshes = [mesh_of(awkward(), number, voxel_size=(30.0, 8.0, 8.0), n_steps=5) for number in (1, 3, 6)]
    return write_store(tmp_path_factory.mktemp("store"), [(i, *mesh) for i, mesh in zip(IDS, meshes, strict=True)])


def same(found: trimesh.Trimesh, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Volume, area and bounds survive, closed and outwards."""
    assert found.is_watertight
    assert found.is_winding_consistent
    assert found.volume == pytest.approx(enclosed_volume(vertices, faces), rel=1e-4)
    assert found.volume > 0
    assert found.area == pytest.approx(surface_area(vertices, faces), rel=1e-4)
    np.testing.assert_allclose(found.bounds, [vertices.min(axis=0), vertices.max(axis=0)], rtol=1e-5, atol=1e-3)


def test_a_store_gives_back_what_was_written(store) -> None:
    again = open_store(store.path)
    assert again.ids.tolist() == list(IDS)
    for number, (_, vertices, faces) in zip((1, 3, 6), again, strict=True):
        expected = mesh_of(awkward(), number, voxel_size=(30.0, 8.0, 8.0), n_steps=5)
        np.testing.assert_array_equal(vertices, expected[0].astype(np.float32))
        np.testing.assert_array_equal(faces, expected[1])


def test_glb_has_a_node_per_object_with_its_id(store, tmp_path) -> None:
    write_glb(tmp_path / "nucleus.glb", "nucleus", store, lambda number: "#D55E00")
    scene = trimesh.load(tmp_path / "nucleus.glb")
    assert len(scene.geometry) == len(IDS)
    for number, vertices, faces in store:
        node = scene.geometry[f"nucleus {number}"]
        assert node.metadata["id"] == number
        assert node.metadata["class"] == "nucleus"
        same(node, vertices, faces)
    content = (tmp_path / "nucleus.glb").read_bytes()
    assert struct.unpack_from("<I", content, 8)[0] == len(content)
    gltf = json.loads(content[20 : 20 + struct.unpack_from("<I", content, 12)[0]])
    assert [node["extras"]["id"] for node in gltf["nodes"]] == list(IDS)
    assert len(gltf["materials"]) == 1


def test_objects_of_a_glb_may_have_colours_of_their_own(store, tmp_path) -> None:
    write_glb(tmp_path / "nucleus.glb", "nucleus", store, lambda number: "#ffffff" if number == 7 else "#000000")
    scene = trimesh.load(tmp_path / "nucleus.glb")
    found = {n: scene.geometry[f"nucleus {n}"].visual.material.baseColorFactor[:3].tolist() for n in IDS}
    assert found == {n: [255] * 3 if n == 7 else [0] * 3 for n in IDS}


@pytest.mark.parametrize(("n", "kind"), [(2, np.uint32), (3, np.float64)])
def test_ply_names_the_object_of_every_face(store, tmp_path, n, kind) -> None:
    part = write_store(tmp_path / "part", [(number, v, f) for number, v, f in list(store)[:n]])
    colours = {number: f"#{row + 1:02x}80ff" for row, number in enumerate(IDS)}
    write_ply(tmp_path / "all.ply", "nucleus", part, colours.__getitem__)
    found = trimesh.load(tmp_path / "all.ply", process=False)
    ids = found.metadata["_ply_raw"]["face"]["data"]["object_id"]
    assert ids.dtype == kind
    assert set(ids.tolist()) == set(IDS[:n])
    rows = [(row + 1, 128, 255, 255) for row, (_, vertices, _) in enumerate(part) for _ in vertices]
    np.testing.assert_array_equal(found.visual.vertex_colors, rows)
    assert found.volume == pytest.approx(sum(enclosed_volume(v, f) for _, v, f in part), rel=1e-4)


def test_stl_is_a_file_per_object(store, tmp_path) -> None:
    write_stl(tmp_path / "nucleus.stl", "nucleus", store)
    assert sorted(path.name for path in (tmp_path / "nucleus.stl").iterdir()) == sorted(f"{i}.stl" for i in IDS)
    for number, vertices, faces in store:
        same(trimesh.load(tmp_path / "nucleus.stl" / f"{number}.stl"), vertices, faces)


def test_a_class_without_objects_gives_valid_files(tmp_path) -> None:
    empty = write_store(tmp_path / "empty", [])
    write_glb(tmp_path / "empty.glb", "cell", empty, lambda number: "#000000")
    write_ply(tmp_path / "empty.ply", "cell", empty, lambda number: "#000000")
    write_stl(tmp_path / "empty.stl", "cell", empty)
    assert len(open_store(tmp_path / "empty")) == 0
    assert not trimesh.load(tmp_path / "empty.glb").geometry


def test_a_glb_of_four_gib_is_refused_before_it_is_written(store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("cristae.io.meshes._MOST_BYTES", 1000)
    with pytest.raises(DataError, match=r"mesh a coarser level .*or write mesh\.formats"):
        write_glb(tmp_path / "large.glb", "nucleus", store, lambda number: "#000000")
    assert not (tmp_path / "large.glb").exists()


@pytest.mark.parametrize("name", ["index.npz", "faces.bin"])
def test_a_damaged_store_is_named(store, tmp_path, name) -> None:
    copy = write_store(tmp_path / "copy", list(store))
    path = copy.path / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="cristae mesh --force"):
        open_store(copy.path)
