"""Intervals hold as often as they say, and few slices give no false comfort."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.advice.intervals import fewest, interval, radius, scale_of


@pytest.mark.parametrize("n", [4, 7, 10, 19])
@pytest.mark.parametrize("draw", ["normal", "heavy", "bounded"])
def test_coverage_on_synthetic_slices(n, draw):
    """A hundred thousand projects of n left-out slices and one more: the interval of 80 % holds for 80 % or more."""
    generator = np.random.default_rng(n)
    size = (20_000, n + 1)
    off = {
        "normal": lambda: generator.normal(size=size),
        "heavy": lambda: generator.standard_t(2, size=size),
        "bounded": lambda: generator.random(size),
    }[draw]()
    rank = math.ceil((n + 1) * 0.8 - 1e-9)
    reaches = np.array([radius(np.abs(row[:n]), 0.8) for row in off[:2000]])
    held = np.mean(np.abs(off[:2000, n]) <= reaches)
    assert held >= 0.8 - 0.03
    assert held <= rank / (n + 1) + 0.03  # and not by being everything


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.randoms())
def test_order_does_not_matter(residuals, shuffler):
    other = list(residuals)
    shuffler.shuffle(other)
    assert radius(np.array(residuals), 0.8) == radius(np.array(other), 0.8)


def test_too_few_slices_say_nothing():
    assert radius(np.array([0.1, 0.1, 0.1]), 0.8) == math.inf
    assert radius(np.array([0.1, 0.1, 0.1, np.nan]), 0.8) == math.inf
    assert radius(np.array([0.1, 0.3, 0.2, 0.1]), 0.8) == 0.3
    assert fewest(0.8) == 4 and fewest(0.9) == 9 and fewest(0.5) == 1
    low, high = interval(np.array([0.9]), np.array([0.1]), math.inf)
    assert (low[0], high[0]) == (0, 1)


def test_intervals_stay_within_bounds_and_narrow_towards_one():
    dice = np.array([0.99, 0.9, 0.5, 0.05])
    low, high = interval(dice, scale_of(dice), 0.5)
    assert low.min() >= 0 and high.max() <= 1
    assert np.all(np.diff(high - low)[:2] > 0)
    assert np.all((low <= dice) & (dice <= high))


@pytest.mark.parametrize(("residuals", "coverage"), [([0.1], 0.0), ([0.1], 1.0), ([-0.1], 0.5)])
def test_other_input_is_refused(residuals, coverage):
    with pytest.raises(ValueError, match="expected"):
        radius(np.array(residuals), coverage)
