import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.learn.cutmix import AREA, box_masks, mixed


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(40, 90), st.integers(40, 90))
def test_each_mask_is_one_box_of_a_drawn_area(seed: int, height: int, width: int) -> None:
    masks = box_masks(3, (height, width), np.random.default_rng(seed))
    assert masks.shape == (3, 1, height, width)
    for mask in masks[:, 0]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all() and box.sum() == mask.sum()
        assert AREA[0] - 0.03 < mask.mean() < AREA[1] + 0.03


def test_boxes_differ_in_shape_and_place_and_repeat_with_the_seed() -> None:
    masks = box_masks(200, (64, 64), np.random.default_rng(0))[:, 0]
    assert np.array_equal(masks, box_masks(200, (64, 64), np.random.default_rng(0))[:, 0])
    heights, widths = masks.any(2).sum(1), masks.any(1).sum(1)
    assert heights.min() < 24 and heights.max() > 58 and widths.min() < 24 and widths.max() > 58
    assert masks.any(0).mean() > 0.98 and not masks.all(0).any()  # all over the image, though seldom in its corners


def test_several_boxes_leave_out_what_two_of_them_cover() -> None:
    masks = box_masks(300, (60, 60), np.random.default_rng(1), n_boxes=3)[:, 0]
    # Three boxes of a third of the area each, at random places, cover their sum but for what two cover.
    assert 0.2 < masks.mean() < np.mean(AREA)
    whole = box_masks(300, (60, 60), np.random.default_rng(1))[:, 0]
    turns = [np.abs(np.diff(one, axis=2)).sum() for one in (masks, whole)]
    assert turns[0] > 1.4 * turns[1]  # more outlines


def test_mixing_takes_each_pixel_from_one_of_the_two() -> None:
    one, other = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
    masks = torch.from_numpy(box_masks(2, (16, 16), np.random.default_rng(0)))
    assert torch.equal(mixed(one, other, masks), masks.expand(2, 3, 16, 16))
    assert torch.equal(mixed(one, other, 0 * masks), one)
