"""The commands that bring in images and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cristae.console import Stage, parse_class, parse_slices, stage_options
from cristae.errors import UsageError


@click.group("import")
def import_group() -> None:
    """Bring in images and labels."""


@import_group.command("image")
@click.argument("project", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--allow-missing", is_flag=True, help="Fill slices missing from the numbering with 0.")
@click.option("--invert", is_flag=True, help="Make dark bright and bright dark.")
@stage_options
def import_image(stage: Stage, project: Path, source: Path, **flags: bool) -> None:
    """Bring in the micrograph: a folder of slices, TIFF, OME-Zarr, MRC, HDF5, Amira, NRRD or NIfTI.

    A dataset in an HDF5 file is named behind a colon: stack.h5:/volumes/raw.
    """
    from cristae import api  # noqa: PLC0415

    given = {name: True for name, value in flags.items() if value}
    volume = api.import_image(project, source, options=stage.options, **given | stage.settings("import"))
    facts = {"shape": volume.shape, "voxel_size_nm": volume.grid.voxel_size, "dtype": str(volume.dtype)}
    stage.show(facts, f"imported {' × '.join(map(str, volume.shape))} voxels (z, y, x) into {project}")


def _label_command(verb: str, purpose: str) -> None:
    @import_group.command(verb, help=purpose)
    @click.argument("project", type=click.Path(path_type=Path))
    @click.argument("source", type=click.Path(path_type=Path))
    @click.option(
        "--class",
        "classes",
        multiple=True,
        required=True,
        metavar="NAME[=VALUES]",
        help="Class in the files: all values but 0, or the given ones (nucleus=1,2); repeatable.",
    )
    @click.option("--slices", metavar="Z,Z,...", help="z of each page, or which slices of a full stack are labelled.")
    @click.option("--first-slice", type=int, help="Number that file names give to slice 0.")
    @click.option("--ignore-value", type=int, help="Value in the files that says nobody looked.")
    @click.option("--partial", multiple=True, metavar="NAME", help="Class of which not every object is painted.")
    @click.option("--instances", is_flag=True, help="Values are ids of objects, such as cells; keep them.")
    @click.option("--drawn-on", type=click.Choice(["raw", "aligned"]), help="Which slices were painted.")
    @stage_options
    def command(stage: Stage, project: Path, source: Path, classes: tuple[str, ...], **rules: Any) -> None:
        from cristae import api  # noqa: PLC0415

        rules["slices"] = parse_slices(rules["slices"])
        named = [parse_class(text) for text in classes]
        rules["classes"] = dict(named)
        if len(rules["classes"]) < len(named):
            raise UsageError("--class names a class twice; give all its values at once, such as --class nucleus=1,7")
        function = api.import_labels if verb == "labels" else api.import_truth
        found = function(project, source, options=stage.options, **rules | stage.settings("import"))
        facts = {name: list(found.labelled_slices(name)) for name in found.classes}
        stage.show(facts, "\n".join(f"{name}: {len(z)} slices in {found.path.name}" for name, z in facts.items()))


_label_command(
    "labels",
    "Bring in labelled slices to learn from: a folder, or a file of any format (MIB .model too).",
)
_label_command("truth", "Bring in labels to score results against; nothing is learnt from them.")


@import_group.command("changes")
@click.argument("project", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--class", "classes", multiple=True, metavar="NAME[=VALUE]", help="New class in the file; repeatable.")
@click.option("--slices", metavar="Z,Z,...", help="z of each page, if the file has only some of the slices.")
@click.option("--complete", is_flag=True, help="Changed slices are right all over, so they are labelled completely.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@stage_options
def import_changes(stage: Stage, project: Path, source: Path, classes: tuple[str, ...], **rules: Any) -> None:
    """Bring back a file that was exported and changed elsewhere: in MIB, ilastik, WebKnossos, Fiji.

    Only slices and voxels that differ from what went out are changed. Which export it was is found by itself.
    """
    from cristae import api  # noqa: PLC0415

    given = {name: value for name, value in rules.items() if value and name != "slices"}
    if rules["slices"]:
        given["slices"] = parse_slices(rules["slices"])
    if classes:
        named = dict(parse_class(text) for text in classes)
        if strange := [name for name, values in named.items() if values and len(values) > 1]:
            raise UsageError(f"--class {strange[0]}: a new class has one value here")
        given["classes"] = {name: values[0] if values else None for name, values in named.items()}
    found = api.import_changes(project, source, options=stage.options, **given | stage.settings("import"))
    words = found.table() + ("\nnothing was written (--dry-run)" if rules["dry_run"] and found.counts else "")
    stage.show(found.facts(), words)
