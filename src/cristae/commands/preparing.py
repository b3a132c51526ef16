"""The commands that prepare a raw stack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cristae.console import Stage, project_argument, stage_options

_use = click.option(
    "--use", metavar="raw|RUN", help="Compute nothing; take the raw image, or that of a run such as align-…, into use."
)


@click.command()
@project_argument
@_use
@stage_options
def align(stage: Stage, project: Path, use: str | None) -> None:
    """Lay the slices of the raw stack on one another, and take the aligned image into use."""
    from cristae import api  # noqa: PLC0415

    def words(facts: dict[str, Any]) -> str:
        size = " × ".join(map(str, facts["shape"]))
        parts = f", in {len(facts['parts'])} parts that no match joins" if len(facts["parts"]) > 1 else ""
        return f"aligned to {facts['residual_px_median']:.3g} px in the median{parts}: {size} voxels (z, y, x)"

    _prepare(stage, project, use, "align", (api.align, words))


@click.command()
@project_argument
@_use
@stage_options
def equalise(stage: Stage, project: Path, use: str | None) -> None:
    """Bring the grey values of every slice to one scale, and take the equalised image into use."""
    from cristae import api  # noqa: PLC0415

    _prepare(stage, project, use, "equalise", (api.equalise, lambda facts: f"equalised by {facts['method']}"))


def _prepare(
    stage: Stage,
    project: Path,
    use: str | None,
    name: str,
    how: tuple[Callable[..., Any], Callable[[dict[str, Any]], str]],
) -> None:
    from cristae import api  # noqa: PLC0415

    settings = stage.settings(name)
    if use is not None:
        if settings:
            raise click.UsageError("--use computes nothing, so that --set has no meaning; leave one of them out")
        image = api.use_image(project, use, options=stage.options)
        facts = {"image": use, "shape": image.shape}
        stage.show(facts, f"in use: {use}, {' × '.join(map(str, image.shape))} voxels (z, y, x)")
        return
    function, words = how
    run = function(project, options=stage.options, **settings)
    stage.show(run.manifest, f"{words(run.manifest)}: {run.path}")
