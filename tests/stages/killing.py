"""Run as a program: does a stage again and again, each time stopped at another moment, until it is let finish.

Moments are drawn from a seed. Some attempts are killed at an access to a file of the project (an open, a rename, a
deletion), some at a point in time, which may lie inside compiled code; for some the disk is full from an access on.
Each attempt is a process of its own, forked when all is loaded and nothing has run.

::

    python killing.py TEMPLATE FOLDER SEED STOPS STAGE SETTINGS
"""

from __future__ import annotations

import errno
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
from typing import Literal, NamedTuple

from same_outputs import outputs

from cristae import api
from cristae.errors import ResourceError
from cristae.stages import check, equalise, measure, mesh, predict, track, train  # noqa: F401
from cristae.stages.options import Options

# The stages above are loaded before any fork.
_ACCESSES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "shutil.copyfile", "os.chmod")
FULL = ResourceError.exit_code


class Stop(NamedTuple):
    """When an attempt ends, and of what: after some accesses to files, or some seconds."""

    way: Literal["killed", "full", "late"]
    moment: float


class Ended(NamedTuple):
    """How an attempt ended: exit status or signal, accesses, seconds."""

    status: int
    n_accesses: int
    seconds: float


def attempt(work: Callable[[], object], folder: Path, stop: Stop | None) -> Ended:
    """Do `work` in a process of its own, stopped at a moment."""
    reading, writing = os.pipe()
    begun, pid = time.monotonic(), os.fork()
    if pid == 0:
        _do(work, folder, stop, writing)
    os.close(writing)
    killer = threading.Timer(stop.moment if stop else 0, os.kill, (pid, signal.SIGKILL))
    if stop and stop.way == "late":
        killer.start()
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    killer.cancel()
    os.waitpid(pid, 0)
    with os.fdopen(reading) as told:
        return Ended(found.si_status if found else 1, int(told.read() or 0), time.monotonic() - begun)


def _do(work: Callable[[], object], folder: Path, stop: Stop | None, writing: int) -> None:
    seen, status = 0, 1

    def count(event: str, about: tuple) -> None:
        nonlocal seen
        if event not in _ACCESSES or not str(about[0]).startswith(str(folder)):
            return
        seen += 1
        if stop and stop.way == "killed" and seen > stop.moment:
            os.kill(os.getpid(), signal.SIGKILL)
        writes = event == "os.mkdir" or (event == "open" and about[2] & (os.O_WRONLY | os.O_RDWR))
        if stop and stop.way == "full" and seen > stop.moment and writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sys.addaudithook(count)
    try:
        work()
        status = 0
    except ResourceError as error:
        status = FULL if "free some space and run the same command again" in str(error) else 1
        if status == 1:
            traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os.write(writing, str(seen).encode())
        os._exit(status)


def main(template: Path, folder: Path, seed: int, n_stops: int, stage: str, settings: dict) -> None:
    """See the module."""
    generator = random.Random(seed)
    whole, stopped = folder / "whole" / "p", folder / "stopped" / "p"

    def work(path: Path) -> Callable[[], object]:
        return lambda: getattr(api, stage)(path, **settings, options=Options(executor="threads:2"))

    def difference() -> list[str]:
        expected, found = outputs(whole), outputs(stopped)
        return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))

    for path in (whole, stopped):
        shutil.copytree(template, path)
    usual = attempt(work(whole), folder, None)
    assert usual.status == 0, f"{stage} fails without being stopped"
    n_stopped, n_in_a_row, differ = 0, 0, set[str]()
    while n_stopped < n_stops or n_in_a_row:
        # A resumed run has less left to do; and from time to time one must be let finish.
        how = None
        if n_stopped < n_stops and n_in_a_row < 4:
            way = ("killed", "full", "late")[n_stopped % 3]
            most = usual.seconds if way == "late" else usual.n_accesses
            how = Stop(way, generator.random() * most / (1 + n_in_a_row))
        status = attempt(work(stopped), folder, how).status
        assert status in (0, signal.SIGKILL, FULL), f"{stage} fails after {n_in_a_row} stops in a row, at {how}"
        n_stopped, n_in_a_row = (n_stopped + 1, n_in_a_row + 1) if status else (n_stopped, 0)
        if not status:
            differ |= set(difference())
            shutil.rmtree(stopped)
            shutil.copytree(template, stopped)
    print(json.dumps({"stops": n_stopped, "accesses": usual.n_accesses, "differ": sorted(differ)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], json.loads(sys.argv[6]))
