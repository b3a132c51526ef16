"""`cristae compare`: what it writes, when it does nothing, and what it refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import cristae
from cristae.errors import DataError, UsageError
from cristae.project import Project
from cristae.stages.compare import CompareSettings, compare
from cristae.stages.options import Options
from measured_projects import Settings, measured_objects, measured_project

QUICK = CompareSettings(n_permutations=1999)


@pytest.fixture
def two(tmp_path):
    return [
        measured_project(tmp_path, name, measured_objects(name, seed, shift, few=True))
        for seed, (name, shift) in enumerate({"PTT": 6.0, "Bx2": 0.0}.items())
    ]


def heard(said):
    return Options(notify=said.append)


def test_tables_and_words(two, tmp_path):
    out = compare(two, tmp_path / "out", settings=QUICK)
    pairs = pd.read_parquet(out / "comparison.parquet")
    assert list(pairs.columns[:5]) == ["class", "feature", "unit", "group_a", "group_b"]
    row = pairs.set_index(["class", "feature"]).loc[("nucleus", "solidity")]
    assert (row["higher"], row["group_a"], row["group_b"], bool(row["exploratory"])) == ("PTT", "PTT", "Bx2", True)
    assert row["cliffs_delta"] > 0.9
    assert pairs.loc[pairs["feature"] == "volume_um3", "unit"].eq("µm³").all()
    assert pd.read_csv(out / "comparison.csv")["p"].to_numpy() == pytest.approx(pairs["p"].to_numpy(), nan_ok=True)
    assert len(pd.read_csv(out / "groups.csv")) == 2 * len(pairs)
    assert not (out / "overall.csv").exists(), "two groups are one pair"
    text = (out / "comparison.md").read_text()
    assert "nucleus, solidity: higher in PTT than in Bx2 (median 1" in text
    assert "not independent replicates" in text
    objects = pd.read_parquet(out / "objects.parquet")
    assert len(objects) == len(measured_objects("PTT", few=True)) * 2


def test_done_once_and_again_when_anything_differs(two, tmp_path):
    said, out = [], tmp_path / "out"
    compare(two, out, settings=QUICK, options=heard(said))
    before = (out / "manifest.json").read_text()
    (out / "index.html").write_text("the page")
    compare(two, out, settings=QUICK, options=heard(said))
    assert "nothing to do" in said[-1]
    assert (out / "manifest.json").read_text() == before
    assert (out / "index.html").exists()
    compare(two, out, settings=CompareSettings(n_permutations=99), options=heard(said))
    assert not (out / "index.html").exists(), "the page of another comparison is gone"
    first = pd.read_parquet(out / "comparison.parquet")
    compare(two, out, settings=CompareSettings(n_permutations=99), options=Options(force=True))
    pd.testing.assert_frame_equal(first, pd.read_parquet(out / "comparison.parquet"))


def test_one_that_was_killed_is_done_again(two, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("cristae.stages.compare.markdown", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compare(two, out, settings=QUICK)
    assert (out / "comparison.csv").exists()
    compare(two, out, settings=QUICK)
    assert json.loads((out / "manifest.json").read_text())["id"]


def test_groups_of_several_projects_permute_samples(tmp_path):
    projects = {
        name: measured_project(tmp_path, name, measured_objects(name, seed, 8.0 * (seed > 3), few=True))
        for seed, name in enumerate("abcdefgh")
    }
    groups = {"old": [projects[name] for name in "abcd"], "new": [projects[name] for name in "efgh"]}
    out = compare(list(projects.values()), tmp_path / "out", groups, QUICK)
    pairs = pd.read_parquet(out / "comparison.parquet").set_index(["class", "feature"])
    assert (pairs["level"] == "samples").all()
    assert pairs.loc[("nucleus", "solidity"), "p"] == pytest.approx(2 / 70)
    text = (out / "comparison.md").read_text()
    assert "- **old**: a, b, c, d" in text
    assert "Whole samples were permuted" in text
    assert "no p can be below 0.029" in text
    first = text.split("Largest effects, none of which stays after correction\n\n")[1].splitlines()[:2]
    assert all(f"{at}. nucleus, " in line for at, line in enumerate(first, 1))
    assert any("solidity: higher in new than in old" in line for line in first)


def test_three_projects_have_an_overall_table(two, tmp_path):
    three = [*two, measured_project(tmp_path, "Bx4", measured_objects("Bx4", 5, few=True))]
    out = compare(three, tmp_path / "out", settings=QUICK)
    overall = pd.read_csv(out / "overall.csv")
    assert set(overall["test"]) == {"F"}
    assert overall.set_index(["class", "feature"]).loc[("nucleus", "solidity"), "p"] < 0.05


def test_choices_of_classes_features_and_whole_objects(two, tmp_path):
    some = CompareSettings(n_permutations=99, classes=("nucleus",), features=("solidity", "glcm_contrast"))
    out = compare(two, tmp_path / "some", settings=some)
    pairs = pd.read_parquet(out / "comparison.parquet")
    assert list(zip(pairs["class"], pairs["feature"], strict=True)) == [
        ("nucleus", "solidity"),
        ("nucleus", "glcm_contrast"),
    ]
    whole = compare(two, tmp_path / "whole", settings=some.model_copy(update={"whole_objects_only": True}))
    assert not pd.read_parquet(whole / "objects.parquet")["touches_edge"].any()
    assert "left out" in (whole / "comparison.md").read_text()


def test_what_makes_samples_hard_to_compare_is_told(tmp_path):
    one = measured_project(tmp_path, "one", settings=Settings(bins=32))
    other = measured_project(tmp_path, "other", measured_objects("other", few=True), Settings(bins=64))
    content = (other.path / "project.toml").read_text()
    (other.path / "project.toml").write_text(content.replace("10.0", "20.0"))
    shutil.rmtree(one.image_path)
    measured = measured_project(tmp_path, "stale", measured_objects("stale", 2, few=True), inputs={"image": "older"})
    text = (compare([one, other, measured], tmp_path / "out", settings=QUICK) / "comparison.md").read_text()
    assert "stale: it has changed since it was measured" in text
    assert "one: it has changed" not in text
    assert "Voxel sizes differ (one 10 × 5 × 5, other 20 × 5 × 5" in text
    assert "different settings (bins: 32, 64)" in text


def test_projects_that_cannot_be_compared(two, tmp_path):
    out = tmp_path / "out"
    bare = Project.create(tmp_path / "bare", (1.0, 1.0, 1.0))
    with pytest.raises(DataError, match="has no measurements; run: cristae measure"):
        compare([two[0], bare], out)
    with pytest.raises(UsageError, match="at least two projects"):
        compare(two[:1], out)
    with pytest.raises(UsageError, match="PTT is given twice"):
        compare([two[0], two[0]], out)
    (tmp_path / "elsewhere").mkdir()
    twin = measured_project(tmp_path / "elsewhere", "PTT")
    with pytest.raises(DataError, match="both measured a sample called 'PTT'"):
        compare([two[0], twin], out)
    other = measured_project(tmp_path, "plant", measured_objects("plant", numbers={"chloroplast": 4}, few=True))
    with pytest.raises(DataError, match=r"no class has objects in two groups \(PTT: cell.*plant: chloroplast\)"):
        compare([two[0], other], out)
    empty = measured_project(tmp_path, "empty", measured_objects("empty", numbers={}))
    with pytest.raises(DataError, match="no class has objects in two groups"):
        compare([two[0], empty], out)
    assert not out.exists(), "nothing is left behind"


def test_groups_that_cannot_be(two, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="Bx2: in no group"):
        compare(two, out, {"a": [two[0]], "b": [measured_project(tmp_path, "more")]})
    with pytest.raises(UsageError, match="found PTT more often"):
        compare(two, out, {"a": two[:1], "b": two})
    with pytest.raises(UsageError, match="there are none in b"):
        compare(two, out, {"a": two, "b": []})
    with pytest.raises(UsageError, match=r"got a$"):
        compare(two, out, {"a": two})


def test_projects_named_in_groups_need_no_other_mention(two, tmp_path):
    out = compare([], tmp_path / "out", {"a": two[:1], "b": two[1:]}, QUICK)
    assert set(pd.read_parquet(out / "objects.parquet")["sample_id"]) == {"PTT", "Bx2"}


def test_unknown_classes_and_features(two, tmp_path):
    with pytest.raises(UsageError, match=r"unknown class golgi; there are cell, .*nucleus"):
        compare(two, tmp_path / "out", settings=CompareSettings(classes=("golgi",)))
    with pytest.raises(UsageError, match=r"unknown feature weight; there are .*solidity"):
        compare(two, tmp_path / "out", settings=CompareSettings(features=("weight",)))


def test_folders_of_something_else_are_left_alone(two, tmp_path):
    with pytest.raises(UsageError, match="something else than a comparison"):
        compare(two, two[0].path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        compare(two, tmp_path / "file")


def test_damaged_tables_are_named(two, tmp_path):
    path = two[0].latest("measure").path / "objects.parquet"
    path.write_bytes(b"not a table")
    with pytest.raises(DataError, match=r"objects.parquet cannot be read .*measure again"):
        compare(two, tmp_path / "out")
    path.unlink()
    with pytest.raises(DataError, match=r"objects.parquet is missing"):
        compare(two, tmp_path / "out")
    pd.DataFrame({"class": ["a"], "object_id": [1]}).to_parquet(path)
    with pytest.raises(DataError, match="has no column n_voxels"):
        compare(two, tmp_path / "out")
    table = measured_objects("PTT", few=True)
    table.loc[0, "sample_id"] = "another"
    table.to_parquet(path)
    with pytest.raises(DataError, match="of several samples"):
        compare(two, tmp_path / "out")


def test_from_python_by_folder_and_name(two, tmp_path):
    page = cristae.compare(
        [project.path for project in two],
        tmp_path / "out",
        groups={"treated": [two[0].path], "control": [two[1]]},
        n_permutations=99,
        features=["solidity"],
    )
    assert page == tmp_path / "out" / "index.html"
    assert set(pd.read_csv(tmp_path / "out" / "comparison.csv")["group_a"]) == {"treated"}
    before = page.stat().st_mtime_ns
    cristae.compare([two[0], two[1]], tmp_path / "out", n_permutations=99, features=["solidity"])
    assert page.stat().st_mtime_ns != before, "other groups, another page"
    assert np.isfinite(pd.read_csv(tmp_path / "out" / "comparison.csv")["p"]).any()
