"""`cristae advise`: what it proposes, what it never does, and what it writes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import cristae
from cristae.cli import cli
from cristae.errors import DataError, UsageError
from cristae.io.ome_zarr import open_volume
from cristae.stages.advise import MOST_SLICES, _gathered, _representatives
from cristae.stages.options import Options

SHAPE = (24, 64, 64)


@pytest.fixture(scope="module")
def predicted(build, tiny, tmp_path_factory) -> cristae.Project:
    """A project of 24 slices, three of them labelled, with a prediction."""
    project = build(tmp_path_factory.mktemp("advise") / "p", shape=SHAPE, labelled=(2, 11, 20))
    cristae.train(project, **tiny)
    cristae.predict(project, device="cpu", engine="torch", tile_px=64)
    return project


@pytest.fixture
def project(predicted, tmp_path) -> cristae.Project:
    return cristae.Project.open(shutil.copytree(predicted.path, tmp_path / "p"))


@pytest.fixture(scope="module")
def whole(predicted, tmp_path_factory):
    copy = cristae.Project.open(shutil.copytree(predicted.path, tmp_path_factory.mktemp("whole") / "p"))
    return cristae.advise(copy)


def _table(run, name="advice"):
    return pd.read_parquet(run.path / f"{name}.parquet")


def test_every_slice_that_may_be_labelled_is_ranked(project):
    project.set_bad_slices([5, 6])
    run = cristae.advise(project, n=4)
    table = _table(run)
    assert sorted(table["z"]) == [z for z in range(24) if z not in (2, 5, 6, 11, 20)]
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert table["advised"].tolist() == [True] * 4 + [False] * (len(table) - 4)
    assert run.manifest["slices"] == table["z"].tolist()[:4]
    assert (table["gain"] >= 0).all() and table["gain"][4:].is_monotonic_decreasing
    nearest = [min((2, 11, 20), key=lambda one: abs(one - z)) for z in table["z"]]
    assert table["distance_slices"].tolist() == [abs(a - b) for a, b in zip(table["z"], nearest, strict=True)]
    assert table["distance_nm"].tolist() == [40.0 * one for one in table["distance_slices"]]


def test_it_says_why_and_writes_a_task_list(whole):
    table, boxes = _table(whole), _table(whole, "boxes")
    again = pd.read_csv(whole.path / "advice.csv")
    assert again["z"].tolist() == table["z"].tolist() and list(again) == list(table)
    assert {"rank", "z", "doubt", "novelty", "distance_nm", "gain", "why"} <= set(table)
    assert table["why"].str.contains(r"\b1 slice from|\b(?:[02-9]|\d\d+) slices from").all()
    assert table["why"].str.contains("; 1 slice from labelled slice").any()
    tasks = (whole.path / "tasks.md").read_text()
    for z in whole.manifest["slices"]:
        assert f"- [ ] slice {z}: " in tasks
    assert tasks.count("more of the doubt)") == 5
    assert tasks.count("- [ ]") == 5 + len(boxes) and "disc, dot" in tasks
    assert (whole.path / "advice.svg").read_text().startswith("<?xml")
    assert (whole.path / "advice.png").stat().st_size > 1000
    assert not (whole.path / ".slices").exists()


def test_boxes_lie_within_slices_that_may_be_labelled(whole):
    boxes = _table(whole, "boxes")
    assert len(boxes) == 10 and not set(boxes["z"]) & {2, 11, 20}
    assert (boxes["y_stop"] - boxes["y_start"] == 32).all() and (boxes["x_stop"] <= 64).all()
    assert boxes["share_of_slice"].between(0, 1).all() and not boxes.duplicated(["z", "y_start", "x_start"]).any()


def test_doubt_is_where_the_prediction_doubts(project):
    probability = project.latest("predict").path / "disc.ome.zarr"
    for name, slices in (("disc", slice(14, 17)), ("dot", slice(0, 0))):
        layer = open_volume(probability.with_name(f"{name}.ome.zarr"), mode="r+")
        values = np.where(layer.read() > 127, 255, 0).astype(np.uint8)
        values[slices, 40:, 40:] = 127
        layer.write(layer.grid.box, values)
    run = cristae.advise(project, n=2, trust=1.0, boxes=2)
    table, boxes = _table(run), _table(run, "boxes")
    assert 14 <= table["z"][0] <= 16
    assert set(table.loc[table["doubt"] > 0.01, "z"]) == {14, 15, 16}
    assert "times the usual doubt" in table["why"][0]
    assert {(row.y_start, row.x_start) for row in boxes.itertuples()} == {(32, 32)}
    # Of no weight, doubt is not even mentioned.
    even = _table(cristae.advise(project, n=2, trust=0.0))
    assert not even["why"].str.contains("doubt").any()


def test_without_a_prediction_slices_are_spread(build, tmp_path):
    project = build(tmp_path / "cold", shape=SHAPE, labelled=(), truth=False)
    said: list[str] = []
    run = cristae.advise(project, n=3, options=Options(notify=said.append))
    chosen = sorted(run.manifest["slices"])
    assert run.manifest["cold_start"] and "nothing has been predicted yet" in said[0]
    assert np.diff(chosen).min() >= 4 and chosen[0] >= 1 and chosen[-1] <= 22
    table = _table(run)
    assert table["doubt"].isna().all() and table["distance_slices"].isna().all()
    assert table["why"].eq("nothing is labelled yet").all() and _table(run, "boxes").empty
    tasks = (run.path / "tasks.md").read_text()
    assert "doubt" not in tasks and tasks.count("more of the volume)") == 3
    assert (run.path / "advice.png").is_file() and "Or, for less work" not in (run.path / "tasks.md").read_text()


def test_a_class_by_itself(project):
    labels = project.annotations.read_slice("disc", 2)
    project.annotations.write_slice("disc", 6, labels)
    assert 6 in set(_table(cristae.advise(project, classes=("dot",)))["z"])
    assert 6 not in set(_table(cristae.advise(project, classes=("disc",)))["z"])
    assert 6 not in set(_table(cristae.advise(project))["z"])
    with pytest.raises(UsageError, match="no class nothing in this project; there are disc, dot"):
        cristae.advise(project, classes=("nothing",))


class Killed(BaseException):
    pass


def test_killed_and_resumed_equals_uninterrupted(project, whole):
    def kill(task):
        def advance(done, total, **facts):
            raise Killed

        return advance

    with pytest.raises(Killed):
        cristae.advise(project, options=Options(progress=kill))
    kept = {path.name: path.stat().st_mtime_ns for path in project.path.glob("runs/advise-*/.slices/*/*.npz")}
    assert kept
    seen: list[int] = []
    run = cristae.advise(project, options=Options(progress=lambda task: lambda done, total, **facts: seen.append(done)))
    assert seen[0] == len(kept) + 1
    for name in ("advice.csv", "boxes.csv", "tasks.md"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes()


@pytest.mark.parametrize("options", [Options(executor="threads:3"), Options(max_ram_gb=1e-5)])
def test_workers_and_slabs_change_nothing(project, whole, options):
    run = cristae.advise(project, options=options)
    assert (run.path / "advice.csv").read_bytes() == (whole.path / "advice.csv").read_bytes()


def test_a_finished_advice_is_skipped_until_labels_change(project):
    said: list[str] = []
    run = cristae.advise(project)
    assert cristae.advise(project, options=Options(notify=said.append)) == run and "nothing to do" in said[0]
    ended = run.manifest["ended"]
    cristae.advise(project, options=Options(force=True))
    assert run.manifest["ended"] > ended
    first = run.manifest["slices"][0]
    for name in ("disc", "dot"):
        project.annotations.write_slice(name, first, project.annotations.read_slice(name, 2))
    assert {one.stage: one.condition for one in cristae.status(project)}["advise"] == "stale"
    assert first not in set(_table(cristae.advise(project))["z"])


def test_nothing_left_to_advise(build, tmp_path):
    project = build(tmp_path / "all", labelled=range(6))
    with pytest.raises(DataError, match="labelled already"):
        cristae.advise(project)
    assert not project.runs("advise")


def test_of_a_deep_stack_some_slices_stand_for_others():
    items = _representatives([7, 5000], [z for z in range(10_000) if z not in (7, 5000)])
    assert len(items) == MOST_SLICES and {7, 5000} <= set(items) and np.diff(items).max() <= 11
    weights = np.random.default_rng(0).random(10_000)
    gathered = _gathered(weights, items)
    assert gathered.sum() == pytest.approx(weights.sum()) and len(gathered) == len(items)
    assert np.array_equal(_gathered(weights, np.arange(10_000)), weights)


def test_the_command(project):
    found = CliRunner().invoke(cli, ["advise", str(project.path), "--n", "2", "--quiet"])
    assert found.exit_code == 0 and "  1. slice " in found.output and "tasks.md" in found.output
    as_json = CliRunner().invoke(cli, ["advise", str(project.path), "--n", "2", "--quiet", "--json"])
    assert len(json.loads(as_json.output)["slices"]) == 2


def test_two_networks_that_differ_are_doubt(project):
    predicted = project.latest("predict")
    path = predicted.path / "dot_disagreement.ome.zarr"
    shutil.copytree(predicted.path / "dot.ome.zarr", path)
    layer = open_volume(path, mode="r+")
    values = np.zeros(SHAPE, np.uint8)
    values[15:17] = 255
    layer.write(layer.grid.box, values)
    before = _table(cristae.advise(project, trust=1.0)).set_index("z")["doubt"]
    predicted.update(disagreement=["dot_disagreement"], ended=predicted.manifest["ended"] + 1)
    after = _table(cristae.advise(project, trust=1.0))
    doubt = after.set_index("z")["doubt"]
    assert doubt[[15, 16]].min() > 1.5 * doubt.drop([15, 16]).max()
    assert before[[15, 16]].max() < 1.5 * before.drop([15, 16]).max()
    assert after["z"][0] in (15, 16)
