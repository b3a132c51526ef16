"""The commands that say what to label, correct and trust."""

from __future__ import annotations

from pathlib import Path

import click

from cristae.console import Stage, project_argument, stage_options


@click.command()
@project_argument
@click.option("--n", "n", type=int, help="Slices to advise; the setting advise.n.")
@stage_options
def advise(stage: Stage, project: Path, n: int | None) -> None:
    """Say which slices to label next, and why, as a task list."""
    import pandas as pd  # noqa: PLC0415

    from cristae import api  # noqa: PLC0415
    from cristae.stages.advise_words import advice_in_words  # noqa: PLC0415

    settings = stage.settings("advise") | ({} if n is None else {"n": n})
    run = api.advise(project, options=stage.options, **settings)
    words = advice_in_words(pd.read_parquet(run.path / "advice.parquet"))
    stage.show({**run.manifest, "run": run.path}, f"{words}\n{run.path / 'tasks.md'}")
