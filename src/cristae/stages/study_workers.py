"""Who does the trainings of a study: this process, a cluster, or processes side by side.

Side by side each process has its share of the cores, and of several graphics cards one: the first process the first
card, and so on, around again where there are more processes than cards.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import torch

from cristae.errors import ResourceError
from cristae.executors import Crew
from cristae.stages.study_grid import Trial
from cristae.stages.study_trial import Bench, do_trial

Work = tuple[Bench, Trial, Path, int]
"""What `cristae.stages.study_trial.do_trial` is given."""


def ended(work: Sequence[Work], crew: Crew, device: torch.device) -> Iterator[Trial]:
    """Do all work and yield each trial when it has ended.

    Parameters
    ----------
    work
        Trials that are not finished.
    crew
        Who does it. Threads stand for processes, for trainings in threads of one would share one generator of random
        numbers.
    device
        What kind of device it is done on.

    Raises
    ------
    ResourceError
        If a process is ended from outside. What it had finished is kept.
    """
    if crew.kind != "threads":
        yield from crew.unordered(_done, work, at_most=1)
        return
    context = multiprocessing.get_context("spawn")
    n_cards = torch.cuda.device_count() if device.type == "cuda" else 0
    begin = (threads_of_each(crew), n_cards, context.Value("i", 0))
    with ProcessPoolExecutor(crew.n_together, context, _begin, begin) as pool:
        try:
            trials = {pool.submit(do_trial, *one): one[1] for one in work}
            for future in as_completed(trials):
                future.result()
                yield trials[future]
        except BrokenProcessPool as error:
            raise ResourceError(
                "a process of the study was ended from outside, as systems do when memory runs out. Trainings that "
                "were scored are kept, and the same command goes on with the others: run it with fewer side by side "
                "(--executor threads:N), or with a limit (--max-ram)"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def threads_of_each(crew: Crew) -> int:
    """Return the threads of each of the processes side by side; 0 where one after the other has them all."""
    return max(1, (os.cpu_count() or 1) // crew.n_together) if crew.kind == "threads" else 0


def _done(work: Work) -> Trial:
    do_trial(*work)
    return work[1]


def _begin(n_threads: int, n_cards: int, begun: Synchronized[int]) -> None:
    """Make a new process ready: `begun` counts those before it, in all processes."""
    torch.set_num_threads(n_threads)
    with begun.get_lock():
        rank = begun.value
        begun.value += 1
    if n_cards:
        torch.cuda.set_device(rank % n_cards)
