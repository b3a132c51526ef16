"""Run as a program: does a stage again and again, each time killed at another moment, until it is let finish.

Moments are drawn from a seed: half of them are an access to a file (an open, a rename, a deletion), half a point in time,
which may lie inside compiled code. Each attempt is a process of its own, forked when all is loaded and nothing has run.

::

    python killing.py TEMPLATE FOLDER SEED KILLS STAGE SETTINGS
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import cristae
from cristae import api
from cristae.stages import measure, predict, track, train  # noqa: F401  loaded before any fork
from cristae.stages.options import Options
from same_outputs import outputs

_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "shutil.copyfile", "os.chmod")


def attempt(work: Callable[[], object], folder: Path, at: int | None, after_s: float | None) -> tuple[int, int, float]:
    """Do `work` in a process of its own, killed at a moment; return its status, its file accesses and its seconds."""
    reading, writing = os.pipe()
    begun, pid = time.monotonic(), os.fork()
    if pid == 0:
        seen = 0

        def count(event: str, about: tuple) -> None:
            nonlocal seen
            if event in _EVENTS and str(about[0]).startswith(str(folder)):
                if seen == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        sys.addaudithook(count)
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os.write(writing, str(seen).encode())
            os._exit(status)
    os.close(writing)
    killer = threading.Timer(after_s or 0, os.kill, (pid, signal.SIGKILL))
    if after_s is not None:
        killer.start()
    status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status
    killer.cancel()
    os.waitpid(pid, 0)
    with os.fdopen(reading) as told:
        return status, int(told.read() or 0), time.monotonic() - begun


def main(template: Path, folder: Path, seed: int, n_kills: int, stage: str, settings: dict) -> None:
    """See the module."""
    generator = random.Random(seed)
    whole, killed = folder / "whole" / "p", folder / "killed" / "p"

    def work(path: Path) -> Callable[[], object]:
        return lambda: getattr(api, stage)(path, **settings, options=Options(executor="threads:2"))

    def difference() -> list[str]:
        expected, found = outputs(whole), outputs(killed)
        return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))

    for path in (whole, killed):
        shutil.copytree(template, path)
    status, n_events, seconds = attempt(work(whole), folder, None, None)
    assert status == 0, f"{stage} fails without being killed"
    n_hit, n_in_a_row, differ = 0, 0, set[str]()
    while n_hit < n_kills or n_in_a_row:
        # A resumed run has less left to do; and from time to time one must be let finish.
        left = 1 / (1 + n_in_a_row)
        event = int(generator.random() * n_events * left) if n_hit % 2 == 0 else None
        after = generator.random() * seconds * left if event is None else None
        done = n_hit >= n_kills or n_in_a_row == 4
        status, _, _ = attempt(work(killed), folder, *((None, None) if done else (event, after)))
        assert status in (0, signal.SIGKILL), f"{stage} fails after {n_in_a_row} kills in a row"
        n_hit, n_in_a_row = (n_hit + 1, n_in_a_row + 1) if status else (n_hit, 0)
        if not status:
            differ |= set(difference())
            shutil.rmtree(killed)
            shutil.copytree(template, killed)
    print(json.dumps({"kills": n_hit, "events": n_events, "seconds": seconds, "differ": sorted(differ)}))


if __name__ == "__main__":
    assert cristae
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], json.loads(sys.argv[6]))
