"""A training by several processes of this machine, one per graphics card: begun, listened to, and ended together.

::

    this process      begins the others, shows what the first one tells, hands Ctrl-C on, raises the first error
    ├── process 0     learns, judges, writes checkpoints        needs the extra ``multi``: Lightning Fabric begins them
    ├── process 1     learns                                    and connects them
    └── …

Nobody stays behind: whatever ends this process ends the others.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawValue
from types import FrameType
from typing import Any, TypeVar

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from cristae.allocation import keep_freed_memory
from cristae.blockwise import Progress
from cristae.errors import ResourceError, UsageError
from cristae.learn.interrupt import Interrupt
from cristae.learn.processes import PartedError, Processes, Several
from cristae.stages.options import Options
from cristae.stages.schemes import choose_device
from cristae.stages.train_settings import TrainSettings

Result = TypeVar("Result")
Job = Callable[[Options, Processes], Result]
"""What each process does; it is pickled."""

PATIENCE_S = 5.0
"""How long the last words of processes that have ended are waited for."""
_SET_BY_OTHERS = ("MASTER_ADDR", "MASTER_PORT", "STANDALONE_PORT", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK")
"""Variables by which other launchers name processes: ours are begun here, and connected on this machine."""


def n_processes(settings: TrainSettings) -> int:
    """Return how many processes learn together; nothing is begun.

    Raises
    ------
    UsageError
        If a batch is too small to be shared, or processes cannot be begun from where this is called.
    ResourceError
        If there are fewer CUDA devices, or Lightning Fabric is not installed.
    """
    on_cuda = choose_device(settings.device).type == "cuda"
    # With CutMix, patches of a share are mixed into one another.
    least = 2 if settings.scheme == "cps_cutmix" else 1
    most = max(1, settings.batch // least)
    n, there = settings.devices, torch.cuda.device_count() if on_cuda else 1
    if n == 0:
        n = min(there, most)
    if n == 1:
        return n
    if n > most:
        each = f", of {least} patches each, which {settings.scheme} mixes," if least > 1 else ""
        raise UsageError(
            f"a batch of {settings.batch} patches makes {most} shares{each} and train.devices is {n}; set "
            f"train.batch to {least * n} or more, or train.devices to {most} or less"
        )
    if on_cuda and n > there:
        raise ResourceError(
            f"train.devices is {n}, and PyTorch sees {there} CUDA device(s) on this machine; use --set train.devices=0 "
            "for all there are"
        )
    _check_launch()
    return n


def _check_launch() -> None:
    if importlib.util.find_spec("lightning_fabric") is None:
        raise ResourceError(
            "several devices need Lightning Fabric, which is not installed; install it with: pip install "
            "'cristae[multi]', or use one: --set train.devices=1"
        )
    if hasattr(sys, "ps1") or sys.flags.interactive:
        raise UsageError(
            "several devices are used by new processes, which cannot begin from a notebook or an interactive Python; "
            "train with the command cristae train, or from a script"
        )
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            "each process of train.devices reads the script that began it: put what the script does under "
            'if __name__ == "__main__":'
        )


def by_several(job: Job[Result], n: int, settings: TrainSettings, options: Options) -> Result:
    """Do a job in `n` processes of this machine at once, and return what the first of them returns.

    Parameters
    ----------
    job
        Given options that show and say what the ones here do (those of all but the first keep silent), and the
        processes.
    n
        How many.
    settings
        What batch is shared, and on what kind of device.
    options
        Where progress and notes go.

    Raises
    ------
    KeyboardInterrupt
        When the first process has stopped because of it.
    ResourceError
        If a process is killed. An error of a process itself is raised as it is, the first one if there are several,
        with the place where it happened as a note.
    """
    from lightning_fabric import Fabric  # noqa: PLC0415  an extra
    from lightning_fabric.plugins.environments import LightningEnvironment  # noqa: PLC0415
    from lightning_fabric.strategies import DDPStrategy  # noqa: PLC0415

    device = choose_device(settings.device)
    context = multiprocessing.get_context("spawn")
    (alive, life), (heard, mouth) = context.Pipe(duplex=False), context.Pipe(duplex=False)
    asked = RawValue("b", 0)
    errand = _Errand(job, settings.batch, device.type, (alive, mouth, context.Lock(), asked))

    def end() -> None:
        asked.value = 1
        if not listener.shown:  # nobody has begun to learn: nothing to finish, nothing to keep
            life.close()

    listener = _Listener(heard, options, end)
    lost: Exception | None = None
    # That a process is ended along with others is no news.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    # Whatever happens, `life` is closed, before the thread is waited for: that ends processes which are left.
    with ThreadPoolExecutor(1, initializer=_keep_ctrl_c_away) as thread, life, _own_environment():
        strategy = DDPStrategy(cluster_environment=LightningEnvironment(), start_method="spawn")
        fabric = Fabric(accelerator=device.type, devices=n, strategy=strategy)
        with _HandedOn(end) as interrupt:
            try:
                thread.submit(fabric.launch, _run, errand).result()
            except (ProcessExitedException, ProcessRaisedException) as error:
                lost = error
            finally:
                listener.close()
    errors = [error for error in listener.errors if not isinstance(error, PartedError)]
    if errors:
        raise errors[0]
    if listener.results:
        return listener.results[0]
    if interrupt.asked or lost is None:
        raise KeyboardInterrupt
    if isinstance(lost, ProcessExitedException) and lost.exit_code > 0:
        raise ResourceError(
            f"process {lost.error_index} of the training could not begin; what it printed says why"
        ) from lost
    if isinstance(lost, ProcessRaisedException) and not listener.errors:
        raise lost
    raise ResourceError(
        "a process of the training was ended from outside, most often for lack of memory: lower train.batch or "
        "train.devices. The last checkpoint is kept: the same command goes on from there"
    ) from lost


def _keep_ctrl_c_away() -> None:
    """Block Ctrl-C in this thread, and in the processes that it begins, until they can heed it."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


class _Errand:
    """What a process is sent to do, and its lines to the one that began it.

    Parameters
    ----------
    job, batch, device
        What is done, with patches of how large a batch, on what.
    lines
        Ends when the one that began it does; where it is told to; one at a time; whether all are to end.
    """

    def __init__(self, job: Job[Any], batch: int, device: str, lines: tuple[Connection, Connection, Any, Any]) -> None:
        self.job, self.batch, self.device = job, batch, torch.device(device)
        self.alive, self._mouth, self._lock, self._asked = lines

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin in a new process: this is done before Fabric does anything there."""
        self.__dict__.update(state)
        # Ctrl-C in a terminal reaches all processes; outside of an update, the one that began them hands it on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        threading.Thread(target=_end_with, args=(self.alive,), daemon=True).start()
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

    @property
    def asked(self) -> bool:
        """Whether all are to end."""
        return bool(self._asked.value)

    def tell(self, *message: Any) -> None:
        """Say something to the one that began this process."""
        with self._lock:
            # By value: what PyTorch and multiprocessing would send needs this process to be there when it arrives.
            self._mouth.send_bytes(pickle.dumps(message))

    def progress(self, task: str) -> Progress:
        """Return what shows the progress of a task there."""
        self.tell("begun", task)

        def advance(done: int, total: int, **facts: float) -> None:
            self.tell("progress", task, done, total, facts)

        return advance


def _end_with(alive: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        alive.recv()
    os._exit(1)


def _run(fabric: Any, errand: _Errand) -> None:
    """Do an errand in one of the processes; it ends without a result or an error if all were asked to end."""
    keep_freed_memory()
    processes = Several(errand.batch, errand.device, lambda: errand.asked)
    first = processes.rank == 0
    options = Options(progress=errand.progress, notify=partial(errand.tell, "note")) if first else Options()
    try:
        result = errand.job(options, processes)
    except KeyboardInterrupt:
        return
    except BaseException as error:
        error.add_note(f"In process {processes.rank} of {processes.size}:\n{traceback.format_exc()}")
        _tell_error(errand, error)
        raise
    if first:
        errand.tell("result", result)
    torch.distributed.destroy_process_group()


def _tell_error(errand: _Errand, error: BaseException) -> None:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  made here
    except Exception:  # whatever such an error is made of
        error = RuntimeError("\n".join([f"{type(error).__name__}: {error}", *error.__notes__]))
    errand.tell("error", error)


class _Listener:
    """Shows what the first process tells, in a thread of its own; keeps its result, and the errors of all.

    Parameters
    ----------
    heard
        Where they tell.
    options
        Where progress and notes go. What these raise counts as an error here.
    end
        Asks all to end.
    """

    def __init__(self, heard: Connection, options: Options, end: Callable[[], None]) -> None:
        self._heard, self._options, self._end = heard, options, end
        self.shown: dict[str, Progress] = {}
        self.results: list[Any] = []
        self.errors: list[BaseException] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear what is left, now that nobody tells any more."""
        self._over.set()
        self._thread.join(PATIENCE_S)

    def _listen(self) -> None:
        while self._heard.poll(0.1) or not self._over.is_set():
            if not self._heard.poll(0):
                continue
            try:
                self._take(*pickle.loads(self._heard.recv_bytes()))  # noqa: S301  from processes that were begun here
            except BaseException as error:  # of whoever shows progress; or it cannot be unpickled
                self.errors.append(error)
                self._end()

    def _take(self, kind: str, *said: Any) -> None:
        if kind == "error":
            self.errors.append(said[0])
        elif kind == "result":
            self.results.append(said[0])
        elif self.errors:
            return
        elif kind == "note":
            self._options.notify(*said)
        elif kind == "begun":
            self.shown[said[0]] = self._options.progress(said[0])
        else:
            task, done, total, facts = said
            self.shown[task](done, total, **facts)


class _HandedOn(Interrupt):
    """Ctrl-C is handed on to the processes, and waited for; a second one strikes at once."""

    def __init__(self, end: Callable[[], None]) -> None:
        super().__init__()
        self._end = end

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._end()
        super()._note(number, frame)


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    """Hide what other launchers have set, and leave everything as it was."""
    before = {name: os.environ.pop(name) for name in _SET_BY_OTHERS if name in os.environ}
    try:
        yield
    finally:
        for name in _SET_BY_OTHERS:
            os.environ.pop(name, None)
        os.environ.update(before)
