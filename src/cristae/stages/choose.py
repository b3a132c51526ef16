"""Which method finds the cells of this volume best: each labelled slice in turn is left out and found again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cristae.blockwise import Journal
from cristae.metrics.instance import Contingency, contingency
from cristae.metrics.matching import dice_by_match, island_share, islands, smeared_ids, smeared_objects, summarise_dice
from cristae.project import Run
from cristae.separation.separate import METHODS, TABLE2, separate
from cristae.stages.cells_settings import CellsSettings, separation
from cristae.stages.gaps import GapSources
from cristae.stages.options import Options

NO_FLOW = "flow adds nothing here: the network's maps alone do as well"
UNTRIED = "paths"
"""The method that is used where none can be tried."""
TRIALS = "trials"
"""File of finished trials in the folder of a run."""
_ROWS = "one row per left-out slice and method"
_AS_GOOD = 0.005
"""Methods whose mean Dice is no further below the best do as well: bodies say nothing more, protrusions decide."""


def choose(sources: GapSources, settings: CellsSettings, run: Run, options: Options) -> str:
    """Leave out one labelled slice at a time, find its cells by every method, and return the best one.

    Writes ``methods.csv`` into the run's folder: one row per method and left-out slice. Each row is kept as soon as it
    is known, so that a killed run goes on with the next one.
    """
    methods = [name for name in METHODS if sources.can(name)]
    inner = sources.labelled[1:-1]
    if not inner or len(methods) == 1:
        chosen = UNTRIED if UNTRIED in methods else methods[-1]
        options.notify(f"cells: {chosen}, as there are too few labelled slices (3) or maps to try methods on")
        return chosen
    tried = [inner[round(i)] for i in np.linspace(0, len(inner) - 1, min(settings.tries, len(inner)))]
    table = _try_all(sources, settings, list(itertools.product(dict.fromkeys(tried), methods)), run, options)
    table.to_csv(run.path / "methods.csv", index=False)
    means = table.groupby("method", sort=False)["dice"].mean()
    chosen = best_method(table)
    ranking = ", ".join(f"{name} {dice:.3f}" for name, dice in means.sort_values(ascending=False).items())
    options.notify(f"cells: mean Dice of cells on left-out slices: {ranking}")
    if not table["n_cells"].any():
        options.notify("cells: there is no cell on them, so that they tell only which methods invent some")
    elif flow_adds_nothing(means):
        options.notify(f"cells: {NO_FLOW}")
    why = "" if means[chosen] == means.max() else ", which does as well, and best where protrusions lie apart"
    options.notify(f"cells: {chosen} is used{why}")
    run.update(tried={name: round(float(dice), 4) for name, dice in means.items()})
    return chosen


def _try_all(
    sources: GapSources, settings: CellsSettings, trials: Sequence[tuple[int, str]], run: Run, options: Options
) -> pd.DataFrame:
    """Return a row per left-out slice and method; rows that are on disk are not made again."""
    journal, progress = Journal(run.path / TRIALS), options.progress("try methods")
    rows = {(int(row["z"]), str(row["method"])): row for row in journal.finished_rows(_ROWS)}
    for done, (z, method) in enumerate(trials, start=1):
        if (z, method) not in rows:
            rows[z, method] = _try(sources, settings, z, method)
            journal.add_row(_ROWS, rows[z, method])
        progress(done, len(trials))
    return pd.DataFrame([rows[trial] for trial in trials])


def _try(sources: GapSources, settings: CellsSettings, z: int, method: str) -> dict[str, Any]:
    """Score one method on one labelled slice that it is not shown."""
    at = sources.labelled.index(z)
    first, last = sources.labelled[at - 1], sources.labelled[at + 1]
    grid = sources.project.image.grid
    factor = max(1, -(-max(grid.shape[1:]) // settings.try_px))
    gap = sources.gap(first, last, factor)
    voxel_size = (grid.voxel_size[0], grid.voxel_size[1] * factor, grid.voxel_size[2] * factor)
    begun = time.monotonic()
    how = separation(settings, gap, voxel_size)
    found = next(itertools.islice(separate(gap, method, how), z - first, None))
    truth = sources.labels(z, factor)
    seen = sources.seen(z, factor)
    table = contingency(np.where(seen, found, 0), np.where(seen, truth, 0))
    known = np.union1d(sources.labels(first, factor), sources.labels(last, factor))
    known = known[known > 0]
    smallest = how.smallest_body_px // 10 + 1
    scores = summarise_dice(dice_by_match(table, smallest, known))
    # Cells that end before this slice and were carried on are wrong, which no Dice of a true cell tells.
    n_smeared = len(smeared_ids(table, known, smallest))
    dice = scores.mean
    if not scores.n_objects:
        dice = 0.0 if n_smeared or _invents(table, smallest) else 1.0
    elif n_smeared:
        dice *= scores.n_objects / (scores.n_objects + smeared_objects(table, known, smallest))
    apart = seen & islands(truth) & np.isin(truth, known)
    return {
        "method": method,
        "z": z,
        "distance_slices": min(z - first, last - z),
        "n_cells": scores.n_objects,
        "n_smeared": n_smeared,
        "dice": dice,
        "worst": 0.0 if n_smeared else scores.worst if scores.n_objects else dice,
        "n_island_px": int(apart.sum()),
        "islands": island_share(contingency(found[apart], truth[apart])),
        "seconds": round(time.monotonic() - begun, 3),
    }


def _invents(table: Contingency, smallest: int) -> bool:
    """Say whether an object of `smallest` pixels or more was found."""
    return bool((table.n_segmentation[table.segmentation != 0] >= smallest).any())


def best_method(table: pd.DataFrame) -> str:
    """Return the method with the highest mean Dice, or one as good that brings more island voxels home.

    Of several that do exactly as well it is the one that is used untried, if it is among them.

    Parameters
    ----------
    table
        A row per method and left-out slice: ``method``, ``dice``, ``islands`` (share of the voxels of islands that
        went to the right cell; NaN without any), ``n_island_px``.
    """
    right = table.assign(home=(table["islands"] * table["n_island_px"]).fillna(0)).groupby("method", sort=False)
    means, home = right["dice"].mean(), right["home"].sum()
    as_good = home[means >= means.max() - _AS_GOOD]
    best = means[as_good.index[as_good == as_good.max()]]
    equal = best.index[best == best.max()]
    return UNTRIED if UNTRIED in equal else str(equal[0])


def flow_adds_nothing(means: pd.Series) -> bool:
    """Say whether a method of Table 2 without flow does as well as the best with it, given the mean Dice by method."""
    flows = [name for name in means.index if "flow" in name]
    others = [name for name in TABLE2 if "flow" not in name and name in means.index]
    return bool(flows and others and means[others].max() >= means[flows].max() - 0.002)
