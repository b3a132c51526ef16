"""`Run`: the record of one computation of one stage."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w

from cristae.environment import environment, peak_memory_mb
from cristae.errors import DataError, UsageError
from cristae.files import write_atomically

Status = Literal["running", "finished", "interrupted", "failed"]


@dataclass(frozen=True)
class Run:
    """One computation of one stage: a folder with its settings, its manifest and its outputs."""

    path: Path
    stage: str
    id: str

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of this run; empty before it begins."""
        try:
            return dict(json.loads((self.path / "manifest.json").read_text()))
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as error:
            raise DataError(f"{self.path / 'manifest.json'} is damaged; delete {self.path} and run again") from error

    @property
    def finished(self) -> bool:
        """Whether all outputs are there."""
        return self.manifest.get("status") == "finished"

    @property
    def settings(self) -> dict[str, Any]:
        """The complete settings of this run."""
        return tomllib.loads((self.path / "settings.toml").read_text())

    @property
    def as_input(self) -> str:
        """What a finished run is called among the inputs of those that rest on it: made anew, it is another one."""
        return f"{self.id} of {self.manifest['ended']}"

    def update(self, **facts: Any) -> None:
        """Add facts (anything JSON can hold) to the manifest, all or nothing."""
        write_atomically(self.path / "manifest.json", json.dumps({**self.manifest, **facts}, indent=1) + "\n")


@contextlib.contextmanager
def recorded(run: Run, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[None]:
    """Run a stage inside this; see `cristae.project.Project.record`.

    Parameters
    ----------
    run
        Whose record is written.
    settings
        Complete, without None.
    facts
        For its manifest, beside those that all runs have.
    """
    new = not run.path.exists()
    before = {} if run.finished else run.manifest  # one that is done again starts from nothing
    run.path.mkdir(parents=True, exist_ok=True)
    for left in run.path.glob(".*.partial"):  # by one who was killed
        if left.is_file():
            left.unlink(missing_ok=True)
    write_atomically(run.path / "settings.toml", tomli_w.dumps(settings))
    run.update(
        stage=run.stage,
        id=run.id,
        status="running",
        started=before.get("started", time.time()),
        resumed=before.get("resumed", -1) + 1,
        **facts,
        environment=environment(),
    )
    earlier, begin = float(before.get("seconds", 0.0)), time.monotonic()
    status: Status = "failed"
    try:
        yield
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except (DataError, UsageError):
        if new and _holds_no_output(run.path):
            shutil.rmtree(run.path, ignore_errors=True)
        raise
    finally:
        with contextlib.suppress(OSError):
            run.update(
                status=status,
                ended=time.time(),
                seconds=round(earlier + time.monotonic() - begin, 3),
                peak_memory_mb=peak_memory_mb(),
            )


def last_wanted(manifest: Mapping[str, Any]) -> float:
    """Return when a run ended, or was asked for again after that."""
    return max(float(manifest["ended"]), float(manifest.get("asked_again", 0)))


def _holds_no_output(path: Path) -> bool:
    return {file.name for file in path.rglob("*") if not file.is_dir()} <= {"settings.toml", "manifest.json"}
