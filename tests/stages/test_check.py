"""The check of a project on disk: what it writes, how it goes on, and what becomes of bad slices."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

import cristae
from cristae.cli import main
from cristae.errors import DataError, ResourceError, UsageError
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.phantom.faults import FAULTS
from cristae.preprocess.stack import KINDS
from cristae.stages.check import findings_in_words
from cristae.stages.options import Options
from cristae.stages.survey import survey
from cristae.volume import Volume

SHAPE = (40, 128, 128)
SIZE = (8.0, 8.0, 8.0)
BAD = {"out_of_focus": 6, "charging": 12, "duplicated": 20, "missing": 26, "brightness": 33}


def tissue(shape=SHAPE) -> np.ndarray:
    rng = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.7, mode="wrap")
    return np.clip(120 + 28 * smooth / smooth.std() + rng.normal(0, 6, shape), 1, 254).astype(np.uint8)


def spoilt() -> np.ndarray:
    image = tissue()
    for kind, z in BAD.items():
        image = FAULTS[kind](image, z, 1.0, np.random.default_rng(z))
    return image


def make(path, grey, **facts) -> cristae.Project:
    project = cristae.init(path, voxel_size=SIZE)
    image = create_volume(project.image_path, Grid(grey.shape, SIZE), np.uint8, "image")
    image.write(image.grid.box, grey)
    found = survey(Volume(grey, image.grid), lambda done, total, **facts: None)
    black = [z for z in range(len(grey)) if not grey[z].any()]
    write_facts(project.image_path, {**found, "missing": black, "source_name": "test", **facts})
    return project


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return spoilt()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, grey):
    """A check from beginning to end."""
    return cristae.check(make(tmp_path_factory.mktemp("whole") / "p", grey))


@pytest.fixture
def project(tmp_path, grey) -> cristae.Project:
    return make(tmp_path / "p", grey)


def test_every_fault_is_in_the_tables_and_the_figure(project) -> None:
    run = cristae.check(project)
    table = pd.read_parquet(run.path / "check.parquet")
    assert table["z"].tolist() == list(range(SHAPE[0]))
    flagged = {kind: int(z) for z, text in zip(table["z"], table["flags"], strict=True) for kind in text.split()}
    assert flagged == BAD and (table["flags"] != "").sum() == len(BAD)
    assert all(table.loc[z, f"score_{kind}"] >= 1 for kind, z in BAD.items())
    again = pd.read_csv(run.path / "check.csv", keep_default_na=False, na_values=[""], dtype={"flags": str})
    pd.testing.assert_frame_equal(again.fillna({"flags": ""}), table, check_dtype=False)
    content = json.loads((run.path / "findings.json").read_text())
    assert {one["kind"]: one["slices"] for one in content["findings"]} == {kind: [z] for kind, z in BAD.items()}
    kinds = [KINDS.index(one["kind"]) for one in content["findings"]]
    assert kinds == sorted(kinds) and content["n_slices"] == SHAPE[0]
    rows = pd.read_csv(run.path / "findings.csv")
    assert rows["kind"].tolist() == [one["kind"] for one in content["findings"]]
    assert {"what", "where", "how_bad", "severe", "words", "advice"} <= set(rows)
    assert (run.path / "check.svg").read_text().startswith("<?xml") and (run.path / "check.png").stat().st_size > 1000
    assert run.manifest["severe_slices"] == [6, 12, 20]
    assert not (run.path / ".slices").exists()
    words = findings_in_words(project, run)
    assert "out of focus (severe), slice 6: fine structures are blurred." in words
    assert "--exclude" in words


def test_a_clean_image_gives_empty_tables(tmp_path) -> None:
    project = make(tmp_path / "clean", tissue())
    run = cristae.check(project)
    assert len(pd.read_csv(run.path / "findings.csv")) == 0
    assert findings_in_words(project, run) == "40 slices: nothing wrong was found"
    assert run.manifest["slice_thickness_px"] == pytest.approx(1, abs=0.3)


def content(run) -> dict[str, bytes]:
    """All that a check left, but for the time."""
    files = {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != "manifest.json"}
    assert {"check.parquet", "check.csv", "findings.csv", "findings.json", "check.svg", "check.png"} <= set(files)
    return files


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [3, 33])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, grey, whole, at) -> None:
    def kill(task):
        def advance(done, total, **facts):
            if done == at:
                raise Killed

        return advance

    seen = []

    def count(task):
        return lambda done, total, **facts: seen.append(done)

    project = make(tmp_path / "b", grey)
    with pytest.raises(Killed):
        cristae.check(project, options=Options(progress=kill))
    run = cristae.check(project, options=Options(progress=count))
    assert content(run) == content(whole)
    assert min(done for done in seen if done % 16) == at // 16 * 16 + 1  # slabs that were done are read


def test_workers_change_nothing(project, whole) -> None:
    other = cristae.check(project, options=Options(executor="threads:3"))
    assert content(whole) == content(other)


def test_a_finished_check_is_skipped_and_forced(project) -> None:
    said: list[str] = []
    run = cristae.check(project)
    ended = run.manifest["ended"]
    assert cristae.check(project, options=Options(notify=said.append)) == run
    assert run.manifest["ended"] == ended and "nothing to do" in said[0]
    cristae.check(project, options=Options(force=True))
    assert run.manifest["ended"] > ended
    assert cristae.check(project, threshold=9).id != run.id


def test_excluding_slices_leaves_the_check_fresh_and_the_rest_stale(project) -> None:
    cristae.check(project, exclude=True)
    assert project.file.bad_slices == (6, 12, 20)
    assert project.lost_slices == (6, 12, 20, 26)
    assert next(one for one in cristae.status(project) if one.stage == "check").condition == "done"
    assert "left out as bad: slices 6, 12, 20" in findings_in_words(project, project.latest("check"))
    assert cristae.exclude_slices(project, [1], good=[12]) == (1, 6, 20)
    assert cristae.exclude_slices(project, [], good=[1, 6, 20]) == ()
    assert project.lost_slices == (26,)


def test_slices_that_are_not_there_are_refused_and_nothing_is_lost(project) -> None:
    cristae.exclude_slices(project, [3])
    with pytest.raises(UsageError, match="slices 0 to 39; there is no slice 40, 77"):
        cristae.exclude_slices(project, [77, 40])
    with pytest.raises(UsageError, match="choose one"):
        cristae.exclude_slices(project, [5], good=[5])
    with pytest.raises(UsageError, match="no slice would be left"):
        cristae.exclude_slices(project, range(40))
    assert project.file.bad_slices == (3,)
    with project.lock(), pytest.raises(ResourceError):
        cristae.exclude_slices(project, [4])


def test_labels_on_bad_slices_are_spoken_of(project) -> None:
    said: list[str] = []
    project.annotations.write_slices("cell", [(5, np.ones(SHAPE[1:], np.uint8)), (6, np.ones(SHAPE[1:], np.uint8))])
    cristae.check(project, exclude=True, options=Options(notify=said.append))
    assert any("slices 6 are labelled" in words for words in said)


def test_a_list_by_hand_is_checked_when_it_is_used(project) -> None:
    path = project.path / "project.toml"
    text = path.read_text()
    path.write_text(text.replace("bad_slices = []", "bad_slices = [9, 3, 3]"))
    assert project.file.bad_slices == (3, 9)
    path.write_text(text.replace("bad_slices = []", "bad_slices = [40]"))
    with pytest.raises(DataError, match=r"bad_slices in .* names 40; correct it: slices are 0 to 39"):
        _ = project.lost_slices
    path.write_text(text.replace("bad_slices = []", "bad_slices = [-1]"))
    with pytest.raises(DataError, match="counted from 0"):
        _ = project.file
    path.write_text(text.replace("bad_slices = []\n", ""))
    assert project.file.bad_slices == ()  # projects of earlier versions have no such line


def test_the_fingerprint_of_the_image_knows_what_is_left_out(project) -> None:
    plain = project.image_fingerprint
    assert plain == project.image_facts["digest"]
    cristae.exclude_slices(project, [26])  # missing anyway
    assert project.image_fingerprint == plain
    cristae.exclude_slices(project, [4, 5, 6])
    assert project.image_fingerprint == f"{plain} without 4–6"


@pytest.mark.parametrize(
    ("stated", "found"),
    [([8.0, 8.0, 8.0], False), ([None, 8.04, 8.0], False), ([None, 4.0, 4.0], True), ([30.0, 8.0, 8.0], True)],
)
def test_what_the_files_state_is_compared(tmp_path, stated, found) -> None:
    project = make(tmp_path / "p", tissue((8, 64, 64)), stated_voxel_size_nm=stated)
    listed = json.loads((cristae.check(project).path / "findings.json").read_text())["findings"]
    assert [one["kind"] for one in listed] == ["voxel_size"] * found
    if found:
        assert "the files state voxels of" in listed[0]["words"] and "project.toml" in listed[0]["advice"]


def test_without_an_image_there_is_nothing_to_check(tmp_path) -> None:
    project = cristae.init(tmp_path / "empty", voxel_size=SIZE)
    with pytest.raises(DataError, match="no image yet"):
        cristae.check(project)
    with pytest.raises(DataError, match="no image yet"):
        cristae.exclude_slices(project, [1])
    assert not (project.path / "runs").exists()


def test_another_image_empties_the_list(tmp_path, project) -> None:
    cristae.exclude_slices(project, [3])
    tifffile.imwrite(tmp_path / "other.tif", tissue((12, 64, 64)))
    said: list[str] = []
    cristae.import_image(project, tmp_path / "other.tif", options=Options(force=True, notify=said.append))
    assert project.file.bad_slices == () and any("those of the old image" in words for words in said)


def test_the_command(project, monkeypatch, capsys) -> None:
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["cristae", "check", str(project.path), *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, *capsys.readouterr()

    code, out, _ = call("--quiet")
    assert code == 0 and "40 slices, 5 findings" in out and "cristae check" in out
    code, out, _ = call("--exclude-slices", "2,8-10", "--quiet")
    assert code == 0 and out == "left out as bad: slices 2, 8–10\n"
    code, out, _ = call("--include-slices", "9", "--json", "--quiet")
    assert json.loads(out) == {"bad_slices": [2, 8, 10]}
    code, out, _ = call("--exclude", "--json", "--quiet")
    facts = json.loads(out)
    assert facts["bad_slices"] == [2, 6, 8, 10, 12, 20] and len(facts["findings"]) == 5
    code, _, err = call("--exclude-slices", "2-x")
    assert code == 2 and "--exclude-slices '2-x': expected numbers and ranges" in err
    code, _, err = call("--exclude-slices", "90")
    assert code == 2 and "there is no slice 90" in err
    code, _, err = call("--set", "check.threshold=1")
    assert code == 2 and "threshold" in err


def test_the_report_shows_findings_and_the_worst_slices(project) -> None:
    page = cristae.write_report(project).read_text()
    assert 'id="check"' not in page
    cristae.check(project, exclude=True)
    page = cristae.write_report(project).read_text()
    assert "What is wrong with the image?" in page and "fine structures are blurred" in page
    assert "Left out of learning and measuring: slices 6, 12, 20." in page
    for words in ("Slice 6: out of focus", "Slice 12: charging", "Slice 33: brightness"):
        assert words in page
    assert "Slices left out as bad" in page
    (project.latest("check").path / "findings.json").write_text("broken")
    assert 'id="check"' not in cristae.write_report(project).read_text()


def test_a_replaced_image_makes_the_check_stale(project) -> None:
    cristae.check(project)
    write_facts(project.image_path, {"digest": "another"})
    assert next(one for one in cristae.status(project) if one.stage == "check").condition == "stale"
    page = cristae.write_report(project).read_text()
    assert "The image has changed since; check it again." in page and "The worst slices" not in page
