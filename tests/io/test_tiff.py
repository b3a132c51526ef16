from __future__ import annotations

import errno

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.io.images import open_images
from cristae.io.label_rules import LabelRules
from cristae.io.labels import open_labels
from cristae.io.tags import voxel_size_of
from cristae.io.tiff import TiffStack, write_folder, write_stack
from cristae.volume import Volume

SIZE = (45.0, 4.6, 4.6)
EVERYTHING = (slice(None),) * 3


def grey(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


def volume(values, kind="image"):
    return Volume(values, Grid(values.shape, SIZE), kind)


@settings(max_examples=15)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from(["uint8", "uint16", "uint32", "float32"]),
    st.sampled_from(["image", "labels"]),
)
def test_write_then_read_round_trips(tmp_path_factory, shape, dtype, kind):
    values, folder = grey(shape, dtype), tmp_path_factory.mktemp("t")
    stack = TiffStack(write_stack(volume(values, kind), folder / "a.tif"))
    assert stack.shape == shape
    assert stack.dtype == np.dtype(dtype)
    assert (stack[EVERYTHING] == values).all()
    assert voxel_size_of(folder / "a.tif") == pytest.approx(SIZE)
    files = sorted(write_folder(volume(values, kind), folder / "slices", "x", first=8).iterdir())
    assert [int(file.stem[2:]) for file in files] == list(range(8, 8 + shape[0]))
    for file, expected in zip(files, values, strict=True):
        assert (tifffile.imread(file).reshape(expected.shape) == expected).all()
        assert TiffStack(file).dtype == np.dtype(dtype)


WRITERS = {
    "plain": {"photometric": "minisblack"},
    "deflate": {"photometric": "minisblack", "compression": "zlib"},
    "lzw tiles": {"photometric": "minisblack", "compression": "lzw", "tile": (16, 16)},
    "big": {"photometric": "minisblack", "bigtiff": True},
    "big endian": {"photometric": "minisblack", "byteorder": ">"},
    "big endian deflate": {"photometric": "minisblack", "byteorder": ">", "compression": "zlib"},
    "imagej": {"imagej": True},
    "ome": {"ome": True, "photometric": "minisblack"},
    "planes of one page": {"photometric": "rgb", "planarconfig": "separate", "metadata": {"axes": "ZYX"}},
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_whatever_wrote_a_stack_any_part_of_it_can_be_read(tmp_path, writer, dtype):
    values = grey((4, 40, 50), dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, **WRITERS[writer])
    stack = TiffStack(tmp_path / "a.tif")
    assert stack.shape == values.shape
    assert not stack.colour
    part = (slice(1, 3), slice(5, 30), slice(7, 9))
    assert (stack[part] == values[part]).all()
    assert stack[part].dtype == np.dtype(dtype)
    assert stack[slice(2, 2), slice(0, 3), slice(0, 4)].shape == (0, 3, 4)


def test_pages_written_one_by_one_are_one_stack(tmp_path):
    values = grey((4, 40, 50))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in values:
            writer.write(page, photometric="minisblack")
    assert (TiffStack(tmp_path / "a.tif")[EVERYTHING] == values).all()


def test_pages_of_several_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for shape in ((40, 50), (40, 50), (40, 51)):
            writer.write(grey(shape), photometric="minisblack")
    with pytest.raises(DataError, match=r"40×50 uint8 and 40×51 uint8"):
        TiffStack(tmp_path / "a.tif")


def test_several_channels_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", grey((3, 2, 40, 50)), imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(DataError, match="ZCYX"):
        TiffStack(tmp_path / "a.tif")


@pytest.mark.parametrize("writer", ["plain", "deflate", "big", "imagej", "ome"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.05, 0.4, 0.7, 0.9])
@pytest.mark.filterwarnings("ignore")
def test_a_truncated_file_is_refused_before_pixels_are_decoded(tmp_path, writer, kept):
    tifffile.imwrite(tmp_path / "a.tif", grey((6, 40, 50)), **WRITERS[writer])
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"a\.tif") as caught:
        TiffStack(tmp_path / "a.tif")
    assert caught.value.exit_code == 3


def test_a_file_that_shrinks_after_it_was_opened_is_a_data_error(tmp_path):
    for writer in ("plain", "deflate"):
        path = tmp_path / f"{writer}.tif"
        tifffile.imwrite(path, grey((6, 40, 50)), **WRITERS[writer])
        stack = TiffStack(path)
        path.write_bytes(path.read_bytes()[:900])
        with pytest.raises(DataError, match=writer):
            stack[EVERYTHING]


def test_large_stacks_are_not_read_whole(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 512, 512), np.uint8), photometric="minisblack", compression="zlib")
    stack, decoded = TiffStack(path), []
    original = stack._page
    stack._page = lambda z: (decoded.append(z), original(z))[1]
    stack[slice(10, 12), slice(0, 4), slice(0, 4)]
    assert decoded == [10, 11]


@pytest.mark.parametrize("unit", ["nm", "um", "micron", "\\u00B5m"])
def test_the_voxel_size_of_an_imagej_stack(tmp_path, unit):
    nm = 1.0 if unit == "nm" else 1e3
    tifffile.imwrite(
        tmp_path / "a.tif",
        grey((3, 4, 5)),
        imagej=True,
        resolution=(nm / 4.6, nm / 5.2),
        metadata={"spacing": 45.0 / nm, "unit": unit, "axes": "ZYX"},
    )
    assert voxel_size_of(tmp_path / "a.tif") == pytest.approx((45.0, 5.2, 4.6), rel=1e-5)


def test_the_voxel_size_of_an_ome_tiff_in_its_assumed_unit(tmp_path):
    facts = {"axes": "ZYX", "PhysicalSizeX": 0.0046, "PhysicalSizeY": 0.0046, "PhysicalSizeZ": 0.045}
    tifffile.imwrite(tmp_path / "a.tif", grey((3, 4, 5)), ome=True, photometric="minisblack", metadata=facts)
    assert voxel_size_of(tmp_path / "a.tif") == pytest.approx(SIZE)


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"imagej": True},
        {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"unit": "pixel", "spacing": 3.0}},
        {"ome": True},
        {"ome": True, "metadata": {"PhysicalSizeX": 2.0, "PhysicalSizeXUnit": "nm"}},
        {"resolution": (72, 72), "resolutionunit": "INCH"},
    ],
)
def test_without_all_three_sizes_none_is_stated(tmp_path, keywords):
    tifffile.imwrite(tmp_path / "a.tif", grey((5, 6, 7)), **{"photometric": "minisblack", **keywords})
    assert voxel_size_of(tmp_path / "a.tif") is None


def test_nothing_is_overwritten_unasked(tmp_path):
    values = grey((2, 3, 4))
    write_stack(volume(values), tmp_path / "a.tif")
    write_folder(volume(values), tmp_path / "a", "x")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    for write in (
        lambda **k: write_stack(volume(values + 1), tmp_path / "a.tif", **k),
        lambda **k: write_folder(volume(values + 1), tmp_path / "a", "x", **k),
    ):
        with pytest.raises(UsageError, match="--force"):
            write()
        write(overwrite=True)
    assert (tifffile.imread(tmp_path / "a.tif") == values + 1).all()
    assert (tifffile.imread(tmp_path / "a" / "x_0001.tif") == values[1] + 1).all()
    assert (tmp_path / "a" / "notes.txt").read_text() == "mine"


class Dying:
    shape, dtype = (40, 4, 4), np.dtype(np.uint8)

    def __getitem__(self, index):
        if index[0].start >= 16:
            raise OSError(errno.ENOSPC, "No space left on device")
        return np.zeros((16, 4, 4), np.uint8)


def test_what_fails_halfway_leaves_nothing_behind(tmp_path):
    dying = Volume(Dying(), Grid((40, 4, 4), SIZE))
    with pytest.raises(OSError, match="No space"):
        write_stack(dying, tmp_path / "a.tif")
    with pytest.raises(OSError, match="No space"):
        write_folder(dying, tmp_path / "a", "x")
    assert list(tmp_path.iterdir()) == []


def test_types_that_the_format_cannot_hold_are_refused(tmp_path):
    with pytest.raises(DataError, match="int64"):
        write_stack(volume(np.zeros((1, 2, 3), np.int64)), tmp_path / "a.tif")
    assert list(tmp_path.iterdir()) == []


def test_every_slice_is_told(tmp_path):
    told = []
    write_stack(volume(grey((20, 3, 4))), tmp_path / "a.tif", told=lambda done, total: told.append((done, total)))
    assert told == [(z, 20) for z in range(1, 21)]


def test_packed_bits_are_more_voxels_than_bytes(tmp_path):
    mask = np.zeros((4400, 4400), bool)  # 2.4 MB of 19 million voxels
    mask[100:3000, 50:4000] = True
    Image.fromarray(mask).save(tmp_path / "mask.tif")
    assert (tmp_path / "mask.tif").stat().st_size < mask.size // 7
    assert (TiffStack(tmp_path / "mask.tif")[EVERYTHING][0] == mask).all()
    values = np.random.default_rng(0).integers(0, 4096, (2, 1600, 1600)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "twelve.tif", values, bitspersample=12, photometric="minisblack")
    assert (TiffStack(tmp_path / "twelve.tif")[EVERYTHING] == values).all()
    source = open_labels(tmp_path / "mask.tif", (1, *mask.shape), LabelRules({"nucleus": None}))
    assert (next(source.slices()).layers["nucleus"] == mask).all()


def test_packed_bits_that_are_cut_short_are_refused(tmp_path):
    Image.fromarray(np.ones((4400, 4400), bool)).save(tmp_path / "mask.tif")
    content = bytearray((tmp_path / "mask.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "mask.tif") as file:
        place = file.pages.first.tags["ImageLength"].valueoffset
    content[place : place + 4] = (44000).to_bytes(4, "little")
    (tmp_path / "mask.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"mask\.tif"):
        TiffStack(tmp_path / "mask.tif")


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channels_and_times_are_taken_for_slices_with_a_word(tmp_path, kind):
    values = grey((3, 32, 40))
    rules = LabelRules({"nucleus": None})
    for axes, called in (("CYX", "channels"), ("TYX", "points in time"), ("ZYX", "")):
        path = tmp_path / f"{axes}.tif"
        tifffile.imwrite(path, values, **{kind: True}, metadata={"axes": axes}, photometric="minisblack")
        opened = open_images(path, SIZE)
        assert (opened.volume.read() == values).all()
        assert opened.notes == open_labels(path, (3, 32, 40), rules).notes
        said = f"{axes}.tif: its 3 {called} are taken for slices; if they are none, save one of them by itself"
        assert opened.notes == ((said,) if called else ())
