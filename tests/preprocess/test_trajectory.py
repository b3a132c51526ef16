from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.preprocess.trajectory import Pairs, parts_of, solve_path, without_drift

RADIUS = 300.0


def full(matrix: np.ndarray) -> np.ndarray:
    return np.concatenate([matrix, np.broadcast_to([[[0, 0, 1.0]]], (len(matrix), 1, 3))], axis=1)


def pairs_of(path: np.ndarray, steps=(1, 2), noise=0.0, seed=0, lost=()) -> Pairs:
    """What would be measured on a stack whose slices lie at `path` (n, 2, 3): M_ij = G_j G_i⁻¹."""
    rng, n = np.random.default_rng(seed), len(path)
    good = [z for z in range(n) if z not in lost]
    links = [(good[i], good[i - k]) for i in range(len(good)) for k in steps if i >= k]
    moving, fixed = (np.array(side) for side in zip(*links, strict=True))
    matrices = (full(path[fixed]) @ np.linalg.inv(full(path[moving])))[:, :2].copy()
    matrices[:, :, 2] += rng.normal(0, noise, (len(links), 2))
    return Pairs(moving, fixed, matrices, np.full(len(links), 0.01))


def walk(n: int, seed: int = 0) -> np.ndarray:
    path = np.tile(np.eye(2, 3), (n, 1, 1))
    path[1:, :, 2] = np.cumsum(np.random.default_rng(seed).normal(0, 2, (n - 1, 2)), axis=0)
    return path


@given(n=st.integers(2, 60), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_exact_pairs_give_the_path_back(n, seed):
    path = walk(n, seed)
    found = solve_path(n, pairs_of(path), "translation", RADIUS)
    assert np.abs(found.matrices - path).max() < 1e-3
    assert np.nanmax(found.residual) < 1e-3 and (found.parts == 0).all()


def test_errors_of_pairs_pile_up_less_than_along_a_chain():
    path = walk(200)
    errors = {}
    for steps in ((1,), (1, 2)):
        ends = []
        for seed in range(20):
            found = solve_path(200, pairs_of(path, steps, noise=0.1, seed=seed), "translation", RADIUS)
            ends.append(np.abs(found.matrices - path)[:, :, 2].max())
        errors[steps] = np.mean(ends)
    assert errors[1, 2] < 0.75 * errors[(1,)]


def test_a_pair_gone_wrong_is_outvoted():
    path, n = walk(40), 40
    pairs = pairs_of(path, noise=0.02)
    wrong = np.flatnonzero((pairs.moving == 20) & (pairs.fixed == 19))[0]
    pairs.matrices[wrong, :, 2] += (40, -25)
    found = solve_path(n, pairs, "translation", RADIUS)
    assert np.abs(found.matrices - path)[:, :, 2].max() < 0.4
    assert found.weight[wrong] < 0.01 < 0.5 < np.median(found.weight)
    assert found.residual[wrong] == pytest.approx(np.hypot(40, 25), abs=0.5)


def test_lost_slices_lie_between_those_around_them():
    path = walk(12)
    found = solve_path(12, pairs_of(path, lost=(0, 5, 6)), "translation", RADIUS)
    assert found.parts.tolist() == [-1 if z in (0, 5, 6) else 0 for z in range(12)]
    moved = found.matrices[:, :, 2]
    assert np.allclose(moved[5], moved[4] + (moved[7] - moved[4]) / 3)
    assert (moved[0] == moved[1]).all()
    assert np.abs((moved[7] - moved[4]) - (path[7] - path[4])[:, 2]).max() < 1e-3


def test_a_stack_in_two_parts_holds_together_where_nothing_was_matched():
    path = walk(10)
    pairs = pairs_of(path)
    across = (pairs.moving >= 5) & (pairs.fixed < 5)
    sigma = np.where(across, np.inf, pairs.sigma)
    found = solve_path(10, Pairs(pairs.moving, pairs.fixed, pairs.matrices, sigma), "translation", RADIUS)
    assert np.abs(np.diff(found.matrices[:, :, 2], axis=0)[4]).max() < 1e-2
    assert np.isnan(found.residual[across]).all() and (found.weight[across] == 0).all()


def test_parts_are_what_pairs_join():
    moving, fixed = np.array([9, 1, 2, 5, 6, 7, 8]), np.array([7, 0, 0, 4, 4, 5, 7])
    sigma = np.array([0.1, 0.1, 0.1, 0.1, np.inf, 0.1, 0.1])
    pairs = Pairs(moving, fixed, np.tile(np.eye(2, 3), (7, 1, 1)), sigma)
    assert parts_of(11, pairs).tolist() == [0, 0, 0, -1, 1, 1, -1, 1, 1, 1, -1]
    none = Pairs(moving[:0], fixed[:0], pairs.matrices[:0], sigma[:0])
    assert parts_of(3, none).tolist() == [-1, -1, -1]


def test_without_any_pair_nothing_moves():
    none = Pairs(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2, 3)), np.zeros(0))
    found = solve_path(3, none, "affine", RADIUS)
    assert (found.matrices == np.eye(2, 3)).all() and (found.parts == -1).all()


@pytest.mark.parametrize("model", ["rigid", "affine"])
def test_turns_are_found_and_hang_together(model):
    rng, n = np.random.default_rng(3), 30
    path = walk(n)
    angle = np.cumsum(rng.normal(0, 0.004, n))
    path[:, 0, 0] = path[:, 1, 1] = np.cos(angle)
    path[:, 1, 0], path[:, 0, 1] = np.sin(angle), -np.sin(angle)
    found = solve_path(n, pairs_of(path), model, RADIUS, pull=1e-7)
    # The path is known up to one common motion of all slices.
    common = np.linalg.inv(full(found.matrices)[0]) @ full(path)[0]
    again = (full(found.matrices) @ common)[:, :2]
    assert np.abs(again - path)[:, :, 2].max() < 0.05
    assert np.abs(again - path)[:, :, :2].max() * RADIUS < 0.05


def test_the_pull_keeps_small_errors_from_turning_a_long_stack():
    n, rng = 300, np.random.default_rng(0)
    path = np.tile(np.eye(2, 3), (n, 1, 1))
    pairs = pairs_of(path)
    angles = rng.normal(2e-4, 3e-4, len(pairs.moving))  # a small error that is always the same way
    pairs.matrices[:, 0, 1], pairs.matrices[:, 1, 0] = -angles, angles
    turned = {
        pull: np.abs(solve_path(n, pairs, "rigid", RADIUS, pull).matrices[:, 1, 0]).max() for pull in (1e-7, 0.02)
    }
    assert turned[0.02] < 0.25 * turned[1e-7]


@given(slope=st.floats(-1, 1), width=st.floats(2, 30))
@settings(max_examples=15)
def test_an_even_lean_is_slow_and_stays_when_drift_is_taken_out(slope, width):
    path = np.tile(np.eye(2, 3), (80, 1, 1))
    path[:, 0, 2] = slope * np.arange(80)
    assert np.abs(without_drift(path, width) - np.eye(2, 3)).max() < 1e-9


def test_jitter_is_corrected_all_the_same():
    path = np.tile(np.eye(2, 3), (200, 1, 1))
    jitter = np.random.default_rng(0).normal(0, 1, 200)
    path[:, 1, 2] = 0.2 * np.arange(200) + jitter
    kept = without_drift(path, 20)[:, 1, 2]
    assert np.abs(kept - (jitter - jitter.mean())).max() < 0.7
    assert np.corrcoef(kept, jitter)[0, 1] > 0.97
    assert without_drift(path[:1], 20).shape == (1, 2, 3)
