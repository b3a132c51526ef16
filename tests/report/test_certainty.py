"""What the report tells of doubt, of predictions written by hand."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel

from cristae.geometry import Grid
from cristae.io.ome_zarr import build_pyramid, create_volume, write_facts
from cristae.palette import rgb
from cristae.project import Project
from cristae.report import overlays
from cristae.report.build import build_report
from cristae.report.certainty import errors_by_disagreement, most_doubtful, reliability_curve
from cristae.stages.evaluate import evaluate
from report_pages import words_of

GRID = Grid((12, 600, 600), (20.0, 4.0, 4.0))
LABELLED = (1, 7)
WORST = 5


class Nothing(BaseModel):
    pass


def truth():
    found = np.zeros(GRID.shape, bool)
    found[:, 100:300, 150:400] = True
    return found


def predicted():
    """Right but for a stripe that is most wrong on one slice."""
    found = truth()
    found[:, 300:320, 150:400] = True
    found[WORST, 300:400, 150:400] = True
    return found


def doubt(useful):
    """Where it is wrong, and much on a slice that was painted; or everywhere but there."""
    wrong = truth() != predicted()
    found = np.where(wrong if useful else ~wrong, 180, 3).astype(np.uint8)
    if useful:
        found[LABELLED[0]] = 255
    return found


@pytest.fixture
def make(tmp_path):
    def make(useful=True, pair=True, with_truth=True):
        project = Project.create(tmp_path / "bx1", GRID.voxel_size, ("nucleus",))
        noise = np.random.default_rng(0).integers(90, 160, GRID.shape).astype(np.uint8)
        create_volume(project.image_path, GRID, np.uint8, "image").write(GRID.box, noise)
        write_facts(project.image_path, {"digest": "0", "missing": []})
        train = project.run("train", Nothing(), {})
        with project.record(train, Nothing(), {}):
            train.update(labelled_slices={"nucleus": list(LABELLED)}, classes=["nucleus"])
        run = project.run("predict", Nothing(), {})
        with project.record(run, Nothing(), {}):
            path, mask = run.path / "nucleus.ome.zarr", predicted()
            create_volume(path, GRID, np.uint8, "probability").write(GRID.box, np.where(mask, 204, 13).astype(np.uint8))
            create_volume(path / "labels" / "nucleus", GRID, np.uint8, "labels").write(GRID.box, mask.astype(np.uint8))
            if pair:
                path = run.path / "nucleus_disagreement.ome.zarr"
                create_volume(path, GRID, np.uint8, "probability").write(GRID.box, doubt(useful))
                build_pyramid(path)
            layers = ["nucleus_disagreement"] if pair else []
            run.update(train_run=train.path.name, classes=["nucleus"], threshold=0.5, disagreement=layers)
        if with_truth:
            project.truth.write_slices("nucleus", [(z, mask.astype(np.uint8)) for z, mask in enumerate(truth())])
            evaluate(project)
        return project

    return make


def test_useful_doubt_is_praised_and_the_worst_slice_comes_first(make):
    text = words_of(build_report(make()))
    assert "How sure is it?" in text
    assert "Where two networks differ, they are wrong more often" in text
    assert "differ most hold 100 % of all errors. Correct there first" in text
    assert f"look first at slices {WORST}" in text
    assert "Where to look first: nucleus" in text
    assert f"Slice {WORST}: where the two networks differ" in text
    assert "Does a probability mean what it says?" in text
    assert "better sign of errors" not in text


def test_useless_doubt_is_not(make):
    text = words_of(build_report(make(useful=False)))
    assert "Are two networks wrong where they differ?" in text
    assert "chance would find 5 %" in text
    assert "better sign of errors" in text
    assert "Correct there first" not in text


def test_without_truth_there_still_are_slices_to_look_at(make):
    text = words_of(build_report(make(with_truth=False)))
    assert f"look first at slices {WORST}" in text
    assert f"Slice {WORST} with a heat" in text
    for words in ("AUC", "Does a probability", "errors. Correct"):
        assert words not in text


def test_of_one_network_there_is_the_reliability_alone(make):
    text = words_of(build_report(make(pair=False)))
    assert "Does a probability mean what it says?" in text
    for words in ("Two networks", "Difference finds", "look first", "Where two networks"):
        assert words not in text


def test_without_anything_there_is_no_section(make):
    text = words_of(build_report(make(pair=False, with_truth=False)))
    assert "How sure is it?" not in text


def test_lost_layers_and_tables_cost_their_part_only(make):
    project = make()
    (project.latest("evaluate").path / "calibration.csv").write_text("class\n")
    (project.latest("predict").path / "nucleus_disagreement.ome.zarr" / "zarr.json").unlink()
    text = words_of(build_report(project))
    assert "Does a probability mean what it says?" in text
    assert "look first" not in text and "Where two networks differ, they" not in text


@given(st.dictionaries(st.integers(0, 100), st.floats(0, 255), max_size=40), st.integers(1, 6))
def test_most_doubtful_slices_come_first_and_lie_apart(means, n):
    chosen = most_doubtful(means, n)
    assert len(chosen) <= n and all(means[z] > 0 for z in chosen)
    assert [means[z] for z in chosen] == sorted((means[z] for z in chosen), reverse=True)
    assert all(abs(a - b) > 1 for i, a in enumerate(chosen) for b in chosen[:i])
    if any(means.values()):
        assert means[chosen[0]] == max(means.values())


def test_heat_covers_doubt_and_leaves_the_rest_bare():
    level = np.zeros((480, 480), np.uint8)
    level[:160], level[160:320] = 60, 255
    grey = np.random.default_rng(0).integers(80, 120, level.shape).astype(np.uint8)
    picture = np.asarray(Image.open(BytesIO(overlays.draw_doubt(overlays.Slice(grey, (4.0, 4.0)), level))), int)
    bare, much = picture[340:400, :200].reshape(-1, 3), picture[200:300].reshape(-1, 3)
    assert np.ptp(bare.mean(axis=0)) < 3
    assert np.abs(much.mean(axis=0) - rgb(overlays.HEAT[2])).max() < 12
    lightness = [picture[rows].mean() for rows in (slice(350, 400), slice(20, 140), slice(200, 300))]
    assert lightness[0] < lightness[1] < lightness[2]


def test_diagrams_are_drawn_of_one_bin_and_are_the_same_again():
    errors = pd.DataFrame(
        {"class": ["a"], "disagreement_mean": [0.0], "error_rate": [0.0], "share_of_voxels": [1.0], "n_voxels": [90]}
    )
    reliability = pd.DataFrame(
        {"class": ["a"], "probability_mean": [0.0], "true_share": [0.0], "share_of_voxels": [1.0], "n_voxels": [90]}
    )
    for draw, table in ((errors_by_disagreement, errors), (reliability_curve, reliability)):
        drawn = draw(table, ("b", "a"))
        assert drawn.count("<svg") == 1
        assert drawn == draw(table, ("b", "a"))
