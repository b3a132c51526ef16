"""Studies of networks on a volume so small that a training takes a tenth of a second; the tables by hand."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import cristae
from cristae.annotations import IGNORE
from cristae.cli import cli, main
from cristae.errors import CristaeError, DataError, ResourceError, UsageError
from cristae.executors import Crew
from cristae.report.build import build_report
from cristae.stages import study_networks as stage
from cristae.stages import study_pace, study_trial, study_workers
from cristae.stages.options import Options
from cristae.stages.predict_slices import stretches
from cristae.stages.status import status
from cristae.stages.study_grid import Pool, choose_slices, numbers_of_slices
from cristae.stages.study_pace import Pace
from cristae.stages.study_tables import average_ranks, markdown, methods_table, summary
from cristae.stages.study_words import Gain, answer
from cristae.stages.train_settings import TrainSettings, train_settings

TRAIN = {"updates": 3, "base_width": 2, "batch": 2, "tile_px": 32, "context_nm": 256.0, "device": "cpu"}
SETTINGS = {"networks": ("resunet",), "schemes": ("supervised", "cps"), "slices": (1, 2), "repeats": 2}
ONE = {"schemes": ("supervised",), "slices": (1,), "repeats": 1}
CLOCK = ["training_seconds"]


def study(project, *, options=None, train=None, **settings):
    return cristae.study_networks(project, options=options, train=TRAIN | (train or {}), **SETTINGS | settings)


def tables(run) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_parquet(run.path / "study.parquet").drop(columns=CLOCK), pd.read_parquet(run.path / "slices.parquet")


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def studied(build, tmp_path_factory):
    project = build(tmp_path_factory.mktemp("study") / "p", truth=False)
    told: list[str] = []
    return project, study(project, options=Options(notify=told.append)), told


def test_the_table_is_complete(studied) -> None:
    project, run, told = studied
    table, slices = tables(run)
    kinds = {(s, n, r, c) for s in ("supervised", "cps") for n in (1, 2) for r in (0, 1) for c in ("disc", "dot")}
    assert set(table[["scheme", "n_slices", "repeat", "class"]].itertuples(index=False, name=None)) == kinds
    assert len(table) == len(kinds) and table["dice_3d"].between(0, 1).all() and (table["updates"] == 3).all()
    assert (table["failed"] == "").all() and table["worst_dice"].notna().all()
    twice = table.groupby("scheme")["n_parameters"].max()
    assert twice["cps"] == 2 * twice["supervised"]
    assert set(table.loc[table["n_slices"] == 2, "slices"]) == {"0 5"}  # the ends
    for trial, rows in slices.groupby("trial"):
        shown = {int(z) for z in table.loc[table["trial"] == trial, "slices"].iloc[0].split()}
        assert set(rows["z"]) == {0, 3, 5} - shown and not rows["labelled"].any()
    assert sum("Dice of disc" in one for one in told) == 8
    assert (
        any("no picture in 3D, for there is no truth" in one for one in told) and not (run.path / "shapes.png").exists()
    )
    assert len(run.manifest["sentences"]) == 4 and run.manifest["from_truth"] is False
    assert [one.condition for one in status(project) if one.stage == "study_networks"] == ["done"]
    assert not list(run.path.rglob("*.safetensors"))
    for name in ("curves", "along_z"):
        assert (run.path / f"{name}.png").stat().st_size > 5000 and "<svg" in (run.path / f"{name}.svg").read_text()
    text = (run.path / "study.md").read_text()
    assert text.startswith("**Use resunet, ") and text.count("\nTable ") == 6


def test_the_report_shows_it(studied) -> None:
    project, run, _ = studied
    page = build_report(project).read_text()
    assert 'id="networks"' in page and run.manifest["sentences"][0] in page and "study again" not in page
    assert "3D Dice of dot, mean ± sd over repeats" in page


def test_killed_after_each_trial_it_comes_to_the_same_end(studied, build, tmp_path) -> None:
    few = {"slices": (2,)}
    whole = study(studied[0], **few)  # takes over what is finished there
    project = build(tmp_path / "killed", truth=False)

    def kill(task: str):
        def advance(done: int, total: int, **facts: float) -> None:
            assert total == 4
            seen.append(done)
            raise Killed

        return advance

    seen: list[int] = []
    for _ in range(4):
        with pytest.raises(Killed):
            study(project, **few, options=Options(progress=kill))
    assert seen == [1, 2, 3, 4]
    resumed = study(project, **few, options=Options(progress=kill))
    for one, other in zip(tables(resumed), tables(whole), strict=True):
        pd.testing.assert_frame_equal(one, other)
    shutil.rmtree(whole.path)


def test_a_study_that_is_stopped_has_the_tables_of_what_is_done(studied, build, tmp_path, monkeypatch) -> None:
    expected, per_slice = tables(studied[1])
    project = build(tmp_path / "p", truth=False)
    done: list[int] = []
    do = study_workers.do_trial

    def twice(*work: object) -> None:
        if len(done) == 2:
            raise Killed
        do(*work)
        done.append(1)

    monkeypatch.setattr(study_workers, "do_trial", twice)
    with pytest.raises(Killed):
        study(project)
    (folder,) = project.path.glob("runs/study_networks-*")
    found = pd.read_parquet(folder / "study.parquet")
    assert set(found["trial"]) == {0, 1} and len(pd.read_csv(folder / "study.csv")) == 4
    pd.testing.assert_frame_equal(found.drop(columns=CLOCK), expected[expected["trial"] < 2])
    first = per_slice[per_slice["trial"] < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "slices.parquet"), first)
    assert not list(folder.glob("*.partial")) and not (folder / "study.md").exists()
    # To begin again is to begin with nothing.
    done[:] = [1, 1]
    with pytest.raises(Killed):
        study(project, options=Options(force=True))
    assert not (folder / "study.csv").exists() and not (folder / "study.parquet").exists()


def test_finished_trials_are_taken_over_by_a_larger_study(studied, monkeypatch) -> None:
    project, run, _ = studied
    done: list[int] = []
    do = study_workers.do_trial
    monkeypatch.setattr(study_workers, "do_trial", lambda *one: (done.append(one[1].repeat), do(*one)))
    assert study(project).id == run.id and not done
    larger = study(project, repeats=3, schemes=("supervised",), slices=(1,))
    assert larger.id != run.id and done == [2]
    before, after = (pd.read_csv(one.path / "study.csv") for one in (run, larger))
    both = ["scheme", "n_slices", "repeat", "class"]
    merged = before.drop(columns="trial").merge(after.drop(columns="trial"), on=both, suffixes=("", "_new"))
    assert len(merged) == 4
    assert (merged["training_seconds"] == merged["training_seconds_new"]).all()
    shutil.rmtree(larger.path)


def test_truth_is_scored_where_there_is_one_and_networks_may_stay(build, tmp_path) -> None:
    project = build(tmp_path / "p")
    run = study(project, **ONE, keep_weights=True, options=Options(force=True))
    table, slices = tables(run)
    assert run.manifest["from_truth"] and set(slices["z"]) == {0, 1, 2, 4, 5} and table["slices"][0] == "3"
    assert len(list(run.path.rglob("weights.safetensors"))) == 1
    assert (run.path / "shapes.png").stat().st_size > 5000
    page = build_report(project).read_text()
    assert "Surfaces in 3D: the truth, and what the best method found." in page
    # All labelled slices may be shown: others are left to be scored.
    assert set(tables(study(project, **ONE | {"slices": ()}))[0]["n_slices"]) == {3}
    # Scores are those of a prediction of the whole volume.
    cristae.train(project, **TRAIN, slices=(3,))
    cristae.predict(project)
    scores = cristae.evaluate(project, exclude_labelled=True).manifest["dice_3d"]
    assert dict(zip(table["class"], table["dice_3d"], strict=True)) == pytest.approx(scores)


def dice_on(slices: pd.DataFrame, trial: int, name: str, z: set[int]) -> float:
    """3D Dice of a trial on some slices."""
    rows = slices[(slices["trial"] == trial) & (slices["class"] == name) & slices["z"].isin(z)]
    assert set(rows["z"]) == z
    both = rows["n_truth"].sum() + rows["n_predicted"].sum()
    return 2 * rows["true_positive"].sum() / both


def test_all_are_scored_on_the_slices_that_none_was_shown(build, tmp_path, monkeypatch) -> None:
    project = build(tmp_path / "p")
    few = {"schemes": ("supervised",), "repeats": 1}
    run = study(project, **few)  # shown 3, and 0 and 5
    table, slices = tables(run)
    assert run.manifest["scored"] == "common" and set(table["n_scored_slices"]) == {3}
    assert "3 slices of the truth that no training of the study was shown, the same for all" in run.manifest["notes"][0]
    assert set(slices.loc[slices["scored"], "z"]) == {1, 2, 4}
    assert set(slices.loc[slices["trial"] == 0, "z"]) == {0, 1, 2, 4, 5}  # what else it was not shown is kept
    for _, row in table.iterrows():
        assert row["dice_3d"] == pytest.approx(dice_on(slices, row["trial"], row["class"], {1, 2, 4}))
        assert row["worst_slice"] in {1, 2, 4}
    # What counts is no part of a training: every one is taken over.
    monkeypatch.setattr(study_workers, "do_trial", lambda *one: pytest.fail("trained again"))
    other = study(project, **few, scored="unseen")
    unseen, slices = tables(other)
    assert other.id != run.id and other.manifest["scored"] == "unseen" and slices["scored"].all()
    assert unseen["n_scored_slices"].tolist() == [5, 5, 4, 4]
    for _, row in unseen.iterrows():
        z = set(range(6)) - {int(one) for one in row["slices"].split()}
        assert row["dice_3d"] == pytest.approx(dice_on(slices, row["trial"], row["class"], z))
    assert "the more it was shown, the fewer are scored" in other.manifest["notes"][0]
    assert not any("different slices" in note for one in (run, other) for note in one.manifest["notes"])


def test_a_larger_study_with_fewer_common_slices_takes_over_trainings(build, tmp_path, monkeypatch) -> None:
    project = build(tmp_path / "p")
    few = {"schemes": ("supervised",), "repeats": 1}
    assert set(tables(study(project, **few, slices=(1,)))[0]["n_scored_slices"]) == {5}
    done: list[int] = []
    do = study_workers.do_trial
    monkeypatch.setattr(study_workers, "do_trial", lambda *one: (done.append(len(one[1].slices)), do(*one)))
    assert set(tables(study(project, **few, slices=(1, 2)))[0]["n_scored_slices"]) == {3} and done == [2]


@pytest.mark.parametrize("gone", [(1, 2, 4), (2,)])
def test_where_a_class_is_on_no_common_slice_each_counts_on_what_it_was_not_shown(build, tmp_path, gone) -> None:
    project = build(tmp_path / "p")
    nothing = np.zeros(project.image.shape[1:], np.uint8)
    nobody = np.full_like(nothing, IGNORE)
    project.truth.write_slices("dot", [(z, nothing if z in gone else nobody) for z in (1, 2, 4)])
    told: list[str] = []
    run = study(project, schemes=("supervised",), repeats=1, options=Options(notify=told.append))
    assert run.manifest["scored"] == "unseen" and tables(run)[1]["scored"].all()
    (note,) = [one for one in run.manifest["notes"] if "on different slices" in one]
    assert note.startswith("dot: on no slice that every training could be scored on")
    assert any(note.removesuffix(".") in line for line in told)


def test_a_budget_decides_the_updates_and_is_kept(build, tmp_path) -> None:
    project = build(tmp_path / "p", truth=False)
    with pytest.raises(UsageError, match="too small for one update of resunet by supervised"):
        study(project, **ONE, budget_s=1e-5)
    assert not project.runs("study_networks")

    def kill(task: str):
        raise Killed

    told: list[str] = []
    with pytest.raises(Killed):
        study(project, **ONE, budget_s=0.3, options=Options(notify=told.append, progress=kill))
    with pytest.raises(Killed):
        study(project, **ONE, budget_s=0.3, options=Options(progress=lambda task: _after_one))
    (folder,) = project.path.glob("runs/study_networks-*")
    paces = json.loads((folder / "pace.json").read_text())
    run = study(project, **ONE, budget_s=0.3)
    table, _ = tables(run)
    (pace,) = paces.values()
    assert json.loads((run.path / "pace.json").read_text()) == paces and not (run.path / ".pace").exists()
    assert set(table["updates"]) == {Pace(*pace).updates(0.3, 50)} and "0.3 s" in run.manifest["notes"][1]


def test_the_pace_of_a_pair_counts_the_part_in_which_each_learns_alone(build, tmp_path, monkeypatch) -> None:
    project = build(tmp_path / "p", truth=False)
    training = train_settings(project, {"cps_alone": 0.25})
    bench = SimpleNamespace(settings=lambda trial: training.model_copy(update={"scheme": trial}))
    tried: list[tuple[float, float]] = []

    def pace(_, settings, scratch) -> Pace:
        tried.append((settings.cps_alone, settings.cps_weight))
        return Pace(2.0 if settings.cps_weight == 0 else 6.0, 1.0)

    monkeypatch.setattr(study_pace, "_tried", pace)
    assert study_pace.measure_pace(bench, "cps_cutmix", tmp_path) == Pace(0.25 * 2 + 0.75 * 6, 1.0)
    assert tried == [(0.0, 1.0), (0.25, 0.0)]
    assert study_pace.measure_pace(bench, "supervised", tmp_path) == Pace(6.0, 1.0)


def test_work_beside_takes_nothing_from_the_budget_of_one_thread(monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    now = study_pace._clock(TrainSettings(device="cpu"))
    start = now()
    time.sleep(0.3)
    assert now() - start < 0.15
    by_others = study_pace._clock(TrainSettings(device="cpu", devices=2))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for now in (by_others, study_pace._clock(TrainSettings(device="cpu"))):
        start = now()
        time.sleep(0.3)
        assert now() - start >= 0.3


def test_a_pace_is_measured_by_that_clock(monkeypatch, tmp_path) -> None:
    def learn(project, folder, settings, classes, options) -> None:
        told = options.progress("train")
        for done in range(1, 8):
            time.sleep(0.03)
            told(done, 7)

    monkeypatch.setattr(study_pace, "learn", learn)
    bench, settings = SimpleNamespace(project=None, classes=(), budget_s=9.0), SimpleNamespace(device="cpu", devices=1)
    for threads, waits in ((1, False), (2, True)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        pace = study_pace._tried(bench, settings, tmp_path / str(threads))
        assert (pace.update_s >= 0.025) is waits


def test_the_pace_of_trainings_side_by_side_is_that_of_their_share_of_threads(build, tmp_path, monkeypatch) -> None:
    project, threads = build(tmp_path / "p"), []

    def updates(bench, trials, run, options):
        threads.append(torch.get_num_threads())
        raise Killed

    monkeypatch.setattr(stage, "_updates", updates)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    before = torch.get_num_threads()
    with pytest.raises(Killed):
        study(project, **ONE, budget_s=0.3, options=Options(executor="threads:2"))
    assert threads == [3] and torch.get_num_threads() == before


def _after_one(done: int, total: int, **facts: float) -> None:
    raise Killed


@given(st.floats(1e-4, 10), st.floats(0, 10), st.floats(1e-3, 1000), st.integers(1, 100))
def test_as_many_updates_as_fit_and_no_more(update: float, judgement: float, budget: float, every: int) -> None:
    def takes(n: int) -> float:
        return n * update + -(-n // every) * judgement

    n = Pace(update, judgement).updates(budget, every)
    assert n == 0 or takes(n) <= budget * (1 + 1e-9)
    assert takes(n + every) > budget * (1 - 1e-9)


def test_a_training_that_runs_away_counts_0_and_the_study_goes_on(build, tmp_path, monkeypatch) -> None:
    project = build(tmp_path / "p", truth=False)
    learn = study_trial.learn

    def fails(project, folder, settings, *rest):
        if settings.scheme == "cps":
            raise CristaeError("the loss is no longer a number")
        return learn(project, folder, settings, *rest)

    monkeypatch.setattr(study_trial, "learn", fails)
    run = study(project, **ONE | {"schemes": ("cps", "supervised")})
    table, _ = tables(run)
    assert (table.loc[table["scheme"] == "cps", "dice_3d"] == 0).all() and len(table) == 4
    assert "Use resunet, supervised" in run.manifest["sentences"][0]
    assert any("failed and counts 0: the loss is no longer a number" in note for note in run.manifest["notes"])


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"networks": ("unet",)}, UsageError, "unknown networks unet; there are resunet"),
        ({"schemes": ("teacher",)}, UsageError, "'supervised', 'cps' or 'cps_cutmix'"),
        ({"slices": (3,)}, UsageError, r"3 labelled slices asked for, and there are 3, of which one .*at most 2"),
        ({"classes": ("cell",)}, DataError, "no labels of cell"),
        ({"repeats": 0}, UsageError, "repeats"),
        ({"train": {"slices": (3,)}}, DataError, "at least 2 labelled slices.*there is 1"),
        (
            {"networks": ("resunet", "senformer"), "train": {"tile_px": 16}},
            UsageError,
            "senformer needs .* least 32 px",
        ),
        ({"networks": ("resunet", "ceecnet_v1")}, UsageError, "base width of at least 4"),
        ({"schemes": ("supervised", "cps_cutmix"), "train": {"batch": 1}}, UsageError, "set train.batch to 2 or more"),
        ({"train": {"devices": 3}}, UsageError, "train.devices is 3"),
        ({"networks": ("unetplusplus", "resunet"), "train": {"encoder": "any"}}, UsageError, "resunet takes no pretr"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(studied, monkeypatch, settings, kind, words) -> None:
    project, _, _ = studied
    monkeypatch.setattr(study_workers, "do_trial", lambda *one: pytest.fail("trained"))
    before = len(project.runs())
    with pytest.raises(kind, match=words):
        study(project, **settings)
    assert len(project.runs()) == before


def test_weights_that_some_network_cannot_start_from_are_refused_at_once(studied, tiny) -> None:
    project, _, _ = studied
    begun = cristae.train(project, **tiny | {"updates": 1})
    with pytest.raises(UsageError, match=r"another network: train\.network is 'unetplusplus' here"):
        study(project, networks=("resunet", "unetplusplus"), train={"start": str(begun.path)})


def test_slices_that_are_shown() -> None:
    slices = tuple(range(0, 100, 10))
    every = frozenset(slices)
    pool = Pool(slices, {"a": every, "b": frozenset({30, 50})}, {"a": slices, "b": slices})
    assert pool.most == 9 and numbers_of_slices((), pool) == (7,) and numbers_of_slices((3, 2, 3), pool) == (2, 3)
    few = Pool(slices[:3], {"a": every}, {"a": slices[:3]})
    assert numbers_of_slices((), few) == (2,)
    more = Pool(slices, {"a": every}, {"a": range(100)})
    assert numbers_of_slices((), more) == (7, 10)
    assert choose_slices(more, (1, 2, 4), "even", 2, 0)[4, 1] == (0, 30, 60, 90)
    with pytest.raises(DataError, match=r"b: either none of the slices shown \(z 0, 90\)"):
        choose_slices(pool, (2,), "even", 1, 0)
    drawn = choose_slices(pool, (1, 4), "random", 3, 0)
    for repeat in range(3):
        assert set(drawn[1, repeat]) <= {30, 50} and set(drawn[1, repeat]) <= set(drawn[4, repeat])
    assert len({drawn[4, repeat] for repeat in range(3)}) > 1
    assert drawn == choose_slices(pool, (1, 4), "random", 3, 0)


@given(st.sets(st.integers(0, 200), min_size=1), st.integers(1, 20), st.integers(1, 30))
def test_stretches_hold_every_slice_once(slices: set[int], apart: int, longest: int) -> None:
    found = stretches(sorted(slices), apart, longest)
    assert [z for one in found for z in one] == sorted(slices)
    assert all(one[-1] - one[0] < longest for one in found)


def made_up(dices: dict[tuple[str, str, int], list[float]], network: str = "resunet") -> pd.DataFrame:
    """A table from 3D Dices per repeat of (scheme, class, number of slices)."""
    rows = [
        {"network": network, "scheme": scheme, "context_nm": 3072.0, "class": name, "n_slices": n, "repeat": repeat}
        | {"trial": f"{network} {scheme} {n} {repeat}", "dice_3d": dice, "dice_2d": dice - 0.1, "worst_dice": dice / 2}
        | {"n_parameters": 1000, "updates": 10, "training_seconds": 20.0 if scheme == "cps" else 10.0}
        for (scheme, name, n), values in dices.items()
        for repeat, dice in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_ranks_are_averages_and_ties_share() -> None:
    table = made_up(
        {
            ("supervised", "a", 7): [0.8, 0.6],
            ("cps", "a", 7): [0.9, 0.9],
            ("cps_cutmix", "a", 7): [0.7, 0.7002],
            ("supervised", "a", 15): [0.5, 0.5],
            ("cps", "a", 15): [0.4, 0.4],
            ("cps_cutmix", "a", 15): [0.9, 0.9],
        }
    )
    ranks = average_ranks(table)
    assert dict(ranks) == {"resunet, cps": 2.0, "resunet, cps_cutmix": 1.75, "resunet, supervised": 2.25}
    assert list(methods_table(table)["method"]) == list(ranks.index)
    means = summary(table).set_index(["scheme", "n_slices"])
    assert means.loc[("supervised", 7), "dice_3d"] == pytest.approx(0.7)
    assert means.loc[("supervised", 7), "dice_3d_sd"] == pytest.approx(0.1 * 2**0.5)
    text = markdown(table, ["Words.", "More."], ["A note."])
    assert text.startswith("**Words.**\n\nMore.\n") and text.endswith("- A note.\n")
    assert "| resunet, cps | **0.900 ± 0.000** | 0.400 ± 0.000 |" in text
    assert "| resunet, cps | 1,000 | 10 | 20.0 ± 0.0 |" in text


@pytest.mark.parametrize(("repeats", "t"), [(2, 12.706), (3, 4.303), (5, 2.776), (30, 2.045)])
def test_a_gain_is_sure_beyond_what_the_table_of_student_says(repeats: int, t: float) -> None:
    reach = t * 0.1 / repeats**0.5
    for sign in (1, -1):
        assert Gain(sign * 1.001 * reach, 0.1, repeats).sure
        assert not Gain(sign * 0.999 * reach, 0.1, repeats).sure
    assert not Gain(1.0, float("nan"), 1).sure


def test_words_that_are_sure() -> None:
    table = made_up(
        {
            ("supervised", "a", 5): [0.50, 0.51, 0.52],
            ("supervised", "a", 10): [0.60, 0.61, 0.62],
            ("cps", "a", 5): [0.70, 0.71, 0.72],
            ("cps", "a", 10): [0.80, 0.81, 0.82],
        }
    )
    assert answer(table) == [
        "Use resunet, cps on this volume: 3D Dice 0.760 on average of a from 5 and 10 labelled slices, average rank "
        "1.0 of 2 methods.",
        "That is sure: in 3D Dice it is +0.200 ± 0.000 ahead of the next, resunet, supervised, more than 3 repeats "
        "differ by chance.",
        "Learning from unlabelled slices by cps brings +0.200 ± 0.000 in 3D Dice over learning without (+0.200 with 5, "
        "+0.200 with 10 labelled slices), at 2.0 times the training time: it is worth it.",
        "Twice as many labelled slices bring resunet, cps +0.100 ± 0.008 in 3D Dice, by a fit over 5 and 10 slices: 20 "
        "in place of 10 would bring about +0.100, and less the closer it comes to 1.",
    ]


def test_more_slices_bring_no_more_than_is_left() -> None:
    words = answer(made_up({("cps", "a", 2): [0.49, 0.50, 0.51], ("cps", "a", 4): [0.94, 0.95, 0.96]}))
    assert "bring resunet, cps +0.450 ± " in words[-1]
    assert words[-1].endswith("8 in place of 4 would bring about +0.050, and less the closer it comes to 1.")


def test_words_that_are_not_sure() -> None:
    two = answer(made_up({("supervised", "a", 7): [0.80, 0.70], ("cps", "a", 7): [0.76, 0.79]}))
    assert len(two) == 3
    assert two[1].startswith("That is not sure: against the next, resunet, supervised, it is +0.025 ± 0.092 in 3D Dice")
    assert two[1].endswith("(2 repeats); that one takes 50% of the training time.")
    assert two[2].endswith("no difference that shows.")
    one = answer(made_up({("supervised", "a", 7): [0.80], ("cps", "a", 7): [0.70]}))
    assert "cannot be told from one repeat" in one[1] and "it does harm, if that is no chance" in one[2]
    alone = answer(made_up({("cps", "a", 7): [0.8, 0.9], ("cps", "b", 7): [0.8, 0.9]}))
    assert alone == ["Only resunet, cps was tried: 3D Dice 0.850 on average over a, b from 7 labelled slices."]
    flat = answer(made_up({("cps", "a", n): [0.8, 0.81, 0.79] for n in (2, 4, 8)}))
    assert flat[-1].endswith("by a fit over 2, 4 and 8 slices: more labelled slices bring nothing that shows.")
    few = answer(made_up({("cps", "a", 2): [0.7], ("cps", "a", 4): [0.8]}))
    assert few[-1].endswith("bring resunet, cps +0.100 in 3D Dice, by a fit over 2 and 4 slices, which may be chance.")


def test_words_where_rank_and_mean_disagree() -> None:
    dices = {("cps", name, 7): [0.80, 0.81, 0.82] for name in ("a", "b")}
    dices |= {("supervised", name, 7): [0.79, 0.80, 0.81] for name in ("a", "b")}
    dices |= {("cps", "c", 7): [0.30, 0.31, 0.32], ("supervised", "c", 7): [0.80, 0.81, 0.82]}
    words = answer(made_up(dices))
    assert words[0].startswith("Use resunet, cps on this volume: 3D Dice 0.643")
    assert words[1] == (
        "Rank and mean disagree: resunet, cps has the best average rank, and resunet, supervised the best mean 3D "
        "Dice, +0.160 ± 0.000 ahead, more than 3 repeats differ by chance. The one wins more often, the other by more: "
        "look at the tables of each class."
    )
    once = answer(made_up({kind: values[:1] for kind, values in dices.items()}))
    assert "+0.160 ahead, how sure that is cannot be told from one repeat." in once[1]
    # The best mean may be that of the third by rank.
    both = {("supervised", name, 7): [0.85, 0.86] for name in ("a", "b")} | {("supervised", "c", 7): [0.1, 0.1]}
    both |= {("cps", name, 7): [0.79, 0.80] for name in ("a", "b")} | {("cps", "c", 7): [0.9, 0.9]}
    next_one = {("cps", name, 7): [0.80, 0.81] for name in ("a", "b")} | {("cps", "c", 7): [0.2, 0.2]}
    third = made_up(next_one, network="unet")
    few = answer(pd.concat([made_up(both), third]))
    assert few[0].startswith("Use resunet, supervised") and "and resunet, cps the best mean" in few[1]


def test_a_mean_that_may_be_ahead_by_chance_is_no_disagreement() -> None:
    dices = {("cps", name, 7): [0.80, 0.81, 0.82] for name in ("a", "b")}
    dices |= {("supervised", name, 7): [0.79, 0.80, 0.81] for name in ("a", "b")}
    dices |= {("cps", "c", 7): [0.3, 0.8, 0.4], ("supervised", "c", 7): [0.9, 0.3, 0.9]}
    words = answer(made_up(dices))
    assert words[0].startswith("Use resunet, cps on this volume")
    assert words[1].startswith("That is not sure: against the next, resunet, supervised, it is -0.0")


def test_a_lead_that_is_sure_and_too_small_is_not_called_chance() -> None:
    words = answer(made_up({("supervised", "a", 7): [0.80, 0.80], ("cps", "a", 7): [0.8012, 0.8012]}))
    assert "it is +0.001 ± 0.000 in 3D Dice, too little to matter (2 repeats)" in words[1]


def test_the_command(studied, monkeypatch, capsys) -> None:
    project, run, _ = studied

    def call(*words: object) -> tuple[object, str]:
        changes = [f"train.{name}={value}" for name, value in TRAIN.items()]
        changes += ['study_networks.schemes=["supervised", "cps"]', "study_networks.slices=[1, 2]"]
        changes += ['study_networks.networks=["resunet"]', "study_networks.repeats=2"]
        sets = [one for change in changes for one in ("--set", change)]
        monkeypatch.setattr(sys, "argv", ["cristae", "study", *map(str, words), *sets])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, capsys.readouterr().out

    code, out = call(project.path)
    assert code == 0 and out.startswith("**Use resunet") and str(run.path) in out
    assert json.loads(call("networks", project.path, "--json")[1])["id"] == run.id
    assert json.loads(call("--json", project.path)[1])["id"] == run.id
    assert call(project.path, "--set", "predict.views=4")[0] == 2
    for words in ([], ["--help"]):
        shown = CliRunner().invoke(cli, ["study", *words], prog_name="cristae").output
        assert "Usage: cristae study [OPTIONS] COMMAND" in shown and "networks" in shown and "cells" in shown


class Deadly:
    """Ends the process that unpickles it, as a system does that runs out of memory."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (9,)


def test_a_process_that_is_killed_is_no_traceback() -> None:
    with pytest.raises(ResourceError, match=r"scored are kept.*--executor threads:N"):
        list(study_workers.ended([(Deadly(), None, None, 1)], Crew("threads:1"), torch.device("cpu")))


def test_a_process_that_is_killed_before_all_work_is_handed_out_is_no_traceback_either(monkeypatch) -> None:
    class Pool(ProcessPoolExecutor):
        def submit(self, *work: object) -> Future[None]:
            raise BrokenProcessPool("ended while others began")

    monkeypatch.setattr(study_workers, "ProcessPoolExecutor", Pool)
    with pytest.raises(ResourceError, match="scored are kept"):
        list(study_workers.ended([(None, None, None, 1)], Crew("threads:1"), torch.device("cpu")))


@pytest.mark.parametrize(
    ("device", "n_cards", "cards"), [("cuda", 2, [0, 1, 0]), ("cuda", 4, [0, 1, 2]), ("cpu", 2, [])]
)
def test_processes_side_by_side_share_the_cards(monkeypatch, device, n_cards, cards) -> None:
    taken: list[int] = []
    threads: list[int] = []

    class Pool:
        """Begins three processes in this one, and does nothing."""

        def __init__(self, n: int, context: object, begin, arguments) -> None:
            assert n == 3
            for _ in range(n):
                begin(*arguments)

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(study_workers, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cards)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert not list(study_workers.ended([], Crew("threads:3"), torch.device(device)))
    assert taken == cards and threads == [2] * 3


@pytest.mark.slow
def test_trainings_side_by_side_come_to_the_same(studied, build, tmp_path) -> None:
    _, whole, _ = studied
    project = build(tmp_path / "p", truth=False)
    for one, other in zip(tables(study(project, options=Options(executor="threads:2"))), tables(whole), strict=True):
        pd.testing.assert_frame_equal(one, other)
