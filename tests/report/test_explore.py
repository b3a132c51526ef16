"""What the page holds of scene, slices and table, without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from io import BytesIO
from shutil import rmtree

import numpy as np
import pandas as pd
import pytest
from explored_projects import GRID, LABELLED, LARGE, explored, give_layers, image, layers, with_image
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pydantic import BaseModel

from cristae.geometry import Grid
from cristae.io.ome_zarr import build_pyramid, create_volume
from cristae.meshing.smooth import enclosed_volume
from cristae.report import browser, scene
from cristae.report import rows as rows_module
from cristae.report.build import build_report
from cristae.report.explore import as_script, explore_part
from cristae.report.gather import gather
from cristae.report.layers import Layer, open_levels, read_plane
from cristae.report.rows import as_json, best_places, shorten
from cristae.stages.options import Options
from cristae.volume import Volume
from report_pages import words_of

planes = arrays(np.uint32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 7, LARGE]))


class Nothing(BaseModel):
    """Settings of a stage without any."""


def decode(overlay, shape):
    """Read runs as the page does."""
    numbers, value, shift = [], 0, 0
    for byte in base64.b64decode(overlay["runs"]):
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(value)
            value, shift = 0, 0
    pixels = np.repeat(np.array(overlay["values"], np.int64)[numbers[::2]], numbers[1::2])
    return pixels.reshape(shape)


@given(planes)
def test_runs_are_read_as_they_were_written(ids):
    assert (decode(browser.encode(ids), ids.shape) == ids).all()


@given(st.lists(st.integers(0, 2**35 - 1), min_size=1))
def test_numbers_take_as_few_bytes_as_they_need(numbers):
    written = browser.varints(np.array(numbers, np.uint64))
    assert len(written) == sum(max(1, -(-int(number).bit_length() // 7)) for number in numbers)


@given(planes)
def test_every_object_of_a_slice_has_its_area_and_box(ids):
    found = browser.where(ids)
    assert set(found) == set(np.unique(ids).tolist()) - {0}
    for name, (area, (x0, y0, x1, y1)) in found.items():
        assert area == (ids == name).sum() == (ids[y0:y1, x0:x1] == name).sum()
        inside = ids[y0:y1, x0:x1] == name
        assert inside.any(axis=0)[[0, -1]].all() and inside.any(axis=1)[[0, -1]].all()


@given(planes, st.integers(1, 12), st.integers(1, 12))
def test_reduced_slices_hold_the_ids_that_were_there(ids, width, height):
    reduced = browser.reduce_ids(ids, (width, height))
    assert reduced.shape == (height, width) and set(np.unique(reduced)) <= set(np.unique(ids))
    assert (browser.reduce_ids(ids, ids.shape[::-1]) == ids).all()


@given(st.integers(1, 60), st.integers(1, 20), st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59)))
def test_slices_are_spread_and_none_is_bad(depth, n, wanted, bad):
    found = browser.choose(depth, n, sorted(wanted), sorted(bad))
    there = sorted(set(range(depth)) - bad) or list(range(depth))
    assert found == sorted(set(found)) and set(found) <= set(there)
    assert set(wanted) & set(there) <= set(found)
    assert len(set(found) - wanted) <= n
    if n > 1 and len(there) > 1:
        assert {there[0], there[-1]} <= set(found)


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 100))
def test_shares_are_fair(wanted, most):
    given_ = scene.share_out(wanted, most)
    assert all(0 <= one <= other for one, other in zip(given_, wanted, strict=True))
    assert sum(given_) <= most and (sum(given_) > most - len(wanted) or given_ == list(wanted))
    short_of = [one for one, other in zip(given_, wanted, strict=True) if one < other]
    assert all(one <= least + 1 for least in short_of for one in given_)


@pytest.fixture(scope="module")
def shown():
    return [Layer(name, (Volume(ids, GRID, "labels"),), True, "#0072B2") for name, ids in layers().items()]


def test_packed_meshes_come_back_within_a_step(shown):
    made = scene.make_meshes(shown, 100, 10**6)
    bounds = scene.Bounds.of(GRID)
    assert bounds.low == (-5, -5, -10) and bounds.high == (635, 635, 470)
    for one in made:
        numbers, parts = scene.pack(one, bounds)
        places = np.frombuffer(base64.b64decode(parts["vertices"]), "<u2").reshape(-1, 3)
        faces = np.frombuffer(base64.b64decode(parts["faces"]), "<u4" if numbers["wide"] else "<u2").reshape(-1, 3)
        for i, (vertices, triangles) in enumerate(one.meshes):
            v0, v1 = numbers["vertex_starts"][i : i + 2]
            f0, f1 = numbers["face_starts"][i : i + 2]
            back = np.array(bounds.start) + bounds.step * places[v0:v1]
            assert np.abs(back - vertices).max() <= 0.51 * bounds.step
            assert (faces[f0:f1] == triangles).all()
    assert [one.ids for one in made] == [(1, LARGE), (5,), (1, 2, 3, 4)]


def test_few_objects_and_triangles_are_kept_when_there_are_too_many(shown):
    everything = scene.make_meshes(shown, 100, 10**6)
    few = scene.make_meshes(shown, 4, 10**6)
    assert [len(one.ids) for one in few] == [1, 1, 2] or [len(one.ids) for one in few] == [2, 1, 1]
    assert [one.n_there for one in few] == [2, 1, 4]
    words = scene.left_out(shown, few, {"mitochondrion": 9000})
    assert any("of 9,000 objects of mitochondrion" in one for one in words)
    assert not any("nucleus" in one for one in words)
    assert scene.left_out(shown, everything, {}) == []
    n = sum(len(faces) for one in everything for _, faces in one.meshes)
    coarse = scene.make_meshes(shown, 100, n // 3)
    assert sum(len(faces) for one in coarse for _, faces in one.meshes) <= n // 3 * 1.25
    for one, other in zip(everything, coarse, strict=True):
        for mesh, fewer in zip(one.meshes, other.meshes, strict=True):
            assert enclosed_volume(*fewer) == pytest.approx(enclosed_volume(*mesh), rel=0.025)


def test_the_largest_objects_are_those_kept():
    ids = np.zeros((6, 30, 30), np.uint32)
    for number, side in ((3, 2), (9, 8), (4, 5)):
        ids[:side, 10 * (number % 3) : 10 * (number % 3) + side, :side] = number
    ids[0, 0, 29] = 50
    layer = Layer("a", (Volume(ids, Grid(ids.shape, (1.0, 1.0, 1.0)), "labels"),), True, "#0072B2")
    sizes = {int(name): int((ids == name).sum()) for name in np.unique(ids[ids > 0])}
    found = scene.make_meshes([layer], 2, 10**6)[0]
    assert set(found.ids) == set(sorted(sizes, key=lambda name: -sizes[name])[:2])
    (one,) = scene.make_meshes([Layer("a", layer.levels, True, "#0072B2")], 100, 10**6)
    assert 50 in one.ids, "an object of one voxel has a surface, too"


def test_a_mask_is_one_surface_without_ids():
    mask = (layers()["mitochondrion"] > 0).astype(np.uint8)
    (found,) = scene.make_meshes([Layer("a", (Volume(mask, GRID, "labels"),), False, "#0072B2")], 5, 10**6)
    assert found.ids == (0,) and len(found.meshes) == 1


@given(st.integers(1, 3000))
def test_a_large_layer_is_thinned_evenly(most):
    ids = np.arange(9 * 10 * 11, dtype=np.uint32).reshape(9, 10, 11)
    layer = Layer("a", (Volume(ids, Grid(ids.shape, (4.0, 2.0, 2.0), (1.0, 2.0, 3.0)), "labels"),), True, "#0072B2")
    found, grid = layer.coarse(most)
    step = round(grid.voxel_size[0] / 4)
    assert (found == ids[::step, ::step, ::step]).all() and grid.origin == (1.0, 2.0, 3.0)
    assert found.size <= max(most * 2, 8) or step == 1


def test_slices_of_a_pyramid_come_from_the_level_that_suffices(tmp_path):
    path = tmp_path / "labels.ome.zarr"
    grid = Grid((8, 1024, 1024), (20.0, 10.0, 10.0))
    ids = np.broadcast_to(np.arange(1, 9, dtype=np.uint32)[:, None, None], grid.shape)
    create_volume(path, grid, np.uint32, "labels").write(grid.box, np.ascontiguousarray(ids))
    build_pyramid(path)
    levels = open_levels(path)
    assert len(levels) > 1
    for z in range(8):
        whole = read_plane(levels, z, 1024)
        assert whole.shape == (1024, 1024) and (whole == z + 1).all()
        less = read_plane(levels, z, 500)
        assert less.shape == (512, 512) and abs(int(less[0, 0]) - (z + 1)) <= 1
    assert read_plane(levels, 0, 4096).shape == (1024, 1024)


def test_the_table_keeps_the_largest_of_every_class():
    table = pd.DataFrame(
        {"class": ["a"] * 50 + ["b"] * 3, "object_id": range(53), "n_voxels": [*range(100, 150), 1, 2, 3]}
    )
    kept = shorten(table, 10)
    assert len(kept) == 10 and set(kept["class"]) == {"a", "b"}
    assert set(kept.loc[kept["class"] == "a", "n_voxels"]) == set(range(143, 150))
    assert shorten(table, 53) is table


def test_what_the_table_does_not_hold_is_counted_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MOST_ROWS", 4)
    monkeypatch.setattr(scene, "MOST_OBJECTS", 3)
    part = explore_part(gather(explored(tmp_path)), Options())
    assert [n for _, _, n in part.classes] == [2, 1, 4]
    assert len(json.loads(part.content)["table"]["id"]) == 4
    assert "The table holds the 4 largest of 7 objects; all are in objects.csv of the run." in part.left_out
    assert "In 3D there are the 1 largest of 4 objects of mitochondrion." in part.left_out


def test_an_object_is_shown_where_most_of_it_is():
    boxes = {1: (5, (0, 0, 2, 3)), 2: (9, (1, 1, 4, 4))}
    sheets = [
        browser.Sheet(0, "", {}, {"a": {1: boxes[1]}}),
        browser.Sheet(4, "", {}, {"a": {1: boxes[2], 2: boxes[1]}, "b": {1: boxes[1]}}),
    ]
    assert best_places(sheets) == {("a", 1): (1, boxes[2][1]), ("a", 2): (1, boxes[1][1]), ("b", 1): (1, boxes[1][1])}


def test_large_ids_and_names_do_no_harm():
    assert as_json(LARGE) == LARGE and as_json(2**60) == str(2**60)
    text = as_script({"name": "</script><b>"})
    assert "<" not in text and json.loads(text)["name"] == "</script><b>"
    with pytest.raises(ValueError, match="JSON"):
        as_script({"value": float("nan")})


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    project = explored(tmp_path_factory.mktemp("explored"))
    return explore_part(gather(project), Options())


def test_scene_slices_and_table_belong_together(part):
    content = json.loads(part.content)
    assert [one["name"] for one in content["layers"]] == ["cell", "nucleus", "mitochondrion"]
    assert [one["ids"] for one in content["layers"]] == [[1, LARGE], [5], [1, 2, 3, 4]]
    assert content["layers"][0]["opacity"] < 0.5 < content["layers"][2]["opacity"]
    table = content["table"]
    keys = list(zip(table["class"], table["id"], strict=True))
    assert set(keys) == {(one["name"], name) for one in content["layers"] for name in one["ids"]}
    at = keys.index(("nucleus", 5))
    x0, y0, x1, y1 = table["box"][at]
    ids, z = layers()["nucleus"], content["slices"][table["sheet"][at]]["z"]
    assert (ids[z, y0:y1, x0:x1] == 5).sum() == (ids[z] == 5).sum() == (ids == 5).sum(axis=(1, 2)).max()
    assert table["parents"]["parent_cell_id"][at] == 1
    assert [one["name"] for one in table["columns"]][:2] == ["volume_seen_um3", "volume_um3"]
    assert table["columns"][0]["values"][at] == pytest.approx((ids == 5).sum() * 2e-6, rel=1e-3)
    assert part.left_out == () and part.has_scene and part.has_slices and part.has_table
    assert len(content["slices"]) == GRID.shape[0]


def test_slices_hold_what_was_found_painted_and_true(part):
    content = json.loads(part.content)
    size = content["size"]
    assert size == [64, 64]
    for one in content["slices"]:
        found = decode(one["overlays"]["found"]["cell"], size[::-1])
        assert (found == layers()["cell"][one["z"]]).all()
        assert ("nucleus" in one["overlays"]["painted"]) == (one["z"] in LABELLED)
        truth = decode(one["overlays"]["truth"]["nucleus"], size[::-1])
        assert (truth == np.roll(layers()["nucleus"][one["z"]] > 0, 3, axis=1)).all()
        assert part.bytes_of[f"slice-{one['z']}"]


def test_neighbouring_cells_differ_in_colour(part):
    colours = json.loads(part.content)["colours"]["cells"]
    assert set(colours) == {"1", str(LARGE)} and len(set(colours.values())) == 2


def test_few_bytes_mean_few_slices_and_it_says_so(tmp_path, monkeypatch):
    project = explored(tmp_path)
    monkeypatch.setattr(browser, "MOST_BYTES", 20_000)
    page = words_of(build_report(project))
    found = re.search(r"The slice browser holds (\d+) of 24 slices", page)
    assert found and 3 <= int(found[1]) < 20


def test_thousands_of_objects_are_limited_and_it_says_so(tmp_path, monkeypatch):
    ids = np.zeros(GRID.shape, np.uint32)
    ids[::2, ::4, ::4] = np.arange(1, 12 * 16 * 16 + 1).reshape(12, 16, 16)
    project = with_image(tmp_path)
    give_layers(project, {"lysosome": ids})
    n = ids.max()
    monkeypatch.setattr(scene, "MOST_OBJECTS", 40)
    part = explore_part(gather(project), Options())
    (layer,) = json.loads(part.content)["layers"]
    assert len(layer["ids"]) == 40
    assert f"In 3D there are the 40 largest of {n:,} objects of lysosome." in part.left_out


def test_without_predictions_there_are_slices_alone(tmp_path):
    page = words_of(build_report(with_image(tmp_path)))
    assert 'id="slice"' in page and 'id="scene"' not in page and "Objects</h3>" not in page
    assert 'id="methods"' not in page, "nothing was done yet"


def test_truth_alone_is_shown_and_called_so(tmp_path):
    project = with_image(tmp_path)
    project.truth.write_slices("cell", list(enumerate(layers()["cell"])))
    project.truth.write_slices("nucleus", list(enumerate((layers()["nucleus"] > 0).astype(np.uint8))))
    part = explore_part(gather(project), Options())
    content = json.loads(part.content)
    assert content["isTruth"] and part.is_truth and part.has_scene and not part.has_table
    assert [(one["name"], one["hasIds"]) for one in content["layers"]] == [("cell", True), ("nucleus", False)]
    assert "imported as truth" in words_of(build_report(project))


def test_predicted_masks_are_shown_before_objects_are_told_apart(tmp_path):
    project = with_image(tmp_path)
    run = project.run("predict", Nothing(), {})
    with project.record(run, Nothing(), {}):
        mask = (layers()["mitochondrion"] > 0).astype(np.uint8)
        path = run.path / "mitochondrion.ome.zarr"
        create_volume(path, GRID, np.uint8, "probability").write(GRID.box, mask * 255)
        create_volume(path / "labels" / "mitochondrion", GRID, np.uint8, "labels").write(GRID.box, mask)
        run.update(classes=["mitochondrion", "gone"], threshold=0.5)
    part = explore_part(gather(project), Options())
    (layer,) = json.loads(part.content)["layers"]
    assert layer["name"] == "mitochondrion" and not layer["hasIds"] and part.has_scene


def test_an_empty_layer_is_no_trouble(tmp_path):
    project = with_image(tmp_path)
    give_layers(project, {"nucleus": np.zeros(GRID.shape, np.uint32)})
    part = explore_part(gather(project), Options())
    assert not part.has_scene and part.has_slices and part.classes == (("nucleus", "#D55E00", 0),)


def test_a_report_without_an_image_shows_measured_truth(tmp_path):
    project = explored(tmp_path)
    rmtree(project.image_path)
    part = explore_part(gather(project), Options())
    assert part.has_scene and part.has_slices and part.first_slice[1] == ""


def test_a_damaged_layer_costs_its_part_of_the_page_only(tmp_path):
    project = explored(tmp_path)
    layer = next((project.path / "runs").glob("objects-*")) / "nucleus.ome.zarr"
    for one in layer.rglob("*"):
        if one.is_file() and one.name != "zarr.json":
            one.write_bytes(b"damaged")
    page = words_of(build_report(project))
    assert "3D scene, slices and table of objects are missing:" in page and "nucleus" in page
    assert 'id="measurements"' in page and 'id="methods"' in page


def test_slices_look_like_the_image(tmp_path, part):
    picture = np.asarray(Image.open(BytesIO(base64.b64decode(part.bytes_of["slice-7"]))).convert("L")).astype(float)
    assert picture.shape == (64, 64)
    assert np.corrcoef(picture.ravel(), image()[7].ravel())[0, 1] > 0.8


def test_the_script_was_built_of_these_sources():
    folder = resources.files("cristae.report")
    sources = sorted((one for one in (folder / "page").iterdir() if one.name.endswith(".js")), key=lambda one: one.name)
    content = b"".join(one.read_bytes() for one in (*sources, folder / "page" / "package.json"))
    script = (folder / "page.min.js").read_text(encoding="utf-8")
    assert hashlib.sha256(content).hexdigest()[:16] in script[:200], "build it anew: scripts/build_page.sh"
    assert "</script" not in script and "three.js" in script[:200]
    assert "MIT License" in (folder / "page" / "THREE-LICENSE").read_text(encoding="utf-8")
    versions = json.loads((folder / "page" / "package.json").read_text())["devDependencies"]
    assert f'"{versions["three"].split(".")[1]}"' in script, "three.js says its version"
