"""Going through the red flags of a project: where each one is, and which were looked at.

What was looked at is kept in ``corrections/looked_at.json`` of the project, under what the flags were found on: flags
of corrected layers are found anew, and those that somebody let stand stay ticked. After another segmentation ids mean
other objects, and all is to be looked at again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cristae.errors import DataError
from cristae.files import writable, write_atomically
from cristae.project import Project, Run
from cristae.stages.quality_words import flag_in_words, middle_of

_FOUND_ON = ("predict", "objects", "track")


@dataclass(frozen=True)
class Spot:
    """A red flag.

    Parameters
    ----------
    key
        Names it in this project.
    words
        What is odd, and why.
    z
        Slice to look at; −1 where no place is known.
    centre
        Middle of the object ``(y, x)`` in voxels; None where a slice as a whole is meant.
    looked_at
        Whether somebody said so.
    """

    key: str
    words: str
    z: int
    centre: tuple[float, float] | None
    looked_at: bool


def red_spots(project: Project) -> list[Spot]:
    """Return the red flags of the latest `cristae quality`, the worst first.

    Raises
    ------
    DataError
        If it has not run, or its table cannot be read.
    """
    run = project.latest("quality")
    if run is None:
        raise DataError(f"nothing has looked for red flags yet; run: cristae quality {project.path}")
    try:
        flags = pd.read_parquet(run.path / "flags.parquet")
    except (OSError, ValueError) as error:
        raise DataError(
            f"the flags of {run.path.name} cannot be read: {error}; make them again with --force"
        ) from error
    known, found_on = _looked_at(project), _found_on(run)
    return [_spot(row, found_on, known) for row in flags.to_dict("records")]


def note_looked_at(project: Project, spot: Spot, looked_at: bool) -> None:
    """Keep whether somebody has looked at a flag, at once.

    Raises
    ------
    ResourceError
        If it cannot be written.
    """
    known = _looked_at(project) - {spot.key} | ({spot.key} if looked_at else set())
    path = _path(project)
    with writable(path):
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(sorted(known), indent=1) + "\n")


def _spot(row: dict[Any, Any], found_on: str, known: set[str]) -> Spot:
    middle = middle_of(row)
    z, centre = (int(row["z"]), None) if middle is None else (int(middle[0]), middle[1:])
    # The reason tells flags of one kind apart: of an object in no cell, and in no nucleus.
    key = f"{found_on} {row['kind']} {row['class']} {row['object_id']} {row['z']} {row['reason']}"
    return Spot(key, flag_in_words(row), z, centre, key in known)


def _found_on(run: Run) -> str:
    """Return a name of what the flags were found on, without its corrections."""
    inputs = run.manifest.get("inputs", {})
    words = json.dumps([str(inputs.get(stage, "")) for stage in _FOUND_ON])
    return hashlib.blake2b(words.encode(), digest_size=6).hexdigest()


def _looked_at(project: Project) -> set[str]:
    try:
        known = json.loads(_path(project).read_text())
    except (OSError, ValueError):
        return set()
    return {str(one) for one in known} if isinstance(known, list) else set()


def _path(project: Project) -> Path:
    return project.path / "corrections" / "looked_at.json"
