"""The command that looks over an image."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cristae.console import Stage, parse_slices, project_argument, stage_options


@click.command()
@project_argument
@click.option("--exclude", is_flag=True, help="Leave the slices with severe faults out of all that follows.")
@click.option("--exclude-slices", "bad", metavar="Z,Z-Z,...", help="Leave these slices out, without a check.")
@click.option("--include-slices", "good", metavar="Z,Z-Z,...", help="Take these slices in again, without a check.")
@stage_options
def check(stage: Stage, project: Path, exclude: bool, bad: str | None, good: str | None) -> None:
    """Look over the image: what is wrong, and in which slices."""
    from cristae import api  # noqa: PLC0415
    from cristae.stages.check import findings_in_words  # noqa: PLC0415
    from cristae.wording import number_ranges  # noqa: PLC0415

    settings = stage.settings("check")
    if bad or good:
        chosen = [
            parse_slices(text, option) or () for text, option in ((bad, "exclude-slices"), (good, "include-slices"))
        ]
        out = api.exclude_slices(project, chosen[0], good=chosen[1], options=stage.options)
        if not exclude:
            stage.show({"bad_slices": out}, f"left out as bad: slices {number_ranges(out)}")
            return
    opened = api.open_project(project)
    run = api.check(opened, exclude=exclude, options=stage.options, **settings)
    found = json.loads((run.path / "findings.json").read_text())
    facts = {**found, "run": run.path, "bad_slices": opened.file.bad_slices}
    stage.show(facts, f"{findings_in_words(opened, run)}\n{run.path}")
