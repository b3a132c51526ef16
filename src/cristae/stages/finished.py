"""What all stages do when they are asked for what is there already."""

from __future__ import annotations

from cristae.project import Project, Run
from cristae.stages.options import Options


def nothing_to_do(project: Project, run: Run, options: Options, name: str = "") -> bool:
    """Say whether a run is finished and need not be done again; later stages then rest on it, and the user is told.

    Parameters
    ----------
    project, run
        What is asked for.
    options
        With ``options.force`` there is always something to do.
    name
        What the user calls the stage, where that is not its name.
    """
    if not run.finished or options.force:
        return False
    project.ask_again(run)
    options.notify(f"{name or run.stage}: nothing to do, {run.path.name} is finished (do it again with --force)")
    return True
