from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from cristae.preprocess.align import _ABOVE_CHANCE, _Fit, register, scaled
from cristae.preprocess.pyramid import FINEST, build_pyramid, reduction

SIDE = 256


def texture(side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Grey values without an edge to lean on, float64 with mean 120."""
    noise = np.random.default_rng(seed).normal(size=(side, side))
    mixed = gaussian_filter(noise, 1.5, mode="wrap") * 4 + gaussian_filter(noise, 6, mode="wrap") * 12
    return 120 + 25 * mixed / mixed.std()


def seen(plane: np.ndarray, matrix: np.ndarray, *, gain: float = 1.0, offset: float = 0.0, noise: float = 0.0, seed=1):
    """The slice in which what `plane` has at M x appears at x, both from the centre: uint8."""
    height, width = plane.shape
    middle = np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    y, x = np.mgrid[:height, :width] - middle
    at = matrix[:, 0, None, None] * y + matrix[:, 1, None, None] * x + matrix[:, 2, None, None] + middle
    moved = map_coordinates(plane, at, order=3, mode="wrap")
    grain = np.random.default_rng(seed).normal(0, noise, plane.shape) if noise else 0
    return np.clip(gain * moved + offset + grain, 1, 255).astype(np.uint8)


def shift(y: float, x: float) -> np.ndarray:
    return np.array([[1, 0, y], [0, 1, x]], float)


def match(moving, fixed, model="translation", seed=(0,)):
    return register(build_pyramid(moving), build_pyramid(fixed), model, 20_000, seed)


PLANE = texture()
FIXED = np.clip(PLANE, 1, 255).astype(np.uint8)


@given(y=st.floats(-40, 40), x=st.floats(-40, 40), gain=st.floats(0.5, 1.4), offset=st.floats(-30, 30))
@settings(max_examples=12)
def test_a_known_shift_is_found_whatever_the_light(y, x, gain, offset):
    found = match(seen(PLANE, shift(y, x), gain=gain, offset=offset, noise=6), FIXED)
    assert np.abs(found.matrix - shift(y, x)).max() < 0.05
    assert found.after > 0.6
    assert 0 < found.sigma < 0.05


@pytest.mark.parametrize("y", [-110, 0, 97])
def test_shifts_of_almost_half_a_slice_are_caught(y):
    """Nothing is wrapped round here: only what overlaps can be matched."""
    big = np.clip(texture(512), 1, 255).astype(np.uint8)
    at = 128 + y
    found = match(big[at : at + 256, 120:376], big[128:384, 128:384])
    assert np.abs(found.matrix[:, 2] - (y, -8)).max() < 0.05


def test_equal_slices_lie_right_exactly_enough():
    found = match(FIXED, FIXED)
    assert np.abs(found.matrix - np.eye(2, 3)).max() < 1e-3
    assert found.before == pytest.approx(1) and found.after == pytest.approx(1)


@pytest.mark.parametrize("model", ["rigid", "affine"])
def test_a_turn_is_found(model):
    angle = np.radians(2.5)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 3.4], [np.sin(angle), np.cos(angle), -5.2]])
    found = match(seen(PLANE, matrix, noise=5), FIXED, model)
    assert np.abs(found.matrix[:, 2] - matrix[:, 2]).max() < 0.1
    assert np.abs(found.matrix[:, :2] - matrix[:, :2]).max() * SIDE / 2 < 0.15


def test_a_stretch_and_a_shear_are_found():
    matrix = np.array([[1.02, 0.015, -4.0], [-0.01, 0.985, 2.5]])
    found = match(seen(PLANE, matrix, noise=5), FIXED, "affine")
    assert np.abs(found.matrix[:, 2] - matrix[:, 2]).max() < 0.1
    assert np.abs(found.matrix[:, :2] - matrix[:, :2]).max() * SIDE / 2 < 0.2


def test_there_and_back_is_the_identity():
    moving = seen(PLANE, shift(7.3, -4.6), noise=6)
    there, back = match(moving, FIXED), match(FIXED, moving)
    assert np.abs(there.matrix[:, 2] + back.matrix[:, 2]).max() < 0.05


def test_16_bits_say_the_same_as_8():
    moving = seen(PLANE, shift(3.7, 5.2))
    wide = match(moving.astype(np.uint16) * 200, FIXED.astype(np.uint16) * 200)
    assert np.allclose(wide.matrix, match(moving, FIXED).matrix, atol=1e-3)


def test_the_same_seed_gives_the_same_bits_and_another_one_nearly():
    moving = seen(PLANE, shift(3.7, 5.2), noise=6)
    one = match(moving, FIXED)
    assert (one.matrix == match(moving, FIXED).matrix).all()
    assert np.abs(one.matrix - match(moving, FIXED, seed=(1,)).matrix).max() < 0.05


def test_padding_never_counts():
    """A black frame that stays while the tissue moves would hold the slice, were it seen."""
    moving, fixed = seen(PLANE, shift(6.0, -9.0), noise=4), FIXED.copy()
    for plane in (moving, fixed):
        plane[:50], plane[:, 200:] = 0, 0
    found = match(moving, fixed)
    assert np.abs(found.matrix[:, 2] - (6, -9)).max() < 0.05
    assert np.isnan(build_pyramid(fixed)[0][:50]).all() and np.isfinite(build_pyramid(fixed)[0][60:, :190]).all()


def test_what_moves_otherwise_than_the_rest_has_no_say():
    moving = seen(PLANE, shift(5.0, 0.0), noise=4)
    fixed = FIXED.copy()
    other = np.clip(texture(seed=9), 1, 255).astype(np.uint8)
    fixed[80:150, 80:150], moving[80:150, 83:153] = other[:70, :70], other[:70, :70]
    assert np.abs(match(moving, fixed).matrix[:, 2] - (5, 0)).max() < 0.05


@pytest.mark.parametrize(
    "plane", [np.zeros((256, 256), np.uint8), np.full((256, 256), 77, np.uint8), np.ones((20, 400), np.uint8)]
)
def test_a_slice_without_structure_is_not_matched(plane):
    assert build_pyramid(plane) == ()
    nothing = register((), build_pyramid(FIXED), "translation", 20_000, (0,))
    assert np.isinf(nothing.sigma) and (nothing.matrix == np.eye(2, 3)).all()


@pytest.mark.parametrize("model", ["translation", "affine"])
@pytest.mark.parametrize(("side", "width"), [(96, 3.0), (256, 0.0), (256, 3.0), (256, 10.0), (1200, 1.5)])
def test_strangers_are_never_matched(side, width, model):
    """Some shift always makes two slices agree a little; how much by chance depends on their size and texture."""
    for seed in range(2 if side > 1000 else 6):
        planes = []
        for number in (seed, 100 + seed):
            noise = np.random.default_rng(number).normal(size=(side, side))
            smooth = gaussian_filter(noise, width) if width else noise
            planes.append(np.clip(128 + 30 * smooth / smooth.std(), 1, 255).astype(np.uint8))
        found = match(*planes, model)
        assert np.isinf(found.sigma) and (found.matrix == np.eye(2, 3)).all()


def test_where_less_overlaps_more_agrees_by_chance():
    fit = _Fit(*(build_pyramid(np.clip(texture(seed=seed), 1, 255).astype(np.uint8))[0] for seed in (1, 2)), "rigid")
    by_chance = [np.arctanh(fit.chance(overlap)) for overlap in (1.0, 0.25, 0.04)]
    assert by_chance == pytest.approx(by_chance[0] * np.array([1, 2, 5]))


@pytest.mark.parametrize("side", [200, 1024])
def test_noise_agrees_by_chance_as_its_pixels_that_are_compared_would_have_it(side):
    fit = _Fit(*np.random.default_rng(0).normal(size=(2, side, side)).astype(np.float32), "translation")
    n_compared = len(range(0, side, fit.grid)) ** 2
    assert np.arctanh(fit.chance(1.0)) == pytest.approx(_ABOVE_CHANCE / n_compared**0.5, rel=0.1)
    assert abs(fit.correlation(np.eye(2, 3))[0]) < fit.chance(1.0)


@pytest.mark.parametrize("noise", [20, 60])
def test_what_noise_all_but_hides_is_matched(noise):
    plane = texture(512)
    found = match(seen(plane, shift(7.0, -4.0), noise=noise, seed=2), seen(plane, shift(0, 0), noise=noise, seed=3))
    assert np.abs(found.matrix[:, 2] - (7, -4)).max() < 0.6


def test_wide_slices_are_matched_reduced_and_answer_in_their_own_pixels():
    assert [reduction((10, n)) for n in (FINEST, FINEST + 1, 4 * FINEST, 4 * FINEST + 1)] == [1, 2, 4, 8]
    big = np.clip(texture(1700), 1, 255).astype(np.uint8)
    moving, fixed = big[8:1608, 2:1602], big[2:1602, 6:1606]
    assert build_pyramid(fixed)[0].shape == (800, 800)
    found = scaled(match(moving, fixed), reduction(fixed.shape))
    assert np.abs(found.matrix[:, 2] - (6, -4)).max() < 0.1
