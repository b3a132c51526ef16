import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.geometry import Grid
from cristae.learn.scale import enlarge_slices, normalise, reduce_slices, reduction


def test_the_papers_context_is_a_reduction_by_four() -> None:
    bx2 = Grid((2526, 3511, 5728), (4.0, 4.0, 4.0))
    assert [reduction(bx2, 512, 4 * px) for px in (512, 1024, 2048, 3072)] == [1, 2, 4, 6]


def test_small_volumes_shrink_the_context() -> None:
    assert reduction(Grid((20, 250, 250), (10.0, 10.0, 10.0)), 256, 8192) == 1


@given(factor=st.integers(1, 5), height=st.integers(1, 7), width=st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_reducing_keeps_the_mean_and_enlarging_keeps_constants(factor: int, height: int, width: int) -> None:
    slices = np.random.default_rng(0).random((2, height * factor, width * factor), np.float32)
    small = reduce_slices(slices, factor)
    assert small.shape == (2, height, width)
    np.testing.assert_allclose(small.mean(), slices.mean(), rtol=1e-4)
    flat = np.full((1, height, width), 0.25, np.float32)
    assert (enlarge_slices(flat, factor) == 0.25).all()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarging_is_linear_interpolation_between_pixel_centres(factor: int) -> None:
    slices = np.random.default_rng(0).random((2, 9, 7), np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(slices)[None], scale_factor=factor, mode="bilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(enlarge_slices(slices, factor), expected.numpy(), atol=2e-6)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_enlarging_a_part_gives_the_bits_of_the_whole(factor: int) -> None:
    slices = np.random.default_rng(0).random((1, 20, 20), np.float32)
    whole = enlarge_slices(slices, factor)
    part = enlarge_slices(slices[:, 4:12, 7:15], factor)
    inner = slice(factor, -factor)
    assert (part[:, inner, inner] == whole[:, 5 * factor : 11 * factor, 8 * factor : 14 * factor]).all()


def test_normalised_slices_have_mean_0_and_deviation_1() -> None:
    slices = np.random.default_rng(0).integers(1, 255, (3, 30, 30), np.uint8)
    mean, deviation = slices.mean((1, 2)), slices.std((1, 2))
    found = normalise(slices, mean, deviation)
    np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((1, 2)), 1, rtol=1e-5)
