"""What the report tells, read from the files of a project: runs, scores, settings, and what is stale or missing."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import BaseModel

from cristae.errors import CristaeError, DataError
from cristae.project import Project, Run
from cristae.stages.correcting import edits_of
from cristae.stages.score_cells import last_cells
from cristae.stages.status import changed_inputs, corrected_since
from cristae.volume import Volume

_MODULES = {"crossvalidate": ("train",), "train": ("train", "adapt")}
"""Stages whose settings are those of others."""


@dataclass(frozen=True)
class ScoreSet:
    """One evaluation: where it is, its ``scores.json``, and its tables (None where a file is missing)."""

    run: Run
    scores: dict[str, Any]
    slices: pd.DataFrame | None
    distance: pd.DataFrame | None

    @property
    def labelled(self) -> dict[str, list[int]]:
        """Per class, the slices that were painted for training."""
        return {name: list(facts.get("labelled_slices", ())) for name, facts in self.scores["classes"].items()}

    @property
    def is_cross_validation(self) -> bool:
        """Whether every slice was scored by a network that was trained without it."""
        return self.run.stage == "crossvalidate"

    @property
    def title(self) -> str:
        """What was compared, in a few words."""
        protocol = str(self.scores.get("protocol", "truth"))
        return "Agreement with the truth" if protocol == "truth" else f"Cross-validation: {protocol}"


@dataclass(frozen=True)
class Findings:
    """All that is known of a project when the report is made.

    Parameters
    ----------
    project
        The project.
    image
        The micrograph, read lazily; None when none was imported.
    classes
        Every class that is mentioned anywhere, those of the project first.
    train, predict
        The training and the prediction that the report shows; the training is that of the prediction.
    history
        Rows of ``history.csv`` of that training.
    score_sets
        Latest evaluation and latest cross-validation.
    problems
        What is stale, broken or suspicious, as sentences.
    hints
        What has not been done yet, with the command that does it.
    """

    project: Project
    image: Volume | None
    classes: tuple[str, ...]
    train: Run | None
    predict: Run | None
    history: pd.DataFrame | None
    score_sets: tuple[ScoreSet, ...]
    problems: tuple[str, ...]
    hints: tuple[str, ...]

    @property
    def labelled(self) -> dict[str, list[int]]:
        """Per class, the slices used for training, or those labelled so far when nothing was trained."""
        if self.train is not None and isinstance(self.train.manifest.get("labelled_slices"), Mapping):
            return {str(k): [int(z) for z in v] for k, v in self.train.manifest["labelled_slices"].items()}
        if self.image is None:
            return {}
        annotations = self.project.annotations
        return {name: list(annotations.labelled_slices(name)) for name in annotations.classes}


@dataclass(frozen=True)
class Setting:
    """One setting of a run: its value, the default and what it means (None and empty when the stage is unknown)."""

    name: str
    value: str
    default: str | None
    changed: bool
    meaning: str


def gather(project: Project) -> Findings:
    """Read all that the report tells about a project; what is missing is missing from the report, too."""
    problems: list[str] = []
    image = _image(project)
    predict = project.latest("predict")
    train = _training_of(project, predict)
    history = read_table(train, "history.csv", problems) if train else None
    sets = [_score_set(run, problems) for stage in ("evaluate", "crossvalidate") if (run := project.latest(stage))]
    score_sets = tuple(found for found in sets if found is not None)
    problems += _broken_runs(project)
    problems += _stale(project, train, predict, score_sets, image is not None)
    problems += _stale_cells(project)
    problems += _unapplied(project)
    problems += [
        f"{run.path.name}: {alarm}" for run in (train, predict) if run for alarm in run.manifest.get("alarms", ())
    ]
    return Findings(
        project,
        image,
        _class_names(project, predict, image is not None),
        train,
        predict,
        history,
        score_sets,
        tuple(problems),
        tuple(_hints(project, image is not None, bool(score_sets))),
    )


def settings_of(run: Run) -> list[Setting]:
    """Return the complete settings of a run, those that differ from the defaults first."""
    try:
        values = run.settings
    except (OSError, ValueError):
        return []
    fields = _fields(run.stage, values)
    rows = []
    for name in dict.fromkeys([*fields, *values]):
        default, meaning = fields.get(name, (None, ""))
        # Some settings are not noted where they have their default: a file knows no None.
        value = _in_words(values.get(name)) if name in values or default is None else default
        rows.append(Setting(name, value, default, default is not None and value != default, meaning))
    return sorted(rows, key=lambda row: not row.changed)


def _image(project: Project) -> Volume | None:
    try:
        return project.image
    except DataError:
        return None


def _training_of(project: Project, predict: Run | None) -> Run | None:
    """Return the training of a prediction, else the one finished last, else the one begun last."""
    runs = {run.path.name: run for run in project.runs("train")}
    used = runs.get(str(predict.manifest.get("train_run"))) if predict else None
    return used or project.latest("train") or next(reversed(runs.values()), None)


def _score_set(run: Run, problems: list[str]) -> ScoreSet | None:
    try:
        scores = json.loads((run.path / "scores.json").read_text())
        ordered = dict(scores["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        problems.append(f"{run.path.name} has no readable scores.json; evaluate again with --force")
        return None
    return ScoreSet(
        run,
        {**scores, "classes": ordered},
        read_table(run, "slices.csv", problems),
        read_table(run, "distance.csv", problems),
    )


def read_table(run: Run, name: str, problems: list[str]) -> pd.DataFrame | None:
    """Read a table of a run; None when there is none or no row in it."""
    try:
        table = pd.read_csv(run.path / name, dtype={"class": str}, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        problems.append(f"{run.path.name}/{name} cannot be read and is left out of this report")
        return None
    return table if len(table) else None


def _class_names(project: Project, predict: Run | None, has_image: bool) -> tuple[str, ...]:
    names = [*project.classes]
    if has_image:
        names += project.annotations.classes
    if predict:
        names += [str(name) for name in predict.manifest.get("classes", ())]
    return tuple(dict.fromkeys(names))


def _broken_runs(project: Project) -> Iterator[str]:
    busy = project.locked
    for run in project.runs():
        status = run.manifest.get("status")
        if status == "running" and busy:
            yield f"{run.path.name} is still running: this report shows the project as it was"
        elif status in ("running", "interrupted"):
            yield f"{run.path.name} was interrupted; repeat its command and it goes on where it stopped"
        elif status == "failed":
            yield f"{run.path.name} failed and is not shown"


def _stale(
    project: Project, train: Run | None, predict: Run | None, score_sets: tuple[ScoreSet, ...], has_image: bool
) -> Iterator[str]:
    """Say which results were made from something that has changed since."""
    newest = project.latest("train")
    if predict and newest and newest.path.name != predict.manifest.get("train_run"):
        yield f"the prediction was not made with the newest training, {newest.path.name}; predict again to see that"
    if not has_image:
        return
    if train and "labels" in changed_inputs(project, train):
        yield "the labels have changed since the training; train again to use them"
    for found in score_sets:
        changed = changed_inputs(project, found.run)
        if found.is_cross_validation and "labels" in changed:
            yield "the labels have changed since the cross-validation; repeat it"
        if "predict" in changed:
            yield "the scores are those of an earlier prediction; evaluate again"
        if "cells_found" in changed and not {"predict", "truth"} & changed:
            yield "the scores of cells are not those of the cells that there are now; evaluate again"
        if corrected_since(project, found.run):
            yield "cells were corrected since they were scored; evaluate again"
        if {"truth", "cells_truth"} & changed:
            yield "the truth has changed since the scores were made; evaluate again"


def _stale_cells(project: Project) -> Iterator[str]:
    """Say whether cells or tracks were made from something that has changed since."""
    last = last_cells(project)
    if last is None:
        return
    separated, tracked = last
    changed = changed_inputs(project, separated)
    if "labels" in changed:
        yield "the labels have changed since the cells were separated; separate them again"
    if "predict" in changed:
        yield "the cells are those of an earlier prediction; separate them again"
    if tracked is None and project.latest("track"):
        yield "the cells have been separated anew since they were followed, and are shown as separated; track again"


def _unapplied(project: Project) -> Iterator[str]:
    """Say which corrections nothing here rests on yet."""
    try:
        edits = edits_of(project)
    except CristaeError as error:
        yield f"corrections cannot be read: {error}"
        return
    for name, (n, applied) in edits.items():
        if not applied:
            yield (
                f"{name} is shown without its last corrections ({n} hold); apply them: cristae correct apply "
                f"{project.name} --layer {name}"
            )


def _hints(project: Project, has_image: bool, has_scores: bool) -> Iterator[str]:
    if not has_image:
        yield f"no image yet: cristae import image {project.name} SOURCE"
        return
    if not project.annotations.classes:
        yield f"no labelled slices yet: cristae import labels {project.name} SOURCE --class NAME"
    steps: list[tuple[str, Callable[[], bool]]] = [
        ("nothing has been trained yet: cristae train", lambda: project.latest("train") is not None),
        ("nothing has been predicted yet: cristae predict", lambda: project.latest("predict") is not None),
    ]
    if any(project.annotations.has_instances(name) for name in project.annotations.classes):
        steps += [
            ("cells have not been separated yet: cristae cells", lambda: project.latest("cells") is not None),
            ("cells have not been followed yet: cristae track", lambda: project.latest("track") is not None),
        ]
    for words, done in steps:
        if not done():
            yield f"{words} {project.name}"
    if project.latest("predict") and not has_scores:
        how = "" if project.truth.classes else " --cross-validate (there is no truth to score against)"
        yield f"the prediction has not been scored yet: cristae evaluate {project.name}{how}"


def _fields(stage: str, values: Mapping[str, Any]) -> dict[str, tuple[str | None, str]]:
    """Return defaults and meanings of the settings of a stage; empty for stages this version does not know."""
    if not re.fullmatch(r"[a-z_]+", stage):
        return {}
    try:
        modules = [importlib.import_module(f"cristae.stages.{name}") for name in _MODULES.get(stage, (stage,))]
    except ImportError:
        return {}
    for kind in (kind for module in modules for kind in vars(module).values()):
        fits = isinstance(kind, type) and issubclass(kind, BaseModel)
        if fits and kind.__name__.endswith("Settings") and set(values) <= set(kind.model_fields):
            return {
                key: (None if field.is_required() else _in_words(field.get_default()), field.description or "")
                for key, field in kind.model_fields.items()
            }
    return {}


def _in_words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
