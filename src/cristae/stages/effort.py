"""The meter of human effort of a project, read from its runs: labels and corrections, and what they brought."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from cristae.advice.effort import COLUMNS, count_corrections, meter, minutes_at_work
from cristae.corrections.journal import Journal
from cristae.errors import DataError
from cristae.project import Project, Run
from cristae.stages.draft import DRAFTS, TIMES

_BASES = {"evaluate": "truth", "crossvalidate": "left-out slices", "quality": "expected"}
_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00)\n", re.MULTILINE)
"""A line of `TIMES`, as a journal writes times."""
_CELLS = "cells by truth"
"""Basis of the mean Dice of cells, which corrections change, too."""


def effort(project: Project, corrections: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a row per score ever taken: when, how many slices were labelled and corrections made, and the Dice.

    Parameters
    ----------
    project
        Its finished evaluations, cross-validations and estimates of quality count, at the time at which they ended.
    corrections
        As `cristae.advice.effort.meter` takes them; those in the project without.
    """
    rows = [row for run in project.runs() if run.finished and run.stage in _BASES for row in _scores(project, run)]
    scores = pd.DataFrame(rows, columns=[name for name in COLUMNS if name not in ("n_corrections", "correcting_min")])
    return meter(scores, kept_corrections(project) if corrections is None else corrections)


def effort_in_words(project: Project) -> str:
    """Return how much was labelled and corrected so far, and the last score, in a line; empty where nothing was."""
    annotations = project.annotations
    slices = annotations.labelled_slices()
    n, minutes = count_corrections(kept_corrections(project))
    words = [f"{len(slices)} slice{'s' * (len(slices) != 1)} labelled"] if slices else []
    if slices and len(strokes := painting_times(project)):
        words[0] += f" ({minutes_at_work(strokes):.0f} min painting)"
    if n:
        words.append(f"{n} correction{'s' * (n != 1)} in {minutes:.0f} min at work")
    table = effort(project)
    for basis in (*_BASES.values(), _CELLS):
        rows = table[table["basis"] == basis]
        if len(rows):
            first, last = (rows[rows["run"] == rows["run"].iloc[at]] for at in (0, -1))
            course = f"{last['dice'].mean():.3f}"
            if first["run"].iloc[0] != last["run"].iloc[0]:
                course = f"{first['dice'].mean():.3f} → {course}"
            words.append(f"Dice {course} ({basis})")
    return ", ".join(words)


def kept_corrections(project: Project) -> pd.DataFrame | None:
    """Return the entries of the journals of corrections in a project: ``time`` and ``kind``; None without any.

    Drafts of labels are no corrections, and a journal that is damaged counts for nothing here.
    """
    rows: list[tuple[datetime, str]] = []
    for path in sorted((project.path / "corrections").glob("*/*/journal.jsonl")):
        if path.parents[1].name == DRAFTS:
            continue
        with contextlib.suppress(DataError):
            entries = Journal(path, {}, writable=False).entries
            rows += [(datetime.fromisoformat(entry.time), entry.kind) for entry in entries]
    return pd.DataFrame(rows, columns=["time", "kind"]) if rows else None


def painting_times(project: Project) -> np.ndarray:
    """Return when strokes of labels were painted: datetime64, ascending. Labels that were imported have none."""
    folder, times = project.path / "corrections" / DRAFTS, list[str]()
    if (folder / TIMES).is_file():
        # A line that a crash cut short is no time, nor is one that was added to it.
        times += _TIME.findall((folder / TIMES).read_text(encoding="utf-8", errors="replace"))
    for path in folder.glob("[!.]*/journal.jsonl"):  # the others are being removed
        with contextlib.suppress(DataError):
            times += [entry.time for entry in Journal(path, {}, writable=False).entries if entry.is_edit]
    found = pd.to_datetime(times, utc=True, format="ISO8601", errors="coerce").dropna()
    return np.sort(found.to_numpy("datetime64[ns]"))


def _scores(project: Project, run: Run) -> Iterator[tuple[Any, ...]]:
    manifest = run.manifest
    found: Mapping[str, Any] = manifest.get("expected_dice_3d" if run.stage == "quality" else "dice_3d") or {}
    labelled = _labelled(project, run)
    scores = [(_BASES[run.stage], name, dice) for name, dice in found.items()]
    scores.append((_CELLS, manifest.get("class_of_cells", "cell"), manifest.get("dice_cells")))
    for basis, name, dice in scores:
        if dice is not None and not math.isnan(float(dice)):
            time = datetime.fromtimestamp(float(manifest["ended"]), UTC)
            yield time, run.path.name, basis, str(name), len(labelled), float(dice)


def _labelled(project: Project, run: Run) -> set[int]:
    """Return the slices that the network of a score had learnt from, or, left out in turn, was scored on."""
    if run.stage == "crossvalidate":
        return {int(path.name.removeprefix("without-z")) for path in run.path.glob("without-z*")}
    wanted = str(run.manifest.get("inputs", {}).get("predict", "")).partition(" ")[0]
    predicted = next((one for one in project.runs("predict") if one.id == wanted), None)
    folder = str(predicted.manifest.get("train_run", "")) if predicted else ""
    trained = next((one for one in project.runs("train") if one.path.name == folder), None)
    noted = trained.manifest.get("labelled_slices") if trained else None
    return {int(z) for slices in noted.values() for z in slices} if isinstance(noted, Mapping) else set()
