"""The order of slices, judged by likenesses that fall with distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.preprocess.order import gaps, ruler, shuffled, strangers, unlike
from cristae.preprocess.scale import spacing_px
from cristae.preprocess.spread import outlying, remainders, spread_of, steps

N, MOST = 40, 6
BARS = (5.0, 0.1)


def likeness_of(places, seed=0, spread=0.01) -> np.ndarray:
    """Return the likenesses of slices that were cut at some places."""
    rng = np.random.default_rng(seed)
    found = np.full((len(places), MOST), np.nan)
    for z in range(len(places)):
        for k in range(min(z, MOST)):
            found[z, k] = 0.95 * np.exp(-abs(places[z] - places[z - k - 1]) / 5) + rng.normal(0, spread)
    return found


def all_good(likeness) -> np.ndarray:
    return np.ones(len(likeness), np.bool_)


@given(st.integers(0, 50))
@settings(max_examples=15)
def test_slices_in_order_are_left_alone(seed) -> None:
    likeness = likeness_of(np.arange(N), seed)
    lags = ruler(likeness, all_good(likeness))
    assert (np.diff(lags) < 0).all()
    assert not shuffled(likeness, all_good(likeness), lags)
    assert not gaps(likeness, all_good(likeness), lags, [], BARS)
    assert not unlike(lags, 0.05)


@given(st.integers(1, N - 3))
@settings(max_examples=20)
def test_two_slices_that_changed_places_are_named(z) -> None:
    places = np.arange(N)
    places[[z, z + 1]] = places[[z + 1, z]]
    likeness = likeness_of(places)
    (found,) = shuffled(likeness, all_good(likeness), ruler(likeness, all_good(likeness)))
    assert found[0] == (z + 1, z) and found[1] == pytest.approx(2, rel=0.3)


@given(st.permutations(range(4)), st.integers(5, N - 10))
@settings(max_examples=20)
def test_any_order_of_four_slices_is_undone(order, z) -> None:
    places = np.arange(N)
    places[z : z + 4] = z + np.array(order)
    likeness = likeness_of(places, spread=0.002)
    found = shuffled(likeness, all_good(likeness), ruler(likeness, all_good(likeness)))
    assert set().union(*(group for group, _ in found)) == set(np.flatnonzero(places != np.arange(N)))


@given(st.integers(4, N - 6), st.integers(1, 3))
@settings(max_examples=20)
def test_lost_slices_are_counted(z, n) -> None:
    places = np.arange(N)
    places[z:] += n
    likeness = likeness_of(places, spread=0.003)
    (found,) = gaps(likeness, all_good(likeness), ruler(likeness, all_good(likeness)), [], BARS)
    assert (found.z, found.n_lost) == (z, n)


def test_a_bad_slice_is_neither_a_gap_nor_out_of_order() -> None:
    likeness = likeness_of(np.arange(N))
    likeness[20] *= 0.75
    for k in range(MOST):
        likeness[20 + k + 1, k] *= 0.75
    lags = ruler(likeness, all_good(likeness))
    assert not shuffled(likeness, all_good(likeness), lags)
    assert not gaps(likeness, all_good(likeness), lags, [], BARS)


def test_a_stranger_is_named_with_its_place() -> None:
    rng = np.random.default_rng(0)
    grid = np.cumsum(rng.normal(size=(N, 8, 8)), axis=0).astype(np.float32)
    places = np.arange(N).astype(float)
    places[12], grid[12] = 33.4, grid[33] + 0.1 * rng.normal(size=(8, 8))
    likeness = likeness_of(places)
    lags = ruler(likeness, all_good(likeness))
    (found,) = strangers(likeness, all_good(likeness), lags, grid, 5.0)
    assert found.z == 12 and found.beside in (33, 34)


@given(st.integers(0, 100), st.floats(-5, 5), st.floats(0.1, 10))
@settings(max_examples=20)
def test_what_is_unusual_does_not_depend_on_level_and_trend(seed, slope, scale) -> None:
    rng = np.random.default_rng(seed)
    values, usable = rng.normal(size=30), np.ones(30, np.bool_)
    values[11] += 20
    one = outlying(values, usable, 0.0)
    other = outlying(scale * values + slope * np.arange(30) + 7, usable, 0.0)
    assert np.allclose(one, other, atol=1e-6)
    assert abs(one[11]) > 8 and np.argmax(np.abs(one)) == 11


def test_a_straight_line_leaves_nothing_and_a_step_is_found() -> None:
    usable = np.ones(40, np.bool_)
    line = 3.0 + 0.5 * np.arange(40)
    assert np.allclose(remainders(line, usable), 0)
    noise = np.random.default_rng(0).normal(0, 0.1, 40)
    jumped = noise + 4.0 * (np.arange(40) >= 22)
    assert list(steps(jumped, usable, 0.05, 5.0)) == [22]
    assert not steps(noise, usable, 0.05, 5.0)
    assert np.abs(outlying(jumped, usable, 0.05, (22,))).max() < 5


def test_spread_is_a_standard_deviation_that_outliers_do_not_bend() -> None:
    values = np.random.default_rng(0).normal(0, 2, 2000)
    values[:200] = 1e6
    assert spread_of(values) == pytest.approx(2, rel=0.2)
    assert spread_of(np.array([np.nan])) == 0


@pytest.mark.parametrize("thickness", [0.8, 1.5, 3.0, 6.0])
def test_the_distance_of_slices_is_read_off_their_likeness(thickness) -> None:
    own = 0.9 * np.exp(-np.arange(33) / 8)
    own[0] = 1.0  # noise is like itself only unmoved
    lags = 0.9 * np.exp(-thickness * np.arange(1, 7) / 8)
    assert spacing_px(own, lags) == pytest.approx(thickness, rel=0.1)


def test_nothing_is_said_of_distance_where_nothing_is_alike() -> None:
    own = np.exp(-np.arange(33) / 2)
    assert np.isnan(spacing_px(own, np.full(6, 0.05)))
    assert np.isnan(spacing_px(np.full(33, np.nan), np.full(6, 0.5)))
    assert np.isnan(spacing_px(own, np.full(6, np.nan)))
