from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.geometry import Block, Box
from cristae.learn.histogram import LEVELS, UNCHANGED, Curve, matching_curve, quantiles
from cristae.learn.patches import View


def spread(seed=0, shape=(64, 64)):
    return np.random.default_rng(seed).gamma(2.0, 1.0, shape).astype(np.float32)


def test_a_volume_matched_to_itself_stays_as_it_is():
    grey = spread()
    found = quantiles([(grey, -1.0)])
    np.testing.assert_allclose(matching_curve(found, found)(grey), grey, atol=1e-5)


@pytest.mark.parametrize("change", [lambda g: 3 * g - 7, lambda g: g**0.5, np.exp], ids=["gain", "gamma", "exp"])
def test_whatever_keeps_the_order_of_grey_values_is_undone(change):
    source = spread()
    target = change(source)
    curve = matching_curve(quantiles([(target, -99.0)]), quantiles([(source, -99.0)]))
    inner = (source > np.quantile(source, 0.01)) & (source < np.quantile(source, 0.99))
    assert np.abs(curve(target)[inner] - source[inner]).max() < 0.1 * source.std()


@given(
    target=st.lists(st.floats(-5, 5), min_size=len(LEVELS), max_size=len(LEVELS)).map(sorted).map(tuple),
    source=st.lists(st.floats(-5, 5), min_size=len(LEVELS), max_size=len(LEVELS)).map(sorted).map(tuple),
)
def test_a_curve_never_turns_the_order_round(target, source):
    ends = matching_curve(target, source)(np.linspace(-9, 9, 500))
    assert ends.dtype == np.float32
    assert (np.diff(ends) >= -1e-5).all()


def test_beyond_its_ends_a_curve_goes_on_with_slope_1():
    curve = Curve((0.0, 1.0), (10.0, 30.0))
    np.testing.assert_allclose(curve(np.array([-2.0, 0.0, 0.5, 1.0, 4.0])), [8, 10, 20, 30, 33])


def test_padding_is_left_out_and_slices_are_pooled():
    grey = spread()
    padded = np.where(np.arange(64) < 40, np.float32(-3), grey)
    assert quantiles([(padded, -3.0)]) == quantiles([(grey[:, 40:], -3.0)])
    assert quantiles([(grey[:32], 0.0), (grey[32:], 0.0)]) == quantiles([(grey, 0.0)])
    assert quantiles([(np.full((4, 4), -3.0, np.float32), -3.0)]) == quantiles([]) == ()
    assert matching_curve((), (1.0,)) is UNCHANGED


def test_one_grey_value_becomes_the_mean_of_those_at_its_shares():
    assert matching_curve((2.0, 2.0, 3.0), (1.0, 3.0, 5.0)) == Curve((2.0, 3.0), (2.0, 5.0))


def test_large_slices_are_sampled_alike_each_time():
    large = spread(shape=(400, 400))
    found = quantiles([(large, -1.0)])
    assert found == quantiles([(large, -1.0)]) != quantiles([(large, -1.0)], seed=1)
    np.testing.assert_allclose(found[2:-3], np.quantile(large, LEVELS)[2:-3], rtol=0.15)


def test_blocks_prepared_with_a_curve_are_parts_of_the_whole():
    grey = np.random.default_rng(1).integers(0, 255, (3, 40, 48)).astype(np.uint8)
    view = View(
        2, 0, np.array([90.0, 100, 110]), np.array([30.0, 40, 50]), (), Curve((-1.0, 0.0, 1.0), (-3.0, 0.0, 0.5))
    )
    whole = view.prepare(grey, 0)
    block = Block(Box((1, 8, 12), (3, 40, 30)), Box((1, 8, 12), (3, 40, 30)))
    assert np.array_equal(view.prepare(grey[block.read.slices], 1), whole[1:3, 4:20, 6:15])
    plain = View(2, 0, view.mean, view.deviation)
    assert not np.array_equal(plain.prepare(grey, 0), whole)
    assert view.padding(1) == pytest.approx(-100 / 40 - 2)
