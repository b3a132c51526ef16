"""What the report shows of `cristae study`: the answer in words, its tables, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cristae.project import Project
from cristae.stages.status import is_stale
from cristae.stages.study_tables import Sheet, sheets

_FIGURES = (
    (
        "curves.svg",
        "3D Dice over the number of labelled slices, by class and method.",
        "3D Dice on slices that were not shown, over the number of labelled slices: means over repeats, and one "
        "standard deviation to either side. Dashes and marks are schemes, colours networks where there are "
        "several. Mind where the axis begins.",
    ),
    (
        "along_z.svg",
        "Dice of every scored slice along z, by class and method.",
        "Dice of each slice along z, from the fewest slices (first repeat), by the methods of the best ranks; black "
        "lines mark slices that were shown. Dips between them are where the network does not know the volume. Slices "
        "rightly left empty are not drawn.",
    ),
    (
        "shapes.svg",
        "Surfaces in 3D: the truth, and what the best method found.",
        "The truth, and what the method of the best rank found from the fewest slices (first repeat), at a coarse "
        "resolution. Slices that it was shown are left out of both, and filled in from those beside them.",
    ),
)


@dataclass(frozen=True)
class NetworksSection:
    """Parts of the section; `stale` says what has changed since, and is empty where nothing has."""

    run: str
    sentences: Sequence[str]
    sheets: Sequence[Sheet]
    notes: Sequence[str]
    pictures: Sequence[Any]
    stale: str


def networks_section(project: Project, keep: Callable[[str, str, str], Any]) -> NetworksSection | None:
    """Return what there is to show of the study of networks that finished last; None without one.

    Parameters
    ----------
    project
        In any state.
    keep
        Given SVG, words in place of the picture, and caption, keeps the file and returns what the page refers to.
    """
    run = project.latest("study_networks")
    if run is None:
        return None
    try:
        tables = sheets(pd.read_parquet(run.path / "study.parquet"))
    except (OSError, ValueError, KeyError):
        return None
    sentences = [str(one) for one in run.manifest.get("sentences", ())]
    pictures = [
        keep((run.path / name).read_text(encoding="utf-8"), " ".join([alt, *sentences[:1]]), caption)
        for name, alt, caption in _FIGURES
        if (run.path / name).is_file()
    ]
    stale = "Image, labels or truth have changed since; study again." if is_stale(project, run) else ""
    notes = tuple(str(note) for note in run.manifest.get("notes", ()))
    return NetworksSection(run.path.name, sentences, tables, notes, pictures, stale)
