"""Faults that are put in change the slice they are put in, and no other."""

from __future__ import annotations

import numpy as np
import pytest

from cristae.phantom.faults import FAULTS, moved, swapped


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - {"gap", "drift", "shuffled"}))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fault_changes_its_slice_only(kind, dtype) -> None:
    image = np.random.default_rng(0).integers(60, 190, (6, 48, 64)).astype(dtype)
    before = image.copy()
    found = FAULTS[kind](image, 3, 1.0, np.random.default_rng(0))
    assert np.array_equal(image, before) and found.dtype == dtype and found.shape == image.shape
    assert {z for z in range(6) if not np.array_equal(found[z], image[z])} == {3}


def test_slices_are_swapped_lost_and_moved() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 20, 30)).astype(np.uint8)
    assert np.array_equal(swapped(swapped(image, 1, 5), 1, 5), image)
    assert len(FAULTS["gap"](image, 3, 1.0, np.random.default_rng(0))) == 6
    assert np.array_equal(moved(image[0], 2, -3)[2:, :-3], image[0][:-2, 3:])
    drifted = FAULTS["drift"](image, 0, 1.0, np.random.default_rng(0))
    assert np.array_equal(drifted[0], image[0]) and np.array_equal(drifted[3][:, 6:], image[3][:, :-6])
