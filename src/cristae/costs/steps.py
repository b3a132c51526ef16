"""Steps of a stage, and how what they hold is kept within a limit.

::

    peak = base + the largest of:  fixed + workers × per worker + blocks (from `least`, to `most` if they may)

`base` is Python with its libraries. What blocks may take is a setting of some stages (``max_ram_gb``); where a limit
is to be kept, it is lowered first and then the number of workers, neither of which changes what comes out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cristae.costs.work import SHARD, Work

BASE = 720e6
"""Python with PyTorch, pandas and compiled kernels; as measured on Linux."""


@dataclass(frozen=True)
class Step:
    """What one step of a stage holds, in bytes, beside the base.

    Parameters
    ----------
    words
        What it is, and what would make it smaller.
    fixed, per_worker
        Always, and for each block, gap or slice in work at a time.
    least, most
        What blocks take if as little as possible is allowed to them, and if anything is.
    """

    words: str
    fixed: float = 0.0
    per_worker: float = 0.0
    least: float = 0.0
    most: float = 0.0

    def peak(self, allowed: float, workers: int) -> float:
        """Return what is held if blocks may take `allowed` bytes."""
        return self.fixed + workers * self.per_worker + max(self.least, min(allowed, self.most))


@dataclass(frozen=True)
class Memory:
    """The steps of a stage."""

    steps: tuple[Step, ...]

    def peak(self, allowed: float, workers: int) -> tuple[float, str]:
        """Return the bytes at the peak of the stage, base included, and what they are for."""
        largest = max(self.steps, key=lambda step: step.peak(allowed, workers))
        return BASE + largest.peak(allowed, workers), largest.words

    @property
    def least(self) -> tuple[float, str]:
        """What the stage needs at least, with one worker and the smallest blocks, and what for."""
        return self.peak(0.0, 1)

    def within(self, limit: float, allowed: float, workers: int) -> tuple[float, int] | None:
        """Return what blocks may take, and how many workers there may be, so that `limit` is kept; None if it cannot.

        Neither is more than what was asked for.
        """
        for n in range(workers, 0, -1):
            if self.peak(0.0, n)[0] <= limit:
                room = [limit - BASE - step.fixed - n * step.per_worker for step in self.steps if step.most]
                return min([allowed, *room]), n
        return None


def pyramid_step(work: Work, itemsize: int, labels: bool) -> Step:
    """Coarser levels are made shard by shard, each from voxels of a box twice as long."""
    finest = math.prod(min(2 * s, n) for s, n in zip(SHARD, work.shape, strict=True))
    coarse = math.prod(min(s, n) for s, n in zip(SHARD, work.shape, strict=True))
    # What is written is held by chunks, compressed and as a shard besides.
    held = finest * itemsize + 4 * coarse * itemsize
    # Means: an edge may be repeated, and they are numbers of 4 bytes that are rounded.
    return Step("coarser levels of a stored volume", held if labels else held + finest * itemsize + 12 * coarse)


def how_many(work: Work) -> int:
    """Return how many are worked on at a time where nothing is read ahead."""
    return max(1, work.workers)
