"""Folders as microscopes leave them: strays, growing slices, inverted contrast, odd encodings."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from cristae.errors import DataError
from cristae.geometry import Box
from cristae.io.images import open_images

SIZE = (45.0, 4.6, 4.6)


def grey(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(1, 250, shape).astype(dtype)


def folder_of(path, values, **keywords):
    path.mkdir()
    for z, plane in enumerate(values):
        tifffile.imwrite(path / f"bx_{z:03}.tif", plane, photometric="minisblack", **keywords)
    return path


@pytest.mark.parametrize("name", ["thumbnail.tif", "overview.jpg", "bx.png"])
def test_a_stray_thumbnail_is_passed_over_and_named(tmp_path, name):
    values = grey((12, 40, 50))
    source = folder_of(tmp_path / "f", values)
    Image.fromarray(grey((8, 10, 3))).save(source / name)
    opened = open_images(source, SIZE)
    assert (opened.volume.read() == values).all()
    assert name in opened.notes[0]
    assert "12 slices of 40×50 uint8" in opened.notes[0]


def test_a_slice_of_another_size_that_is_named_like_the_others_is_refused(tmp_path):
    source = folder_of(tmp_path / "f", grey((12, 40, 50)))
    tifffile.imwrite(source / "bx_012.tif", grey((8, 10)), photometric="minisblack")
    with pytest.raises(DataError, match=r"bx_012\.tif differs.*expected 40×50 uint8, got 8×10 uint8.*import\.pad"):
        open_images(source, SIZE)


def test_many_odd_files_are_no_strays(tmp_path):
    source = folder_of(tmp_path / "f", grey((12, 40, 50)))
    for i in range(5):
        tifffile.imwrite(source / f"other{i}.tif", grey((8, 10)), photometric="minisblack")
    with pytest.raises(DataError, match="differs from"):
        open_images(source, SIZE)


def test_a_stray_of_the_same_size_is_not_dropped_silently(tmp_path):
    source = folder_of(tmp_path / "f", grey((12, 40, 50)))
    tifffile.imwrite(source / "last.tif", grey((40, 50)), photometric="minisblack")
    opened = open_images(source, SIZE)
    assert opened.volume.shape[0] == 13
    assert "order of the names" in opened.notes[0]


@pytest.mark.parametrize("invert", [False, True])
def test_slices_of_growing_size_are_refused_or_filled_up(tmp_path, invert):
    (tmp_path / "f").mkdir()
    planes = [grey((20 + 2 * z, 30 + z)) for z in range(5)]
    for z, plane in enumerate(planes):
        tifffile.imwrite(tmp_path / "f" / f"z{z}.tif", plane, photometric="minisblack")
    with pytest.raises(DataError, match=r"z1\.tif differs.*import\.pad=true"):
        open_images(tmp_path / "f", SIZE)
    opened = open_images(tmp_path / "f", SIZE, pad=True, invert=invert)
    assert opened.volume.shape == (5, 28, 34)
    assert "filled up with 0 to 28×34" in opened.notes[0]
    for z, plane in enumerate(planes):
        expected = np.zeros((28, 34), np.uint8)
        expected[: plane.shape[0], : plane.shape[1]] = 255 - plane if invert else plane
        seen = opened.volume.read(Box((z, 0, 0), (z + 1, 28, 34)))[0]
        assert (seen == expected).all()
        assert (opened.volume.read(Box((z, 3, 5), (z + 1, 28, 32)))[0] == seen[3:28, 5:32]).all()
    tifffile.imwrite(tmp_path / "f" / "z5.tif", grey((40, 40), np.uint16), photometric="minisblack")
    with pytest.raises(DataError, match="uint16"):
        open_images(tmp_path / "f", SIZE, pad=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_inverted_contrast_is_turned_and_missing_slices_stay_black(tmp_path, dtype):
    values = grey((5, 6, 7), dtype)
    source = folder_of(tmp_path / "f", values)
    (source / "bx_002.tif").unlink()
    plain = open_images(source, SIZE, allow_missing=True).volume
    turned = open_images(source, SIZE, allow_missing=True, invert=True).volume
    top = np.iinfo(plain.dtype).max
    for z in (0, 1, 3, 4):
        box = Box((z, 1, 2), (z + 1, 5, 7))
        assert (turned.read(box) == np.maximum(top - plain.read(box), 1)).all()  # 0 is what is missing
    assert (turned.read()[2] == 0).all()
    assert turned.dtype == plain.dtype


ENCODINGS = {
    "big endian": {"byteorder": ">"},
    "lzw tiles": {"compression": "lzw", "tile": (16, 16)},
    "lzw strips with a predictor": {"compression": "lzw", "predictor": True},
    "deflate big endian": {"compression": "zlib", "byteorder": ">"},
    "big tiff": {"bigtiff": True},
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_slices_in_any_encoding(tmp_path, encoding, dtype):
    values = grey((3, 40, 50), dtype)
    opened = open_images(folder_of(tmp_path / "f", values, **ENCODINGS[encoding]), SIZE)
    assert (opened.volume.read() == values).all()
    box = Box((1, 7, 0), (3, 21, 50))
    assert (opened.volume.read(box) == values[box.slices]).all()
    assert opened.volume.read().dtype.isnative


def test_jpeg_tiles(tmp_path):
    rows, columns = np.mgrid[:40, :50]
    smooth = np.stack([(100 + rows + columns).astype(np.uint8)] * 3)
    source = folder_of(tmp_path / "f", smooth, compression="jpeg", tile=(16, 16))
    assert np.abs(open_images(source, SIZE).volume.read().astype(int) - smooth).max() <= 4


def test_packed_12_bit_pixels(tmp_path):
    values = grey((3, 40, 50), np.uint16) * 16
    opened = open_images(folder_of(tmp_path / "f", values, bitspersample=12, compression=None), SIZE)
    assert (opened.volume.read() == values).all()
    assert opened.volume.dtype == np.dtype(np.uint16)


def test_a_gap_in_the_numbering(tmp_path):
    source = folder_of(tmp_path / "f", grey((6, 4, 5)))
    (source / "bx_003.tif").unlink()
    with pytest.raises(DataError, match="1 slices are missing from the numbering: 3"):
        open_images(source, SIZE)


def whites(path, white):
    path.mkdir()
    for z in range(6):
        kind = "miniswhite" if z in white else "minisblack"
        tifffile.imwrite(path / f"bx_{z:03}.tif", grey((8, 9)), photometric=kind)
    return path


def test_slices_of_either_contrast_do_not_go_into_one_volume(tmp_path):
    with pytest.raises(DataError, match=r"bx_002\.tif declares 0 to be white, bx_000\.tif to be black"):
        open_images(whites(tmp_path / "a", {2}), SIZE)
    with pytest.raises(DataError, match=r"bx_001\.tif declares 0 to be black, bx_000\.tif to be white"):
        open_images(whites(tmp_path / "b", {0, 2}), SIZE)
    opened = open_images(whites(tmp_path / "c", range(6)), SIZE)
    assert "declare 0 to be white; grey values are kept as stored, unless you invert them" in opened.notes[0]
    assert (opened.volume.read()[3] == grey((8, 9))).all()
    assert open_images(whites(tmp_path / "d", ()), SIZE).notes == ()


def test_a_slice_that_states_another_voxel_size_than_the_first_is_named(tmp_path):
    (tmp_path / "f").mkdir()
    for z, nm in enumerate((4.6, 4.6, 9.2, 4.61, 4.6, 9.2)):
        tifffile.imwrite(
            tmp_path / "f" / f"z{z}.tif",
            grey((8, 9)),
            photometric="minisblack",
            resolution=(1e7 / nm, 1e7 / nm),
            resolutionunit="CENTIMETER",
        )
    opened = open_images(tmp_path / "f", SIZE)
    assert opened.notes == (
        "2 of 6 files state another voxel size than z0.tif: ? × 9.2 × 9.2 nm in z2.tif, not ? × 4.6 × 4.6",
    )
    tifffile.imwrite(tmp_path / "f" / "z2.tif", grey((8, 9)), photometric="minisblack")
    (tmp_path / "f" / "z5.tif").unlink()
    assert open_images(tmp_path / "f", SIZE).notes == ()  # one that states none says nothing else
