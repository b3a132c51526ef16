"""Grey level co-occurrence: which levels lie next to each other inside an object.

A pair is two voxels of one object, a step of one of 13 directions apart; counted from both its ends, the 13 are the 26
offsets to the neighbours of a voxel. Along x alone::

    levels of an object     1 1 4 4 1          level   1  4
    pairs                   11 14 44 41            1   2  2       the matrix, symmetric: each pair from both ends
                                                   4   2  2

Steps are counted in voxels. Where voxels are not cubes, a step along z is another length than one along x;
`step_lengths_nm` gives the lengths to record beside the values. Nothing is resampled.

Counts are whole numbers and add up over blocks: a pair is counted by the block that is responsible for its first
voxel, so a block is read with a halo of the largest distance (`halo`). All objects are counted in one pass.

Papers: R. M. Haralick et al. (1973), IEEE Trans. Syst. Man Cybern. 3, 610; Machireddy et al. (2023), "Texture",
eqs. 10–13; A. Zwanenburg et al. (2020), Radiology 295, 328 (IBSI), "Grey level co-occurrence based features".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numba import njit

from cristae.features.definitions import Definition

Aggregation = Literal["counts", "probabilities", "features"]

# Of every pair of opposite directions the one that points to the next slice, row or voxel, (dz, dy, dx), in the order
# in which `_count` takes them.
DIRECTIONS = np.array(
    [(dz, dy, dx) for dz in (0, 1) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dz, dy, dx) > (0, 0, 0)], np.int64
)

# Slices whose keys are made at a time: few enough to stay in the cache.
SLAB = 8

HARALICK = "Haralick et al. (1973)"
MACHIREDDY = "Machireddy et al. (2023), eq. {}; IBSI"

_MATRIX = "p(i, j): the part of the pairs that have levels i and j; μ = Σ i p; σ² = Σ (i − μ)² p. "
_NAMES = ("homogeneity", "correlation", "variance", "contrast", "energy", "entropy", "dissimilarity", "average")

DEFINITIONS: Mapping[str, Definition] = {
    "glcm_homogeneity": Definition(
        "",
        "How equal neighbouring levels are: 1 if all pairs are equal (inverse difference moment).",
        "Σ p(i, j) / (1 + (i − j)²)",
        MACHIREDDY.format(10),
    ),
    "glcm_correlation": Definition(
        "",
        "Linear dependence of the levels of neighbours, −1 to 1; 1 where all levels are equal.",
        "Σ (i − μ)(j − μ) p(i, j) / σ²",
        MACHIREDDY.format(11),
    ),
    "glcm_variance": Definition(
        "levels²",
        "Spread of the levels in pairs (sum of squares, joint variance).",
        "Σ (i − μ)² p(i, j)",
        "Haralick et al. (1973), f4; IBSI. Machireddy et al. (2023), eq. 12, prints the formula of contrast instead",
    ),
    "glcm_variance_eq12": Definition(
        "levels²",
        "Machireddy's eq. 12 to the letter, which is the contrast.",
        "Σ (i − j)² p(i, j)",
        "Machireddy et al. (2023), eq. 12",
    ),
    "glcm_contrast": Definition(
        "levels²", "Mean squared difference of neighbouring levels.", "Σ (i − j)² p(i, j)", MACHIREDDY.format(13)
    ),
    "glcm_energy": Definition(
        "",
        "1 if all pairs are the same, small if there are many kinds (angular second moment).",
        "Σ p(i, j)²",
        f"{HARALICK}, f1; IBSI",
    ),
    "glcm_entropy": Definition(
        "bit", "How many kinds of pairs there are (joint entropy).", "−Σ p(i, j) log₂ p(i, j)", f"{HARALICK}, f9; IBSI"
    ),
    "glcm_dissimilarity": Definition("levels", "Mean difference of neighbouring levels.", "Σ |i − j| p(i, j)", "IBSI"),
    "glcm_average": Definition("levels", "Mean level in pairs (joint average).", "Σ i p(i, j)", "IBSI"),
}


@dataclass(frozen=True)
class Pairing:
    """What to count.

    Parameters
    ----------
    n_levels
        Size of the matrices, from `cristae.features.quantise.highest_level`.
    distances
        Steps along each axis of a direction, in voxels (Chebyshev distance), each at least 1 and none twice.
    per_direction
        Whether to keep the 13 directions apart, which takes 13 times the memory: 8 bytes × 13 × n_levels² for each
        object and distance. `cooccurrence_table` needs it for ``"probabilities"`` and ``"features"``.

    Raises
    ------
    ValueError
        If there are no levels or no distances, or a distance is below 1 or given twice.
    """

    n_levels: int
    distances: tuple[int, ...] = (1,)
    per_direction: bool = False

    def __post_init__(self) -> None:
        if self.n_levels < 1:
            raise ValueError(f"expected at least 1 grey level, got {self.n_levels}")
        if not self.distances or min(self.distances) < 1 or len(set(self.distances)) != len(self.distances):
            raise ValueError(f"expected different distances of at least 1 voxel, got {self.distances}")


@dataclass(frozen=True)
class Cooccurrence:
    """Pairs of every object; those of disjoint parts of a volume add up.

    Parameters
    ----------
    pairs
        Whole numbers (n_objects, n_distances, n_directions, n_levels, n_levels), int32 of one block, int64 of several
        added up: pairs of a first voxel of level i + 1 and a second of level j + 1, each pair once, so not symmetric.
        Row i is object i + 1. n_directions is 13, in the order of `DIRECTIONS`, or 1 for all of them together.
    distances
        Steps between the two voxels, in voxels.
    """

    pairs: np.ndarray
    distances: tuple[int, ...]

    def __add__(self, other: Cooccurrence) -> Cooccurrence:
        if self.distances != other.distances or self.pairs.shape != other.pairs.shape:
            raise ValueError(
                "expected pairs of the same objects, levels and distances, got "
                f"{self.pairs.shape} at {self.distances} and {other.pairs.shape} at {other.distances}"
            )
        return Cooccurrence(np.add(self.pairs, other.pairs, dtype=np.int64), self.distances)


def halo(distances: Sequence[int] = (1,)) -> tuple[int, int, int]:
    """Return the voxels to read around a block on each side: the largest distance."""
    return (max(distances),) * 3


def step_lengths_nm(
    voxel_size: tuple[float, float, float], distances: Sequence[int] = (1,)
) -> dict[int, dict[str, float]]:
    """Return how long the step of every distance and direction is: what to record where voxels are not cubes.

    Parameters
    ----------
    voxel_size
        nm (z, y, x).
    distances
        In voxels.

    Returns
    -------
    dict
        Distance, then direction as ``"dz,dy,dx"``, to length in nm.
    """
    lengths = np.linalg.norm(DIRECTIONS * np.asarray(voxel_size), axis=1)
    names = [",".join(str(step) for step in direction) for direction in DIRECTIONS.tolist()]
    return {d: {name: float(d * length) for name, length in zip(names, lengths, strict=True)} for d in distances}


def add_pairs(
    labels: np.ndarray, n_objects: int, inner: tuple[slice, slice, slice], levels: np.ndarray, pairing: Pairing
) -> Cooccurrence:
    """Count the pairs of every object whose first voxel lies in the inner part of a block.

    Parameters
    ----------
    labels
        int32 ``(z, y, x)``: dense ids 0..n_objects, 0 is background. With a halo of the largest distance, as far as
        the volume reaches: beyond the block nothing is counted.
    n_objects
        Rows to return; objects that do not occur have zeros.
    inner
        The part of the block that it is responsible for.
    levels
        uint8 or uint16 ``(z, y, x)``: grey levels 1..n_levels inside objects, from `cristae.features.quantise`.
    pairing
        What to count: the same for all blocks.

    Returns
    -------
    Cooccurrence
        Pairs; add those of all blocks.

    Raises
    ------
    ValueError
        If shapes differ, an id is not between 0 and `n_objects`, or a level inside an object not between 1 and the
        number of levels.
    """
    if labels.shape != levels.shape or labels.ndim != 3:
        raise ValueError(f"expected labels and levels of one shape (z, y, x), got {labels.shape} and {levels.shape}")
    n_levels, distances, per_direction = pairing.n_levels, pairing.distances, pairing.per_direction
    # A pair is counted once in a block. Half the memory: that of many objects takes longer to get than to fill.
    counts = np.int32 if labels.size < 1 << 31 else np.int64
    pairs = np.zeros((len(distances), n_objects, 13 if per_direction else 1, n_levels, n_levels), counts)
    margin, bits = max(distances), max(1, (n_levels - 1).bit_length())
    start, stop = np.array([piece.indices(n)[:2] for piece, n in zip(inner, labels.shape, strict=True)]).T
    keys = np.empty(
        (SLAB + margin, *np.maximum(stop - start, 0)[1:] + 2 * margin),
        np.uint32 if (n_objects + 1) << bits < 1 << 32 else np.uint64,
    )
    for z in range(start[0], stop[0], SLAB):
        part = keys[: min(SLAB, stop[0] - z) + margin]
        part.fill(0)
        if _fill_keys(labels, levels, np.array([z, *start[1:] - margin]), (n_objects, n_levels), bits, part):
            raise ValueError(
                f"expected ids up to {n_objects} and, inside objects, levels from 1 to {n_levels}; "
                "count objects and levels over the whole volume"
            )
        for k, distance in enumerate(distances):
            _count(part, margin, distance, bits, pairs[k])
    return Cooccurrence(pairs.swapaxes(0, 1), distances)


def cooccurrence_table(
    counted: Cooccurrence, aggregation: Aggregation = "counts", literal: bool = False
) -> pd.DataFrame:
    """Return the texture of every object.

    Parameters
    ----------
    counted
        Pairs of the whole volume.
    aggregation
        How the directions become one value. ``counts``: the matrices are added, then divided by the number of pairs
        (mean of raw counts; IBSI "merged"). ``probabilities``: every matrix is divided by its own number of pairs, and
        the mean of these is taken. ``features``: every direction has its own value, and their mean is taken (IBSI
        "averaged"). Directions along which an object has no pair are left out.
    literal
        Whether to add what Machireddy's eq. 12 says to the letter: ``glcm_variance_eq12``.

    Returns
    -------
    pd.DataFrame
        Row i is object i + 1; columns of `DEFINITIONS`, for distances other than 1 with ``_d2`` and so on at the end.
        NaN for objects that have no pair (one voxel).

    Raises
    ------
    ValueError
        If the directions have been counted together, and the aggregation needs them apart.
    """
    if aggregation not in ("counts", "probabilities", "features"):
        raise ValueError(f"expected 'counts', 'probabilities' or 'features', got {aggregation!r}")
    n_objects, _, n_directions, _, _ = counted.pairs.shape
    if aggregation != "counts" and n_directions == 1:
        raise ValueError(f"directions have been counted together; for {aggregation!r} count with per_direction=True")
    columns: dict[str, np.ndarray] = {}
    for k, distance in enumerate(counted.distances):
        values = np.full((n_objects, len(_NAMES)), np.nan)
        for i in range(n_objects):
            values[i] = _values(counted.pairs[i, k], aggregation)
        named = {f"glcm_{name}": values[:, column] for column, name in enumerate(_NAMES)}
        if literal:
            named["glcm_variance_eq12"] = named["glcm_contrast"]
        suffix = "" if distance == 1 else f"_d{distance}"
        columns |= {name + suffix: column for name, column in named.items()}
    return pd.DataFrame(columns, index=pd.RangeIndex(n_objects))


def _values(pairs: np.ndarray, aggregation: str) -> np.ndarray:
    """Return the features of one object from its pairs (n_directions, n_levels, n_levels)."""
    if aggregation == "counts":
        pairs = pairs.sum(axis=0, keepdims=True)
    n_pairs = pairs.sum(axis=(1, 2))
    pairs, n_pairs = pairs[n_pairs > 0], n_pairs[n_pairs > 0]
    if not len(pairs):
        return np.full(len(_NAMES), np.nan)
    if aggregation == "probabilities":
        pairs = (pairs / n_pairs[:, None, None]).mean(axis=0, keepdims=True)
    values = np.empty((len(pairs), len(_NAMES)))
    _features(pairs, values)
    return np.asarray(values.mean(axis=0))


@njit(cache=True, nogil=True)
def _fill_keys(
    labels: np.ndarray,
    levels: np.ndarray,
    start: np.ndarray,
    largest: tuple[int, int],
    bits: int,
    keys: np.ndarray,
) -> int:
    """Write id · 2^bits + level − 1 of the voxels from `start` on that the block has; return how many are wrong.

    One key for id and level: if two keys differ by less than 2^bits from that of the id alone, ids are equal.
    """
    n_objects, n_levels = largest
    first, end = max(0, start[2]), min(labels.shape[2], start[2] + keys.shape[2])
    wrong = 0
    for z in range(max(0, start[0]), min(labels.shape[0], start[0] + keys.shape[0])):
        for y in range(max(0, start[1]), min(labels.shape[1], start[1] + keys.shape[1])):
            row, row_levels = labels[z, y, first:end], levels[z, y, first:end]
            row_keys = keys[z - start[0], y - start[1], first - start[2] :]
            for x in range(len(row)):
                i, level = np.int64(row[x]), np.int64(row_levels[x])
                row_keys[x] = (i << bits) + level - 1 if i != 0 else 0
                wrong += (i != 0) & ((i < 0) | (i > n_objects) | (level < 1) | (level > n_levels))
    return wrong


@njit(cache=True, nogil=True)
def _count(keys: np.ndarray, margin: int, distance: int, bits: int, pairs: np.ndarray) -> None:
    """Add the pairs at one distance to ``pairs[object, direction]``; first voxels lie inside the margin.

    No direction goes up, so there is no margin above the first slice. All 13 of a voxel are counted one after the
    other, for whole rows in one direction, then in the next, take four times longer. Unsigned places save the test for
    negative ones.
    """
    flat, counts = keys.reshape(-1), pairs.reshape(-1)
    n_levels = np.uint64(pairs.shape[2])
    matrix = n_levels * n_levels
    per_object = matrix * np.uint64(pairs.shape[1])
    next_direction = matrix if pairs.shape[1] > 1 else np.uint64(0)
    width, shift, one = np.uint64(1) << np.uint64(bits), np.uint64(bits), np.uint64(1)
    along_y, along_z = distance * keys.shape[2], distance * keys.shape[1] * keys.shape[2]
    rows = (along_y, along_z - along_y, along_z, along_z + along_y)
    for z in range(keys.shape[0] - margin):
        for y in range(margin, keys.shape[1] - margin):
            row = (z * keys.shape[1] + y) * keys.shape[2]
            for v in range(row + margin, row + keys.shape[2] - margin):
                key = np.uint64(flat[np.uint64(v)])
                if key == 0:
                    continue
                i = key >> shift
                lowest = i << shift
                line = (i - one) * per_object + (key - lowest) * n_levels
                level = np.uint64(flat[np.uint64(v + distance)]) - lowest
                if level < width:
                    counts[line + level] += 1
                for other in rows:
                    for k in range(-1, 2):
                        line += next_direction
                        level = np.uint64(flat[np.uint64(v + other + k * distance)]) - lowest
                        if level < width:
                            counts[line + level] += 1


@njit(cache=True, nogil=True)
def _features(matrices: np.ndarray, values: np.ndarray) -> None:
    """Fill `values` (n, 8), in the order of `_NAMES`, of pairs (n, n_levels, n_levels), counted or as shares.

    One pass over half of a matrix made symmetric: what depends on the difference of two levels follows from the sum
    of each diagonal, what depends on one level from the sum of each row, and covariance = variance − contrast / 2.
    """
    n_levels = matrices.shape[1]
    rows, diagonals = np.empty(n_levels), np.empty(n_levels)
    for k in range(len(matrices)):
        pairs = matrices[k]
        rows[:] = 0
        diagonals[:] = 0
        squares = logs = 0.0
        for i in range(n_levels):
            for j in range(i + 1):
                part = np.float64(pairs[i, j] + pairs[j, i])  # of a pair of equal levels, both ends at once
                if part == 0:
                    continue
                times = 1 if i == j else 2
                rows[i] += part
                if i != j:
                    rows[j] += part
                diagonals[i - j] += times * part
                squares += times * part * part
                logs += times * part * np.log2(part)
        total = rows.sum()
        average = 0.0
        for i in range(n_levels):
            average += (i + 1) * rows[i] / total
        homogeneity = variance = contrast = dissimilarity = 0.0
        for i in range(n_levels):
            part = diagonals[i] / total
            homogeneity += part / (1 + i * i)
            contrast += i * i * part
            dissimilarity += i * part
            variance += (i + 1 - average) ** 2 * rows[i] / total
        correlation = 1 - contrast / (2 * variance) if variance > 0 else 1.0
        energy, entropy = squares / total**2, max(0.0, np.log2(total) - logs / total)
        if (rows > 0).sum() == 1:  # to the last bit, which rounding may miss
            average, variance, correlation, energy, entropy = np.rint(average), 0.0, 1.0, 1.0, 0.0
        values[k] = (homogeneity, correlation, variance, contrast, energy, entropy, dissimilarity, average)
