"""How many updates fit into a budget of seconds, measured by a few updates of a throw-away copy on this machine."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from cristae.blockwise import Progress
from cristae.errors import UsageError
from cristae.stages.options import Options
from cristae.stages.schemes import choose_device
from cristae.stages.study_grid import Trial
from cristae.stages.study_trial import Bench
from cristae.stages.train import learn
from cristae.stages.train_settings import TrainSettings

_UPDATES = 7
"""Updates of the copy; the first ones are slower than the others, and do not count."""
_JUDGED = 3
"""The copy is judged after every so many of them."""


@dataclass(frozen=True)
class Pace:
    """What one update takes, and one judgement, of all networks of a trial together."""

    update_s: float
    judgement_s: float

    def updates(self, budget_s: float, check_every: int) -> int:
        """Return the largest number of updates that fit, with a judgement after every `check_every` and at the end."""
        n = int(budget_s / (self.update_s + self.judgement_s / check_every))
        while n > 0 and n * self.update_s + math.ceil(n / check_every) * self.judgement_s > budget_s:
            n -= 1
        return n


class _EnoughError(Exception):
    """The copy has been looked at for long enough."""


def measure_pace(bench: Bench, trial: Trial, scratch: Path) -> Pace:
    """Train a copy for a few updates in the folder `scratch`, which is removed, and return how long they took.

    It stops early where one update takes longer than the budget. Where two networks learn alone for a part of the
    training, each part is tried, and counts by its length.
    """
    settings = bench.settings(trial).model_copy(update={"updates": _UPDATES, "check_every": _JUDGED})
    together = _tried(bench, settings.model_copy(update={"cps_alone": 0.0}), scratch)
    if settings.scheme == "supervised" or not settings.cps_alone:
        return together
    alone = _tried(bench, settings.model_copy(update={"cps_weight": 0.0}), scratch)
    share = settings.cps_alone
    return replace(together, update_s=share * alone.update_s + (1 - share) * together.update_s)


def _tried(bench: Bench, settings: TrainSettings, scratch: Path) -> Pace:
    """Return the pace of a copy."""
    moments: dict[str, list[float]] = {}
    now = _clock(settings)

    def progress(task: str) -> Progress:
        moments[task] = []

        def advance(done: int, total: int, **facts: float) -> None:
            moments[task].append(now())
            if done == 2 and moments[task][1] - moments[task][0] > bench.budget_s:
                raise _EnoughError

        return advance

    scratch.mkdir(parents=True)
    try:
        learn(bench.project, scratch, settings, bench.classes, Options(progress=progress))
    except _EnoughError:
        pass
    finally:
        shutil.rmtree(scratch)
    paces = [_pace(times) for times in moments.values()]
    return Pace(sum(pace.update_s for pace in paces), sum(pace.judgement_s for pace in paces))


def _clock(settings: TrainSettings) -> Callable[[], float]:
    """Return what tells the seconds: for one thread of a CPU those that it works, so that other work beside takes none.

    The threads of several wait for one another, and a CPU for its GPU or for other processes, so there the clock on
    the wall tells them.
    """
    on_cpu = choose_device(settings.device).type == "cpu"
    alone = on_cpu and settings.devices == 1 and torch.get_num_threads() == 1
    return time.process_time if alone else time.monotonic


def updates_in_budget(bench: Bench, trial: Trial, pace: Pace) -> int:
    """Return how many updates a trial has.

    Raises
    ------
    UsageError
        If not even one fits.
    """
    n = pace.updates(bench.budget_s, bench.training.check_every)
    if n < 1:
        raise UsageError(
            f"a budget of {bench.budget_s:g} s is too small for one update of {trial.network} by {trial.scheme}, which "
            f"takes {pace.update_s + pace.judgement_s:.2g} s on this machine, a judgement included; raise "
            "study_networks.budget_s, or make trainings lighter, for example by --set train.batch=2"
        )
    return n


def _pace(moments: Sequence[float]) -> Pace:
    """Return the pace of one network from the moments after each of its updates."""
    steps = [later - earlier for earlier, later in pairwise(moments)]
    # Entry i is the time of update i + 2; that of every third one includes a judgement.
    judged = [step for i, step in enumerate(steps) if (i + 2) % _JUDGED == 0]
    plain = [step for i, step in enumerate(steps) if (i + 2) % _JUDGED and (i + 2) < _UPDATES]
    update = median(plain)
    return Pace(update, max(0.0, median(judged) - update) if judged else 0.0)
