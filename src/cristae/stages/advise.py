"""`cristae advise`: which slices, and which places on them, to label next, and why.

::

    doubt of the prediction ──┐
    contents of all slices  ──┼──> slices that together cover the most doubt ──> a task list
    distance to labels      ──┘    (cristae.advice.coverage)

    runs/advise-<id>/    advice · boxes (.parquet, .csv) · tasks.md · advice (.svg, .png)

Before anything was predicted there is no doubt to go by: contents and distances alone choose, which for a stack that is
alike throughout is even spacing. The volume is read once, a slab at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.advice.contents import content_distances, describe_class, describe_picture
from cristae.advice.coverage import Choice, choose, likeness
from cristae.errors import DataError, UsageError
from cristae.files import write_atomically
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.advise_figure import draw_advice
from cristae.stages.advise_words import task_list, why
from cristae.stages.finished import nothing_to_do
from cristae.stages.layers import disagreeing, disagreement_of, open_layer
from cristae.stages.objects import write_table
from cristae.stages.options import Options
from cristae.stages.slabs import measure_slices, read_slab
from cristae.volume import Volume

MOST_SLICES = 1024
"""Slices that are compared with each other; of a deeper stack evenly spaced ones stand for those beside them."""
MOST_BOXES = 512
"""Boxes that are compared with each other, those of most doubt."""
_SQUARES = 16
"""Squares along the shorter side of a slice, by which its contents are described."""


class AdviseSettings(BaseModel):
    """Settings of `cristae advise`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(5, ge=1, le=1000, description="slices to advise")
    classes: tuple[str, ...] = Field((), description="classes to label; empty means all of the project")
    trust: float = Field(
        0.5,
        ge=0,
        le=1,
        description="how much the doubt of the prediction counts against an even cover of the volume: 0 not at all, 1 "
        "alone",
    )
    boxes: int = Field(10, ge=0, le=1000, description="boxes within slices to advise, for those who label parts")
    box_px: int = Field(512, ge=16, description="side of these boxes in pixels; at most half a slice")


@dataclass(frozen=True)
class _Measured:
    """What is known of every slice: descriptions of its contents by kind, and the doubt in each box, by layer."""

    contents: Mapping[str, np.ndarray]
    doubt: Mapping[str, np.ndarray]
    mass: Mapping[str, np.ndarray]

    @cached_property
    def in_boxes(self) -> np.ndarray | None:
        """Doubt of all classes ``(z, y, x)`` in boxes; 1 is what a class has on a slice on average. None without."""
        if not self.doubt:
            return None
        each = [self.doubt[name] / max(float(self.mass[name].mean()), 1.0) for name in self.doubt]
        total = np.mean(each, axis=0)
        mean = float(total.sum(axis=(1, 2)).mean())
        return total / mean if mean > 0 else total


def advise_settings(project: Project, changes: Mapping[str, Any]) -> AdviseSettings:
    """Return the settings of an advice: defaults, then project file, then `changes`."""
    return resolve_settings(AdviseSettings, project.stage_settings("advise"), changes)


def advise(project: Project, settings: AdviseSettings | None = None, options: Options | None = None) -> Run:
    """Rank the slices that are not labelled by how much a label there would teach.

    Writes ``advice`` (a row per slice: ``rank``, ``z``, ``advised``, ``gain``, the share of all doubt that labelling it
    would newly cover, after those ranked before among the advised; ``doubt``, 1 on average, missing without a
    prediction; ``novelty``, how unlike the most alike labelled slice, 1 is usual between two slices;
    ``nearest_labelled``, ``distance_slices``, ``distance_nm``; ``why``) and ``boxes`` (places on slices) as Parquet
    and CSV, ``tasks.md`` and a figure. Labelled and bad slices are never advised.

    Raises
    ------
    UsageError
        If a named class is not of the project.
    DataError
        If there is no image, or no slice is left to label.
    ResourceError
        If the project is in use or the disk is full.
    """
    settings, options = settings or advise_settings(project, {}), options or Options()
    image, predicted = project.image, project.latest("predict")
    classes = _classes(project, settings.classes)
    labelled = sorted({z for name in classes for z in project.annotations.labelled_slices(name)})
    free = sorted(set(range(image.shape[0])) - {*labelled, *project.lost_slices})
    if not free:
        raise DataError("every slice that can be learnt from is labelled already; there is nothing left to advise")
    inputs = {
        "image": project.image_fingerprint,
        "labels": project.annotations.fingerprint(classes),
        "predict": predicted.as_input if predicted else "",
    }
    run = project.run("advise", settings, inputs)
    if nothing_to_do(project, run, options):
        return run
    options.check()
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            shutil.rmtree(run.path / ".slices", ignore_errors=True)
        if predicted is None:
            options.notify("advise: nothing has been predicted yet; slices are chosen by contents and distance alone")
        measured = _measure(image, predicted, _layers(predicted, classes), settings, run, options)
        table = _rank(measured, (labelled, free), settings, image)
        boxes = _rank_boxes(measured, free, settings, image, len(labelled))
        write_table(table, run.path / "advice")
        write_table(boxes, run.path / "boxes")
        advised = [int(z) for z in table.loc[table["advised"], "z"]]
        write_atomically(run.path / "tasks.md", task_list(project.name, classes, table, boxes))
        draw_advice(table, labelled, image.shape[0], run.path / "advice.svg", run.path / "advice.png")
        gain = round(float(table.loc[table["advised"], "gain"].sum()), 4)
        run.update(classes=list(classes), slices=advised, labelled=labelled, gain=gain, cold_start=predicted is None)
    shutil.rmtree(run.path / ".slices", ignore_errors=True)
    return run


def _classes(project: Project, wanted: Sequence[str]) -> tuple[str, ...]:
    known = tuple(dict.fromkeys([*project.classes, *project.annotations.classes]))
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(f"no class {', '.join(unknown)} in this project; there are {', '.join(known) or 'none'}")
    return tuple(dict.fromkeys(wanted)) or known


def _layers(predicted: Run | None, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the layers of a prediction that belong to classes; those of instances have two."""
    if predicted is None:
        return ()
    wanted = {name + part for name in classes for part in ("", "_interior", "_boundary")}
    return tuple(str(name) for name in predicted.manifest["classes"] if name in wanted)


def _measure(
    image: Volume, predicted: Run | None, names: Sequence[str], settings: AdviseSettings, run: Run, options: Options
) -> _Measured:
    """Read everything once."""
    layers = {name: open_layer(predicted, name) for name in names if predicted}
    unsure = disagreeing(predicted) if predicted else ()
    differ = {name: open_layer(predicted, disagreement_of(name)) for name in layers if predicted and name in unsure}
    side, box = max(4, min(image.shape[1:]) // _SQUARES), _box_side(image, settings)

    def measure(slices: range) -> Mapping[str, np.ndarray]:
        found = {"contents:picture": np.stack([describe_picture(one, side) for one in read_slab(image, slices)])}
        for name, layer in layers.items():
            slab = read_slab(layer, slices)
            found[f"contents:{name}"] = np.stack([describe_class(one, side) for one in slab])
            found[f"mass:{name}"] = slab.sum(axis=(1, 2), dtype=np.float64) / 255
            doubt = np.minimum(slab, 255 - slab).astype(np.float32) / 255
            if name in differ:
                doubt = (doubt + read_slab(differ[name], slices) / np.float32(255)) / 2
            found[f"doubt:{name}"] = _box_sums(doubt, box)
        return found

    found = measure_slices(measure, image, run.path / ".slices" / f"{side}-{box}", "advise", options)
    parts: dict[str, dict[str, np.ndarray]] = {"contents": {}, "doubt": {}, "mass": {}}
    for key, values in found.items():
        kind, _, name = key.partition(":")
        parts[kind][name] = values
    return _Measured(**parts)


def _box_side(image: Volume, settings: AdviseSettings) -> int:
    return min(settings.box_px, max(1, -(-min(image.shape[1:]) // 2)))


def _box_sums(slab: np.ndarray, side: int) -> np.ndarray:
    """Return sums over boxes, ``(z, n_y, n_x)``; boxes at the far edges are smaller."""
    _, height, width = slab.shape
    rows = np.add.reduceat(slab, np.arange(0, height, side), axis=1, dtype=np.float64)
    return np.asarray(np.add.reduceat(rows, np.arange(0, width, side), axis=2))


def _rank(
    measured: _Measured, slices: tuple[list[int], list[int]], settings: AdviseSettings, image: Volume
) -> pd.DataFrame:
    """Return a row per slice that may be labelled, the advised ones first."""
    labelled, free = slices
    usable = np.zeros(image.shape[0], bool)
    usable[[*labelled, *free]] = True
    doubt = None if measured.in_boxes is None else measured.in_boxes.sum(axis=(1, 2))
    items = _representatives(labelled, free)
    weights = np.ones(image.shape[0])
    if doubt is not None and doubt.any():
        weights = 1 - settings.trust + settings.trust * doubt
    weights = _gathered(np.where(usable, weights, 0), items)
    content = content_distances([one[items] for one in measured.contents.values()])
    reach = image.shape[0] / (len(labelled) + settings.n)
    like = likeness(content, np.abs(items[:, None] - items) / reach)
    known = np.flatnonzero(np.isin(items, labelled))
    found = choose(weights, like, known.tolist(), np.flatnonzero(np.isin(items, free)).tolist(), settings.n)
    table = _table(items, found, known, content)
    table.insert(4, "doubt", np.full(len(table), np.nan) if doubt is None else doubt[table["z"]])
    table["distance_nm"] = table["distance_slices"].astype("Float64") * image.grid.voxel_size[0]
    table["why"] = [why(row, settings.trust) for _, row in table.iterrows()]
    return table


def _representatives(labelled: Sequence[int], free: Sequence[int]) -> np.ndarray:
    """Return the slices that are compared, ascending: all, or the labelled ones and evenly spaced others."""
    room = max(MOST_SLICES // 2, MOST_SLICES - len(labelled))
    if len(free) > room:
        free = [free[round(at)] for at in np.linspace(0, len(free) - 1, room)]
    return np.array(sorted({*labelled, *free}), np.int64)


def _gathered(weights: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Add the weight of each slice to that of the nearest one that stands for it."""
    middles = (items[1:] + items[:-1]) / 2
    return np.bincount(np.searchsorted(middles, np.arange(len(weights))), weights, minlength=len(items))


def _table(items: np.ndarray, found: Choice, known: np.ndarray, content: np.ndarray) -> pd.DataFrame:
    chosen = set(found.chosen.tolist())
    others = [at for at in np.argsort(-found.left, kind="stable") if at not in chosen and at not in set(known)]
    order = np.array([*found.chosen, *others], np.int64)
    nearest = np.abs(items[order][:, None] - items[known]).argmin(axis=1) if len(known) else None
    novelty = content[np.ix_(order, known)].min(axis=1) if len(known) else np.full(len(order), np.nan)
    labelled = pd.Series([None] * len(order) if nearest is None else items[known][nearest], dtype="Int64")
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(order) + 1),
            "z": items[order],
            "advised": np.arange(len(order)) < len(chosen),
            "gain": [*found.gains, *found.left[others]],
            "novelty": novelty,
            "nearest_labelled": labelled,
            "distance_slices": (labelled - items[order]).abs(),
        }
    )


def _rank_boxes(
    measured: _Measured, free: Sequence[int], settings: AdviseSettings, image: Volume, n_labelled: int
) -> pd.DataFrame:
    """Return the boxes to label, best first: those of most doubt, not beside each other."""
    columns = ["rank", "z", "y_start", "x_start", "y_stop", "x_stop", "doubt", "share_of_slice"]
    if measured.in_boxes is None or not settings.boxes:
        return pd.DataFrame(columns=columns).astype({"doubt": float, "share_of_slice": float})
    doubt = np.zeros_like(measured.in_boxes)
    doubt[list(free)] = measured.in_boxes[list(free)]
    best = np.argsort(-doubt, axis=None, kind="stable")[: min(MOST_BOXES, int((doubt > 0).sum()))]
    places = np.stack(np.unravel_index(best, doubt.shape), axis=1)
    reach = np.array([image.shape[0] / (n_labelled + settings.n), 1, 1])
    apart = np.sqrt((((places[:, None] - places) / reach) ** 2).sum(axis=2))
    weights = doubt.ravel()[best]
    found = choose(weights, likeness(np.ones_like(apart), apart), [], range(len(best)), settings.boxes)
    side, (height, width) = _box_side(image, settings), image.shape[1:]
    rows = []
    for rank, at in enumerate(found.chosen, start=1):
        z, y, x = (int(one) for one in places[at])
        stop = min((y + 1) * side, height), min((x + 1) * side, width)
        share = float(doubt[z, y, x] / doubt[z].sum())
        rows.append((rank, z, y * side, x * side, *stop, float(weights[at]), share))
    return pd.DataFrame(rows, columns=columns)
