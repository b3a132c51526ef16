"""`cristae study cells`: Table 2 of Machireddy et al. (2023) on a volume of your own, at several distances of labels.

For whoever has to decide by which method cells are to be found, and how many slices to paint. Of a truth with ids,
every n-th slice is shown to a method, and the others are scored::

    gap 10    |.........|.........|.........|....    | shown, from the first slice with truth on
    gap 25    |........................|.........    . separated and scored, wherever there is truth

One row per gap and method is kept as soon as it is known, so that a killed study goes on with the next one.

Paper: A. Machireddy et al. (2023), Front. Bioinform. 3, 1308708, §5.5, Table 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.allocation import keep_freed_memory
from cristae.blockwise import Journal
from cristae.costs.steps import Memory
from cristae.costs.trials import study_cells_memory
from cristae.costs.work import Separation, Work
from cristae.errors import DataError, UsageError
from cristae.files import write_atomically
from cristae.io.ome_zarr import open_volume
from cristae.project import Project, Run
from cristae.separation.separate import METHODS
from cristae.settings import resolve_settings
from cristae.stages.cells_settings import CellsSettings, cells_settings
from cristae.stages.finished import nothing_to_do
from cristae.stages.gaps import GapSources
from cristae.stages.left_out import LeftOut, Plan, plan_gap
from cristae.stages.limits import n_threads, within
from cristae.stages.options import Options
from cristae.stages.table2 import COPY_NEAREST, in_words, markdown
from cristae.volume import Volume
from cristae.wording import number_ranges

_ELSEWHERE = {"preset", "name", "method", "slices", "tries", "try_px", "max_ram_gb"}
"""Settings of `cells` that change nothing here."""
_ROWS = "one row per gap and method"
_FROM = {"nearest": "the nearest labelled slice", "both": "the labelled slices on both sides"}
_SEEDS = {"depth": "their deepest pixel", "centroid": "the pixel nearest to their centroid"}


class StudyCellsSettings(BaseModel):
    """Settings of `cristae study cells`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("", description="class of instances in the truth; empty means the only one there is")
    gaps: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (10, 25, 50, 100), min_length=1, description="slices from one labelled slice to the next"
    )
    methods: tuple[str, ...] = Field((), description="methods to compare, by name; empty means all")
    smallest_um3: float = Field(2e-4, ge=0, description="cells of less volume on the scored slices are not scored, µm³")
    reduction: int = Field(1, ge=1, le=16, description="slices are reduced by this along y and x before all else")


def study_cells_settings(project: Project, changes: Mapping[str, Any]) -> StudyCellsSettings:
    """Return the settings of a study: defaults, then project file, then `changes`."""
    settings = resolve_settings(StudyCellsSettings, project.stage_settings("study_cells"), changes)
    unknown = [name for name in settings.methods if name not in (*METHODS, COPY_NEAREST)]
    if unknown:
        raise UsageError(f"unknown methods {', '.join(unknown)}; there are {', '.join((*METHODS, COPY_NEAREST))}")
    return settings


def study_cells(
    project: Project,
    settings: StudyCellsSettings | None = None,
    options: Options | None = None,
    how: CellsSettings | None = None,
) -> Run:
    """Compare all methods of separating cells on slices of the truth that they are not shown.

    Writes ``table2.csv`` and ``table2.parquet`` (one row per gap and method), ``table2.md`` (in the form of the paper),
    and ``table2.png`` and ``table2.svg`` (Dice over gap).

    Parameters
    ----------
    project
        With a truth that tells cells apart. Maps are those of the latest prediction; without any, only flow is tried.
    settings
        Defaults with the changes of the project file if not given.
    options
        How to work. With ``threads:N``, stretches between labelled slices are worked off side by side.
    how
        How cells are separated; the settings of `cells` in the project file if not given.

    Raises
    ------
    DataError
        If there is no truth, it does not tell cells apart, no gap fits in its slices, or no method has the maps it
        needs.
    UsageError
        If a method is unknown, or there are several classes of instances and none is named.
    ResourceError
        If the project is in use, the disk is full, or more memory is needed than allowed.
    """
    settings, options = settings or study_cells_settings(project, {}), options or Options()
    how = how or cells_settings(project, {})
    name = _class_name(project, settings.name)
    plans = _plans(project, name, settings.gaps, options)
    predicted = project.latest("predict")
    inputs = {
        "image": project.image_fingerprint,
        "truth": project.truth.fingerprint([name]),
        "predict": predicted.as_input if predicted else "",
        "separation": json.dumps(how.model_dump(mode="json", exclude=_ELSEWHERE), sort_keys=True),
    }
    run = project.run("study_cells", settings, inputs)
    if nothing_to_do(project, run, options, "study cells"):
        return run
    interior, boundary = (_map(predicted, f"{name}_{part}") for part in ("interior", "boundary"))
    sources = GapSources(project, name, interior, boundary, (), from_truth=True)
    methods = _methods(sources, settings.methods, options)
    learnt_from = _learnt_from(project, predicted, name)
    left_out = LeftOut(sources, how, settings.reduction, settings.smallest_um3)
    options = _keep_memory(left_out, plans, options)
    keep_freed_memory()
    options.check()
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            (run.path / "rows").unlink(missing_ok=True)
        size = " × ".join(f"{length:g}" for length in project.image.grid.voxel_size)
        options.notify(
            f"study cells: {name}, {len(methods)} methods, gaps of {', '.join(str(plan.gap) for plan in plans)} "
            f"slices, voxels of {size} nm (z, y, x)"
        )
        table = _score_all(left_out, plans, methods, run, options)
        words = in_words(table)
        notes = [*_notes(left_out, plans), *_notes_on_maps(plans, predicted, learnt_from)]
        _write(run, table, words, notes)
        run.update(name=name, learnt=[name], gaps=[plan.gap for plan in plans], sentence=words, notes=notes)
    options.notify(f"study cells: {words}")
    return run


def needs(left_out: LeftOut, plans: Sequence[Plan], options: Options) -> tuple[Memory, int]:
    """Return what a study needs, and how many stretches it works on at a time."""
    image, growth = left_out.sources.project.image, left_out.how.growth_gb * 2**30
    longest = max(last - first + 1 for plan in plans for first, last in plan.stretches)
    separation = replace(Separation(), growth=growth)
    work = Work(image.shape, image.dtype.itemsize, longest_gap=longest, separation=separation)
    return study_cells_memory(work, left_out.reduction), max(1, n_threads(options))


def _keep_memory(left_out: LeftOut, plans: Sequence[Plan], options: Options) -> Options:
    memory, workers = needs(left_out, plans, options)
    return within("study cells", memory, (0.0, workers), options)[1]


def _class_name(project: Project, wanted: str) -> str:
    """Return the class of instances in the truth that is meant."""
    truth = project.truth
    command = f"cristae import truth {project.path} SOURCE --class {wanted or 'cell'} --instances"
    names = [name for name in truth.classes if truth.has_instances(name)]
    if wanted in truth.classes and wanted not in names:
        raise DataError(f"the truth of {wanted} are masks, which do not tell cells apart; import ids with: {command}")
    if not names or (wanted and wanted not in names):
        there = f" (there are masks of {', '.join(truth.classes)})" if truth.classes and not names else ""
        raise DataError(
            f"{project.path} has no truth with ids of {wanted or 'cells'}{there}; import it with: {command}"
        )
    if not wanted and len(names) > 1:
        raise UsageError(
            f"there are several classes of instances in the truth ({', '.join(names)}); name one: "
            "--set study_cells.name=..."
        )
    return wanted or names[0]


def _plans(project: Project, name: str, gaps: Sequence[int], options: Options) -> list[Plan]:
    slices = project.truth.labelled_slices(name)
    found = {gap: plan_gap(gap, slices) for gap in sorted(set(gaps))}
    absent = [str(gap) for gap, plan in found.items() if plan is None]
    plans = [plan for plan in found.values() if plan is not None]
    if not plans:
        raise DataError(
            f"no gap of {', '.join(absent)} slices fits in the slices with truth of {name} ({number_ranges(slices)}): "
            "expected truth at both ends of a gap, and on a slice between; choose others with "
            "--set 'study_cells.gaps=[...]', or import more truth"
        )
    if absent:
        options.notify(
            f"study cells: gaps of {', '.join(absent)} slices are left out, as they do not fit in the slices with "
            f"truth ({number_ranges(slices)})"
        )
    return plans


def _map(predicted: Run | None, name: str) -> Volume | None:
    if predicted is None or name not in predicted.manifest["classes"]:
        return None
    return open_volume(predicted.path / f"{name}.ome.zarr")


def _methods(sources: GapSources, wanted: Sequence[str], options: Options) -> list[str]:
    """Return the methods that can be tried, in the order of the table; copying the nearest slice is always there."""
    chosen = [name for name in METHODS if name in (wanted or METHODS)]
    found = [name for name in chosen if sources.can(name)]
    absent = [name for name in chosen if name not in found]
    command = f"cristae train {sources.project.path} and cristae predict {sources.project.path}"
    if absent and not found:
        raise DataError(f"{', '.join(absent)} need maps of {sources.name} that were not predicted; run {command}")
    if absent:
        options.notify(
            f"study cells: {', '.join(absent)} are left out, as they need maps of {sources.name} that were not "
            f"predicted; for them run {command}"
        )
    return [*found, COPY_NEAREST]


def _learnt_from(project: Project, predicted: Run | None, name: str) -> tuple[int, ...] | None:
    """Return the slices that the network of a prediction was trained on; None if that is not known."""
    folder = predicted.manifest.get("train_run") if predicted else None
    noted = [run.manifest.get("labelled_slices") for run in project.runs("train") if run.path.name == folder]
    if not noted or not isinstance(noted[0], Mapping):
        return None
    maps = [noted[0][key] for key in (f"{name}_interior", f"{name}_boundary") if key in noted[0]]
    return tuple(sorted({int(z) for slices in maps for z in slices})) if maps else None


def _notes(left_out: LeftOut, plans: Sequence[Plan]) -> list[str]:
    """Return what a reader of the table has to know of the scores."""
    how = left_out.how
    size = " × ".join(f"{length:g}" for length in left_out.voxel_size)
    return [
        f"Dice per cell by id, over all scored slices together; mean ± standard deviation over cells of at least "
        f"{left_out.smallest} voxels of {size} nm (z, y, x). A cell that no labelled slice meets counts 0 here.",
        f"Slices were matched by {how.flow}, reduced by {how.flow_reduction}; methods of flow carried labels from "
        f"{_FROM[how.neighbours]}, and cells were flooded from {_SEEDS[how.seeds]}.",
        *(
            f"Gap {plan.gap}: shown z {number_ranges(plan.labelled)}; {len(plan.scored)} slices scored, "
            f"{sum(z > plan.labelled[-1] for z in plan.scored)} of them behind the last one shown."
            for plan in plans
        ),
    ]


def _notes_on_maps(plans: Sequence[Plan], predicted: Run | None, learnt_from: tuple[int, ...] | None) -> list[str]:
    """Return what a reader has to know of the maps: above all, whether their network has seen what is scored."""
    if predicted is None:
        return ["There was no prediction, so that methods which need maps are left out."]
    maps = f"The maps are those of {predicted.path.name}"
    if learnt_from is None:
        return [f"{maps}; which slices its network was trained on is not known: it may have seen scored ones."]
    maps += f", whose network was trained on z {number_ranges(learnt_from)}"
    seen = {plan.gap: len(set(learnt_from) & set(plan.scored)) for plan in plans}
    if not any(seen.values()):
        return [f"{maps}: it has seen none that is scored."]
    words = ", ".join(f"{n} at gap {gap}" for gap, n in seen.items())
    return [
        f"{maps}: it has seen slices that are scored ({words}), on which methods that use maps look better than they "
        "are."
    ]


def _score_all(
    left_out: LeftOut, plans: Sequence[Plan], methods: Sequence[str], run: Run, options: Options
) -> pd.DataFrame:
    """Return the table, one row per gap and method; rows that are on disk are not made again."""
    journal = Journal(run.path / "rows")
    rows = {(int(row["gap_slices"]), str(row["method"])): row for row in journal.finished_rows(_ROWS)}
    crew = options.crew(run.path)
    progress, done = options.progress("study cells"), 0
    total = sum(plan.n_slices for plan in plans) * len(methods)
    for plan in plans:
        for method in methods:
            if (plan.gap, method) not in rows:

                def advance(n_slices: int, before: int = done) -> None:
                    progress(before + n_slices, total)

                row = left_out.score(plan, method, crew, advance)
                journal.add_row(_ROWS, row)
                rows[plan.gap, method] = row
                spread = f" ± {row['dice_sd']:.3f}" if row["n_cells"] > 1 else ""
                options.notify(f"study cells: gap {plan.gap}, {method}: Dice of cells {row['dice']:.3f}{spread}")
            done += plan.n_slices
    return pd.DataFrame([rows[plan.gap, method] for plan in plans for method in methods])


def _write(run: Run, table: pd.DataFrame, words: str, notes: Sequence[str]) -> None:
    from cristae.stages.study_figure import draw_study  # noqa: PLC0415  plotting is slow to load

    table.to_parquet(run.path / "table2.parquet", index=False)
    write_atomically(run.path / "table2.csv", table.to_csv(index=False))
    write_atomically(run.path / "table2.md", markdown(table, words, notes))
    draw_study(table, run.path / "table2.svg", run.path / "table2.png")
