"""What the report shows of deciding: expected quality, red flags, doubtful labels, what to label next, effort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cristae.palette import GRIDDED, class_line
from cristae.project import Project, Run
from cristae.report.figures import as_svg
from cristae.report.parts import Picture, Writer
from cristae.stages.doctor import SUSPICIOUS
from cristae.stages.effort import effort, effort_in_words
from cristae.stages.quality_words import box_in_words, class_in_words, how_severe, middle_of
from cristae.stages.status import is_stale

MOST = 25
"""Red flags shown; the table has all."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class QualityPart:
    """Parts of the section; each is empty where its stage has not run.

    Parameters
    ----------
    run
        Name of the run of quality, or empty.
    expected
        What is to be expected of each class, in words.
    figure
        Expected Dice along z.
    flags, n_flags
        The worst red flags, and how many there are.
    labels
        Labelled slices to look at again.
    doctored
        Name of the run of the label doctor, or empty.
    advice, advised
        Slices to label next, and the name of that run, or empty.
    advice_figure
        Doubt along z.
    stale
        Names of runs that rest on something that has changed since.
    effort
        How much was labelled and corrected, in words.
    meter
        Dice against the number of labelled slices.
    history
        A row per score that was ever taken.
    """

    run: str
    expected: Sequence[str]
    figure: Picture | None
    flags: Sequence[Row]
    n_flags: int
    labels: Sequence[Row]
    doctored: str
    advice: Sequence[Row]
    advised: str
    advice_figure: Picture | None
    stale: Sequence[str]
    effort: str
    meter: Picture | None
    history: Sequence[Row]


def quality_part(project: Project, classes: Sequence[str], writer: Writer) -> QualityPart | None:
    """Return what there is to show of deciding; None where none of its stages has run and nothing was scored.

    Parameters
    ----------
    project
        Any.
    classes
        Of the project, in order.
    writer
        Keeper of files.
    """
    if not project.has_image:
        return None
    quality, doctor, advised = (project.latest(stage) for stage in ("quality", "doctor", "advise"))
    history = effort(project)
    if quality is doctor is advised is None and history.empty:
        return None
    flags, labels, advice = _table(quality, "flags"), _table(doctor, "labels"), _table(advised, "advice")
    expected = [class_in_words(row) for row in _records(_table(quality, "classes"))]
    suspicious = labels[labels["suspicion"] >= SUSPICIOUS] if "suspicion" in labels else labels
    return QualityPart(
        quality.path.name if quality else "",
        expected,
        _figure(
            quality,
            "quality",
            f"Expected Dice of every slice along z. {'; '.join(expected)}.",
            "Expected Dice of every slice, with its interval where enough labelled slices were left out in turn; dots "
            "are those: full the true Dice, open what was told of it beforehand. Triangles are slices with a red flag.",
            writer,
        ),
        [_flag(row) for row in _records(flags.head(MOST))],
        len(flags),
        _records(suspicious),
        doctor.path.name if doctor else "",
        _records(advice[advice["advised"]]) if "advised" in advice else [],
        advised.path.name if advised else "",
        _figure(
            advised,
            "advice",
            "Doubt, novelty and what a label would still bring, along z.",
            "Why these slices: doubt of the prediction, how unlike labelled slices each slice is, and what a label on "
            "it would still bring after the advised ones. Black lines are labelled slices, dashed ones advised.",
            writer,
        ),
        [run.path.name for run in (quality, doctor, advised) if run and is_stale(project, run)],
        effort_in_words(project),
        _meter(history, classes, writer),
        _records(history),
    )


def meter_figure(history: pd.DataFrame, classes: Sequence[str]) -> str:
    """Draw Dice against the number of labelled slices, a panel per basis.

    Parameters
    ----------
    history
        As `cristae.stages.effort.effort` returns it.
    classes
        Classes of the project, in order.

    Returns
    -------
    str
        SVG.
    """
    bases = list(dict.fromkeys(history["basis"]))
    with mpl.rc_context(GRIDDED):
        figure = Figure(figsize=(8.6, 2.6), layout="constrained")
        axes = figure.subplots(1, len(bases), squeeze=False, sharey=True)[0]
        for panel, basis in zip(axes, bases, strict=True):
            for index, name in enumerate(classes):
                rows = history[(history["basis"] == basis) & (history["class"] == name)]
                if len(rows):
                    panel.plot(rows["n_labelled_slices"], rows["dice"], **class_line(index, name))
            panel.set_title(f"Dice: {basis}", loc="left", fontsize=10)
            panel.set_xlabel("labelled slices")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0].set_ylim(0, 1.02)
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return as_svg(figure)


def _meter(history: pd.DataFrame, classes: Sequence[str], writer: Writer) -> Picture | None:
    shown = [*classes, *(name for name in dict.fromkeys(history["class"]) if name not in classes)]
    if history["run"].nunique() < 2:
        return None
    last = history.drop_duplicates(["basis", "class"], keep="last")
    told = ", ".join(f"{row['class']} {row['dice']:.3f} ({row['basis']})" for row in _records(last))
    return writer.figure(
        meter_figure(history, shown),
        f"Dice against the number of labelled slices. Last: {told}.",
        "Every score that was taken so far, against how many slices were labelled then. Where the line is level, more "
        "slices of the same kind bring little.",
    )


def _figure(run: Run | None, stem: str, alt: str, caption: str, writer: Writer) -> Picture | None:
    path = run.path / f"{stem}.svg" if run else None
    if path is None or not path.is_file():
        return None
    return writer.figure(path.read_text(encoding="utf-8"), alt, caption)


def _table(run: Run | None, name: str) -> pd.DataFrame:
    try:
        return pd.read_parquet(run.path / f"{name}.parquet") if run else pd.DataFrame()
    except (OSError, ValueError):
        return pd.DataFrame()


def _records(table: pd.DataFrame) -> list[Row]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _flag(row: Row) -> Row:
    """Return a flag as the page shows it."""
    what = f"{row['class']} {row['object_id']}" if row["object_id"] else f"{row['class']}, slice {row['z']}"
    middle = middle_of(row)
    z = row["z"] if middle is None else int(middle[0])
    return {
        **row,
        "what": what,
        "place": box_in_words(row) or "–",
        "z_shown": z,
        "how_severe": how_severe(float(row["severity"])),
    }
