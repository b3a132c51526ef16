"""Slices that are left out: shown to nobody, found by a method of separating cells, and scored.

Slices are read one by one, and tables of ids that meet are added up, so that memory does not grow with the volume.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from cristae.annotations import IGNORE_ID
from cristae.errors import DataError
from cristae.executors import Crew
from cristae.geometry import Nanometres
from cristae.metrics.instance import Contingency, adapted_rand_error, add_up, contingency, variation_of_information
from cristae.metrics.matching import detections, dice_by_id, dice_by_match, summarise_dice
from cristae.separation.combine import SeparationSettings
from cristae.separation.gap import Gap
from cristae.separation.separate import separate
from cristae.stages.cells_settings import CellsSettings, separation
from cristae.stages.gaps import GapSources
from cristae.stages.table2 import COPY_NEAREST

FIRST_NEW_ID = 2**40
"""Above all ids that a truth can hold, so that a new cell is never taken for one of them; each stretch has as many."""


@dataclass(frozen=True)
class Plan:
    """Which slices are shown at one gap, and which are scored.

    Parameters
    ----------
    gap
        Slices from one labelled slice to the next.
    labelled
        z of the slices that are shown, ascending.
    scored
        z of all others that have truth, ascending; none is below the first labelled one.
    """

    gap: int
    labelled: tuple[int, ...]
    scored: tuple[int, ...]

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """First and last slice of what is worked off by itself: labelled to labelled, and what follows the last."""
        ends = [*self.labelled, *([self.scored[-1]] if self.scored[-1] > self.labelled[-1] else [])]
        return list(pairwise(ends))

    @property
    def n_slices(self) -> int:
        """Slices that are worked off."""
        return sum(last - first for first, last in self.stretches)


def plan_gap(gap: int, slices: Sequence[int]) -> Plan | None:
    """Return which of the slices with truth are shown at a gap and which are scored; None if the gap does not fit.

    Shown are the first one and every `gap`-th after it, as long as they have truth; a gap fits if these are two at
    least and a slice with truth is left between or behind them.
    """
    if not slices:
        return None
    known, labelled = set(slices), [min(slices)]
    while labelled[-1] + gap in known:
        labelled.append(labelled[-1] + gap)
    scored = tuple(sorted(known - set(labelled)))
    return Plan(gap, tuple(labelled), scored) if len(labelled) > 1 and scored else None


@dataclass(frozen=True)
class _Part:
    """What one stretch adds to a row; `known` are ids of its labelled slices, `n_found` slices were not shown."""

    table: Contingency
    known: np.ndarray
    n_slices: int
    n_found: int
    seconds: float


@dataclass(frozen=True)
class LeftOut:
    """Separates cells by any method, and scores them.

    Parameters
    ----------
    sources
        Image, maps and truth; which slices are labelled does not matter here.
    how
        Settings of the separation.
    reduction
        Slices are reduced by this along y and x before all else.
    smallest_um3
        Cells of less volume on the scored slices get no Dice.
    """

    sources: GapSources
    how: CellsSettings
    reduction: int
    smallest_um3: float

    @cached_property
    def voxel_size(self) -> Nanometres:
        """Voxel size after the reduction, in nm along z, y, x."""
        z, y, x = self.sources.project.image.grid.voxel_size
        return z, y * self.reduction, x * self.reduction

    @cached_property
    def smallest(self) -> int:
        """Voxels of the smallest cell that gets a Dice."""
        return max(1, round(self.smallest_um3 * 1e9 / math.prod(self.voxel_size)))

    def score(self, plan: Plan, method: str, crew: Crew, advance: Callable[[int], None]) -> dict[str, Any]:
        """Return what is known of one method at one gap.

        Parameters
        ----------
        plan
            Slices that are shown, and slices that are scored.
        method
            A name in `cristae.separation.separate.METHODS`, or `COPY_NEAREST`.
        crew
            Works off stretches side by side.
        advance
            Told after each stretch how many slices of the plan are done.

        Raises
        ------
        DataError
            If no cell is large enough to be scored, or a map that the method needs is absent.
        """
        parts = list[_Part]()

        def work(stretch: int) -> _Part:
            return self._work(plan, method, stretch)

        for part in crew.unordered(work, range(len(plan.stretches))):
            parts.append(part)
            advance(sum(one.n_slices for one in parts))
        table = add_up(part.table for part in parts)
        known = np.unique(np.concatenate([part.known for part in parts]))
        by_id, by_match = dice_by_id(table, self.smallest), dice_by_match(table, self.smallest, known)
        every, met = summarise_dice(by_id), summarise_dice(by_id[by_id["object_id"].isin(known)])
        if not every.n_objects:
            raise DataError(
                f"no cell of at least {self.smallest} voxels is on the slices that are scored at gap {plan.gap}; "
                "lower study_cells.smallest_um3"
            )
        information = variation_of_information(table)
        return {
            "gap_slices": plan.gap,
            "gap_nm": plan.gap * self.voxel_size[0],
            "method": method,
            "n_cells": every.n_objects,
            "dice": every.mean,
            "dice_sd": every.sd,
            "worst": every.worst,
            "worst_id": every.worst_id,
            "n_cells_met": met.n_objects,
            "dice_met": met.mean,
            "dice_matched": summarise_dice(by_match).mean,
            "adapted_rand_error": adapted_rand_error(table).error,
            "voi_split_bits": information.split,
            "voi_merge_bits": information.merge,
            "panoptic_quality": detections(table).panoptic_quality,
            "seconds_per_slice": sum(part.seconds for part in parts) / max(1, sum(part.n_found for part in parts)),
            "n_labelled_slices": len(plan.labelled),
            "n_scored_slices": len(plan.scored),
        }

    def _work(self, plan: Plan, method: str, stretch: int) -> _Part:
        """Separate and score the slices of one stretch; called from several threads."""
        first, last = plan.stretches[stretch]
        sources, scored = replace(self.sources, labelled=plan.labelled), set(plan.scored)
        gap = replace(sources.gap(first, last, self.reduction), first_new_id=FIRST_NEW_ID * (1 + stretch))
        how = separation(self.how, gap, self.voxel_size)
        tables, seconds, n_found = list[Contingency](), 0.0, 0
        slices = _slices(gap, method, how)
        for z in range(first, last + 1):
            begun = time.perf_counter()
            found = next(slices)
            seconds += time.perf_counter() - begun
            n_found += z not in plan.labelled
            if z in scored:
                truth = sources.ids(z, self.reduction)
                seen = truth != IGNORE_ID
                tables.append(contingency(np.where(seen, found, 0), np.where(seen, truth, np.uint32(0))))
        known = np.concatenate([np.unique(labels) for labels in (gap.before, gap.after) if labels is not None])
        return _Part(add_up(tables), known[known > 0], last - first, n_found, seconds)


def _slices(gap: Gap, method: str, how: SeparationSettings) -> Iterator[np.ndarray]:
    if method != COPY_NEAREST:
        yield from separate(gap, method, how)
        return
    assert gap.before is not None
    for index in range(len(gap)):
        after = gap.after if len(gap) - 1 - index < index else None
        yield gap.before if after is None else after
