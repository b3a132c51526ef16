"""Corrections of a project: which layers, what becomes of them, and what is learnt from them."""

from __future__ import annotations

import json
import shutil
import sys

import nrrd
import numpy as np
import pandas as pd
import pytest
from cell_projects import three_cells
from corrected_projects import cells_of, found_project
from filelock import FileLock

import cristae
from cristae.cli import main
from cristae.corrections import tools
from cristae.corrections.ids import highest_id, known_highest, new_ids
from cristae.errors import DataError, ResourceError, UsageError
from cristae.io.ome_zarr import n_levels, open_volume
from cristae.report.layers import shown_layers
from cristae.stages.corrected import correctable, corrected_objects, corrected_run
from cristae.stages.correcting import audit, boundary_of
from cristae.stages.options import Options
from cristae.stages.score_cells import cells_table
from cristae.stages.status import is_stale

MEASURE = {"features": {"voxels": ["*"]}, "families": ["shape"]}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return found_project(tmp_path_factory.mktemp("correct") / "bx1")


@pytest.fixture
def project(ready, tmp_path):
    shutil.copytree(ready.path, tmp_path / "bx1")
    return cristae.Project.open(tmp_path / "bx1")


def call(capsys, *words):
    """Run the command line, and return its exit code, its output and its errors."""
    before, sys.argv = sys.argv, ["cristae", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_cells_objects_and_masks_can_be_corrected(project):
    there = correctable(project)
    assert list(there) == ["cell", "dot/objects", "cell_interior", "cell_boundary", "dot"]
    assert there["cell"].run == project.latest("track")
    with cristae.correct(project) as opened:  # cells, without a name
        assert np.array_equal(opened.read(opened.original.grid.box), cells_of(project))
        assert new_ids(opened, 2) == (70_002, 70_003)
        tools.reassign(opened, (0, 20, 10), 80_000)
        assert new_ids(opened, 1) == (80_001,)
    assert boundary_of(project, "cell").shape == project.image.shape
    assert boundary_of(project, "dot/objects") is None
    with pytest.raises(UsageError, match=r"no layer 'mito' to correct; there are cell, dot/objects"):
        cristae.correct(project, "mito")


def test_applied_corrections_are_a_run_and_what_was_found_stays(project):
    before = cells_of(project)
    with cristae.correct(project) as opened:
        tools.merge(opened, [300, 70_001])
        tools.paint(opened, 3, [(60, 5), (60, 30)], 9, radius=2)
        expected = opened.read(opened.original.grid.box)
    run = cristae.apply_corrections(project)
    assert np.array_equal(open_volume(run.path / "cell.ome.zarr").read(), expected)
    assert np.array_equal(open_volume(project.image_path / "labels" / "cell").read(), expected)
    assert np.array_equal(cells_of(project), before)
    assert n_levels(run.path / "cell.ome.zarr") == n_levels(project.latest("track").path / "cell.ome.zarr")
    assert (run.manifest["corrects"], run.manifest["n_edits"]) == (project.latest("track").path.name, 2)
    edits = pd.read_parquet(run.path / "edits.parquet")
    assert list(edits["kind"]) == ["merge", "paint"] and edits["holds"].all()
    assert cristae.apply_corrections(project) == run  # nothing to do
    with cristae.correct(project) as opened:
        opened.undo()
    other = cristae.apply_corrections(project)
    assert other != run and run.finished
    with cristae.correct(project) as opened:
        opened.redo()
    assert corrected_run(project, project.latest("track"), "cell") == other
    assert cristae.apply_corrections(project) == run
    assert np.array_equal(open_volume(project.image_path / "labels" / "cell").read(), expected)
    assert corrected_run(project, project.latest("track"), "cell") == run  # that which was asked for last


def test_what_is_measured_and_exported_is_what_was_corrected(project, tmp_path):
    measured = cristae.measure(project, classes=["cell"], block_side=32, families=["shape"])
    with cristae.correct(project) as opened:
        tools.remove(opened, [9])
        tools.merge(opened, [300, 70_001])
    assert not is_stale(project, measured)  # not applied yet
    shown = shown_layers(project)
    assert shown.measured == measured and shown.words == ()
    cristae.apply_corrections(project)
    assert is_stale(project, measured)
    shown = shown_layers(project)  # ids of these are not those of the measurement any more
    assert shown.measured is None and "measure it again" in shown.words[1]
    assert {one.name: set(np.unique(one.levels[0].read())) for one in shown.layers}["cell"] == {0, 300}
    again = cristae.measure(project, classes=["cell"], block_side=32, families=["shape"])
    assert not is_stale(project, again)
    shown = shown_layers(project)
    assert shown.measured == again and shown.words == ("Shown as people corrected it: cell with 2 corrections.",)
    assert set(np.unique(shown.layers[0].levels[0].read())) == {0, 300}
    table = pd.read_parquet(again.path / "objects.parquet")
    assert list(table["object_id"]) == [300]
    assert int(table["n_voxels"][0]) == int(np.isin(cells_of(project), (300, 70_001)).sum())
    cristae.export(project, "cell", tmp_path / "cells.nrrd")
    assert set(np.unique(nrrd.read(str(tmp_path / "cells.nrrd"))[0])) == {0, 300}


def test_ids_that_a_run_noted_are_not_looked_for(project):
    with cristae.correct(project) as opened:
        assert known_highest(opened) == 70_001 == highest_id(opened.original)
    with cristae.correct(project, "dot/objects") as opened:
        assert known_highest(opened) == 2 == highest_id(opened.original)
    track = project.latest("track")
    track.update(highest_id=80_000)  # made anew
    with cristae.correct(project) as opened:
        assert new_ids(opened, 1) == (80_001,)
    shutil.rmtree(track.path)
    with cristae.correct(project) as opened:  # separated cells say nothing of it
        assert known_highest(opened) is None and new_ids(opened, 1) == (70_002,)


def scores_of(run):
    return json.loads((run.path / "scores.json").read_text())["cells"]


def test_corrected_cells_are_scored_as_they_are_and_as_they_were(project):
    project.truth.write_slices("cell", list(enumerate(three_cells())))
    first = cristae.evaluate(project)
    assert scores_of(first)["n_corrections"] == 0 and "before_corrections" not in scores_of(first)
    with cristae.correct(project) as opened:
        tools.remove(opened, [9])
    assert not is_stale(project, first)  # not applied yet
    cristae.apply_corrections(project)
    assert is_stale(project, first)
    told: list[str] = []
    second = cristae.evaluate(project, options=Options(notify=told.append))
    assert second != first and not is_stale(project, second)
    scores, before = scores_of(second), scores_of(first)
    assert (scores["n_corrections"], scores["n_cells"]) == (1, 3)
    assert scores["before_corrections"].items() <= before.items() and "dice_mean" in scores["before_corrections"]
    cells, nine = pd.read_parquet(second.path / "cells_objects.parquet"), 9
    assert cells.set_index("object_id")["dice"][nine] == 0
    assert scores["dice_mean"] == pytest.approx(cells["dice"].mean()) and scores["dice_mean"] < before["dice_mean"]
    for table in ("cells_objects", "cells_slices"):
        was, kept = pd.read_csv(first.path / f"{table}.csv"), pd.read_csv(second.path / f"{table}_before.csv")
        pd.testing.assert_frame_equal(was, kept)
    facts = second.manifest
    assert (facts["dice_cells"], facts["dice_cells_before"]) == (scores["dice_mean"], before["dice_mean"])
    assert any("with 1 correction" in words for words in told)
    assert "correction" not in cells_table({name: one for name, one in before.items() if name != "n_corrections"})
    shown = cells_table(scores)
    assert "with 1 correction;" in shown and f"{before['dice_mean']:.4f}" in shown.partition("before corrections:")[2]
    with cristae.correct(project) as opened:
        opened.undo()
    cristae.apply_corrections(project)
    third = scores_of(cristae.evaluate(project))
    assert third["n_corrections"] == 0 and third["dice_mean"] == before["dice_mean"]


def test_applied_corrections_say_which_objects_there_are_now(project):
    with cristae.correct(project) as opened:
        tools.merge(opened, [300, 70_001])
        tools.paint(opened, 3, [(60, 5)], 70_002, radius=2)
    run = cristae.apply_corrections(project)
    ids, n_voxels = np.unique(open_volume(run.path / "cell.ome.zarr").read(), return_counts=True)
    table = pd.read_parquet(run.path / "objects.parquet")
    assert table["object_id"].tolist() == ids[1:].tolist() == [9, 300, 70_002]
    assert table["n_voxels"].tolist() == n_voxels[1:].tolist() and set(table["class"]) == {"cell"}
    assert table["volume_um3"].to_numpy() == pytest.approx(n_voxels[1:] * 1e-6)
    (run.path / "objects.parquet").unlink()
    with pytest.raises(DataError, match=r"cristae correct apply .* --layer cell --force"):
        corrected_objects(project, project.latest("track"), "cell")
    with cristae.correct(project, "dot") as opened:
        tools.fill(opened, (3, 12, 12), 0, "volume")
    assert not (cristae.apply_corrections(project, "dot").path / "objects.parquet").exists()  # a mask
    assert corrected_objects(project, project.latest("predict"), "dot") is None


def test_separated_cells_are_followed_as_they_were_corrected(project):
    shutil.rmtree(project.latest("track").path)
    with cristae.correct(project) as opened:
        tools.remove(opened, [9])
    cristae.apply_corrections(project)
    told: list[str] = []
    tracked = cristae.track(project, smallest_body_um2=0.002, options=Options(notify=told.append))
    assert "track: cell with 1 correction" in told and not is_stale(project, tracked)
    assert 9 not in cells_of(project)[2] and 9 in cells_of(project)[4]  # labels on slice 4 still name it


def test_red_flags_are_raised_from_corrected_objects(project):
    with cristae.correct(project, "dot/objects") as opened:
        for number in range(9):
            tools.paint(opened, 6, [(60, 4 + 8 * number)], 10 + number, radius=1)
        for z in range(1, 6):
            tools.paint(opened, z, [(50, 10), (50, 60)], 30, radius=4)
        tools.remove(opened, [1, 2])
    tracked = project.latest("track")
    table = pd.read_parquet(tracked.path / "objects.parquet")
    table.assign(kind="island").to_parquet(tracked.path / "objects.parquet", index=False)
    before = cristae.quality(project)
    flags = pd.read_parquet(before.path / "flags.parquet")
    assert set(flags.loc[flags["kind"] == "lonely island", "object_id"]) == {9, 300, 70_001}
    assert not (flags["kind"] == "odd object").any()
    cristae.apply_corrections(project, "dot/objects")
    with cristae.correct(project) as opened:
        tools.merge(opened, [300, 70_001])
    cristae.apply_corrections(project)
    assert is_stale(project, before)
    run = cristae.quality(project)
    assert not is_stale(project, run)
    flags = pd.read_parquet(run.path / "flags.parquet").set_index("object_id")
    islands = flags[flags["kind"] == "lonely island"]
    assert set(islands.index) == {9, 300}
    assert islands.loc[300, ["x_start", "x_stop"]].tolist() == [4, 52]  # both cells, over all slices
    odd = flags[flags["kind"] == "odd object"]
    assert odd.index.tolist() == [30] and odd.loc[30, ["z_start", "z_stop"]].tolist() == [1, 6]


def test_objects_are_not_stale_for_maps_that_they_do_not_rest_on(project):
    objects = project.latest("objects")
    with cristae.correct(project, "cell_interior") as opened:
        tools.erase(opened, 2, [(20, 10)], radius=2)
    cristae.apply_corrections(project, "cell_interior")
    assert not is_stale(project, objects)


def test_objects_are_found_in_the_corrected_mask(project):
    before = project.latest("objects")
    assert before.manifest["n_objects"] == {"dot": 2}
    with cristae.correct(project, "dot") as opened:
        tools.fill(opened, (3, 12, 12), 0, "volume")
    cristae.apply_corrections(project, "dot")
    assert is_stale(project, before)
    after = cristae.objects(project, smallest_um3=0.0, classes=["dot"])
    assert after != before and after.manifest["n_objects"] == {"dot": 1}


def test_the_status_says_what_is_corrected_and_not_applied(project):
    def said():
        return [(one.condition, one.detail) for one in cristae.status(project) if one.stage == "correct"]

    assert said() == []
    with cristae.correct(project) as opened:
        tools.merge(opened, [300, 70_001])
        assert said() == [("stale", f"cell: 1 edit; next: cristae correct apply {project.path} --layer cell")]
    cristae.apply_corrections(project)
    assert said() == [("done", "cell: 1 edit; applied")]
    with cristae.correct(project) as opened:
        opened.undo()
    assert said()[0][0] == "stale"


def test_what_cannot_be_fed_or_applied_is_refused(project):
    with pytest.raises(DataError, match=r"nothing of cell of track-.* has been corrected yet"):
        cristae.apply_corrections(project)
    with pytest.raises(DataError, match="nothing of cell"):
        cristae.feed_corrections(project)
    with pytest.raises(DataError, match="feed them as complete"):
        cristae.feed_corrections(project, slices=[3])
    with pytest.raises(UsageError, match="no slice 9"):
        cristae.feed_corrections(project, slices=[9])
    with pytest.raises(UsageError, match="name the slices that are complete"):
        cristae.feed_corrections(project, complete=True)
    assert not project.runs("correct")


def test_while_a_stage_runs_edits_are_safe_and_labels_wait(project):
    before = project.annotations.fingerprint()
    lock = FileLock(project.path / ".lock")
    with lock, cristae.correct(project) as opened:  # another stage works on the project
        tools.paint(opened, 2, [(55, 5), (55, 15)], 9, radius=0)
        opened.close()
        for refused in (cristae.feed_corrections, cristae.apply_corrections):
            with pytest.raises(ResourceError, match="another process is working on"):
                refused(project)
    assert project.annotations.fingerprint() == before
    with cristae.correct(project) as opened:
        assert len(opened.entries) == 1
        with pytest.raises(ResourceError, match="another process is correcting cell"):
            cristae.apply_corrections(project)


def test_edits_of_a_result_that_is_being_made_anew_are_refused(project):
    run = project.latest("track")
    with cristae.correct(project) as opened:
        run.update(status="running")
        with pytest.raises(DataError, match="is being made anew"):
            tools.paint(opened, 2, [(55, 5)], 9, radius=0)
        assert not opened.entries
        run.update(status="finished")
        tools.paint(opened, 2, [(55, 5)], 9, radius=0)


def test_a_project_with_nothing_to_correct_says_so(tmp_path):
    project = cristae.init(tmp_path / "empty", voxel_size=(4, 4, 4))
    with pytest.raises(DataError, match="no masks, objects or cells yet"):
        cristae.correct(project)


def test_the_command_line_corrects_undoes_and_lists(project, capsys):
    path = project.path
    code, out, err = call(capsys, "correct", "merge", path, 300, 70001)
    assert (code, err) == (0, "") and out == "merge 300, 70001 (edit 1; 1 hold)\n"
    code, out, _ = call(capsys, "correct", "split", path, "--seed", "2,20,8", "--seed", "2,20,42", "--json")
    done = json.loads(out)
    assert code == 0 and done["edit"]["ids"] == [300, 70_002] and done["n_edits"] == 2
    code, out, _ = call(capsys, "correct", "reassign", path, "--at", "0,50,55", "--to", 12, "--slice-only")
    assert code == 0 and out.startswith("reassign 9, 12, 224 voxels")
    assert call(capsys, "correct", "remove", path, 9)[0] == 0
    code, out, _ = call(capsys, "correct", "undo", path)
    assert out == "undone: remove 9 (edit 4; 3 hold)\n"
    code, out, _ = call(capsys, "correct", "redo", path)
    assert out == "done again: remove 9 (edit 4; 4 hold)\n"
    code, out, _ = call(capsys, "correct", "list", path, "--json")
    rows = json.loads(out)["edits"]
    assert [row["kind"] for row in rows] == ["merge", "split", "reassign", "remove", "undo", "redo"]
    assert {row["front_end"] for row in rows} == {"command line"}
    assert rows[2]["z_start"] == 0 and rows[2]["z_stop"] == 1 and "z_start" not in rows[0]
    assert "reassign" in call(capsys, "correct", "list", path)[1]
    code, out, _ = call(capsys, "correct", "apply", path, "--quiet")
    assert code == 0 and out.startswith("applied 4 corrections of cell: ")
    code, out, _ = call(capsys, "correct", "feed", path, "--slices", "2", "--complete", "--quiet")
    assert out == "cell: labels on 4 slices, 4 of them complete\n"
    assert not any(word in json.dumps(rows).lower() for word in ("root", "home", "user"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("merge", "300"), 2, "two objects"),
        (("split", "--seed", "2,20"), 2, "expected z,y,x"),
        (("split", "--seed", "2,20,8", "--seed", "2,0,0"), 2, "must lie in one object"),
        (("undo",), 2, "nothing to undo"),
        (("feed",), 3, "has been corrected yet"),
        (("list", "--layer", "mito"), 2, "there are cell"),
        (("merge", "3", "4", "--set", "correct.colour=1"), 2, "no settings"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_an_exit_code(project, capsys, words, code, said):
    found, out, err = call(capsys, "correct", words[0], project.path, *words[1:])
    assert (found, out) == (code, "") and said in err and err.startswith("error: ")


def test_the_audit_table_is_typed_even_when_empty(project):
    with cristae.correct(project) as opened:
        table = audit(opened)
        assert not len(table)
        tools.merge(opened, [300, 70_001])
        assert dict(audit(opened).dtypes) == dict(table.dtypes)
