"""`cristae status`: how far each stage of a project is, read from its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cristae.errors import CristaeError
from cristae.project import Project, Run
from cristae.stages.corrected import corrections_of, layers_of, newest_cells
from cristae.stages.correcting import edits_of
from cristae.stages.objects import objects_inputs
from cristae.stages.prepared import PREPARING, source_of
from cristae.stages.score_cells import cells_inputs, find_cells

_RESTS_ON: Mapping[str, tuple[str, ...]] = {
    "predict": ("train",),
    "cells": ("predict",),
    "track": ("cells",),
    "objects": ("predict",),
    "anatomy": ("objects", "track"),
    "evaluate": ("predict",),
    "measure": ("objects", "track"),
    "study_cells": ("predict",),
    "mesh": ("objects", "track"),
    "render": ("mesh",),
    "advise": ("predict",),
    "quality": ("predict", "objects"),
    "doctor": ("crossvalidate",),
}
"""The stages whose newest runs a stage takes."""

_NAMED = ("predict", "cells", "track", "objects", "anatomy", "mesh", "crossvalidate")
"""Stages of which the newest run can be an input."""

Condition = Literal["missing", "done", "running", "interrupted", "failed", "stale"]


@dataclass(frozen=True)
class StageStatus:
    """One line of the overview.

    Parameters
    ----------
    stage
        Its name.
    condition
        ``missing`` (not begun), ``done``, ``running``, ``interrupted`` (resumable), ``failed``, or ``stale``: done,
        but its inputs have changed since.
    detail
        What there is, or what to do next.
    """

    stage: str
    condition: Condition
    detail: str


def status(project: Project) -> list[StageStatus]:
    """Return one entry per stage, in the order of the pipeline."""
    try:
        image = project.image
    except CristaeError as error:
        found = [StageStatus("import image", "running" if project.locked else "missing", str(error))]
        return found + ([*_truth(project), _stage(project, "measure")] if project.truth_classes else [])
    grid = image.grid
    size = " × ".join(map(str, grid.shape))
    voxel = " × ".join(f"{length:g}" for length in grid.voxel_size)
    used = f", made by {project.file.prepared}" if project.file.prepared else ""
    found = [StageStatus("import image", "done", f"{size} voxels of {voxel} nm (z, y, x), {image.dtype}{used}")]
    found += [_stage(project, stage) for stage in PREPARING if project.runs(stage)]
    annotations = project.annotations
    words = [
        f"{name}: {len(annotations.labelled_slices(name))} slices "
        f"({len(annotations.complete_slices(name))} complete), {annotations.n_voxels(name)} voxels"
        for name in annotations.classes
    ]
    nothing = f"next: cristae import labels {project.path} SOURCE --class NAME"
    found.append(StageStatus("import labels", "done" if words else "missing", "; ".join(words) or nothing))
    found += _truth(project)
    if project.runs("check"):
        found.insert(1, _stage(project, "check"))
    cells = any(annotations.has_instances(name) for name in annotations.classes)
    organelles = any(not annotations.has_instances(name) for name in annotations.classes)
    further = (*(("cells", "track") if cells else ()), *(("objects", "anatomy") if cells and organelles else ()))
    studies = tuple(
        stage
        for stage in ("study_networks", "study_cells", "mesh", "render", "advise", "quality", "doctor")
        if project.runs(stage)
    )
    stages = ("train", "predict", *further, "evaluate", "crossvalidate", "measure", *studies)
    found += [_stage(project, stage) for stage in stages]
    return found + _corrections(project) + _effort(project)


def _corrections(project: Project) -> list[StageStatus]:
    """Return a line for each layer that people corrected."""
    found = []
    for name, (n_edits, applied) in edits_of(project).items():
        after = "applied" if applied else f"next: cristae correct apply {project.path} --layer {name}"
        edits = f"{n_edits} edit{'s' * (n_edits != 1)}"
        found.append(StageStatus("correct", "done" if applied else "stale", f"{name}: {edits}; {after}"))
    return found


def _effort(project: Project) -> list[StageStatus]:
    from cristae.stages.effort import effort_in_words  # noqa: PLC0415  tables are slow to load

    words = effort_in_words(project)
    return [StageStatus("effort", "done", words)] if words else []


def _truth(project: Project) -> list[StageStatus]:
    truth = project.truth
    words = [f"{name}: {len(truth.labelled_slices(name))} slices" for name in truth.classes]
    return [StageStatus("import truth", "done", "; ".join(words))] if words else []


def current_inputs(project: Project, run: Run) -> Mapping[str, str]:
    """Return what the inputs of a run are now, for those that can have changed since."""
    trained = project.latest("train")
    # Output maps have other names than the classes of instances whose labels they are learnt from.
    classes = run.manifest.get("learnt") or run.manifest.get("classes") or None
    if run.stage in ("train", "crossvalidate") and not run.settings.get("classes"):
        # All classes with labels were meant, also those that have got some since.
        classes = [name for name in project.classes if name in project.annotations.classes]
    if run.stage in ("measure", "mesh") and not run.settings.get("classes"):
        classes = None
    now = {
        "image": project.image_fingerprint,
        "pixels": str(project.image_facts.get("digest")),
        "stated_nm": str(project.image_facts.get("stated_voxel_size_nm")),
        "labels": project.annotations.fingerprint(classes) if project.has_image else "",
        "truth": project.truth.fingerprint(classes),
        "raw": project.raw_fingerprint,
        "train": trained.id if trained else "",
        "voxel_size_nm": str(project.file.voxel_size_nm),
        "weights": str(trained.manifest.get("weights")) if trained else "",
        **{stage: _name(project.latest(stage)) for stage in _NAMED},
    }
    if run.stage == "equalise":
        now["from"] = str(source_of(project)[1].get("digest"))
    if run.stage == "quality":
        now |= {stage: _name(fresh(project, stage)) for stage in ("crossvalidate", "anatomy", "track")}
    if run.stage == "evaluate":
        now |= cells_inputs(project, find_cells(project))
    inputs = run.manifest.get("inputs", {})
    found = {name: now[name] for name in inputs if name in now}
    return found | _corrections_now(project, run, inputs)


def _corrections_now(project: Project, run: Run, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return which corrections a run would take now, of the layers that it rests on."""
    found = {name: "" for name in inputs if name.startswith("corrected_")}
    predicted = project.latest("predict")
    if run.stage == "objects" and predicted:
        now = objects_inputs(project, predicted)
        return found | {name: value for name, value in now.items() if name != "predict"}
    for source in _corrected_sources(project, run):
        found |= corrections_of(project, source, layers_of(source) if source else ())
    return found


def _corrected_sources(project: Project, run: Run) -> tuple[Run | None, ...]:
    """Return the runs whose layers, but for masks, a stage takes with the corrections that were applied."""
    if run.stage == "track":
        return (project.latest("cells"),)
    if run.stage == "evaluate":
        cells = find_cells(project)
        return (cells.run if cells else None,)
    if run.stage == "quality":
        return fresh(project, "track"), project.latest("objects")
    if run.stage in ("anatomy", "measure", "mesh") and run.settings.get("source", "found") == "found":
        return newest_cells(project), project.latest("objects")
    return ()


def corrected_since(project: Project, run: Run) -> bool:
    """Say whether corrections were applied, after a run was made, to layers that it rests on."""
    inputs = run.manifest.get("inputs", {})
    now = _corrections_now(project, run, inputs)
    return any(value and inputs.get(name) != value for name, value in now.items())


def changed_inputs(project: Project, run: Run) -> frozenset[str]:
    """Return the names of the inputs of a run that are others now: ``image``, ``labels``, ``predict``..."""
    inputs = run.manifest.get("inputs", {})
    return frozenset(name for name, value in current_inputs(project, run).items() if inputs.get(name) != value)


def is_stale(project: Project, run: Run) -> bool:
    """Say whether the inputs of a finished run have changed since, or those of a run it rests on."""
    if changed_inputs(project, run):
        return True
    rests_on = () if _rests_on_truth(run) else _RESTS_ON.get(run.stage, ())
    before = [project.latest(stage) for stage in rests_on]
    before += [other for other in project.runs() if other.path.name == run.manifest.get("cells_scored")]
    return any(other is not None and is_stale(project, other) for other in before)


def fresh(project: Project, stage: str) -> Run | None:
    """Return the latest run of a stage if nothing that it was made from has changed since."""
    run = project.latest(stage)
    return None if run is None or is_stale(project, run) else run


def _rests_on_truth(run: Run) -> bool:
    return run.stage in ("measure", "mesh") and run.settings.get("source") == "truth"


def _name(run: Run | None) -> str:
    """Return what a run is called among the inputs of those that rest on it."""
    return run.as_input if run else ""


def _command(project: Project, stage: str) -> str:
    """Return the command that would do a stage, or what it needs first."""
    if stage == "crossvalidate":
        return f"evaluate {project.path} --cross-validate"
    if stage == "evaluate" and not project.truth.classes:
        return f"import truth {project.path} SOURCE --class NAME, or cross-validate"
    return f"{stage} {project.path}"


def _stage(project: Project, stage: str) -> StageStatus:
    runs, finished = project.runs(stage), project.latest(stage)
    last = runs[-1] if runs else None
    if last and not last.finished:
        kept = str(last.manifest.get("status"))
        if kept == "running" and project.locked:
            return StageStatus(stage, "running", last.path.name)
        condition: Condition = "failed" if kept == "failed" else "interrupted"
        return StageStatus(stage, condition, f"{last.path.name}; the same command goes on with it")
    if finished is None:
        return StageStatus(stage, "missing", f"next: cristae {_command(project, stage)}")
    seconds = float(finished.manifest.get("seconds", 0))
    detail = f"{finished.path.name}, {seconds:.0f} s, {finished.manifest.get('peak_memory_mb', 0):.0f} MB"
    return StageStatus(stage, "stale" if is_stale(project, finished) else "done", detail)
