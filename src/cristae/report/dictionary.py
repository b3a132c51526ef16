"""The data dictionary of the report: what every column of the tables of features means, with unit and equation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cristae.project import Project
from cristae.stages.measuring.tables import relation_definitions, violation_definitions

_TITLES = {
    "objects": "objects: a row per object",
    "relations": "relations: a row per pair that touches, overlaps or lies near",
    "violations": "violations: what does not lie where it should",
}


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    unit: str
    meaning: str
    equation: str
    paper: str


@dataclass(frozen=True)
class Table:
    """A table of features, and where it is; `files` are names and addresses."""

    title: str
    columns: tuple[Column, ...]
    files: tuple[tuple[str, str], ...]


def dictionary_part(project: Project) -> tuple[Table, ...]:
    """Return what columns mean, as the last measurement noted it; none without one."""
    run = project.latest("measure")
    if run is None:
        return ()
    try:
        noted = json.loads((run.path / "dictionary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    if not isinstance(noted, Mapping):
        return ()
    usual = {"relations": relation_definitions(), "violations": violation_definitions()}
    tables = []
    for name, title in _TITLES.items():
        # Early versions noted the columns of objects alone.
        entries = noted.get(name) if name in noted or name != "objects" else noted
        columns = _columns(entries) or tuple(
            Column(key, one.unit, one.meaning, one.equation, one.paper) for key, one in usual.get(name, {}).items()
        )
        files = tuple(
            (path.name, f"../runs/{run.path.name}/{path.name}")
            for path in (run.path / f"{name}.csv", run.path / f"{name}.parquet")
            if path.is_file()
        )
        if columns and files:
            tables.append(Table(title, columns, files))
    return tuple(tables)


def _columns(entries: Any) -> tuple[Column, ...]:
    if isinstance(entries, Mapping):
        entries = [{"name": name, **one} for name, one in entries.items() if isinstance(one, Mapping)]
    if not isinstance(entries, list):
        return ()
    found = [one for one in entries if isinstance(one, Mapping) and "name" in one]
    return tuple(
        Column(
            str(one["name"]),
            str(one.get("unit") or ""),
            str(one.get("meaning") or one.get("definition") or ""),
            str(one.get("equation") or ""),
            str(one.get("paper") or ""),
        )
        for one in found
    )
