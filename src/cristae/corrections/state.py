"""Up to which line of a journal the overlay beside it is safely on disk: ``state.json``.

What is noted holds for one journal: the checksum of its lines is noted, too. Beside another one, such as an older copy
that was put back, the overlay is of no use, and is made anew from the journal.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from cristae.corrections.disk import sync
from cristae.corrections.journal import Journal
from cristae.files import write_atomically


class State(NamedTuple):
    """How many lines of the journal the overlay holds, and the checksum of these lines, the header too."""

    applied: int
    checksum: int

    @classmethod
    def of(cls, journal: Journal, applied: int) -> State:
        """Return what is to be noted of a journal whose first lines are in the overlay."""
        return cls(applied, journal.checksums[applied])

    def fits(self, journal: Journal) -> bool:
        """Say whether this was noted of a journal that begins as this one does."""
        return 0 <= self.applied < len(journal.checksums) and self == State.of(journal, self.applied)


def read_state(folder: Path) -> State | None:
    """Return what is noted in a folder of corrections; None if nothing is, or it cannot be understood."""
    try:
        content = json.loads((folder / "state.json").read_text())
        return State(int(content["applied"]), int(content["checksum"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def note_state(folder: Path, state: State) -> None:
    """Note what the overlay holds; it must be safely on disk."""
    write_atomically(folder / "state.json", json.dumps(state._asdict()) + "\n")


def drop_overlay(folder: Path) -> None:
    """Remove the overlay of a folder with its notes, for certain."""
    (folder / "state.json").unlink(missing_ok=True)
    sync(folder)
    shutil.rmtree(folder / "changes.ome.zarr", ignore_errors=True)
    sync(folder)
