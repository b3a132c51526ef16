"""Holes through an object are found however it lies; dents are none."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cristae.features.fenestrations import NORMALS, find_fenestrations
from cristae.features.holes import filled

SIDE, RADIUS, THICK = 35, 10.0, 5.0


def places() -> np.ndarray:
    return np.indices((SIDE,) * 3).reshape(3, -1).T - (SIDE - 1) / 2


def torus(normal) -> tuple[np.ndarray, np.ndarray]:
    """Return a torus across `normal`, and the disc in the middle plane that closes it."""
    axis = np.array(normal, float) / np.linalg.norm(normal)
    along = places() @ axis
    away = np.linalg.norm(places() - along[:, None] * axis, axis=1)
    ring = (np.hypot(away - RADIUS, along) <= THICK).reshape((SIDE,) * 3)
    plug = ((np.abs(along) < 0.87) & (away < RADIUS)).reshape((SIDE,) * 3) & ~ring
    return ring, plug


TILTED = [tuple(row) for row in np.random.default_rng(3).normal(size=(4, 3)).tolist()]


@pytest.mark.parametrize("normal", [(1, 0, 0), (0, 1, 0), (0, 1, 1), (1, 1, -1), *TILTED])
def test_the_hole_of_a_torus_is_filled_however_it_lies(normal) -> None:
    ring, plug = torus(normal)
    found = find_fenestrations(ring)
    assert not (found & ring).any()
    assert (found & plug).sum() > (0.7 if normal in TILTED else 0.95) * plug.sum()
    assert ndimage.label(found)[1] == 1
    inside = np.pi * (RADIUS - THICK) ** 2 * 2 * THICK  # of the cylinder within it
    assert 0.3 * inside < found.sum() < 2.5 * inside


def test_dents_and_solid_things_have_none() -> None:
    far = np.linalg.norm(places(), axis=1).reshape((SIDE,) * 3)
    ball = far < 13
    assert not find_fenestrations(ball).any()
    bowl = np.linalg.norm(places() - (12, 0, 0), axis=1).reshape((SIDE,) * 3) < 9
    cup = ball & ~bowl
    assert (filled(cup) == cup).all()
    assert not find_fenestrations(cup).any()


def test_a_pore_with_one_narrow_mouth_is_found() -> None:
    far = np.linalg.norm(places(), axis=1).reshape((SIDE,) * 3)
    mouth = (np.hypot(*np.indices((SIDE, SIDE)) - 17)[None] < 2) & (np.arange(SIDE) > 17)[:, None, None]
    flask = (far < 13) & (far > 7) & ~mouth
    found = find_fenestrations(flask)
    assert found[far <= 7].all()
    assert not found[far > 14].any()


def test_a_tunnel_through_the_cup_is_found() -> None:
    far = np.linalg.norm(places(), axis=1).reshape((SIDE,) * 3)
    tunnel = np.broadcast_to(np.hypot(*np.indices((SIDE, SIDE)) - 17)[None] < 3, far.shape)
    ball = (far < 13) & ~tunnel
    found = find_fenestrations(ball)
    assert found.sum() > 0.9 * (tunnel & (far < 12)).sum()
    assert not found[~tunnel].any()


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.95))
def test_what_is_enclosed_is_always_found(seed, density) -> None:
    mask = np.random.default_rng(seed).random((5, 6, 7)) < density
    found = find_fenestrations(mask)
    assert not (found & mask).any()
    assert found[filled(mask) & ~mask].all()
    for order in permutations(range(3)):
        np.testing.assert_array_equal(find_fenestrations(mask.transpose(order)), found.transpose(order))
    np.testing.assert_array_equal(find_fenestrations(mask[::-1, :, ::-1]), found[::-1, :, ::-1])


def test_the_border_of_the_array_changes_nothing() -> None:
    ring, _ = torus((0, 0, 1))
    (box,) = ndimage.find_objects(ring.astype(int))
    np.testing.assert_array_equal(find_fenestrations(ring[box]), find_fenestrations(ring)[box])
    assert not find_fenestrations(np.ones((1, 1, 1), bool)).any()
    assert find_fenestrations(np.zeros((0, 3, 3), bool)).shape == (0, 3, 3)
    assert len(NORMALS) == 13
