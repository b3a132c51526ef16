"""One trial of `cristae study networks`: trained, scored on slices it was not shown, and kept.

::

    trial-<id>/   slices.parquet   a row per class and slice that was scored
                  result.json      written last: a trial with one is finished
                  history.csv      course of the training
                  shapes.npz       of first repeats, where there is truth: what a picture in 3D is drawn from

The id is a hash of all that a trial rests on, so that a larger study takes over what a smaller one has done.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cristae.allocation import keep_freed_memory
from cristae.annotations import Annotations
from cristae.errors import CristaeError, DataError, ResourceError, UsageError
from cristae.files import write_atomically
from cristae.learn.targets import targets_of
from cristae.project import Project
from cristae.stages.evaluate import EvaluateSettings
from cristae.stages.options import Options
from cristae.stages.predict import PredictSettings
from cristae.stages.predict_slices import predict_slices
from cristae.stages.score_masks import Pair, Scale, score_slices, summarise
from cristae.stages.study_grid import Trial
from cristae.stages.study_shapes import FILE, keep_shapes
from cristae.stages.train import learn
from cristae.stages.train_settings import TrainSettings


@dataclass(frozen=True)
class Bench:
    """What all trials of a study share.

    Parameters
    ----------
    project
        Of which slices are shown and scored.
    classes
        What is learnt.
    training, prediction, rules
        How; of the training, what a trial is about is replaced.
    from_truth
        Whether the truth is scored against, or else the labels themselves.
    budget_s
        Seconds of training per trial; 0 if all trials have the updates of `training`.
    inputs
        Fingerprints of image, labels and truth.
    keep_weights
        Whether the networks stay when they are scored.
    """

    project: Project
    classes: tuple[str, ...]
    training: TrainSettings
    prediction: PredictSettings
    rules: EvaluateSettings
    from_truth: bool
    budget_s: float
    inputs: Mapping[str, str]
    keep_weights: bool

    @property
    def source(self) -> Annotations:
        """What is scored against."""
        return self.project.truth if self.from_truth else self.project.annotations

    def settings(self, trial: Trial) -> TrainSettings:
        """Return the settings of the training of a trial."""
        about = {
            "classes": self.classes,
            "network": trial.network,
            "scheme": trial.scheme,
            "context_nm": trial.context_nm,
            "slices": trial.slices,
            "exclude_slices": (),
            "seed": self.training.seed + trial.repeat,
        }
        return self.training.model_copy(update=about)

    def scored(self, trial: Trial) -> list[int]:
        """Return the slices that a trial is scored on: all with truth of any class that it is not shown."""
        every = {z for name in self.classes for z in self.source.labelled_slices(name)}
        if not self.from_truth:
            every -= set(self.training.exclude_slices)
            every &= set(self.training.slices or every)
        return sorted(every - set(trial.slices))

    def name(self, trial: Trial) -> str:
        """Return the name of the folder of a trial: the same trial, the same name, in any study."""
        settings = self.settings(trial).model_dump(mode="json")
        if self.budget_s:  # how many updates fit is measured, and no part of what is asked for
            del settings["updates"]
        identity = {
            "training": settings,
            "budget_s": self.budget_s,
            "prediction": self.prediction.model_dump(mode="json", exclude={"max_ram_gb"}),
            "rules": self.rules.model_dump(mode="json"),
            "inputs": dict(self.inputs),
            "from_truth": self.from_truth,
            "scored": self.scored(trial),
            "cristae": version("cristae"),
        }
        text = json.dumps(identity, sort_keys=True)
        return f"trial-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def is_finished(folder: Path) -> bool:
    """Say whether a trial has been scored."""
    return (folder / "result.json").is_file()


def read_trial(folder: Path) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Return what a finished trial found: a row per class, and a table with a row per class and slice.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    try:
        return json.loads((folder / "result.json").read_text()), pd.read_parquet(folder / "slices.parquet")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is damaged ({error}); delete it and study again") from error


def scored_on(
    slices: Collection[int], rows: Sequence[Mapping[str, Any]], table: pd.DataFrame, rules: EvaluateSettings
) -> list[dict[str, Any]]:
    """Return what a trial found, as from `read_trial`, with the scores of some of its slices alone.

    A training that ran away has no slices, and keeps its 0.
    """
    scores = _scores(table[table["z"].isin(slices)], rules)
    return [{**row, **scores.get(row["class"], {})} for row in rows]


def do_trial(bench: Bench, trial: Trial, folder: Path, updates: int) -> None:
    """Train, score, and keep what was found in `folder`; an interrupted training goes on where it was.

    A training that runs away is a result, too: it scores 0.
    """
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    settings = bench.settings(trial).model_copy(update={"updates": updates})
    torch.use_deterministic_algorithms(settings.deterministic)
    try:
        facts = learn(bench.project, folder, settings, bench.classes, Options())
        table = _score(bench, trial, folder, facts)
        rows = _rows(bench, facts, table)
    except CristaeError as error:
        if isinstance(error, DataError | UsageError | ResourceError):
            raise
        rows, table = _failed(bench, updates, str(error)), score_slices([], {}, Scale((1.0, 1.0, 1.0)))
    about = {
        "network": trial.network,
        "scheme": trial.scheme,
        "context_nm": trial.context_nm,
        "n_slices": len(trial.slices),
        "slices": " ".join(map(str, trial.slices)),
        "repeat": trial.repeat,
    }
    table.to_parquet(folder / "slices.parquet", index=False)
    write_atomically(folder / "result.json", json.dumps([about | row for row in rows], indent=1) + "\n")
    if not bench.keep_weights:
        clear(folder)


def clear(folder: Path) -> None:
    """Remove the networks of a trial."""
    for inside in folder.iterdir():
        if inside.is_dir():
            shutil.rmtree(inside)


def _score(bench: Bench, trial: Trial, folder: Path, facts: Mapping[str, Any]) -> pd.DataFrame:
    source, slices = bench.source, bench.scored(trial)
    targets = {one.name: one for one in targets_of(source, bench.classes, bench.training.boundary_nm)}
    having = {name: set(source.labelled_slices(target.layer)) for name, target in targets.items()}
    pairs: list[Pair] = [
        (name, z, mask, targets[name].read(source, z))
        for group in facts["groups"]
        for name, z, mask in predict_slices(bench.project, folder / group, slices, bench.prediction)
        if z in having[name]
    ]
    grid = bench.project.image.grid
    if bench.from_truth and trial.repeat == 0:
        keep_shapes(folder / FILE, pairs, grid)
    scale = Scale(grid.voxel_size, bench.rules.tolerance_nm)
    return score_slices(pairs, facts["labelled_slices"], scale)


def _rows(bench: Bench, facts: Mapping[str, Any], table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row per class of what a training took and what it is worth."""
    effort = {
        "n_parameters": facts["n_parameters"],
        "updates": facts["updates"],
        "training_seconds": facts["training_seconds"],
        "device": facts["device"],
    }
    scores = _scores(table, bench.rules)
    return [{"class": name, **_plain(effort), **found, "failed": ""} for name, found in scores.items()]


def _scores(table: pd.DataFrame, rules: EvaluateSettings) -> dict[str, dict[str, Any]]:
    """Return per class what it is worth on all slices of a table, None where that cannot be told."""
    scores = {}
    for name, found in summarise(table, rules, {})["classes"].items():
        of_class = table[table["class"] == name].dropna(subset="dice")
        there = of_class[(of_class["n_truth"] > 0) | (of_class["n_predicted"] > 0)]
        dices = of_class["dice"] if rules.empty_rule == "one" else there["dice"]
        worst = there.loc[there["dice"].idxmin()] if len(there) else None
        row = {
            "dice_3d": found["dice_3d"],
            "dice_2d": found["dice_2d_mean"],
            "dice_2d_sd": float(dices.std()) if len(dices) > 1 else None,
            "worst_slice": None if worst is None else int(worst["z"]),
            "worst_dice": None if worst is None else float(worst["dice"]),
            "n_scored_slices": found["n_scored_slices"],
        }
        scores[name] = _plain(row)
    return scores


def _failed(bench: Bench, updates: int, message: str) -> list[dict[str, Any]]:
    nothing = dict.fromkeys(("n_parameters", "training_seconds", "dice_2d_sd", "worst_slice", "worst_dice"))
    row = {"updates": updates, "device": "", "dice_3d": 0.0, "dice_2d": 0.0, "n_scored_slices": 0, "failed": message}
    targets = targets_of(bench.source, bench.classes, bench.training.boundary_nm)
    return [{"class": target.name} | nothing | row for target in targets]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without numbers that are none, which JSON does not know."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
