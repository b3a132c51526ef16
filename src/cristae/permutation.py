"""Permutation tests: whether groups differ more than chance would have dealt them out.

::

    observed   A A A | B B B        all 20 ways to deal six values to two groups of three:
               9 8 7 | 3 2 1        2 of them differ as much as the observed one  ->  p = 2/20, exact

If group does not matter, every way to deal the same values to groups of the same sizes is as likely. Few ways are all
tried; of many, some are drawn at random. Nothing is assumed of the distribution, but the values have to be
exchangeable: objects of one sample are not replicates of each other (see `cristae.comparison`).

Papers: R. A. Fisher (1935), The Design of Experiments, §21; M. D. Ernst (2004), Stat. Sci. 19, 676; B. Phipson and
G. K. Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9, 39 (why drawn permutations give (k + 1)/(n + 1), and never 0).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

Statistic = Literal["mean", "median"]

_CHUNK = 2**21
"""Values dealt out at once; nothing depends on it but memory."""
_WIDE = 128
"""Features that an arrangement is reckoned to be tried on, at least."""
_ROUNDING = 1e-9
"""Statistics nearer than this part of them are equal: sums of one set of values in different orders are not, quite."""
_NOTHING = 1e-12
"""The same where they are near 0, as a part of the spread of the values."""


@dataclass(frozen=True, slots=True)
class PermutationResult:
    """What a permutation test gives.

    Parameters
    ----------
    p
        Two-sided, above 0; 1 where all values are equal; NaN where a group has no value.
    exact
        Whether all ways to deal out the values were tried.
    n_arrangements
        How many ways were tried, or drawn.
    """

    p: float
    exact: bool
    n_arrangements: int


def permutation_test(
    groups: Sequence[np.ndarray], *, statistic: Statistic = "mean", n_permutations: int = 10_000, seed: int = 0
) -> PermutationResult:
    """Test whether groups differ; see `permutation_tests`."""
    return permutation_tests([groups], statistic=statistic, n_permutations=n_permutations, seed=seed)[0]


def permutation_tests(
    cases: Sequence[Sequence[np.ndarray]],
    *,
    statistic: Statistic = "mean",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> list[PermutationResult]:
    """Test many features at once, each whether its groups differ.

    Parameters
    ----------
    cases
        Per feature, the values of each of at least two groups, float ``(n,)``. What is not finite is left out.
    statistic
        Of two groups, the difference of their means or of their medians. Of more, the variance between their means (as
        F does), or between their mean ranks (as the H of Kruskal and Wallis does) if it is ``median``.
    n_permutations
        All ways to deal out the values are tried if they are no more than this; else as many are drawn.
    seed
        Of what is drawn.

    Returns
    -------
    list
        One result per feature. It depends neither on the order of values or groups, nor on what else is tested.

    Raises
    ------
    ValueError
        If there are fewer than two groups, `n_permutations` is below 1, or the statistic is unknown.
    """
    if n_permutations < 1:
        raise ValueError(f"expected at least 1 permutation, got {n_permutations}")
    if statistic not in ("mean", "median"):
        raise ValueError(f"expected the statistic mean or median, got {statistic!r}")
    results: dict[int, PermutationResult] = {}
    alike: dict[tuple[int, ...], list[tuple[int, np.ndarray, float]]] = {}
    for place, groups in enumerate(cases):
        if len(groups) < 2:
            raise ValueError(f"expected at least two groups, got {len(groups)}")
        # Smallest first: what is drawn then does not depend on the order of groups.
        kept = sorted((_finite(group) for group in groups), key=len)
        pooled = np.concatenate(kept)
        if not len(kept[0]):
            results[place] = PermutationResult(math.nan, True, 0)
        elif pooled.min() == pooled.max():
            results[place] = PermutationResult(1.0, True, 1)
        else:
            scaled = _scaled(kept, statistic)
            observed = _observed(scaled, statistic)
            sizes = tuple(len(group) for group in kept)
            alike.setdefault(sizes, []).append((place, np.sort(np.concatenate(scaled)), observed))
    for sizes, found in alike.items():
        values = np.stack([one for _, one, _ in found], axis=1)
        counts, total, exact = _count(
            values, np.array([one for *_, one in found]), sizes, (n_permutations, seed), statistic
        )
        for (place, _, _), count in zip(found, counts.tolist(), strict=True):
            p = count / total if exact else (count + 1) / (total + 1)
            results[place] = PermutationResult(p, exact, total)
    return [results[place] for place in range(len(cases))]


def n_arrangements(sizes: Sequence[int]) -> int:
    """Return in how many ways values can be dealt to groups of these sizes."""
    remaining, ways = sum(sizes), 1
    for size in sizes:
        ways *= math.comb(remaining, size)
        remaining -= size
    return ways


def smallest_p(sizes: Sequence[int]) -> float:
    """Return the smallest p that groups of these sizes can have when all arrangements are tried.

    Groups of the same size can change places without changing how far apart they are, so that the observed arrangement
    is never alone then.
    """
    if min(sizes) < 1:
        return math.nan
    same = math.prod(math.factorial(count) for count in Counter(sizes).values())
    return min(1.0, same / n_arrangements(sizes))


def arrangements(sizes: Sequence[int], n_permutations: int, seed: int) -> Iterator[np.ndarray]:
    """Yield ways to deal out values: uint8 ``(m, n)``, the group of every value, in parts that fit in memory.

    All of them, each once, if they are no more than `n_permutations`; else as many drawn at random.
    """
    rows = max(1, _CHUNK // max(sum(sizes), _WIDE))
    if n_arrangements(sizes) <= n_permutations:
        every = _all(sizes)
        yield from (every[start : start + rows] for start in range(0, len(every), rows))
        return
    generator = np.random.default_rng(seed)
    plain = np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes)
    for start in range(0, n_permutations, rows):
        yield generator.permuted(np.tile(plain, (min(rows, n_permutations - start), 1)), axis=1)


def _all(sizes: Sequence[int]) -> np.ndarray:
    last, n = len(sizes) - 1, sum(sizes)
    found = np.full((1, n), last, np.uint8)
    free = n
    for group, size in enumerate(sizes[:-1]):
        places = np.nonzero(found == last)[1].reshape(len(found), free)
        chosen = np.array(list(itertools.combinations(range(free), size)))
        picked = places[:, chosen].reshape(-1, size)
        found = np.repeat(found, len(chosen), axis=0)
        np.put_along_axis(found, picked, np.uint8(group), axis=1)
        free -= size
    return found


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]


def _scaled(groups: Sequence[np.ndarray], statistic: Statistic) -> list[np.ndarray]:
    """Return values of mean 0 and spread 1, so that rounding is the same in any unit; ranks where they are wanted."""
    pooled = np.concatenate(groups)
    if statistic == "median" and len(groups) > 2:
        pooled = rankdata(pooled)
    pooled = pooled / np.abs(pooled).max()  # values near the largest float have no finite variance
    pooled = pooled - pooled.mean()
    spread = pooled.std()
    pooled = pooled / (spread if spread > 0 else 1.0)
    return np.split(pooled, np.cumsum([len(group) for group in groups])[:-1])


def _observed(groups: Sequence[np.ndarray], statistic: Statistic) -> float:
    if statistic == "median" and len(groups) == 2:
        return float(abs(np.median(groups[0]) - np.median(groups[1])))
    return math.sqrt(sum(float(group.sum()) ** 2 / len(group) for group in groups) / sum(map(len, groups)))


def _count(
    values: np.ndarray, observed: np.ndarray, sizes: tuple[int, ...], draw: tuple[int, int], statistic: Statistic
) -> tuple[np.ndarray, int, bool]:
    """Return how many arrangements are at least as far apart as the observed one, of how many, and if of all.

    `values` are ``(n, features)``, each column ascending: any order will do, and this one is known.
    """
    n_permutations, seed = draw
    counts, total = np.zeros(values.shape[1], np.int64), 0
    least = observed * (1 - _ROUNDING) - _NOTHING
    for groups in arrangements(sizes, n_permutations, seed):
        if statistic == "median" and len(sizes) == 2:
            apart = np.abs(_medians(groups == 0, values) - _medians(groups == 1, values))
        else:
            apart = _between(groups, values, sizes)
        counts += (apart >= least).sum(axis=0)
        total += len(groups)
    return counts, total, n_arrangements(sizes) <= n_permutations


def _between(groups: np.ndarray, values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Return the standard deviation between the means of groups, ``(arrangements, features)``, of values of mean 0."""
    rest = np.zeros((len(groups), values.shape[1]))
    squares = np.zeros_like(rest)
    for group, size in enumerate(sizes[:-1]):
        sums = (groups == group).astype(np.float64) @ values
        squares += sums**2 / size
        rest -= sums
    return np.sqrt((squares + rest**2 / sizes[-1]) / len(values))


def _medians(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the medians of what is chosen of ascending values, ``(arrangements, features)``."""
    places = np.nonzero(chosen)[1].reshape(len(chosen), -1)
    size = places.shape[1]
    return 0.5 * (values[places[:, (size - 1) // 2]] + values[places[:, size // 2]])
