"""The commands that correct what was found; with a display, `cristae view` does the same by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cristae.console import Stage, parse_slices, stage_options
from cristae.errors import UsageError

if TYPE_CHECKING:
    from cristae.corrections.journal import Entry
    from cristae.corrections.store import Corrections

_layer = click.option(
    "--layer", metavar="NAME", help="Layer: cells by their class, NAME/objects, or the mask NAME. Default: cells."
)
_project = click.argument("project", type=click.Path(path_type=Path))
_ids = click.argument("ids", nargs=-1, required=True, type=click.IntRange(0))


@click.group()
def correct() -> None:
    """Correct cells, objects and masks: undoable edits beside the result, never in it."""


@correct.command()
@_project
@_ids
@_layer
@stage_options
def merge(stage: Stage, project: Path, layer: str | None, ids: tuple[int, ...]) -> None:
    """Make several objects one, with the first of the ids."""
    from cristae.corrections import tools  # noqa: PLC0415

    _do(stage, project, layer, lambda opened: tools.merge(opened, ids))


@correct.command()
@_project
@_ids
@_layer
@stage_options
def remove(stage: Stage, project: Path, layer: str | None, ids: tuple[int, ...]) -> None:
    """Remove whole objects."""
    from cristae.corrections import tools  # noqa: PLC0415

    _do(stage, project, layer, lambda opened: tools.remove(opened, ids))


@correct.command()
@_project
@_layer
@click.option(
    "--seed", "seeds", multiple=True, required=True, metavar="Z,Y,X", help="A voxel in each part; repeatable."
)
@click.option("--slices", metavar="Z-Z", help="Slices in which the object is split; all without.")
@stage_options
def split(stage: Stage, project: Path, layer: str | None, seeds: tuple[str, ...], slices: str | None) -> None:
    """Split one object where it is narrow, or at a predicted boundary; the first part keeps its id."""
    from cristae.api import open_project  # noqa: PLC0415
    from cristae.corrections import tools  # noqa: PLC0415
    from cristae.corrections.ids import new_ids  # noqa: PLC0415
    from cristae.stages.correcting import boundary_of  # noqa: PLC0415

    parts = [[_voxel(text)] for text in seeds]
    chosen = parse_slices(slices)
    span = (min(chosen), max(chosen)) if chosen else None
    boundary = boundary_of(open_project(project), layer)
    _do(
        stage,
        project,
        layer,
        lambda opened: tools.split(opened, parts, new_ids(opened, len(parts) - 1), boundary=boundary, slices=span),
    )


@correct.command()
@_project
@_layer
@click.option("--at", required=True, metavar="Z,Y,X", help="A voxel of the island.")
@click.option("--to", "label", required=True, type=click.IntRange(0), metavar="ID", help="Its new id; 0 removes it.")
@click.option("--slice-only", is_flag=True, help="Only what hangs together in that slice.")
@stage_options
def reassign(stage: Stage, project: Path, layer: str | None, at: str, label: int, slice_only: bool) -> None:
    """Give an island another id: the part of an object that hangs together with a voxel."""
    from cristae.corrections import tools  # noqa: PLC0415

    place = _voxel(at)
    _do(
        stage,
        project,
        layer,
        lambda opened: tools.reassign(opened, place, label, "slice" if slice_only else "volume"),
    )


@correct.command()
@_project
@_layer
@stage_options
def undo(stage: Stage, project: Path, layer: str | None) -> None:
    """Take back the last edit."""
    _do(stage, project, layer, lambda opened: opened.undo(), "undone: ")


@correct.command()
@_project
@_layer
@stage_options
def redo(stage: Stage, project: Path, layer: str | None) -> None:
    """Do the edit again that was undone last."""
    _do(stage, project, layer, lambda opened: opened.redo(), "done again: ")


@correct.command("list")
@_project
@_layer
@stage_options
def list_edits(stage: Stage, project: Path, layer: str | None) -> None:
    """List all edits of a layer: what, when, where, and whether they hold."""
    from cristae import api  # noqa: PLC0415
    from cristae.stages.correcting import audit  # noqa: PLC0415

    _no_settings(stage)
    with api.correct(project, layer, read_only=True) as opened:
        table = audit(opened)
    rows = [row.dropna().to_dict() for _, row in table.iterrows()]
    stage.show({"edits": rows}, table.to_string(index=False, na_rep="–") if rows else "no edits yet")


@correct.command()
@_project
@_layer
@stage_options
def apply(stage: Stage, project: Path, layer: str | None) -> None:
    """Make a run of the corrected layer, which is measured, meshed and exported from then on."""
    from cristae import api  # noqa: PLC0415

    _no_settings(stage)
    run = api.apply_corrections(project, layer, options=stage.options)
    facts = run.manifest
    stage.show(facts, f"applied {facts['n_edits']} corrections of {facts['layer']}: {run.path}")


@correct.command()
@_project
@_layer
@click.option("--slices", metavar="Z,Z-Z,...", help="Which slices; without, all on which something was corrected.")
@click.option("--complete", is_flag=True, help="These slices are right now, what nobody touched there too.")
@stage_options
def feed(stage: Stage, project: Path, layer: str | None, slices: str | None, complete: bool) -> None:
    """Make annotations of corrected slices, to learn from in the next training."""
    from cristae import api  # noqa: PLC0415
    from cristae.stages.correcting import find_layer  # noqa: PLC0415

    _no_settings(stage)
    opened = api.open_project(project)
    name = find_layer(opened, layer).of
    found = api.feed_corrections(opened, layer, parse_slices(slices), complete=complete, options=stage.options)
    facts = {"class": name, "slices": found.labelled_slices(name), "complete": found.complete_slices(name)}
    stage.show(facts, f"{name}: labels on {len(facts['slices'])} slices, {len(facts['complete'])} of them complete")


def _do(
    stage: Stage, project: Path, layer: str | None, edit: Callable[[Corrections], Entry | None], prefix: str = ""
) -> None:
    """Make one edit, and say what it was."""
    from cristae import api  # noqa: PLC0415

    _no_settings(stage)
    with api.correct(project, layer, by="command line") as opened:
        done = edit(opened)
        n_edits = len(opened.standing)
    facts: dict[str, Any] = {"edit": None, "n_edits": n_edits}
    words = "nothing to change: it is so already"
    if done is not None:
        facts["edit"] = {"number": done.number, "kind": done.kind, "ids": done.ids, "n_voxels": done.n_voxels}
        size = "" if done.n_voxels is None else f", {done.n_voxels} voxels"
        words = f"{prefix}{done.kind} {', '.join(map(str, done.ids))}{size} (edit {done.number}; {n_edits} hold)"
    stage.show(facts, words)


def _no_settings(stage: Stage) -> None:
    stage.settings("correct")
    if stage.changes:
        raise UsageError("corrections have no settings; leave out --set")


def _voxel(text: str) -> tuple[int, int, int]:
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{text!r} is no voxel: expected z,y,x such as 12,340,511") from error
    return z, y, x
