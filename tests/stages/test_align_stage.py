from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, rotate, shift

import cristae
from cristae.annotations import IGNORE, IGNORE_ID
from cristae.errors import DataError, ResourceError, UsageError
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, n_levels, open_volume, write_facts
from cristae.preprocess.warp import warp_labels_plane
from cristae.project import Project
from cristae.stages.align import AlignSettings, align, align_settings
from cristae.stages.align_pairs import _Slabs
from cristae.stages.importing import ImportImageSettings, import_image
from cristae.stages.moving_labels import read_transforms
from cristae.stages.options import Options
from cristae.stages.prepared import use_image
from cristae.stages.survey import survey
from cristae.volume import Volume
from cristae.wording import number_ranges

SIZE = (16.0, 8.0, 8.0)
SHAPE = (20, 128, 144)
LABELLED = (3, 11)


def tissue(shape=SHAPE, seed=0) -> np.ndarray:
    """Texture that changes slowly along z, on a canvas larger than a slice by 40 px on each side: float 0–1."""
    depth, height, width = shape
    noise = np.random.default_rng(seed).normal(size=(depth, height + 80, width + 80))
    mixed = gaussian_filter(noise, (2, 1.5, 1.5)) * 3 + gaussian_filter(noise, (3, 5, 5)) * 10
    return np.clip(0.5 + 0.12 * mixed / mixed.std(), 0.02, 1)


def walk_of(n: int, whole: bool = True, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(0, 2, (n, 2))
    walk = np.cumsum(steps, axis=0) - steps[0]
    return np.rint(walk) if whole else walk


def recorded(walk: np.ndarray, shape=SHAPE, dtype=np.uint8, jumps: bool = True, seed: int = 0) -> np.ndarray:
    """What a drifting microscope sees: pixel x of slice z shows the tissue at x + walk[z]."""
    _, height, width = shape
    rng, top = np.random.default_rng(7), np.iinfo(dtype).max
    slices = np.empty(shape, dtype)
    for z, plane in enumerate(tissue(shape, seed)):
        moved = shift(plane, -walk[z], order=3, mode="nearest")[40 : 40 + height, 40 : 40 + width]
        light = (rng.uniform(0.7, 1.1), rng.uniform(-0.1, 0.1)) if jumps else (1, 0)
        slices[z] = np.clip((light[0] * moved + light[1]) * top, 1, top)
    return slices


def project_of(path: Path, slices: np.ndarray, missing=(), size=SIZE) -> Project:
    project = Project.create(path, size, ("disc",))
    slices = slices.copy()
    slices[list(missing)] = 0
    image = create_volume(project.raw_path, Grid(slices.shape, size), slices.dtype, "image")
    image.write(image.grid.box, slices)
    facts = survey(Volume(slices, image.grid), lambda done, total, **kept: None)
    write_facts(project.raw_path, {**facts, "missing": list(missing), "source_name": "made", "first_number": 4})
    return project


def disc(z: int, walk: np.ndarray, shape=SHAPE) -> np.ndarray:
    """A disc that stands upright in the tissue, as it lies on the recorded slice."""
    y, x = np.mgrid[: shape[1], : shape[2]]
    return (((y + walk[z, 0] - 60) ** 2 + (x + walk[z, 1] - 70) ** 2) < 22**2).astype(np.uint8)


WALK = walk_of(SHAPE[0])


@pytest.fixture(scope="session")
def drifted() -> np.ndarray:
    return recorded(WALK)


@pytest.fixture
def project(tmp_path, drifted) -> Project:
    made = project_of(tmp_path / "bx1", drifted)
    made.annotations.write_slices("disc", [(z, disc(z, WALK)) for z in LABELLED])
    made.truth.write_slices("disc", [(z, disc(z, WALK)) for z in range(SHAPE[0])])
    return made


@pytest.fixture(autouse=True)
def _no_picture(request, monkeypatch):
    """Drawing takes longer than aligning so few slices."""
    if "pictures" not in request.node.name:
        monkeypatch.setattr("cristae.stages.align.draw_alignment", lambda *tables: {"svg": b"", "png": b""})


def shifts(run) -> np.ndarray:
    return pd.read_parquet(run.path / "transforms.parquet")[["shift_y_px", "shift_x_px"]].to_numpy()


def error(run, walk) -> np.ndarray:
    """By how far (px) each slice is off, against the middle of all; pixel u of the tissue was recorded at u - walk."""
    found = shifts(run) + walk
    return np.hypot(*(found - np.median(found, axis=0)).T)


def content(folder: Path) -> dict[str, bytes]:
    """All that a run left, but for times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        # How a shard is laid out inside depends on which of its chunks was ready first.
        if path.is_file() and path.name != "manifest.json" and "c" not in path.relative_to(folder).parts:
            found[str(path.relative_to(folder))] = path.read_bytes()
    for image in [folder, *folder.glob("*.ome.zarr"), *folder.glob("labels/*")]:
        if (image / "0").is_dir():
            for level in range(n_levels(image)):
                found[f"{image.name}, level {level}"] = open_volume(image, level).read().tobytes()
    return found


def test_drift_is_found_and_taken_back(project, drifted):
    run = align(project)
    assert error(run, WALK).max() < 0.25
    aligned = project.image
    assert aligned.shape[0] == SHAPE[0] and aligned.shape[1] > SHAPE[1] and aligned.dtype == np.uint8
    # Whole shifts are found to be nearly whole, made so, and copied: grey values are those that were recorded.
    for z, (plane, matrix) in enumerate(zip(aligned.read(), read_transforms(run), strict=True)):
        if (matrix == np.rint(matrix)).all():
            y, x = (-matrix[:, 2]).astype(int)
            assert (plane[y : y + SHAPE[1], x : x + SHAPE[2]] == drifted[z]).all()
            assert (plane > 0).sum() == (drifted[z] > 0).sum()
    assert n_levels(project.image_path) == n_levels(project.raw_path)


def test_the_raw_image_is_never_touched(project):
    before = content(project.raw_path)
    align(project)
    assert content(project.raw_path) == before


def test_what_is_noted_of_the_image_is_what_a_survey_finds(project):
    align(project)
    facts, again = project.image_facts, survey(project.image, lambda done, total, **kept: None)
    assert {key: facts[key] for key in again} == again
    assert facts["first_number"] == 4 and facts["missing"] == []


def test_tables_and_pictures_say_what_was_done(project):
    run = align(project)
    transforms, pairs = (pd.read_parquet(run.path / f"{name}.parquet") for name in ("transforms", "pairs"))
    pd.testing.assert_frame_equal(pd.read_csv(run.path / "transforms.csv"), transforms, check_dtype=False)
    assert np.allclose(transforms["shift_y_nm"], 8 * transforms["shift_y_px"])
    assert len(pairs) == 2 * SHAPE[0] - 3 and (pairs["correlation_after"] > pairs["correlation_before"]).mean() > 0.8
    assert pairs["residual_px"].max() < 0.3 < run.manifest["shift_px_median"]
    assert (run.path / "alignment.svg").read_text().startswith("<?xml")
    assert (run.path / "alignment.png").stat().st_size > 10_000
    # A transform leads from pixels of the aligned slice to those of the raw one.
    z, raw, aligned = 9, open_volume(project.raw_path).read()[9], project.image.read()[9]
    y, x = (read_transforms(run)[z] @ (70, 80, 1)).round().astype(int)
    near = raw[y - 1 : y + 2, x - 1 : x + 2].astype(int)
    assert near.min() - 8 <= int(aligned[70, 80]) <= near.max() + 8


def test_a_still_stack_stays_as_it_is(tmp_path):
    """The same tissue on every slice, other noise: nothing moves, so nothing is interpolated."""
    plane, rng = recorded(np.zeros((1, 2)), (1, 160, 160))[0].astype(float), np.random.default_rng(0)
    still = np.clip([plane + rng.normal(0, 8, plane.shape) for _ in range(12)], 1, 255).astype(np.uint8)
    project = project_of(tmp_path / "still", still)
    assert (shifts(align(project)) == 0).all()
    assert (project.image.read() == still).all()
    assert project.image_facts["digest"] == project.raw_facts["digest"]


def test_an_aligned_stack_is_left_alone(tmp_path):
    project = project_of(tmp_path / "once", recorded(WALK[:12], (12, 256, 256)))
    align(project)
    again = align(project_of(tmp_path / "again", project.image.read()))
    assert np.abs(shifts(again)).max() < 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_shifts_by_parts_of_pixels(tmp_path, dtype):
    walk = walk_of(20, whole=False, seed=3)
    project = project_of(tmp_path / "parts", recorded(walk, dtype=dtype))
    run = align(project)
    assert np.median(error(run, walk)) < 0.15 and error(run, walk).max() < 0.4
    assert project.image.dtype == dtype
    # Aligned, neighbours agree better than they did.
    again = align(project_of(tmp_path / "again", project.image.read()), AlignSettings(canvas="raw"))
    assert again.manifest["shift_px_median"] < 0.15 < 1 < run.manifest["shift_px_median"]


@pytest.mark.parametrize("model", ["rigid", "affine"])
def test_turned_slices_are_turned_back(tmp_path, drifted, model):
    """Slice 10 and all after it are turned by 2 degrees."""
    turned = drifted.copy()
    big = recorded(WALK, (20, 168, 184))
    for z in range(20):
        inner = rotate(big[z], 2.0 if z >= 10 else 0.0, reshape=False, order=3, mode="nearest")
        turned[z] = np.clip(inner[20:-20, 20:-20], 1, 255)
    project = project_of(tmp_path / model, turned)
    run = align(project, AlignSettings(model=model))
    angle = pd.read_parquet(run.path / "transforms.parquet")["turn_degrees"].to_numpy()
    assert abs(abs(angle[10:].mean() - angle[:10].mean()) - 2) < 0.35
    assert project.image.read().any(axis=(1, 2)).all()


def test_lost_and_bad_slices_are_bridged(tmp_path, drifted):
    spoilt = drifted.copy()
    spoilt[14] = np.random.default_rng(0).integers(1, 255, SHAPE[1:])
    spoilt[7] = 0  # which nobody noted when it was imported
    project = project_of(tmp_path / "lost", spoilt, missing=(6,))
    project.set_bad_slices((14,))
    run = align(project)
    good = [z for z in range(20) if z not in (6, 7, 14)]
    assert error(run, WALK)[good].max() < 0.3
    table = pd.read_parquet(run.path / "transforms.parquet")
    assert table["z"][table["bridged"]].tolist() == [6, 7, 14]
    pairs = pd.read_parquet(run.path / "pairs.parquet")
    assert not set(pairs["moving"]) & {6, 7, 14} and ((pairs["moving"] == 8) & (pairs["fixed"] == 5)).any()
    assert not project.image.read()[[6, 7]].any() and project.image_facts["missing"] == [6, 7]


def test_a_slice_that_nobody_called_bad_is_outvoted(tmp_path, drifted):
    spoilt = drifted.copy()
    spoilt[14] = np.random.default_rng(0).integers(1, 255, SHAPE[1:])
    run = align(project_of(tmp_path / "spoilt", spoilt))
    assert error(run, WALK)[[z for z in range(20) if z != 14]].max() < 0.4


def other_tissue(n: int, seed: int = 50) -> np.ndarray:
    """Slices that have nothing in common with the drifting ones, nor with one another."""
    planes = [tissue((1, *SHAPE[1:]), seed=seed + number)[0, 40:-40, 40:-40] for number in range(n)]
    return (255 * np.array(planes)).astype(np.uint8)


@pytest.mark.parametrize("strange", [(10, 11), (10, 11, 12, 13), (0, 18, 19), (15, 16, 17)])
def test_slices_that_nobody_called_bad_and_that_fit_nothing_are_bridged(tmp_path, drifted, strange):
    """The slices after them are matched to those before, so that the drift in between is known.

    Not as well as elsewhere: tissue changes, too.
    """
    spoilt = drifted.copy()
    spoilt[list(strange)] = other_tissue(len(strange))
    heard: list[str] = []
    run = align(project_of(tmp_path / "strange", spoilt), options=Options(notify=heard.append))
    good = [z for z in range(20) if z not in strange]
    found = (shifts(run) + WALK)[good]
    assert np.hypot(*(found - np.median(found, axis=0)).T).max() < 1
    table = pd.read_parquet(run.path / "transforms.parquet")
    assert table["z"][table["bridged"]].tolist() == list(strange)
    assert len(run.manifest["parts"]) == 1 and not any("no match joins" in words for words in heard)
    assert any(f"slices {number_ranges(strange)} lie where those around them say" in words for words in heard)


def test_another_specimen_is_left_where_it_was_recorded_and_named(tmp_path, drifted):
    torn = drifted.copy()
    torn[12:] = recorded(walk_of(8, seed=4), (8, *SHAPE[1:]), seed=9)
    heard: list[str] = []
    run = align(project_of(tmp_path / "torn", torn), options=Options(notify=heard.append))
    found = shifts(run)
    assert np.abs(found[12] - found[11]).max() < 0.05
    for part, walk in ((found[:12], WALK[:12]), (found[12:], walk_of(8, seed=4))):
        left = part + walk
        assert np.hypot(*(left - np.median(left, axis=0)).T).max() < 0.3
    assert run.manifest["parts"] == ["0–11", "12–19"]
    assert sum("no match joins slices 0–11 to slices 12–19" in words for words in heard) == 1
    assert not pd.read_parquet(run.path / "transforms.parquet")["bridged"].any()


def test_a_few_slices_of_another_specimen_are_a_part_of_their_own(tmp_path, drifted):
    """Those that fit one another keep how they lie on one another; the rest is joined over them."""
    torn = drifted.copy()
    torn[8:12] = recorded(np.zeros((4, 2)), (4, *SHAPE[1:]), seed=9)
    run = align(project_of(tmp_path / "torn", torn))
    assert run.manifest["parts"] == ["0–7, 12–19", "8–11"]
    rest = np.r_[0:8, 12:20]
    left = (shifts(run) + WALK)[rest]
    assert np.hypot(*(left - np.median(left, axis=0)).T).max() < 0.3
    assert np.ptp(shifts(run)[8:12], axis=0).max() < 0.3


def test_the_common_area_holds_no_padding(project, drifted):
    run = align(project, AlignSettings(canvas="common"))
    values = project.image.read()
    assert values.all() and values.shape[1] < SHAPE[1] and values.shape[2] < SHAPE[2]
    spread = np.ptp(np.ceil(shifts(run) - 1e-6), axis=0)
    assert (np.abs(np.array(values.shape[1:]) + spread - SHAPE[1:]) <= 1).all()


def test_the_frame_can_be_kept(project):
    align(project, AlignSettings(canvas="raw"))
    assert project.image.shape == SHAPE


def test_whole_shifts_leave_grey_values_alone(tmp_path):
    walk = walk_of(20, whole=False, seed=3)
    slices = recorded(walk)
    project = project_of(tmp_path / "whole", slices)
    run = align(project, AlignSettings(interpolation="whole"))
    assert (shifts(run) == np.rint(shifts(run))).all() and error(run, walk).max() < 1
    for plane, before in zip(project.image.read(), slices, strict=True):
        assert (np.sort(plane[plane > 0]) == np.sort(before.ravel())).all()


def test_slow_movement_can_be_left_in(tmp_path):
    """What leans as a whole cannot be told from drift; who knows better says so."""
    lean = np.stack([np.zeros(20), 1.5 * np.arange(20)], axis=1)
    project = project_of(tmp_path / "lean", recorded(lean))
    stood_up, kept = align(project), align(project, AlignSettings(remove_drift=5))
    assert error(stood_up, lean).max() < 0.4
    assert np.abs(shifts(kept)).max() < 0.4


def test_labels_follow_and_the_raw_ones_stay(project):
    before = project.annotations.fingerprint()
    raw = content(project.path / "annotations.ome.zarr")
    run = align(project)
    matrices = read_transforms(run)
    assert project.annotations.path == project.path / "labels" / run.path.name / "annotations.ome.zarr"
    assert project.annotations.labelled_slices("disc") == LABELLED
    stack = [project.truth.read_slice("disc", z) for z in range(SHAPE[0])]
    for z in LABELLED:
        found = project.annotations.read_slice("disc", z)
        assert (found == warp_labels_plane(disc(z, WALK), matrices[z], found.shape, IGNORE)).all()
        assert (found == stack[z]).all()
        outside = project.image.read()[z] == 0
        assert ((found == IGNORE) == outside).all()
    # Upright again: the same pixels in all slices, but for half a pixel at the edge.
    known = [one == 1 for one in stack]
    assert min((known[0] & one).sum() / (known[0] | one).sum() for one in known) > 0.95
    assert content(project.path / "annotations.ome.zarr") == raw
    use_image(project, "raw")
    assert project.annotations.fingerprint() == before
    assert project.file.prepared is None and project.image.shape == SHAPE


def test_ids_of_cells_follow(project):
    ids = np.where(disc(5, WALK) == 1, np.uint32(70_000), np.uint32(0))
    project.annotations.write_slice("cell", 5, ids)
    project.annotations.write_slice("part", 6, disc(6, WALK), complete=False)
    align(project)
    found = project.annotations.read_ids("cell", 5)
    assert set(np.unique(found)) == {0, 70_000, IGNORE_ID}
    assert (found == 70_000).sum() == (ids == 70_000).sum()
    assert project.annotations.complete_slices("part") == ()
    assert set(np.unique(project.annotations.read_slice("part", 6))) == {1, IGNORE}


def test_an_alignment_is_done_once(project):
    heard: list[str] = []
    first = align(project)
    use_image(project, "raw")
    again = align(project, options=Options(notify=heard.append))
    assert again == first and project.file.prepared == first.path.name
    assert any("nothing to do" in words for words in heard)
    digest = project.image_facts["digest"]
    forced = align(project, options=Options(force=True))
    assert forced == first and project.image_facts["digest"] == digest and project.file.prepared == first.path.name


def test_neither_workers_nor_order_decide(tmp_path, drifted):
    runs = [
        align(project_of(tmp_path / name, drifted), options=Options(executor=name))
        for name in ("serial", "threads:1", "threads:3")
    ]
    assert content(runs[0].path) == content(runs[1].path) == content(runs[2].path)


def test_a_slab_goes_on_from_the_last_good_slices_before_it(tmp_path, drifted):
    raw = Volume(drifted, Grid(drifted.shape, SIZE))
    known = _Slabs(raw, frozenset({13, 15}), AlignSettings(neighbours=3), tmp_path)._before(16)
    assert [z for z, _ in known] == [11, 12, 14]


KILLED = """
import sys
from cristae.project import Project
from cristae.stages.align import align
from cristae.stages.options import Options
print("begin", flush=True)
def told(task):
    def progress(done, total, **facts):
        print(task, done, flush=True)
    return progress
align(Project.open(sys.argv[1]), options=Options(progress=told))
print("end", flush=True)
"""


def test_killed_and_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    """Stopped after the first slab of each pass, by an error such as a kill leaves things in."""
    walk = walk_of(40)
    slices = recorded(walk, (40, 96, 96))
    whole = align(project_of(tmp_path / "whole", slices))
    project = project_of(tmp_path / "killed", slices)

    class Killed(BaseException):
        pass

    def stop_in(name):
        def task(told):
            def progress(done, total, **facts):
                if told == name and done == 1:
                    raise Killed

            return progress

        return task

    for name in ("match", "align"):
        with pytest.raises(Killed):
            align(project, options=Options(progress=stop_in(name)))
        assert project.file.prepared is None and not list(project.path.glob("runs/*/image.ome.zarr"))
    heard: dict[str, list[int]] = {}
    told = lambda task: lambda done, total, **facts: heard.setdefault(task, []).append(done)  # noqa: E731
    resumed = align(project, options=Options(progress=told))
    assert "match" not in heard and heard["align"][0] == 2
    assert content(resumed.path) == content(whole.path)


@pytest.mark.slow
def test_a_real_kill_at_any_moment_changes_nothing(tmp_path):
    slices = recorded(walk_of(40), (40, 200, 200))
    whole = align(project_of(tmp_path / "whole", slices))
    project = project_of(tmp_path / "killed", slices)
    for wait in (0.0, 0.1, 0.3, 0.8):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(project.path)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        assert process.stdout is not None and process.stdout.readline() == "begin\n"
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert content(align(project).path) == content(whole.path)


def test_training_uses_the_aligned_image_and_undo_gives_the_old_runs(project, tiny):
    """Round trip: the same inputs before and after, so the same run, which is finished."""
    raw = cristae.train(project, **tiny)
    assert raw.manifest["inputs"]["image"] == project.raw_facts["digest"]
    align(project)
    aligned = cristae.train(project, **tiny)
    assert aligned.path != raw.path
    assert aligned.manifest["inputs"]["image"] == project.image_facts["digest"] != project.raw_facts["digest"]
    predicted = cristae.predict(project, device="cpu")
    mask = open_volume(predicted.path / "disc.ome.zarr" / "labels" / "disc")
    assert mask.shape == project.image.shape
    assert (project.image_path / "labels" / "disc").is_dir() and not (project.raw_path / "labels").exists()
    scores = cristae.evaluate(project)
    assert scores.finished
    use_image(project, "raw")
    again = cristae.train(project, **tiny)
    assert again == raw and again.manifest["resumed"] == 0


def test_status_names_the_image_in_use(project):
    run = align(project)
    found = {entry.stage: entry for entry in cristae.status(project)}
    assert run.path.name in found["import image"].detail and found["align"].condition == "done"
    import_image_again(project, recorded(WALK, seed=5))
    found = {entry.stage: entry for entry in cristae.status(project)}
    assert found["align"].condition == "stale" and run.path.name not in found["import image"].detail


def import_image_again(project: Project, slices: np.ndarray) -> None:
    path = project.path.parent / "other.tif"
    tifffile.imwrite(path, slices, photometric="minisblack")
    import_image(project, path, ImportImageSettings(), Options(force=True))


def test_another_raw_image_is_not_that_of_an_old_alignment(project):
    run = align(project)
    import_image_again(project, recorded(WALK, seed=5))
    assert project.file.prepared is None
    with pytest.raises(DataError, match="made from another image"):
        use_image(project, run.path.name)


def test_importing_the_same_image_again_leaves_the_aligned_one_in_use(project, drifted, tmp_path):
    run = align(project)
    tifffile.imwrite(tmp_path / "same.tif", drifted, photometric="minisblack")
    import_image(project, tmp_path / "same.tif")
    assert project.file.prepared == run.path.name


def painted(path: Path, slices: dict[int, np.ndarray]) -> Path:
    path.mkdir()
    for z, plane in slices.items():
        tifffile.imwrite(path / f"z{z + 4:03}.tif", plane, photometric="minisblack")  # numbering begins at 4
    return path


def test_imported_labels_lie_where_they_were_painted(project, tmp_path):
    run = align(project)
    source = painted(tmp_path / "raw", {8: disc(8, WALK)})
    with pytest.raises(UsageError, match="--drawn-on"):
        cristae.import_labels(project, source, classes={"disc": None})
    cristae.import_labels(project, source, classes={"disc": None}, drawn_on="raw")
    found = project.annotations.read_slice("disc", 8)
    assert (found == project.truth.read_slice("disc", 8)).all()

    on_aligned = (project.truth.read_slice("disc", 15) == 1).astype(np.uint8)
    source = painted(tmp_path / "aligned", {15: on_aligned})
    cristae.import_labels(project, source, classes={"disc": None}, drawn_on="aligned")
    assert (project.annotations.read_slice("disc", 15) == on_aligned).all()
    use_image(project, "raw")
    assert project.annotations.labelled_slices("disc") == (3, 8, 11, 15)
    back = project.annotations.read_slice("disc", 15)
    assert ((back == 1) == (disc(15, WALK) == 1)).mean() > 0.995
    # The slice that was painted on the aligned stack is found there again as it was painted.
    use_image(project, run.path.name)
    assert (project.annotations.read_slice("disc", 15) == on_aligned).all()


def test_labels_of_raw_slices_replace_what_was_painted_on_aligned_ones_if_imported_later(project, tmp_path):
    align(project)
    shape = project.image.shape[1:]
    first = painted(tmp_path / "first", {8: np.ones(shape, np.uint8)})
    cristae.import_labels(project, first, classes={"disc": None}, drawn_on="aligned")
    later = painted(tmp_path / "later", {8: disc(8, WALK)})
    cristae.import_labels(project, later, classes={"disc": None}, drawn_on="raw")
    assert (project.annotations.read_slice("disc", 8) == project.truth.read_slice("disc", 8)).all()


def test_labels_of_another_size_than_the_slices_they_are_said_to_be_of_are_refused(project, tmp_path):
    align(project, AlignSettings(canvas="common"))
    source = painted(tmp_path / "raw", {8: disc(8, WALK)})
    with pytest.raises(DataError, match="128×144"):
        cristae.import_labels(project, source, classes={"disc": None}, drawn_on="aligned")
    use_image(project, "raw")
    with pytest.raises(UsageError, match="take the aligned ones into use"):
        cristae.import_labels(project, source, classes={"disc": None}, drawn_on="aligned")
    cristae.import_labels(project, source, classes={"disc": None}, drawn_on="raw")


def test_labels_follow_from_one_alignment_to_another(project):
    align(project)
    painted_here = np.zeros(project.image.shape[1:], np.uint8)
    painted_here[40:60, 40:70] = 1
    project.annotations.write_slice("box", 9, painted_here)
    grown = np.argwhere(painted_here).mean(0)
    align(project, AlignSettings(canvas="common"))
    found = project.annotations.read_slice("box", 9)
    assert (found == 1).sum() == 600
    first, second = (read_transforms(run)[9] for run in project.runs("align"))
    there = first @ (*grown, 1)
    assert np.allclose(second @ (*np.argwhere(found == 1).mean(0), 1), there, atol=1)
    assert (project.annotations.read_slice("disc", 3) == 1).sum() == disc(3, WALK).sum()


def test_exports_are_of_the_image_in_use(project, drifted, tmp_path):
    align(project)
    cristae.export(project, "image", tmp_path / "image.tif")
    cristae.export(project, "raw", tmp_path / "raw.tif")
    assert tifffile.imread(tmp_path / "image.tif").shape == project.image.shape
    assert (tifffile.imread(tmp_path / "raw.tif") == drifted).all()
    cristae.export(project, "annotations/disc", tmp_path / "disc.tif")
    assert tifffile.imread(tmp_path / "disc.tif").shape == project.image.shape


def test_what_cannot_be_is_refused(project, tmp_path):
    with pytest.raises(UsageError, match="whole pixels"):
        align(project, AlignSettings(model="rigid", interpolation="whole"))
    with pytest.raises(UsageError, match="neighbours"):
        align_settings(project, {"neighbours": 0})
    with pytest.raises(DataError, match="import image"):
        align(Project.create(tmp_path / "empty", SIZE))
    with pytest.raises(DataError, match="could be matched"):
        align(project_of(tmp_path / "blank", np.full(SHAPE, 7, np.uint8)))
    with pytest.raises(UsageError, match=r"no image 'align-0'.*raw"):
        use_image(project, "align-0")
    assert project.file.prepared is None


def test_a_stack_that_drifts_out_of_itself_has_no_common_area(tmp_path):
    wide = recorded(np.zeros((4, 2)), (4, 128, 340), jumps=False)
    slices = np.stack([plane[:, 60 * z : 60 * z + 128] for z, plane in enumerate(wide)])
    project = project_of(tmp_path / "far", slices)
    with pytest.raises(DataError, match="no area is common"):
        align(project, AlignSettings(canvas="common"))
    run = align(project)
    assert project.image.shape[2] == pytest.approx(128 + 3 * 60, abs=2)
    assert np.abs(np.diff(shifts(run)[:, 1]) + 60).max() < 0.5


def test_a_prepared_image_that_is_gone_is_named_with_the_way_back(project):
    run = align(project)
    (run.path / "image.ome.zarr").rename(run.path / "elsewhere")
    with pytest.raises(DataError, match="--use raw"):
        project.image  # noqa: B018
    with pytest.raises(DataError, match="--use raw"):
        cristae.train(project)
    use_image(project, "raw")
    assert project.image.shape == SHAPE
    with pytest.raises(UsageError, match="there are raw"):
        use_image(project, run.path.name)
    assert align(project) == run and project.file.prepared == run.path.name  # made again


def test_labels_on_slices_of_an_alignment_that_is_gone_are_not_lost(project):
    run = align(project)
    project.annotations.write_slice("disc", 9, np.ones(project.image.shape[1:], np.uint8))
    noted = run.manifest
    (run.path / "manifest.json").write_text(json.dumps({**noted, "status": "failed"}))
    with pytest.raises(DataError, match=f"{run.path.name}.*make it again"):
        use_image(project, "raw")
    assert align(project).path == run.path  # the same settings and the same image: the same run
    use_image(project, "raw")
    assert project.annotations.labelled_slices("disc") == (3, 9, 11)


def test_runs_on_another_image_are_not_the_latest(project, tiny):
    """What was predicted on aligned slices does not fit raw ones."""
    align(project)
    cristae.train(project, **tiny)
    predicted = cristae.predict(project, device="cpu")
    assert project.latest("predict") == predicted
    use_image(project, "raw")
    assert project.latest("predict") is None and project.latest("align") is not None
    with pytest.raises(DataError, match="no trained network"):
        cristae.predict(project)
    align(project)
    assert project.latest("predict") == predicted


def test_a_project_file_cannot_name_an_image_elsewhere(project):
    text = (project.path / "project.toml").read_text()
    (project.path / "project.toml").write_text('prepared = "../../other"\n' + text)
    with pytest.raises(DataError, match="prepared"):
        project.image  # noqa: B018


def test_a_project_in_use_is_left_alone(project):
    with project.lock(), pytest.raises(ResourceError, match="another process"):
        align(Project.open(project.path))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_slices(tmp_path):
    code = (
        "import sys\nfrom cristae.project import Project\nfrom cristae.stages.align import align\n"
        "print(align(Project.open(sys.argv[1])).manifest['peak_memory_mb'])"
    )
    peaks = []
    for n in (32, 96):
        slices = np.tile(recorded(walk_of(8), (8, 400, 400)), (n // 8, 1, 1))
        project = project_of(tmp_path / str(n), slices)
        done = subprocess.run(
            [sys.executable, "-c", code, str(project.path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout))
    assert peaks[1] < 1.1 * peaks[0]
