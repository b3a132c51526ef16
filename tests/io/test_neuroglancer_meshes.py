"""Meshes for neuroglancer, decoded as its description of the format says."""

from __future__ import annotations

import json
import sys
from itertools import pairwise

import numpy as np
import pytest

from cristae.errors import ResourceError
from cristae.io.meshes import write_store
from cristae.io.neuroglancer_meshes import BITS, _encoded, write_neuroglancer_meshes
from cristae.meshing.octree import Fragment
from cristae.meshing.smooth import enclosed_volume
from meshing_solids import awkward, ball, mesh_of

DracoPy = pytest.importorskip("DracoPy")

SHIFT = (4.0, 4.0, 15.0)
LARGE, SMALL = 7, 2**40


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    large = mesh_of(ball((40, 40, 40), (20, 20, 20), 15).astype(np.int32), voxel_size=(30.0, 8.0, 8.0), n_steps=5)
    small = mesh_of(awkward(), 3, voxel_size=(30.0, 8.0, 8.0))
    return write_store(tmp_path_factory.mktemp("store"), [(LARGE, *large), (SMALL, *small)])


@pytest.fixture(scope="module")
def written(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "mesh"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cristae.io.neuroglancer_meshes.PER_CELL", 150)
        write_neuroglancer_meshes(path, "nucleus", store, SHIFT)
    return path


def decoded(path, number: int) -> list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Return of every level the fragments: position, places in nm, whole numbers in the cell, of all corners."""
    info = json.loads((path / "info").read_text())
    largest = 2 ** info["vertex_quantization_bits"] - 1
    index, data = (path / f"{number}.index").read_bytes(), (path / str(number)).read_bytes()
    chunk, origin = np.frombuffer(index, "<f4", 6).reshape(2, 3).astype(float)
    n = int(np.frombuffer(index, "<u4", 1, 24)[0])
    scales, offsets = np.frombuffer(index, "<f4", n, 28), np.frombuffer(index, "<f4", 3 * n, 28 + 4 * n).reshape(n, 3)
    assert (np.diff(scales) > 0).all()
    counts, at, start, levels = np.frombuffer(index, "<u4", n, 28 + 16 * n), 28 + 20 * n, 0, []
    for lod, count in enumerate(counts.tolist()):
        positions = np.frombuffer(index, "<u4", 3 * count, at).reshape(3, count).T
        sizes = np.frombuffer(index, "<u4", count, at + 12 * count)
        at += 16 * count
        fragments = []
        for position, size in zip(positions, sizes.tolist(), strict=True):
            if size:
                mesh = DracoPy.decode(data[start : start + size])
                # int32 as neuroglancer's decoder wants it (5 is that of Draco), not quantised by Draco.
                assert mesh.attributes[0]["data_type"] == 5
                whole = np.asarray(mesh.points, float)[mesh.faces]
                places = origin + offsets[lod] + chunk * 2**lod * (position + whole / largest)
                fragments.append((position, places, whole))
            start += size
        levels.append(fragments)
    assert at == len(index)
    assert start == len(data)
    return levels


def volume_of(level) -> float:
    corners = np.concatenate([places for _, places, _ in level])
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(("number", "n_levels"), [(LARGE, 4), (SMALL, 1)])
def test_every_level_encloses_the_volume_in_its_place(store, written, number, n_levels) -> None:
    vertices, faces = store[store.ids.tolist().index(number)]
    levels = decoded(written, number)
    assert len(levels) == n_levels
    for level in levels:
        assert volume_of(level) == pytest.approx(enclosed_volume(vertices, faces), rel=5e-3)
        corners = np.concatenate([places for _, places, _ in level]).reshape(-1, 3)
        size = np.ptp(vertices, axis=0).max()
        np.testing.assert_allclose(corners.min(axis=0), vertices.min(axis=0) + SHIFT, atol=0.05 * size)
        np.testing.assert_allclose(corners.max(axis=0), vertices.max(axis=0) + SHIFT, atol=0.05 * size)
    finest = np.concatenate([places for _, places, _ in levels[0]]).reshape(-1, 3)
    np.testing.assert_allclose(finest.min(axis=0), vertices.min(axis=0) + SHIFT, atol=0.02)


def test_fragments_of_coarser_levels_split_in_eight_and_none_gapes(written) -> None:
    levels = decoded(written, LARGE)
    assert len(levels[0]) > 20
    sizes = [sum(len(whole) for _, _, whole in level) for level in levels]
    assert all(finer > 2 * coarser for finer, coarser in pairwise(sizes))
    for lod, level in enumerate(levels):
        for _, _, whole in level:
            assert whole.min() >= 0
            assert whole.max() <= 65535
            if lod:
                assert not ((whole.min(axis=1) < 32768) & (whole.max(axis=1) > 32768)).any()
        # What is on a border is on it from both sides: the parts of the surface leave no slit between them.
        corners = np.concatenate([places for _, places, _ in level])
        a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
        open_area = np.cross(b - a, c - a).sum(axis=0) / 2
        assert np.abs(open_area).max() < 1e-3 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()


def test_triangles_that_shrink_to_a_line_are_left_out() -> None:
    step = 1 / (2**BITS - 1)
    vertices = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0.3 * step, 0, 0), (0, 1 - 0.3 * step, 0.2 * step)])
    whole, thin = (0, 1, 2), [(0, 3, 1), (2, 1, 4), (3, 2, 4)]
    mesh = DracoPy.decode(_encoded(DracoPy, Fragment((0, 0, 0), vertices, np.array([whole, *thin], np.int32))))
    assert len(mesh.faces) == 1
    assert sorted(np.asarray(mesh.points).tolist()) == [[0, 0, 0], [0, 65535, 0], [65535, 0, 0]]
    assert _encoded(DracoPy, Fragment((0, 0, 0), vertices, np.array(thin, np.int32))) == b""


def test_segments_have_names(store, written) -> None:
    info = json.loads((written / "info").read_text())
    assert info["@type"] == "neuroglancer_multilod_draco"
    assert len(info["transform"]) == 12
    names = json.loads((written / info["segment_properties"] / "info").read_text())["inline"]
    assert names["ids"] == [str(LARGE), str(SMALL)]
    assert names["properties"][0]["values"] == [f"nucleus {LARGE}", f"nucleus {SMALL}"]


def test_a_class_without_objects_gives_valid_files(tmp_path) -> None:
    write_neuroglancer_meshes(tmp_path / "mesh", "cell", write_store(tmp_path / "empty", []), SHIFT)
    assert {path.name for path in (tmp_path / "mesh").iterdir()} == {"info", "segment_properties"}


def test_without_draco_the_extra_is_named(store, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(ResourceError, match=r"pip install 'cristae\[draco\]', or write another"):
        write_neuroglancer_meshes(tmp_path / "mesh", "nucleus", store, SHIFT)
