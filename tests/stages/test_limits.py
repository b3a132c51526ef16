"""``--max-ram``: what comes out is the same, and what cannot keep it says so before it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from cell_projects import QUICK, cell_project, three_cells

import cristae
from cristae.costs.memory import MEMORY
from cristae.costs.steps import BASE
from cristae.costs.work import Network, Work
from cristae.errors import ResourceError, UsageError
from cristae.io.ome_zarr import open_volume
from cristae.stages.cells_settings import CellsSettings
from cristae.stages.limits import within_limit
from cristae.stages.options import Options
from cristae.stages.predict import PredictSettings

LITTLE = Options(max_ram_gb=0.05)
ENOUGH = Options(max_ram_gb=8.0)
BIG = Work((64, 6000, 4000), cells=True, longest_gap=9, networks=(Network(5, reduction=4),), workers=8)


def contents(run):
    return {path.name: open_volume(path).read() for path in sorted(run.path.glob("*.ome.zarr"))}


def same(one, other):
    found, expected = contents(one), contents(other)
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)


@pytest.fixture(scope="module")
def done(tmp_path_factory, build, tiny):
    """A project with a prediction, objects and measurements."""
    project = build(tmp_path_factory.mktemp("limits") / "done")
    cristae.train(project, **tiny)
    cristae.predict(project)
    cristae.objects(project, smallest_um3=0)
    cristae.measure(project, families=("shape",))
    return project


STAGES = {
    "train": lambda project, options: cristae.train(project, options=options, base_width=2),
    "predict": lambda project, options: cristae.predict(project, options=options, threshold=0.4),
    "objects": lambda project, options: cristae.objects(project, options=options, connectivity=6),
    "evaluate": lambda project, options: cristae.evaluate(project, options=options, tolerance_nm=9.0),
    "measure": lambda project, options: cristae.measure(project, options=options, families=("holes",)),
}


def test_cross_validation_refuses_too(done):
    with pytest.raises(ResourceError, match="train needs about"):
        cristae.cross_validate(done, options=LITTLE)


@pytest.mark.parametrize("stage", STAGES)
def test_what_cannot_keep_it_says_so_before_it_begins(done, stage):
    before = {path.name for path in (done.path / "runs").iterdir()}
    with pytest.raises(
        ResourceError, match=rf"{stage} needs about .* GB of memory here .* --max-ram is 0\.05 GB"
    ) as caught:
        STAGES[stage](done, LITTLE)
    assert "or " in str(caught.value)
    assert caught.value.exit_code == 4
    assert {path.name for path in (done.path / "runs").iterdir()} == before


def test_a_finished_run_needs_no_memory(done):
    assert cristae.predict(done, options=LITTLE).finished


def test_import_report_and_whole_runs_refuse_too(done, tmp_path, tiny):
    other = cristae.init(tmp_path / "other", voxel_size=(40.0, 8.0, 8.0))
    with pytest.raises(ResourceError, match="import needs about"):
        cristae.import_image(other, done.image_path, options=LITTLE)
    assert not other.has_image
    assert not (other.path / ".importing").exists()
    with pytest.raises(ResourceError, match="report needs about"):
        cristae.write_report(done, options=LITTLE)
    n_runs = len(done.runs())
    with pytest.raises(ResourceError, match="train needs about"):
        cristae.run(done, options=LITTLE, settings={"train": {**tiny, "seed": 5}})
    assert len(done.runs()) == n_runs


def test_it_is_no_part_of_a_run(done):
    for stage in (cristae.predict, cristae.measure):
        settings = {"families": ("shape",)} if stage is cristae.measure else {}
        plain = stage(done, **settings)
        assert stage(done, options=ENOUGH, **settings).id == plain.id
        assert stage(done, max_ram_gb=1.0, **settings).id == plain.id


@pytest.mark.parametrize("executor", ["serial", "threads:3"])
def test_what_comes_out_is_the_same(done, build, tmp_path, tiny, executor):
    limited = build(tmp_path / "limited")
    options = Options(executor=executor, max_ram_gb=0.9)
    cristae.train(limited, **tiny)
    assert same(cristae.predict(limited, options=options), cristae.predict(done))
    assert same(cristae.objects(limited, options=options, smallest_um3=0), cristae.objects(done, smallest_um3=0))


def test_cells_do_not_depend_on_memory_or_workers(tmp_path):
    project = cell_project(tmp_path / "cells", three_cells(), (0, 4, 8))
    how = {**QUICK, "method": "paths", "growth_gb": 5e-4}
    plain = cristae.cells(project, **how)
    expected = contents(plain)
    for options, ram in ((Options(True, "threads:3"), 0.001), (Options(True, "threads:2", max_ram_gb=4), 2.0)):
        again = cristae.cells(project, options=options, max_ram_gb=ram, **how)
        assert again.id == plain.id
        assert all(np.array_equal(values, expected[name]) for name, values in contents(again).items())
    finer = cristae.cells(project, **{**how, "growth_gb": 4.0})
    assert finer.id != plain.id, "the resolution at which cells grow is part of what comes out"


def test_fewer_workers_and_smaller_blocks_keep_it():
    options = Options(executor="threads:8", max_ram_gb=3.0)
    settings, fewer = within_limit("predict", BIG, PredictSettings(), options)
    assert settings.max_ram_gb < PredictSettings().max_ram_gb
    assert int(fewer.executor.partition(":")[2]) < 8
    assert settings.model_copy(update={"max_ram_gb": 4.0}) == PredictSettings()
    cells, _ = within_limit("cells", BIG, CellsSettings(), Options(max_ram_gb=8.0))
    assert MEMORY["cells"](BIG).peak(cells.max_ram_gb * 2**30, 1)[0] <= 8.0 * 2**30


def test_the_serial_executor_becomes_one_thread_where_three_blocks_are_too_many():
    work = replace(BIG, workers=0)
    limit = (MEMORY["objects"](work).peak(0, 2)[0] - 1) / 2**30
    _, options = within_limit("objects", work, PredictSettings(), Options(max_ram_gb=limit))
    assert options.executor == "threads:1"


def test_a_cluster_is_left_alone():
    @dataclass(frozen=True)
    class Cluster(Options):
        def __post_init__(self):
            """Accept any executor."""

    options = Cluster(executor="dask:tcp://host:1", max_ram_gb=3.0)
    assert within_limit("objects", BIG, PredictSettings(), options)[1].executor == "dask:tcp://host:1"


def test_a_limit_is_a_number_above_0():
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="--max-ram"):
            Options(max_ram_gb=wrong)
    assert BASE < 1e9
