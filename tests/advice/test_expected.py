"""Expected Dice: what independent voxels do on average, and shares learnt from counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.advice.expected import LEVELS, clump_size, expected_dice, expected_errors, identity, true_shares

counts = st.lists(st.integers(0, 5000), min_size=LEVELS, max_size=LEVELS).map(np.array)


def _drawn(levels: np.ndarray, shares: np.ndarray, lowest: int, n: int, seed: int = 0) -> np.ndarray:
    """Return the Dice of n truths drawn at random, voxel by voxel."""
    generator = np.random.default_rng(seed)
    mask = levels >= lowest
    truth = generator.random((n, len(levels))) < shares[levels]
    both = (truth & mask).sum(axis=1)
    whole = truth.sum(axis=1) + mask.sum()
    return np.where(whole > 0, 2 * both / np.maximum(whole, 1), 1.0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("honest", [True, False])
def test_expected_dice_is_the_mean_over_independent_voxels(seed, honest):
    generator = np.random.default_rng(seed)
    levels = np.clip(generator.normal(generator.choice([10, 240], 120), 50), 0, 255).astype(np.uint8)
    shares = identity() if honest else identity() ** 3
    found = expected_dice(np.bincount(levels, minlength=LEVELS), shares, 128)
    drawn = _drawn(levels, shares, 128, 20_000)
    assert found == pytest.approx(drawn.mean(), abs=4 * drawn.std() / np.sqrt(len(drawn)) + 2e-4)


def test_second_order_beats_the_ratio_of_means_on_few_voxels():
    levels, shares = np.array([60, 100, 140, 150, 200, 90], np.uint8), identity()
    exact = 0.0
    for truth in itertools.product([0, 1], repeat=len(levels)):
        chance = np.prod(np.where(truth, shares[levels], 1 - shares[levels]))
        mask = levels >= 128
        exact += chance * 2 * (np.array(truth) & mask).sum() / (sum(truth) + mask.sum())
    voxels = np.bincount(levels, minlength=LEVELS)
    plain = 2 * shares[levels][levels >= 128].sum() / (3 + shares[levels].sum())
    assert abs(expected_dice(voxels, shares, 128) - exact) < abs(plain - exact) / 3


def test_a_slice_without_mask_is_right_if_nothing_was_missed():
    voxels = np.zeros(LEVELS)
    voxels[3], shares = 200, np.full(LEVELS, 0.01)
    assert expected_dice(voxels, shares, 128) == pytest.approx(0.99**200)
    # Whole objects of 100 voxels are missed together, or not at all.
    assert expected_dice(voxels, shares, 128, clump=100) == pytest.approx(0.99**2)
    assert expected_dice(np.zeros(LEVELS), shares, 128) == 1


def test_what_is_sure_and_right_has_dice_one():
    voxels = np.zeros(LEVELS)
    voxels[[0, 255]] = 1000, 50
    assert expected_dice(voxels, identity(), 128) == 1
    assert expected_errors(voxels, identity(), 128) == 0


@given(counts, st.integers(1, 255))
def test_slices_are_told_one_by_one(voxels, lowest):
    table = np.stack([voxels, voxels[::-1]])
    one_by_one = [float(expected_dice(row, identity(), lowest)) for row in table]
    assert expected_dice(table, identity(), lowest) == pytest.approx(one_by_one)
    assert np.all((np.array(one_by_one) >= 0) & (np.array(one_by_one) <= 1))


@given(counts, st.integers(0, 2**31))
def test_shares_never_fall_and_keep_the_sum(voxels, seed):
    true = np.random.default_rng(seed).binomial(voxels, identity() ** 2)
    shares = true_shares(voxels, true)
    assert np.all(np.diff(shares) >= -1e-12) and shares.min() >= 0 and shares.max() <= 1
    # Isotonic regression moves weight between levels but keeps it: as many true voxels are promised as were seen.
    assert ((voxels + 1) * shares).sum() == pytest.approx(true.sum() + identity().sum())


def test_shares_are_learnt():
    voxels = np.full(LEVELS, 100_000)
    true = np.round(voxels * identity() ** 2).astype(int)
    assert true_shares(voxels, true) == pytest.approx(identity() ** 2, abs=1e-4)
    two = true_shares(np.stack([voxels, voxels]), np.stack([true, true * 0]))
    assert np.array_equal(two, true_shares(2 * voxels, true))


def test_levels_that_nobody_saw_are_taken_at_their_word():
    assert true_shares(np.zeros(LEVELS), np.zeros(LEVELS)) == pytest.approx(identity())


def test_calibration_mends_the_dice_of_a_network_that_is_too_sure():
    generator = np.random.default_rng(1)
    honest = np.clip(generator.normal(generator.choice([20, 235], 40_000, p=[0.9, 0.1]), 45), 0, 255).astype(int)
    truth = generator.random(honest.size) < honest / 255
    boastful = np.clip((honest - 127.5) * 3 + 127.5, 0, 255).astype(int)
    first, second = slice(0, 20_000), slice(20_000, None)
    counted = np.bincount(boastful[first], minlength=LEVELS)
    right = np.bincount(boastful[first], truth[first], minlength=LEVELS)
    voxels, mask = np.bincount(boastful[second], minlength=LEVELS), boastful[second] >= 128
    dice = 2 * (mask & truth[second]).sum() / (mask.sum() + truth[second].sum())
    mended = expected_dice(voxels, true_shares(counted, right), 128)
    believed = expected_dice(voxels, identity(), 128)
    assert abs(mended - dice) < 0.02 < abs(believed - dice)


def test_the_size_of_clumps():
    assert clump_size(np.array([10, 30])) == 20
    assert clump_size(np.array([])) == 1 and clump_size(np.array([0.2])) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: true_shares(np.zeros(9), np.zeros(9)), "256 levels"),
        (lambda: true_shares(np.zeros(LEVELS), np.ones(LEVELS)), "true ≤ voxels"),
        (lambda: true_shares(np.ones(LEVELS), np.ones(LEVELS), prior=0), "prior above 0"),
        (lambda: expected_dice(np.zeros(5), identity(), 128), "256 levels"),
        (lambda: expected_dice(np.zeros(LEVELS), identity() * 2, 128), "from 0 to 1"),
        (lambda: expected_dice(np.zeros(LEVELS), identity(), 128, clump=0.5), "clumps of 1"),
    ],
)
def test_other_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
