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


cross_validate_option = click.option(
    "--cross-validate", is_flag=True, help="First leave out one labelled slice at a time, with the settings of train."
)


@click.command()
@project_argument
@cross_validate_option
@stage_options
def quality(stage: Stage, project: Path, cross_validate: bool) -> None:
    """Estimate how good each slice is, without truth, and list what looks wrong."""
    import pandas as pd  # noqa: PLC0415

    from cristae import api  # noqa: PLC0415
    from cristae.stages.quality_words import class_in_words  # noqa: PLC0415

    given = stage.grouped("quality", "train")
    if cross_validate:
        api.cross_validate(project, options=stage.options, **given.get("train", {}))
    run = api.quality(project, options=stage.options, **given.get("quality", {}))
    classes = pd.read_parquet(run.path / "classes.parquet").to_dict("records")
    flags = ", ".join(f"{n} {kind}" for kind, n in run.manifest["n_flags"].items()) or "none"
    lines = [
        *(class_in_words({str(key): value for key, value in row.items()}) for row in classes),
        f"red flags: {flags}",
    ]
    stage.show({**run.manifest, "run": run.path}, "\n".join([*lines, str(run.path / "proofread.md")]))


@click.command()
@project_argument
@cross_validate_option
@stage_options
def doctor(stage: Stage, project: Path, cross_validate: bool) -> None:
    """Name labelled slices whose labels disagree with what the others teach."""
    from cristae import api  # noqa: PLC0415

    given = stage.grouped("doctor", "train")
    if cross_validate:
        api.cross_validate(project, options=stage.options, **given.get("train", {}))
    run = api.doctor(project, options=stage.options, **given.get("doctor", {}))
    stage.show({**run.manifest, "run": run.path}, f"{(run.path / 'doctor.md').read_text()}\n{run.path}")
