"""What the report shows of `cristae check`: what is wrong, the measures along z, and the worst slices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cristae.preprocess.stack import KINDS
from cristae.preprocess.wording import TITLES
from cristae.project import Project, Run
from cristae.report import overlays
from cristae.report.parts import Picture, Writer, read_slice
from cristae.stages.status import is_stale
from cristae.wording import number_ranges

MOST = 8
"""Slices shown."""
_CAPTION = (
    "Measures of every slice. Squares are faults that make a slice unfit to learn or measure from; lines below mark "
    "slices that are flagged for what the panel shows."
)
_UNSHOWN = ("missing", "gap", "drift", "voxel_size")
"""Faults of which a picture of the slice shows nothing."""


@dataclass(frozen=True)
class CheckSection:
    """Parts of the section.

    Parameters
    ----------
    run
        Name of the run folder.
    n_slices
        How many were looked at.
    findings
        Rows of ``findings.json``.
    left_out
        Slices that the project leaves out as bad, in words; empty without.
    figure
        The measures along z; None if there is no file.
    pictures
        The worst slices.
    stale
        What has changed since, or empty.
    """

    run: str
    n_slices: int
    findings: Sequence[Mapping[str, Any]]
    left_out: str
    figure: Picture | None
    pictures: Sequence[Picture]
    stale: str


def check_section(project: Project, writer: Writer) -> CheckSection | None:
    """Return what there is to show of the check that finished last, and write its pictures; None without one."""
    run = project.latest("check")
    if run is None:
        return None
    try:
        content = json.loads((run.path / "findings.json").read_text())
        table = pd.read_parquet(run.path / "check.parquet")
        findings, n_slices = list(content["findings"]), int(content["n_slices"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    stale = is_stale(project, run)
    bad = project.file.bad_slices
    return CheckSection(
        run.path.name,
        n_slices,
        findings,
        number_ranges(bad) if bad else "",
        _figure(run, findings, writer),
        () if stale else tuple(_pictures(project, table, writer)),
        "The image has changed since; check it again." if stale else "",
    )


def worst_slices(table: pd.DataFrame, n: int) -> dict[int, tuple[str, ...]]:
    """Return at most `n` slices with their faults, of every kind the worst, then the next worst of every kind.

    Parameters
    ----------
    table
        As `cristae.stages.check.slice_table` returns it.
    n
        How many.
    """
    kinds = [kind for kind in KINDS if kind not in _UNSHOWN and f"score_{kind}" in table]
    ranked = []
    for place, kind in enumerate(kinds):
        flagged = table[table[f"score_{kind}"] >= 1].sort_values([f"score_{kind}", "z"], ascending=[False, True])
        ranked += [(rank, place, int(z)) for rank, z in enumerate(flagged["z"])]
    chosen = list(dict.fromkeys(z for _, _, z in sorted(ranked)))[:n]
    rows = table.set_index("z")
    return {z: tuple(str(rows.loc[z, "flags"]).split()) for z in sorted(chosen)}


def _figure(run: Run, findings: Sequence[Mapping[str, Any]], writer: Writer) -> Picture | None:
    path = run.path / "check.svg"
    if not path.is_file():
        return None
    told = "; ".join(f"{one['what']}: {one['where']}" for one in findings) or "nothing wrong was found"
    return writer.figure(
        path.read_text(encoding="utf-8"), f"Measures of all slices along z. Findings: {told}.", _CAPTION
    )


def _pictures(project: Project, table: pd.DataFrame, writer: Writer) -> Iterator[Picture]:
    image = project.image
    pixel = image.grid.voxel_size[1], image.grid.voxel_size[2]
    for z, flags in worst_slices(table, MOST).items():
        words = ", ".join(TITLES[kind] for kind in flags)
        content = overlays.Slice(read_slice(image, z), pixel)
        yield writer.slice(overlays.draw(content), f"Slice {z} of the micrograph: {words}.", f"Slice {z}: {words}")
