from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cristae.preprocess.equalise import Tiles, apply_table, clahe, equalising_table, grey_counts, matching_table

planes = arrays(np.uint8, (13, 17), elements=st.integers(0, 255))


def equalised(plane):
    return apply_table(plane, equalising_table(grey_counts(plane)))


def rising(values: int, seed: int, dtype=np.uint8) -> np.ndarray:
    """A table that keeps the order of so many grey values, and 0."""
    top = np.iinfo(dtype).max
    chosen = np.sort(np.random.default_rng(seed).choice(np.arange(1, top + 1), values, replace=False))
    return np.concatenate([[0], chosen]).astype(dtype)


@given(plane=planes)
def test_counts_are_counts(plane):
    assert (grey_counts(plane) == np.bincount(plane.ravel(), minlength=256)).all()
    assert grey_counts(plane.astype(np.uint16) * 257).sum() == plane.size


@given(plane=arrays(np.uint8, (13, 17), elements=st.integers(0, 60)), seed=st.integers(0, 999))
@settings(max_examples=60)
def test_what_keeps_the_order_of_grey_values_changes_nothing(plane, seed):
    bent = rising(60, seed)[plane]
    assert (equalised(bent) == equalised(plane)).all()
    reference = grey_counts(np.arange(1, 200, dtype=np.uint8))
    one, other = (apply_table(p, matching_table(grey_counts(p), reference)) for p in (plane, bent))
    assert (one == other).all()
    wide = rising(60, seed, np.uint16)[plane]
    assert (equalised(wide) == equalised(plane.astype(np.uint16))).all()


@given(plane=planes, rows=st.integers(1, 9))
def test_padding_never_counts_and_stays(plane, rows):
    padded = np.zeros((13 + rows, 17), np.uint8)
    padded[rows:] = plane
    assert (equalised(padded)[rows:] == equalised(plane)).all()
    assert not equalised(padded)[:rows].any()
    assert ((equalised(plane) == 0) == (plane == 0)).all()
    for tiles in (Tiles(8), Tiles(64)):
        assert ((clahe(plane, tiles) == 0) == (plane == 0)).all()


@given(plane=planes)
def test_order_is_kept(plane):
    for table in (equalising_table(grey_counts(plane)), matching_table(grey_counts(plane), grey_counts(plane[:5]))):
        assert (np.diff(table[1:].astype(int)) >= 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values_become_equally_common(dtype):
    top = np.iinfo(dtype).max
    grey = np.clip(np.random.default_rng(0).normal(0.3, 0.08, (400, 400)) * top, 1, top).astype(dtype)
    new = equalised(grey)
    assert new.dtype == dtype
    shares = np.histogram(new, 10, (1, top + 1))[0] / new.size
    assert np.abs(shares - 0.1).max() < 0.02


def test_a_slice_of_one_grey_value_becomes_the_middle_one():
    assert set(np.unique(equalised(np.full((4, 4), 9, np.uint8)))) == {128}
    assert set(np.unique(clahe(np.full((40, 40), 9, np.uint8)))) == {128}
    assert not equalised(np.zeros((4, 4), np.uint8)).any()
    assert not clahe(np.zeros((4, 4), np.uint16)).any()


@given(plane=planes)
def test_matching_a_slice_to_itself_changes_nothing(plane):
    counts = grey_counts(plane)
    assert (apply_table(plane, matching_table(counts, counts)) == plane).all()


def test_a_matched_slice_has_the_distribution_of_its_reference():
    rng = np.random.default_rng(0)
    dark = np.clip(rng.normal(70, 12, (300, 300)), 1, 255).astype(np.uint8)
    bright = np.clip(rng.gamma(9, 16, (300, 300)), 1, 255).astype(np.uint8)
    new = apply_table(dark, matching_table(grey_counts(dark), grey_counts(bright)))
    quantiles = np.linspace(0.02, 0.98, 25)
    assert np.abs(np.quantile(new, quantiles) - np.quantile(bright, quantiles)).max() <= 4
    nothing = np.zeros(256, np.int64)
    assert (matching_table(grey_counts(dark), nothing) == np.arange(256)).all()
    with pytest.raises(ValueError, match="one type"):
        matching_table(grey_counts(dark), np.zeros(65536, np.int64))


def test_without_limit_and_with_one_tile_clahe_is_equalisation():
    grey = np.clip(np.random.default_rng(0).normal(90, 20, (200, 220)), 1, 255).astype(np.uint8)
    new = clahe(grey, Tiles(side=1000, limit=1e9))
    assert np.abs(new.astype(int) - equalised(grey)).max() <= 1


def test_clahe_does_what_opencv_does():
    y, x = np.mgrid[:512, :512]
    grey = 90 + 40 * np.sin(y / 60) + 0.08 * x + np.random.default_rng(0).normal(0, 10, (512, 512))
    plane = np.clip(grey, 1, 255).astype(np.uint8)
    # OpenCV's limit is relative to 256 grey values, whether they occur or not.
    limit = 3 * (int(plane.max()) - int(plane.min()) + 1) / 256
    ours = clahe(plane, Tiles(side=128, limit=limit)).astype(float)
    theirs = cv2.createCLAHE(clipLimit=3, tileGridSize=(4, 4)).apply(plane).astype(float)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.995
    assert np.abs(ours - theirs).mean() < 6
    wide = clahe((np.clip(grey, 1, 255) * 200).astype(np.uint16), Tiles(side=128, limit=limit)).astype(float) / 257
    assert np.corrcoef(ours.ravel(), wide.ravel())[0, 1] > 0.98


def test_tiles_of_padding_alone_do_not_dim_their_neighbours():
    grey = np.clip(np.random.default_rng(0).normal(90, 20, (256, 512)), 1, 255).astype(np.uint8)
    alone = clahe(grey[:, :256], Tiles(64))
    grey[:, 256:] = 0
    beside = clahe(grey, Tiles(64))
    assert (beside[:, :256] == alone).all()


@pytest.mark.parametrize(("side", "limit"), [(7, 3), (256, 0.5)])
def test_bad_tiles_and_types_are_refused(side, limit):
    with pytest.raises(ValueError, match="8 px"):
        Tiles(side, limit)
    with pytest.raises(ValueError, match="uint8 or uint16"):
        grey_counts(np.zeros(3))
