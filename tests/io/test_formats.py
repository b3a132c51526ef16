"""Every format that is read: any part of what its own library wrote comes back, with the voxel size."""

from __future__ import annotations

import pickle

import h5py
import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest
import scipy.io
from format_files import (
    IMAGES,
    LABELS,
    MATERIALS,
    SHAPE,
    SIZE,
    amira,
    grey,
    gz,
    hdf5,
    model,
    model5,
    mrc,
    mrc_header,
    nifti,
    nrrd_file,
    painted,
)

from cristae.errors import DataError
from cristae.geometry import Box
from cristae.io.images import open_images
from cristae.io.label_rules import LabelRules
from cristae.io.labels import open_labels, whole_shape
from cristae.io.registry import FORMATS, format_of, open_format, split_source

EVERYTHING = (slice(None),) * 3
PART = (slice(1, 4), slice(2, 9), slice(3, 5))
FOREIGN = [name for name in IMAGES if not name.startswith(("tiff", "png", "jpeg"))]


def refused(source, message):
    with pytest.raises(DataError, match=message) as caught:
        open_images(source, SIZE)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_library_wrote_is_read_whole_and_in_parts(tmp_path, name):
    path = IMAGES[name](tmp_path)
    opened = open_format(path)
    expected = painted() if "rle" in name else grey()
    assert opened.array.shape == SHAPE
    assert (opened.array[EVERYTHING] == expected).all()
    assert (opened.array[PART] == expected[PART]).all()
    assert (opened.array[slice(0, 1), slice(0, 3), slice(0, 2)] == expected[:1, :3, :2]).all()  # going back
    assert opened.array[slice(2, 2), slice(0, 3), slice(0, 2)].shape == (0, 3, 2)
    assert opened.array[EVERYTHING].dtype.isnative
    assert opened.voxel_size == pytest.approx(SIZE, rel=1e-6)
    copy = pickle.loads(pickle.dumps(opened.array))
    assert (copy[PART] == expected[PART]).all()


@pytest.mark.parametrize("name", FOREIGN)
def test_images_of_every_format_become_grey_volumes(tmp_path, name):
    opened = open_images(IMAGES[name](tmp_path), None)
    expected = painted() if "rle" in name else grey()
    if name == "mrc":  # signed
        expected = expected - expected.min()
    assert (opened.volume.read() == expected).all()
    assert (opened.volume.read(Box((1, 2, 3), (3, 5, 8))) == expected[1:3, 2:5, 3:8]).all()
    assert opened.volume.grid.voxel_size == pytest.approx(SIZE, rel=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("form", ["BINARY-LITTLE-ENDIAN", "BINARY", "ASCII"])
def test_lattices_of_all_types_and_byte_orders(tmp_path, dtype, form):
    values = grey(dtype) * (1 if dtype == "uint8" else 200 if dtype != "int16" else -3)
    opened = open_format(amira(tmp_path / "a.am", values.astype(dtype), form))
    assert opened.array[EVERYTHING].dtype == np.dtype(dtype)
    assert (opened.array[EVERYTHING] == values.astype(dtype)).all()


def test_materials_of_a_mesh_have_their_places_as_values(tmp_path):
    names = [(one.name, one.value, one.colour) for one in open_format(amira(tmp_path / "a.am", painted())).materials]
    assert names == [("Nucleus", 1, (0.8, 0.1, 0.2)), ("My mito", 2, (0.0, 1.0, 0.0))]


def test_a_mesh_without_a_unit_says_so_and_states_nothing(tmp_path):
    opened = open_format(amira(tmp_path / "a.am", grey(), unit=""))
    assert opened.voxel_size is None
    assert "without a known unit" in opened.notes[0]
    micrometres = open_format(amira(tmp_path / "b.am", grey(), unit="µm"))
    assert micrometres.voxel_size == pytest.approx([1e3 * size for size in SIZE])


def test_long_run_lengths_cross_slices(tmp_path):
    values = np.zeros((7, 31, 33), np.uint8)
    values[3:5, 10:20] = 9
    opened = open_format(amira(tmp_path / "a.am", values, codec="HxByteRLE"))
    for z in (6, 0, 3, 4):
        assert (opened.array[slice(z, z + 1), slice(None), slice(None)][0] == values[z]).all()


@pytest.mark.parametrize(("dtype", "seen"), [("int8", "uint8"), ("int16", "uint16"), ("uint16", "uint16")])
def test_signed_and_unsigned_mrc(tmp_path, dtype, seen):
    values = (grey("int16") - (60 if dtype != "uint16" else 0)).astype(dtype)
    opened = open_images(mrc(tmp_path / "a.mrc", values), None)
    assert opened.volume.dtype == np.dtype(seen)
    shift = {"int8": 128, "int16": -int(values.min()), "uint16": 0}[dtype]
    assert (opened.volume.read() == values.astype(int) + shift).all()
    assert bool(opened.notes) == (dtype != "uint16")


def test_unsigned_bytes_of_imod_are_told_by_its_stamp(tmp_path):
    path = mrc(tmp_path / "a.mrc", (grey() * 2).view(np.int8))
    mrc_header(path, 152, "<ii", 1146047817, 0)
    opened = open_images(path, None)
    assert (opened.volume.read() == grey() * 2).all()
    assert any("unsigned bytes" in note for note in opened.notes)
    mrc_header(path, 152, "<ii", 1146047817, 1)
    assert (open_images(path, None).volume.read() == (grey() * 2) ^ 128).all()


def test_big_endian_mrc_and_extended_headers(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc", grey("int16")) as file:
        file.set_extended_header(np.zeros(100, "V1"))
        file.voxel_size = 40.0
    raw = (tmp_path / "a.mrc").read_bytes()
    header = np.frombuffer(raw[:1024], "<u4").byteswap().tobytes()
    swapped = bytearray(header + raw[1024:1124] + np.frombuffer(raw[1124:], "<i2").byteswap().tobytes())
    for place in (104, 108, 208, 212):  # text
        swapped[place : place + 4] = raw[place : place + 4]
    swapped[212:214] = b"\x11\x11"
    (tmp_path / "b.mrc").write_bytes(bytes(swapped))
    for name in ("a.mrc", "b.mrc"):
        opened = open_format(tmp_path / name)
        assert (opened.array[EVERYTHING] == grey()).all()
        assert opened.voxel_size == (4.0, 4.0, 4.0)


def test_an_mrc_with_other_axes_is_turned(tmp_path):
    path = mrc(tmp_path / "a.mrc", grey("int16").transpose(2, 1, 0))  # columns along z
    with mrcfile.open(path, "r+") as file:
        file.header.mapc, file.header.mapr, file.header.maps = 3, 2, 1
        file.header.mx, file.header.mz = SHAPE[2], SHAPE[0]
        file.header.cella.x, file.header.cella.z = 10 * SIZE[2] * SHAPE[2], 10 * SIZE[0] * SHAPE[0]
    opened = open_format(path)
    assert (opened.array[PART] == grey()[PART]).all()
    assert opened.voxel_size == pytest.approx(SIZE)


def test_modes_that_are_no_grey_values_are_refused(tmp_path):
    refused(mrc(tmp_path / "a.mrc", grey().astype(np.complex64)), "complex")


def test_a_dataset_is_named_behind_a_colon_or_a_slash(tmp_path):
    path = hdf5(tmp_path / "stack.h5", grey())
    with h5py.File(path, "r+") as file:
        file["volumes/labels"] = painted()
        file["volumes/table"] = np.arange(4.0)
    for source in (f"{path}:/volumes/raw", f"{path}:volumes/raw", f"{path}/volumes/raw"):
        assert (open_images(source, SIZE).volume.read() == grey()).all()
    refused(path, r"2 datasets of three axes.*/volumes/labels \(5×12×14 uint8\), /volumes/raw .*/volumes/table")
    refused(f"{path}:/volumes/ram", r"no dataset '/volumes/ram'; there are: /volumes/labels")
    refused(f"{path}:/volumes", "no dataset '/volumes'")
    refused(f"{path}:/volumes/table", "1 axes")


def test_the_axes_of_ilastik_count(tmp_path):
    def tagged(name, values, keys, **more):
        with h5py.File(tmp_path / name, "w") as file:
            dataset = file.create_dataset("exported_data", data=values)
            axes = ",".join(f'{{"key": "{key}", "typeFlags": 2}}' for key in keys)
            dataset.attrs["axistags"] = f'{{"axes": [{axes}]}}'
        return tmp_path / name

    whole = grey()
    for keys, order in (("zyx", (0, 1, 2)), ("xyz", (2, 1, 0)), ("yzx", (1, 0, 2))):
        opened = open_format(tagged("a.h5", whole.transpose(order), keys))
        assert (opened.array[PART] == whole[PART]).all(), keys
    opened = open_format(tagged("a.h5", whole.transpose(1, 0, 2)[None, ..., None], "tyzxc"))
    assert (opened.array[PART] == whole[PART]).all()
    refused(tagged("a.h5", np.stack([whole, whole]), "czyx"), "several channels")


def test_nothing_outside_an_hdf5_file_is_read(tmp_path):
    hdf5(tmp_path / "secret.h5", grey())
    path = hdf5(tmp_path / "a.h5", grey())
    raw = tmp_path / "secret.raw"
    grey().tofile(raw)
    with h5py.File(path, "r+") as file:
        file["outside"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/volumes/raw")
        file["soft"] = h5py.SoftLink("/outside")
        file["loop"] = h5py.SoftLink("/loop")
        file.create_dataset("external", SHAPE, np.uint8, external=[(str(raw), 0, h5py.h5f.UNLIMITED)])
        layout = h5py.VirtualLayout(SHAPE, np.uint8)
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "volumes/raw", SHAPE)
        file.create_virtual_dataset("virtual", layout)
    for name, message in (
        ("outside", "a link into another file"),
        ("soft", "a link to '/outside'"),
        ("loop", "a link"),
        ("external", "lie in other files"),
        ("virtual", "lie in other files"),
    ):
        refused(f"{path}:/{name}", message)


def test_voxels_of_a_detached_nrrd_must_lie_beside_it(tmp_path):
    nrrd_file(tmp_path / "a.nhdr", grey())
    assert (open_format(tmp_path / "a.nhdr").array[EVERYTHING] == grey()).all()
    text = (tmp_path / "a.nhdr").read_text()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.nhdr").write_text(text.replace("a.raw", "../a.raw"))
    refused(tmp_path / "below" / "b.nhdr", "same folder")
    (tmp_path / "below" / "c.raw").symlink_to(tmp_path / "a.raw")
    (tmp_path / "below" / "c.nhdr").write_text(text.replace("a.raw", "c.raw"))
    refused(tmp_path / "below" / "c.nhdr", "same folder")


def test_nifti_with_a_slope_is_scaled(tmp_path):
    image = nibabel.Nifti1Image(grey("int16").transpose(2, 1, 0), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    image.header.set_data_dtype(np.int16)
    path = tmp_path / "a.nii"
    nibabel.save(image, path)
    expected = np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)
    assert np.allclose(open_format(path).array[EVERYTHING], expected, atol=1e-3)


def test_sizes_that_a_file_cannot_hold_are_refused_before_anything_is_allocated(tmp_path):
    huge = 2**20
    mrc_header(mrc(tmp_path / "a.mrc", grey("int16")), 0, "<iii", 60000, 60000, 60000)
    raw = nifti(tmp_path / "n.nii", grey()).read_bytes()
    bad = raw[:40] + np.array([3, 30000, 30000, 30000], "<i2").tobytes() + raw[48:]
    (tmp_path / "n.nii").write_bytes(bad)
    gz(tmp_path / "m.nii.gz", bad)
    for encoding in ("raw", "gzip", "bzip2", "ascii"):
        path = nrrd_file(tmp_path / f"{encoding}.nrrd", grey(), encoding)
        path.write_bytes(path.read_bytes().replace(b"sizes: 14 12 5", b"sizes: 140000 120000 50000"))
    for codec in ("", "HxByteRLE", "HxZip"):
        path = amira(tmp_path / f"{codec}.am", painted(), codec=codec)
        path.write_bytes(path.read_bytes().replace(b"Lattice 14 12 5", b"Lattice 140000 120000 5000"))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (huge, huge, huge), np.uint8, chunks=(8, 8, 8))
        file.create_dataset("b", (huge, huge, huge), np.uint8, chunks=(8, 8, 8), compression="gzip")
        file["b"][0, 0, 0] = 1
    for path in sorted(tmp_path.iterdir()):
        for source in [path] if path.suffix != ".h5" else [f"{path}:/a", f"{path}:/b"]:
            refused(source, "more than it holds")


@pytest.mark.parametrize("write", [model, model5])
def test_a_model_gives_labels_names_colours_and_size(tmp_path, write):
    path = write(tmp_path / "Labels_bx1.model", painted())
    opened = open_format(path)
    assert (opened.array[EVERYTHING] == painted()).all()
    assert (opened.array[PART] == painted()[PART]).all()
    assert opened.voxel_size == pytest.approx(SIZE)
    assert opened.materials == MATERIALS


def test_classes_of_a_model_are_found_by_name(tmp_path):
    path = model(tmp_path / "a.model", painted())
    source = open_labels(path, SHAPE, LabelRules({"nucleus": None, "mitochondrion µ": None}))
    source.check()
    layers = {z: layers for z, layers in source.slices()}
    assert (layers[2]["nucleus"] == (painted()[2] == 1)).all()
    assert (layers[2]["mitochondrion µ"] == (painted()[2] == 2)).all()
    assert source.material("nucleus") == MATERIALS[0]
    one = open_labels(path, SHAPE, LabelRules({"nucleus": None}))
    one.check()  # the other material is not asked for
    with pytest.raises(DataError, match=r"no material 'cell'; there are: nucleus \(1\), Mitochondrion µ \(2\)"):
        open_labels(path, SHAPE, LabelRules({"cell": None}))
    with pytest.raises(DataError, match="holds the value 2, which no class has"):
        open_labels(path, SHAPE, LabelRules({"nucleus": (1,)})).check()


def test_a_model_in_another_axis_order_is_turned_to_fit_the_image(tmp_path):
    path = model(tmp_path / "a.model", painted().transpose(0, 2, 1))
    source = open_labels(path, SHAPE, LabelRules({"nucleus": None}))
    assert (source.read(2) == painted()[2]).all()
    assert "exchanged" in source.notes[0]
    with pytest.raises(DataError, match=r"slices of 14×12 \(y, x\); expected 12×15"):
        open_labels(path, (5, 12, 15), LabelRules({"nucleus": None}))


def test_a_model_without_names_has_rows_and_columns_exchanged_as_mib_reads_it(tmp_path):
    path = tmp_path / "a.model"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["some_variable"] = painted()
    assert (open_format(path).array[EVERYTHING] == painted()).all()
    assert open_format(path).voxel_size is None


def test_a_model_of_a_single_slice_or_without_labels_is_refused(tmp_path):
    for name, values, message in (
        ("a", {"mibModel": np.zeros((5, 6), np.uint8)}, "single slice"),
        ("b", {"mibModel": np.zeros((2, 3, 5, 6), np.uint8)}, "4 axes"),
        ("c", {"other": np.zeros((3, 5, 6))}, "does not say which variable"),
        ("d", {"mibModel": np.zeros((3, 5, 6))}, "expected labels"),
    ):
        with h5py.File(tmp_path / f"{name}.model", "w", userblock_size=512) as file:
            for key, value in values.items():
                file[key] = value
        with pytest.raises(DataError, match=message):
            open_labels(tmp_path / f"{name}.model", SHAPE, LabelRules({"nucleus": None}))


def test_labels_of_every_format_are_read(tmp_path):
    for name, make in LABELS.items():
        source = open_labels(make(tmp_path), SHAPE, LabelRules({"nucleus": None}))
        source.check()
        assert (source.read(3) == painted()[3]).all(), name
        assert source.voxel_size == pytest.approx(SIZE)
    for name in ("nifti.gz", "nrrd gzip", "hdf5"):
        path = IMAGES[name](tmp_path)
        assert whole_shape(path) == SHAPE
        source = open_labels(path, SHAPE, LabelRules({"cell": None}, instances=True))
        assert (next(iter(source.slices())).layers["cell"] == grey()[0]).all()


def test_the_registry_knows_its_files(tmp_path):
    assert {known.name for known in FORMATS} == {"MRC", "HDF5", "Amira mesh", "NRRD", "NIfTI", "MIB model"}
    assert format_of(tmp_path / "A.NII.GZ").name == "NIfTI"
    assert format_of(tmp_path / "a.tif") is None
    assert split_source("x/a.h5:/b/c") == (tmp_path.__class__("x/a.h5"), "/b/c")
    assert split_source("x/a.tif:/b") == (tmp_path.__class__("x/a.tif:/b"), "")
    (tmp_path / "a.h5:").mkdir()
    (tmp_path / "a.h5:" / "b").write_text("")
    assert split_source(tmp_path / "a.h5:" / "b") == (tmp_path / "a.h5:" / "b", "")
    refused(tmp_path / "none.mrc", "does not exist")
    (tmp_path / "junk.nrrd").write_text("no header")
    refused(tmp_path / "junk.nrrd", "damaged or not what its name says")
    assert nrrd.__version__


@pytest.mark.parametrize("keywords", [{}, {"chunks": (1, 64, 64)}, {"chunks": (1, 64, 64), "compression": "gzip"}])
def test_a_dataset_that_nobody_wrote_to_is_background(tmp_path, keywords):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("labels", (5, 64, 64), np.uint8, fillvalue=3, **keywords)
    assert (open_format(tmp_path / "a.h5").array[EVERYTHING] == 3).all()
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("labels", (10**6, 10**5, 10**5), np.uint8, chunks=(1, 64, 64))
    refused(tmp_path / "b.h5", "more than it holds")


@pytest.mark.parametrize("shape", [(1, 40, 50, 3), (5, 40, 50, 3), (1, 40, 50, 4), (40, 50, 3)])
def test_channels_behind_the_axes_are_no_voxels(tmp_path, shape):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = np.zeros(shape, np.uint8)
    with pytest.raises(DataError, match="channels"):
        open_format(tmp_path / "a.h5")


def test_a_narrow_volume_is_one_where_its_axes_have_names(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = np.zeros((40, 50, 3), np.uint8)
        for axis, key in enumerate("zyx"):
            file["image"].dims[axis].label = key
    assert open_format(tmp_path / "a.h5").array.shape == (40, 50, 3)


def test_notes_in_a_model_are_not_lost_without_a_word(tmp_path):
    path = model(tmp_path / "a.model", painted())
    assert open_format(path).notes == ()
    with h5py.File(path, "r+") as file:
        texts = [np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None] for text in ("one", "two")]
        references = [file.create_dataset(f"#refs#/n{i}", data=text).ref for i, text in enumerate(texts)]
        file.create_dataset("labelText", (1, 2), h5py.ref_dtype)[0, :] = references
        file["labelValue"], file["labelPosition"] = np.ones((1, 2)), np.ones((4, 2))
    assert "2 annotations" in open_format(path).notes[0]
    source = open_labels(path, SHAPE, LabelRules({"nucleus": None}))
    assert "a.model: 2 annotations (texts at points) are not imported" in source.notes[0]
    path = model5(tmp_path / "b.model", painted())
    facts = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    facts["labelText"] = np.array(["one"], object)[:, None]
    scipy.io.savemat(path, facts, appendmat=False)
    assert "1 annotation " in open_format(path).notes[0]
    facts["labelText"] = np.zeros((0, 0))
    scipy.io.savemat(path, facts, appendmat=False)
    assert open_format(path).notes == ()
