"""The report of projects in every state, made of files written by hand."""

import html
import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel

from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.project import Project
from cristae.report import figures, overlays
from cristae.report.build import build_report
from cristae.stages.evaluate import evaluate

GRID = Grid((12, 40, 60), (20.0, 4.0, 4.0))
LABELLED = (1, 9)
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


class Settings(BaseModel):
    strength: float = 2.0


def mask():
    found = np.zeros(GRID.shape, bool)
    found[:10, 10:30, 15:40] = True
    return found


def give_image(project):
    noise = np.random.default_rng(0).integers(90, 160, GRID.shape).astype(np.uint8)
    create_volume(project.image_path, GRID, np.uint8, "image").write(GRID.box, noise)
    write_facts(project.image_path, {"digest": "0", "missing": [5]})


def give_labels(layers, slices):
    for z in slices:
        labels = mask()[z].astype(np.uint8)
        labels[:5] = 255
        layers.write_slice("nucleus", z, labels)


def give_training(project, **facts):
    inputs = {"labels": project.annotations.fingerprint(("nucleus",))}
    run = project.run("train", Settings(), inputs)
    with project.record(run, Settings(), inputs):
        table = pd.DataFrame({"step": range(1, 61), "loss": np.linspace(1, 0.1, 60), "dice_nucleus": np.nan})
        table.loc[[29, 59], "dice_nucleus"] = [0.4, 0.9]
        table.to_csv(run.path / "history.csv", index=False)
        run.update(
            classes=["nucleus"],
            labelled_slices={"nucleus": list(LABELLED)},
            n_parameters=1234567,
            updates=60,
            device="cpu",
            best_step=50,
            **facts,
        )
    return run


def give_prediction(project, train, names=("nucleus",)):
    run = project.run("predict", Settings(), {"train": train.id})
    with project.record(run, Settings(), {"train": train.id}):
        for i, name in enumerate(names):
            path = run.path / f"{i}.ome.zarr" if "<" in name else run.path / f"{name}.ome.zarr"
            create_volume(path, GRID, np.uint8, "probability")
            found = np.roll(mask(), 2, axis=2).astype(np.uint8)
            create_volume(path / "labels" / name.replace("/", "_"), GRID, np.uint8, "labels").write(GRID.box, found)
        run.update(train_run=train.path.name, classes=list(names), threshold=0.5)
    return run


@pytest.fixture
def project(tmp_path):
    return Project.create(tmp_path / "a <b>tumour & co", GRID.voxel_size, ("nucleus",))


@pytest.fixture
def complete(project):
    give_image(project)
    give_labels(project.annotations, LABELLED)
    give_labels(project.truth, range(12))
    give_prediction(project, give_training(project, alarms=["the loss < 0 & more"]))
    evaluate(project)
    return project


class Page(HTMLParser):
    """What a browser would fetch or follow, and the text."""

    def __init__(self, path):
        super().__init__()
        self.folder, self.links, self.pictures, self.tags, self.text = path.parent, [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [found[key] for key in ("src", "href") if key in found]
        if tag == "img":
            self.pictures.append(found)

    def handle_data(self, data):
        self.text += data

    @property
    def files(self):
        return {link for link in self.links if not link.startswith(("#", "data:"))}


def check(path):
    """What holds of every report."""
    page = Page(path)
    source = path.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?\s*(?:https?:)?//", source)
    assert "@import" not in source and re.search(r"Content-Security-Policy\" content=\"default-src 'none'", source)
    for name in page.files:
        assert "/" not in name and (page.folder / name).is_file()
    assert page.files == {file.name for file in page.folder.iterdir()} - {"index.html"}
    assert all(len(picture["alt"]) > 10 for picture in page.pictures)
    assert page.tags.count("h1") == 1
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert all(f'id="{name}"' in source for name in anchors)
    for file in page.folder.glob("*.svg"):
        assert not re.findall(r"(?:xlink:)?href=\"(?!#|data:)", file.read_text(encoding="utf-8"))
    return page


def test_a_complete_project(complete):
    page = check(build_report(complete))
    scores = json.loads((complete.latest("evaluate").path / "scores.json").read_text())["classes"]["nucleus"]
    for key in ("dice_3d", "precision", "recall", "iou", "dice_2d_mean", "dice_3d_all_slices"):
        assert f"{scores[key]:.3f}" in page.text
    assert "12 × 40 × 60" in page.text
    assert "20 × 4 × 4 nm" in page.text
    assert "240 × 160 × 240 nm" in page.text
    assert "1,234,567 parameters" in page.text
    assert "the loss < 0 & more" in page.text
    assert "Not done yet" not in page.text
    for run in complete.runs():
        assert run.path.name in page.text
    assert sum("svg+xml" in picture["src"] for picture in page.pictures) == 5
    assert sum("prediction of nucleus" in picture["alt"] for picture in page.pictures) == 4
    assert any("worst" in picture["alt"] for picture in page.pictures)
    assert sum("Labels on slice" in picture["alt"] for picture in page.pictures) == 2
    assert sum(file.stat().st_size for file in page.folder.iterdir()) < 4e6


def test_names_are_escaped(complete):
    run = complete.latest("evaluate")
    scores = json.loads((run.path / "scores.json").read_text())
    nasty = "<img src=x onerror=alert(1)> & co"
    scores["classes"][nasty] = scores["classes"]["nucleus"]
    (run.path / "scores.json").write_text(json.dumps(scores))
    complete.latest("predict").update(classes=["nucleus", nasty])
    path = build_report(complete)
    page, source = check(path), path.read_text(encoding="utf-8")
    assert nasty not in source
    assert html.escape(nasty) in source
    assert nasty in page.text
    assert "a <b>tumour & co" in page.text
    assert "<b>" not in source


def test_an_empty_project_says_what_to_do(project):
    page = check(build_report(project))
    assert "cristae import image" in page.text


def test_only_an_image(project):
    give_image(project)
    page = check(build_report(project))
    assert "Missing slices" in page.text
    assert sum("of the micrograph." in picture["alt"] for picture in page.pictures) == 4
    for step in ("cristae import labels", "cristae train", "cristae predict"):
        assert step in page.text


def test_only_a_training_that_broke_off(project):
    give_image(project)
    give_labels(project.annotations, LABELLED)
    with pytest.raises(KeyboardInterrupt):
        run = give_training(project)
        with project.record(run, Settings(), {}):
            raise KeyboardInterrupt
    page = check(build_report(project))
    assert "was interrupted" in page.text
    assert "Learning" in page.text


def test_a_prediction_without_truth_is_shown_on_unlabelled_slices(project):
    give_image(project)
    give_labels(project.annotations, LABELLED)
    give_prediction(project, give_training(project))
    page = check(build_report(project))
    assert "--cross-validate" in page.text
    shown = [picture["alt"] for picture in page.pictures if "prediction of nucleus" in picture["alt"]]
    assert len(shown) == 4
    assert not any(f"Slice {z} " in alt for z in LABELLED for alt in shown)
    assert not any("truth" in alt for alt in shown)


def test_cross_validation_is_shown_like_an_evaluation(complete):
    run, done = complete.run("crossvalidate", Settings(), {}), complete.latest("evaluate")
    with complete.record(run, Settings(), {}):
        for name in ("scores.json", "slices.csv", "distance.csv"):
            shutil.copy(done.path / name, run.path / name)
        scores = json.loads((run.path / "scores.json").read_text())
        (run.path / "scores.json").write_text(json.dumps({**scores, "protocol": "leave one labelled slice out"}))
    page = check(build_report(complete))
    assert "Cross-validation: leave one labelled slice out" in page.text
    assert "Agreement with the truth" in page.text
    assert "trained on the other labelled slices only" in page.text
    assert "labels have changed since the cross-validation" not in page.text
    run.update(inputs={"labels": "others"}, classes=["nucleus"])
    assert "labels have changed since the cross-validation" in check(build_report(complete)).text


def test_what_is_stale_is_named(complete):
    assert "train again" not in check(build_report(complete)).text
    give_labels(complete.annotations, [4])
    complete.truth.write_slice("nucleus", 3, np.zeros(GRID.shape[1:], np.uint8))
    text = check(build_report(complete)).text
    assert "labels have changed since the training" in text
    assert "truth has changed since the scores" in text
    time.sleep(0.01)
    newest = give_training(complete)
    text = check(build_report(complete)).text
    assert f"not made with the newest training, {newest.path.name}" in text
    give_prediction(complete, newest)
    assert "scores are those of an earlier prediction" in check(build_report(complete)).text


def test_damaged_files_cost_their_section_only(complete):
    run = complete.latest("evaluate")
    (run.path / "scores.json").write_text("{")
    (complete.latest("train").path / "history.csv").write_bytes(b'a,b\n"')
    shutil.rmtree(complete.latest("predict").path / "nucleus.ome.zarr")
    text = check(build_report(complete)).text
    assert "no readable scores.json" in text
    assert "history.csv cannot be read" in text


def test_settings_that_differ_are_marked(complete):
    complete.set_settings("evaluate", {"tolerance_nm": 8.0})
    evaluate(complete)
    path = build_report(complete)
    check(path)
    assert re.search(
        r'<tr class="changed"><td><code>tolerance_nm</code></td><td>8</td>\s*<td>none</td>', path.read_text()
    )
    assert "4 settings, 1 changed: tolerance_nm" in path.read_text()


def test_a_second_report_replaces_the_first(complete):
    first = build_report(complete)
    (first.parent / "slice-99.jpg").write_bytes(b"old")
    (first.parent / "notes-of-mine.txt").write_text("keep")
    build_report(complete)
    assert not (first.parent / "slice-99.jpg").exists()
    assert (first.parent / "notes-of-mine.txt").read_text() == "keep"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the report with")
def test_a_browser_shows_it_without_a_failed_request(complete, tmp_path):
    path = build_report(complete)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    command += ["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"]
    # each picture reports to the title whether it could be shown
    probe = path.parent / "probe.html"
    count = (
        "<script>addEventListener('load',()=>{const all=[...document.images];document.body.dataset.result="
        "`${document.title}|${all.length}|${all.filter(i=>i.complete&&i.naturalWidth>0).length}|"
        "${performance.getEntriesByType('resource').filter(r=>!r.name.startsWith('file:')&&!r.name.startsWith('data:'))"
        ".length}|${document.documentElement.scrollWidth-innerWidth}`})</script></body>"
    )
    probe.write_text(path.read_text(encoding="utf-8").replace("</body>", count), encoding="utf-8")
    shown = subprocess.run(
        [*command, "--dump-dom", probe.as_uri()], capture_output=True, text=True, timeout=50, check=True
    )
    title, pictures, loaded, foreign, overflow = html.unescape(
        re.search(r'data-result="([^"]*)"', shown.stdout).group(1)
    ).split("|")
    assert title == "a <b>tumour & co – cristae report"
    assert int(pictures) == int(loaded) >= len(Page(path).pictures) - 1, "the picture of the scene makes way for it"
    assert int(foreign) == 0
    assert int(overflow) <= 0
    assert "ERR_" not in shown.stderr.replace("ERR_NAME", "")


def opened(jpeg):
    return Image.open(BytesIO(jpeg))


def test_pictures_show_what_is_right_invented_and_missed():
    truth, predicted = np.zeros((200, 200), np.uint8), np.zeros((200, 200), bool)
    truth[50:150, 40:120] = 1
    predicted[50:150, 80:160] = True
    truth[190:] = 255
    picture = opened(overlays.draw(overlays.Slice(np.full((200, 200), 100, np.uint8), (4.0, 4.0), truth, predicted)))
    assert picture.size == (overlays.SHORTEST,) * 2
    pixels = np.asarray(picture).astype(int)
    at = lambda y, x: pixels[int(y * 2.4), int(x * 2.4)]  # noqa: E731
    right, invented, missed, nothing = at(100, 100), at(100, 140), at(100, 60), at(20, 20)
    assert right[2] > right[0] + 20
    assert invented[0] > invented[2] + 50
    assert np.ptp(missed) < 12 and np.abs(missed - nothing).max() < 12
    assert at(50, 60)[0] > 180 > at(50, 60)[2]  # the yellow outline
    assert at(195, 20).max() <= nothing.max() * 0.6 + 6


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([(4.0, 4.0), (4.0, 8.0), (10.0, 2.5)]))
def test_pictures_keep_proportions_and_bounds(height, width, pixel):
    w, h = overlays.picture_size((height, width), pixel)
    assert overlays.SHORTEST <= max(w, h) <= overlays.LONGEST
    true = width * pixel[1] / (height * pixel[0])
    assert abs(w - h * true) <= max(1, true)


@given(st.floats(4, 1e6))
def test_scale_bars_are_round_and_fit(width):
    length = overlays.bar_length_nm(width)
    assert length <= width / 4 or length == 1
    assert length > width / 11
    assert float(f"{length:.0e}") == length and f"{length:e}"[0] in "125"


def test_lengths_are_told_in_a_unit_that_suits():
    assert overlays.length_in_words(500) == "500 nm"
    assert overlays.length_in_words(2000) == "2 µm"
    assert overlays.length_in_words(768, 4096) == "0.768 × 4.096 µm"
    assert overlays.length_in_words(2e6) == "2 mm"


@given(st.lists(st.integers(0, 200), unique=True, max_size=30).map(sorted), st.integers(0, 8))
def test_spreading_takes_different_values_in_order(values, n):
    chosen = overlays.spread(values, n)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(n, len(values))
    assert set(chosen) <= set(values)


def test_worst_and_best_slices_are_chosen_and_empty_ones_left_out():
    rows = pd.DataFrame(
        {
            "z": range(8),
            "dice": [1, 0.9, 0.2, 0.8, 0.95, 0.7, 0, 1],
            "n_truth": [0, 9, 9, 9, 9, 9, 0, 0],
            "n_predicted": 0,
        }
    )
    rows.loc[6, "n_predicted"] = 3
    chosen = overlays.choose_slices(rows, 4)
    assert len(chosen) == 4
    assert "worst" in chosen[6] and "best" in chosen[4]
    assert not {0, 7} & set(chosen)
    assert overlays.choose_slices(rows.iloc[[0, 7]], 4) == {}
    assert list(overlays.choose_slices(rows.iloc[[1]], 4)) == [1]


def test_diagrams_are_drawn_of_the_least_and_the_oddest():
    history = pd.DataFrame({"step": [1], "loss": [0.5]})
    assert figures.training_curve(history, ("a",)).count("<svg") == 1
    scores = {"a": {"dice_3d": None, "precision": 0.5}, "$b_1$": {}}
    assert "<svg" in figures.scores_per_class(scores)
    rows = pd.DataFrame({"class": ["a"], "z": [3], "dice": [0.0], "n_truth": [0], "n_predicted": [5]})
    assert "<svg" in figures.dice_per_slice(rows, {}, ("b", "a"))
    distance = pd.DataFrame({"class": ["a"], "distance_slices": [0], "distance_nm": [0.0], "dice": [1.0]})
    assert "<svg" in figures.dice_by_distance(distance, ("a",))


def test_the_same_diagram_is_the_same_file():
    history = pd.DataFrame({"step": range(300), "loss": np.linspace(1, 0, 300)})
    assert figures.training_curve(history, ("a",)) == figures.training_curve(history, ("a",))
