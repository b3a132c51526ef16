"""The path of a whole stack, from how its slices lie on one another: all pairs at once, and robustly.

::

    pairs measured      z → z-1 and z → z-2, over lost slices to the next ones that are there
    unknown             G_z: pixels of the aligned stack → pixels of slice z
    wanted              G_j = M_ij G_i for every pair,  least squares, weights that fall for pairs that disagree

With each slice held by at least four others (two on either side), one bad pair is outvoted, and errors pile up by less
than they do along a chain. Turns and stretches are pulled to none, weakly: they are seen less well than shifts, and a
chain of small errors would slowly turn or shrink the specimen.

Papers: S. Saalfeld, R. Fetter, A. Cardona and P. Tomancak (2012), Nat. Methods 9, 717 (least squares over pairs of
neighbours); P. J. Huber and E. M. Ronchetti (2009), Robust Statistics, §7.8 (reweighting).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from cristae.preprocess.align import Model

Matrices = NDArray[np.float64]

_ROUNDS = 12
"""Times that the weights are taken anew."""
_LEAST = 0.05
"""Disagreement (px) that is always within reason."""
_LOOSE = 1e-6
"""Weight by which neighbours that no pair joins are held together, as they were recorded."""


@dataclass(frozen=True)
class Pairs:
    """What was measured between slices.

    Parameters
    ----------
    moving, fixed
        int64 ``(m,)``: slices of each pair.
    matrices
        float64 ``(m, 2, 3)``: pixels of the moving slice → of the fixed one, counted from the centre.
    sigma
        float64 ``(m,)``: standard error of the shift in pixels; infinite where nothing was matched.
    """

    moving: NDArray[np.int64]
    fixed: NDArray[np.int64]
    matrices: Matrices
    sigma: NDArray[np.float64]


@dataclass(frozen=True)
class Path:
    """Where the slices are.

    Parameters
    ----------
    matrices
        float64 ``(n, 2, 3)``: pixels of the aligned stack → pixels of each slice, counted from the centre.
    residual
        float64 ``(m,)``: by how many pixels each pair disagrees with the path; NaN where nothing was matched.
    weight
        float64 ``(m,)``: 0–1, what each pair had to say in the end.
    parts
        int64 ``(n,)``: part of the stack that each slice belongs to, see `parts_of`; those in none (-1) lie between
        their neighbours.
    """

    matrices: Matrices
    residual: NDArray[np.float64]
    weight: NDArray[np.float64]
    parts: NDArray[np.int64]


def solve_path(n: int, pairs: Pairs, model: Model, radius: float, pull: float = 1e-3) -> Path:
    """Find the path that agrees best with all pairs.

    Parameters
    ----------
    n
        Slices of the stack.
    pairs
        What was measured.
    model
        What a slice may do; see `cristae.preprocess.align.register`.
    radius
        Half the diagonal of a slice in pixels: a turn by so many radians moves its corners by that.
    pull
        Weight of no turn and no stretch against that of one pair.

    Returns
    -------
    Path
        The first slice that is held by any pair lies where it was; among them turns and stretches are none on average.
        Parts that no pair joins (`parts_of`) lie on one another as they were recorded, where one ends and the next
        begins.
    """
    usable = np.isfinite(pairs.sigma)
    moving, fixed, measured = pairs.moving[usable], pairs.fixed[usable], pairs.matrices[usable]
    parts = parts_of(n, pairs)
    held = np.flatnonzero(parts >= 0)
    residual, weight = np.full(len(usable), np.nan), np.zeros(len(usable))
    if not len(held):
        return Path(np.tile(np.eye(2, 3), (n, 1, 1)), residual, weight, parts)
    number = np.full(n, -1)
    number[held] = np.arange(len(held))
    links = number[moving], number[fixed]
    # A fit's own error is too small where tissue changes, so no pair counts for more than twice a common one.
    prior = np.clip((np.median(pairs.sigma[usable]) / np.maximum(pairs.sigma[usable], 1e-9)) ** 2, 0.05, 2.0)
    robust = np.ones(len(measured))
    shapes, shifts, apart = _none(len(held)), np.zeros((len(held), 2)), np.zeros(len(measured))
    for step in range(_ROUNDS + 1):
        both, last = prior * robust, step == _ROUNDS
        if model != "translation":
            # Whom to believe is decided without the pull: it would make true turns look like disagreement.
            shapes = _solve_shapes(links, measured, both, model, pull if last else 0.0)
        shifts = _solve_shifts(links, measured, both, len(held))
        apart = _disagreement(links, measured, shapes, shifts, radius)
        if last:
            break
        scale = max(1.4826 * float(np.median(apart)), _LEAST)
        power = 1 if step < _ROUNDS // 2 else 2  # Cauchy first, which has one minimum, then Geman-McClure
        robust = 1 / (1 + (apart / (2.5 * scale)) ** 2) ** power
    residual[usable], weight[usable] = apart, robust
    found = np.concatenate([shapes, (shifts - shifts[0])[:, :, None]], axis=2)
    return Path(_between(held, found, n), residual, weight, parts)


def parts_of(n: int, pairs: Pairs) -> NDArray[np.int64]:
    """Return the part of the stack that each slice belongs to: what pairs join, directly or by others, is one.

    Returns
    -------
    array
        int64 ``(n,)``: parts are counted from 0 in the order of their first slices; -1 for a slice that no pair holds.
    """
    usable = np.isfinite(pairs.sigma)
    links = pairs.moving[usable], pairs.fixed[usable]
    graph = sparse.coo_matrix((np.ones(len(links[0])), links), shape=(n, n))
    _, found = connected_components(graph, directed=False)
    held = np.zeros(n, np.bool_)
    held[links[0]], held[links[1]] = True, True
    parts = np.full(n, -1, np.int64)
    _, first, number = np.unique(found[held], return_index=True, return_inverse=True)
    parts[held] = np.argsort(np.argsort(first))[number]
    return parts


def without_drift(matrices: Matrices, width: float) -> Matrices:
    """Take movement that is slower than `width` slices out of a path, so that it stays in the stack as recorded.

    A Gaussian of that standard deviation is what slow means. Both ends go on as they came, turned about the last
    slice, so that an even lean is slow throughout.

    Parameters
    ----------
    matrices
        float64 ``(n, 2, 3)`` of a `Path`.
    width
        Slices.
    """
    n, reach = len(matrices), int(np.ceil(4 * width)) + 1
    if n < 2:
        return matrices.copy()
    none = np.eye(2, 3)
    moved = matrices - none
    padded = np.pad(moved, ((reach, reach), (0, 0), (0, 0)), mode="reflect", reflect_type="odd")
    slow = gaussian_filter1d(padded, width, axis=0, truncate=4.0, mode="nearest")[reach : reach + n]
    return none + moved - slow


def _none(n: int) -> Matrices:
    return np.tile(np.eye(2), (n, 1, 1))


def _solve_shapes(
    links: tuple[NDArray[np.int64], NDArray[np.int64]],
    measured: Matrices,
    weight: NDArray[np.float64],
    model: Model,
    pull: float,
) -> Matrices:
    """Return turn and stretch of each slice: A_j = A_ij A_i, and A_i ≈ 1."""
    n = int(max(links[0].max(), links[1].max())) + 1
    if model == "rigid":
        angles = np.arctan2(measured[:, 1, 0], measured[:, 0, 0])
        turn = _least_squares(links, angles[:, None], weight, n, pull)[:, 0]
        cosine, sine = np.cos(turn), np.sin(turn)
        return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    # To first order A_j - 1 = (A_ij - 1) + (A_i - 1), and both are small; the second round adds what that leaves out.
    shapes, parts = _none(n), (measured[:, :, :2] - np.eye(2)).reshape(-1, 4)
    for _ in range(2):
        cross = (measured[:, :, :2] - np.eye(2)) @ (shapes[links[0]] - np.eye(2))
        shapes = _least_squares(links, parts + cross.reshape(-1, 4), weight, n, pull).reshape(n, 2, 2) + np.eye(2)
    return shapes


def _solve_shifts(
    links: tuple[NDArray[np.int64], NDArray[np.int64]], measured: Matrices, weight: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Return the shift of each slice: t_j = A_ij t_i + t_ij."""
    shifts = np.zeros((n, 2))
    for _ in range(2):
        turned = ((measured[:, :, :2] - np.eye(2)) @ shifts[links[0]][:, :, None])[:, :, 0]
        shifts = _least_squares(links, measured[:, :, 2] + turned, weight, n, 0.0)
        if not turned.any() and np.array_equal(measured[:, :, :2], _none(len(measured))):
            break
    return shifts


def _least_squares(
    links: tuple[NDArray[np.int64], NDArray[np.int64]],
    steps: NDArray[np.float64],
    weight: NDArray[np.float64],
    n: int,
    pull: float,
) -> NDArray[np.float64]:
    """Return values ``(n, k)`` whose differences from first to second of each link come nearest to `steps`."""
    first, second = links
    neighbours = np.arange(n - 1)
    rows = np.concatenate([first, second, neighbours, neighbours + 1])
    columns = np.concatenate([second, first, neighbours + 1, neighbours])
    values = np.concatenate([-weight, -weight, np.full(2 * (n - 1), -_LOOSE)])
    laplacian = sparse.coo_matrix((values, (rows, columns)), shape=(n, n)).tocsr()
    degree = -np.asarray(laplacian.sum(axis=1)).ravel()
    anchor = np.full(n, pull)
    anchor[0] += _LOOSE  # one value is free without a pull
    system = (laplacian + sparse.diags(degree + anchor)).tocsc()
    right = np.zeros((n, steps.shape[1]))
    np.add.at(right, second, weight[:, None] * steps)
    np.add.at(right, first, -weight[:, None] * steps)
    return np.asarray(spsolve(system, right)).reshape(n, steps.shape[1])


def _disagreement(
    links: tuple[NDArray[np.int64], NDArray[np.int64]],
    measured: Matrices,
    shapes: Matrices,
    shifts: NDArray[np.float64],
    radius: float,
) -> NDArray[np.float64]:
    """Return by how far (px) each pair is from what the path says, at the centre and at the corners."""
    first, second = links
    turned = measured[:, :, :2] @ shapes[first] - shapes[second]
    moved = (measured[:, :, :2] @ shifts[first][:, :, None])[:, :, 0] + measured[:, :, 2] - shifts[second]
    return np.sqrt((moved**2).sum(1) + 0.5 * radius**2 * (turned**2).sum((1, 2)))


def _between(held: Sequence[int] | NDArray[np.int64], found: Matrices, n: int) -> Matrices:
    """Return a matrix for every slice: on straight lines between those found, the nearest beyond them."""
    at = np.arange(n, dtype=np.float64)
    flat = found.reshape(len(found), 6)
    return np.stack([np.interp(at, held, flat[:, i]) for i in range(6)], axis=1).reshape(n, 2, 3)
