"""What holds of the phantom's pictures: blocks equal the whole, no threshold solves them, artefacts are there."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from cristae.geometry import Box
from cristae.phantom import CLASSES, RENDER_HALO, PhantomSettings, build_scene, image, labels, render

DATA = Path(os.environ.get("CRISTAE_DATA", Path(__file__).parents[3] / "shared" / "data"))
QUIET = {"noise": 0.0, "brightness_jump": 0.0, "curtaining": 0.0, "charging": 0.0}


@examples(max_examples=6, deadline=None)
@given(corner=st.tuples(st.integers(0, 40), st.integers(0, 370), st.integers(0, 370)), size=st.integers(1, 24))
def test_a_box_equals_the_same_part_of_the_whole(scene, picture, corner, size):
    box = Box(corner, tuple(min(a + size, n) for a, n in zip(corner, (48, 384, 384), strict=True)))
    np.testing.assert_array_equal(image(scene, box), picture[box.slices])


def test_boxes_equal_the_whole_with_drift_and_flat_voxels():
    settings = PhantomSettings(
        shape=(9, 150, 140), voxel_size=(40.0, 5.0, 6.0), drift_px_per_slice=2.0, missing_slices=(4,), seed=3
    )
    scene = build_scene(settings)
    whole = image(scene, Box((0, 0, 0), settings.shape))
    for box in (Box((2, 100, 3), (7, 150, 131)), Box((8, 0, 139), (9, 17, 140))):
        np.testing.assert_array_equal(image(scene, box), whole[box.slices])


def test_rendering_needs_no_more_than_its_halo(settings, truth):
    inner = Box((14, 100, 150), (20, 130, 190))
    wide = inner.grow(RENDER_HALO)
    wider = inner.grow((14, 40, 31))
    pictures = [render({n: a[b.slices] for n, a in truth.items()}, b, settings) for b in (wide, wider)]
    np.testing.assert_array_equal(pictures[0][inner.within(wide).slices], pictures[1][inner.within(wider).slices])


def test_same_seed_same_bytes(settings, scene, picture):
    box = Box((4, 60, 60), (8, 120, 120))
    again = image(build_scene(settings), box)
    assert again.dtype == np.uint8
    assert again.tobytes() == picture[box.slices].tobytes()
    other = image(build_scene(settings.model_copy(update={"seed": 1})), box)
    assert not np.array_equal(again, other)


def best_threshold_dice(picture, mask):
    """Best Dice of ``low <= grey < high`` over all bands, thresholds of either polarity among them."""
    inside = np.bincount(picture[mask], minlength=256)
    below = np.concatenate([[0], np.cumsum(inside)])
    everything = np.concatenate([[0], np.cumsum(np.bincount(picture.ravel(), minlength=256))])
    hits, chosen = below[None] - below[:, None], everything[None] - everything[:, None]
    return float(np.max(np.where(chosen > 0, 2 * hits / np.maximum(chosen + mask.sum(), 1), 0)))


@pytest.mark.parametrize("sigma", [0, 1, 2, 4])
def test_no_threshold_solves_a_class(picture, truth, sigma):
    smooth = gaussian_filter(picture.astype(np.float32), sigma) if sigma else picture
    smooth = np.rint(smooth).astype(np.uint8)
    for name in CLASSES:
        assert best_threshold_dice(smooth, truth[name] > 0) < 0.6, name


def test_nuclei_are_as_bright_as_cytoplasm(picture, truth, in_cell):
    assert abs(picture[truth["nucleus"] > 0].mean() - picture[in_cell].mean()) < 0.5 * picture[in_cell].std()


def test_brightness_jumps_between_slices():
    box = Box((0, 0, 0), (60, 24, 24))
    flat = {"cell": np.ones(box.shape, np.uint8)}
    calm, jumpy = (
        render(flat, box, PhantomSettings(**{**QUIET, "brightness_jump": size})).mean(axis=(1, 2)) for size in (0, 0.1)
    )
    steps = np.abs(jumpy - calm) / 255
    assert np.count_nonzero(steps > 0.05) >= 3
    assert np.median(steps) < 0.02


@pytest.mark.parametrize("name", ["noise", "curtaining", "charging"])
def test_an_artefact_shows_when_asked_for(name):
    box = Box((0, 0, 0), (6, 120, 400))
    flat = {"cell": np.zeros(box.shape, np.uint8)}
    plain, bad = (render(flat, box, PhantomSettings(**{**QUIET, name: size})).astype(int) for size in (0.0, 0.2))
    difference = bad - plain
    assert np.abs(difference).max() > 15
    if name == "curtaining":
        assert np.std(difference.mean(axis=1)) > 3 * np.std(difference.mean(axis=2))
    if name == "charging":
        assert np.mean(difference == 0) > 0.5


def test_a_missing_slice_is_blank_and_its_labels_stay():
    settings = PhantomSettings(shape=(5, 64, 64), missing_slices=(2,))
    scene, box = build_scene(settings), Box((0, 0, 0), (5, 64, 64))
    made = image(scene, box)
    assert not made[2].any()
    assert made[[0, 1, 3, 4]].min(axis=(1, 2)).all()
    assert labels(scene, box)["cell"][2].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.uint32])
def test_plain_label_volumes_can_be_rendered(dtype):
    box = Box((5, 5, 5), (13, 85, 95))
    nucleus = np.zeros(box.shape, dtype)
    nucleus[:, 20:60, 20:60] = 1
    made = render({"nucleus": nucleus}, box, PhantomSettings(**QUIET))
    assert made.shape == box.shape
    edge = made[4, 30:50, 19:21].mean()
    assert edge < made[4, 30:50, 25:55].mean() - 20
    np.testing.assert_array_equal(made, render({"nucleus": nucleus.astype(np.uint32)}, box, PhantomSettings(**QUIET)))


def test_touching_objects_each_get_a_rim():
    box = Box((0, 0, 0), (9, 60, 60))
    pair = np.zeros(box.shape, np.uint8)
    pair[:, 10:50, 10:30], pair[:, 10:50, 30:50] = 1, 2
    seam = [
        render({"endosome": ids}, box, PhantomSettings(**QUIET))[4, 15:45, 29:31].mean() for ids in (pair, pair > 0)
    ]
    assert seam[0] < seam[1] - 20


def test_wrong_labels_are_refused(settings):
    box = Box((0, 0, 0), (2, 4, 4))
    with pytest.raises(ValueError, match="shape"):
        render({"cell": np.zeros((2, 4, 5), np.uint8)}, box, settings)
    with pytest.raises(ValueError, match="golgi"):
        render({"golgi": np.zeros((2, 4, 4), np.uint8)}, box, settings)
    with pytest.raises(ValueError, match="none"):
        render({}, box, settings)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real label volumes at {DATA}; set CRISTAE_DATA")
def test_real_nuclei_can_be_rendered():
    tifffile = pytest.importorskip("tifffile")
    stack = tifffile.imread(DATA / "hela_nuclei_labels" / "labels_5class_sub4.tif")[150:158, 150:350, 150:350]
    box = Box((150, 150, 150), (158, 350, 350))
    nucleus = (stack == 2).astype(np.uint8)
    assert nucleus.any()
    made = render({"nucleus": nucleus}, box, PhantomSettings(voxel_size=(50.0, 40.0, 40.0)))
    assert made.shape == stack.shape
    assert made.std() > 5
