import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.separation.cheapest import FAR, cheapest_paths


def _random(seed: int, shape: tuple[int, int, int] = (4, 9, 11)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    seeds = np.where(rng.random(shape) < 0.03, rng.integers(1, 6, shape), 0).astype(np.int32)
    return seeds, rng.integers(0, 256, shape).astype(np.uint8)


def _bellman_ford(
    seeds: np.ndarray, boundary: np.ndarray, barrier: float, steps: tuple[float, float, float]
) -> np.ndarray:
    """Cost of the cheapest path, by relaxing until nothing changes."""
    cost = np.where(seeds > 0, 0, np.inf)
    into = [np.maximum(1, np.rint(8 * s * (1 + barrier * (boundary / 255.0) ** 1.5))) for s in steps]
    while True:
        before = cost.copy()
        for axis in range(3):
            for side in (1, -1):
                moved = np.roll(cost, side, axis)
                edge = [slice(None)] * 3
                edge[axis] = slice(0, 1) if side == 1 else slice(-1, None)
                moved[tuple(edge)] = np.inf
                cost = np.where(seeds > 0, 0, np.minimum(cost, moved + into[axis]))
        if (cost == before).all():
            return cost


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(1.0, 1.0, 1.0), (9.0, 1.0, 1.0), (1.0, 2.0, 3.5)]))
def test_cost_is_that_of_the_cheapest_path(seed: int, steps: tuple[float, float, float]) -> None:
    seeds, boundary = _random(seed)
    _, cost = cheapest_paths(seeds, boundary, barrier=7.0, steps=steps)
    expected = _bellman_ford(seeds, boundary, 7.0, steps)
    reached = np.isfinite(expected)
    np.testing.assert_array_equal(cost[reached], expected[reached])
    assert (cost[~reached] == FAR).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_every_label_has_a_path_to_its_own_seed(seed: int) -> None:
    seeds, boundary = _random(seed)
    labels, _ = cheapest_paths(seeds, boundary, barrier=20.0)
    assert (labels[seeds > 0] == seeds[seeds > 0]).all()
    for one in np.unique(labels[labels > 0]):
        alone = np.where(seeds == one, one, 0).astype(np.int32)
        inside, _ = cheapest_paths(alone, boundary, barrier=20.0, allowed=labels == one)
        assert (inside[labels == one] == one).all()


def test_a_wall_stops_the_flood_and_a_detour_is_cheaper_than_a_boundary() -> None:
    boundary = np.zeros((1, 7, 9), np.uint8)
    boundary[0, :6, 4] = 255  # a membrane with a gap at the bottom
    seeds = np.zeros(boundary.shape, np.int32)
    seeds[0, 0, 0], seeds[0, 3, 8] = 1, 2
    labels, _ = cheapest_paths(seeds, boundary, barrier=50.0)
    assert (labels[0, :6, :4] == 1).all() and (labels[0, :6, 5:] == 2).all()


def test_nothing_enters_what_is_not_allowed() -> None:
    seeds, boundary = _random(1)
    allowed = np.random.default_rng(2).random(seeds.shape) < 0.5
    labels, cost = cheapest_paths(seeds, boundary, barrier=5.0, allowed=allowed)
    assert not labels[~allowed].any()
    assert (cost[~allowed] == FAR).all()


def test_half_way_between_two_seeds_without_a_membrane() -> None:
    seeds = np.zeros((21, 3, 3), np.int32)
    seeds[0], seeds[-1] = 1, 2
    labels, _ = cheapest_paths(seeds, np.zeros(seeds.shape, np.uint8), barrier=10.0)
    assert (labels[:10] == 1).all() and (labels[11:] == 2).all()


def test_without_seeds_nothing_is_reached_and_shapes_must_agree() -> None:
    labels, cost = cheapest_paths(np.zeros((2, 3, 4), np.int32), np.zeros((2, 3, 4), np.uint8), barrier=1.0)
    assert not labels.any() and (cost == FAR).all()
    with pytest.raises(ValueError, match="one shape"):
        cheapest_paths(np.zeros((2, 3, 4), np.int32), np.zeros((2, 3, 5), np.uint8), barrier=1.0)
