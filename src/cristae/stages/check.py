"""`cristae check`: what is wrong with an image, and in which slices, before anything is learnt from it.

The image is read once, slice by slice; a few numbers, and a coarse picture of each slice, are kept, so that memory does
not depend on the size of the volume, and a killed check goes on with the slices it was at::

    runs/check-<id>/    check (.parquet, .csv: a row per slice) · findings (.csv, .json) · check (.svg, .png)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.allocation import keep_freed_memory
from cristae.blockwise import Journal, Progress
from cristae.errors import UsageError
from cristae.files import write_atomically
from cristae.io.ome_zarr import CHUNK
from cristae.preprocess.inspect import LAGS, Fit, Look, fit, look
from cristae.preprocess.stack import KINDS, NUMBERS, SEVERE, Finding, Stack, stack_of, table_of
from cristae.preprocess.verdicts import THRESHOLD, Verdict, judge
from cristae.preprocess.wording import ADVICE, TITLES
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.check_figure import draw_check
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import keep_memory_of_image
from cristae.stages.options import Options
from cristae.stages.planes import Planes
from cristae.volume import Volume
from cristae.wording import number_ranges

SLAB = CHUNK[0]
"""Slices that are measured between two notes in the journal."""
_COLUMNS = {
    "dark": "clipped_dark",
    "bright": "clipped_bright",
    "stripes": "stripes_vertical",
    "rows": "stripes_horizontal",
}
_ALIKE = 0.01
"""A voxel size that differs by less than this share is the same."""


class CheckSettings(BaseModel):
    """Settings of `cristae check`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(
        THRESHOLD,
        ge=2,
        le=100,
        description="robust standard deviations off its neighbours from which on a slice is reported; less finds more",
    )


def check_settings(project: Project, changes: Mapping[str, Any]) -> CheckSettings:
    """Return the settings of a check: defaults, then project file, then `changes`."""
    return resolve_settings(CheckSettings, project.stage_settings("check"), changes)


def check(project: Project, settings: CheckSettings | None = None, options: Options | None = None) -> Run:
    """Look over the image of a project and name what is wrong with it, and where.

    Writes ``check`` (a row per slice with every measure, scores from 1 on where it is flagged, and flags) as Parquet
    and CSV, ``findings.csv`` and ``findings.json`` (what, where, how bad, what to do) and a figure of the measures
    along z.
    Nothing is changed; see `exclude_severe`.

    Raises
    ------
    DataError
        If there is no image.
    ResourceError
        If the project is in use, the disk is full, or more memory is needed than allowed.
    """
    settings, options = settings or check_settings(project, {}), options or Options()
    image, facts = project.image, project.image_facts
    inputs = {
        "pixels": str(facts["digest"]),
        "voxel_size_nm": str(project.file.voxel_size_nm),
        "stated_nm": str(facts.get("stated_voxel_size_nm")),
    }
    run = project.run("check", settings, inputs)
    if nothing_to_do(project, run, options):
        return run
    options = keep_memory_of_image("check", image.grid, image.dtype.itemsize, options)
    keep_freed_memory()
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            _clear(run)
        stack = _measure(image, run.path / ".slices", options)
        z, y, x = image.grid.voxel_size
        verdict = judge(stack, z / (0.5 * (y + x)), settings.threshold)
        findings = [*_stated(facts.get("stated_voxel_size_nm"), image.grid.voxel_size), *verdict.findings]
        table = slice_table(stack, verdict)
        table.to_parquet(run.path / "check.parquet", index=False)
        table.to_csv(run.path / "check.csv", index=False)
        _write_findings(run.path, findings)
        draw_check(table, run.path / "check.svg", run.path / "check.png")
        shown = [one.kind for one in findings]
        run.update(
            n_slices=len(stack),
            n_findings={kind: shown.count(kind) for kind in KINDS if kind in shown},
            severe_slices=severe_slices(verdict),
            slice_thickness_px=_number(verdict.spacing_px),
            likeness_by_lag=[_number(value) for value in verdict.lags],
        )
        _clear(run)
    return run


def exclude_severe(project: Project, run: Run, options: Options | None = None) -> tuple[int, ...]:
    """Add the slices with severe faults to the bad ones of the project, and return all of these."""
    return exclude_slices(project, run.manifest["severe_slices"], (), options)


def exclude_slices(
    project: Project, bad: Sequence[int], good: Sequence[int] = (), options: Options | None = None
) -> tuple[int, ...]:
    """Add slices to the bad ones in the project file, take others out, and return all that are bad now.

    Nothing is learnt or measured from bad slices; neighbours stand in for them, flow and tracking bridge them. Results
    made before count as stale.

    Raises
    ------
    UsageError
        If the image does not have such slices, one is named as bad and as good, or no slice would be left.
    ResourceError
        If the project is in use.
    """
    options = options or Options()
    if both := sorted(set(bad) & set(good)):
        raise UsageError(f"slices {number_ranges(both)} are to be left out and taken in at once; choose one")
    with project.lock():
        found = project.set_bad_slices({*project.file.bad_slices, *bad} - set(good))
    annotations = project.annotations
    labelled = {z for name in annotations.classes for z in annotations.labelled_slices(name)} & set(found)
    if labelled:
        options.notify(
            f"check: slices {number_ranges(labelled)} are labelled; their labels are not learnt from any more"
        )
    return found


def severe_slices(verdict: Verdict) -> list[int]:
    """Return the slices with a fault of a severe kind; missing ones are left out of everything already."""
    kinds = SEVERE - {"missing"}
    n = len(verdict.scores["missing"])
    return [z for z in range(n) if kinds & set(verdict.flags(z))]


def slice_table(stack: Stack, verdict: Verdict) -> pd.DataFrame:
    """Return a row per slice: measures, scores (1 and above is reported) and flags."""
    z = np.arange(len(stack))
    before = np.where(stack.same >= 0, stack.same, z - stack.copy_lag)
    columns: dict[str, Any] = {"z": z, "blank": stack.blank}
    columns |= {_COLUMNS.get(name, name): getattr(stack, name) for name in NUMBERS}
    columns |= {f"likeness_{k + 1}": stack.likeness[:, k] for k in range(stack.likeness.shape[1])}
    columns |= {"shift_y_px": stack.shift[:, 0], "shift_x_px": stack.shift[:, 1]}
    columns |= {"copy": stack.copy, "likest_copy": np.where(stack.copy_lag > 0, before, -1)}
    columns |= {f"score_{kind}": verdict.scores[kind] for kind in KINDS if kind in verdict.scores}
    columns["flags"] = [" ".join(verdict.flags(int(at))) for at in z]
    return pd.DataFrame(columns)


def findings_in_words(project: Project, run: Run) -> str:
    """Return what a check found, for the terminal: a line each, the worst first."""
    content = json.loads((run.path / "findings.json").read_text())
    n = content["n_slices"]
    if not content["findings"]:
        return f"{n} slices: nothing wrong was found"
    lines = [f"{n} slices, {len(content['findings'])} findings"]
    for one in content["findings"]:
        where = f"slice{'s' * (len(one['slices']) > 1)} {one['where']}" if one["slices"] else "the whole volume"
        lines.append(f"  {one['what']} ({one['how_bad']}), {where}: {one['words']}. To do: {one['advice']}.")
    severe = sorted(set(run.manifest["severe_slices"]) - set(project.file.bad_slices))
    if severe:
        lines.append(f"leave slices {number_ranges(severe)} out: cristae check {project.path} --exclude")
    if project.file.bad_slices:
        lines.append(f"left out as bad: slices {number_ranges(project.file.bad_slices)}")
    return "\n".join(lines)


def _measure(image: Volume, folder: Path, options: Options) -> Stack:
    """Measure all slices, going on where a killed check stopped; what is measured is kept slab by slab."""
    folder.mkdir(exist_ok=True)
    journal, tiling = Journal(folder / "journal"), f"slabs of {SLAB} of {image.shape}"
    finished = journal.finished(tiling)
    slabs, depth = range(0, image.shape[0], SLAB), image.shape[0]
    todo = [start for start in slabs if str(start) not in finished]
    measuring, crew, progress = _Slabs(image, folder), options.crew(folder), options.progress("check")
    if crew.kind == "dask":
        for done, start in enumerate(crew.unordered(measuring, todo), start=len(slabs) - len(todo) + 1):
            journal.add(tiling, str(start))
            progress(min(done * SLAB, depth), depth)
    else:
        for start in measuring.in_turn(todo, crew.n_here, progress):
            journal.add(tiling, str(start))
    parts = []
    for start in slabs:
        with np.load(measuring.file(start), allow_pickle=False) as stored:
            parts.append(dict(stored))
    progress(depth, depth)
    return stack_of(parts)


@dataclass(frozen=True)
class _Slabs:
    """Measures the slices of a slab, each against those before it, and keeps what was measured."""

    image: Volume
    folder: Path

    def file(self, start: int) -> Path:
        """Return where the measures of a slab are kept."""
        return self.folder / f"{start}.npz"

    def __call__(self, start: int) -> int:
        """Measure one slab alone."""
        planes = Planes(self.image, thickness=SLAB)
        before = self._before(planes, start)
        self._keep(start, (look(planes[z]) for z in self._slices(start)), before)
        return start

    def in_turn(self, todo: Sequence[int], n_threads: int, progress: Progress) -> Iterator[int]:
        """Measure slabs one after the other in this process, the slices of each side by side."""
        planes, depth = Planes(self.image, thickness=SLAB), self.image.shape[0]
        before, known = list[Look](), 0  # the slices before `known`
        with ThreadPoolExecutor(n_threads) as pool:
            for start in todo:
                if known != start:  # the slices before were measured by an earlier run
                    before = self._before(planes, start)

                def looks(start: int = start) -> Iterator[Look]:
                    for z, this in enumerate(pool.map(lambda z: look(planes[z]), self._slices(start)), start=start):
                        yield this
                        progress(z + 1, depth)

                before, known = self._keep(start, looks(), before), start + SLAB
                yield start

    def _slices(self, start: int) -> range:
        return range(start, min(start + SLAB, self.image.shape[0]))

    def _before(self, planes: Planes, start: int) -> list[Look]:
        """Look at the slices before a slab, the nearest first."""
        return [look(planes[z]) for z in range(start - 1, max(-1, start - 1 - LAGS), -1)]

    def _keep(self, start: int, looks: Iterable[Look], before: list[Look]) -> list[Look]:
        """Compare the slices of a slab with those before, keep all, and return what the next slab is compared with."""
        seen, fits = list[Look](), list[Fit]()
        for this in looks:
            fits.append(fit(this, before))
            seen.append(this)
            before = [this, *before][:LAGS]
        with self.file(start).open("wb") as file:
            np.savez(file, **table_of(seen, fits))  # type: ignore[arg-type]  # stubs take no dict of arrays
        return before


def _stated(stated: Sequence[float | None] | None, used: Sequence[float]) -> list[Finding]:
    """Compare the voxel size of the project with what its files state, as far as they do."""
    pairs = [(one, other) for one, other in zip(stated or (), used, strict=False) if one is not None]
    ratio = max((max(a / b, b / a) for a, b in pairs), default=1.0)
    if ratio <= 1 + _ALIKE:
        return []
    said = " × ".join("?" if one is None else f"{one:.4g}" for one in stated or ())
    words = (
        f"the files state voxels of {said} nm (z, y, x), the project says {' × '.join(f'{one:.4g}' for one in used)}"
    )
    return [Finding("voxel_size", (), max(1.0, ratio), words, ADVICE["voxel_size"])]


def _write_findings(folder: Path, findings: Sequence[Finding]) -> None:
    rows = [
        {
            "kind": one.kind,
            "what": TITLES[one.kind],
            "where": number_ranges(one.slices) if one.slices else "volume",
            "n_slices": len(one.slices),
            "how_bad": one.how_bad,
            "score": round(one.score, 3),
            "severe": one.severe,
            "words": one.words,
            "advice": one.advice,
        }
        for one in findings
    ]
    names = ("kind", "what", "where", "n_slices", "how_bad", "score", "severe", "words", "advice")
    pd.DataFrame(rows, columns=list(names)).to_csv(folder / "findings.csv", index=False)
    listed = [{**row, "slices": list(one.slices)} for row, one in zip(rows, findings, strict=True)]
    n_slices = len(pd.read_parquet(folder / "check.parquet", columns=["z"]))
    content = {"n_slices": n_slices, "findings": listed}
    write_atomically(folder / "findings.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _clear(run: Run) -> None:
    (run.path / ".slices" / "journal").unlink(missing_ok=True)  # first, for it says what is there
    shutil.rmtree(run.path / ".slices", ignore_errors=True)
