"""Laws of the pattern spectrum: known grains, agreement with SciPy, and independence of blocks."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cristae.features.spectrum import DEFINITIONS, Grains, add_spectrum, spectrum_definitions, tabulate_spectrum

WHOLE = (slice(None),) * 3


def levels_of(labels, values, n, floor="zero"):
    index = np.arange(1, n + 1)
    present = np.isin(index, labels)
    low, high = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for i in index[present]:
        high[i - 1] = values[labels == i].max()
        if floor == "min":
            low[i - 1] = values[labels == i].min()
    return np.stack([low, high], axis=1)


def measure(labels, values, grains=Grains(3), floor="zero"):  # noqa: B008
    n = int(labels.max(initial=0))
    return add_spectrum(labels, n, WHOLE, values, levels_of(labels, values, n, floor), grains)


def same(a, b):
    return np.array_equal(a.bright, b.bright) and np.array_equal(a.dark, b.dark)


@st.composite
def scenes(draw):
    """Two or three large objects side by side (small ones have no room for elements) with coarse grey values."""
    shape = tuple(draw(st.integers(1, 14)) for _ in range(3))
    coarse = draw(hnp.arrays(np.int32, (2, 2, 2), elements=st.integers(0, 3)))
    labels = coarse
    for axis, n in enumerate(shape):
        labels = np.take(labels, (np.arange(n) * 2) // n, axis=axis)
    grey = draw(hnp.arrays(np.uint8, (4, 4, 4), elements=st.integers(0, 255)))
    for axis, n in enumerate(shape):
        grey = np.take(grey, (np.arange(n) * 4) // n, axis=axis)
    speckle = draw(st.integers(0, 2**31))
    noisy = np.random.default_rng(speckle).random(shape) < 0.02
    return labels, np.where(noisy, 255 - grey, grey).astype(np.uint8)


def squares(side):
    """Three bright grains of 3, 5 and 9 voxels on dark ground inside one object, at least 12 from its border."""
    image = np.zeros((64, 80) if side == 2 else (40, 40, 66), np.uint8)
    place = 20 if side == 2 else 13
    for width in (3, 5, 9):
        box = tuple(slice(13, 13 + width) for _ in range(image.ndim - 1))
        image[(*box, slice(place, place + width))] = 1
        place += width + 4
    return image if side == 3 else image[None]


@pytest.mark.parametrize("shape", ["cube", "plane"])
def test_three_grains_appear_at_their_radii(shape):
    image = squares(3 if shape == "cube" else 2)
    table = tabulate_spectrum(measure(np.ones(image.shape, np.int32), image, Grains(10, shape)))
    power = 3 if shape == "cube" else 2
    total = sum(n**power for n in (3, 5, 9))
    expected = np.zeros(10)
    expected[[1, 2, 4]] = [n**power / total for n in (3, 5, 9)]
    found = table[[f"ps_opening_{n}" for n in range(10)]].to_numpy()[0]
    assert found == pytest.approx(expected, abs=1e-15)
    if shape == "plane":
        assert found[[1, 2, 4]] == pytest.approx([9 / 115, 25 / 115, 81 / 115])
    row = table.iloc[0]
    mean = (expected * np.arange(10)).sum()
    variance = (expected * (np.arange(10) - mean) ** 2).sum()
    assert row["ps_opening_mean"] == pytest.approx(mean)
    assert row["ps_opening_sd"] == pytest.approx(variance**0.5)
    assert row["ps_opening_skew"] == pytest.approx((expected * (np.arange(10) - mean) ** 3).sum() / variance**1.5)
    assert row["ps_opening_kurtosis"] == pytest.approx((expected * (np.arange(10) - mean) ** 4).sum() / variance**2)
    present = expected[expected > 0]
    assert row["ps_opening_entropy"] == pytest.approx(-(present * np.log2(present)).sum())
    assert row["ps_opening_rest"] == 0


def test_dark_grains_are_measured_as_bright_ones():
    image = squares(3)
    labels = np.ones(image.shape, np.int32)
    bright, dark = (measure(labels, values, Grains(10)) for values in (image, 1 - image))
    assert np.array_equal(dark.dark, bright.bright)
    assert np.array_equal(dark.bright, bright.dark)
    table = tabulate_spectrum(dark)
    ground = (1 - image).sum()
    assert table["ps_closing_2"].item() == pytest.approx(27 / ground)  # φ_2 is the first that fills 3 voxels
    for moment in ("mean", "sd", "skew", "kurtosis", "entropy"):
        assert table[f"ps_closing_{moment}"].item() == pytest.approx(
            tabulate_spectrum(bright)[f"ps_opening_{moment}"].item()
        )


@settings(max_examples=30)
@given(scenes(), st.sampled_from(["cube", "plane"]), st.sampled_from(["zero", "min"]))
def test_agrees_with_scipy_on_every_object_alone(scene, shape, floor):
    labels, values = scene
    found = measure(labels, values, Grains(3, shape), floor)
    levels = levels_of(labels, values, len(found.bright), floor)
    for i in range(len(found.bright)):
        mask = labels == i + 1
        for n in range(4):
            size = (2 * n + 1 if shape == "cube" else 1, 2 * n + 1, 2 * n + 1)
            for total, grey in (
                (found.bright, values.astype(np.int64) - levels[i, 0]),
                (found.dark, levels[i, 1] - values.astype(np.int64)),
            ):
                # Values up to 255 with nothing around the object: an element that leaves it meets a 0.
                alone = np.pad(np.where(mask, grey, 0), 8)
                opened = ndimage.grey_opening(alone, size=size)
                assert total[i, n] == opened.sum() == opened[8:-8, 8:-8, 8:-8][mask].sum()


@settings(max_examples=30)
@given(scenes(), st.tuples(*[st.integers(1, 14)] * 3), st.sampled_from(["cube", "plane"]))
def test_blocks_equal_the_whole(scene, block, shape):
    labels, values = scene
    grains = Grains(2, shape)
    n = int(labels.max())
    levels = levels_of(labels, values, n)
    total = None
    for start in itertools.product(*(range(0, size, step) for size, step in zip(labels.shape, block, strict=True))):
        stop = [min(s + b, size) for s, b, size in zip(start, block, labels.shape, strict=True)]
        low = [max(0, s - h) for s, h in zip(start, grains.halo, strict=True)]
        high = [min(size, s + h) for s, h, size in zip(stop, grains.halo, labels.shape, strict=True)]
        read = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        inner = tuple(slice(a - c, b - c) for a, b, c in zip(start, stop, low, strict=True))
        part = add_spectrum(labels[read], n, inner, values[read], levels, grains)
        total = part if total is None else total + part
    assert same(total, measure(labels, values, grains))


@given(scenes())
def test_terms_are_bounded_and_sum_to_what_is_gone(scene):
    sums = measure(*scene)
    for left in (sums.bright, sums.dark):
        assert (np.diff(left, axis=1) <= 0).all()
        assert (left >= 0).all()
    table = tabulate_spectrum(sums)
    kept = sums.bright[:, 0] > 0
    terms = table[[f"ps_opening_{n}" for n in range(3)] + ["ps_opening_rest"]]
    assert np.allclose(terms.sum(axis=1)[kept], 1)


@given(scenes(), st.permutations(range(3)), st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_turning_and_mirroring_change_nothing(scene, order, steps):
    labels, values = scene
    mirror = tuple(slice(None, None, step) for step in steps)
    turned = (np.ascontiguousarray(array.transpose(order)[mirror]) for array in (labels, values))
    assert same(measure(*turned), measure(labels, values))


@given(scenes())
def test_scale_and_neighbours_do_not_matter(scene):
    labels, values = scene
    sums = measure(labels, values)
    tripled = measure(labels, values.astype(np.uint16) * 3)
    pd.testing.assert_frame_equal(tabulate_spectrum(tripled), tabulate_spectrum(sums))
    grey = np.where(labels == 1, values, 255 - values)  # other objects look different
    if (labels == 1).any():
        assert np.array_equal(measure(labels, grey).bright[0], sums.bright[0])
        assert np.array_equal(measure(np.where(labels == 1, 1, 0), values).dark[:1], sums.dark[:1])
    lifted = measure(labels, values.astype(np.uint16) + 1000, floor="min")
    assert same(lifted, measure(labels, values, floor="min"))


def test_a_large_shift_of_16_bit_values_is_exact():
    values = np.random.default_rng(1).integers(0, 2**16, (9, 9, 9)).astype(np.uint16)
    labels = np.ones(values.shape, np.int32)
    opened = ndimage.grey_opening(np.pad(values, 3), size=(5, 5, 5))
    assert measure(labels, values, Grains(2)).bright[0, 2] == opened.sum(dtype=np.int64)
    assert same(measure(labels, values.astype(np.int64) - 40000, floor="min"), measure(labels, values, floor="min"))


def test_single_voxels_flat_objects_and_nothing():
    labels = np.zeros((5, 6, 40), np.int32)
    labels[2, 3, 2] = 1
    labels[:, :, 5:] = 2
    table = tabulate_spectrum(measure(labels, np.full(labels.shape, 7, np.uint8)))
    assert table.loc[0, ["ps_opening_0", "ps_opening_mean", "ps_opening_sd", "ps_opening_entropy"]].tolist() == [
        1,
        0,
        0,
        0,
    ]
    assert np.isnan(table.loc[0, "ps_opening_skew"])
    assert np.isnan(table.loc[0, "ps_opening_kurtosis"])
    closing = table.filter(like="closing")
    assert (closing.filter(regex=r"\d|rest").to_numpy() == 0).all()
    assert closing.filter(regex="mean|sd|skew|kurtosis|entropy").isna().all(axis=None)
    assert table.loc[1, "ps_opening_2"] == 1  # a slab of 5 voxels holds a cube of radius 2 everywhere
    black = tabulate_spectrum(measure(labels, np.zeros(labels.shape, np.uint8)))
    assert black.isna().all(axis=None)
    empty = tabulate_spectrum(measure(np.zeros((3, 3, 3), np.int32), np.zeros((3, 3, 3), np.uint8)))
    assert len(empty) == 0
    assert list(empty.columns) == list(table.columns)


def test_an_inner_part_without_objects_adds_nothing():
    labels = np.zeros((3, 3, 20), np.int32)
    labels[..., 15:] = 1
    sums = add_spectrum(labels, 1, (slice(0, 3), slice(0, 3), slice(0, 10)), labels, np.array([[0, 1]]), Grains(2))
    assert not sums.bright.any()


@pytest.mark.parametrize("radius", [1, 4, 10])
def test_every_column_is_defined(radius):
    table = tabulate_spectrum(measure(np.ones((3, 3, 3), np.int32), np.ones((3, 3, 3), np.uint8), Grains(radius)))
    assert list(spectrum_definitions(radius)) == list(table.columns)
    assert all(entry.meaning for entry in DEFINITIONS.values())


def test_what_does_not_fit_is_refused():
    ones = np.ones((2, 2, 2), np.int32)
    levels = np.array([[0, 1]])
    with pytest.raises(ValueError, match="one shape"):
        add_spectrum(ones, 1, WHOLE, ones[:1], levels, Grains())
    with pytest.raises(ValueError, match="integer"):
        add_spectrum(ones, 1, WHOLE, ones / 2, levels, Grains())
    with pytest.raises(ValueError, match="of 1 objects"):
        add_spectrum(ones, 1, WHOLE, ones, np.zeros((2, 2), int), Grains())
    for wrong in (-ones, 2 * ones):
        with pytest.raises(ValueError, match="ids from 0 to 1"):
            add_spectrum(wrong, 1, WHOLE, ones, levels, Grains())
    with pytest.raises(ValueError, match="65,535"):
        add_spectrum(ones, 1, WHOLE, ones, np.array([[0, 2**16]]), Grains())
    for wrong in ([[2, 3]], [[0, 0]]):
        with pytest.raises(ValueError, match="below its object's floor or above its ceiling"):
            add_spectrum(ones, 1, WHOLE, ones, np.array(wrong), Grains())
    with pytest.raises(ValueError, match="radius"):
        Grains(0)
    with pytest.raises(ValueError, match="plane"):
        Grains(3, "ball")
