"""`cristae report`: one page that a colleague can open in a browser, offline, and read from top to bottom.

::

    report/index.html      holds all it shows, so that it can be handed on alone; nothing is fetched from anywhere
           figure-*.svg slice-*.jpg      its pictures once more, for talks and papers

Everything is read from the files of the project, so that a report made today of runs of last year says the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cristae.annotations import IGNORE
from cristae.errors import DataError
from cristae.files import writable, write_atomically
from cristae.io.ome_zarr import open_volume
from cristae.palette import SKY, VERMILLION, YELLOW, class_colour
from cristae.project import Project, Run
from cristae.report import figures, overlays
from cristae.report.cells import cells_part
from cristae.report.certainty import certainty_part
from cristae.report.check import check_section
from cristae.report.dictionary import dictionary_part
from cristae.report.explore import explore_part
from cristae.report.gather import Findings, ScoreSet, Setting, gather, settings_of
from cristae.report.measure import measure_part
from cristae.report.methods import methods_part
from cristae.report.networks import networks_section
from cristae.report.parts import Key, Picture, Section, Writer, read_slice
from cristae.report.quality import quality_part
from cristae.report.study import study_section
from cristae.report.templates import open_template, page_script, score_words
from cristae.stages.corrected import corrected_run, n_corrections, with_corrections
from cristae.stages.limits import NoSettings, keep_memory
from cristae.stages.options import Options
from cristae.volume import Volume
from cristae.wording import number_ranges

PER_CLASS = 4
"""Slices shown of each class, and of the labels."""
MOST_PICTURES = 32
"""Pictures of predictions in a report, at most; with many classes each shows fewer."""


_MARKED = (
    "Dice of each slice; black lines mark slices that were painted for training. Peaks at the lines with dips between "
    "them mean that the network knows its training slices better than the rest of the volume. Slices rightly left "
    "empty are not drawn. Mind where the axis begins."
)
_LEFT_OUT = (
    "Dice of each labelled slice, from a network that was trained on the other labelled slices only. With fewer "
    "labels and a slice farther from them, it tends to be lower than that of the network trained on all. Mind where "
    "the axis begins."
)


@dataclass(frozen=True)
class RunEntry:
    """A run as the report lists it."""

    name: str
    stage: str
    manifest: Mapping[str, Any]
    settings: tuple[Setting, ...]


def build_report(project: Project, options: Options | None = None) -> Path:
    """Write ``report/index.html`` and its pictures, in place of an earlier report.

    Parameters
    ----------
    project
        In any state: the report shows what there is, and names what is missing or stale.
    options
        Whom to tell how far it is.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    options = options or Options()
    if project.has_image:
        keep_memory("report", project, NoSettings(), options)
    found = gather(project)
    folder = project.path / "report"
    with writable(folder):
        folder.mkdir(exist_ok=True)
        for old in [*folder.glob("figure-*.svg"), *folder.glob("slice-*.jpg")]:
            old.unlink()
        writer = Writer(folder, embed=True)
        context = {
            "found": found,
            "name": project.name,
            **_explore(found, options),
            "methods": methods_part(found),
            "dictionary": dictionary_part(project),
            "script": page_script(),
            "volume": _volume_facts(found),
            "scores": [
                (one, _score_figures(one, found.classes, writer)) for one in found.score_sets if one.scores["classes"]
            ],
            "certainty": certainty_part(found, writer),
            "quality": quality_part(project, found.classes, writer),
            "check": check_section(project, writer),
            "cells": cells_part(found, writer),
            "measured": measure_part(project, writer),
            "networks": networks_section(project, writer.figure),
            "study": study_section(project, writer.figure),
            "learning": _learning_figure(found, writer),
            "overlays": _overlay_sections(found, writer, options),
            "labels": _label_section(found, writer),
            "labelled": found.labelled,
            "runs": [_entry(run) for run in project.runs()],
            "environment": _environment(project),
            "made": datetime.now(UTC),
            "version": version("cristae"),
        }
        write_atomically(folder / "index.html", open_template("template.html.j2").render(context))
    return folder / "index.html"


def _explore(found: Findings, options: Options) -> dict[str, Any]:
    """Return scene, slices and table, or in words why there are none: a damaged layer costs no more than this part."""
    try:
        return {"explore": explore_part(found, options), "unexplored": ""}
    except DataError as error:
        return {"explore": None, "unexplored": str(error)}


def _learning_figure(found: Findings, writer: Writer) -> Picture | None:
    if found.history is None or found.train is None or not {"step", "loss"} <= set(found.history):
        return None
    best = found.train.manifest.get("best_step")
    svg = figures.training_curve(found.history, found.classes, None if best is None else int(best))
    loss = found.history["loss"].dropna()
    alt = f"Learning curve of {len(found.history)} entries"
    if len(loss):
        alt += f": the loss goes from {loss.iloc[0]:.3g} to {loss.iloc[-1]:.3g}"
    for name in found.classes:
        column = f"dice_{name}"
        if column in found.history and found.history[column].notna().any():
            alt += f"; held-out Dice of {name} reaches {found.history[column].max():.3f}"
    caption = (
        "Above, the loss while training: a running median, and in grey single values. Below, where "
        "measured, the Dice on parts of the labelled slices that training did not see. The dotted line marks the "
        "weights that were kept."
    )
    return writer.figure(svg, alt + ".", caption)


def _score_figures(one: ScoreSet, classes: Sequence[str], writer: Writer) -> list[Picture]:
    scores = one.scores["classes"]
    told = ", ".join(f"{name} {score_words(facts.get('dice_3d'))}" for name, facts in scores.items())
    pictures = [
        writer.figure(
            figures.scores_per_class(scores),
            f"Bars of 3D Dice, precision and recall per class. 3D Dice: {told}.",
            "Scores per class; 1 is perfect. Low precision means too much was marked, low recall too little.",
        )
    ]
    if one.slices is not None:
        lowest = one.slices[one.slices["n_truth"] > 0].groupby("class")["dice"].min()
        alt = "Dice of every slice with truth, per class; lowest: " + ", ".join(
            f"{name} {value:.3f}" for name, value in lowest.items()
        )
        marked = {} if one.is_cross_validation else one.labelled
        caption = _LEFT_OUT if one.is_cross_validation else _MARKED
        pictures.append(writer.figure(figures.dice_per_slice(one.slices, marked, classes), alt + ".", caption))
    if one.distance is not None and len(one.distance):
        farthest = int(one.distance["distance_slices"].max())
        pictures.append(
            writer.figure(
                figures.dice_by_distance(one.distance, classes),
                f"Dice against distance to the nearest labelled slice, up to {farthest} slices.",
                "Dice of all slices at the same distance from a slice painted for training. Where it falls, labels "
                "closer together would help.",
            )
        )
    return pictures


def _overlay_sections(found: Findings, writer: Writer, options: Options) -> list[Section]:
    """Show the prediction of each class on slices that training did not see."""
    if found.image is None:
        return []
    if found.predict is None:
        return [_plain_section(found.image, writer)]
    names = [str(name) for name in found.predict.manifest.get("classes", ())]
    n = max(1, min(PER_CLASS, MOST_PICTURES // max(1, len(names))))
    progress = options.progress("report")
    sections = []
    for done, name in enumerate(names, start=1):
        pictures = tuple(_overlays_of(found, name, n, writer))
        with_truth = bool(found.project.truth.labelled_slices(name))
        if pictures:
            sections.append(Section(_as_predicted(found, name), _overlay_legend(with_truth), pictures))
        progress(done, len(names))
    return sections


def _as_predicted(found: Findings, name: str) -> str:
    """Return the heading of a class: what is shown, and was scored, is what the network predicted."""
    assert found.predict is not None
    words = with_corrections(n_corrections(corrected_run(found.project, found.predict, name)))
    return f"{name}, as predicted (there is a mask {words})" if words else name


def _overlays_of(found: Findings, name: str, n: int, writer: Writer) -> Iterator[Picture]:
    assert found.predict is not None and found.image is not None
    path = found.predict.path / f"{name}.ome.zarr" / "labels" / name
    try:
        mask = open_volume(path)
    except DataError:
        return
    rows = next((one.slices for one in found.score_sets if not one.is_cross_validation), None)
    chosen: dict[int, str] = {}
    dices: dict[int, float] = {}
    if rows is not None:
        rows = rows[(rows["class"] == name) & (rows["z"] < found.image.shape[0])]
        unseen = rows[~rows["labelled"].astype(bool)]
        chosen = overlays.choose_slices(unseen if len(unseen) else rows, n)
        dices = {int(z): float(dice) for z, dice in zip(rows["z"], rows["dice"], strict=True)}
    if not chosen:
        labelled = set(found.labelled.get(name, ()))
        others = [z for z in range(found.image.shape[0]) if z not in labelled]
        chosen = dict.fromkeys(overlays.spread(others, n), "one of several evenly spread slices")
    with_truth = set(found.project.truth.labelled_slices(name))
    for z, reason in chosen.items():
        truth = found.project.truth.read_slice(name, z) if z in with_truth else None
        predicted = read_slice(mask, z) != 0
        content = overlays.Slice(read_slice(found.image, z), _pixel(found.image), truth, predicted)
        dice = f", Dice {dices[z]:.3f}" if not math.isnan(dices.get(z, math.nan)) else ""
        alt = f"Slice {z} with the prediction of {name} filled in colour"
        alt += (" and the truth outlined" if truth is not None else "") + f"{dice}; {reason}."
        dark = "; darkened where nobody looked" if truth is not None and (truth == IGNORE).any() else ""
        yield writer.slice(overlays.draw(content), alt, f"Slice {z}{dice}: {reason}{dark}")


def _overlay_legend(with_truth: bool) -> tuple[Key, ...]:
    if not with_truth:
        return (Key(SKY, "fill", "predicted"),)
    return (
        Key(SKY, "fill", "predicted and true"),
        Key(VERMILLION, "fill", "predicted, but not true (false positive)"),
        Key(YELLOW, "outline", "outline of the truth; uncoloured inside it: missed (false negative)"),
    )


def _plain_section(image: Volume, writer: Writer) -> Section:
    pictures = [
        writer.slice(
            overlays.draw(overlays.Slice(read_slice(image, z), _pixel(image))),
            f"Slice {z} of the micrograph.",
            f"Slice {z}",
        )
        for z in overlays.spread(range(image.shape[0]), PER_CLASS)
    ]
    return Section("The micrograph", (), tuple(pictures))


def _label_section(found: Findings, writer: Writer) -> Section | None:
    """Show labelled slices, all classes in one picture."""
    if found.image is None:
        return None
    annotations = found.project.annotations
    at_hand = {name: set(annotations.labelled_slices(name)) for name in annotations.classes}
    used = {name: at_hand.get(name, set()) & set(slices) for name, slices in found.labelled.items()}
    shown = overlays.spread(sorted(set().union(*used.values())), PER_CLASS)
    colours = {name: class_colour(i) for i, name in enumerate(found.classes) if used.get(name)}
    pictures = []
    for z in shown:
        names = [name for name in colours if z in used[name]]
        labels = {name: annotations.read_slice(name, z) for name in names}
        content = overlays.Slice(
            read_slice(found.image, z), _pixel(found.image), labels={colours[k]: v for k, v in labels.items()}
        )
        unseen = np.logical_and.reduce([values == IGNORE for values in labels.values()]).any()
        caption = f"Slice {z}: {', '.join(names)}" + ("; darkened where nobody looked" if unseen else "")
        pictures.append(writer.slice(overlays.draw(content), f"Labels on slice {z} of {', '.join(names)}.", caption))
    legend = tuple(Key(colour, "fill", name) for name, colour in colours.items())
    return Section("Labelled slices", legend, tuple(pictures)) if pictures else None


def _pixel(volume: Volume) -> tuple[float, float]:
    return volume.grid.voxel_size[1], volume.grid.voxel_size[2]


def _volume_facts(found: Findings) -> list[tuple[str, str]]:
    image = found.image
    if image is None:
        return []
    missing = [int(z) for z in found.project.image_facts.get("missing", ())]
    bad = set(found.project.lost_slices) - set(missing)
    sizes = [n * size for n, size in zip(image.shape, image.grid.voxel_size, strict=True)]
    return [
        ("Voxels (z × y × x)", " × ".join(f"{n:,}" for n in image.shape)),
        ("Voxel size (z × y × x)", " × ".join(f"{size:g}" for size in image.grid.voxel_size) + " nm"),
        ("Physical size (z × y × x)", overlays.length_in_words(*sizes)),
        ("Grey values", str(image.dtype)),
        *([("Missing slices", number_ranges(missing))] if missing else []),
        *([("Slices left out as bad", number_ranges(bad))] if bad else []),
    ]


def _entry(run: Run) -> RunEntry:
    return RunEntry(run.path.name, run.stage, run.manifest, tuple(settings_of(run)))


def _environment(project: Project) -> dict[str, str]:
    """Return hardware and versions of the run that began last."""
    noted = [run.manifest["environment"] for run in project.runs() if run.manifest.get("environment")]
    if not noted:
        return {}
    last = dict(noted[-1])
    versions = dict(last.pop("versions", {}))
    words = {"python": "Python", "system": "System", "cores": "Processor cores", "memory_gb": "Memory (GB)"}
    rows = {words.get(str(key), str(key)): str(value) for key, value in last.items()}
    rows |= {f"{name} (package)": str(value) for name, value in versions.items()}
    if any(other != noted[-1] for other in noted):
        rows["Note"] = "other runs were made with other versions or hardware; see their manifests"
    return rows
