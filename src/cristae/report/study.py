"""What the report shows of `cristae study cells`: the table of methods, its figure, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cristae.project import Project
from cristae.stages.status import is_stale
from cristae.stages.table2 import Row, gap_titles, table_rows

_CAPTION = (
    "Marks are means over cells, lines reach one standard deviation to either side, cut off at 0 and 1. Orange, pink, "
    "red and brown marks use optical flow. Mind where the axis begins."
)


@dataclass(frozen=True)
class StudySection:
    """Parts of the section; `picture` is what the keeper of files made of the figure, None if there is no file.

    `stale` says what has changed since, and is empty where nothing has.
    """

    run: str
    sentence: str
    titles: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str]
    picture: Any
    stale: str


def study_section(project: Project, keep: Callable[[str, str, str], Any]) -> StudySection | None:
    """Return what there is to show of the study that finished last; None without one.

    Parameters
    ----------
    project
        In any state.
    keep
        Given SVG, words in place of the picture, and caption, keeps the file and returns what the page refers to.
    """
    run = project.latest("study_cells")
    if run is None:
        return None
    try:
        table = pd.read_csv(run.path / "table2.csv")
        rows, titles = table_rows(table), gap_titles(table)
    except (OSError, ValueError, KeyError):
        return None
    sentence = str(run.manifest.get("sentence", ""))
    figure = run.path / "table2.svg"
    picture = None
    if figure.is_file():
        alt = f"Mean Dice of cells of {len(rows)} methods at {len(titles)} gaps between labelled slices. {sentence}"
        picture = keep(figure.read_text(encoding="utf-8"), alt, _CAPTION)
    stale = "Image, truth or prediction have changed since; study again." if is_stale(project, run) else ""
    notes = tuple(str(note) for note in run.manifest.get("notes", ()))
    return StudySection(run.path.name, sentence, titles, rows, notes, picture, stale)
