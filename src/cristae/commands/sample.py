"""The command that fetches public volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cristae.console import Stage, stage_options


@click.command()
@click.argument("name", required=False)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--labelled", type=click.IntRange(1), metavar="N", help="Evenly spaced slices that are labelled.")
@click.option("--accept-changed", is_flag=True, help="Take a file whose checksum is not the one that is known.")
@click.option(
    "--registry", type=click.Path(path_type=Path), metavar="TOML", help="Another list of samples than the built-in one."
)
@stage_options
def sample(
    stage: Stage,
    name: str | None,
    folder: Path | None,
    labelled: int | None,
    accept_changed: bool,
    registry: Path | None,
) -> None:
    """Fetch a public volume and make a project of it. Without NAME list them; without FOLDER say what it is.

    Only this command uses the network, and only with NAME and FOLDER. Files are kept in ~/.cache/cristae, or where
    CRISTAE_CACHE says. Licence and citation are shown, and written into the project.
    """
    from cristae import api  # noqa: PLC0415
    from cristae.stages.samples import find_sample  # noqa: PLC0415

    if name is None:
        known = api.samples(registry)
        lines = [f"{one:10} {entry.title}" for one, entry in known.items()]
        stage.show({one: entry.model_dump(by_alias=True) for one, entry in known.items()}, "\n".join(lines))
    elif folder is None:
        entry = find_sample(name, registry)
        words = f"{entry.describe()}\nfetch it with: cristae sample {name} FOLDER"
        stage.show(entry.model_dump(by_alias=True), words)
    else:
        given: dict[str, Any] = {"accept_changed": True} if accept_changed else {}
        given |= {"labelled": labelled} if labelled else {}
        made = api.sample(name, folder, registry=registry, options=stage.options, **given | stage.settings("sample"))
        facts = {"project": made.path, "classes": made.classes}
        stage.show(facts, f"sample {name}: {made.path}; next: cristae run {made.path}")
