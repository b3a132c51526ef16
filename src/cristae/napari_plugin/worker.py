"""A stage in a process of its own, for the widget: what it says comes as lines of JSON; an interrupt stops it.

``python -m cristae.napari_plugin.worker train PROJECT`` prints ``{"task": …, "done": …, "total": …}``, ``{"note": …}``
and at the end ``{"run": …}`` or ``{"error": …}``. It exits as the command line does.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from cristae.errors import CristaeError

STAGES = ("train", "predict", "cells", "track", "objects")
"""Stages that can be run, in their order."""
_EVERY_S = 0.2


def main(arguments: list[str], out: TextIO) -> int:
    """Run the stages named in the first argument (joined by commas) on the project in the second."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGBREAK"):
        signal.signal(signal.SIGBREAK, signal.default_int_handler)

    def say(**facts: Any) -> None:
        print(json.dumps(facts, default=str), file=out, flush=True)

    try:
        from cristae import api  # noqa: PLC0415  takes seconds
        from cristae.allocation import wait_asleep  # noqa: PLC0415
        from cristae.stages.options import Options  # noqa: PLC0415

        wait_asleep()
        stages, project = arguments[0].split(","), arguments[1]
        options = Options(progress=lambda task: _progress(task, say), notify=lambda words: say(note=words))
        for stage in stages:
            if stage not in STAGES:
                raise SystemExit(2)
            run = getattr(api, stage)(project, options=options)
            say(run=str(run.path), stage=stage)
    except KeyboardInterrupt:
        say(error="cancelled; the same goes on where this stopped")
        return 130
    except CristaeError as error:
        say(error=str(error))
        return error.exit_code
    return 0


def _progress(task: str, say: Callable[..., None]) -> Callable[..., None]:
    begun = [0.0, 0.0, 0.0]  # first time, units then, last time told

    def advance(done: int, total: int, **facts: float) -> None:
        now = time.monotonic()
        if not begun[0]:
            begun[0], begun[1] = now, float(done)
        if now - begun[2] < _EVERY_S and done < total:
            return
        begun[2] = now
        rate = (done - begun[1]) / max(now - begun[0], 1e-9)
        left = (total - done) / rate if rate > 0 else None
        say(task=task, done=done, total=total, seconds_left=left, **facts)

    return advance


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
