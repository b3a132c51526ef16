"""0 where nothing was recorded: padding and missing slices stay 0, and do not count, whatever the grey values are."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.geometry import Box
from cristae.io.images import open_images

SIZE = (45.0, 4.6, 4.6)
SIDES = ((6, 8), (8, 8), (8, 5))


def values_of(dtype, low, z):
    """A slice with the lowest value in it, as large as slices of that place are."""
    height, width = SIDES[z % 3]
    plane = np.random.default_rng(z).integers(0, 120, (height, width)) + low
    plane[0, :2] = low, low + 119
    return plane.astype(dtype)


def folder(path, dtype, low, skipped=()):
    path.mkdir()
    for z in range(6):
        if z not in skipped:
            tifffile.imwrite(path / f"z{z:03}.tif", values_of(dtype, low, z), photometric="minisblack")
    return path


def expected(dtype, low, skipped, invert):
    """Grey values and where there are any, worked out on whole arrays."""
    values, there = np.zeros((6, 8, 8)), np.zeros((6, 8, 8), bool)
    for z in set(range(6)) - set(skipped):
        plane = values_of(dtype, low, z)
        values[z, : plane.shape[0], : plane.shape[1]], there[z, : plane.shape[0], : plane.shape[1]] = plane, True
    dtype = np.dtype(dtype)
    if dtype == np.int8:
        values = np.maximum(values + 128, 1)
    elif dtype == np.int16:
        values = values - low + 1
    elif dtype.kind == "f":
        values = np.rint((values - low) * (65534 / 119)) + 1
    if invert:
        values = (255 if dtype.itemsize == 1 else 65535) - values
        values = np.maximum(values, 1)
    return np.where(there, values, 0)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([("uint8", 0), ("uint16", 5), ("int8", -128), ("int8", -5), ("int16", -50), ("float32", 1000)]),
    st.booleans(),
    st.sampled_from([(), (1,), (2, 4)]),
    st.tuples(*[st.integers(0, 5)] * 3),
)
def test_fill_is_0_and_only_fill_is(tmp_path_factory, kind, invert, skipped, corner):
    source = folder(tmp_path_factory.mktemp("f") / "f", *kind, skipped)
    opened = open_images(source, SIZE, pad=True, allow_missing=True, invert=invert)
    truth = expected(*kind, skipped, invert)
    assert opened.missing == skipped
    assert (opened.volume.read() == truth).all()
    box = Box(corner, tuple(min(low + 3, n) for low, n in zip(corner, (6, 8, 8), strict=True)))
    assert (opened.volume.read(box) == truth[box.slices]).all()
    if kind[0].startswith(("int", "float")):
        assert any("0 is kept for what is filled up" in note for note in opened.notes)


def test_what_is_missing_takes_no_grey_levels(tmp_path):
    (tmp_path / "f").mkdir()
    values = (1000 + np.random.default_rng(0).random((4, 20, 20))).astype(np.float32)
    for z in (0, 1, 3):
        tifffile.imwrite(tmp_path / "f" / f"z{z}.tif", values[z], photometric="minisblack")
    read = open_images(tmp_path / "f", SIZE, allow_missing=True).volume.read()
    assert read[[0, 1, 3]].min() == 1 and read[[0, 1, 3]].max() == 65535
    assert (read[2] == 0).all()
    assert len(np.unique(read[0])) > 390


@pytest.mark.parametrize(("low", "high"), [(-32768, 32767), (-32768, 0)])
def test_the_whole_range_of_16_bits_leaves_room_for_fill(tmp_path, low, high):
    (tmp_path / "f").mkdir()
    plane = np.linspace(low, high, 64).astype(np.int16)
    tifffile.imwrite(tmp_path / "f" / "z0.tif", plane.reshape(8, 8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "f" / "z1.tif", plane[:48].reshape(6, 8), photometric="minisblack")
    read = open_images(tmp_path / "f", SIZE, pad=True).volume.read()
    assert read[0].min() == 1 and read[0].max() == min(65535, high - low + 1)
    assert (np.diff(read[0].ravel().astype(int)) > 0).all()
    assert (read[1, 6:] == 0).all()


def test_without_fill_grey_values_begin_at_0(tmp_path):
    (tmp_path / "f").mkdir()
    for z in range(3):
        plane = np.arange(-128, -64).reshape(8, 8).astype(np.int8)
        tifffile.imwrite(tmp_path / "f" / f"z{z}.tif", plane, photometric="minisblack")
    opened = open_images(tmp_path / "f", SIZE)
    assert opened.volume.read().min() == 0
    assert not any("filled up" in note for note in opened.notes)
