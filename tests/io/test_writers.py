"""What is exported is opened by the readers of others: voxels, ids and voxel size survive."""

from __future__ import annotations

import json
import resource

import h5py
import mat73
import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cristae.errors import DataError, ResourceError, UsageError
from cristae.files import writable
from cristae.geometry import Box, Grid
from cristae.io.hdf5 import write_hdf5
from cristae.io.levels import LevelStream, factors_of, grids_of, reduce_block
from cristae.io.mib import write_mib
from cristae.io.mrc import write_mrc
from cristae.io.nifti import write_nifti
from cristae.io.nnunet import write_nnunet
from cristae.io.nrrd import write_nrrd
from cristae.io.opened import Material
from cristae.io.precomputed import compress_labels, write_precomputed
from cristae.io.registry import open_format
from cristae.io.webknossos import write_webknossos
from cristae.volume import Volume

SIZE = (45.0, 4.6, 5.2)
EVERYTHING = (slice(None),) * 3
WRITERS = {
    "a.mrc": write_mrc,
    "a.h5": write_hdf5,
    "a.nrrd": write_nrrd,
    "a.nii": write_nifti,
    "a.nii.gz": write_nifti,
    "a.model": write_mib,
}


def volume(values, kind="labels", size=SIZE):
    return Volume(values, Grid(values.shape, size), kind)


def ids(shape=(6, 70, 90), most=70000):
    """Labels in blocks, with ids up to `most`."""
    random = np.random.default_rng(0)
    coarse = random.choice(np.array([0, 1, 2, 255, 256, 65535, most], np.uint32), [-(-n // 5) for n in shape])
    return np.ascontiguousarray(np.kron(coarse, np.ones((5, 5, 5), np.uint32))[tuple(map(slice, shape))])


def numbers(dtype, shape=(5, 7, 9), most=None):
    most = most or (2**16 - 1 if np.dtype(dtype).kind == "f" else min(np.iinfo(dtype).max, 2**31))
    return np.random.default_rng(1).integers(0, most, shape).astype(dtype)


def theirs(path):
    """Return voxels (z, y, x) and voxel size (nm) as the library of the format reads them."""
    if path.suffix == ".mrc":
        with mrcfile.open(path) as file:
            assert file.is_volume()
            return file.data.copy(), [float(file.voxel_size[axis]) / 10 for axis in "zyx"]
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            found = next(file[name] for name in ("image", "labels") if name in file)
            assert [axis["key"] for axis in json.loads(found.attrs["axistags"])["axes"]] == ["z", "y", "x"]
            assert found.attrs["element_size_um"] == pytest.approx([size / 1e3 for size in SIZE])
            return found[:], found.attrs["resolution"]
    if path.suffix == ".nrrd":
        values, header = nrrd.read(str(path))
        assert header["space units"] == ["nm"] * 3
        return values.transpose(2, 1, 0), np.diag(header["space directions"])[::-1]
    if path.suffix == ".model":
        facts = mat73.loadmat(path)
        box, values = facts["BoundingBox"], facts["mibModel"].transpose(2, 0, 1)
        return values, [
            (box[2 * i + 1] - box[2 * i]) * 1e3 / (n - 1) for i, n in zip((2, 1, 0), values.shape, strict=True)
        ]
    image = nibabel.load(path)
    assert image.header.get_xyzt_units()[0] == "micron"
    assert np.allclose(image.affine, image.header.get_best_affine())
    return np.asarray(image.dataobj).transpose(2, 1, 0), [1e3 * size for size in reversed(image.header.get_zooms())]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["image", "labels"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_their_library_reads_what_we_write_and_we_do_too(tmp_path, name, kind, dtype):
    if name == "a.model" and kind == "image":
        return
    most = 60000 if name == "a.mrc" and dtype == "uint32" else None
    values = numbers(dtype, most=most)
    told = []
    path = WRITERS[name](volume(values, kind), tmp_path / name, told=lambda done, total: told.append((done, total)))
    read, size = theirs(path)
    assert (read == values).all()
    assert size == pytest.approx(SIZE, rel=1e-6)
    ours = open_format(path)
    assert (ours.array[EVERYTHING] == values).all()
    assert ours.voxel_size == pytest.approx(SIZE, rel=1e-6)
    assert told[-1] == (5, 5)
    assert [found.name for found in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "a.model"])
def test_floating_point_survives(tmp_path, name):
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    assert (theirs(WRITERS[name](volume(values, "probability"), tmp_path / name))[0] == values).all()


@settings(max_examples=15, deadline=None)
@given(
    arrays(np.uint16, st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))),
    st.tuples(*[st.floats(0.5, 500)] * 3),
    st.sampled_from(sorted(WRITERS)),
)
def test_any_shape_and_voxel_size_round_trips(tmp_path_factory, values, size, name):
    folder = tmp_path_factory.mktemp("w")
    made = Volume(values, Grid(values.shape, size), "labels")
    opened = open_format(WRITERS[name](made, folder / name), "/labels" if name == "a.h5" else "")
    if name == "a.h5":
        assert opened.array.shape == values.shape
    assert (opened.array[EVERYTHING] == values).all()
    assert opened.voxel_size == pytest.approx(size, rel=1e-6)


def test_ids_above_16_bit_are_kept_or_refused_in_words(tmp_path):
    for name in WRITERS:
        if name != "a.mrc":
            assert (theirs(WRITERS[name](volume(ids()), tmp_path / name))[0] == ids()).all(), name
    with pytest.raises(DataError, match=r"up to 65535.*the id 70000 cannot be written.*\.h5"):
        write_mrc(volume(ids()), tmp_path / "a.mrc")
    assert not (tmp_path / "a.mrc").exists()
    with pytest.raises(DataError, match="int64"):
        write_nrrd(volume(np.zeros((1, 2, 3), np.int64)), tmp_path / "b.nrrd")
    with pytest.raises(DataError, match="holds labels"):
        write_mib(volume(np.zeros((1, 2, 3), np.float32)), tmp_path / "b.model")


def test_a_model_keeps_names_colours_and_size(tmp_path):
    materials = (Material("nucleus", 1, (0.9, 0.25, 0.125)), Material("Mitochondrion µ", 2, (0.0, 0.5, 1.0)))
    values = numbers("uint8", most=3)
    path = write_mib(volume(values), tmp_path / "a.model", materials)
    facts = mat73.loadmat(path)
    assert facts["modelVariable"] == "mibModel"
    assert facts["modelMaterialNames"] == [["nucleus"], ["Mitochondrion µ"]]
    assert facts["modelMaterialColors"] == pytest.approx(np.array([[0.9, 0.25, 0.125], [0, 0.5, 1]]))
    assert facts["modelType"] == 63
    assert path.read_bytes()[:10] == b"MATLAB 7.3"
    opened = open_format(path)
    assert opened.materials == materials
    again = write_mib(volume(opened.array[EVERYTHING]), tmp_path / "b.model", opened.materials)
    assert open_format(again).materials == materials


@pytest.mark.parametrize(("most", "kind", "dtype"), [(63, 63, "uint8"), (200, 255, "uint8"), (256, 65535, "uint16")])
def test_a_model_is_of_the_smallest_type_that_holds_its_ids(tmp_path, most, kind, dtype):
    values = np.array([[[0, most], [1, 2]]], np.uint32)
    facts = mat73.loadmat(write_mib(volume(values), tmp_path / "a.model"))
    assert facts["modelType"] == kind
    assert facts["mibModel"].dtype == np.dtype(dtype)
    assert (open_format(tmp_path / "a.model").array[EVERYTHING] == values).all()


def test_nothing_is_overwritten_unasked_and_nothing_half_made_is_left(tmp_path):
    class Dying:
        shape, dtype = (40, 4, 4), np.dtype(np.uint8)

        def __getitem__(self, index):
            if index[0].start >= 16:
                raise OSError(28, "No space left on device")
            return np.zeros((16, 4, 4), np.uint8)

    for name, write in WRITERS.items():
        write(volume(numbers("uint8")), tmp_path / name)
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UsageError, match="--force"):
            write(volume(numbers("uint8") // 2), tmp_path / name)
        with pytest.raises(OSError, match="No space"):
            write(Volume(Dying(), Grid((40, 4, 4), SIZE), "labels"), tmp_path / name, overwrite=True)
        assert (tmp_path / name).read_bytes() == before
        write(volume(numbers("uint8") // 2), tmp_path / name, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(WRITERS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch, name):
    def full(*_):
        raise OSError(28, "No space left on device")

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    values = np.random.default_rng(0).integers(0, 60000, (40, 90, 90)).astype(np.uint16)
    if name == "a.mrc":  # is reserved before it is mapped
        monkeypatch.setattr("os.posix_fallocate", full)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(ResourceError, match="is full"), writable(tmp_path):
            WRITERS[name](volume(values), tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def precomputed(path, scale=0):
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "scale_index": scale,
    }
    return tensorstore.open(spec).result()


@pytest.mark.parametrize(("kind", "dtype"), [("image", "uint8"), ("image", "uint16"), ("labels", "uint32")])
def test_tensorstore_reads_all_scales_of_precomputed(tmp_path, kind, dtype):
    shape = (70, 600, 530)
    values = ids(shape) if kind == "labels" else numbers(dtype, shape)
    made = volume(values, kind, (8.0, 4.6, 5.2))
    told = []
    write_precomputed(made, tmp_path / "p", told=lambda done, total: told.append((done, total)))
    info = json.loads((tmp_path / "p" / "info").read_text())
    assert info["type"] == ("segmentation" if kind == "labels" else "image")
    assert len(info["scales"]) == 2
    expected = values
    for scale, factor in enumerate([None, (1, 2, 2)]):
        expected = reduce_block(expected, factor, kind) if factor else expected
        store = precomputed(tmp_path / "p", scale)
        assert store.domain.labels == ("x", "y", "z", "channel")
        assert (store[..., 0].read().result().transpose(2, 1, 0) == expected).all()
    assert info["scales"][0]["resolution"] == [5.2, 4.6, 8.0]
    assert info["scales"][1]["resolution"] == [10.4, 9.2, 8.0]
    assert told[-1][0] == told[-1][1]


@settings(max_examples=20, deadline=None)
@given(arrays(np.uint32, st.tuples(*[st.integers(1, 17)] * 3), elements=st.integers(0, 2**32 - 1)))
def test_any_labels_survive_compression(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("c")
    write_precomputed(volume(values), folder / "p", [Material("a", 1)])
    assert (precomputed(folder / "p")[..., 0].read().result().transpose(2, 1, 0) == values).all()
    assert json.loads((folder / "p" / "segment_properties" / "info").read_text())["inline"]["ids"] == ["1"]


def test_uniform_blocks_take_three_words():
    assert len(compress_labels(np.full((8, 8, 8), 7, np.uint32))) == 3


def test_a_webknossos_dataset_has_its_layers_and_magnifications(tmp_path):
    shape, size = (40, 600, 1100), (8.0, 4.6, 5.2)
    image, cells = numbers("uint8", shape), ids(shape)
    write_webknossos(volume(image, "image", size), tmp_path / "d", "image")
    write_webknossos(volume(cells, "labels", size), tmp_path / "d", "cells")
    found = json.loads((tmp_path / "d" / "datasource-properties.json").read_text())
    assert found["scale"] == {"factor": [5.2, 4.6, 8.0], "unit": "nanometer"}
    assert [(one["name"], one["category"], one["elementClass"]) for one in found["dataLayers"]] == [
        ("image", "color", "uint8"),
        ("cells", "segmentation", "uint32"),
    ]
    assert found["dataLayers"][1]["largestSegmentId"] == 70000
    for values, kind, layer in ((image, "image", 0), (cells, "labels", 1)):
        entry = found["dataLayers"][layer]
        assert entry["boundingBox"] == {"topLeft": [0, 0, 0], "width": 1100, "height": 600, "depth": 40}
        expected = values
        assert [mag["mag"] for mag in entry["mags"]] == [[1, 1, 1], [2, 2, 1], [4, 4, 2]]
        for mag, factor in zip(entry["mags"], [None, (1, 2, 2), (2, 2, 2)], strict=True):
            expected = reduce_block(expected, factor, kind) if factor else expected
            place = {"driver": "file", "path": str(tmp_path / "d" / mag["path"])}
            store = tensorstore.open({"driver": "zarr3", "kvstore": place}).result()
            assert store.domain.labels == ("c", "x", "y", "z")
            assert (store[0].read().result().transpose(2, 1, 0) == expected).all()
    with pytest.raises(UsageError, match="has a layer 'cells' already"):
        write_webknossos(volume(cells, "labels", size), tmp_path / "d", "cells")
    write_webknossos(volume(cells // 2, "labels", size), tmp_path / "d", "cells", overwrite=True)
    with pytest.raises(DataError, match=r"layers image, cells of voxels of \[5.2, 4.6, 8.0\] nm"):
        write_webknossos(volume(image, "image"), tmp_path / "d", "other")
    assert sorted(path.name for path in (tmp_path / "d").iterdir() if path.is_dir()) == ["cells", "image"]


def test_an_nnunet_data_set_takes_case_after_case(tmp_path):
    classes = (Material("nucleus", 1), Material("ignore", 2))
    image, labels = numbers("uint8"), numbers("uint8", most=3)
    path = tmp_path / "Dataset007_bx"
    for name in ("bx 1", "bx_2"):
        write_nnunet(volume(image, "image"), volume(labels), path, (name, classes))
    found = json.loads((path / "dataset.json").read_text())
    assert found == {
        "channel_names": {"0": "EM"},
        "labels": {"background": 0, "nucleus": 1, "ignore": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    assert sorted(file.name for file in path.rglob("*.gz")) == [
        "bx-1.nii.gz", "bx-1_0000.nii.gz", "bx-2.nii.gz", "bx-2_0000.nii.gz",
    ]  # fmt: skip
    assert (theirs(path / "imagesTr" / "bx-1_0000.nii.gz")[0] == image).all()
    assert (theirs(path / "labelsTr" / "bx-2.nii.gz")[0] == labels).all()
    with pytest.raises(UsageError, match="has a case 'bx-2' already"):
        write_nnunet(volume(image, "image"), volume(labels), path, ("bx_2", classes))
    with pytest.raises(DataError, match="has classes"):
        write_nnunet(volume(image, "image"), volume(labels), path, ("c", classes[:1]))
    with pytest.raises(UsageError, match="Dataset001_bx1"):
        write_nnunet(volume(image, "image"), volume(labels), tmp_path / "set", ("c", classes))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 70),
    st.sampled_from([(4.0, 4.0, 4.0), (45.0, 4.0, 4.0), (8.0, 4.0, 4.0)]),
    st.integers(1, 40),
    st.sampled_from(["image", "labels"]),
)
def test_levels_made_slab_by_slab_are_those_of_the_whole(depth, size, step, kind):
    values = numbers("uint8", (depth, 9, 1100))
    grid = Grid(values.shape, size)
    factors = factors_of(grid)
    found = [np.zeros(one.shape, np.uint8) for one in grids_of(grid, factors)]
    stream = LevelStream(
        factors, kind, 16, lambda level, z, slab: found[level].__setitem__(slice(z, z + len(slab)), slab)
    )
    for start in range(0, depth, step):
        stream.add(values[start : start + step])
    stream.end()
    expected = values
    for level, factor in zip(found, [(1, 1, 1), *factors], strict=True):
        expected = reduce_block(expected, factor, kind)
        assert (level == expected).all()
    assert Box.of_shape(grid.shape).n_voxels == values.size
