from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cristae
from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, n_levels, open_volume, write_facts
from cristae.preprocess.equalise import Tiles, apply_table, clahe, equalising_table, grey_counts, matching_table
from cristae.project import Project
from cristae.stages.align import align
from cristae.stages.equalise import EqualiseSettings, equalise, equalise_settings
from cristae.stages.options import Options
from cristae.stages.prepared import use_image
from cristae.stages.survey import survey
from cristae.volume import Volume

SIZE = (16.0, 8.0, 8.0)
SHAPE = (36, 70, 80)


def jumping(dtype=np.uint8, seed=0) -> np.ndarray:
    """Slices of one tissue in another light each, with a border of padding that wanders."""
    rng, top = np.random.default_rng(seed), np.iinfo(dtype).max
    tissue = np.clip(rng.normal(0.5, 0.12, SHAPE), 0.1, 0.9)
    light = rng.uniform(0.5, 1.0, (SHAPE[0], 1, 1))
    slices = np.clip((tissue * light + rng.uniform(-0.05, 0.1, light.shape)) * top, 1, top).astype(dtype)
    for z, plane in enumerate(slices):
        plane[: z % 7], plane[:, 75:] = 0, 0
    return slices


def project_of(path, slices, missing=()) -> Project:
    project = Project.create(path, SIZE, ("disc",))
    image = create_volume(project.raw_path, Grid(slices.shape, SIZE), slices.dtype, "image")
    image.write(image.grid.box, slices)
    facts = survey(Volume(slices, image.grid), lambda done, total, **kept: None)
    write_facts(project.raw_path, {**facts, "missing": list(missing), "source_name": "made"})
    return project


@pytest.fixture
def project(tmp_path) -> Project:
    return project_of(tmp_path / "bx1", jumping())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_slice_is_equalised_by_itself(tmp_path, dtype):
    slices = jumping(dtype)
    project = project_of(tmp_path / "bx1", slices)
    run = equalise(project)
    expected = np.stack([apply_table(plane, equalising_table(grey_counts(plane))) for plane in slices])
    assert (project.image.read() == expected).all() and project.image.dtype == dtype
    assert (open_volume(project.raw_path).read() == slices).all()
    means = np.array(project.image_facts["slice_mean"])
    assert np.ptp(means) < 0.02 * means.mean() < np.ptp(project.raw_facts["slice_mean"])
    assert project.file.prepared == run.path.name and project.file.aligned is None
    assert n_levels(project.image_path) == n_levels(project.raw_path)


def test_killed_once_the_image_is_in_its_place_it_is_made_again_as_a_whole(project, monkeypatch):
    """What notes the slabs that are done may outlive the image that they were done of."""

    class Killed(BaseException):
        pass

    unlink = Path.unlink

    def killed(path, missing_ok=False):
        if path.name == "slabs" and (path.parent / "image.ome.zarr").exists():
            raise Killed
        unlink(path, missing_ok)

    with monkeypatch.context() as moment:
        moment.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            equalise(project)
    run = equalise(project)
    expected = [apply_table(plane, equalising_table(grey_counts(plane))) for plane in jumping()]
    assert (project.image.read() == np.stack(expected)).all() and not (run.path / "slabs").exists()


@pytest.mark.parametrize("method", ["clahe", "match"])
def test_other_methods_do_what_their_kernels_do(project, method):
    equalise(project, EqualiseSettings(method=method, tile_px=32, reference="5"))
    slices, found = open_volume(project.raw_path).read(), project.image.read()
    if method == "clahe":
        expected = [clahe(plane, Tiles(32, 3.0)) for plane in slices]
    else:
        reference = grey_counts(slices[5])
        expected = [apply_table(plane, matching_table(grey_counts(plane), reference)) for plane in slices]
        assert (found[5] == slices[5]).all()
    assert (found == np.stack(expected)).all()
    assert ((found == 0) == (slices == 0)).all()


def test_the_whole_stack_is_the_reference_unless_one_is_named(project):
    equalise(project, EqualiseSettings(method="match"))
    slices = open_volume(project.raw_path).read()
    pooled = grey_counts(slices)
    assert (project.image.read()[8] == apply_table(slices[8], matching_table(grey_counts(slices[8]), pooled))).all()


def test_slices_are_matched_to_another_volume(project, tmp_path):
    other = project_of(tmp_path / "elsewhere" / "other", np.clip(jumping(seed=3), 0, 120))
    run = equalise(project, EqualiseSettings(method="match", reference=str(other.path)))
    assert project.image.read().max() <= 120
    assert "elsewhere" not in (run.path / "settings.toml").read_text() + (run.path / "manifest.json").read_text()
    again = project_of(tmp_path / "again", jumping())
    direct = equalise(again, EqualiseSettings(method="match", reference=str(other.raw_path)))
    assert direct.id == run.id
    assert again.image_facts["digest"] == project.image_facts["digest"]


def test_workers_do_not_decide_and_a_stopped_run_goes_on(tmp_path):
    whole = project_of(tmp_path / "whole", jumping())
    equalise(whole, options=Options(executor="threads:2"))
    project = project_of(tmp_path / "stopped", jumping())

    class Killed(BaseException):
        pass

    def stopping(task):
        def progress(done, total, **facts):
            if task == "equalise" and done == 2:
                raise Killed

        return progress

    with pytest.raises(Killed):
        equalise(project, options=Options(progress=stopping))
    assert project.file.prepared is None
    heard = []
    told = lambda task: lambda done, total, **facts: heard.append((task, done))  # noqa: E731
    equalise(project, options=Options(progress=told))
    assert ("equalise", 3) in heard and ("equalise", 1) not in heard
    assert (project.image.read() == whole.image.read()).all()
    assert project.image_facts["digest"] == whole.image_facts["digest"]


def test_it_begins_with_the_aligned_image_and_is_undone_step_by_step(tmp_path):
    drifting = np.stack([np.roll(jumping()[0], z % 4, axis=1) for z in range(SHAPE[0])])
    project = project_of(tmp_path / "drifting", drifting)
    aligned = align(project)
    first = equalise(project)
    second = equalise(project, EqualiseSettings(method="clahe"))
    # An equalised image is not equalised once more.
    assert first.manifest["inputs"] == second.manifest["inputs"]
    assert first.manifest["aligned"] == project.file.aligned == aligned.path.name
    use_image(project, aligned.path.name)
    assert project.file.prepared == project.file.aligned == aligned.path.name
    use_image(project, "equalise")
    assert project.file.prepared == second.path.name
    use_image(project, "raw")
    assert (project.file.prepared, project.file.aligned) == (None, None)
    again = equalise(project)
    assert again.manifest["aligned"] == "" and again != first
    use_image(project, first.path.name)
    assert (
        project.file.aligned == aligned.path.name
        and project.image.shape == open_volume(aligned.path / "image.ome.zarr").shape
    )


def test_training_sees_the_equalised_image(small_project, tiny):
    equalise(small_project)
    run = cristae.train(small_project, **tiny)
    assert run.manifest["inputs"]["image"] == small_project.image_facts["digest"]
    assert small_project.image_facts["digest"] != small_project.raw_facts["digest"]
    conditions = {entry.stage: entry.condition for entry in cristae.status(small_project)}
    assert conditions["equalise"] == conditions["train"] == "done"
    use_image(small_project, "raw")
    assert {entry.stage: entry.condition for entry in cristae.status(small_project)}["train"] == "missing"


def test_missing_slices_stay_missing(tmp_path):
    slices = jumping()
    slices[9] = 0
    project = project_of(tmp_path / "lost", slices, missing=(9,))
    equalise(project)
    assert project.image_facts["missing"] == [9] and not project.image.read()[9].any()


def test_what_cannot_be_is_refused(project, tmp_path):
    for wrong, words in (
        ({"reference": "99"}, "no slice 99"),
        ({"reference": str(tmp_path / "nowhere")}, "is no reference"),
    ):
        with pytest.raises((UsageError, DataError), match=words):
            equalise(project, EqualiseSettings(method="match", **wrong))
    wide = project_of(tmp_path / "wide", jumping(np.uint16))
    with pytest.raises(DataError, match="uint16"):
        equalise(project, EqualiseSettings(method="match", reference=str(wide.path)))
    blank = project_of(tmp_path / "blank", np.zeros(SHAPE, np.uint8))
    with pytest.raises(DataError, match="nothing but padding"):
        equalise(blank, EqualiseSettings(method="match"))
    with pytest.raises(DataError, match="import image"):
        equalise(Project.create(tmp_path / "empty", SIZE))
    with pytest.raises(UsageError, match="tile_px"):
        equalise_settings(project, {"tile_px": 2})
    assert equalise_settings(project, {"reference": 5}).reference == "5"
    assert project.file.prepared is None
