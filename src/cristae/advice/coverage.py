r"""Which slices to label next: those that, together, cover the most doubt.

For whoever has an hour for labelling. Each slice has a weight (what is expected to be wrong on it), and each pair a
likeness (how much a label on one tells of the other). What a set of labelled slices S covers is

::

    F(S) = Σ_z w_z · max_{s in S} k(z, s)                     facility location

    w   ▁▁▂▇▇▅▁▁▁▁▂▂▁▁      doubt             k near 1: same place, or same content
    L   ^           ^       labelled          k near 0: far away and unlike
    new    1  3    2        the first where doubt is high and nothing like it is labelled, the next somewhere else

F has diminishing returns, so that a greedy choice is at least 1 − 1/e as good as the best (G. L. Nemhauser et al. 1978,
Math. Program. 14, 265), and exchanges of single slices make it better still; a batch is diverse by itself. With equal
weights and likeness that falls with distance the choice is even spacing: what there is to beat is a special case.
Facility location for active learning: K. Wei, R. Iyer & J. Bilmes (2015), ICML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import floyd_warshall

_NEXT_TO_NOTHING = 1e-6
_ROUNDS = 10
"""Rounds of exchanges, at most; each makes the choice better, so that it ends anyway."""


@dataclass(frozen=True)
class Choice:
    """A batch, and what each candidate would add.

    Parameters
    ----------
    chosen
        Indices in the order in which to label them: int ``(n,)``.
    gains
        What each adds to what is covered, when labelled in this order: float ``(n,)``, a share of all weight.
    alone
        What each item would add if labelled alone, now: float ``(n_items,)``; 0 of labelled ones.
    left
        What each item would still add after the batch: float ``(n_items,)``; 0 of labelled and chosen ones.
    """

    chosen: np.ndarray
    gains: np.ndarray
    alone: np.ndarray
    left: np.ndarray


def likeness(content: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Return how much a label on one item tells of another, float32 ``(n, n)``: 1 for the same, falling to 0.

    exp(−d), where d is the shortest way from one to the other in steps of √(content · apart): of the same content, or
    at the same place, nothing is left to be learnt, and what is like something that is alike is alike.

    Parameters
    ----------
    content
        Distances of contents over what is usual between two items, ``(n, n)``, 0 or more; see
        `cristae.advice.contents.content_distances`.
    apart
        Distances along z over the reach of a label, ``(n, n)``, 0 or more.
    """
    steps = np.sqrt(np.asarray(content, np.float64) * np.asarray(apart, np.float64))
    if len(steps) > 1:  # a step of 0 would be taken for none
        steps = floyd_warshall(np.maximum(steps, _NEXT_TO_NOTHING), directed=False)
    return np.exp(-np.where(steps > 9 * _NEXT_TO_NOTHING, steps, 0).astype(np.float32))


def choose(weights: np.ndarray, like: np.ndarray, labelled: Sequence[int], candidates: Sequence[int], n: int) -> Choice:
    """Choose a batch of items to label, best first.

    Parameters
    ----------
    weights
        Of the items, float ``(n_items,)``, 0 or more.
    like
        float ``(n_items, n_items)`` 0–1 from `likeness`.
    labelled
        Indices of items that are labelled; never chosen.
    candidates
        Indices of items that may be chosen, if they are not labelled.
    n
        How many; fewer where there are fewer candidates.

    Raises
    ------
    ValueError
        If shapes differ, or a weight is negative.
    """
    weights = np.asarray(weights, np.float64)
    if like.shape != (len(weights), len(weights)) or (weights < 0).any():
        raise ValueError(f"expected weights of 0 or more and likeness {(len(weights),) * 2}, got {like.shape}")
    known = sorted(set(map(int, labelled)))
    free = np.array(sorted(set(map(int, candidates)) - set(known)), np.int64)
    share = weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1 / max(1, len(weights)))
    covered = like[:, known].max(axis=1) if known else np.zeros(len(weights), like.dtype)
    alone = _gains(share, like, covered, free)
    chosen = _greedy(share, like, covered, free, min(n, len(free)))
    better = _exchanged(share, like, covered, free, chosen)
    # The same slices, in the order in which they add most.
    order = _greedy(share, like, covered, np.array(sorted(better), np.int64), len(better))
    gains, now = [], covered
    for item in order:
        gains.append(float((share * np.maximum(like[:, item] - now, 0)).sum()))
        now = np.maximum(now, like[:, item])
    left = _gains(share, like, now, np.setdiff1d(free, order))
    return Choice(np.array(order, np.int64), np.array(gains), alone, left)


def _gains(share: np.ndarray, like: np.ndarray, covered: np.ndarray, items: np.ndarray) -> np.ndarray:
    found = np.zeros(len(share))
    found[items] = share @ np.maximum(like[:, items] - covered[:, None], 0)
    return found


def _greedy(share: np.ndarray, like: np.ndarray, covered: np.ndarray, items: np.ndarray, n: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(n):
        left = np.setdiff1d(items, chosen)
        gains = share @ np.maximum(like[:, left] - covered[:, None], 0)
        best = int(left[_first_largest(gains)])
        chosen.append(best)
        covered = np.maximum(covered, like[:, best])
    return chosen


def _exchanged(
    share: np.ndarray, like: np.ndarray, covered: np.ndarray, items: np.ndarray, chosen: list[int]
) -> list[int]:
    """Put another item in the place of one as long as that covers more."""
    for _ in range(_ROUNDS):
        before = list(chosen)
        for at in range(len(chosen)):
            others = [one for place, one in enumerate(chosen) if place != at]
            now = np.maximum(covered, like[:, others].max(axis=1)) if others else covered
            left = np.setdiff1d(items, others)
            gains = share @ np.maximum(like[:, left] - now[:, None], 0)
            best, own = _first_largest(gains), int(np.searchsorted(left, chosen[at]))
            if gains[best] > gains[own] * (1 + 1e-9) + 1e-12:
                chosen[at] = int(left[best])
        if chosen == before:
            break
    return chosen


def _first_largest(gains: np.ndarray) -> int:
    """Return the first of the largest, where sums in another order may differ in the last digits."""
    return int(np.flatnonzero(gains >= gains.max() * (1 - 1e-9))[0])
