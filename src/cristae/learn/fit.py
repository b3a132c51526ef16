"""The training loop: one for every scheme.

Supervised training, cross pseudo supervision and the like are *step functions* given to `fit`; what they have in
common is here: schedule, averaging of weights, judging, checkpoints, alarms.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cristae.blockwise import Progress
from cristae.errors import CristaeError
from cristae.learn.checkpoint import load_checkpoint, save_checkpoint
from cristae.learn.interrupt import Interrupt
from cristae.learn.processes import ALONE, Processes
from cristae.nets.contract import Deepening
from cristae.nets.pair import parts_of
from cristae.nets.undecided import make_undecided

Step = Callable[[nn.Module, int], Tensor]
"""``step(network, number of the update)`` returns the loss, a scalar with a gradient."""


@dataclass(frozen=True)
class Score:
    """How one class stands.

    Parameters
    ----------
    dice
        On the held-out part; NaN where the class is not there.
    area_ratio
        Predicted over true area, by which a class is found to have collapsed; NaN where nobody can tell.
    """

    dice: float
    area_ratio: float


Judge = Callable[[nn.Module], Mapping[str, Score]]
"""Scores of a network on the held-out part of the labelled slices, by class."""


@dataclass(frozen=True)
class Schedule:
    """Optimiser and pace.

    Parameters
    ----------
    updates
        Number of updates.
    learning_rate
        Its largest value.
    optimiser
        ``adam`` (the papers') or ``adamw``.
    decay
        ``constant``, ``cosine`` with a warm-up over the first twentieth, or ``linear`` with one over the first
        fifteenth (Pagano's: after it the rate is what it would be without one, so that it steps down).
    weight_decay, epsilon
        Of the optimiser.
    averaging
        Decay per update of the running average of weights that is judged and kept; 0 switches it off.
    clip
        Largest norm of the gradient; 0 switches clipping off.
    check_every
        Updates between two judgements.
    loss_depth
        Of the loss of a `cristae.nets.contract.Deepening` network: one depth for each equal part of the training.
    """

    updates: int
    learning_rate: float
    optimiser: Literal["adam", "adamw"] = "adamw"
    decay: Literal["constant", "cosine", "linear"] = "cosine"
    weight_decay: float = 0.0
    epsilon: float = 1e-8
    averaging: float = 0.0
    clip: float = 0.0
    check_every: int = 50
    loss_depth: tuple[int, ...] = (0,)

    @property
    def patience(self) -> int:
        """Silent judgements in a row after which a class counts as collapsed: `PATIENCE`, or 2 where few are made."""
        return min(PATIENCE, max(2, self.updates // self.check_every // 2))

    def depth(self, step: int) -> int:
        """Return the depth of the loss of update `step` (from 0)."""
        return self.loss_depth[step * len(self.loss_depth) // self.updates]

    def rate(self, step: int) -> float:
        """Return the learning rate of update `step` (from 0)."""
        if self.decay == "constant":
            return self.learning_rate
        warm_up = max(1, self.updates // (20 if self.decay == "cosine" else 15))
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
        if self.decay == "linear":
            return self.learning_rate * (1 - step / self.updates)
        position = (step - warm_up) / max(1, self.updates - warm_up)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * position))


@dataclass
class State:
    """Where a training stands; with the tensors, all that a resumed run needs."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = -1
    best_dice: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    silent: dict[str, int] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    """Classes of which the best weights so far predict next to nothing."""

    @property
    def classes(self) -> list[str]:
        """Names of the classes that are judged, in the order of the output maps."""
        return list(self.silent)


@dataclass(frozen=True)
class Watch:
    """What the loop tells others, and who learns along.

    Parameters
    ----------
    progress
        Told after each update, with loss, held-out Dice and updates per second.
    alarm
        Told in words when a class collapses to background.
    rescue
        Given the name of a collapsed class: shows more of it from now on. Called again when a run is resumed.
    processes
        Those that share each batch. The first of them judges for all, and keeps checkpoints.
    """

    progress: Progress
    alarm: Callable[[str], None]
    rescue: Callable[[str], None]
    processes: Processes = ALONE


NOISE = 0.002
"""Held-out Dice differences below this do not make an earlier network better than a later one."""
PATIENCE = 3
"""Judgements in a row with next to nothing predicted before a class counts as collapsed; fewer where few are made."""
SILENT = 0.02
"""Predicted area over true area below which a class counts as silent."""
GRACE = 0.25
"""Share of the training in which a class may be silent: many are at first."""
CHECKPOINT_SECONDS = 20.0
"""Shortest time between two checkpoints."""
_APART = 1_000_003
"""Between the seeds of two processes: each drops other features of its patches."""


def fit(
    network: nn.Module, step: Step, judge: Judge, schedule: Schedule, checkpoint: Path, watch: Watch
) -> tuple[nn.Module, State]:
    """Train `network` in place and return the network that judged best, with the record of the training.

    A checkpoint at `checkpoint` is taken up where it stands: a resumed training ends with the same weights as an
    uninterrupted one. Ctrl-C waits for the end of the update and writes a checkpoint before it is passed on.
    """
    training = _begin(network, schedule, checkpoint, watch)
    state, processes = training.state, watch.processes
    first = processes.rank == 0
    saved = begun = time.monotonic()
    earlier = state.seconds
    whole = True  # between two updates; in the middle of one a checkpoint would mix before and after
    try:
        while state.step < schedule.updates:
            with Interrupt() as interrupt:
                whole = False
                loss = _update(network, step, training.optimiser, schedule, state.step, processes)
                _follow(training.average, network, schedule.averaging, state.step)
                state.step += 1
                state.seconds = earlier + time.monotonic() - begun
                if state.step % schedule.check_every == 0 or state.step == schedule.updates:
                    scores = processes.told(judge(training.average) if first else {})
                    _check(training, scores, loss, schedule, watch)
                whole = True
            if first and time.monotonic() - saved >= CHECKPOINT_SECONDS:
                save_checkpoint(checkpoint, _tensors(training), vars(state))
                saved = time.monotonic()
            dice = state.history[-1]["dice"] if state.history else math.nan
            rate = state.step / max(state.seconds, 1e-6)
            watch.progress(state.step, schedule.updates, loss=loss, dice=dice, updates_per_s=rate)
            if processes.any(interrupt.asked):
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        if first and whole:
            save_checkpoint(checkpoint, _tensors(training), vars(state))
        raise
    if first:
        save_checkpoint(checkpoint, _tensors(training), vars(state))
    return training.best, state


@dataclass(frozen=True)
class _Training:
    """All that changes while a network learns: weights now, their average, the best average so far, the optimiser."""

    network: nn.Module
    average: nn.Module
    best: nn.Module
    optimiser: torch.optim.Optimizer
    state: State


def _begin(network: nn.Module, schedule: Schedule, checkpoint: Path, watch: Watch) -> _Training:
    """Start from the weights as they are, or from a checkpoint."""
    optimiser = _optimiser(network, schedule)
    tensors = load_checkpoint(checkpoint)
    state = State(**tensors.facts) if tensors else State()
    training = _Training(network, copy.deepcopy(network), copy.deepcopy(network), optimiser, state)
    if tensors:
        _restore(tensors.values, training)
        for alarm in state.alarms:
            watch.rescue(alarm["class"])
    return training


def _check(training: _Training, scores: Mapping[str, Score], loss: float, schedule: Schedule, watch: Watch) -> None:
    """Note a judgement, keep the weights if they are the best, and help classes that collapsed."""
    state = training.state
    _note(state, scores, loss, schedule)
    if state.best_step == state.step:
        training.best.load_state_dict(training.average.state_dict())
    over = state.step == schedule.updates
    for alarm in _alarms(state, schedule, over):
        if not over:
            _recover(state.classes.index(alarm["class"]), training)
            watch.rescue(alarm["class"])
        watch.alarm(alarm["message"])


def _update(
    network: nn.Module, step: Step, optimiser: torch.optim.Optimizer, schedule: Schedule, n: int, processes: Processes
) -> float:
    for group in optimiser.param_groups:
        group["lr"] = schedule.rate(n)
    for part in parts_of(network):
        if isinstance(part, Deepening):
            part.loss_depth = schedule.depth(n)
    network.train()
    optimiser.zero_grad(set_to_none=True)
    # For networks that drop features by chance: a resumed training drops the same.
    torch.manual_seed(n + _APART * processes.rank)
    loss = step(network, n)
    loss.backward()  # type: ignore[no-untyped-call]
    loss = processes.mean(network, loss)
    if schedule.clip > 0:
        for part in parts_of(network):
            nn.utils.clip_grad_norm_(part.parameters(), schedule.clip)
    optimiser.step()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise CristaeError(
            f"the loss is no longer a number at update {n + 1}: the training ran away. Lower train.learning_rate (now "
            f"{schedule.learning_rate:g}) and train again"
        )
    return value


def _optimiser(network: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[schedule.optimiser]
    return kind(
        network.parameters(),
        lr=schedule.learning_rate,
        betas=(0.9, 0.999),
        eps=schedule.epsilon,
        weight_decay=schedule.weight_decay,
    )


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the running average towards the network; early on it follows fast."""
    share = 1.0 - min(decay, (1 + step) / (10 + step)) if decay > 0 else 1.0
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, share)
        else:
            mean.copy_(now)


def _note(state: State, scores: Mapping[str, Score], loss: float, schedule: Schedule) -> None:
    """Enter a judgement in the history, and whether it is the best so far."""
    dices = [score.dice for score in scores.values() if not math.isnan(score.dice)]
    dice = sum(dices) / len(dices) if dices else math.nan
    row = {
        "step": float(state.step),
        "loss": loss,
        "learning_rate": schedule.rate(state.step - 1),
        "seconds": round(state.seconds, 3),
        "dice": dice,
    }
    state.history.append(row | {f"dice_{name}": score.dice for name, score in scores.items()})
    begun = state.step > GRACE * schedule.updates
    state.silent = {
        name: state.silent.get(name, 0) + 1 if begun and score.area_ratio < SILENT else 0
        for name, score in scores.items()
    }
    if math.isnan(dice) or dice >= state.best_dice - NOISE:
        state.best_step, state.best_dice = state.step, max(state.best_dice, dice)
        state.absent = [name for name, score in scores.items() if score.area_ratio < SILENT]


def _alarms(state: State, schedule: Schedule, over: bool) -> list[dict[str, Any]]:
    """Note and return an alarm for each class of which next to nothing has been predicted for too long.

    When all is over, also for each that the weights that are kept do not predict, however long that has been.
    """
    raised = []
    for name, times in state.silent.items():
        absent = over and name in state.absent
        if times < schedule.patience and not absent:
            continue
        state.silent[name] = 0
        what = f"class {name!r} collapsed to background"
        if absent:
            message = (
                f"{what}: the weights that are kept, of update {state.best_step}, predict next to nothing of it; "
                "label more of it, or train longer"
            )
        elif over:
            message = f"{what} before the end; the weights that are kept, of update {state.best_step}, predict it"
        else:
            message = (
                f"{what} at update {state.step}; went back to the best weights, reset its output and will show more "
                "of it"
            )
        raised.append({"step": state.step, "class": name, "message": message})
    state.alarms.extend(raised)
    return raised


@torch.no_grad()
def _recover(index: int, training: _Training) -> None:
    """Go back to the best weights so far, make the output of one class undecided, and forget all momentum."""
    network = training.network
    network.load_state_dict(training.best.state_dict())
    training.optimiser.state.clear()
    # A generator of its own: the global one is not in the checkpoint, and a resumed run must draw the same.
    generator = torch.Generator().manual_seed(1000 * training.state.step + index)
    for part in parts_of(network):
        make_undecided(part, index, generator)
    training.average.load_state_dict(network.state_dict())


def _tensors(training: _Training) -> dict[str, Tensor]:
    named = {"network": training.network, "average": training.average, "best": training.best}
    tensors = {f"{part}.{key}": value for part, one in named.items() for key, value in one.state_dict().items()}
    for i, entries in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{key}": value for key, value in entries.items()}
    return tensors


def _restore(tensors: Mapping[str, Tensor], training: _Training) -> None:
    named = {"network": training.network, "average": training.average, "best": training.best}
    for part, one in named.items():
        start = f"{part}."
        one.load_state_dict({key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)})
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            entries.setdefault(int(index), {})[name] = value
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": entries, "param_groups": groups})
