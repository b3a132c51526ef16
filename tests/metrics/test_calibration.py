"""Laws of signs of doubt and of calibration, against brute force and against values worked out by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.metrics.calibration import (
    LevelCounts,
    bin_edges,
    calibration_error,
    count_levels,
    error_auc,
    errors_found,
    in_bins,
    margin_doubt,
    mean_in_bins,
    relevelled,
)


def scene(seed, n=60, top=256):
    """Levels (few different ones for a small `top`, so that there are ties), a prediction and a truth with gaps."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, top, n).astype(np.uint8)
    predicted = rng.random(n) < 0.4
    truth = np.where(rng.random(n) < 0.3, ~predicted, predicted).astype(np.uint8)
    truth[rng.random(n) < 0.2] = 255
    return levels, predicted, truth


def of(levels, wrong):
    """Counts of voxels that are not predicted, with the truth where they are wrong."""
    levels, wrong = np.asarray(levels, np.uint8), np.asarray(wrong, np.uint8)
    return count_levels(levels, np.zeros(len(levels), bool), wrong)


@given(st.integers(0, 10**6), st.integers(0, 60), st.sampled_from([2, 9, 256]))
def test_counts_of_parts_add_up_to_those_of_the_whole(seed, cut, top):
    arrays = scene(seed, top=top)
    whole = count_levels(*arrays)
    parts = count_levels(*(a[:cut] for a in arrays)) + count_levels(*(a[cut:] for a in arrays))
    assert np.array_equal(whole.table, parts.table)
    assert np.array_equal(whole.table, count_levels(*(a.reshape(6, 10).T for a in arrays)).table)


@given(st.integers(0, 10**6), st.sampled_from([2, 9, 256]))
def test_counts_are_those_of_looking_at_every_voxel(seed, top):
    levels, predicted, truth = scene(seed, top=top)
    counts, seen = count_levels(levels, predicted, truth), truth != 255
    for level in range(0, 256, 1 if top == 9 else 17):
        here = seen & (levels == level)
        assert counts.voxels[level] == here.sum()
        assert counts.wrong[level] == (here & (predicted != (truth == 1))).sum()
        assert counts.true[level] == (here & (truth == 1)).sum()
    assert counts.voxels.sum() == seen.sum()


@given(st.integers(0, 10**6), st.sampled_from([2, 9, 256]))
def test_the_area_is_the_share_of_pairs_that_stand_in_the_right_order(seed, top):
    levels, predicted, truth = scene(seed, top=top)
    seen = truth != 255
    wrong = seen & (predicted != (truth == 1))
    pairs = [
        1.0 if one > other else 0.5 if one == other else 0.0
        for one in levels[wrong].tolist()
        for other in levels[seen & ~wrong].tolist()
    ]
    found = error_auc(count_levels(levels, predicted, truth))
    assert found == pytest.approx(np.mean(pairs)) if pairs else math.isnan(found)


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_errors_found_are_those_of_the_most_doubtful_in_mean_order(seed, share):
    levels, predicted, truth = scene(seed, n=40, top=5)
    seen = truth != 255
    wrong, levels = (predicted != (truth == 1))[seen], levels[seen].astype(int)
    if not wrong.any():
        return
    budget, found = share * len(levels), 0.0
    for level in range(4, -1, -1):
        here = levels == level
        part = min(1.0, budget / here.sum()) if here.any() else 0.0
        found += part * (wrong & here).sum()
        budget = max(0.0, budget - here.sum())
    assert errors_found(count_levels(*scene(seed, n=40, top=5)), share) == pytest.approx(found / wrong.sum())


def test_a_perfect_sign_a_useless_one_and_a_misleading_one():
    wrong = [0] * 90 + [1] * 10
    perfect, useless, misleading = (
        of([0] * 90 + [200] * 10, wrong),
        of([7] * 100, wrong),
        of([9] * 90 + [3] * 10, wrong),
    )
    assert (error_auc(perfect), error_auc(useless), error_auc(misleading)) == (1.0, 0.5, 0.0)
    assert errors_found(perfect, 0.1) == pytest.approx(1)
    assert errors_found(perfect, 0.05) == pytest.approx(0.5)
    assert errors_found(useless, 0.05) == pytest.approx(0.05)
    assert errors_found(misleading, 0.9) == pytest.approx(0)


def test_values_worked_out_by_hand():
    #           level 0: 3 right;  level 10: 1 right, 1 wrong;  level 20: 1 right, 2 wrong
    counts = of([0, 0, 0, 10, 10, 20, 20, 20], [0, 0, 0, 0, 1, 0, 1, 1])
    # Of 3 × 5 pairs: the wrong one at 10 beats 3 and ties 1; each of those at 20 beats 4 and ties 1.
    assert error_auc(counts) == pytest.approx((3.5 + 2 * 4.5) / 15)
    assert errors_found(counts, 3 / 8) == pytest.approx(2 / 3)
    assert errors_found(counts, 4 / 8) == pytest.approx(2.5 / 3)
    assert errors_found(counts, 1) == pytest.approx(1)


@given(st.integers(0, 10**6), st.integers(2, 4))
def test_a_sign_keeps_its_area_under_any_rising_change_and_loses_it_turned_round(seed, factor):
    counts = count_levels(*scene(seed, top=60))
    area = error_auc(counts)
    if math.isnan(area):
        return
    stretched = np.minimum(np.arange(256) * factor, 255).astype(np.uint8)
    assert error_auc(relevelled(counts, stretched)) == pytest.approx(area)
    assert error_auc(relevelled(counts, (255 - np.arange(256)).astype(np.uint8))) == pytest.approx(1 - area)


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.9])
def test_doubt_of_a_probability_is_highest_at_the_threshold_and_alike_on_both_sides(threshold):
    doubt, lowest = margin_doubt(threshold).astype(int), math.ceil(threshold * 255)
    assert doubt[lowest] == doubt[lowest - 1] == 255
    assert (np.diff(doubt[:lowest]) > 0).all() and (np.diff(doubt[lowest:]) < 0).all()
    n = min(lowest, 256 - lowest)
    assert np.array_equal(doubt[lowest : lowest + n], doubt[lowest - n : lowest][::-1])


def test_no_overflow_in_a_volume_of_a_million_million_voxels():
    table = np.zeros((256, 2, 2), np.int64)
    table[0, 0, 0], table[9, 0, 1] = 10**13, 10**12
    counts = LevelCounts(table)
    assert error_auc(counts) == 1
    assert errors_found(counts, 1 / 11) == pytest.approx(1)


@given(st.integers(0, 10**6), st.sampled_from([1, 16, 20]))
def test_calibration_error_is_that_of_looking_at_every_bin(seed, n_bins):
    levels, predicted, truth = scene(seed)
    counts, seen = count_levels(levels, predicted, truth), truth != 255
    levels, true = levels[seen] / 255, truth[seen] == 1
    edges, error = bin_edges(n_bins), 0.0
    for low, high in pairwise(edges):
        here = (levels * 255 >= low - 0.5) & (levels * 255 < high - 0.5)
        if here.any():
            error += here.mean() * abs(levels[here].mean() - true[here].mean())
    assert calibration_error(counts, n_bins) == pytest.approx(error)
    assert in_bins(counts.voxels, n_bins).sum() == seen.sum()
    assert np.nansum(mean_in_bins(counts, n_bins) * in_bins(counts.voxels, n_bins)) == pytest.approx(levels.sum())


def test_a_probability_that_means_what_it_says_and_one_that_says_the_opposite():
    table = np.zeros((256, 2, 2), np.int64)
    for level in range(256):
        table[level, int(level > 127)] = 255 - level, level
    honest = LevelCounts(table)
    assert calibration_error(honest) == pytest.approx(0, abs=1e-12)
    assert calibration_error(LevelCounts(table[:, :, ::-1])) > 0.4
    assert calibration_error(of([255, 0], [0, 1])) == 1
    assert calibration_error(of([51, 51, 51, 51], [1, 1, 0, 0])) == pytest.approx(0.3)  # says .2, is .5


def test_nothing_to_count_tells_nothing():
    nothing = LevelCounts()
    assert all(math.isnan(value) for value in (error_auc(nothing), errors_found(nothing, 0.1)))
    assert math.isnan(calibration_error(nothing))
    assert np.isnan(mean_in_bins(nothing, 4)).all()
    right = of([1, 2], [0, 0])
    assert math.isnan(error_auc(right)) and math.isnan(errors_found(right, 0.5))


def test_wrong_input_is_refused():
    levels, predicted, truth = scene(0)
    with pytest.raises(ValueError, match="differ in shape"):
        count_levels(levels[1:], predicted, truth)
    with pytest.raises(ValueError, match="uint8, a prediction of bool"):
        count_levels(levels, predicted.astype(np.uint8), truth)
    with pytest.raises(ValueError, match="0, 1 and 255"):
        count_levels(levels, predicted, np.full_like(truth, 2))
    with pytest.raises(ValueError, match="from 0 to 1"):
        errors_found(of([1], [1]), 5)
