from __future__ import annotations

import errno
import threading

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from cristae.blockwise import Journal
from cristae.errors import DataError, ResourceError, UsageError
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, n_levels, open_volume, read_facts
from cristae.project import Project
from cristae.settings import resolve_settings
from cristae.stages import importing
from cristae.stages.importing import (
    ImportImageSettings,
    ImportLabelsSettings,
    import_image,
    import_labels,
    import_truth,
)
from cristae.stages.options import Options
from cristae.stages.survey import grey_moments, survey
from cristae.volume import Volume

SIZE = (45.0, 4.6, 4.6)
SHAPE = (40, 50, 60)


def grey(shape=SHAPE, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)


def stack(path, values):
    tifffile.imwrite(path, values, photometric="minisblack")
    return path


def folder_of(path, values, first=0):
    path.mkdir()
    for z, plane in enumerate(values, start=first):
        tifffile.imwrite(path / f"z{z:03}.tif", plane, photometric="minisblack")
    return path


def silent(done, total, **facts):
    pass


class Listening:
    """Options that remember what the user would see."""

    def __init__(self, **keywords):
        self.words, self.tasks = [], {}
        self.options = Options(notify=self.words.append, progress=self.task, **keywords)

    def task(self, name):
        return lambda done, total, **facts: self.tasks.__setitem__(name, (done, total))

    @property
    def text(self):
        return "\n".join(self.words)


@pytest.fixture
def project(tmp_path):
    return Project.create(tmp_path / "bx1", SIZE)


@pytest.fixture
def filled(project, tmp_path):
    import_image(project, stack(tmp_path / "image.tif", grey()))
    return project


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", ["stack", "folder"])
@pytest.mark.parametrize("executor", ["serial", "threads:2"])
def test_an_image_arrives_intact(project, tmp_path, dtype, kind, executor):
    values = grey(dtype=dtype)
    source = stack(tmp_path / "a.tif", values) if kind == "stack" else folder_of(tmp_path / "a", values)
    heard = Listening(executor=executor)
    image = import_image(project, source, options=heard.options)
    assert image.grid == Grid(SHAPE, SIZE)
    assert image.dtype == np.dtype(dtype)
    assert image.kind == "image"
    assert (image.read() == values).all()
    assert f"40 × 50 × 60 voxels (z, y, x) of {dtype}, each 45 × 4.6 × 4.6 nm" in heard.text
    assert "1.8 × 0.23 × 0.276 µm" in heard.text
    assert heard.tasks["copying image"] == (3, 3)
    assert sorted(path.name for path in project.path.iterdir()) == [".lock", "image.ome.zarr", "project.toml"]


def test_the_digest_depends_on_the_content_alone(tmp_path):
    digests = {}
    for name, make in {
        "stack": lambda path: stack(path.with_suffix(".tif"), grey()),
        "folder": lambda path: folder_of(path, grey()),
        "other": lambda path: stack(path.with_suffix(".tif"), grey(seed=1)),
        "wide": lambda path: stack(path.with_suffix(".tif"), grey(dtype=np.uint16)),
    }.items():
        project = Project.create(tmp_path / f"{name}-project", SIZE)
        import_image(project, make(tmp_path / name))
        digests[name] = project.image_facts["digest"]
    assert digests["stack"] == digests["folder"]
    assert len(set(digests.values())) == 3


def test_facts_of_each_slice_leave_padding_out(project, tmp_path):
    values = grey()
    values[3, :10] = 0
    values[5] = 0
    values[6] = 77
    import_image(project, stack(tmp_path / "a.tif", values))
    facts = project.image_facts
    for z in (0, 3, 39):
        inside = values[z][values[z] > 0].astype(float)
        assert facts["slice_mean"][z] == pytest.approx(inside.mean())
        assert facts["slice_std"][z] == pytest.approx(inside.std())
    assert (facts["slice_mean"][5], facts["slice_std"][5]) == (0.0, 1.0)
    assert (facts["slice_mean"][6], facts["slice_std"][6]) == (77.0, 1.0)
    assert facts["source_name"] == "a.tif"
    assert facts["missing"] == facts["blank"] == [5, 6]


@given(arrays(np.uint8, st.integers(0, 30), elements=st.integers(0, 9)))
def test_moments_of_counts_are_those_of_the_values(values):
    mean, deviation = grey_moments(np.bincount(values, minlength=1))
    inside = values[values > 0].astype(float)
    assert mean == pytest.approx(inside.mean() if inside.size else 0.0)
    assert deviation == pytest.approx((inside.std() or 1.0) if inside.size else 1.0, abs=1e-9)


def test_the_survey_does_not_depend_on_the_size_of_blocks(monkeypatch):
    volume = Volume(grey((20, 3000, 40)), Grid((20, 3000, 40), SIZE))
    whole = survey(volume, silent)
    monkeypatch.setattr("cristae.stages.survey._BLOCK_BYTES", 1)
    assert survey(volume, silent) == whole


def test_slices_too_large_for_memory_are_copied_in_bands(project, tmp_path, monkeypatch):
    monkeypatch.setattr("cristae.stages.survey._BLOCK_BYTES", 1)
    monkeypatch.setattr("cristae.stages.copying._BAND_BYTES", 1)
    values = grey((3, 2100, 30))
    heard = Listening()
    assert (import_image(project, stack(tmp_path / "a.tif", values), options=heard.options).read() == values).all()
    assert heard.tasks["copying image"] == (3, 3)


def test_an_image_gets_its_pyramid(project, tmp_path):
    import_image(project, stack(tmp_path / "a.tif", grey((2, 600, 700))))
    assert n_levels(project.image_path) == 2


def test_missing_slices_are_reported_and_kept_in_mind(project, tmp_path):
    source = folder_of(tmp_path / "a", grey(), first=1)
    (source / "z005.tif").unlink()
    with pytest.raises(DataError, match=r"missing from the numbering: 5.*--allow-missing"):
        import_image(project, source)
    heard = Listening()
    import_image(project, source, ImportImageSettings(allow_missing=True), heard.options)
    assert project.image_facts["missing"] == [4]
    assert not project.image.read()[4].any()
    assert "numbers 5" in heard.text


def test_importing_the_same_image_again_does_nothing(filled, tmp_path):
    before = (filled.image_path / "zarr.json").stat().st_mtime_ns
    heard = Listening()
    import_image(filled, tmp_path / "image.tif", options=heard.options)
    assert "nothing to do" in heard.text
    import_image(filled, folder_of(tmp_path / "copy", grey()), options=heard.options)  # the same voxels elsewhere
    assert (filled.image_path / "zarr.json").stat().st_mtime_ns == before


def test_another_image_takes_the_place_only_when_asked(filled, tmp_path):
    other = stack(tmp_path / "other.tif", grey(seed=1))
    with pytest.raises(UsageError, match="--force"):
        import_image(filled, other)
    assert (filled.image.read() == grey()).all()
    import_image(filled, other, options=Options(force=True))
    assert (filled.image.read() == grey(seed=1)).all()
    assert not (filled.path / ".importing").exists()


def test_another_shape_never_leaves_annotations_without_their_image(filled, tmp_path):
    import_labels(filled, stack(tmp_path / "l.tif", grey() > 99), ImportLabelsSettings(classes={"mito": None}))
    with pytest.raises(DataError, match=r"remove annotations\.ome\.zarr first"):
        import_image(filled, stack(tmp_path / "b.tif", grey((39, 50, 60))), options=Options(force=True))
    heard = Listening(force=True)
    import_image(filled, stack(tmp_path / "c.tif", grey(seed=2)), options=heard.options)
    assert "annotations are kept" in heard.text


def test_a_voxel_size_in_the_file_that_differs_is_said(project, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        grey((3, 4, 5)),
        imagej=True,
        resolution=(1 / 8, 1 / 8),
        metadata={"spacing": 8.0, "unit": "nm", "axes": "ZYX"},
    )
    heard = Listening()
    assert import_image(project, tmp_path / "a.tif", options=heard.options).grid.voxel_size == SIZE
    assert "states a voxel size of 8 × 8 × 8 nm" in heard.text


def test_an_ome_zarr_is_imported(project, tmp_path):
    volume = create_volume(tmp_path / "a.ome.zarr", Grid(SHAPE, SIZE), np.uint16, "image")
    volume.write(volume.grid.box, grey(dtype=np.uint16))
    assert (import_image(project, tmp_path / "a.ome.zarr").read() == grey(dtype=np.uint16)).all()


def bad_images():
    def nan(path):
        values = grey((4, 5, 6), np.float32)
        values[2] = np.nan
        return stack(path / "a.tif", values)

    def sizes(path):
        source = folder_of(path / "f", grey((3, 5, 6)))
        stack(source / "z002.tif", grey((5, 7)))
        return source

    def types(path):
        source = folder_of(path / "f", grey((3, 5, 6)))
        stack(source / "z001.tif", grey((5, 6), np.uint16))
        return source

    def colour(path):
        source = folder_of(path / "f", grey((3, 5, 6)))
        tifffile.imwrite(source / "z001.tif", grey((5, 6, 3)), photometric="rgb")
        return source

    def truncated(path):
        source = stack(path / "a.tif", grey())
        source.write_bytes(source.read_bytes()[:60_000])
        return source

    def broken_picture(path):
        source = path / "f"
        source.mkdir()
        for z in range(40):
            Image.fromarray(grey((50, 60))).save(source / f"{z}.png")
        (source / "33.png").write_bytes((source / "33.png").read_bytes()[:1500])
        return source

    return [nan, sizes, types, colour, truncated, broken_picture]


@pytest.mark.parametrize("make", bad_images(), ids=lambda make: make.__name__)
@pytest.mark.filterwarnings("ignore")
def test_a_bad_image_is_refused_and_never_looks_imported(project, tmp_path, make):
    with pytest.raises(DataError) as caught:
        import_image(project, make(tmp_path))
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="no image yet"):
        project.image  # noqa: B018
    assert not project.image_path.exists()


class Killed(BaseException):
    pass


def test_a_killed_import_is_resumed_and_equals_an_uninterrupted_one(project, tmp_path, monkeypatch):
    source = stack(tmp_path / "a.tif", grey())
    add = Journal.add

    def dying(self, tiling, key):
        add(self, tiling, key)
        raise Killed

    monkeypatch.setattr(Journal, "add", dying)
    with pytest.raises(Killed):
        import_image(project, source)
    monkeypatch.undo()
    with pytest.raises(DataError, match="no image yet"):
        project.image  # noqa: B018
    written = []
    write = Volume.write
    monkeypatch.setattr(Volume, "write", lambda self, box, values: (written.append(box), write(self, box, values))[1])
    heard = Listening()
    assert (import_image(project, source, options=heard.options).read() == grey()).all()
    assert len(written) == 2
    assert "interrupted" in heard.text
    other = Project.create(tmp_path / "other", SIZE)
    import_image(other, source)
    assert contents(project) == contents(other)


def contents(project):
    root = project.image_path
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_kill_while_an_image_is_replaced_loses_neither_place_nor_space(filled, tmp_path, monkeypatch):
    other, swap = stack(tmp_path / "other.tif", grey(seed=1)), importing._put_in_place

    def dying(project, workplace):
        project.image_path.rename(workplace / "replaced.ome.zarr")
        raise Killed

    monkeypatch.setattr(importing, "_put_in_place", dying)
    with pytest.raises(Killed):
        import_image(filled, other, options=Options(force=True))
    monkeypatch.setattr(importing, "_put_in_place", swap)
    assert (import_image(filled, other).read() == grey(seed=1)).all()
    assert not (filled.path / ".importing").exists()


def test_a_source_that_changed_since_the_kill_is_copied_anew(project, tmp_path, monkeypatch):
    source = stack(tmp_path / "a.tif", grey())
    monkeypatch.setattr("cristae.stages.importing.write_facts", lambda *a: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        import_image(project, source)
    monkeypatch.undo()
    stack(source, grey(seed=3))
    assert (import_image(project, source).read() == grey(seed=3)).all()


@pytest.mark.parametrize("moment", ["copying.enter_levels", "importing.write_facts", "importing._put_in_place"])
def test_a_kill_at_the_end_never_looks_finished_either(project, tmp_path, monkeypatch, moment):
    source = stack(tmp_path / "a.tif", grey())

    def die(*args):
        raise Killed

    monkeypatch.setattr(f"cristae.stages.{moment}", die)
    with pytest.raises(Killed):
        import_image(project, source)
    monkeypatch.undo()
    assert "digest" not in project.image_facts
    assert (import_image(project, source).read() == grey()).all()


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_full_disk_keeps_what_is_finished_and_the_next_call_completes(project, tmp_path, monkeypatch, nth):
    source, calls, write = stack(tmp_path / "a.tif", grey()), [], Volume.write

    def filling(self, box, values):
        calls.append(box)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, box, values)

    monkeypatch.setattr(Volume, "write", filling)
    with pytest.raises(ResourceError, match="free some space") as caught:
        import_image(project, source)
    assert caught.value.exit_code == 4
    monkeypatch.undo()
    assert (import_image(project, source).read() == grey()).all()
    other = Project.create(tmp_path / "other", SIZE)
    import_image(other, source)
    assert contents(project) == contents(other)


def test_a_read_only_folder_is_a_resource_error(project, tmp_path, monkeypatch):
    source = stack(tmp_path / "a.tif", grey())

    def refuse(*args, **keywords):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(ResourceError, match="cannot write in") as caught:
        import_image(project, source)
    assert caught.value.exit_code == 4


def test_two_imports_at_once_are_refused(project, tmp_path):
    source, held, leave = stack(tmp_path / "a.tif", grey()), threading.Event(), threading.Event()

    def work():
        with project.lock():
            held.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert held.wait(10)
        with pytest.raises(ResourceError, match="another process") as caught:
            import_image(project, source)
        assert caught.value.exit_code == 4
    finally:
        leave.set()
        thread.join()


# Labels


def labels(seed=0):
    return np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)


def test_labels_arrive_on_their_slices(filled, tmp_path):
    source = folder_of(tmp_path / "l", labels()[[3, 9]])
    (source / "z001.tif").rename(source / "z009.tif")
    (source / "z000.tif").rename(source / "z003.tif")
    heard = Listening()
    annotations = import_labels(filled, source, ImportLabelsSettings(classes={"mito": None}), heard.options)
    assert annotations.labelled_slices("mito") == annotations.complete_slices("mito") == (3, 9)
    for z in (3, 9):
        assert (annotations.read_slice("mito", z) == (labels()[z] > 0)).all()
    assert filled.classes == ("mito",)
    n_voxels = int((labels()[[3, 9]] > 0).sum())
    assert f"mito: {n_voxels} voxels on 2 slices (z 3, 9), {100 * n_voxels / 6000:.2f} %" in heard.text


def test_numbers_in_label_names_count_as_those_in_image_names(project, tmp_path):
    import_image(project, folder_of(tmp_path / "a", grey(), first=101))
    source = folder_of(tmp_path / "l", labels()[:3], first=102)
    mito = ImportLabelsSettings(classes={"mito": None})
    assert import_labels(project, source, mito).labelled_slices() == (1, 2, 3)
    elsewhere = ImportLabelsSettings(classes={"er": None}, first_slice=100)
    assert import_labels(project, source, elsewhere).labelled_slices("er") == (2, 3, 4)


def test_several_classes_by_value_some_of_them_partial(filled, tmp_path):
    settings = ImportLabelsSettings(classes={"nucleus": (1, 2), "nucleolus": 2}, slices=(0, 7), partial=("nucleolus",))
    annotations = import_labels(filled, stack(tmp_path / "l.tif", labels()), settings)
    assert annotations.complete_slices("nucleus") == (0, 7)
    assert annotations.complete_slices("nucleolus") == ()
    assert (annotations.read_slice("nucleus", 7) == (labels()[7] > 0)).all()
    assert (annotations.read_slice("nucleolus", 7) == np.where(labels()[7] == 2, 1, 255)).all()


def test_partial_labels_say_nothing_of_the_rest(filled, tmp_path):
    settings = ImportLabelsSettings(classes={"mito": None}, complete=False)
    annotations = import_labels(filled, stack(tmp_path / "l.tif", labels()), settings)
    assert annotations.complete_slices("mito") == ()
    assert 0 not in np.unique(annotations.read_slice("mito", 0))


def test_truth_goes_beside_and_adds_no_class(filled, tmp_path):
    truth = import_truth(filled, stack(tmp_path / "l.tif", labels()), ImportLabelsSettings(classes={"mito": None}))
    assert len(truth.labelled_slices("mito")) == 40
    assert filled.annotations.classes == filled.classes == ()


BAD_LABELS = {
    "no matching slice": (lambda p: folder_of(p / "l", labels()[:2], first=39), {"mito": None}),
    "expected 50×60": (lambda p: stack(p / "l.tif", np.ones((40, 50, 61), np.uint8)), {"mito": None}),
    "which no class has": (lambda p: stack(p / "l.tif", labels()), {"mito": 1}),
    "no voxel of class": (lambda p: stack(p / "l.tif", labels() * 0), {"mito": None}),
    "colour image": (lambda p: p / "rgb.png", {"mito": None}),
    "cut short|damaged": (lambda p: p / "cut.tif", {"mito": None}),
}


@pytest.mark.parametrize("message", BAD_LABELS)
@pytest.mark.filterwarnings("ignore")
def test_bad_labels_are_refused_and_nothing_is_written(filled, tmp_path, message):
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(tmp_path / "rgb.png")
    cut = stack(tmp_path / "cut.tif", labels())
    cut.write_bytes(cut.read_bytes()[:50_000])
    make, classes = BAD_LABELS[message]
    with pytest.raises(DataError, match=message) as caught:
        import_labels(filled, make(tmp_path), ImportLabelsSettings(classes=classes))
    assert caught.value.exit_code == 3
    assert not (filled.path / "annotations.ome.zarr").exists()
    assert filled.classes == ()


def test_labels_need_an_image_and_proper_names(project, tmp_path):
    source = stack(tmp_path / "l.tif", labels())
    with pytest.raises(DataError, match="no image yet"):
        import_labels(project, source, ImportLabelsSettings(classes={"mito": None}))
    import_image(project, stack(tmp_path / "a.tif", grey()))
    with pytest.raises(UsageError, match="cannot name a class"):
        import_labels(project, source, ImportLabelsSettings(classes={"../mito": None}))
    with pytest.raises(UsageError, match="partial names er"):
        import_labels(project, source, ImportLabelsSettings(classes={"mito": None}, partial=("er",)))


def test_settings_without_a_class_are_refused():
    with pytest.raises(UsageError, match="classes"):
        resolve_settings(ImportLabelsSettings, {})
    with pytest.raises(UsageError, match="classes"):
        resolve_settings(ImportLabelsSettings, {"classes": {}})


def test_every_setting_is_documented():
    for settings in (ImportImageSettings, ImportLabelsSettings):
        assert all(field.description for field in settings.model_fields.values())


# Real data


def test_an_anisotropic_stack_with_dense_labels(tmp_path, data_folder):
    source = data_folder / "vnc_sstem"
    project = Project.create(tmp_path / "vnc", SIZE)
    assert (import_image(project, source / "raw.tif").read() == tifffile.imread(source / "raw.tif")).all()
    assert [open_volume(project.image_path, level).shape for level in range(2)] == [(20, 1024, 1024), (20, 512, 512)]
    classes = ImportLabelsSettings(classes={"mitochondria": None}, slices=(2, 10))
    annotations = import_labels(project, source / "labels_mitochondria.tif", classes)
    truth = tifffile.imread(source / "labels_mitochondria.tif")
    assert (annotations.read_slice("mitochondria", 10) == (truth[10] > 0)).all()
    assert annotations.labelled_slices() == (2, 10)


def test_a_stack_of_the_labelled_slices_only(tmp_path, data_folder):
    source = data_folder / "hela_mito"
    project = Project.create(tmp_path / "hela", (50.0, 10.0, 10.0))
    assert import_image(project, source / "raw.tif").shape == (5, 2000, 2000)
    settings = ImportLabelsSettings(classes={"mitochondria": None}, complete=False)
    annotations = import_labels(project, source / "labels_mitochondria.tif", settings)
    assert annotations.labelled_slices() == (0, 1, 2, 3, 4)
    assert annotations.n_voxels("mitochondria") == (tifffile.imread(source / "labels_mitochondria.tif") > 0).sum()


def levels(folder):
    """The voxels of every level, and the facts that do not depend on where the image came from."""
    facts = {name: fact for name, fact in read_facts(folder).items() if not name.startswith("source")}
    return [open_volume(folder, level).read() for level in range(n_levels(folder))], facts


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("band_bytes", [1, 2**26])
def test_levels_and_facts_that_come_with_the_copy_are_those_made_afterwards(tmp_path, monkeypatch, dtype, band_bytes):
    values = grey((37, 1200, 1030), dtype)
    sources = folder_of(tmp_path / "slices", values), stack(tmp_path / "a.tif", values)
    tifffile.imwrite(tmp_path / "z.tif", values, photometric="minisblack", compression="zlib")
    monkeypatch.setattr("cristae.stages.copying._BAND_BYTES", band_bytes)
    found = {}
    for name, source, executor in (
        ("at once", sources[0], "serial"),
        ("afterwards", sources[0], "threads:2"),
        ("stack", sources[1], "serial"),
        ("compressed", tmp_path / "z.tif", "serial"),
    ):
        project = Project.create(tmp_path / name, (4.0, 4.0, 4.0))
        import_image(project, source, options=Options(executor=executor))
        found[name] = levels(project.image_path)
        assert n_levels(project.image_path) == 3
        assert (project.image.read() == values).all()
        facts = dict(project.image_facts)
        assert facts["digest"] == survey(project.image, silent)["digest"]
        assert facts["slice_mean"] == pytest.approx(values.mean(axis=(1, 2)))
    for name in ("afterwards", "stack", "compressed"):
        for one, other in zip(found["at once"][0], found[name][0], strict=True):
            assert np.array_equal(one, other), name
        assert found[name][1] == found["at once"][1]


def test_fewer_bits_than_the_type_are_said(project, tmp_path):
    heard = Listening()
    values = grey(dtype=np.uint16) * 16
    values[0, 0, 0] = 4095
    import_image(project, stack(tmp_path / "a.tif", values), options=heard.options)
    assert any("up to 4095 only, as those of 12 bits in 16" in word for word in heard.words)
    assert (project.image.read() == values).all()
