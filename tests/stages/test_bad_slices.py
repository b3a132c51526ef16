"""Bad slices are treated as missing ones by every stage: nothing is learnt or measured from them, all bridge them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cell_projects import SHAPE, cell_project, three_cells
from truth_projects import FAST, truth_project

import cristae
from cristae.errors import DataError
from cristae.geometry import Block, Box
from cristae.io.ome_zarr import open_volume, write_facts
from cristae.stages.gaps import GapSources
from cristae.stages.options import Options
from cristae.stages.predict import Smoothing
from cristae.stages.schemes import unlabelled_slices, view_of
from cristae.stages.train_settings import TrainSettings

BRIDGED = (6, 7)
QUICK = FAST | {"families": ("texture",)}
TEN = {"shape": (14, 48, 48), "labelled": (1, 4, 9, 13)}


def pair(make_small, **rules):
    """Return a project in which slices are noted as bad, and one in which the import noted them as missing."""
    bad, missing = make_small("bad", **TEN, **rules), make_small("missing", **TEN, **rules)
    cristae.exclude_slices(bad, BRIDGED)
    write_facts(missing.image_path, {"missing": list(BRIDGED)})
    return bad, missing


def test_training_and_prediction_are_those_of_a_project_with_missing_slices(make_small, tiny) -> None:
    projects = pair(make_small)
    for scheme in ("supervised", "cps"):
        trained = [cristae.train(one, **tiny | {"scheme": scheme, "classes": ("disc",)}) for one in projects]
        assert trained[0].manifest["weights"] == trained[1].manifest["weights"]
    found = [open_volume(cristae.predict(one).path / "disc.ome.zarr").read() for one in projects]
    assert np.array_equal(*found)


def test_what_is_on_a_bad_slice_changes_nothing(make_small, tiny) -> None:
    found = []
    for name, grey in (("as it is", None), ("white", 255)):
        project = make_small(name, **TEN)
        facts = project.image_facts
        if grey:
            values = project.image.read()
            values[list(BRIDGED)] = grey
            open_volume(project.image_path, mode="r+").write(project.image.grid.box, values)
            write_facts(project.image_path, facts)
        cristae.exclude_slices(project, BRIDGED)
        cristae.train(project, **tiny | {"classes": ("disc",)})
        found.append(open_volume(cristae.predict(project).path / "disc.ome.zarr").read())
    assert np.array_equal(*found)


def test_a_bad_slice_is_predicted_between_its_neighbours(make_small, tiny) -> None:
    project = make_small("p", **TEN)
    cristae.exclude_slices(project, [6])
    cristae.train(project, **tiny | {"classes": ("disc",)})
    probability = open_volume(cristae.predict(project).path / "disc.ome.zarr").read().astype(float)
    between = np.stack([probability[5], probability[7]])
    assert (probability[6] <= between.max(axis=0) + 30).all() and (probability[6] >= between.min(axis=0) - 30).all()


def test_in_a_long_row_of_bad_slices_the_nearest_good_one_speaks() -> None:
    smoothing = Smoothing(0.7, 0.5, frozenset(range(2, 14)))
    box = Box((0, 0, 0), (16, 1, 2))
    probability = np.full(box.shape, 200, np.uint8)
    smooth, mask = smoothing(Block(box, box), probability)
    assert (np.abs(smooth.astype(int) - 200) <= 1).all() and mask.all()


def test_labels_on_bad_slices_are_not_learnt_from(make_small, tiny) -> None:
    project = make_small("p", **TEN)
    before = cristae.train(project, **tiny)
    cristae.exclude_slices(project, [4, 13])
    assert next(one for one in cristae.status(project) if one.stage == "train").condition == "stale"
    run = cristae.train(project, **tiny)
    assert run.id != before.id
    assert run.manifest["labelled_slices"] == {"disc": [1, 9], "dot": [1, 9]}
    scored = cristae.cross_validate(project, **tiny)
    assert set(pd.read_parquet(scored.path / "slices.parquet")["z"]) == {1, 9}
    cristae.exclude_slices(project, [1, 9])
    with pytest.raises(
        DataError, match=r"all labelled slices \(1, 4, 9, 13\) are missing in the image or noted as bad"
    ):
        cristae.train(project, **tiny)
    cristae.exclude_slices(project, [], good=[1, 4, 9, 13])
    assert cristae.train(project, **tiny).id == before.id  # as it was, and finished


def test_unlabelled_slices_are_drawn_from_good_ones(make_small) -> None:
    project = make_small("p", **TEN)
    cristae.exclude_slices(project, [0, 5, 6])
    drawn = unlabelled_slices(project, TrainSettings(unlabelled=100), {1, 4, 9, 13})
    assert drawn == (2, 3, 7, 8, 10, 11, 12)
    view = view_of(project, 1, 1)
    assert view.channels(4, 14) == [3, 4, 4] and view.channels(7, 14) == [7, 7, 8]


def test_the_gaps_of_cells_have_bad_slices_as_missing_ones(tmp_path) -> None:
    project = cell_project(tmp_path / "p", three_cells(), (0, 8))
    cristae.exclude_slices(project, [3, 4])
    gap = GapSources(project, "cell", None, None, (0, 8)).gap(0, 8)
    assert gap.missing == frozenset({3, 4})
    assert [bool(gap.image_at(z).any()) for z in range(9)] == [z not in (3, 4) for z in range(9)]


@pytest.mark.parametrize("method", ["flow", "mask+boundary+flow", "paths"])
def test_cells_and_tracks_go_through_a_bad_slice(tmp_path, method) -> None:
    truth, found = three_cells(), {}
    for name in ("bad", "missing"):
        project = cell_project(tmp_path / name, truth, (0, 8))
        values = project.image.read()
        values[4] = np.random.default_rng(0).integers(1, 255, SHAPE[1:])  # matches nothing
        open_volume(project.image_path, mode="r+").write(project.image.grid.box, values)
        if name == "bad":
            cristae.exclude_slices(project, [4])
        else:
            write_facts(project.image_path, {"missing": [4]})
        settings = {"smallest_body_um2": 0.002, "edge_nm": 0.0, "new_um3": 1e-4, "flow_reduction": 1}
        cells = cristae.cells(project, method=method, **settings)
        tracked = cristae.track(project, smallest_body_um2=0.002)
        found[name] = [open_volume(run.path / "cell.ome.zarr").read() for run in (cells, tracked)]
    for one, other in zip(found["bad"], found["missing"], strict=True):
        assert np.array_equal(one, other)
    assert (found["bad"][0] == truth)[truth > 0].mean() > 0.85


def test_no_feature_of_grey_values_has_voxels_of_bad_slices(tmp_path) -> None:
    bad, missing, whole = (truth_project(tmp_path / name) for name in ("bad", "missing", "whole"))
    cristae.exclude_slices(bad, [8, 25])
    write_facts(missing.image_path, {"missing": [8, 25]})
    rows = [
        pd.read_parquet(cristae.measure(one, source="truth", **QUICK).path / "objects.parquet").drop(
            columns="sample_id"
        )
        for one in (bad, missing, whole)
    ]
    pd.testing.assert_frame_equal(rows[0], rows[1])
    assert rows[0]["volume_um3"].equals(rows[2]["volume_um3"])  # the object is there, though nobody saw it
    assert not rows[0]["grey_mean"].equals(rows[2]["grey_mean"])


def test_measures_are_stale_and_come_back(tmp_path) -> None:
    project, words = truth_project(tmp_path / "p"), []
    first = cristae.measure(project, source="truth", **QUICK)
    cristae.exclude_slices(project, [8])
    assert next(one for one in cristae.status(project) if one.stage == "measure").condition == "stale"
    cristae.exclude_slices(project, [], good=[8])
    again = cristae.measure(project, source="truth", options=Options(notify=words.append), **QUICK)
    assert again == first and any("nothing to do" in one for one in words)
