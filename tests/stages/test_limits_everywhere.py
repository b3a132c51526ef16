"""``--max-ram`` in stages that prepare a stack, make surfaces and pictures, export, adapt and study."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
from same_outputs import outputs

import cristae
from cristae.costs import surfaces
from cristae.costs.memory import MEMORY, workers_of
from cristae.costs.steps import BASE, Memory, Step
from cristae.costs.surfaces import block_bytes, block_side, mesh_memory
from cristae.costs.work import Meshing, Work
from cristae.errors import ResourceError
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.project import Project
from cristae.stages import mesh as mesh_stage
from cristae.stages.limits import within, within_processes
from cristae.stages.mesh import MeshSettings
from cristae.stages.options import Options
from cristae.stages.survey import survey
from cristae.volume import Volume

GB = 2**30
LITTLE = Options(max_ram_gb=0.05)
SHAPE, SIZE = (40, 160, 144), (16.0, 8.0, 8.0)
TRAIN = {"updates": 3, "base_width": 2, "batch": 2, "tile_px": 32, "context_nm": 256.0, "device": "cpu"}
STUDY = {"networks": ("resunet",), "schemes": ("supervised",), "slices": (1,), "repeats": 1}


def drifting(path) -> Project:
    """A stack of smooth texture, each slice a pixel further to the right than the one before."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.normal(0, 30, (60, 60)), np.ones((4, 4))) + rng.normal(0, 8, (240, 240))
    grey = [np.clip(128 + texture[20:180, 20 + z : 164 + z], 1, 255) for z in range(SHAPE[0])]
    slices = np.stack(grey).astype(np.uint8)
    project = Project.create(path, SIZE)
    image = create_volume(project.raw_path, Grid(SHAPE, SIZE), np.uint8, "image")
    image.write(image.grid.box, slices)
    facts = survey(Volume(slices, image.grid), lambda done, total, **kept: None)
    write_facts(project.raw_path, {**facts, "missing": [], "source_name": "made"})
    return project


def just_enough(stage: str) -> float:
    """Return the GB that a stage needs for the raw stack."""
    return (MEMORY[stage](Work(SHAPE)).least[0] + 1) / GB


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Project:
    return drifting(tmp_path_factory.mktemp("raw") / "p")


@pytest.fixture(scope="module")
def done(tmp_path_factory, build, tiny) -> Project:
    """A project with a prediction and its objects."""
    project = build(tmp_path_factory.mktemp("limits") / "done")
    cristae.train(project, **tiny)
    cristae.predict(project)
    cristae.objects(project, smallest_um3=0)
    return project


def trained_run(project: Project):
    return next((project.path / "runs").glob("train-*"))


@pytest.mark.parametrize("stage", ["check", "align", "equalise"])
def test_preparing_refuses_before_it_begins(raw, stage) -> None:
    with pytest.raises(ResourceError, match=rf"{stage} needs about .* --max-ram is 0\.05 GB; raise it, or "):
        getattr(cristae, stage)(raw, options=LITTLE)
    assert not (raw.path / "runs").exists() or not list((raw.path / "runs").glob(f"{stage}-*"))


def test_other_stages_refuse_before_they_begin(done, tmp_path) -> None:
    before = {path.name for path in (done.path / "runs").iterdir()}
    with pytest.raises(ResourceError, match=r"mesh needs about .*mesh\.level"):
        cristae.mesh(done, options=LITTLE)
    with pytest.raises(ResourceError, match=r"export needs about .*slabs of slices"):
        cristae.export(done, "image", tmp_path / "image.nrrd", options=LITTLE)
    with pytest.raises(ResourceError, match=r"adapt needs about .*adapt\.slices"):
        cristae.adapt(done, trained_run(done), options=LITTLE)
    with pytest.raises(ResourceError, match=r"study networks needs about .*train\.batch"):
        cristae.study_networks(done, options=LITTLE, train=TRAIN, **STUDY)
    assert {path.name for path in (done.path / "runs").iterdir()} == before
    assert not list(tmp_path.iterdir())


def test_pictures_refuse_too(done) -> None:
    cristae.mesh(done)
    with pytest.raises(ResourceError, match=r"render needs about .*render\.samples"):
        cristae.render(done, options=Options(max_ram_gb=1.0), width=4000, height=4000)
    assert not done.runs("render")


@pytest.mark.parametrize("stage", ["align", "equalise"])
def test_slabs_one_at_a_time_give_the_same_image(raw, tmp_path, stage, monkeypatch) -> None:
    copies = []
    told: list[str] = []
    monkeypatch.setitem(MEMORY, stage, lambda work: Memory((Step("a slab", 0, GB),)))
    for name, limit in (("free", None), ("limited", 2.0)):
        copies.append(tmp_path / name)
        shutil.copytree(raw.path, copies[-1])
        options = Options(executor="threads:3", max_ram_gb=limit, notify=told.append)
        getattr(cristae, stage)(copies[-1], options=options)
    assert outputs(copies[0]) == outputs(copies[1])
    one = f"takes up to {BASE / GB + 1:.2f} GB of memory (a slab)"  # of three at a time
    said = [line for line in told if one in line]
    assert len(said) == (2 if stage == "align" else 1)


def test_the_serial_executor_becomes_one_thread() -> None:
    work = Work((64, 6000, 4000))
    limit = (MEMORY["equalise"](work).least[0] + 1) / GB
    asked = (math.inf, workers_of("equalise", work))
    assert within("equalise", MEMORY["equalise"](work), asked, Options(max_ram_gb=limit))[1].executor == "threads:1"


def test_a_canvas_that_grew_too_large_is_refused_and_the_matches_are_kept(raw, tmp_path) -> None:
    folder = tmp_path / "p"
    shutil.copytree(raw.path, folder)
    with pytest.raises(ResourceError, match=r"align needs about .*align\.canvas=raw"):
        cristae.align(folder, options=Options(max_ram_gb=just_enough("align")))
    run = next((folder / "runs").glob("align-*"))
    assert list((run / ".pairs").glob("*.json"))
    again = cristae.align(folder, options=Options(max_ram_gb=2.0))
    assert again.path == run
    assert again.manifest["shape"][2] > SHAPE[2]


def test_smaller_blocks_give_the_same_meshes(done, tmp_path, monkeypatch) -> None:
    plain = cristae.mesh(done, formats=("glb", "ply"))
    copy = tmp_path / "p"
    shutil.copytree(done.path, copy, ignore=shutil.ignore_patterns("mesh-*"))
    sides, cut = [], mesh_stage._cut_pieces

    def noted(volume, folder, todo, *rest):
        sides.append(max(todo[0].write.shape))
        cut(volume, folder, todo, *rest)

    monkeypatch.setattr(mesh_stage, "_cut_pieces", noted)
    monkeypatch.setattr(surfaces, "OBJECT_BYTES", 1)
    shape = (6, 64, 64)
    work = Work(shape, surfaces=Meshing(shape, 256))
    limit = (BASE + 1e8 + block_bytes(work, 32) + 1) / GB
    limited = cristae.mesh(copy, formats=("glb", "ply"), options=Options(max_ram_gb=limit))
    assert set(sides) == {32}
    assert limited.path.name == plain.path.name

    def files(run):
        return {path.name: path.read_bytes() for path in run.path.rglob("*") if path.suffix in (".bin", ".glb", ".ply")}

    assert files(limited) == files(plain)


def test_an_object_that_is_too_large_is_refused_once_it_is_known(done, monkeypatch) -> None:
    monkeypatch.setattr(mesh_stage._Index, "largest", property(lambda index: (7, 10**8)))
    with pytest.raises(ResourceError, match=r"mesh needs about 5\d\.\d GB .*the mesh of disc 7.*mesh\.level"):
        cristae.mesh(done, smoothing=3, options=Options(max_ram_gb=8.0))


def test_the_largest_object_is_counted() -> None:
    rows = np.array([[0, 0, 10, 0, 3], [1, 5, 9, 0, 3], [0, 10, 22, 3, 9]])
    index = mesh_stage._Index(None, np.array([4, 9]), np.array([0, 2, 3]), rows)
    assert index.largest == (4, 14)
    nothing = mesh_stage._Index(None, np.zeros(0, np.int64), np.zeros(1, np.int64), rows[:0])
    assert nothing.largest == (0, 0)


@pytest.mark.parametrize("limit", [1.8, 2.0, 2.5, 3.0, 6.0, 50.0])
def test_blocks_of_a_mesh_keep_a_limit(limit) -> None:
    shape = (600, 600, 600)
    work = Work(shape, workers=4, surfaces=Meshing(shape, 256))
    kept = mesh_memory(work).within(limit * GB, math.inf, 4)
    assert kept is not None
    side = block_side(work, *kept)
    assert 32 <= side <= 256
    assert BASE + 1e8 + kept[1] * block_bytes(work, side) <= limit * GB
    assert side == 256 or limit < 50


TRIAL = Memory((Step("a trial", 1 * GB, 0, 0.5 * GB, 2 * GB),))


@pytest.mark.parametrize(
    ("limit", "executor", "allowed"),
    [(40.0, "threads:4", 2.0), (12.0, "threads:4", None), (5.5, "threads:2", None), (2.5, "serial", None)],
)
def test_processes_share_a_limit(limit, executor, allowed) -> None:
    options = Options(executor="threads:4", max_ram_gb=limit)
    found, kept = within_processes("study networks", TRIAL, 2.0 * GB, options)
    assert kept.executor == executor
    n = 0 if executor == "serial" else int(executor[-1])
    total = BASE + n * (BASE + GB + max(found, 0.5 * GB)) if n else BASE + GB + max(found, 0.5 * GB)
    assert total <= limit * GB * (1 + 1e-9)
    if allowed:
        assert found == allowed * GB


def test_processes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ResourceError, match="study networks needs about 2"):
        within_processes("study networks", TRIAL, GB, Options(max_ram_gb=1.5))
    assert within_processes("study networks", TRIAL, GB, Options()) == (GB, Options())
    assert within_processes("study networks", TRIAL, GB, Options(max_ram_gb=9.0))[1].executor == "serial"


def test_a_limit_changes_no_study_and_no_adaptation(done, tmp_path) -> None:
    options = Options(max_ram_gb=8.0)
    plain = cristae.study_networks(done, train=TRAIN, **STUDY)
    assert cristae.study_networks(done, train=TRAIN, options=options, **STUDY).id == plain.id
    tables = []
    for name, given in (("free", Options()), ("limited", options)):
        copy = tmp_path / name
        shutil.copytree(done.path, copy, ignore=shutil.ignore_patterns("study_*"))
        run = cristae.study_networks(copy, train=TRAIN, options=given, **STUDY)
        tables.append((run.path / "slices.parquet").read_bytes())
        adapted = cristae.adapt(copy, trained_run(done), options=given, slices=2, tiles=4)
        tables[-1] += (adapted.path / "all" / "weights.safetensors").read_bytes()
    assert tables[0] == tables[1]


def test_settings_of_meshing_stay_without_a_limit() -> None:
    settings = MeshSettings()
    assert mesh_stage._keep_memory((9, 9, 9), None, settings, Options()) == (settings, Options())
