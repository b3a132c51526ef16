from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cristae.errors import DataError
from cristae.geometry import Box, Grid
from cristae.io.images import open_images
from cristae.io.ome_zarr import create_volume
from cristae.io.slices import read_slice, slice_numbers
from cristae.io.tiff import write_stack
from cristae.volume import Volume

SIZE = (45.0, 4.6, 4.6)


def grey(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(1, 250, shape).astype(dtype)


def save(path, values):
    if path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, values, photometric="minisblack")
    else:
        Image.fromarray(values).save(path)


def folder_of(path, values, name="z{:03}.tif", first=0):
    path.mkdir(exist_ok=True)
    for z, plane in enumerate(values, start=first):
        save(path / name.format(z), plane)
    return path


def refused(source, message, **keywords):
    with pytest.raises(DataError, match=message) as caught:
        open_images(source, SIZE, **keywords)
    assert caught.value.exit_code == 3


@settings(max_examples=12)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["uint8", "uint16"]),
    st.sampled_from(["z{}.tif", "Cell_2_slice{:04}.TIFF", "a{}.png", "{:02}_8bit.PNG"]),
    st.integers(0, 200),
)
def test_a_folder_reads_as_what_was_saved(tmp_path_factory, shape, dtype, name, first):
    values = grey(shape, dtype)
    source = open_images(folder_of(tmp_path_factory.mktemp("f"), values, name, first), SIZE)
    assert source.volume.kind == "image"
    assert source.volume.grid == Grid(shape, SIZE)
    assert source.volume.dtype == np.dtype(dtype)
    assert (source.volume.read() == values).all()
    assert source.missing == ()
    assert source.first_number == (first if shape[0] > 1 else 0)
    assert len(source.files) == shape[0]


def test_boxes_cut_through_a_folder(tmp_path):
    values = grey((5, 9, 11))
    volume = open_images(folder_of(tmp_path / "f", values), SIZE).volume
    box = Box((1, 2, 3), (4, 8, 5))
    assert (volume.read(box) == values[box.slices]).all()
    assert volume.read(Box((1, 2, 3), (1, 8, 5))).shape == (0, 6, 2)


def test_jpegs_are_read(tmp_path):
    values = np.full((3, 16, 16), 120, np.uint8)
    assert (open_images(folder_of(tmp_path / "f", values, "s{}.JPG"), SIZE).volume.read() == values).all()


def test_hidden_and_other_files_are_passed_over(tmp_path):
    source = folder_of(tmp_path / "f", grey((3, 4, 5)))
    (source / ".z007.tif").write_bytes(b"")
    (source / "Thumbs.db").write_bytes(b"")
    (source / "notes9.txt").write_text("")
    (source / "z009.tif").mkdir()
    assert open_images(source, SIZE).volume.shape == (3, 4, 5)


def test_natural_order_where_names_carry_no_number(tmp_path):
    values = grey((3, 4, 5))
    source = tmp_path / "f"
    source.mkdir()
    for name, plane in zip(("bottom.tif", "middle2.tif", "top.tif"), values, strict=True):
        save(source / name, plane)
    opened = open_images(source, SIZE)
    assert (opened.volume.read() == values).all()
    assert "order of the names" in opened.notes[0]


def test_stacks_read_lazily_whatever_wrote_them(tmp_path):
    values = grey((5, 20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True)
    tifffile.imwrite(tmp_path / "b.tiff", values, compression="zlib", photometric="minisblack", bigtiff=True)
    for name in ("a.tif", "b.tiff"):
        opened = open_images(tmp_path / name, SIZE)
        assert (opened.volume.read() == values).all()
        assert opened.volume.grid == Grid((5, 20, 30), SIZE)


def test_a_folder_with_one_stack_is_that_stack(tmp_path):
    (tmp_path / "f").mkdir()
    save(tmp_path / "f" / "stack.tif", grey((5, 6, 7)))
    assert open_images(tmp_path / "f", SIZE).volume.shape == (5, 6, 7)


def test_one_picture_is_a_volume_of_one_slice(tmp_path):
    save(tmp_path / "a.png", grey((6, 7)))
    assert (open_images(tmp_path / "a.png", SIZE).volume.read()[0] == grey((6, 7))).all()


def test_the_users_voxel_size_counts_and_a_difference_is_said(tmp_path):
    write_stack(Volume(grey((2, 3, 4)), Grid((2, 3, 4), SIZE)), tmp_path / "a.tif")
    assert open_images(tmp_path / "a.tif", None).volume.grid.voxel_size == pytest.approx(SIZE)
    assert open_images(tmp_path / "a.tif", (45.0, 4.61, 4.6)).notes == ()
    other = open_images(tmp_path / "a.tif", (45.0, 5.0, 5.0))
    assert other.volume.grid.voxel_size == (45.0, 5.0, 5.0)
    assert "45 × 4.6 × 4.6 nm" in other.notes[0]


def test_without_a_voxel_size_nothing_is_assumed(tmp_path):
    save(tmp_path / "a.tif", grey((2, 3, 4)))
    with pytest.raises(DataError, match="voxel size"):
        open_images(tmp_path / "a.tif", None)
    with pytest.raises(DataError, match="positive"):
        open_images(tmp_path / "a.tif", (0.0, 4.6, 4.6))


def test_ome_zarr_brings_its_voxel_size(tmp_path):
    volume = create_volume(tmp_path / "a.ome.zarr", Grid((3, 4, 5), SIZE), np.uint8, "image")
    volume.write(volume.grid.box, grey((3, 4, 5)))
    opened = open_images(tmp_path / "a.ome.zarr", None)
    assert opened.volume.grid.voxel_size == SIZE
    assert (opened.volume.read() == grey((3, 4, 5))).all()
    other = open_images(tmp_path / "a.ome.zarr", (1.0, 1.0, 1.0))
    assert other.volume.grid.voxel_size == (1.0, 1.0, 1.0)
    assert other.notes


def test_ome_zarr_without_units_needs_a_voxel_size(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=(2, 3, 4), dtype="uint8")
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": name, "type": "space"} for name in "zyx"],
            "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]}],
        }
    ]
    with pytest.raises(DataError, match="voxel size"):
        open_images(tmp_path / "a.zarr", None)
    assert open_images(tmp_path / "a.zarr", SIZE).volume.grid.voxel_size == SIZE


def test_missing_numbers_are_listed_and_may_be_allowed(tmp_path):
    values = grey((6, 4, 5))
    source = folder_of(tmp_path / "f", values, first=10)
    for number in (11, 13):
        (source / f"z{number:03}.tif").unlink()
    refused(source, "2 slices are missing from the numbering: 11, 13")
    opened = open_images(source, SIZE, allow_missing=True)
    assert opened.missing == (1, 3)
    assert opened.first_number == 10
    values[[1, 3]] = 0
    assert (opened.volume.read() == values).all()
    assert "11, 13" in opened.notes[0]


def test_gaps_wider_than_the_rest_are_never_filled(tmp_path):
    source = tmp_path / "f"
    source.mkdir()
    for number in (1, 100, 250):
        save(source / f"z{number}.tif", grey((4, 5)))
    refused(source, "no accident", allow_missing=True)


def test_two_files_with_one_number_are_refused(tmp_path):
    source = folder_of(tmp_path / "f", grey((3, 4, 5)))
    save(source / "z1.tif", grey((4, 5)))
    refused(source, "both carry slice number 1")


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_mixed_slice_sizes_name_the_first_file_at_fault(tmp_path, suffix):
    source = folder_of(tmp_path / "f", grey((5, 4, 6)), "z{}." + suffix)
    save(source / f"z2.{suffix}", grey((4, 7)))
    save(source / f"z3.{suffix}", grey((4, 8)))
    refused(source, rf"z2\.{suffix}.*expected 4×6 uint8, got 4×7 uint8")


def test_mixed_types_name_the_first_file_at_fault(tmp_path):
    source = folder_of(tmp_path / "f", grey((5, 4, 6)), "z{}.png")
    save(source / "z4.png", grey((4, 6), np.uint16))
    refused(source, r"z4\.png.*expected 4×6 uint8, got 4×6 uint16")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colour_images_are_refused(tmp_path, mode):
    source = folder_of(tmp_path / "f", grey((3, 4, 6)), "z{}.png")
    Image.fromarray(grey((4, 6))).convert(mode).save(source / "z1.png")
    refused(source, r"z1\.png is a (colour|palette).*Convert to 8- or 16-bit grey")


def test_colour_tiffs_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", grey((4, 6, 3)), photometric="rgb")
    refused(tmp_path / "a.tif", "colour")
    tifffile.imwrite(tmp_path / "b.tif", grey((5, 4, 6, 3)), photometric="rgb")
    refused(tmp_path / "b.tif", "colour")
    table = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "c.tif", grey((4, 6)), photometric="palette", colormap=table)
    refused(tmp_path / "c.tif", "palette")


@pytest.mark.parametrize("dtype", ["int32", "uint32", "bool"])
def test_other_types_are_refused(tmp_path, dtype):
    values = grey((2, 4, 6)) > 100 if dtype == "bool" else grey((2, 4, 6), dtype)
    save(tmp_path / "a.tif", values)
    refused(tmp_path / "a.tif", f"expected 8- or 16-bit grey values, got {dtype}")


@pytest.mark.filterwarnings("ignore")
def test_a_truncated_slice_is_refused(tmp_path):
    source = folder_of(tmp_path / "f", grey((3, 40, 50)))
    path = source / "z001.tif"
    path.write_bytes(path.read_bytes()[:1000])
    refused(source, r"z001\.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_picture_is_refused_when_read(tmp_path, suffix):
    source = folder_of(tmp_path / "f", grey((3, 40, 50)), "z{}." + suffix)
    path = source / f"z1.{suffix}"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=rf"z1\.{suffix}"):
        open_images(source, SIZE).volume.read()
    path.write_bytes(b"")
    refused(source, rf"z1\.{suffix}")


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path):
    for name in ("a.tif", "a.png", "a.jpg"):
        (tmp_path / name).write_text("no picture at all, but long enough to be looked at")
        refused(tmp_path / name, name)


def test_sources_that_are_not_there_or_hold_nothing_are_refused(tmp_path):
    refused(tmp_path / "absent", "does not exist")
    refused(tmp_path, "holds no images")
    (tmp_path / "a.doc").write_text("")
    refused(tmp_path / "a.doc", "cannot be read")
    (tmp_path / "a.mrc").write_text("")
    refused(tmp_path / "a.mrc", "no MRC file")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_in_the_image_names_the_slice(tmp_path, bad):
    values = grey((4, 5, 6), np.float32)
    values[2, 3, 4] = bad
    save(tmp_path / "a.tif", values)
    refused(tmp_path / "a.tif", "slice 2 holds NaN")
    refused(folder_of(tmp_path / "f", values), r"slice 2 \(z002\.tif\) holds NaN")
    volume = create_volume(tmp_path / "a.ome.zarr", Grid(values.shape, SIZE), np.float32, "image")
    volume.write(volume.grid.box, values)
    refused(tmp_path / "a.ome.zarr", "slice 2 holds NaN")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_floating_point_and_signed_values_keep_their_order(tmp_path, dtype):
    values = (grey((3, 5, 6), np.float64) * 7 - 300).astype(dtype)
    save(tmp_path / "a.tif", values)
    opened = open_images(tmp_path / "a.tif", SIZE)
    read = opened.volume.read()
    assert read.dtype == np.uint16
    assert read.min() == 0
    if dtype == "int16":
        assert (read == values.astype(int) - values.min()).all()
    else:
        assert read.max() == 65535
        assert np.corrcoef(read.ravel(), values.ravel())[0, 1] > 0.999999
    assert "mapped to 16 bit" in opened.notes[0]


def test_a_constant_float_image_is_no_division_by_zero(tmp_path):
    save(tmp_path / "a.tif", np.full((2, 3, 4), 0.5, np.float32))
    assert (open_images(tmp_path / "a.tif", SIZE).volume.read() == 0).all()


@pytest.mark.parametrize(
    ("names", "dense", "numbers"),
    [
        (["z1.tif", "z2.tif", "z10.tif"], False, [1, 2, 10]),
        (["cell3_z001_8bit.tif", "cell3_z002_8bit.tif"], True, [1, 2]),
        (["slice_00000_z=0.0040um.tif", "slice_00001_z=0.0080um.tif", "slice_00002_z=0.0120um.tif"], True, [0, 1, 2]),
        (["a_1_t17.tif", "a_2_t99.tif", "a_4_t512.tif"], True, [1, 2, 4]),
        (["cell1_z030.tif", "cell2_z060.tif"], False, [30, 60]),
        (["a.tif", "b.tif"], True, None),
        (["z1.tif", "y_2.tif"], True, None),
        (["z030.tif"], False, [30]),
        (["mito_v2_z030.tif"], False, None),
        (["mito.tif"], False, None),
    ],
)
def test_slice_numbers_in_names(names, dense, numbers):
    assert slice_numbers(names, dense=dense) == numbers


def test_slices_larger_than_what_pillow_takes_for_an_attack(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    save(tmp_path / "a.png", grey((40, 50)))
    assert (read_slice(tmp_path / "a.png") == grey((40, 50))).all()


def test_real_stacks_open_without_reading_them(data_folder):
    opened = open_images(data_folder / "vnc_sstem" / "raw.tif", SIZE)
    assert opened.volume.grid == Grid((20, 1024, 1024), SIZE)
    box = Box((7, 100, 200), (9, 110, 230))
    assert (opened.volume.read(box) == tifffile.imread(data_folder / "vnc_sstem" / "raw.tif")[box.slices]).all()
    planes = open_images(data_folder / "hela_mito" / "raw_unlabelled.tif", (50.0, 10.0, 10.0))
    assert planes.volume.shape == (4, 2000, 2000)
