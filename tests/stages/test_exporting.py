from __future__ import annotations

import errno
import json

import numpy as np
import pytest
import tifffile
from pydantic import BaseModel

from cristae.errors import ResourceError, UsageError
from cristae.geometry import Grid
from cristae.io.images import open_images
from cristae.io.mib import write_mib
from cristae.io.ome_zarr import create_volume
from cristae.io.opened import Material
from cristae.io.registry import open_format
from cristae.io.tags import voxel_size_of
from cristae.project import Project
from cristae.stages.exporting import ExportSettings, export, joined_layers, layers
from cristae.stages.importing import ImportLabelsSettings, import_image, import_labels, import_truth
from cristae.stages.options import Options
from cristae.volume import Volume

SIZE = (45.0, 4.6, 4.6)
SHAPE = (18, 20, 30)


def grey(dtype=np.uint8):
    return np.random.default_rng(0).integers(1, 250, SHAPE).astype(dtype)


def imported(tmp_path, values, first=0):
    source = tmp_path / "source"
    source.mkdir()
    for z, plane in enumerate(values, start=first):
        tifffile.imwrite(source / f"z{z:03}.tif", plane)
    project = Project.create(tmp_path / "project", SIZE)
    import_image(project, source)
    return project


class Nothing(BaseModel):
    pass


def ids():
    return np.random.default_rng(1).choice(np.array([0, 1, 300], np.uint16), SHAPE)


@pytest.fixture
def predicted(tmp_path):
    """A project with labels, truth and a finished prediction of two classes."""
    project = imported(tmp_path, grey())
    tifffile.imwrite(tmp_path / "l.tif", (ids() > 0).astype(np.uint8), photometric="minisblack")
    settings = ImportLabelsSettings(classes={"mito": None}, slices=(2, 5))
    import_labels(project, tmp_path / "l.tif", settings)
    import_truth(project, tmp_path / "l.tif", settings)
    run = project.run("predict", Nothing(), {})
    with project.record(run, Nothing(), {}):
        for name in ("mito", "nucleus"):
            path = run.path / f"{name}.ome.zarr"
            probability = create_volume(path, Grid(SHAPE, SIZE), np.uint8, "probability")
            probability.write(probability.grid.box, grey())
            mask = create_volume(path / "labels" / name, Grid(SHAPE, SIZE), np.uint16, "labels")
            mask.write(mask.grid.box, ids())
    return project


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("name", ["out.tif", "out.tiff", "out"])
def test_import_then_export_gives_the_same_back(tmp_path, dtype, name):
    project = imported(tmp_path, grey(dtype), first=7)
    destination = export(project, "image", tmp_path / name)
    back = open_images(destination, SIZE)
    assert back.volume.dtype == np.dtype(dtype)
    assert (back.volume.read() == grey(dtype)).all()
    if name == "out":
        assert back.first_number == 7
        assert back.files[0] == "image_0007.tif"
    else:
        assert voxel_size_of(destination) == pytest.approx(SIZE)
    again = Project.create(tmp_path / "again", SIZE)
    import_image(again, destination)
    assert again.image_facts["digest"] == project.image_facts["digest"]


def test_every_layer_can_be_exported(predicted, tmp_path):
    names = ["image", "mito", "mito/probability", "nucleus", "nucleus/probability", "annotations/mito", "truth/mito"]
    assert list(layers(predicted)) == names
    for i, name in enumerate(names):
        assert tifffile.imread(export(predicted, name, tmp_path / f"{i}.tif")).shape == SHAPE
    assert (tifffile.imread(tmp_path / "1.tif") == ids()).all()
    assert (tifffile.imread(tmp_path / "2.tif") == grey()).all()
    annotations = tifffile.imread(tmp_path / "5.tif")
    assert (annotations[5] == (ids()[5] > 0)).all()
    assert (annotations[0] == 255).all()


@pytest.mark.parametrize("value", [1, 255])
def test_masks_can_be_rescaled(predicted, tmp_path, value):
    export(predicted, "mito", tmp_path / "a.tif", ExportSettings(mask_value=value))
    assert (tifffile.imread(tmp_path / "a.tif") == np.where(ids() > 0, value, 0)).all()
    assert tifffile.imread(tmp_path / "a.tif").dtype == np.uint8


@pytest.mark.parametrize("layer", ["image", "mito/probability", "annotations/mito", "truth/mito"])
def test_a_mask_value_where_it_has_no_meaning_is_refused(predicted, tmp_path, layer):
    with pytest.raises(UsageError, match="export it"):
        export(predicted, layer, tmp_path / "a.tif", ExportSettings(mask_value=255))


def test_an_unknown_layer_is_refused_with_those_there_are(predicted, tmp_path):
    with pytest.raises(UsageError, match=r"'mitos'.*image, mito, mito/probability") as caught:
        export(predicted, "mitos", tmp_path / "a.tif")
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="none yet"):
        export(Project.create(tmp_path / "new", SIZE), "image", tmp_path / "a.tif")


def test_an_unfinished_prediction_is_no_layer(tmp_path):
    project = imported(tmp_path, grey())
    run = project.run("predict", Nothing(), {})
    with pytest.raises(ValueError, match="stop"), project.record(run, Nothing(), {}):
        create_volume(run.path / "mito.ome.zarr", Grid(SHAPE, SIZE), np.uint8, "probability")
        raise ValueError("stop")
    assert list(layers(project)) == ["image"]


def test_nothing_is_overwritten_unless_forced(predicted, tmp_path):
    for name in ("a.tif", "a"):
        export(predicted, "image", tmp_path / name)
        with pytest.raises(UsageError, match="--force"):
            export(predicted, "image", tmp_path / name)
        export(predicted, "image", tmp_path / name, options=Options(force=True))


def test_the_user_sees_what_was_written(predicted, tmp_path):
    words, told = [], []

    def progress(task):
        return lambda done, total, **facts: told.append((task, done, total))

    export(predicted, "mito", tmp_path / "a.tif", options=Options(notify=words.append, progress=progress))
    assert "mito: 18 × 20 × 30 voxels (z, y, x) of uint16, each 45 × 4.6 × 4.6 nm" in words[0]
    assert told[-1] == ("writing mito", 18, 18)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_or_a_read_only_folder_is_a_resource_error(predicted, tmp_path, monkeypatch, number):
    def fail(*args, **keywords):
        raise OSError(number, "as the system says")

    monkeypatch.setattr("cristae.io.tiff.tifffile.TiffWriter.write", fail)
    with pytest.raises(ResourceError) as caught:
        export(predicted, "image", tmp_path / "a.tif")
    assert caught.value.exit_code == 4
    assert not list(tmp_path.glob("*a.tif*"))


def test_nothing_can_be_written_below_a_file(predicted, tmp_path):
    with pytest.raises(UsageError, match="is a file"):
        export(predicted, "image", tmp_path / "l.tif" / "slices")
    with pytest.raises(ResourceError, match="cannot write"):
        export(predicted, "image", tmp_path / "l.tif" / "deep" / "slices")


def painted():
    """Nuclei with a nucleolus inside, on every slice."""
    values = np.zeros(SHAPE, np.uint8)
    values[:, 3:15, 4:20] = 1
    values[:, 5:9, 6:10] = 2
    return values


MATERIALS = (Material("Cell nucleus", 1, (0.9, 0.25, 0.125)), Material("Nucleolus", 2, (0.0, 0.5, 1.0)))


@pytest.fixture
def annotated(tmp_path):
    """A project whose labels come from a model of MIB."""
    (tmp_path / "annotated").mkdir()
    project = imported(tmp_path / "annotated", grey())
    model = write_mib(Volume(painted(), Grid(SHAPE, SIZE), "labels"), tmp_path / "Labels_bx1.model", MATERIALS)
    import_labels(project, model, ImportLabelsSettings(classes={"cell-nucleus": None, "nucleolus": None}))
    return project


def test_a_model_of_mib_comes_back_without_loss(annotated, tmp_path):
    path = export(annotated, "annotations", tmp_path / "out.model", ExportSettings(unseen="background"))
    opened = open_format(path)
    assert (opened.array[(slice(None),) * 3] == painted()).all()
    assert opened.materials == MATERIALS
    assert opened.voxel_size == pytest.approx(SIZE)


def test_slices_that_nobody_looked_at_become_a_material_that_import_knows(tmp_path):
    project = imported(tmp_path, grey())
    model = write_mib(Volume(painted(), Grid(SHAPE, SIZE), "labels"), tmp_path / "a.model", MATERIALS)
    settings = ImportLabelsSettings(classes={"cell-nucleus": None, "nucleolus": None}, slices=(2, 7))
    import_labels(project, model, settings)
    path = export(project, "annotations", tmp_path / "out.model")
    assert [one.name for one in open_format(path).materials] == ["Cell nucleus", "Nucleolus", "ignore"]
    other = Project.create(tmp_path / "other", SIZE)
    import_image(other, tmp_path / "source")
    import_labels(other, path, ImportLabelsSettings(classes={"cell-nucleus": None, "nucleolus": None}))
    for name in ("cell-nucleus", "nucleolus"):
        assert other.annotations.labelled_slices(name) == (2, 7)
        assert (other.annotations.read_slice(name, 7) == project.annotations.read_slice(name, 7)).all()


def test_what_lies_inside_is_on_top_whatever_the_order_of_classes(tmp_path):
    project = imported(tmp_path, grey())
    for name, mask in (("nucleolus", painted() == 2), ("nucleus", painted() > 0)):
        tifffile.imwrite(tmp_path / f"{name}.tif", mask.astype(np.uint8), photometric="minisblack")
        import_labels(project, tmp_path / f"{name}.tif", ImportLabelsSettings(classes={name: None}))
    path = export(project, "annotations", tmp_path / "a.tif")
    assert (tifffile.imread(path) == np.array([0, 2, 1])[painted()]).all()


def test_all_formats_are_known_by_their_suffix_or_name(predicted, annotated, tmp_path):
    for name in ("a.model", "a.mrc", "a.h5", "a.nrrd", "a.nii", "a.nii.gz", "a.tif"):
        found = open_images(export(predicted, "mito", tmp_path / name), SIZE) if name != "a.model" else None
        if found:
            assert (found.volume.read() == ids()).all(), name
        else:
            opened = open_format(export(predicted, "mito", tmp_path / "b.model"))
            assert (opened.array[(slice(None),) * 3] == ids()).all()
    inside = export(predicted, "mito", tmp_path / "b.h5:/volumes/mito")
    assert (open_images(f"{inside}:/volumes/mito", SIZE).volume.read() == ids()).all()
    export(predicted, "image", tmp_path / "p", ExportSettings(format="precomputed"))
    assert (tmp_path / "p" / "info").is_file()
    for layer in ("image", "mito", "annotations"):
        export(predicted, layer, tmp_path / "wk", ExportSettings(format="webknossos"))
    assert (tmp_path / "wk" / "datasource-properties.json").read_text().count('"mag"') == 3
    export(annotated, "annotations", tmp_path / "Dataset001_bx", ExportSettings(format="nnunet"))
    known = json.loads((tmp_path / "Dataset001_bx" / "dataset.json").read_text())
    assert known["labels"] == {"background": 0, "Cell nucleus": 1, "Nucleolus": 2, "ignore": 3}
    labels = open_format(next((tmp_path / "Dataset001_bx" / "labelsTr").iterdir()))
    assert (labels.array[(slice(None),) * 3] == painted()).all()


def test_settings_that_do_not_fit_the_destination_are_refused(predicted, tmp_path):
    for name, form, message in (
        ("a.tif", "mrc", "is a name for tiff, not for mrc"),
        ("a", "mib", r"should end in \.model"),
        ("Dataset001_a", "nnunet", "has none. Export annotations"),
    ):
        with pytest.raises(UsageError, match=message):
            export(predicted, "image", tmp_path / name, ExportSettings(format=form))
    with pytest.raises(UsageError, match="not background"):
        export(predicted, "annotations", tmp_path / "a.tif", ExportSettings(mask_value=255))


def test_joined_layers_are_those_of_all_classes(predicted):
    assert {kind: list(classes) for kind, classes in joined_layers(predicted).items()} == {
        "annotations": ["mito"],
        "truth": ["mito"],
        "masks": ["mito", "nucleus"],
    }
