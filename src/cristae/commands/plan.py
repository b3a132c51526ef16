"""The command that says what stages will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cristae.console import Stage, stage_options


@click.command()
@click.argument("project", type=click.Path(path_type=Path), required=False)
@click.option("--shape", nargs=3, type=click.IntRange(1), metavar="Z Y X", help="Size in voxels.")
@click.option("--voxel-size", nargs=3, type=float, metavar="Z Y X", help="Voxel size in nanometres.")
@click.option("--classes", type=click.IntRange(0), metavar="N", help="Classes of organelles.")
@click.option("--labelled", type=click.IntRange(1), metavar="N", help="Labelled slices, evenly spread.")
@click.option("--cells/--no-cells", default=None, help="Whether cells are separated and tracked, too.")
@click.option("--truth", type=click.IntRange(0), metavar="N", help="Slices with a truth to score against.")
@click.option("--bits", type=click.Choice(["8", "16"]), help="Of a grey value.")
@stage_options
def plan(stage: Stage, project: Path | None, **volume: Any) -> None:
    """Say what every stage will take: memory, disk and time, before anything runs.

    Of a PROJECT, or of a volume that there is not yet: --shape with the other options. Settings (--set), --executor
    and --max-ram are planned for.
    """
    from cristae import api  # noqa: PLC0415
    from cristae.stages.planning import PLANNED  # noqa: PLC0415

    if project is None and volume["shape"] is None:
        project = Path()
    given = {name: value for name, value in volume.items() if value is not None}
    if "bits" in given:
        given["bits"] = int(given["bits"])
    found = api.plan(project, options=stage.options, settings=stage.grouped(*PLANNED), **given)
    stage.show(found.facts(), found.table())
