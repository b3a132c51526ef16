"""What every stage accepts beside its settings: how to work, never what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cristae.blockwise import Progress, n_workers
from cristae.errors import UsageError


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
        ``serial`` or ``threads:N``; see `cristae.blockwise.Execution`.
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
        n_workers(self.executor)  # a wrong name is refused before any work
