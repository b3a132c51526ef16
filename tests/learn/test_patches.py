from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

from cristae.learn.augment import Augmentation, augment
from cristae.learn.patches import LabelledSlice, PatchSampler, Sampling, View, hold_out


def _slice(z: int = 0, size: int = 64, n_classes: int = 1) -> LabelledSlice:
    rng = np.random.default_rng(z)
    target = (rng.random((n_classes, size, size)) > 0.5).astype(np.float32)
    image = target[:1] + 0.1 * rng.standard_normal((1, size, size), np.float32)
    return LabelledSlice(z, image, target, np.ones_like(target))


ALL = Augmentation(rotation_deg=45, scale=0.2, contrast=0.2, brightness=0.2, gamma=0.2, noise=0.1, blur=1)


@given(
    tile=st.sampled_from([16, 32, 96]),
    y=st.floats(0, 64),
    x=st.floats(0, 64),
    seed=st.integers(0, 1000),
    free=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_image_target_and_weight_move_together(tile: int, y: float, x: float, seed: int, free: bool) -> None:
    one = _slice()
    how = Augmentation(rotation_deg=30 if free else 0)
    # The image shows the target itself, so after any cut it must still show the cut target where that is known.
    parts = augment(one.target, one.target, one.weight, np.array([y, x]), tile, how, np.random.default_rng(seed))
    assert all(part.shape == (1, tile, tile) and part.dtype == np.float32 for part in parts)
    image, target, weight = parts
    assert set(np.unique(weight)) <= {0.0, 1.0}
    inner = _shrunk(weight[0] > 0)
    np.testing.assert_allclose(image[0][inner], target[0][inner], atol=1e-5)


def _shrunk(mask: np.ndarray) -> np.ndarray:
    return binary_erosion(mask, iterations=2)


def test_a_patch_is_a_function_of_seed_and_number() -> None:
    slices = [_slice(z) for z in range(3)]
    sampling = Sampling(32, 3, 0.5, 1, ALL)
    first, again, other = (PatchSampler(slices, sampling, seed) for seed in (1, 1, 2))
    again.batch(0)  # what was drawn before must not matter
    for a, b in zip(first.batch(7), again.batch(7), strict=True):
        assert (a == b).all()
    assert not (first.batch(7)[0] == other.batch(7)[0]).all()


def test_rare_classes_are_shown_and_common_ones_left_to_chance() -> None:
    one = _slice(size=512)
    target = np.zeros_like(one.target)
    target[0, 300:306, 200:206] = 1
    rare = LabelledSlice(0, one.image, target, one.weight)
    still = Augmentation(flips=False, quarter_turns=False)
    shown = [PatchSampler([rare], Sampling(64, 5, 0.8, 20, still), 0).batch(i)[1].sum((1, 2, 3)) for i in range(20)]
    assert np.mean(np.array(shown)[:, :4] >= 20) > 0.9  # 4 of 5 tiles, as Machireddy et al. did
    by_chance = [PatchSampler([rare], Sampling(64, 5, 0, 20, still), 0).batch(i)[1].sum((1, 2, 3)) for i in range(20)]
    assert np.mean(np.array(by_chance) > 0) < 0.2


def test_ignored_pixels_never_draw_the_sampler() -> None:
    one = _slice(size=256)
    target = np.zeros_like(one.target)
    target[0, :4, :4] = 1
    target[0, 100:104, 100:104] = 1
    weight = np.ones_like(target)
    weight[0, :50, :50] = 0
    sampler = PatchSampler([LabelledSlice(0, one.image, target, weight)], Sampling(32, 2, 1, 1, ALL), 0)
    ((_, pixels),) = sampler._pixels[0]
    assert pixels.min() >= 100


@pytest.mark.parametrize("share", [0.0, 0.0625, 0.25])
def test_the_held_out_part_is_never_learnt_from(share: float) -> None:
    slices = [_slice(z, n_classes=2) for z in range(3)]
    learn, judged = hold_out(slices, 0, share)
    if share == 0:
        assert judged == []
        return
    for whole, kept, part in zip(slices, learn, judged, strict=True):
        assert part.weight[0].sum() == pytest.approx(share * 64 * 64, rel=0.1)
        assert kept.weight.sum() + part.weight.sum() == whole.weight.sum()


def test_channels_are_neighbours_mirrored_at_the_ends() -> None:
    view = View(1, 2, np.zeros(5), np.ones(5))
    assert view.channels(0, 5) == [2, 1, 0, 1, 2]
    assert view.channels(4, 5) == [2, 3, 4, 3, 2]
    assert view.channels(0, 1) == [0] * 5
    assert view.channels(0, 2) == [0, 1, 0, 1, 0]


def test_missing_slices_are_stood_in_for() -> None:
    view = View(1, 1, np.zeros(6), np.ones(6), missing=(2, 3))
    assert view.channels(2, 6) == [1, 1, 4]
    assert view.reach == 3


def test_one_small_object_is_never_held_out_altogether() -> None:
    one = _slice(size=400)
    target = np.zeros_like(one.target)
    target[0, 100:116, 100:116] = 1
    alone = LabelledSlice(0, one.image, target, one.weight)
    for seed in range(40):
        learn, _ = hold_out([alone], seed, 0.0625)
        sampler = PatchSampler(learn, Sampling(32, 4, 0.5, 1, ALL), seed)
        assert sampler.batch(0)[1].max() > 0.5


def test_what_nobody_looked_at_does_not_leak_into_the_target() -> None:
    one = _slice(size=64)
    disc = np.zeros_like(one.target)
    disc[0, 20:44, 20:44] = 1
    for seed in range(10):
        how = Augmentation(rotation_deg=45, scale=0.3)
        _, target, weight = augment(one.image, disc, disc, np.array([32, 32]), 64, how, np.random.default_rng(seed))
        assert weight.sum() > 100 and target[weight > 0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("share", "expected"), [(0.8, 0.8), (0.999, 0.999), (0.5, 0.5)])
def test_the_share_of_rare_patches_is_kept(share: float, expected: float) -> None:
    one = _slice(size=512)
    target = np.zeros_like(one.target)
    target[0, 300:310, 200:210] = 1
    rare = LabelledSlice(0, one.image, target, one.weight)
    sampler = PatchSampler([rare], Sampling(32, 4, share, 1, Augmentation()), 0)
    shown = np.concatenate([sampler.batch(i)[1].sum((1, 2, 3)) > 0 for i in range(60)])
    assert shown.mean() == pytest.approx(expected, abs=0.09)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_class_that_is_insisted_on_is_shown_more_often(share: float) -> None:
    one = _slice(size=512)
    target = np.zeros((2, 512, 512), np.float32)
    target[0, 300:310, 200:210] = target[1, 60:70, 400:410] = 1
    rare = LabelledSlice(0, one.image, target, np.ones_like(target))
    sampler = PatchSampler([rare], Sampling(32, 4, share, 1, Augmentation()), 0)

    def shown() -> np.ndarray:
        found: np.ndarray = (np.concatenate([sampler.batch(i)[1].sum((2, 3)) for i in range(60)]) > 0).mean(0)
        return found

    before = shown()
    sampler.insist(1)
    after = shown()
    assert after[1] > before[1] + 0.1 * share and after[1] > share / 2
    if share == 0:  # the other one was not asked for
        assert after[1] == pytest.approx(0.5, abs=0.1) and after[0] < 0.05


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_of_a_batch_are_together_the_batch(size: int) -> None:
    whole = Sampling(32, 5, 0.5, 1, ALL)
    expected = PatchSampler([_slice()], whole, 4).batch(7)
    shares = [PatchSampler([_slice()], replace(whole, rank=rank, size=size), 4).batch(7) for rank in range(size)]
    for i, array in enumerate(expected):
        for rank, share in enumerate(shares):
            np.testing.assert_array_equal(share[i], array[rank::size])
