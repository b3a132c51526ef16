import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.learn.cutmix import AREA, DRAWS, box_masks, keeping_masks, mixed


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


def _dots(n: int, seed: int) -> np.ndarray:
    """A dot of 81 pixels somewhere in each of `n` images."""
    found, rng = np.zeros((n, 1, 64, 64), np.float32), np.random.default_rng(seed)
    for one in found[:, 0]:
        y, x = rng.integers(0, 55, 2)
        one[y : y + 9, x : x + 9] = 1
    return found


def _kept(one: np.ndarray, other: np.ndarray, masks: np.ndarray, least: int = 50) -> float:
    """Share of the mixtures that have as much of the class as was asked for."""
    return float(((one * (1 - masks) + other * masks).sum((2, 3)) >= least).all(1).mean())


def test_a_mixture_keeps_what_is_rare_on_either_side_of_its_box() -> None:
    dots, nothing = _dots(300, 1), np.zeros((300, 1, 64, 64), np.float32)
    by_chance = box_masks(300, (64, 64), np.random.default_rng(0))
    assert _kept(nothing, dots, by_chance) < 0.5  # inside of boxes, most were lost
    for one, other in ((dots, nothing), (nothing, dots), (dots, _dots(300, 2))):
        masks = keeping_masks(one, other, 50, np.random.default_rng(0))
        assert _kept(one, other, masks) > 0.9
        assert np.array_equal(masks, keeping_masks(one, other, 50, np.random.default_rng(0)))
        assert set(np.unique(masks)) == {0, 1} and AREA[0] - 0.03 < masks.mean() < AREA[1] + 0.03


def test_of_several_rare_classes_all_are_kept_where_that_can_be() -> None:
    one, other = np.zeros((2, 200, 2, 64, 64), np.float32)
    one[:, :1], other[:, 1:] = _dots(200, 3), _dots(200, 4)
    by_chance = _kept(one, other, box_masks(200, (64, 64), np.random.default_rng(0)))
    # One dot has to be in the box and the other outside of it, which no box may do where both lie in one place.
    assert _kept(one, other, keeping_masks(one, other, 50, np.random.default_rng(0))) > by_chance + 0.3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_where_no_box_keeps_all_none_that_was_drawn_keeps_more(seed: int) -> None:
    one, other = (np.concatenate([_dots(1, 8 * seed + side + 2 * i) for i in range(4)], axis=1) for side in (0, 1))

    def n_kept(mask: np.ndarray) -> int:
        return int(((one[0] * (1 - mask) + other[0] * mask).sum((1, 2)) >= 80).sum())

    rng = np.random.default_rng(seed)
    drawn = [n_kept(box_masks(1, (64, 64), rng)[0]) for _ in range(DRAWS)]
    assert n_kept(keeping_masks(one, other, 80, np.random.default_rng(seed))[0]) == max(drawn)


def test_where_nothing_is_rare_boxes_are_as_they_are_drawn() -> None:
    few = _dots(20, 5)  # 81 pixels are not 100
    masks = keeping_masks(few, few, 100, np.random.default_rng(0))
    assert np.array_equal(masks, box_masks(20, (64, 64), np.random.default_rng(0)))
