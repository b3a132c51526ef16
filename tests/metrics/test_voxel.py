"""Laws of the voxel-wise scores, then worked examples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.metrics.voxel import (
    IGNORE,
    Counts,
    boundary_band,
    count,
    dice,
    iou,
    mean_slice_dice,
    precision,
    recall,
    tolerant_counts,
    total,
)

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)
SCORES = (dice, iou, precision, recall)


@st.composite
def mask_and_truth(draw):
    shape = draw(SHAPES)
    predicted = draw(hnp.arrays(bool, shape))
    truth = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, IGNORE])))
    return predicted, truth


@given(hnp.arrays(bool, SHAPES))
def test_a_mask_agrees_perfectly_with_itself(mask):
    counts = count(mask, mask.astype(np.uint8))
    assert [score(counts) for score in SCORES] == [1, 1, 1, 1]
    assert mean_slice_dice([count(a, a.astype(np.uint8)) for a in mask]) == 1


@given(st.data())
def test_dice_is_symmetric_and_precision_mirrors_recall(data):
    shape = data.draw(SHAPES)
    a, b = data.draw(hnp.arrays(bool, shape)), data.draw(hnp.arrays(bool, shape))
    there, back = count(a, b.astype(np.uint8)), count(b, a.astype(np.uint8))
    assert dice(there) == dice(back)
    assert iou(there) == iou(back)
    assert precision(there) == recall(back)


@given(mask_and_truth())
def test_dice_follows_from_iou_and_from_precision_and_recall(pair):
    counts = count(*pair)
    if not counts.n_scored:
        assert all(math.isnan(score(counts)) for score in SCORES)
        return
    assert dice(counts) == pytest.approx(2 * iou(counts) / (1 + iou(counts)))
    p, r = precision(counts), recall(counts)
    assert dice(counts) == pytest.approx(2 * p * r / (p + r) if p + r else 0)
    assert all(0 <= score(counts) <= 1 for score in SCORES)


@given(mask_and_truth(), st.integers(0, 2), st.data())
def test_counts_add_over_any_split(pair, axis, data):
    predicted, truth = pair
    cut = data.draw(st.integers(0, truth.shape[axis]))
    parts = zip(np.split(predicted, [cut], axis), np.split(truth, [cut], axis), strict=True)
    assert total(count(*part) for part in parts) == count(predicted, truth)
    assert count(predicted, truth).n_scored == np.count_nonzero(truth != IGNORE)


@given(mask_and_truth(), st.sampled_from([0.0, 1.0, 2.5]))
def test_voxels_nobody_looked_at_never_matter(pair, tolerance):
    predicted, truth = pair
    flipped = np.where(truth == IGNORE, ~predicted, predicted)
    assert count(flipped, truth) == count(predicted, truth)
    assert tolerant_counts(flipped, truth, tolerance, (1, 1)) == tolerant_counts(predicted, truth, tolerance, (1, 1))


@settings(max_examples=30)
@given(mask_and_truth())
def test_a_wider_band_scores_fewer_voxels_and_a_band_of_zero_all(pair):
    predicted, truth = pair
    scored = [tolerant_counts(predicted, truth, t, (1, 1, 1)).n_scored for t in (0, 1, 1.5, 4)]
    assert scored == sorted(scored, reverse=True)
    assert tolerant_counts(predicted, truth, 0, (1, 1, 1)) == count(predicted, truth)


@settings(max_examples=30)
@given(mask_and_truth(), st.sampled_from([1.0, 2.0]))
def test_the_2d_band_is_that_of_each_slice_and_scaling_voxels_with_it_changes_nothing(pair, tolerance):
    _, truth = pair
    band = boundary_band(truth, tolerance, (1, 1))
    for z, labels in enumerate(truth):
        assert np.array_equal(band[z], boundary_band(labels, tolerance, (1, 1)))
    assert np.array_equal(boundary_band(truth, 8 * tolerance, (8, 8)), band)
    assert not (band & ~boundary_band(truth, tolerance, (1, 1, 1))).any()  # 3D only adds neighbours


def test_worked_example():
    truth = np.array([[1, 1, 1, 0, 0], [1, 0, 0, IGNORE, 1]], np.uint8)
    predicted = np.array([[1, 1, 0, 1, 0], [0, 0, 1, 1, 1]], bool)
    counts = count(predicted, truth)
    assert counts == Counts(true_positive=3, false_positive=2, false_negative=2, true_negative=2)
    assert (dice(counts), iou(counts), precision(counts), recall(counts)) == (6 / 10, 3 / 7, 3 / 5, 3 / 5)
    assert (counts.n_truth, counts.n_predicted, counts.n_scored) == (5, 5, 9)


def test_empty_cases():
    both_empty, invented, missed, unseen = Counts(0, 0, 0, 9), Counts(0, 2, 0, 7), Counts(0, 0, 2, 7), Counts()
    assert [score(both_empty) for score in SCORES] == [1, 1, 1, 1]
    assert [score(invented) for score in SCORES] == [0, 0, 0, 0]
    assert [score(missed) for score in SCORES] == [0, 0, 0, 0]
    assert all(math.isnan(score(unseen)) for score in SCORES)
    assert count(np.zeros((0, 3, 3), bool), np.zeros((0, 3, 3), np.uint8)) == unseen


def test_false_positives_on_empty_slices_are_punished():
    good, empty, invented = Counts(4, 0, 0, 5), Counts(0, 0, 0, 9), Counts(0, 1, 0, 8)
    assert mean_slice_dice([good, empty], "one") == 1
    assert mean_slice_dice([good, empty], "skip") == 1
    for rule in ("one", "skip"):
        assert mean_slice_dice([good, invented], rule) == 0.5
    assert mean_slice_dice([empty, invented], "one") == 0.5
    assert mean_slice_dice([empty, invented], "skip") == 0
    assert mean_slice_dice([good, Counts()]) == 1  # nobody looked at the second
    assert math.isnan(mean_slice_dice([empty], "skip"))
    assert math.isnan(mean_slice_dice([]))


def test_the_band_reaches_the_tolerance_on_either_side_and_not_beyond():
    truth = np.zeros((1, 12), np.uint8)
    truth[:, 6:] = 1
    assert np.flatnonzero(boundary_band(truth, 2, (1, 1))[0]).tolist() == [4, 5, 6, 7]
    assert np.flatnonzero(boundary_band(truth, 16, (8, 8))[0]).tolist() == [4, 5, 6, 7]
    assert not boundary_band(np.ones((3, 3), np.uint8), 5, (1, 1)).any()  # the edge is no boundary
    shifted = np.roll(truth, 1) == 1
    shifted[:, 0] = False
    assert dice(count(shifted, truth)) < 1
    assert dice(tolerant_counts(shifted, truth, 1, (1, 1))) == 1


def test_anisotropic_voxels_count_in_nanometres():
    truth = np.zeros((5, 1, 5), np.uint8)
    truth[2:, 0, :] = 1
    assert not boundary_band(truth, 10, (50, 4, 4)).any()
    assert np.flatnonzero(boundary_band(truth, 50, (50, 4, 4))[:, 0, 0]).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("predicted", "truth", "words"),
    [
        (np.zeros((2, 2), bool), np.zeros((2, 3), np.uint8), "differ in shape"),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), "threshold first"),
        (np.zeros((2, 2), bool), np.full((2, 2), 7, np.uint8), "other values"),
    ],
)
def test_what_does_not_fit_is_refused(predicted, truth, words):
    with pytest.raises(ValueError, match=words):
        count(predicted, truth)


def test_a_band_needs_a_sensible_width_and_spacing():
    truth = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="at least 0"):
        boundary_band(truth, -1, (1, 1, 1))
    with pytest.raises(ValueError, match="voxel sizes"):
        boundary_band(truth, 1, (1,))
