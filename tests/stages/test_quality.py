"""`cristae quality` and `cristae doctor` on a project whose probabilities are known."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from stage_projects import SETTINGS

import cristae
from cristae.advice.expected import LEVELS, expected_dice
from cristae.cli import cli
from cristae.errors import DataError
from cristae.io.ome_zarr import open_volume
from cristae.stages.options import Options
from cristae.stages.quality_left_out import calibrate
from cristae.stages.status import changed_inputs
from cristae.stages.withheld import FILE, keep_withheld, read_withheld

SHAPE = (24, 64, 64)
PAINTED = (1, 6, 11, 16, 21)
BAD = 11


@pytest.fixture(scope="module")
def known(build, tiny, tmp_path_factory) -> cristae.Project:
    """A project with a prediction, a cross-validation and an evaluation."""
    project = build(tmp_path_factory.mktemp("quality") / "p", shape=SHAPE, labelled=PAINTED)
    how = dict(tiny) | {"updates": 40, "base_width": 4}
    cristae.train(project, **how)
    cristae.predict(project, device="cpu", engine="torch", tile_px=64)
    cristae.cross_validate(project, **how)
    cristae.evaluate(project)
    return project


@pytest.fixture
def project(known, tmp_path) -> cristae.Project:
    return cristae.Project.open(shutil.copytree(known.path, tmp_path / "p"))


@pytest.fixture(scope="module")
def whole(known, tmp_path_factory):
    copy = cristae.Project.open(shutil.copytree(known.path, tmp_path_factory.mktemp("whole") / "p"))
    return cristae.quality(copy)


def _table(run, name):
    return pd.read_parquet(run.path / f"{name}.parquet")


def test_every_slice_is_told_with_an_interval(whole):
    table = _table(whole, "slices")
    assert len(table) == 2 * SHAPE[0] and list(table["class"].unique()) == ["disc", "dot"]
    assert (table["dice_low"] <= table["expected_dice"]).all() and (table["expected_dice"] <= table["dice_high"]).all()
    assert table["dice_low"].between(0, 1).all() and table["dice_high"].between(0, 1).all()
    assert table.loc[table["labelled"], "z"].tolist() == 2 * list(PAINTED)
    assert len(pd.read_csv(whole.path / "slices.csv")) == len(table)
    classes = _table(whole, "classes").set_index("class")
    assert (classes["n_left_out"] == 5).all() and (classes["coverage"] == 0.8).all()
    assert whole.manifest["calibrated"] and set(whole.manifest["expected_dice_3d"]) == {"disc", "dot"}
    assert (whole.path / "quality.svg").read_text().startswith("<?xml") and (whole.path / "quality.png").is_file()
    assert "disc: 3D Dice about" in (whole.path / "proofread.md").read_text()
    assert not (whole.path / ".slices").exists()


def test_what_is_told_is_near_the_truth(known, whole):
    """Of the class that is learnt well: within 0.03 in the median, and mostly within the intervals."""
    true = _table(known.latest("evaluate"), "slices")
    both = _table(whole, "slices").merge(true[["class", "z", "dice"]], on=["class", "z"])
    both = both[(both["class"] == "disc") & ~both["labelled"]]
    assert both["dice"].mean() > 0.8  # else there is nothing to tell
    assert (both["dice"] - both["expected_dice"]).abs().median() < 0.03
    assert both["dice"].between(both["dice_low"], both["dice_high"]).mean() > 0.7


def test_left_out_slices_are_told_from_the_others(known, whole):
    checked = known.latest("crossvalidate")
    scores = _table(checked, "slices")
    left_out = _table(whole, "left_out").merge(scores, on=["class", "z"], suffixes=("", "_scored"))
    assert len(left_out) == len(scores) == 10
    assert left_out["dice"].to_numpy() == pytest.approx(left_out["dice_scored"].to_numpy(), nan_ok=True)
    assert left_out["distance_slices"].tolist() == [5] * 10
    withheld = list(read_withheld(checked))
    found = calibrate(withheld, 0.5)["disc"]
    without = calibrate([one for one in withheld if one.z != 6], 0.5)["disc"]
    six = next(one for one in withheld if one.z == 6 and one.name == "disc")
    voxels = np.bincount(six.probability.ravel(), minlength=LEVELS)
    told = float(expected_dice(voxels, without.shares, 128, without.clump))
    assert found.left_out.set_index("z")["expected_dice"][6] == pytest.approx(told)


def test_without_a_cross_validation_nothing_is_promised(project):
    shutil.rmtree(project.latest("crossvalidate").path)
    said: list[str] = []
    run = cristae.quality(project, options=Options(notify=said.append))
    table = _table(run, "slices")
    assert (table["dice_low"] == 0).all() and (table["dice_high"] == 1).all()
    assert not run.manifest["calibrated"] and any("taken at their word" in words for words in said)
    assert "by its own account" in (run.path / "proofread.md").read_text()
    assert _table(run, "classes")["coverage"].isna().all() and _table(run, "left_out").empty


def test_too_few_left_out_slices_for_the_coverage_are_said(project):
    said: list[str] = []
    run = cristae.quality(project, coverage=0.9, options=Options(notify=said.append))
    assert (_table(run, "slices")["dice_high"] == 1).all()
    assert any("5 left-out slices" in words and "takes 9; label 4 more" in words for words in said)


def test_a_slice_that_was_wiped_is_flagged(project):
    predicted = project.latest("predict")
    path = predicted.path / "disc.ome.zarr"
    for layer, value in ((open_volume(path, mode="r+"), 250), (open_volume(path / "labels" / "disc", mode="r+"), 1)):
        z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
        values = np.where((y - 32) ** 2 + (x - 24 - z / 2) ** 2 < 14**2, value, 0 * z).astype(np.uint8)
        values[13] = 0
        layer.write(layer.grid.box, values)
    predicted.update(ended=predicted.manifest["ended"] + 1)
    flags = _table(cristae.quality(project), "flags")
    first = flags[flags["class"] == "disc"].iloc[0]
    assert (first["kind"], first["z"], first["object_id"]) == ("jump", 13, 0) and "less of disc" in first["reason"]
    assert first[["z_start", "z_stop", "y_stop", "x_stop"]].tolist() == [13, 14, 64, 64]


def test_an_odd_object_is_flagged_with_its_box(project):
    predicted = project.latest("predict")
    path = predicted.path / "dot.ome.zarr"
    values = np.zeros(SHAPE, np.uint8)
    for at in range(10):
        values[8 : 11 + at % 2, 4 + 5 * at : 7 + 5 * at, 4:7] = 1
    values[3:20, 4:50, 30:50] = 1
    for layer, value in ((open_volume(path, mode="r+"), 250), (open_volume(path / "labels" / "dot", mode="r+"), 1)):
        layer.write(layer.grid.box, values * np.uint8(value))
    predicted.update(ended=predicted.manifest["ended"] + 1)
    cristae.objects(project, smallest_um3=0.0)
    flags = _table(cristae.quality(project), "flags")
    odd = flags[(flags["kind"] == "odd object") & (flags["class"] == "dot")]
    assert len(odd) == 1 and "times larger" in odd.iloc[0]["reason"]
    box = odd.iloc[0][["z_start", "y_start", "x_start", "z_stop", "y_stop", "x_stop"]]
    assert box.tolist() == [3, 4, 30, 20, 50, 50]


def test_bad_slices_are_neither_told_nor_flagged(project):
    project.set_bad_slices([13])
    run = cristae.quality(project)
    table = _table(run, "slices")
    assert not table.loc[table["z"] == 13, "usable"].any()
    assert table.loc[table["z"] == 14, "overlap_before"].isna().all()
    assert 13 not in set(_table(run, "flags")["z"])


class Killed(BaseException):
    pass


def test_killed_and_resumed_equals_uninterrupted(project, whole):
    def kill(task):
        def advance(done, total, **facts):
            if task == "quality of dot":
                raise Killed

        return advance

    with pytest.raises(Killed):
        cristae.quality(project, options=Options(progress=kill))
    assert list(project.path.glob("runs/quality-*/.slices/disc/*.npz"))
    run = cristae.quality(project, options=Options(executor="threads:2"))
    for name in ("slices.csv", "flags.csv", "classes.csv", "proofread.md"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_slabs_of_one_slice_change_nothing(project, whole):
    cristae.objects(project)
    run = cristae.quality(project, options=Options(max_ram_gb=1e-5))
    assert (run.path / "slices.csv").read_bytes() == (whole.path / "slices.csv").read_bytes()


def test_status_knows_when_it_is_stale(project):
    cristae.quality(project)
    cristae.doctor(project)
    conditions = {one.stage: one.condition for one in cristae.status(project)}
    assert conditions["quality"] == conditions["doctor"] == "done"
    project.annotations.write_slice("disc", 3, project.annotations.read_slice("disc", 6))
    conditions = {one.stage: one.condition for one in cristae.status(project)}
    assert conditions["quality"] == conditions["doctor"] == "stale"
    # What was learnt from other labels is no calibration, and without it nothing is left to do but to train.
    run = cristae.quality(project)
    assert not run.manifest["calibrated"] and not changed_inputs(project, run)


def test_without_a_prediction(small_project):
    with pytest.raises(DataError, match="predict first: cristae predict"):
        cristae.quality(small_project)


def test_a_cross_validation_of_an_earlier_version_is_named(project):
    checked = project.latest("crossvalidate")
    next(checked.path.glob(f"without-*/{FILE}")).write_bytes(b"nothing")
    for stage in (cristae.quality, cristae.doctor):
        with pytest.raises(DataError, match="is missing or damaged; cross-validate again"):
            stage(project)


def _spoilt(project, kind: str) -> None:
    """Spoil the labels of one slice, as if painted so, and what the network that never saw it is compared with."""
    folder = project.latest("crossvalidate").path / f"without-z{BAD:04d}"
    planes = {
        one.name: (one.probability, one.truth) for one in read_withheld(project.latest("crossvalidate")) if one.z == BAD
    }
    disc, dot = planes["disc"][1].copy(), planes["dot"][1].copy()
    if kind == "dropped":
        disc[:] = 0
    elif kind == "swapped":
        disc, dot = dot, disc
    else:
        disc = np.roll(disc, 16, axis=1)
    keep_withheld(folder, {"disc": (planes["disc"][0], disc), "dot": (planes["dot"][0], dot)})


@pytest.mark.parametrize("kind", ["dropped", "swapped", "shifted"])
def test_the_doctor_names_the_spoilt_slice_first(project, kind):
    before = _table(cristae.doctor(project), "labels")
    _spoilt(project, kind)
    run = cristae.doctor(project, options=Options(force=True))
    table, places = _table(run, "labels"), _table(run, "places")
    assert table.iloc[0]["z"] == BAD == run.manifest["slices"][0]
    assert table.iloc[0]["suspicion"] > max(4, 2 * before[before["class"] == "disc"]["suspicion"].max())
    assert BAD in set(places.loc[places["class"] == "disc", "z"])
    assert f"slice {BAD}, disc: Dice" in (run.path / "doctor.md").read_text()


def test_the_doctor_needs_a_cross_validation_of_these_labels(project, build, tiny, tmp_path):
    project.annotations.write_slice("disc", 3, project.annotations.read_slice("disc", 6))
    with pytest.raises(DataError, match="rests on a cross-validation of the labels as they are"):
        cristae.doctor(project)
    two = build(tmp_path / "two", labelled=(0, 5))
    cristae.cross_validate(two, **tiny)
    with pytest.raises(DataError, match="fewer than 3 labelled slices"):
        cristae.doctor(two)
    assert not two.runs("doctor")


def test_the_commands(project):
    found = CliRunner().invoke(cli, ["quality", str(project.path), "--quiet"])
    assert found.exit_code == 0 and "disc: 3D Dice about" in found.output and "red flags:" in found.output
    as_json = CliRunner().invoke(cli, ["quality", str(project.path), "--quiet", "--json"])
    assert json.loads(as_json.output)["calibrated"]
    found = CliRunner().invoke(cli, ["doctor", str(project.path), "--quiet"])
    assert found.exit_code == 0 and "Labels to look at again" in found.output


def test_flags_of_anatomy_and_cells(begun, tmp_path):
    """On a project with cells and organelles: every flag of an object has a box that holds the object."""
    project = cristae.Project.open(shutil.copytree(begun.path, tmp_path / "p"))
    for stage in ("predict", "cells", "track", "objects", "find_parents"):
        getattr(cristae, stage)(project, **SETTINGS[stage])
    anatomy, track = project.latest("anatomy"), project.latest("track")
    flags = _table(cristae.quality(project), "flags")
    parents = pd.read_parquet(anatomy.path / "parents.parquet")
    outside = parents[parents["parent_cell_id"] == 0]
    homeless = set(zip(outside["class"], outside["object_id"], strict=True))
    no_parent = flags[flags["reason"].str.endswith("in no cell")]
    assert set(zip(no_parent["class"], no_parent["object_id"], strict=True)) == homeless
    tracked = pd.read_parquet(track.path / "objects.parquet")
    assert set(flags.loc[flags["kind"] == "lonely island", "object_id"]) == set(
        tracked.loc[tracked["kind"] == "island", "object"]
    )
    for row in flags[flags["object_id"] > 0].head(20).to_dict("records"):
        where = project.latest("track" if row["class"] == "cell" else "objects").path / f"{row['class']}.ome.zarr"
        z, y, x = np.nonzero(open_volume(where).read() == row["object_id"])
        found = [z.min(), y.min(), x.min(), z.max() + 1, y.max() + 1, x.max() + 1]
        assert [row[f"{axis}_{end}"] for end in ("start", "stop") for axis in "zyx"] == found
