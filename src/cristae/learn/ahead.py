"""Batches that are cut while the one before is learnt."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Ahead(Generic[Batch]):
    """Makes the next batch in a thread of its own.

    Parameters
    ----------
    make
        Makes the batch of an update, which depends on nothing but its number.
    """

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Batch]] | None = None

    def take(self, step: int) -> Batch:
        """Return the batch of update `step`, and begin with that of the next."""
        ready = self._next is not None and self._next[0] == step
        batch = self._next[1].result() if self._next and ready else self._make(step)
        self._next = step + 1, self._pool.submit(self._make, step + 1)
        return batch

    def forget(self) -> None:
        """Throw away what is made ahead, once it has ended: `make` is about to change."""
        if self._next:
            self._next[1].result()
            self._next = None

    def close(self) -> None:
        """Stop making batches."""
        self._pool.shutdown(cancel_futures=True)
