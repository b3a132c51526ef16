"""Plans of projects and of volumes that there are not yet."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

import cristae
from cristae.costs.pace import Rates
from cristae.costs.work import Machine
from cristae.errors import DataError, UsageError
from cristae.stages import planning
from cristae.stages.options import Options
from cristae.stages.planning import PLANNED, Plan, duration, peak_disk
from cristae.stages.speed import measure_rates
from cristae.stages.train_settings import TrainSettings

SMALL = {"base_width": 2, "tile_px": 32, "context_nm": 256.0, "device": "cpu", "updates": 20}
OPTIONAL = ("check", "align", "equalise", "mesh")
ALL = (
    "import", "check", "align", "equalise", "train", "predict", "cells", "track", "objects", "anatomy", "evaluate",
    "measure", "mesh", "report",
)  # fmt: skip


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    """A machine whose rates need not be measured."""

    def rates(train, groups, folder, *, quick_engine):
        return Rates(forward_s=(0.5,) * len(groups), training_s=(1.5,) * len(groups))

    monkeypatch.setattr(planning, "measure_rates", rates)
    monkeypatch.setattr(planning, "this_machine", lambda place: Machine(2, 16e9, 100e9))


def planned(**volume) -> Plan:
    given = {"shape": (64, 600, 400), "voxel_size": (8.0, 8.0, 8.0), "classes": 2} | volume
    return cristae.plan(settings={"train": SMALL}, **given)


def needed(found: Plan) -> list[str]:
    return [cost.stage for cost in found.costs if not cost.optional]


def test_a_volume_that_there_is_not_yet():
    found = planned(cells=True, truth=5)
    assert [cost.stage for cost in found.costs] == list(ALL)
    assert all(cost.ram_bytes > 0 and cost.seconds > 0 and cost.disk_bytes > 0 for cost in found.costs)
    facts = json.loads(json.dumps(found.facts(), allow_nan=False))
    assert [cost.stage for cost in found.costs if cost.optional] == list(OPTIONAL)
    counted = [cost for cost in found.costs if not cost.optional]
    assert facts["total"]["seconds"] == pytest.approx(sum(cost.seconds for cost in counted))
    assert facts["total"]["ram_bytes"] == max(cost.ram_bytes for cost in counted)
    assert facts["total"]["disk_bytes"] == peak_disk(tuple(counted))
    assert facts["shape"] == [64, 600, 400]


def test_stages_without_work_are_left_out():
    assert needed(planned()) == ["import", "train", "predict", "objects", "measure", "report"]
    assert needed(planned(classes=0, cells=True)) == [
        "import", "train", "predict", "cells", "track", "measure", "report",
    ]  # fmt: skip
    assert "mesh" not in {cost.stage for cost in planned(classes=0, cells=False).costs}


def test_the_table_says_what_it_rests_on():
    text = planned(cells=True).table()
    assert "64 × 600 × 400 voxels of 8 × 8 × 8 nm" in text
    assert "These are estimates" in text
    assert "no graphics card" in text
    rows = [line.split()[0] for line in text.splitlines() if line]
    names = [f"({name})" if name in OPTIONAL else name for name in ALL if name != "evaluate"]
    assert [name for name in rows if name in names] == names
    assert "Stages in brackets can be left out; `all` does not count them" in text
    assert all(len(line) <= 200 for line in text.splitlines()[:-1])


def test_a_project_is_planned_as_it_is(small_project):
    found = cristae.plan(small_project, settings={"train": SMALL})
    assert found.grid == small_project.image.grid
    assert needed(found) == ["import", "train", "predict", "objects", "evaluate", "measure", "report"]
    assert found.work.n_labelled == 3
    assert found.work.n_truth == 6
    assert found.work.networks[0].n_maps == 2
    other = cristae.plan(small_project, settings={"train": SMALL}, shape=(60, 640, 640), labelled=9, truth=0)
    assert other.grid.shape == (60, 640, 640)
    assert other.grid.voxel_size == small_project.image.grid.voxel_size
    assert other.work.n_labelled == 9
    assert not {"evaluate", "cells"} & {cost.stage for cost in other.costs}
    assert not list(small_project.path.glob("*plan*")), "nothing is left behind"


def test_what_a_project_has_used_counts(small_project):
    cristae.check(small_project)
    found = cristae.plan(small_project, settings={"train": SMALL})
    assert needed(found)[:3] == ["import", "check", "train"]
    cristae.equalise(small_project)
    found = cristae.plan(small_project, settings={"train": SMALL})
    assert needed(found)[:4] == ["import", "check", "equalise", "train"]
    assert [cost.stage for cost in found.costs if cost.optional] == ["align", "mesh"]
    cristae.use_image(small_project, "raw")
    assert "equalise" not in needed(cristae.plan(small_project, settings={"train": SMALL}))


def test_meshes_are_planned_at_the_level_that_is_meshed():
    def cost(**changes):
        found = cristae.plan(shape=(600, 3000, 3000), settings={"train": SMALL, "mesh": changes})
        return found.work.meshing.shape, next(one for one in found.costs if one.stage == "mesh")

    shape, usual = cost()
    assert shape == (150, 750, 750), "the finest level of at most 2^28 voxels"
    assert cost(level=1)[0] == (300, 1500, 1500)
    assert cost(level=1)[1].seconds > 4 * (usual.seconds - 6)
    assert cost(level=99)[0] == (75, 375, 375)
    assert cost(source="truth")[0] == (600, 3000, 3000)


def test_a_plan_follows_what_was_trained(small_project, tiny):
    cristae.train(small_project, **{**tiny, "updates": 1})
    found = cristae.plan(small_project)
    assert found.work.training.updates == 1
    assert found.work.training.tile_px == 32


def test_settings_change_a_plan():
    def cost(stage, **changes):
        found = cristae.plan(shape=(64, 6000, 4000), settings=changes)
        return next(one for one in found.costs if one.stage == stage)

    plain = cost("train", train=SMALL)
    assert cost("train", train={**SMALL, "updates": 40}).seconds > 1.5 * plain.seconds - 10
    assert cost("train", train={**SMALL, "base_width": 32, "batch": 256}).ram_bytes > plain.ram_bytes
    once, four = (cost("predict", train=SMALL, predict={"views": n}) for n in (1, 4))
    assert four.seconds > once.seconds
    little = cost("predict", train=SMALL, predict={"max_ram_gb": 0.2})
    assert little.ram_bytes < once.ram_bytes


def test_limits_are_planned_for():
    free = planned()
    limited = cristae.plan(
        settings={"train": SMALL}, shape=(64, 6000, 4000), options=Options(max_ram_gb=2.5, executor="threads:4")
    )
    assert all(cost.ram_bytes <= 2.5 * 2**30 for cost in limited.costs), limited.table()
    assert not limited.problems
    hopeless = cristae.plan(settings={"train": SMALL}, shape=(64, 600, 400), options=Options(max_ram_gb=0.1))
    assert len(hopeless.problems) == len(hopeless.costs)
    assert "cannot keep --max-ram 0.1" in hopeless.problems[0]
    assert not free.problems


def test_what_does_not_fit_is_said(monkeypatch):
    monkeypatch.setattr(planning, "this_machine", lambda place: Machine(2, 1e9, 1e7, "card", 1e8))
    text = planned(shape=(64, 3000, 3000)).table()
    assert "more memory than there is" in text
    assert "the disk is too full" in text


def test_the_disk_is_at_its_fullest_while_a_stage_works():
    cost = planned().costs[0]
    one, two = replace(cost, disk_bytes=10, scratch_bytes=100), replace(cost, disk_bytes=20, scratch_bytes=0)
    assert peak_disk((one, two)) == 110
    assert peak_disk((two, one)) == 130


def test_bad_questions_are_answered(tmp_path, small_project):
    with pytest.raises(UsageError, match="--shape"):
        cristae.plan()
    with pytest.raises(UsageError, match="'track' do not change a plan"):
        cristae.plan(small_project, settings={"track": {}})
    with pytest.raises(UsageError, match="unknown network"):
        cristae.plan(shape=(9, 99, 99), settings={"train": {"network": "nothing"}})
    with pytest.raises(DataError, match="no image yet"):
        cristae.plan(cristae.init(tmp_path / "empty", voxel_size=(4, 4, 4)))
    with pytest.raises(UsageError, match="bits"):
        cristae.plan(shape=(9, 99, 99), bits=12)
    with pytest.raises(UsageError, match="voxel"):
        cristae.plan(shape=(9, 99, 99), voxel_size=(0.0, 4.0, 4.0))
    assert set(PLANNED) == {"train", "predict", "cells", "measure", "mesh"}


def test_times_in_words():
    assert [duration(s) for s in (3.21, 80, 100, 4000, 9000, 2e5)] == [
        "3.2 s", "80 s", "1.7 min", "67 min", "2.5 h", "2.3 d",
    ]  # fmt: skip


def test_rates_of_this_machine_are_measured(tmp_path):
    found = measure_rates(TrainSettings(**SMALL), (2, 1), tmp_path, quick_engine=False)
    assert len(found.forward_s) == len(found.training_s) == 2
    assert all(rate > 0 for rate in (*found.forward_s, *found.training_s, found.read_s, found.write_s, found.speed))
    assert found.training_s[0] > found.forward_s[0]
    assert not list(tmp_path.iterdir())


def test_help_needs_no_network():
    code = (
        "import sys\nfrom cristae.cli import cli\n"
        "try:\n    cli(['plan', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'pandas', 'numba', 'cristae.stages.planning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
