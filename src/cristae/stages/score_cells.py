r"""Scores of cells: whether every cell has one id, the right one, from its body to the islands of its protrusions.

Found cells and true ones are compared a slice at a time; what is kept of a slice is how many voxels each pair of ids
shares, so that memory grows with cells and slices, never with voxels.

::

    cell Dice of a slice 1 | ^           ^           ^    cells are known on labelled slices (^); methods that carry
                           |  \__     __/ \__     __/     them from one side only step in the middle of a gap:
                           |     \_|_/       \_|_/        `cells_slices.csv` has a row per slice to see it
                           +----------------------- z

Who stands for whom is decided once, over all scored slices: cells of labelled slices by their id, as in Table 2 of
Machireddy et al. (2023); others, which no id could be known of, by the best match.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cristae.annotations import IGNORE_ID
from cristae.blockwise import Progress
from cristae.errors import DataError
from cristae.files import write_atomically
from cristae.geometry import Box
from cristae.io.ome_zarr import open_volume
from cristae.metrics.instance import (
    Contingency,
    adapted_rand_error,
    add_up,
    contingency,
    variation_of_information,
)
from cristae.metrics.matching import (
    detections,
    dice_by_id,
    dice_by_match,
    island_share,
    islands,
    named_as_truth,
    summarise_dice,
)
from cristae.project import Project, Run
from cristae.stages.corrected import corrected_run, corrections_of, n_corrections, with_corrections
from cristae.stages.options import Options

CellPlanes = tuple[int, np.ndarray, np.ndarray]
"""z, found ids ``(y, x)``, true ids ``(y, x)`` with `IGNORE_ID` where nobody looked."""

_SLICE_COLUMNS = {
    "z": "int64",
    "labelled": "bool",
    "distance_slices": "Int64",
    "distance_nm": "float64",
    "n_cells": "int64",
    "dice": "float64",
    "worst": "float64",
    "worst_id": "int64",
}
"""Columns of the table of slices with their types, which hold for empty tables too."""


@dataclass(frozen=True)
class FoundCells:
    """Cells of a project that there is a truth of.

    Parameters
    ----------
    run
        The tracking, or the separation where it was not followed by a tracking.
    name
        Their class.
    labelled
        z of the labelled slices that they were found from.
    corrected
        The run that holds them with the corrections applied last; `run` itself where there are none.
    """

    run: Run
    name: str
    labelled: tuple[int, ...]
    corrected: Run


@dataclass(frozen=True)
class CellRules:
    """How cells are scored.

    Parameters
    ----------
    labelled
        z of the slices that cells were found from.
    known
        Ids of the cells on them.
    exclude_labelled
        Whether these slices are left out.
    smallest
        Voxels on scored slices from which on a true cell enters the Dice of cells.
    depth_nm
        Voxel size along z.
    """

    labelled: tuple[int, ...]
    known: tuple[int, ...]
    exclude_labelled: bool
    smallest: int
    depth_nm: float


@dataclass(frozen=True)
class CellScores:
    """What came out: scores as ``scores.json`` keeps them, a row per true cell, a row per slice.

    Of corrected cells, ``before`` is what came out of those that nobody had corrected yet.
    """

    scores: dict[str, Any]
    objects: pd.DataFrame
    slices: pd.DataFrame
    before: CellScores | None = None


def last_cells(project: Project) -> tuple[Run, Run | None] | None:
    """Return the separation of cells that finished last, and the tracking of just these cells if there is one."""
    separated, tracked = project.latest("cells"), project.latest("track")
    if separated is None:
        return None
    made = separated.as_input
    fits = tracked is not None and tracked.manifest["inputs"].get("cells") == made
    return separated, tracked if fits else None


def find_cells(project: Project, notify: Callable[[str], None] = lambda words: None) -> FoundCells | None:
    """Return the cells of a project that can be scored, tracked ones if they are; None without cells or truth."""
    found = last_cells(project)
    if found is None:
        return None
    separated, tracked = found
    name = str(separated.manifest["name"])
    if not (project.truth.has_instances(name) and project.truth.labelled_slices(name)):
        return None
    if tracked is None and project.latest("track"):
        notify("evaluate: cells were separated anew and not tracked since, so that they are scored as separated")
    run, labelled = tracked or separated, tuple(int(z) for z in separated.manifest["labelled_slices"])
    return FoundCells(run, name, labelled, corrected_run(project, run, name))


def cells_inputs(project: Project, found: FoundCells | None) -> dict[str, str]:
    """Return what the scores of cells rest on, as the fingerprints of a run; empty texts without cells."""
    if found is None:
        return {"cells_found": "", "cells_truth": ""}
    made = f"{found.run.stage} {found.run.as_input}"
    truth = project.truth.fingerprint([found.name])
    return {"cells_found": made, "cells_truth": truth, **corrections_of(project, found.run, [found.name])}


def score_cells(
    project: Project, found: FoundCells, exclude_labelled: bool, smallest_um3: float, options: Options
) -> CellScores:
    """Score the cells of a project against its truth; where people corrected them, with and without corrections.

    Raises
    ------
    DataError
        If the file of the cells is missing, or differs from the truth in size.
    """
    grid = project.truth.grid
    known: set[int] = set()
    for z in found.labelled:
        known |= set(np.unique(project.annotations.read_ids(found.name, z)).tolist())
    rules = CellRules(
        found.labelled,
        tuple(sorted(known - {0, IGNORE_ID})),
        exclude_labelled,
        max(1, round(smallest_um3 * 1e9 / math.prod(grid.voxel_size))),
        grid.voxel_size[0],
    )
    n = n_corrections(found.corrected)
    facts = {"class": found.name, "run": found.run.path.name, "n_corrections": n, "smallest_cell_um3": smallest_um3}
    result = compare(_planes(project, found, found.corrected, options.progress("evaluate cells")), rules)
    if not n:
        return CellScores({**facts, **result.scores}, result.objects, result.slices)
    before = compare(_planes(project, found, found.run, options.progress("evaluate uncorrected cells")), rules)
    scores = {**facts, "corrected_run": found.corrected.path.name, **result.scores, "before_corrections": before.scores}
    return CellScores(scores, result.objects, result.slices, before)


def compare(planes: Iterable[CellPlanes], rules: CellRules) -> CellScores:
    """Compare found cells with true ones.

    Parameters
    ----------
    planes
        Slices with truth, each once, in any order.
    rules
        What counts.

    Returns
    -------
    CellScores
        ``scores``: see docs/algorithms/scores.md; None where a score cannot be told. ``objects``: a row per true cell
        of the scored slices: ``object_id``, ``met`` (on a labelled slice), ``scored`` (large enough), ``n_voxels``,
        ``matched_id`` (0: none), ``n_found_voxels``, ``n_shared_voxels``, ``dice``, ``precision``, ``recall``.
        ``slices``: a row per slice: ``z``, ``labelled``, ``distance_slices`` and ``distance_nm`` to the nearest
        labelled one, ``n_cells``, ``dice`` (mean over its cells, by the same names), ``worst`` and ``worst_id``.
    """
    tables: dict[int, Contingency] = {}
    apart: dict[int, Contingency] = {}
    for z, found, truth in planes:
        seen = truth != IGNORE_ID
        tables[z] = contingency(found[seen], truth[seen])
        lonely = islands(np.where(seen, truth, 0))
        apart[z] = contingency(found[lonely], truth[lonely])
    scored = sorted(z for z in tables if not (rules.exclude_labelled and z in rules.labelled))
    whole = add_up(tables[z] for z in scored)
    matched = dice_by_match(whole, 1, rules.known)
    lonely_table = named_as_truth(add_up(apart[z] for z in scored), matched, rules.known)
    objects = _object_rows(matched, rules)
    scores = {
        "excludes_labelled": rules.exclude_labelled,
        "n_scored_slices": len(scored),
        "labelled_slices": list(rules.labelled),
        **_dice_scores(objects),
        **_pair_scores(whole, rules.smallest, bool(scored)),
        "island_share": _or_none(island_share(lonely_table)),
        "n_island_voxels": int(lonely_table.n_voxels.sum()),
    }
    rows = [_slice_row(z, named_as_truth(tables[z], matched, rules.known), rules) for z in sorted(tables)]
    return CellScores(scores, objects, pd.DataFrame(rows, columns=list(_SLICE_COLUMNS)).astype(_SLICE_COLUMNS))


def in_short(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the manifest of an evaluation says of cells."""
    found = {
        "class_of_cells": scores["class"],
        "dice_cells": scores["dice_mean"],
        "n_corrections": scores["n_corrections"],
    }
    before = scores.get("before_corrections")
    return found | ({"dice_cells_before": before["dice_mean"]} if before else {})


def write_cell_scores(folder: Path, result: CellScores) -> None:
    """Write ``cells_objects`` and ``cells_slices`` into a run's folder, as Parquet and CSV.

    What came out before corrections stands beside them: ``cells_objects_before`` and ``cells_slices_before``.
    """
    tables = {"cells_objects": result.objects, "cells_slices": result.slices}
    if result.before is not None:
        tables |= {"cells_objects_before": result.before.objects, "cells_slices_before": result.before.slices}
    for stem, table in tables.items():
        table.to_parquet(folder / f"{stem}.parquet", index=False)
        write_atomically(folder / f"{stem}.csv", table.to_csv(index=False))


def warn_of_cells(scores: Mapping[str, Any], options: Options) -> None:
    """Say what makes the scores of cells mean something else than a reader would think."""
    name = scores["class"]
    if not scores["n_scored_slices"]:
        options.notify(
            f"evaluate: every slice with truth of {name} was also labelled to find it from, so there is nothing to "
            "score; import truth of other slices, or set evaluate.exclude_labelled=false"
        )
    elif scores["n_cells"] and scores["dice_by_match_mean"] > 0.5 > 2 * scores["dice_mean"]:
        options.notify(
            f"evaluate: found and true {name} agree much better when ids are not looked at "
            f"({scores['dice_by_match_mean']:.3f}) than by id ({scores['dice_mean']:.3f}): labels and truth seem to "
            "number them differently; give them the same ids"
        )


def _planes(project: Project, found: FoundCells, holds: Run, progress: Progress) -> Iterator[CellPlanes]:
    """Yield every slice with truth, with the cells of a run."""
    path = holds.path / f"{found.name}.ome.zarr"
    if not path.is_dir():
        command = "correct apply" if holds.stage == "correct" else holds.stage
        raise DataError(f"{path} is missing; run cristae {command} again with --force")
    volume, truth = open_volume(path), project.truth
    if volume.shape != truth.grid.shape:
        raise DataError(f"the cells have shape {volume.shape} but the image {truth.grid.shape}; find them again")
    _, height, width = volume.shape
    slices = truth.labelled_slices(found.name)
    for done, z in enumerate(slices, start=1):
        # Layers of cells are stored slice by slice.
        yield z, volume.read(Box((z, 0, 0), (z + 1, height, width)))[0], truth.read_ids(found.name, z)
        progress(done, len(slices))


def _object_rows(matched: pd.DataFrame, rules: CellRules) -> pd.DataFrame:
    shared = matched["n_shared_voxels"]
    objects = matched.rename(columns={"found_id": "matched_id"})
    objects.insert(1, "met", objects["object_id"].isin(rules.known))
    objects.insert(2, "scored", objects["n_voxels"] >= rules.smallest)
    objects["precision"] = (shared / matched["n_found_voxels"].where(shared > 0, 1)).astype(np.float64)
    objects["recall"] = (shared / matched["n_voxels"]).astype(np.float64)
    return objects


def _dice_scores(objects: pd.DataFrame) -> dict[str, Any]:
    rows = objects[objects["scored"]]
    every, met, unmet = (summarise_dice(part) for part in (rows, rows[rows["met"]], rows[~rows["met"]]))
    return {
        "n_cells": every.n_objects,
        "n_cells_met": met.n_objects,
        "n_cells_too_small": len(objects) - len(rows),
        "dice_mean": _or_none(every.mean),
        "dice_sd": _or_none(every.sd),
        "dice_median": _or_none(float(rows["dice"].median())),
        "dice_worst": _or_none(every.worst),
        "dice_worst_id": every.worst_id or None,
        "dice_met_mean": _or_none(met.mean),
        "dice_unmet_mean": _or_none(unmet.mean),
    }


def _pair_scores(table: Contingency, smallest: int, any_slice: bool) -> dict[str, float | None]:
    if not any_slice:
        names = ("pq", "ap50", "ap75", "voi_split", "voi_merge", "arand", "arand_precision", "arand_recall")
        return dict.fromkeys((*names, "dice_by_match_mean"))
    at_half = detections(table)
    information, rand = variation_of_information(table), adapted_rand_error(table)
    return {
        "pq": at_half.panoptic_quality,
        "ap50": at_half.average_precision,
        "ap75": detections(table, 0.75).average_precision,
        "voi_split": information.split,
        "voi_merge": information.merge,
        "arand": rand.error,
        "arand_precision": rand.precision,
        "arand_recall": rand.recall,
        "dice_by_match_mean": _or_none(summarise_dice(dice_by_match(table, smallest)).mean),
    }


def _slice_row(z: int, table: Contingency, rules: CellRules) -> dict[str, Any]:
    distance = min((abs(z - other) for other in rules.labelled), default=None)
    scores = summarise_dice(dice_by_id(table))
    return {
        "z": z,
        "labelled": distance == 0,
        "distance_slices": distance,
        "distance_nm": math.nan if distance is None else distance * rules.depth_nm,
        "n_cells": scores.n_objects,
        "dice": scores.mean,
        "worst": scores.worst,
        "worst_id": scores.worst_id,
    }


def _or_none(score: float) -> float | None:
    return None if math.isnan(score) else score


def cells_table(scores: Mapping[str, Any]) -> str:
    """Return the scores of cells as a few lines for a terminal."""
    columns = ("dice_mean", "dice_sd", "dice_median", "dice_worst", "pq", "ap50", "ap75")
    more = ("voi_split", "voi_merge", "arand", "island_share")
    head = f"{scores['class']}: {scores['n_cells']} cells on {scores['n_scored_slices']} slices, from {scores['run']}"
    if words := with_corrections(scores.get("n_corrections", 0)):
        head += f" {words}"
    if scores["dice_worst_id"] is not None:
        head += f"; the worst is {scores['dice_worst_id']}"
    lines = [head, *_lines(scores, columns), *_lines(scores, more)]
    if before := scores.get("before_corrections"):
        lines += ["before corrections:", *_lines(before, columns), *_lines(before, more)]
    return "\n".join(lines)


def _lines(scores: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    shown = ("–" if scores[column] is None else f"{scores[column]:.4f}" for column in columns)
    return ["".join(f"{column:>14}" for column in columns), "".join(f"{value:>14}" for value in shown)]
