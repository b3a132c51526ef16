"""Which layers a project shows, and how; the readers of both viewers rest on that."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import cristae
from cristae.cli import cli
from cristae.errors import DataError, ResourceError
from cristae.geometry import Grid
from cristae.io.ome_zarr import build_pyramid, create_volume, write_facts
from cristae.napari_plugin import window
from cristae.napari_plugin.reader import get_reader, layer_data
from cristae.viewing.browser import state
from cristae.viewing.layers import image_views, project_views

SIZE = (30.0, 6.0, 5.0)
SHAPE = (3, 700, 640)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """An image of two levels, labels by hand of a mask and of cells, and a prediction with its uncertainty."""
    made = cristae.init(tmp_path_factory.mktemp("views") / "bx1", voxel_size=SIZE, classes=("mito", "cell"))
    grid = Grid(SHAPE, SIZE, (60.0, 0.0, 0.0))
    image = create_volume(made.image_path, grid, np.uint8, "image")
    image.write(grid.box, np.full(SHAPE, 100, np.uint8))
    build_pyramid(made.image_path)
    write_facts(made.image_path, {"digest": "1", "slice_mean": [100.0] * 3, "slice_std": [20.0] * 3})
    labels = np.zeros(SHAPE[1:], np.uint8)
    labels[:9] = 1
    made.annotations.write_slice("mito", 1, labels, complete=False)
    made.annotations.write_slice("cell", 1, labels.astype(np.uint32) * 7)
    run = made.run("predict", _settings(), {})
    with made.record(run, _settings(), {}):
        for name in ("mito", "mito_disagreement"):
            create_volume(run.path / f"{name}.ome.zarr", grid, np.uint8, "probability")
        create_volume(run.path / "mito.ome.zarr" / "labels" / "mito", grid, np.uint8, "labels")
        run.update(classes=["mito"], disagreement=["mito_disagreement"])
    return made


def _settings():
    from cristae.stages.predict import PredictSettings  # noqa: PLC0415  loads torch

    return PredictSettings()


def test_every_layer_is_shown_where_it_lies(project):
    views = {view.name: view for view in project_views(project)}
    assert list(views) == [
        "image", "mito/probability", "mito/uncertainty", "annotations/mito", "mito", "annotations/cell",
    ]  # fmt: skip
    assert {name for name, view in views.items() if view.visible} == {
        "image", "mito", "annotations/mito", "annotations/cell",
    }  # fmt: skip
    assert views["image"].contrast == (40.0, 160.0) and len(views["image"].volumes) == 2
    assert views["mito"].kind == "mask" and views["annotations/cell"].kind == "labels"
    assert views["mito/uncertainty"].contrast == (0.0, 255.0)
    assert (views["annotations/mito"].hidden_value, views["annotations/cell"].hidden_value) == (255, 2**32 - 1)


def test_a_project_without_anything_says_so(tmp_path):
    with pytest.raises(DataError, match="nothing to see yet"):
        project_views(cristae.init(tmp_path / "empty", voxel_size=SIZE))


def test_napari_gets_names_scales_levels_and_no_voxels_where_nobody_looked(project):
    views = {view.name: view for view in project_views(project)}
    data, keywords, kind = layer_data(views["image"], {})
    assert kind == "image" and keywords["multiscale"] and [one.shape for one in data] == [SHAPE, (3, 350, 320)]
    assert keywords["scale"] == SIZE and keywords["translate"] == (60.0, 0.0, 0.0)
    assert keywords["units"] == ("nm",) * 3 and keywords["contrast_limits"] == (40.0, 160.0)
    for name, value in (("annotations/mito", 1), ("annotations/cell", 7)):
        data, keywords, kind = layer_data(views[name], {})
        assert kind == "labels" and set(np.unique(data[1])) == {0, value} and not data[0].any()
    assert layer_data(views["mito/uncertainty"], {})[1]["blending"] == "additive"


def test_the_reader_knows_projects_and_ome_zarr_and_leaves_all_else_alone(project, tmp_path):
    of_project = get_reader(str(project.path))(str(project.path))
    assert {keywords["metadata"]["cristae_project"] for _, keywords, _ in of_project} == {str(project.path.resolve())}
    of_file = get_reader(str(project.path / "project.toml"))(str(project.path / "project.toml"))
    assert len(of_file) == len(of_project)
    image = get_reader(str(project.image_path))(str(project.image_path))
    assert [keywords["name"] for _, keywords, _ in image] == ["image"]
    (tmp_path / "a.tif").write_bytes(b"")
    assert get_reader(str(tmp_path / "a.tif")) is None and get_reader(str(tmp_path)) is None
    assert get_reader([str(project.path)]) is None


def test_an_ome_zarr_from_elsewhere_is_shown_with_its_labels(tmp_path):
    grid = Grid((2, 9, 9), SIZE)
    create_volume(tmp_path / "a.ome.zarr", grid, np.uint16, "image")
    create_volume(tmp_path / "a.ome.zarr" / "labels" / "nuclei", grid, np.uint32, "labels")
    assert [(view.name, view.kind, view.hidden_value) for view in image_views(tmp_path / "a.ome.zarr")] == [
        ("a", "image", None),
        ("nuclei", "labels", None),
    ]


def test_neuroglancer_gets_sizes_in_nm_and_every_layer(project):
    views = project_views(project)
    shown = state(views, [f"http://127.0.0.1:1/t/{i}" for i in range(len(views))], "bx1")
    assert shown["dimensions"] == {"x": [5.0, "nm"], "y": [6.0, "nm"], "z": [30.0, "nm"]}
    assert shown["position"] == [320.0, 350.0, 1.5]
    assert [layer["name"] for layer in shown["layers"]] == [view.name for view in views]
    by_name = {layer["name"]: layer for layer in shown["layers"]}
    assert by_name["image"]["source"] == "http://127.0.0.1:1/t/0/|zarr3:"
    assert by_name["image"]["shaderControls"] == {"normalized": {"range": [40.0, 160.0]}}
    assert by_name["mito"]["type"] == "segmentation" and by_name["mito"]["segmentColors"]["1"] == "#0072B2"
    assert "#E69F00" in by_name["mito/uncertainty"]["shader"]
    json.dumps(shown)


def test_no_display_and_no_napari_are_sentences_with_the_next_step(project, monkeypatch):
    assert window.has_display({"DISPLAY": ":0"}, "linux") and window.has_display({}, "darwin")
    assert not window.has_display({"DISPLAY": ""}, "linux")
    monkeypatch.setattr(window, "has_napari", lambda: True)
    monkeypatch.setattr(window, "has_display", lambda: False)
    with pytest.raises(ResourceError, match=r"no display .* --neuroglancer"):
        window.check_window()
    monkeypatch.setattr(window, "has_napari", lambda: False)
    with pytest.raises(ResourceError, match=r"pip install 'cristae\[napari\]'"):
        window.check_window()


@pytest.mark.parametrize(("words", "said"), [([], "no display"), (["--neuroglancer"], r"cristae[view]")])
def test_without_a_display_and_neuroglancer_the_command_says_what_to_do(project, monkeypatch, words, said):
    monkeypatch.setattr(window, "has_napari", lambda: True)
    monkeypatch.setattr(window, "has_display", lambda: False)
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    found = CliRunner().invoke(cli, ["view", str(project.path), *words])
    assert isinstance(found.exception, ResourceError) and said in str(found.exception)


def test_neuroglancer_serves_the_project_until_it_is_closed(project):
    """In a process of its own, as neuroglancer keeps a server for good."""
    pytest.importorskip("neuroglancer", reason="neuroglancer is not installed (extra view)")
    code = f"""
import json, urllib.request
from cristae.project import Project
from cristae.viewing.browser import BrowserView
with BrowserView(Project.open({str(project.path)!r})) as view:
    page = urllib.request.urlopen(view.url).read()
    layer = view._viewer.state.to_json()["layers"][0]
    source = layer["source"] if isinstance(layer["source"], str) else layer["source"]["url"]
    facts = json.loads(urllib.request.urlopen(source.split("|")[0] + "zarr.json").read())
    print(view.url, len(page) > 100, facts["attributes"]["ome"]["version"], view.server.origin)
try:
    urllib.request.urlopen(source.split("|")[0] + "zarr.json", timeout=2)
except OSError:
    print("closed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    url, page, ome, origin = first.split()
    assert url.startswith("http://127.0.0.1:") and (page, ome, last) == ("True", "0.5", "closed")
    assert url.startswith(origin + "/")


@pytest.mark.slow
def test_a_browser_shows_the_layers_and_asks_nobody_else(project, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium or not find_spec("playwright") or not find_spec("neuroglancer"):
        pytest.skip("needs Chromium, playwright and neuroglancer")
    code = f"""
from cristae.project import Project
from cristae.viewing.browser import BrowserView
from playwright.sync_api import sync_playwright
flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
with BrowserView(Project.open({str(project.path)!r})) as view, sync_playwright() as player:
    browser = player.chromium.launch(executable_path={chromium!r}, args=flags)
    page = browser.new_page(viewport={{"width": 1000, "height": 700}})
    asked, told = [], []
    page.on("request", lambda one: asked.append(one.url))
    page.on("response", lambda one: told.append((one.url, one.status)))
    page.goto(view.url, wait_until="commit")
    for _ in range(60):
        page.wait_for_timeout(500)
        if any("/0/c/" in url and status in (200, 206) for url, status in told):
            break
    page.wait_for_timeout(3000)
    page.screenshot(path={str(tmp_path / "page.png")!r}, timeout=60000)
    hosts = {{url.split("/")[2].split(":")[0] for url in asked if url.startswith("http")}}
    print(hosts, any("/0/c/" in url and status in (200, 206) for url, status in told))
    browser.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.strip() == "{'127.0.0.1'} True", done.stderr[-2000:]
    picture = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
    middle = picture[100:-20, 20:-20]
    assert np.isin(middle, (128,)).mean() < 0.95  # more than the empty grey of the viewer
