"""`cristae render` on whole projects: pictures, movies, and what cannot be."""

from __future__ import annotations

import json
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from truth_projects import CELLS, tissue, truth_project

import cristae
from cristae.errors import DataError, UsageError
from cristae.stages import render as stage
from cristae.stages.colouring import object_colour
from cristae.stages.render import image_plane

SMALL = {"source": "truth", "width": 80, "height": 60, "samples": 1}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return truth_project(tmp_path_factory.mktemp("render") / "p")


@pytest.fixture
def no_ffmpeg(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


def picture(run, name="picture.png") -> np.ndarray:
    with Image.open(run.path / name) as found:
        return np.asarray(found).astype(int)


def test_a_picture_needs_no_display(project, monkeypatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    run = cristae.render(project, **SMALL)
    found = picture(run)
    assert found.shape == (60, 80, 3)
    assert 0.1 < (found < 250).any(axis=2).mean() < 0.9
    assert run.manifest["files"] == ["picture.png"]


def test_the_same_picture_comes_out_again(project) -> None:
    first = (cristae.render(project, **SMALL).path / "picture.png").read_bytes()
    again = cristae.render(project, **SMALL, options=cristae.Options(force=True))
    assert (again.path / "picture.png").read_bytes() == first


def test_classes_have_the_colours_asked_for(project) -> None:
    colours = {"mitochondrion": "#FF0000"}
    run = cristae.render(project, classes=["mitochondrion"], colours=colours, scale_bar=False, **SMALL)
    found = picture(run)
    drawn = (found < 250).any(axis=2)
    assert (found[drawn][:, 0] > found[drawn][:, 1]).mean() > 0.9


def test_objects_have_colours_of_their_own(project) -> None:
    run = cristae.render(project, classes=["cell"], colour_by="object", opacity={"cell": 1.0}, **SMALL)
    hues = {int(np.argmax(row)) for row in picture(run).reshape(-1, 3) if row.max() - row.min() > 60}
    assert len(hues) > 1
    assert len({object_colour(number) for number in range(1, 200)}) == 199
    assert object_colour(2**40) != object_colour(2**40 + 1)


def test_slices_of_the_image_are_put_up(project) -> None:
    plain = picture(cristae.render(project, classes=["nucleolus"], **SMALL))
    cut = cristae.render(project, classes=["nucleolus"], planes={"z": 33, "x": 0}, **SMALL)
    grey = picture(cut)
    assert ((grey.max(axis=2) - grey.min(axis=2) < 8) & (grey.max(axis=2) < 250)).mean() > 0.15
    assert (plain == 255).all(axis=2).mean() > (grey == 255).all(axis=2).mean()


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_an_image_plane_is_the_slice_of_that_number(project, axis) -> None:
    plane = image_plane(project, axis, 5)
    along = "zyx".index(axis)
    values = project.image.read().take(5, along).astype(float)
    assert plane.axis == 2 - along
    assert plane.place_nm == 5 * project.image.grid.voxel_size[along]
    assert plane.grey.shape == values.shape
    assert np.corrcoef(plane.grey.ravel(), values.ravel())[0, 1] > 0.98
    low = plane.corners.min(axis=0)
    assert low[plane.axis] == plane.place_nm


@pytest.mark.parametrize("movie", ["turntable", "slices", "flythrough"])
def test_without_ffmpeg_a_movie_is_a_gif_and_that_is_said(project, no_ffmpeg, movie) -> None:
    said = []
    run = cristae.render(
        project,
        classes=["nucleus"],
        movie=movie,
        seconds=0.3,
        movie_width=48,
        **SMALL,
        options=cristae.Options(notify=said.append),
    )
    assert run.manifest["files"] == ["picture.png", "movie.gif"]
    assert any("no ffmpeg" in words and "imageio-ffmpeg" in words for words in said)
    with Image.open(run.path / "movie.gif") as film:
        assert film.n_frames == 6
        assert film.size == (48, 36)
        frames = []
        for i in range(film.n_frames):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    assert all((one != other).any() for one, other in pairwise(frames))
    assert not (run.path / ".frames").exists()


def test_a_killed_movie_goes_on_with_its_frames(project, no_ffmpeg, monkeypatch) -> None:
    asked = {"classes": ["nucleolus"], "movie": "turntable", "seconds": 0.4, "movie_width": 32, **SMALL}
    plain, calls = stage.take_picture, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(stage, "take_picture", killed)
    with pytest.raises(KeyboardInterrupt):
        cristae.render(project, **asked)
    monkeypatch.setattr(stage, "take_picture", lambda *arguments: calls.append(1) or plain(*arguments))
    run = cristae.render(project, **asked)
    assert len(calls) == 5 + 1 + 8 - 3  # the picture once more, and the frames that were missing
    assert run.manifest["resumed"] == 1


def test_by_cell_organelles_have_the_colour_of_their_cell(project, monkeypatch) -> None:
    store = stage.open_meshes(cristae.mesh(project, source="truth"))["mitochondrion"]
    parents = pd.DataFrame({"class": "mitochondrion", "object_id": store.ids, "parent_cell_id": [7, 7, 9, 0]})
    settings = stage.RenderSettings(colour_by="cell")
    found = stage._colours(("mitochondrion", "#009E73"), store, settings, parents)
    np.testing.assert_allclose(found, [object_colour(i) for i in (7, 7, 9, 0)])
    cells = stage.open_meshes(cristae.mesh(project, source="truth"))["cell"]
    np.testing.assert_allclose(
        stage._colours(("cell", "#009E73"), cells, settings, parents), [object_colour(i) for i in sorted([12, *CELLS])]
    )


def test_thousands_of_small_objects_are_drawn(tmp_path) -> None:
    labels = np.zeros((20, 40, 40), np.uint32)
    labels[::2, ::2, ::2] = np.arange(1, 4001).reshape(10, 20, 20) + 2**31
    run = cristae.render(truth_project(tmp_path / "q", {"cell": labels}, image=False), **SMALL)
    assert (picture(run) < 200).any()


def test_nothing_to_see_is_an_empty_picture(tmp_path) -> None:
    project = truth_project(tmp_path / "q", {"cell": np.zeros((4, 8, 8), np.uint32)}, image=False)
    assert (picture(cristae.render(project, scale_bar=False, **SMALL)) == 255).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": ["ribosome"]}, "no objects of ribosome"),
        ({"colours": {"ribosome": "#112233"}}, "nothing of ribosome is shown; there are cell"),
        ({"opacity": {"cell": 0}}, "an opacity lies above 0"),
        ({"colours": {"cell": "red"}}, "a colour is written #rrggbb"),
        ({"planes": {"z": 34}}, "no slice 34 along z; expected 0 to 33"),
        ({"colour_by": "cell"}, "run: cristae anatomy"),
        ({"movie": "spiral"}, "movie"),
    ],
)
def test_what_cannot_be_is_named(project, settings, words) -> None:
    with pytest.raises(UsageError, match=words):
        cristae.render(project, **{**SMALL, **settings})


def test_what_is_shown_is_said_once(project) -> None:
    with pytest.raises(UsageError, match=r"set render\.classes, not mesh\.classes"):
        cristae.render(project, mesh={"classes": ["cell"]}, **SMALL)


def test_image_planes_need_an_image(tmp_path) -> None:
    project = truth_project(tmp_path / "q", {"cell": tissue()["cell"]}, image=False)
    with pytest.raises(DataError, match="cristae import image"):
        cristae.render(project, planes={"z": 3}, **SMALL)


def test_a_project_without_predictions_says_what_to_do(project) -> None:
    with pytest.raises(DataError, match=r"no objects or cells yet; find some with: cristae predict"):
        cristae.render(project, width=80, height=60)


def test_surfaces_are_made_as_asked(project) -> None:
    run = cristae.render(project, mesh={"smoothing": 0, "max_error_nm": 0}, **SMALL)
    settings = (project.path / "runs" / run.manifest["mesh_run"] / "settings.toml").read_text()
    assert "smoothing = 0" in settings
    assert json.loads((run.path / "manifest.json").read_text())["status"] == "finished"
