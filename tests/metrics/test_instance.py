"""Laws of the object-wise scores, and agreement with scikit-image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error as rand_of_skimage
from skimage.metrics import variation_of_information as variation_of_skimage

from cristae.metrics.instance import adapted_rand_error, add_up, contingency, variation_of_information, within_truth

NAMES = np.array([0, 900, 7, 12, 2**32 - 1, 5])
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)


@st.composite
def two_labellings(draw):
    shape = draw(SHAPES)
    ids = hnp.arrays(np.uint32, shape, elements=st.integers(0, 4))
    return draw(ids), draw(ids)


def score(segmentation, truth, background="singletons"):
    return adapted_rand_error(contingency(segmentation, truth), background)


def has_pairs(ids):
    return (np.unique(ids, return_counts=True)[1] > 1).any()


@given(hnp.arrays(np.int32, SHAPES, elements=st.integers(0, 4)))
def test_a_labelling_agrees_perfectly_with_itself(ids):
    perfect = score(ids, ids)
    assert (perfect.error, perfect.precision, perfect.recall) == (0, 1, 1)


@given(two_labellings())
def test_names_of_ids_do_not_matter_and_swapping_mirrors_precision_and_recall(pair):
    a, b = pair
    renamed = np.array([0, 900, 7, 12, 10**9])[a]
    assert score(renamed, b) == score(a, b)
    a, b = a + 1, b + 1  # without background
    assert score(a, b).precision == score(b, a).recall


@given(two_labellings(), st.data())
def test_counts_add_over_any_split(pair, data):
    a, b = pair
    cut = data.draw(st.integers(0, a.shape[0]))
    parts = add_up([contingency(a[:cut], b[:cut]), contingency(a[cut:], b[cut:])])
    whole = contingency(a, b)
    for name in ("segmentation", "truth", "n_voxels"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name))
    assert whole.n_voxels.sum() == a.size


@settings(max_examples=200)
@given(two_labellings())
def test_agrees_with_scikit_image(pair):
    a, b = pair
    if not has_pairs(b[b > 0]) or not has_pairs(a[b > 0]):
        return  # scikit-image divides by zero
    error, over_truth, over_segmentation = rand_of_skimage(b.astype(int), a.astype(int))
    ours = score(a, b, "one_object")
    assert ours.error == pytest.approx(error, abs=1e-12)
    # scikit-image calls the share of the true pairs precision, the other way round than its text and the paper
    assert (ours.recall, ours.precision) == pytest.approx((over_truth, over_segmentation))


@settings(max_examples=50)
@given(two_labellings())
def test_background_inside_objects_counts_as_objects_of_one_voxel(pair):
    a, b = pair
    apart = np.where(a == 0, 10 + np.arange(a.size).reshape(a.shape), a)
    assert score(a, b) == score(apart, b, "one_object")


def test_worked_examples():
    truth = np.array([1, 1, 1, 2, 2, 0])
    merged = score(np.array([5, 5, 5, 5, 5, 5]), truth)  # joins 10 pairs, 4 of them rightly
    assert (merged.precision, merged.recall) == (pytest.approx(0.4), 1)
    assert merged.error == pytest.approx(1 - 2 * 4 / (10 + 4))
    split = score(np.array([1, 1, 3, 2, 2, 9]), truth)
    assert (split.precision, split.recall) == (1, pytest.approx(0.5))
    assert score(np.zeros(6, int), truth).error == 1
    assert score(np.ones(6, int), np.zeros(6, int)).error == 0  # nothing to judge


def variation(segmentation, truth):
    return variation_of_information(contingency(segmentation, truth))


@given(hnp.arrays(np.int32, SHAPES, elements=st.integers(0, 4)))
def test_variation_with_itself_is_nothing(ids):
    assert variation(ids, ids).total == 0
    assert variation(NAMES[ids], ids).total == 0


@settings(max_examples=200)
@given(two_labellings())
def test_variation_agrees_with_scikit_image(pair):
    a, b = pair
    ours = variation(a, b)
    if b.any():
        expected = variation_of_skimage(b.astype(int), a.astype(int), ignore_labels=(0,))
        assert (ours.split, ours.merge) == pytest.approx(tuple(expected), abs=1e-12)
    else:
        assert ours.total == 0
    assert variation_of_information(within_truth(contingency(a, b))) == ours


@given(two_labellings())
def test_swapping_mirrors_splits_and_mergers(pair):
    a, b = (labels + 1 for labels in pair)  # without background
    assert variation(a, b).split == pytest.approx(variation(b, a).merge, abs=1e-12)
    assert variation(NAMES[a], NAMES[b]).merge == pytest.approx(variation(a, b).merge, abs=1e-12)


def test_variation_counts_bits():
    truth = np.array([1, 1, 1, 1, 2, 2, 2, 2, 0, 0])
    halves = variation(np.array([3, 3, 4, 4, 5, 5, 6, 6, 7, 8]), truth)
    assert (halves.split, halves.merge, halves.total) == (1, 0, 1)
    one = variation(np.full(10, 3), truth)
    assert (one.split, one.merge) == (0, 1)
    assert variation(np.zeros(10, int), truth) == one  # what is left at 0 is one object


@given(two_labellings())
def test_counts_are_those_of_every_pair_of_masks(pair):
    table = contingency(*pair)
    for found_id, true_id, n_voxels in zip(table.segmentation, table.truth, table.n_voxels, strict=True):
        assert n_voxels == np.sum((pair[0] == found_id) & (pair[1] == true_id)) > 0
    assert len(set(zip(table.segmentation, table.truth, strict=True))) == table.n_voxels.size


def test_large_counts_do_not_overflow():
    table = contingency(np.array([1, 1]), np.array([1, 2]))
    huge = type(table)(table.segmentation, table.truth, np.array([10**11, 10**11]))
    assert adapted_rand_error(huge).precision == pytest.approx(0.5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        contingency(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="integer ids"):
        contingency(np.zeros((2, 2)), np.zeros((2, 2), int))
    for ids in (np.array([-1, 2]), np.array([2**63, 2], np.uint64)):
        with pytest.raises(ValueError, match="ids from 0 to"):
            contingency(np.array([1, 1]), ids)
    assert contingency(np.array([2**63 - 1], np.uint64), np.array([2**32 - 1])).segmentation[0] == 2**63 - 1
