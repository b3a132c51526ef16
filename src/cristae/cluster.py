"""Dask: work done by other processes, here or on other machines. An extra; imported only when it is asked for.

::

    client   plans; pickles the function, into the folder of the run; sends tasks (a box, a number); notes what ended
    worker   reads the function once; reads blocks from disk, works, writes blocks to disk; returns little or nothing

No voxel passes the scheduler. All machines must see the project under the same path, and have the same versions
installed. A task whose worker dies is done again by another one. Only those who may start programs on the workers
should reach the scheduler: what it is sent is executed.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import logging
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from cristae.environment import PACKAGES, versions
from cristae.errors import ResourceError

try:
    import cloudpickle
    from distributed import Client, LocalCluster
    from distributed.exceptions import WorkerStartTimeoutError
    from distributed.scheduler import KilledWorker
except ImportError as error:
    raise ResourceError("Dask is not installed; install it with: pip install 'cristae[dask]'") from error

Task = TypeVar("Task")
Result = TypeVar("Result")

PATIENCE_S = 5
"""How long a scheduler may take to answer."""
WORKERS_PATIENCE_S = 60
"""How long the first worker may take to appear."""
PREFIX = ".work-"
"""Begins the names of files that hold a function for workers."""
_LOOK_S = 5.0
"""How often it is looked whether workers have come or gone."""

_open: dict[str, Cluster] = {}
_loading = threading.Lock()


def connect(address: str) -> Cluster:
    """Return the workers of a scheduler; the connection is kept until the process ends or `disconnect` is called.

    Parameters
    ----------
    address
        ``tcp://HOST:PORT``, or ``local:N`` for N processes of this machine, which end with this one.

    Raises
    ------
    ResourceError
        If nobody answers, there are no workers, or they have other versions of what results depend on.
    """
    cluster = _open.get(address)
    if cluster is None or not cluster.alive:
        disconnect(address)
        cluster = _open[address] = Cluster(address)
    return cluster


def disconnect(address: str | None = None) -> None:
    """Let go of the workers of a scheduler, or of all; those of this machine end."""
    for one in [address] if address else list(_open):
        if cluster := _open.pop(one, None):
            cluster.close()


atexit.register(disconnect)


class Cluster:
    """A connection to a scheduler and its workers; see `connect`."""

    def __init__(self, address: str) -> None:
        kind, _, number = address.partition(":")
        self._processes = _start(int(number)) if kind == "local" else None
        try:
            self._client = _client(self._processes or address)
            _check_versions(self._client)
        except BaseException:
            if self._processes:
                self._processes.close()
            raise
        self._looked, self._threads = -_LOOK_S, {}  # type: float, Mapping[str, int]

    @property
    def alive(self) -> bool:
        """Whether the scheduler can be reached."""
        return bool(self._client.status == "running")

    @property
    def n_threads(self) -> int:
        """Tasks that a worker process does at a time: the most that any does."""
        return max(self._nthreads().values(), default=1)

    @property
    def width(self) -> int:
        """Tasks that should be under way: each worker has its next one while it works."""
        return max(1, 2 * sum(self._nthreads().values()))

    def pool(self, work: Callable[[Task], Result], folder: Path, at_most: int) -> ClusterPool[Task, Result]:
        """Return who does one kind of work; `folder` is where workers read what that is."""
        return ClusterPool(self, self._client, _pickled(work), folder, at_most)

    def close(self) -> None:
        """End the connection."""
        self._client.close()
        if self._processes:
            self._processes.close()

    def _nthreads(self) -> Mapping[str, int]:
        if time.monotonic() - self._looked > _LOOK_S:
            self._threads, self._looked = self._client.nthreads(), time.monotonic()
        return self._threads


class ClusterPool(Generic[Task, Result]):
    """Workers that do one kind of work.

    Parameters
    ----------
    cluster, client
        Whose workers.
    content
        The function, pickled.
    folder
        Where it is put while it is needed.
    at_most
        Tasks at a time in one process.
    """

    def __init__(self, cluster: Cluster, client: Client, content: bytes, folder: Path, at_most: int) -> None:
        digest = hashlib.blake2b(content, digest_size=32).hexdigest()
        self._path = folder.absolute() / f"{PREFIX}{os.getpid()}-{digest[:16]}"
        self._cluster, self._content = cluster, content
        self._order = (str(self._path), digest, tuple(versions().items()), at_most)
        self._executor = client.get_executor(pure=False)

    @property
    def width(self) -> int:
        """Tasks that should be under way."""
        return self._cluster.width

    def submit(self, task: Task) -> Future[Result]:
        """Send a task."""
        future: Future[Result] = self._executor.submit(perform, *self._order, _pickled(task))
        return future

    def result(self, future: Future[Result]) -> Result:
        """Return what a task returned.

        Raises
        ------
        ResourceError
            If it ended several workers, the scheduler is gone, or a worker lacks a package.
        """
        try:
            return future.result()
        except KilledWorker as error:
            raise ResourceError(
                f"{error.allowed_failures + 1} workers died of the same piece of work, the last at "
                f"{error.last_worker.address}; most often they lack memory: give them more, or lower max_ram_gb. What "
                "is finished is kept"
            ) from error
        except CancelledError as error:
            raise ResourceError(
                "the scheduler is gone; what is finished is kept: start it again and run the same command"
            ) from error
        except ModuleNotFoundError as error:
            raise ResourceError(f"a worker lacks a package ({error}); install the same there as here") from error

    def __enter__(self) -> Self:
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{PREFIX}*"):  # of a client that was killed
            if not left.name.startswith(f"{PREFIX}{os.getpid()}-"):
                left.unlink(missing_ok=True)
        self._path.write_bytes(self._content)
        return self

    def __exit__(self, *error: object) -> None:
        if self._cluster.alive:
            self._executor.shutdown(wait=False)
        self._path.unlink(missing_ok=True)


def perform(path: str, digest: str, expected: tuple[tuple[str, str], ...], at_most: int, task: bytes) -> Any:
    """Do one task; called on workers.

    Parameters
    ----------
    path, digest
        Where the function is, and the hash of that file: nothing else is unpickled.
    expected
        Versions of the client.
    at_most
        Tasks at a time in this process.
    task
        Pickled.
    """
    with _loading:
        work, gate = _loaded(path, digest, expected, at_most)
    with gate:
        return work(pickle.loads(task))  # noqa: S301  from the client, as is this call


@lru_cache(maxsize=1)
def _loaded(
    path: str, digest: str, expected: tuple[tuple[str, str], ...], at_most: int
) -> tuple[Callable[[Any], Any], threading.Semaphore]:
    _compare(dict(expected), versions(), f"the worker on {socket.gethostname()}")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ResourceError(
            f"the worker on {socket.gethostname()} cannot read {Path(path).parent} ({error.strerror}): all machines "
            "must see the project under the same path"
        ) from error
    if hashlib.blake2b(content, digest_size=32).hexdigest() != digest:
        raise ResourceError(f"{path} is not what the client wrote; run the same command again")
    return pickle.loads(content), threading.Semaphore(at_most)  # noqa: S301  the client vouches for the hash


_Cached = type(lru_cache(str))


def _cached(function: Callable[..., Any], how: dict[str, Any]) -> Callable[..., Any]:
    return lru_cache(**how)(function)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles functions by what they do, and paths so that they mean the same in another folder."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Path) and not obj.is_absolute():
            return type(obj), (str(obj.absolute()),)
        if isinstance(obj, _Cached) and "<locals>" in obj.__qualname__:  # pickled by its name, which nobody knows
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        return super().reducer_override(obj)


def _pickled(thing: Any) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file).dump(thing)
        return file.getvalue()


def _start(n_workers: int) -> LocalCluster:
    # A user's own number of threads counts.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // n_workers)))
    return LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        dashboard_address=None,
        # Without a dashboard there still is a web server: for this machine alone, at a port that no other cluster has.
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.CRITICAL,
        # Ctrl-C in a terminal reaches all; it is the client who ends the others.
        preload="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
        env={"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"},
    )


def _client(where: LocalCluster | str) -> Client:
    """Return a connection to a scheduler that has workers."""
    try:
        client = Client(where, timeout=PATIENCE_S, set_as_default=False, direct_to_workers=True)
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"no Dask scheduler answers at {where}: {error}. Start one with: dask scheduler, or work on this machine "
            "with --executor dask:local:2"
        ) from error
    try:
        client.wait_for_workers(1, timeout=WORKERS_PATIENCE_S)
    except WorkerStartTimeoutError as error:
        client.close()
        raise ResourceError(
            f"the scheduler at {where} has no workers; start some with: dask worker {where} --nthreads 1"
        ) from error
    return client


def _check_versions(client: Client) -> None:
    """See whether all have what the client has, before any work."""
    found = client.get_versions(packages=list(PACKAGES))
    for name, facts in {"the scheduler": found["scheduler"], **found["workers"]}.items():
        python, there = facts["host"]["python"], facts["packages"]
        where = name if name == "the scheduler" else f"the worker at {name}"
        _compare(versions(), {**there, "python": ".".join(python.split(".")[:2])}, where)


def _compare(expected: Mapping[str, str], there: Mapping[str, str | None], where: str) -> None:
    for name, wanted in expected.items():
        if there.get(name) != wanted:
            has = f"has {name} {there[name]}" if there.get(name) else f"has no {name}"
            raise ResourceError(
                f"{where} {has}, this process has {name} {wanted}; results would differ: install the same versions "
                "everywhere"
            )
