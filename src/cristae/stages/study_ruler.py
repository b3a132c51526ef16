"""On which slices the trials of `cristae study networks` are scored: the same for all, where there are such.

::

    trial of 3 slices    |.......|.......|       | shown    . not shown: scored and kept
    trial of 5 slices    |...|...|...|...|
    common                ... ... ... ...        the slices that count for both

More labelled slices leave fewer and other slices to be scored, most of them further inside. On common slices a
difference is that of the networks. Every trial keeps the scores of all slices that it was not shown, so that which ones
count may be changed without another training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from cristae.stages.study_grid import Pool, Trial
from cristae.stages.study_trial import Bench, scored_on

Scored = Literal["common", "unseen"]


@dataclass(frozen=True)
class Ruler:
    """Which slices count.

    Parameters
    ----------
    common
        z of slices that no trial is shown; None where for each trial those count that it is not shown itself.
    lacking
        Classes that are on no common slice. With any, `common` is None although it was asked for.
    """

    common: frozenset[int] | None
    lacking: tuple[str, ...] = ()

    @property
    def kind(self) -> Scored:
        """By name, as in the settings."""
        return "unseen" if self.common is None else "common"

    @property
    def words(self) -> str:
        """How to go on after "scored on slices that"."""
        if self.common is None:
            return "a training was not shown; the more it was shown, the fewer are scored"
        return "no training of the study was shown, the same for all"

    @property
    def excuse(self) -> str:
        """Why common slices were asked for and others count; empty if that is not so."""
        if not self.lacking:
            return ""
        return (
            f"{', '.join(self.lacking)}: on no slice that every training could be scored on. Numbers of labelled "
            "slices are compared on different slices"
        )

    def rows(self, bench: Bench, found: Sequence[Mapping[str, Any]], table: pd.DataFrame) -> list[dict[str, Any]]:
        """Return the rows of a trial, from `cristae.stages.study_trial.read_trial`, with the scores that count."""
        if self.common is None:
            return [dict(row) for row in found]
        return scored_on(self.common, found, table, bench.rules)

    def counts(self, table: pd.DataFrame) -> pd.Series:
        """Return which rows of a table of slices count, bool."""
        every = pd.Series(True, index=table.index)
        return every if self.common is None else table["z"].isin(self.common)


def ruler_of(bench: Bench, wanted: Scored, pool: Pool, trials: Sequence[Trial]) -> Ruler:
    """Return the slices that are wanted; those unseen where a class would be on none of the common ones.

    Parameters
    ----------
    bench
        What is scored against.
    wanted
        What the settings ask for.
    pool
        Where there is truth.
    trials
        All of the study.
    """
    if wanted == "unseen":
        return Ruler(None)
    shown = {z for trial in trials for z in trial.slices}
    left = {name: [z for z in slices if z not in shown] for name, slices in pool.truth.items()}
    lacking = [
        name for name, slices in left.items() if not any((bench.source.read_slice(name, z) == 1).any() for z in slices)
    ]
    return Ruler(None, tuple(lacking)) if lacking else Ruler(frozenset().union(*left.values()))
