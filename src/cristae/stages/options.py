"""What every stage accepts beside its settings: how to work, never what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cristae.blockwise import Progress
from cristae.errors import UsageError
from cristae.executors import Crew, parse_executor


def _silent(done: int, total: int, **facts: float) -> None:
    """Show nothing."""


def _no_progress(task: str) -> Progress:
    return _silent


def _no_words(message: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Options:
    """Shared options of all stages.

    Parameters
    ----------
    force
        Do it again even if a finished run with the same settings and inputs is there.
    executor
        ``serial``, ``threads:N``, ``dask:ADDRESS`` or ``dask:local:N``; see `cristae.executors.Crew`.
    progress
        Given the name of a task, returns what is told after each unit of work of it.
    notify
        Told sentences that the user should see: sizes, choices made, warnings.
    max_ram_gb
        Memory of the process that is to be kept within, in GB of 2³⁰ bytes; none is looked at by default. See
        `cristae.stages.limits`.
    """

    force: bool = False
    executor: str = "serial"
    progress: Callable[[str], Progress] = _no_progress
    notify: Callable[[str], None] = _no_words
    max_ram_gb: float | None = None

    def __post_init__(self) -> None:
        if self.max_ram_gb is not None and not self.max_ram_gb > 0:
            raise UsageError(f"--max-ram is a number of GB above 0, got {self.max_ram_gb:g}")
        parse_executor(self.executor)  # a wrong name is refused before any work

    def crew(self, folder: Path) -> Crew:
        """Return who works on a run, whose folder this is."""
        return Crew(self.executor, folder)

    def check(self) -> None:
        """See that those who are to work are there; call it before anything is touched."""
        Crew(self.executor).check()
