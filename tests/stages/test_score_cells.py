"""Scores of cells: what they are worth by hand, what must not change them, and what an evaluation makes of them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import BaseModel

from cristae.annotations import IGNORE_ID
from cristae.cli import cli
from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.metrics.instance import adapted_rand_error, contingency, variation_of_information
from cristae.metrics.matching import detections
from cristae.project import Project
from cristae.stages.evaluate import EvaluateSettings, evaluate
from cristae.stages.options import Options
from cristae.stages.score_cells import CellRules, cells_table, compare
from cristae.stages.status import is_stale
from cristae.volume import Volume

GRID = Grid((9, 20, 30), (10.0, 10.0, 10.0))
LABELLED = (0, 8)
RULES = CellRules(LABELLED, (1, 2), True, 1, 10.0)
PERFECT = {"dice_mean": 1, "dice_worst": 1, "pq": 1, "ap50": 1, "ap75": 1, "arand": 0, "voi_split": 0, "voi_merge": 0}


class Nothing(BaseModel):
    number: int = 0


def true_cells() -> np.ndarray:
    """Two cells with an island each, and one that lies between the labelled slices."""
    truth = np.zeros(GRID.shape, np.uint32)
    truth[:, 2:18, 2:10] = 1
    truth[:, 2:18, 12:20] = 2
    truth[1:8, 4:6, 26:28] = 1
    truth[1:8, 14:16, 26:28] = 2
    truth[3:6, 8:12, 22:25] = 70_000
    return truth


def found_cells() -> np.ndarray:
    """As true, but the island of cell 2 went to cell 1, and the cell between has an id of its own."""
    found = true_cells()
    found[1:8, 14:16, 26:28] = 1
    found[found == 70_000] = 90
    return found


def planes_of(found, truth, slices=None):
    return ((z, found[z], truth[z]) for z in (range(len(truth)) if slices is None else slices))


def test_the_truth_itself_is_perfect():
    truth = true_cells()
    scores = compare(planes_of(truth, truth), RULES).scores
    assert {key: scores[key] for key in PERFECT} == pytest.approx(PERFECT)
    assert (scores["island_share"], scores["n_island_voxels"]) == (1, 7 * 4 * 2)
    assert (scores["n_cells"], scores["n_cells_met"], scores["n_scored_slices"]) == (3, 2, 7)


def test_scores_are_those_worked_out_by_hand():
    result = compare(planes_of(found_cells(), true_cells()), RULES)
    scores, objects, slices = result.scores, result.objects.set_index("object_id"), result.slices.set_index("z")
    body, island, between = 7 * 16 * 8, 7 * 4, 3 * 4 * 3
    assert objects["n_voxels"].to_dict() == {1: body + island, 2: body + island, 70_000: between}
    assert objects["matched_id"].to_dict() == {1: 1, 2: 2, 70_000: 90}
    dices = {1: 2 * (body + island) / (2 * body + 3 * island), 2: 2 * body / (2 * body + island), 70_000: 1.0}
    assert objects["dice"].to_dict() == pytest.approx(dices)
    assert objects["precision"].to_dict() == pytest.approx({1: (body + island) / (body + 2 * island), 2: 1, 70_000: 1})
    assert objects["recall"].to_dict() == pytest.approx({1: 1, 2: body / (body + island), 70_000: 1})
    assert scores["dice_mean"] == pytest.approx(np.mean(list(dices.values())))
    assert scores["dice_median"] == pytest.approx(np.median(list(dices.values())))
    assert scores["dice_unmet_mean"] == 1
    worst = min(dices, key=dices.__getitem__)
    assert (scores["dice_worst"], scores["dice_worst_id"]) == (pytest.approx(dices[worst]), worst)
    assert scores["island_share"] == 0.5
    assert slices.loc[4, "dice"] == pytest.approx((2 * 132 / (2 * 132 + 4) + 2 * 128 / (2 * 128 + 4) + 1) / 3)
    assert slices.loc[[0, 8], "dice"].tolist() == [1, 1]
    assert slices["labelled"][slices["labelled"]].index.tolist() == list(LABELLED)
    assert slices.loc[6, ["distance_slices", "distance_nm", "n_cells"]].tolist() == [2, 20.0, 2]


volumes = arrays(np.uint32, (4, 5, 6), elements=st.sampled_from([0, 1, 2, 3, 7]))


@given(found=volumes, truth=volumes, labelled=st.sets(st.integers(0, 3)))
def test_slices_give_what_the_whole_volume_gives(found, truth, labelled):
    rules = CellRules(tuple(sorted(labelled)), (1, 2), True, 1, 1.0)
    scores = compare(planes_of(found, truth, (2, 0, 3, 1)), rules).scores
    scored = [z for z in range(4) if z not in labelled]
    assert scores["n_scored_slices"] == len(scored)
    if not scored:
        assert scores["arand"] is None and scores["dice_mean"] is None and scores["n_cells"] == 0
        return
    whole = contingency(found[scored], truth[scored])
    assert scores["arand"] == pytest.approx(adapted_rand_error(whole).error)
    assert scores["voi_split"] == pytest.approx(variation_of_information(whole).split)
    assert scores["pq"] == pytest.approx(detections(whole).panoptic_quality)
    assert scores == compare(planes_of(found, truth), rules).scores
    json.dumps(scores, allow_nan=False)


@given(found=volumes, truth=volumes)
def test_names_of_cells_that_no_labelled_slice_meets_do_not_matter(found, truth):
    rules = CellRules((), (1, 2), True, 1, 1.0)
    renamed = np.array([0, 1, 2, 500, 4, 5, 6, 3], np.uint32)[found]
    one, other = compare(planes_of(found, truth), rules), compare(planes_of(renamed, truth), rules)
    # Of several best pairings any may be taken: their sum is what is determined.
    for key in ("pq", "ap50", "arand", "voi_split", "voi_merge", "dice_mean"):
        assert one.scores[key] == pytest.approx(other.scores[key])


def test_what_nobody_looked_at_is_in_no_number():
    truth, found = true_cells(), true_cells()
    truth[:, :, 20:] = IGNORE_ID
    found[:, :, 20:] = 5
    scores = compare(planes_of(found, truth), RULES).scores
    assert {key: scores[key] for key in PERFECT} == pytest.approx(PERFECT)
    assert scores["island_share"] is None


def test_small_cells_are_listed_but_not_averaged():
    result = compare(planes_of(found_cells(), true_cells()), CellRules(LABELLED, (1, 2), True, 100, 10.0))
    assert (result.scores["n_cells"], result.scores["n_cells_too_small"]) == (2, 1)
    assert result.objects.set_index("object_id")["scored"].to_dict() == {1: True, 2: True, 70_000: False}


def write_cells(project, stage, cells, inputs=None, number=0, **facts):
    settings = Nothing(number=number)
    run = project.run(stage, settings, inputs or {})
    with project.record(run, settings, inputs or {}):
        create_volume(run.path / "cell.ome.zarr", GRID, np.uint32, "labels").write(GRID.box, cells)
        run.update(name="cell", learnt=["cell"], labelled_slices=list(LABELLED), **facts)
    return run


def write_tracks(project, separated, cells):
    return write_cells(project, "track", cells, {"cells": f"{separated.id} of {separated.manifest['ended']}"})


@pytest.fixture
def project(tmp_path):
    project = Project.create(tmp_path / "bx1", GRID.voxel_size, ("cell",))
    create_volume(project.image_path, GRID, np.uint8, "image").write(GRID.box, np.full(GRID.shape, 9, np.uint8))
    write_facts(project.image_path, {"digest": "0"})
    truth = true_cells()
    project.annotations.write_slices("cell", [(z, truth[z]) for z in LABELLED])
    project.truth.write_slices("cell", list(enumerate(truth)))
    return project


def give_masks(project):
    train = project.run("train", Nothing(), {})
    with project.record(train, Nothing(), {}):
        train.update(labelled_slices={"nucleus": [0]})
    run = project.run("predict", Nothing(), {})
    with project.record(run, Nothing(), {}):
        path = run.path / "nucleus.ome.zarr"
        create_volume(path, GRID, np.uint8, "probability")
        create_volume(path / "labels" / "nucleus", GRID, np.uint8, "labels")
        run.update(train_run=train.path.name, classes=["nucleus", "cell_interior", "cell_boundary"])
    project.truth.write_slices("nucleus", [(z, np.zeros(GRID.shape[1:], np.uint8)) for z in range(3)])


def scores_of(run):
    return json.loads((run.path / "scores.json").read_text())


def test_cells_are_scored_without_any_prediction_of_masks(project):
    separated = write_cells(project, "cells", found_cells())
    told: list[str] = []
    run = evaluate(project, EvaluateSettings(smallest_cell_um3=0), Options(notify=told.append))
    scores = scores_of(run)
    assert scores["classes"] == {}
    assert scores["cells"]["run"] == separated.path.name
    rules = CellRules(LABELLED, (1, 2), True, 1, 10.0)
    expected = compare(planes_of(found_cells(), true_cells()), rules)
    assert scores["cells"].items() >= expected.scores.items()
    for stem in ("cells_objects", "cells_slices"):
        table = pd.read_parquet(run.path / f"{stem}.parquet")
        assert len(pd.read_csv(run.path / f"{stem}.csv")) == len(table) > 0
    pd.testing.assert_frame_equal(pd.read_parquet(run.path / "cells_objects.parquet"), expected.objects)
    shown = cells_table(scores["cells"])
    assert f"{scores['cells']['dice_mean']:.4f}" in shown and "island_share" in shown
    assert any("cell (objects)" in words for words in told)


def test_the_command_prints_a_table(project):
    write_cells(project, "cells", found_cells())
    done = CliRunner().invoke(cli, ["evaluate", str(project.path), "--quiet"])
    assert done.exit_code == 0
    scores = scores_of(project.latest("evaluate"))["cells"]
    assert done.output.strip() == cells_table(scores)
    as_json = CliRunner().invoke(cli, ["evaluate", str(project.path), "--quiet", "--json"])
    assert json.loads(as_json.output)["cells"] == scores


def test_never_more_than_a_slice_is_read_at_once(project, monkeypatch):
    write_cells(project, "cells", found_cells())
    read, seen = Volume.read, []

    def watched(volume, *boxes):
        values = read(volume, *boxes)
        seen.append(values.shape[0])
        return values

    monkeypatch.setattr(Volume, "read", watched)
    evaluate(project)
    assert set(seen) == {1} and len(seen) >= 2 * GRID.shape[0]


def test_masks_and_cells_are_scored_side_by_side(project):
    give_masks(project)
    alone = scores_of(evaluate(project))
    assert list(alone["classes"]) == ["nucleus"] and "cells" not in alone
    write_cells(project, "cells", true_cells())
    told: list[str] = []
    both = scores_of(evaluate(project, options=Options(notify=told.append)))
    assert both["classes"] == alone["classes"]
    assert both["cells"]["dice_mean"] == 1
    assert not any("cell_interior" in words for words in told)


def test_tracked_cells_are_scored_unless_they_are_of_earlier_ones(project):
    separated = write_cells(project, "cells", found_cells())
    assert scores_of(evaluate(project))["cells"]["island_share"] == 0.5
    tracked = write_tracks(project, separated, true_cells())
    assert scores_of(evaluate(project))["cells"]["run"] == tracked.path.name
    newer = write_cells(project, "cells", found_cells(), number=1)
    told: list[str] = []
    assert scores_of(evaluate(project, options=Options(notify=told.append)))["cells"]["run"] == newer.path.name
    assert any("not tracked since" in words for words in told)


def test_new_cells_new_tracks_and_new_truth_make_an_evaluation_stale(project):
    separated = write_cells(project, "cells", found_cells())
    first = evaluate(project)
    assert not is_stale(project, first)
    assert evaluate(project) == first
    write_tracks(project, separated, true_cells())
    assert is_stale(project, first)
    second = evaluate(project)
    assert second.id != first.id and not is_stale(project, second)
    truth = true_cells()[4]
    project.truth.write_slice("cell", 4, np.where(truth == 1, np.uint32(2), truth))
    assert is_stale(project, second)
    third = evaluate(project)
    assert not is_stale(project, third)
    write_cells(project, "cells", true_cells(), number=2)
    assert is_stale(project, third)


def test_labelled_slices_count_only_when_asked_to(project):
    cells = true_cells()
    cells[list(LABELLED)] = 0
    write_cells(project, "cells", cells)
    assert scores_of(evaluate(project))["cells"]["dice_mean"] == 1
    with_them = scores_of(evaluate(project, EvaluateSettings(exclude_labelled=False)))["cells"]
    assert with_them["n_scored_slices"] == 9 and with_them["dice_mean"] < 1


def test_truth_of_labelled_slices_alone_leaves_the_scores_open(project):
    write_cells(project, "cells", true_cells())
    shutil.rmtree(project.path / "truth.ome.zarr")
    project.truth.write_slices("cell", [(z, true_cells()[z]) for z in LABELLED])
    told: list[str] = []
    scores = scores_of(evaluate(project, options=Options(notify=told.append)))["cells"]
    assert (scores["n_cells"], scores["dice_mean"], scores["arand"], scores["pq"]) == (0, None, None, None)
    assert "–" in cells_table(scores)
    assert "labelled to find it from" in told[-1]


def test_a_truth_that_numbers_cells_differently_is_noticed(project):
    write_cells(project, "cells", np.array([0, 2, 1], np.uint32)[np.minimum(true_cells(), 2)])
    told: list[str] = []
    evaluate(project, options=Options(notify=told.append))
    assert "same ids" in told[-1]


def test_what_is_missing_is_said(project):
    with pytest.raises(UsageError, match="cristae predict"):
        evaluate(project)
    separated = write_cells(project, "cells", true_cells())
    shutil.rmtree(separated.path / "cell.ome.zarr")
    with pytest.raises(DataError, match="cristae cells again with --force"):
        evaluate(project)
    shutil.rmtree(project.path / "truth.ome.zarr")
    with pytest.raises(UsageError, match="cristae predict"):
        evaluate(project)
