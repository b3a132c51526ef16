"""Who does the work: this thread, threads of this process, or the processes of a Dask cluster.

A stage says what is to be done and to what; it never knows who does it::

    crew = Crew("dask:tcp://node1:8786", run.path)
    for result in crew.unordered(function, tasks): ...

Nothing that comes out depends on the executor. Functions and tasks for a cluster are pickled: volumes travel as paths.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeVar

from cristae.errors import UsageError

if TYPE_CHECKING:
    from cristae.cluster import Cluster, ClusterPool

Task = TypeVar("Task")
Result = TypeVar("Result")
Kind = Literal["serial", "threads", "dask"]


@dataclass(frozen=True)
class Crew:
    """Those who work on the blocks, slices or objects of one run.

    Parameters
    ----------
    executor
        ``serial``; ``threads:N``: N tasks at a time; ``dask:tcp://HOST:PORT``: the workers of that scheduler;
        ``dask:local:N``: N processes of this machine.
    folder
        Where workers of a cluster find what they have to know: a folder that all machines see, such as the run's.

    Raises
    ------
    UsageError
        If there is no such executor.
    """

    executor: str = "serial"
    folder: Path = Path()

    def __post_init__(self) -> None:
        parse_executor(self.executor)

    @property
    def kind(self) -> Kind:
        """What kind of executor it is."""
        return parse_executor(self.executor)[0]

    @property
    def n_together(self) -> int:
        """Number of tasks that are worked on at a time in one process, and so share its memory."""
        kind, number = parse_executor(self.executor)
        return {"serial": 1, "threads": number}.get(kind) or self._cluster().n_threads

    @property
    def n_here(self) -> int:
        """Number of threads that work in this process may take which no cluster can help with."""
        kind, number = parse_executor(self.executor)
        return number if kind == "threads" else 1

    def check(self) -> None:
        """Raise ResourceError if they are not there: call it before anything is touched."""
        if self.kind == "dask":
            self._cluster()

    def alone(self) -> Crew:
        """Return who does tasks of which each keeps all cores busy: no threads side by side."""
        return Crew("serial", self.folder) if self.kind == "threads" else self

    def unordered(
        self, work: Callable[[Task], Result], todo: Iterable[Task], at_most: int | None = None
    ) -> Iterator[Result]:
        """Yield what `work` returns of each task, as they end; the first error stops the rest.

        Parameters
        ----------
        work
            Is pickled for a cluster, with what it refers to.
        todo
            Tasks, none of them large.
        at_most
            Tasks at a time in one process, where that is less than there could be.

        Raises
        ------
        ResourceError
            If a cluster cannot be reached or used, or a task ended several workers.
        """
        if self.kind == "serial":
            yield from map(work, todo)
            return
        waiting, running = deque(todo), set[Future[Result]]()
        with self._pool(work, at_most) as pool:
            while waiting or running:
                while waiting and len(running) < pool.width:
                    running.add(pool.submit(waiting.popleft()))
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                yield from map(pool.result, ended)

    def ordered(self, work: Callable[[Task], Result], todo: Iterable[Task]) -> Iterator[Result]:
        """Yield what `work` returns of each task in the order of the tasks; otherwise as `unordered`."""
        if self.kind == "serial":
            yield from map(work, todo)
            return
        waiting, running = deque(todo), deque[Future[Result]]()
        with self._pool(work, None) as pool:
            while waiting or running:
                while waiting and len(running) < pool.width:
                    running.append(pool.submit(waiting.popleft()))
                yield pool.result(running.popleft())

    def _pool(
        self, work: Callable[[Task], Result], at_most: int | None
    ) -> _ThreadPool[Task, Result] | ClusterPool[Task, Result]:
        at_most = at_most or self.n_together
        return (
            self._cluster().pool(work, self.folder, at_most)
            if self.kind == "dask"
            else _ThreadPool(work, min(at_most, self.n_together))
        )

    def _cluster(self) -> Cluster:
        from cristae.cluster import connect  # noqa: PLC0415  an extra, and slow to load

        return connect(self.executor.removeprefix("dask:"))


def parse_executor(executor: str) -> tuple[Kind, int]:
    """Return the kind of an executor, and its number of tasks at a time (0 for a cluster, which knows itself).

    Raises
    ------
    UsageError
        If there is no such executor.
    """
    kind, _, rest = executor.partition(":")
    if executor == "serial":
        return "serial", 1
    if kind == "threads" and rest.isdigit() and int(rest) > 0:
        return "threads", int(rest)
    local = rest.removeprefix("local:")
    if kind == "dask" and ("://" in rest or (local != rest and local.isdigit() and int(local) > 0)):
        return "dask", 0
    raise UsageError(
        f"unknown executor {executor!r}: expected serial; threads:N, for example threads:4; dask:ADDRESS of a "
        "scheduler, for example dask:tcp://node1:8786; or dask:local:N for N processes of this machine"
    )


class _ThreadPool(Generic[Task, Result]):
    """Threads that do one kind of work; `width` tasks may be begun or waiting."""

    def __init__(self, work: Callable[[Task], Result], n_threads: int) -> None:
        self._work, self._threads, self.width = work, ThreadPoolExecutor(n_threads), n_threads

    def submit(self, task: Task) -> Future[Result]:
        """Begin a task as soon as a thread is free."""
        return self._threads.submit(self._work, task)

    def result(self, future: Future[Result]) -> Result:
        """Return what a task returned."""
        return future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)
