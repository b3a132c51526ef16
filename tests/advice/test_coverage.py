"""The choice of slices: never a labelled one, diverse, whatever their order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.advice.contents import content_distances, describe_class, describe_picture
from cristae.advice.coverage import choose, likeness


def _covered(weights: np.ndarray, like: np.ndarray, known: tuple[int, ...]) -> float:
    return float(weights @ like[:, list(known)].max(axis=1)) / weights.sum() if known else 0.0


def _random(seed: int, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    content = content_distances([generator.random((n, 4))])
    z = np.arange(n)
    return generator.random(n) + 0.01, likeness(content, np.abs(z[:, None] - z) / 3)


@given(st.integers(0, 10_000), st.sets(st.integers(0, 11), max_size=5), st.sets(st.integers(0, 11), max_size=4))
def test_neither_labelled_nor_bad_slices_are_chosen(seed, labelled, bad):
    weights, like = _random(seed)
    candidates = set(range(12)) - bad
    found = choose(weights, like, sorted(labelled), sorted(candidates), 5)
    chosen = found.chosen.tolist()
    assert len(set(chosen)) == len(chosen) == min(5, len(candidates - labelled))
    assert not set(chosen) & (labelled | bad)
    assert not found.alone[list(labelled | bad)].any() and not found.left[list(labelled | bad)].any()
    assert not found.left[chosen].any()


@given(st.integers(0, 10_000), st.permutations(range(12)))
def test_names_of_slices_do_not_matter(seed, order):
    weights, like = _random(seed)
    order = np.array(order)
    one = choose(weights, like, [2, 7], range(12), 4)
    other = choose(weights[order], like[np.ix_(order, order)], np.flatnonzero(np.isin(order, [2, 7])), range(12), 4)
    assert order[other.chosen].tolist() == one.chosen.tolist()
    assert other.gains == pytest.approx(one.gains)
    assert other.left == pytest.approx(one.left[order])


@given(st.integers(0, 10_000))
def test_gains_add_up_and_diminish(seed):
    weights, like = _random(seed)
    found = choose(weights, like, [3], range(12), 5)
    assert np.all(np.diff(found.gains) <= 1e-9)
    whole = _covered(weights, like, (3, *found.chosen)) - _covered(weights, like, (3,))
    assert found.gains.sum() == pytest.approx(whole, abs=1e-6)
    assert np.all(found.left <= found.alone + 1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_the_choice_is_nearly_the_best_there_is(seed):
    weights, like = _random(seed)
    found = _covered(weights, like, (0, *choose(weights, like, [0], range(12), 3).chosen))
    best = max(_covered(weights, like, (0, *batch)) for batch in itertools.combinations(range(1, 12), 3))
    assert found >= 0.99 * best


def test_a_copy_of_a_labelled_slice_comes_last():
    generator = np.random.default_rng(0)
    planes = generator.integers(0, 255, (9, 64, 64), np.uint8)
    planes[:, :, :32] //= np.arange(1, 10, dtype=np.uint8)[:, None, None]
    planes[8] = planes[1]
    probabilities = np.where(planes > 150, 250, 5).astype(np.uint8)
    described = [[describe_picture(plane) for plane in planes], [describe_class(plane) for plane in probabilities]]
    content = content_distances([np.array(one) for one in described])
    z = np.arange(9)
    found = choose(np.ones(9), likeness(content, np.abs(z[:, None] - z) / 3), [1], range(9), 7)
    assert content[1, 8] == 0
    assert abs(found.alone[8]) < 1e-6 and found.alone[[0, 2, 3, 4, 5, 6, 7]].min() > 1e-3
    assert 8 not in found.chosen


def test_with_nothing_but_distance_the_slices_are_spread_evenly():
    z = np.arange(64)
    like = likeness(np.ones((64, 64)), np.abs(z[:, None] - z) / (64 / 5))
    chosen = np.sort(choose(np.ones(64), like, [], range(64), 5).chosen)
    assert np.abs(chosen - (np.arange(5) + 0.5) * 64 / 5).max() <= 2


def test_doubt_draws_slices_and_a_batch_is_diverse():
    z = np.arange(60)
    like = likeness(np.ones((60, 60)), np.abs(z[:, None] - z) / 6)
    weights = np.where((z >= 20) & (z < 30), 20.0, 1.0)
    chosen = choose(weights, like, [0, 59], range(60), 3).chosen
    assert 20 <= chosen[0] < 30
    assert np.diff(np.sort(chosen)).min() >= 3


def test_without_doubt_anywhere_slices_are_chosen_all_the_same():
    _, like = _random(0)
    assert len(choose(np.zeros(12), like, [1], range(12), 3).chosen) == 3


def test_more_than_there_are():
    weights, like = _random(1)
    assert sorted(choose(weights, like, [0], range(12), 100).chosen.tolist()) == list(range(1, 12))
    assert len(choose(weights, like, range(12), range(12), 3).chosen) == 0


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected weights"):
        choose(np.ones(3), np.ones((4, 4)), [], [0], 1)
    with pytest.raises(ValueError, match="expected descriptions"):
        content_distances([np.ones((3, 2)), np.ones((4, 2))])


@given(st.integers(0, 1000), st.floats(0.5, 4))
def test_contents_are_told_on_any_scale(seed, factor):
    table = np.random.default_rng(seed).random((10, 3))
    one, other = content_distances([table]), content_distances([table * factor + 7])
    assert other == pytest.approx(one, abs=1e-4)
    assert np.array_equal(one, one.T) and not np.diagonal(one).any()


def test_place_on_the_slice_drops_out_and_amount_does_not():
    empty, one, moved, two = (np.zeros((128, 128), np.uint8) for _ in range(4))
    one[0:32, 0:32] = moved[64:96, 32:64] = two[0:32, 0:64] = 255
    assert np.array_equal(describe_class(one), describe_class(moved))
    assert not np.array_equal(describe_class(one), describe_class(two))
    assert not describe_class(empty).any()
    assert np.array_equal(describe_picture(one), describe_picture(moved))
