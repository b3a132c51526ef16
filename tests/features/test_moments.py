"""Sums of indices: exact, additive, and right in nanometres."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from known_shapes import ball, ellipsoid, in_blocks
from skimage.measure import regionprops_table

from cristae.features.moments import DEFINITIONS, Moments, add_moments, moments_table

WHOLE = (slice(None),) * 3
SIZE = (30.0, 4.0, 5.0)


def table(labels, n, voxel_size=SIZE, image=None):
    return moments_table(add_moments(labels, n, WHOLE, image=image), voxel_size, labels.shape)


def test_sums_and_grey_values_equal_those_of_numpy():
    rng = np.random.default_rng(3)
    labels, image = rng.integers(0, 4, (6, 7, 8)), rng.integers(0, 65536, (6, 7, 8)).astype(np.uint16)
    moments = add_moments(labels, 3, WHOLE, start=(100, 20, 3), image=image)
    for i in range(3):
        at = np.argwhere(labels == i + 1) + np.array([100, 20, 3])
        values = image[labels == i + 1].astype(np.int64)
        assert moments.n_voxels[i] == len(at)
        assert moments.first[i].tolist() == at.sum(axis=0).tolist()
        products = [(at[:, a] * at[:, b]).sum() for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
        assert moments.second[i].tolist() == products
        assert moments.low[i].tolist() == at.min(axis=0).tolist()
        assert moments.high[i].tolist() == at.max(axis=0).tolist()
        assert moments.grey[i].tolist() == [values.min(), values.max(), values.sum()]


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(0, 3)),
    st.tuples(*[st.integers(1, 4)] * 3),
)
def test_blocks_equal_the_whole_to_the_last_bit(labels, block_shape):
    whole, sums = add_moments(labels, 3, WHOLE, image=labels), Moments.empty(3, grey=True)
    for corner in np.ndindex(*(-(-length // step) for length, step in zip(labels.shape, block_shape, strict=True))):
        inner = tuple(slice(i * step, (i + 1) * step) for i, step in zip(corner, block_shape, strict=True))
        sums += add_moments(labels, 3, inner, image=labels)
    for name in ("n_voxels", "first", "second", "low", "high", "grey"):
        assert np.array_equal(getattr(sums, name), getattr(whole, name))


def test_agrees_with_scikit_image():
    labels = np.random.default_rng(0).integers(0, 4, (9, 8, 7))
    properties = ("centroid", "bbox", "area", "equivalent_diameter_area")
    theirs = pd.DataFrame(regionprops_table(labels, properties=properties))
    ours = table(labels, 3, (1.0, 1.0, 1.0))
    for i, axis in enumerate("zyx"):
        assert ours[f"centroid_{axis}_nm"].to_numpy() == pytest.approx(theirs[f"centroid-{i}"].to_numpy())
        assert (ours[f"bbox_{axis}_start_px"] == theirs[f"bbox-{i}"]).all()
        assert (ours[f"bbox_{axis}_stop_px"] == theirs[f"bbox-{i + 3}"]).all()
    assert ours["volume_um3"].to_numpy() * 1e9 == pytest.approx(theirs["area"].to_numpy())
    assert ours["equivalent_diameter_um"].to_numpy() * 1e3 == pytest.approx(
        theirs["equivalent_diameter_area"].to_numpy()
    )


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (3.0, 1.0, 2.0)])
def test_axes_of_an_ellipsoid(voxel_size):
    row = table(ellipsoid(24, 16, 36, voxel_size), 1, voxel_size).iloc[0]
    assert row[["axis_1_nm", "axis_2_nm", "axis_3_nm"]].tolist() == pytest.approx([72, 48, 32], rel=0.007)
    assert (row["elongation"], row["flatness"]) == pytest.approx((2 / 3, 4 / 9), rel=0.01)
    assert row[["orientation_z", "orientation_y", "orientation_x"]].tolist() == pytest.approx([0, 0, 1], abs=1e-9)


def test_direction_of_a_slanted_rod_in_physical_space():
    at = np.arange(40)
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[at, at, at] = 1
    row = table(labels, 1, (3.0, 4.0, 12.0)).iloc[0]
    assert row[["orientation_z", "orientation_y", "orientation_x"]].tolist() == pytest.approx(
        [3 / 13, 4 / 13, 12 / 13], abs=1e-3
    )


def test_a_single_voxel_has_its_own_size():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1, 1] = 1
    row = table(labels, 1).iloc[0]
    assert row["volume_um3"] == pytest.approx(600e-9)
    assert row[["axis_1_nm", "axis_2_nm", "axis_3_nm"]].tolist() == pytest.approx(
        list(np.sqrt(5 / 3) * np.array([30, 5, 4]))
    )
    assert not row["touches_edge"]
    even = table(labels, 1, (4.0, 4.0, 4.0)).iloc[0]
    assert even["elongation"] == even["flatness"] == 1
    assert even[["orientation_z", "orientation_y", "orientation_x"]].isna().all()


def test_far_from_the_origin_nothing_is_lost():
    labels = ball(4)
    here = moments_table(add_moments(labels, 1, WHOLE), SIZE, labels.shape)
    there = moments_table(add_moments(labels, 1, WHOLE, start=(6000, 4000, 2500)), SIZE, (9000,) * 3)
    for column in ("axis_1_nm", "axis_2_nm", "axis_3_nm", "elongation"):
        assert there[column][0] == here[column][0]
    assert there["centroid_z_nm"][0] - here["centroid_z_nm"][0] == 6000 * 30


def test_the_largest_object_does_not_overflow():
    n, length = 6000 * 4000 * 2500, 6000
    z = np.array([0, length - 1], object)
    assert int((z**2).max()) * n < 2**63
    assert n * 65535 < 2**63


def test_objects_at_the_edge_and_absent_ones():
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[1:4, 1:4, 1:4], labels[2, 2, 4] = 1, 3
    result = table(labels, 3)
    assert result["touches_edge"].tolist() == [False, False, True]
    assert result["n_voxels"].tolist() == [27, 0, 1]
    assert result.loc[1, ["centroid_z_nm", "axis_1_nm", "equivalent_diameter_um"]].isna().all()
    assert table(np.zeros((2, 2, 2), np.uint8), 0).empty


def test_an_image_that_does_not_fit_is_refused():
    labels = np.zeros((3, 3, 3), np.uint8)
    for image in (np.zeros((3, 3, 4), np.uint8), np.zeros((3, 3, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8 or uint16"):
            add_moments(labels, 1, WHOLE, image=image)


def test_every_column_is_defined():
    labels = ball(3)
    assert list(table(labels, 1, image=labels).columns) == list(DEFINITIONS)
    assert set(in_blocks(labels, 1, (4, 4, 4), SIZE).columns) >= set(DEFINITIONS) - {
        "grey_min",
        "grey_max",
        "grey_mean",
    }
