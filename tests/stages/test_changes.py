"""What was exported and comes back: without changes nothing changes, and with changes nothing else does."""

import importlib.util
import json
import os
import subprocess
import sys

import h5py
import mat73
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cristae.annotations import IGNORE, IGNORE_ID
from cristae.cli import cli
from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.io.mib import write_mib
from cristae.io.nifti import write_nifti
from cristae.io.nrrd import write_nrrd
from cristae.io.ome_zarr import create_volume
from cristae.io.opened import Material
from cristae.io.registry import open_format
from cristae.project import Project
from cristae.stages.change_rules import MapOfClasses, changed_mask, count
from cristae.stages.changes import ImportChangesSettings, import_changes
from cristae.stages.exporting import ExportSettings, export
from cristae.stages.options import Options
from cristae.volume import Volume

SHAPE = (7, 24, 30)
SIZE = (40.0, 4.0, 4.0)
NUCLEUS, NUCLEOLUS, MITO = "nucleus", "nucleolus", "mito"
COMPLETE, PARTIAL, MITO_TOO = 1, 3, 5
WAYS = {
    "labels.model": {},
    "labels.h5": {},
    "ilastik.h5": {"format": "ilastik"},
    "labels.tif": {},
    "slices": {},
    "labels.nrrd": {},
    "labels.nii.gz": {},
    "wk": {"format": "webknossos"},
}


def masks() -> dict[str, np.ndarray]:
    nucleus, nucleolus, mito = (np.zeros(SHAPE[1:], np.uint8) for _ in range(3))
    nucleus[2:14, 3:20] = 1
    nucleolus[5:9, 6:12] = 1
    mito[16:20, 4:9] = 1
    return {NUCLEUS: nucleus, NUCLEOLUS: nucleolus, MITO: mito}


@pytest.fixture
def project(tmp_path) -> Project:
    """Slice 1 complete of all classes, 3 partial of nuclei, 5 complete of mitochondria only; cells on slice 1."""
    project = Project.create(tmp_path / "p", SIZE)
    source = tmp_path / "image.tif"
    tifffile.imwrite(source, np.random.default_rng(0).integers(1, 250, SHAPE, np.uint8), photometric="minisblack")
    assert CliRunner().invoke(cli, ["import", "image", str(project.path), str(source), "--quiet"]).exit_code == 0
    for name, mask in masks().items():
        project.annotations.write_slice(name, COMPLETE, mask)
    project.annotations.write_slice(NUCLEUS, PARTIAL, masks()[NUCLEUS], complete=False)
    project.annotations.write_slice(MITO, MITO_TOO, masks()[MITO])
    ids = np.zeros(SHAPE[1:], np.uint32)
    ids[1:21, 1:24] = 70_000
    project.annotations.write_slice("cell", COMPLETE, ids)
    project.add_classes((NUCLEUS, NUCLEOLUS, MITO))
    return project


def state(project: Project) -> dict[str, dict[int, tuple[bytes, bool]]]:
    """All labels and flags."""
    labels = project.annotations
    return {
        name: {
            z: (labels._stored_slice(name, z).tobytes(), bool(entry["complete"]))
            for z, entry in labels.noted(name).items()
        }
        for name in labels.classes
    }


def sent(project, tmp_path, layer, name, **settings):
    path = tmp_path / name
    export(project, layer, path, ExportSettings(**WAYS[name] | settings))
    return path / layer.replace("/", "_") if name == "wk" else path


def rewrite(path, change):
    """Change the voxels of a file, ``(z, y, x)``, as another program would, and keep all else."""
    if path.is_dir() and path.parent.name == "wk":
        array = zarr.open_array(path / "1", mode="r+")
        values = array[0].transpose(2, 1, 0).copy()
        change(values)
        array[0] = values.transpose(2, 1, 0)
    elif path.is_dir():
        for file in sorted(path.glob("*.tif")):
            z = int(file.stem[-4:])
            values = np.zeros(SHAPE, tifffile.imread(file).dtype)
            values[z] = tifffile.imread(file)
            change(values)
            tifffile.imwrite(file, values[z], photometric="minisblack")
    elif path.suffix == ".tif":
        values = tifffile.imread(path)
        change(values)
        tifffile.imwrite(path, values, photometric="minisblack")
    elif path.suffix in (".h5", ".model"):
        with h5py.File(path, "r+") as file:
            dataset = file["mibModel" if path.suffix == ".model" else "labels"]
            values = dataset[:].transpose(0, 2, 1) if path.suffix == ".model" else dataset[:]
            values = np.ascontiguousarray(values)
            change(values)
            dataset[:] = values.transpose(0, 2, 1) if path.suffix == ".model" else values
    else:
        opened = open_format(path)
        values = np.array(opened.array[:, :, :])
        change(values)
        write = write_nrrd if path.suffix == ".nrrd" else write_nifti
        write(Volume(values, Grid(SHAPE, SIZE), "labels"), path, overwrite=True)


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("layer", ["annotations", "annotations/nucleus"])
def test_without_changes_nothing_changes(project, tmp_path, name, layer):
    before = state(project)
    path = sent(project, tmp_path, layer, name)
    found = import_changes(project, path)
    assert found.counts == {} and found.layer == layer
    assert state(project) == before


@pytest.mark.parametrize("name", WAYS)
def test_changed_voxels_are_changed_and_no_others(project, tmp_path, name):
    before = state(project)
    path = sent(project, tmp_path, "annotations/nucleus", name)
    one, none = (2, 1) if name == "ilastik.h5" else (1, 0)

    def change(values):
        values[COMPLETE, 20:22, 22:25] = one
        values[COMPLETE, 2, 3] = none

    rewrite(path, change)
    found = import_changes(project, path)
    expected = masks()[NUCLEUS]
    expected[20:22, 22:25] = 1
    expected[2, 3] = 0
    assert np.array_equal(project.annotations.read_slice(NUCLEUS, COMPLETE), expected)
    assert found.slices == (COMPLETE,)
    assert (found.counts[COMPLETE][NUCLEUS].added, found.counts[COMPLETE][NUCLEUS].removed) == (6, 1)
    after = state(project)
    assert after[NUCLEUS][COMPLETE][1] is True
    before[NUCLEUS].pop(COMPLETE), after[NUCLEUS].pop(COMPLETE)
    assert after == before
    # Now the file is what the project would send.
    other = export(project, "annotations/nucleus", tmp_path / f"again-{name}", ExportSettings(**WAYS[name]))
    assert import_changes(project, other / "annotations_nucleus" if name == "wk" else other).counts == {}


def test_a_map_of_classes_speaks_of_each_class_that_it_can(project, tmp_path):
    path = sent(project, tmp_path, "annotations", "labels.model")
    values = {material.name: material.value for material in open_format(path).materials}

    def change(pages):
        page = pages[COMPLETE]
        page[6, 7] = values[NUCLEUS]  # a nucleolus was nucleus after all
        page[3, 4] = values[NUCLEOLUS]  # nucleus, where a nucleolus was forgotten
        page[17, 5] = values[NUCLEUS]  # mitochondrion to nucleus: these do not lie in one another
        page[8, 11] = 0  # a nucleolus, and the nucleus around it, are nothing
        page[23, 29] = values["ignore"]

    rewrite(path, change)
    found = import_changes(project, path)
    nucleus, nucleolus, mito = (project.annotations.read_slice(name, COMPLETE) for name in (NUCLEUS, NUCLEOLUS, MITO))
    expected = masks()
    expected[NUCLEOLUS][6, 7], expected[NUCLEUS][6, 7] = 0, 1
    expected[NUCLEOLUS][3, 4], expected[NUCLEUS][3, 4] = 1, 1
    expected[MITO][17, 5], expected[NUCLEUS][17, 5] = 0, 1
    expected[NUCLEOLUS][8, 11], expected[NUCLEUS][8, 11] = 0, 0
    for mask in expected.values():
        mask[23, 29] = IGNORE
    assert np.array_equal(nucleus, expected[NUCLEUS])
    assert np.array_equal(nucleolus, expected[NUCLEOLUS])
    assert np.array_equal(mito, expected[MITO])
    cells = project.annotations.read_ids("cell", COMPLETE)
    # Ids of cells are not what a map of classes shows, so it does not change them.
    assert (cells[1:21, 1:24] == 70_000).all()
    assert found.slices == (COMPLETE,)
    text = found.table()
    assert "nucleolus" in text and str(found.n_voxels) in text
    again = sent(project, tmp_path, "annotations", "labels.h5")
    with h5py.File(again) as file:
        ours = file["labels"][COMPLETE]
    theirs = np.array(open_format(path).array[COMPLETE : COMPLETE + 1, :, :])[0]
    theirs[8, 11] = values["cell"]
    assert np.array_equal(ours, theirs)


def test_partial_slices_stay_partial_and_what_was_erased_is_known(project, tmp_path):
    path = sent(project, tmp_path, "annotations/nucleus", "labels.tif")

    def change(values):
        values[PARTIAL, 3, 3:6] = 0
        values[PARTIAL, 20, 20] = 1

    rewrite(path, change)
    import_changes(project, path)
    layer = project.annotations.read_slice(NUCLEUS, PARTIAL)
    assert layer[3, 3:6].tolist() == [0, 0, 0] and layer[20, 20] == 1
    assert (layer == 0).sum() == 3
    assert not project.annotations.noted(NUCLEUS)[PARTIAL]["complete"]


@pytest.mark.parametrize("complete", [False, True])
def test_a_slice_that_nobody_had_labelled(project, tmp_path, complete):
    path = tmp_path / "labels.model"
    export(project, "annotations", path, ExportSettings(unseen="background"))
    values = {material.name: material.value for material in open_format(path).materials}
    assert "ignore" not in values

    def change(pages):
        pages[6, 10:14, 10:14] = values[NUCLEUS]
        pages[6, 11, 11] = values[NUCLEOLUS]

    rewrite(path, change)
    before = state(project)
    import_changes(project, path, ImportChangesSettings(complete=complete))
    nucleus = project.annotations.read_slice(NUCLEUS, 6)
    assert project.annotations.noted(NUCLEUS)[6]["complete"] is complete
    assert (nucleus == 1).sum() == (16 if complete else 15)
    assert set(np.unique(nucleus)) == ({0, 1} if complete else {1, IGNORE})
    assert (project.annotations.read_slice(NUCLEOLUS, 6) == 1).sum() == 1
    assert (6 in project.annotations.noted(MITO)) is complete
    after = state(project)
    for name in (NUCLEUS, NUCLEOLUS, MITO):
        after[name].pop(6, None)
    assert after == before


def test_ids_of_objects_come_back(project, tmp_path):
    path = sent(project, tmp_path, "annotations/cell", "labels.model")

    def change(values):
        assert values.max() == IGNORE_ID
        values[COMPLETE, 20, 20:23] = 9
        values[4, 0, 0] = 9

    rewrite(path, change)
    found = import_changes(project, path)
    assert project.annotations.read_ids("cell", COMPLETE)[20, 20:23].tolist() == [9, 9, 9]
    assert project.annotations.read_ids("cell", 4)[0, 0] == 9
    assert found.n_voxels == 4 and found.slices == (COMPLETE, 4)
    assert not project.annotations.noted("cell")[4]["complete"]


def test_work_done_here_in_the_meantime_stays(project, tmp_path):
    path = sent(project, tmp_path, "annotations/nucleus", "labels.tif")
    project.annotations.write_slice(NUCLEUS, 0, masks()[NUCLEUS])
    project.annotations.write_slice(NUCLEUS, PARTIAL, masks()[NUCLEUS])
    rewrite(path, lambda values: values[COMPLETE].fill(1))
    import_changes(project, path)
    assert project.annotations.complete_slices(NUCLEUS) == (0, COMPLETE, PARTIAL)
    assert (project.annotations.read_slice(NUCLEUS, COMPLETE) == 1).all()


@pytest.mark.parametrize("unseen", ["ignore", "background"])
def test_a_file_that_is_changed_further_comes_back_again(project, tmp_path, unseen):
    path = tmp_path / "labels.model"
    export(project, "annotations", path, ExportSettings(unseen=unseen))
    values = {material.name: material.value for material in open_format(path).materials}
    for z, n in ((COMPLETE, 4), (COMPLETE, 2), (6, 3), (6, 5), (MITO_TOO, 1)):
        rewrite(path, lambda pages, z=z, n=n: pages[z, 20, 20 : 20 + n].fill(values[MITO]))
        import_changes(project, path)
        assert (project.annotations.read_slice(MITO, z)[20, 20 : 20 + n] == 1).all()
        before = state(project)
        assert import_changes(project, path).counts == {}
        assert state(project) == before
    rewrite(path, lambda pages: pages[COMPLETE, 20, 20:24].fill(0))
    found = import_changes(project, path)
    assert found.counts == {COMPLETE: {MITO: found.counts[COMPLETE][MITO]}}
    assert found.counts[COMPLETE][MITO].removed == 4


def test_a_slice_that_changed_at_both_ends_is_refused(project, tmp_path):
    path = sent(project, tmp_path, "annotations/nucleus", "labels.tif")
    project.annotations.write_slice(NUCLEUS, COMPLETE, 1 - masks()[NUCLEUS])
    rewrite(path, lambda values: values[COMPLETE].fill(1))
    before = state(project)
    with pytest.raises(DataError, match=r"slices 1 of annotations/nucleus changed in the file and.*--force"):
        import_changes(project, path)
    assert state(project) == before
    import_changes(project, path, options=Options(force=True))
    assert (project.annotations.read_slice(NUCLEUS, COMPLETE) == 1).all()


def test_materials_that_were_numbered_anew_are_known_by_name(project, tmp_path):
    """As MIB does when a material is taken away from the middle of its list."""
    path = sent(project, tmp_path, "annotations", "labels.model")
    opened = open_format(path)
    values = np.array(opened.array[:, :, :])
    old = {material.name: material.value for material in opened.materials}
    order = ["ignore", "Mito", "nucleolus", "NUCLEUS", "golgi"]
    new = {name: i + 1 for i, name in enumerate(order)}
    table = np.zeros(10, np.uint8)
    for name, value in old.items():
        table[value] = next((new[one] for one in order if one.lower() == name), 0)
    other = table[values]
    other[COMPLETE, 20, 22] = new["golgi"]
    materials = [Material(name, value, (0.5, 0.5, 0.5)) for name, value in new.items()]
    write_mib(Volume(other, Grid(SHAPE, SIZE), "labels"), tmp_path / "theirs.model", materials)
    before = state(project)
    with pytest.raises(DataError, match=r"slice 1 holds 1000 where it changed.*--class NAME=VALUE"):
        import_changes(project, tmp_path / "theirs.model")
    import_changes(project, tmp_path / "theirs.model", ImportChangesSettings(classes={"golgi": None}))
    golgi = project.annotations.read_slice("golgi", COMPLETE)
    assert golgi[20, 22] == 1 and (golgi == IGNORE).sum() == golgi.size - 1
    assert "golgi" in project.classes
    after = state(project)
    after.pop("golgi")
    before["cell"][COMPLETE] = after["cell"][COMPLETE]
    assert after == before
    with pytest.raises(UsageError, match="names no material 'lysosome'"):
        import_changes(project, tmp_path / "theirs.model", ImportChangesSettings(classes={"lysosome": None}))


def test_cells_are_not_made_out_of_a_map_of_classes(project, tmp_path):
    path = sent(project, tmp_path, "annotations", "labels.tif")

    def change(values):
        cell = project.annotations.classes.index("cell") + 1
        values[COMPLETE, 22, 22] = cell

    rewrite(path, change)
    with pytest.raises(DataError, match="Export annotations/cell by itself"):
        import_changes(project, path)


class Nothing(BaseModel):
    pass


def test_a_prediction_that_was_corrected_becomes_annotations(project, tmp_path):
    run = project.run("predict", Nothing(), {})
    with project.record(run, Nothing(), {}):
        for name in (NUCLEUS, MITO):
            grid = Grid(SHAPE, SIZE)
            probability = create_volume(run.path / f"{name}.ome.zarr", grid, np.uint8, "probability")
            probability.write(grid.box, np.full(SHAPE, 9, np.uint8))
            mask = create_volume(run.path / f"{name}.ome.zarr" / "labels" / name, grid, np.uint8, "labels")
            mask.write(grid.box, np.repeat(masks()[name][None], SHAPE[0], axis=0))
    path = tmp_path / "labels.model"
    export(project, "masks", path)
    values = {material.name: material.value for material in open_format(path).materials}

    def change(pages):
        pages[2, 2, 3:6] = 0  # a false positive
        pages[2, 20, 20] = values[NUCLEUS]  # and something that was missed

    rewrite(path, change)
    before = state(project)
    dry = import_changes(project, path, ImportChangesSettings(dry_run=True))
    assert dry.slices == (2,) and state(project) == before
    import_changes(project, path)
    layer = project.annotations.read_slice(NUCLEUS, 2)
    assert layer[2, 3:6].tolist() == [0, 0, 0] and layer[20, 20] == 1
    assert (layer == IGNORE).sum() == layer.size - 4
    assert not project.annotations.noted(NUCLEUS)[2]["complete"]
    # The same, vouched for as a whole.
    path = tmp_path / "again.model"
    export(project, "masks", path)
    rewrite(path, lambda pages: pages[4, 2:4, 3:6].fill(0))
    import_changes(project, path, ImportChangesSettings(complete=True))
    expected = masks()[NUCLEUS]
    expected[2:4, 3:6] = 0
    assert np.array_equal(project.annotations.read_slice(NUCLEUS, 4), expected)
    assert project.annotations.noted(NUCLEUS)[4]["complete"] is True


def test_some_slices_alone_are_enough(project, tmp_path):
    path = sent(project, tmp_path, "annotations/nucleus", "labels.tif")
    some = tifffile.imread(path)[[COMPLETE, PARTIAL]]
    some[0, 0, 0] = 1
    tifffile.imwrite(tmp_path / "some.tif", some, photometric="minisblack")
    found = import_changes(project, tmp_path / "some.tif", ImportChangesSettings(slices=(COMPLETE, PARTIAL)))
    assert found.slices == (COMPLETE,) and found.n_voxels == 1


def test_what_was_never_exported_is_refused(project, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full(SHAPE, 7, np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match="nothing was exported"):
        import_changes(project, tmp_path / "a.tif")
    sent(project, tmp_path, "annotations/nucleus", "labels.tif")
    with pytest.raises(DataError, match=r"none of what was exported.*import labels"):
        import_changes(project, tmp_path / "a.tif")
    (project.path / "exports" / "broken.json").write_text("{")
    with pytest.raises(DataError, match="none of what was exported"):
        import_changes(project, tmp_path / "a.tif")


def test_an_export_that_cannot_be_noted_is_done_all_the_same(project, tmp_path):
    (project.path / "exports").write_text("a file in the way")
    said = []
    export(project, "annotations", tmp_path / "l.model", options=Options(notify=said.append))
    assert (tmp_path / "l.model").is_file()
    assert any("changes to l.model cannot be told" in sentence for sentence in said)


def test_the_command_says_what_changed(project, tmp_path):
    path = sent(project, tmp_path, "annotations/nucleus", "labels.tif")
    rewrite(path, lambda values: values[COMPLETE, 20].fill(1))

    def run(*rest):
        arguments = ["import", "changes", str(project.path), str(path), "--quiet", *rest]
        return CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout

    assert "nothing was written" in run("--dry-run")
    facts = json.loads(run("--json"))
    assert facts["slices"] == [COMPLETE] and facts["changes"]["1"]["nucleus"]["added"] == SHAPE[2]
    export(project, "annotations/nucleus", path, options=Options(force=True))
    assert "nothing was changed" in run()


def test_ilastik_finds_axes_labels_and_image_as_it_reads_them(project, tmp_path):
    """Axis tags as vigra writes them; 0 is what nobody painted, 1 background, 2 and on the classes; uint8."""
    export(project, "image", tmp_path / "image.h5", ExportSettings(format="ilastik"))
    path = sent(project, tmp_path, "annotations/nucleus", "ilastik.h5")
    for name, dataset in (("image.h5", "image"), ("ilastik.h5", "labels")):
        with h5py.File(tmp_path / name) as file:
            tags = json.loads(file[dataset].attrs["axistags"])
            assert [axis["key"] for axis in tags["axes"]] == ["z", "y", "x"]
            assert all(set(axis) == {"key", "typeFlags", "resolution", "description"} for axis in tags["axes"])
            assert [axis["typeFlags"] for axis in tags["axes"]] == [2, 2, 2]
            assert file[dataset].dtype == np.uint8 and file[dataset].shape == SHAPE
    with h5py.File(path) as file:
        labels = file["labels"][:]
    assert np.array_equal(labels[COMPLETE], masks()[NUCLEUS] + 1)
    assert set(np.unique(labels[PARTIAL])) == {0, 2} and not labels[0].any()
    # As ilastik exports labels: another name, axes and a channel more.
    turned = labels.transpose(2, 1, 0)[..., None].copy()
    turned[25, 21, COMPLETE] = 2
    with h5py.File(tmp_path / "exported.h5", "w") as file:
        made = file.create_dataset("exported_data", data=turned)
        keys = [{"key": key, "typeFlags": 1 if key == "c" else 2} for key in "xyzc"]
        made.attrs["axistags"] = json.dumps({"axes": keys})
    found = import_changes(project, tmp_path / "exported.h5")
    assert found.n_voxels == 1
    assert project.annotations.read_slice(NUCLEUS, COMPLETE)[21, 25] == 1


def test_mib_reads_what_changed_in_between(project, tmp_path):
    path = sent(project, tmp_path, "annotations", "labels.model")
    model = mat73.loadmat(path)
    assert "nucleus" in [str(name) for name in np.ravel(model["modelMaterialNames"])]
    # MATLAB has rows, columns, slices.
    assert model["mibModel"].shape == (SHAPE[1], SHAPE[2], SHAPE[0])
    assert import_changes(project, path).counts == {}


THEIRS = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import webknossos as wk
dataset = wk.Dataset.open(sys.argv[1])
layer = dataset.get_layer("annotations_nucleus")
assert layer.category == "segmentation" and tuple(dataset.voxel_size) == (4.0, 4.0, 40.0), dataset.voxel_size
mag = layer.get_finest_mag()
data = mag.read()
assert data.shape == (1, 30, 24, 7), data.shape
box = mag.bounding_box
data[0, 22:25, 20:22, 1] = 1
other = wk.Dataset(sys.argv[2], voxel_size=(4, 4, 40), name="theirs")
mine = other.add_layer("volume", "segmentation", dtype_per_channel=data.dtype, largest_segment_id=255,
                       data_format=sys.argv[3], bounding_box=wk.BoundingBox((0, 0, 0), (30, 24, 7)))
mine.add_mag(1).write(data, allow_unaligned=True)
"""


@pytest.mark.parametrize("form", ["zarr3", "zarr"])
def test_the_library_of_webknossos_reads_and_writes_what_we_do(project, tmp_path, form):
    """Its licence is AGPL, so it is no part of what is installed; ``$WEBKNOSSOS_PYTHON`` is a Python that has it."""
    python = os.environ.get("WEBKNOSSOS_PYTHON") or sys.executable
    if python == sys.executable and importlib.util.find_spec("webknossos") is None:
        pytest.skip("the webknossos library is not there; set WEBKNOSSOS_PYTHON to a Python that has it")
    sent(project, tmp_path, "annotations/nucleus", "wk")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [python, "-c", THEIRS, str(tmp_path / "wk"), str(tmp_path / "theirs"), form]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean)
    assert done.returncode == 0, done.stderr
    found = import_changes(project, tmp_path / "theirs" / "volume")
    assert found.slices == (COMPLETE,) and found.counts[COMPLETE][NUCLEUS].added == 6


CELLS = st.integers(0, 4)


@given(
    st.lists(st.tuples(CELLS, CELLS, st.sampled_from([0, 1, IGNORE])), min_size=1, max_size=60),
    st.booleans(),
    st.sampled_from([(), ("a",)]),
)
def test_only_changed_voxels_change_and_the_map_is_then_obeyed(voxels, known, outer):
    before, after, layer = (np.array(column) for column in zip(*voxels, strict=True))
    layer = np.where(before == 1, 1, np.where(layer == 1, 0, layer)).astype(np.uint8)
    meaning = MapOfClasses({"a": 1, "b": 2, "c": 3}, 4, {"b": outer} if outer else {})
    new = changed_mask("a", (before, after), layer, meaning, known=known)
    same = before == after
    assert np.array_equal(new[same], layer[same])
    assert (new[~same & (after == 1)] == 1).all()
    assert (new[~same & (after == 4)] == IGNORE).all()
    told = ~same & np.isin(after, [0, 3] if outer else [0, 2, 3])
    assert (new[told & (known | (before == 1))] == 0).all()
    assert np.array_equal(new[told & ~np.bool_(known) & (before != 1)], layer[told & ~np.bool_(known) & (before != 1)])
    assert count(layer, new).total == int((layer != new).sum())
