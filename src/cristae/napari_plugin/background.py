"""Long reading beside the window: in a thread, with progress, and its end told where widgets may be touched."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

_EVERY_S = 0.1


class _StoppedError(Exception):
    """Nobody waits any more."""


class Background(QObject):  # type: ignore[misc]
    """Something that is at work in a thread as soon as it is made.

    Parameters
    ----------
    work
        Given what is to be told after each unit of work (done, total), returns a result. Must not touch widgets.
    told
        Called in the thread of the window with done and total, now and then.
    ended
        Called in the thread of the window with the result, or with the exception that ended it; not called after
        `stop`.
    """

    _told = Signal(int, int)
    _ended = Signal(object)

    def __init__(
        self,
        work: Callable[[Callable[[int, int], object]], Any],
        told: Callable[[int, int], object],
        ended: Callable[[Any], object],
    ) -> None:
        super().__init__()
        self._work, self._tell, self._end = work, told, ended
        self._stop, self._last = threading.Event(), 0.0
        # Slots of an object run in the thread that made it.
        self._told.connect(self._on_told)
        self._ended.connect(self._on_ended)
        self._thread = threading.Thread(target=self._run, name="cristae background", daemon=True)
        self._thread.start()

    @property
    def going_on(self) -> bool:
        """Whether the thread is at work, be it after `stop`."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Wait for nothing more; the thread ends with its unit of work."""
        self._stop.set()

    def _run(self) -> None:
        try:
            result: Any = self._work(self._progress)
        except _StoppedError:
            return
        except Exception as error:  # a window that is told nothing waits for ever
            result = error
        with contextlib.suppress(RuntimeError):  # the window is gone
            self._ended.emit(result)

    def _progress(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise _StoppedError
        now = time.monotonic()
        if now - self._last > _EVERY_S:
            self._last = now
            with contextlib.suppress(RuntimeError):
                self._told.emit(done, total)

    def _on_told(self, done: int, total: int) -> None:
        if not self._stop.is_set():
            self._tell(done, total)

    def _on_ended(self, result: Any) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self._end(result)


def in_words(error: Exception) -> str:
    """Return what an exception says, with its name where that is needed: a lack of memory says nothing."""
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__} {error}".rstrip()
