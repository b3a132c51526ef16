"""The training loop: one for every scheme.

Supervised training, cross pseudo supervision and the like are *step functions* given to `fit`; what they have in
common is here: schedule, averaging of weights, judging, checkpoints, alarms.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cristae.blockwise import Progress
from cristae.learn.checkpoint import load_checkpoint, save_checkpoint

Step = Callable[[nn.Module, int], Tensor]
"""``step(network, number of the update)`` returns the loss, a scalar with a gradient."""


@dataclass(frozen=True)
class Score:
    """How one class stands on the held-out part: Dice, and predicted over true area (NaN when there is none)."""

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
        ``constant``, or ``cosine`` with a warm-up over the first twentieth.
    weight_decay, epsilon
        Of the optimiser.
    averaging
        Decay per update of the running average of weights that is judged and kept; 0 switches it off.
    clip
        Largest norm of the gradient; 0 switches clipping off.
    check_every
        Updates between two judgements.
    """

    updates: int
    learning_rate: float
    optimiser: Literal["adam", "adamw"] = "adamw"
    decay: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = 0.0
    epsilon: float = 1e-8
    averaging: float = 0.0
    clip: float = 0.0
    check_every: int = 50

    def rate(self, step: int) -> float:
        """Return the learning rate of update `step` (from 0)."""
        if self.decay == "constant":
            return self.learning_rate
        warm_up = max(1, self.updates // 20)
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
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
    collapsed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """What the loop tells others.

    Parameters
    ----------
    progress
        Told after each update, with loss, held-out Dice and updates per second.
    alarm
        Told in words when a class collapses to background.
    rescue
        Given the name of a collapsed class: shows more of it from now on. Called again when a run is resumed.
    """

    progress: Progress
    alarm: Callable[[str], None]
    rescue: Callable[[str], None]


NOISE = 0.002
"""Held-out Dice differences below this do not make an earlier network better than a later one."""
PATIENCE = 3
"""Judgements in a row with next to nothing predicted before a class counts as collapsed."""
GRACE = 0.25
"""Share of the training in which a class may be silent: many are at first."""
CHECKPOINT_SECONDS = 20.0
"""Shortest time between two checkpoints."""


def fit(
    network: nn.Module, step: Step, judge: Judge, schedule: Schedule, checkpoint: Path, watch: Watch
) -> tuple[nn.Module, State]:
    """Train `network` in place and return the network that judged best, with the record of the training.

    A checkpoint at `checkpoint` is taken up where it stands: a resumed training ends with the same weights as an
    uninterrupted one. Ctrl-C writes a checkpoint before it is passed on.
    """
    optimiser = _optimiser(network, schedule)
    average, best, state = copy.deepcopy(network), copy.deepcopy(network), State()
    tensors = load_checkpoint(checkpoint)
    if tensors is not None:
        state = State(**tensors.facts)
        _restore(tensors.values, network, average, best, optimiser)
        for alarm in state.alarms:
            watch.rescue(alarm["class"])
    saved = begun = time.monotonic()
    earlier = state.seconds

    def save() -> None:
        state.seconds = earlier + time.monotonic() - begun
        save_checkpoint(checkpoint, _tensors(network, average, best, optimiser), vars(state))

    try:
        while state.step < schedule.updates:
            loss = _update(network, step, optimiser, schedule, state.step)
            _follow(average, network, schedule.averaging, state.step)
            state.step += 1
            if state.step % schedule.check_every == 0 or state.step == schedule.updates:
                scores = judge(average)
                state.seconds = earlier + time.monotonic() - begun
                _note(state, scores, loss, schedule)
                if state.best_step == state.step:
                    best.load_state_dict(average.state_dict())
                for name in _collapsed(state, scores, schedule):
                    _recover(name, list(scores), network, best, optimiser)
                    average.load_state_dict(network.state_dict())
                    watch.rescue(name)
                    watch.alarm(state.alarms[-1]["message"])
                if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                    save()
                    saved = time.monotonic()
            elapsed = earlier + time.monotonic() - begun
            dice = state.history[-1]["dice"] if state.history else math.nan
            watch.progress(state.step, schedule.updates, loss=loss, dice=dice, updates_per_s=state.step / elapsed)
    except KeyboardInterrupt:
        save()
        raise
    save()
    return best, state


def _update(network: nn.Module, step: Step, optimiser: torch.optim.Optimizer, schedule: Schedule, n: int) -> float:
    for group in optimiser.param_groups:
        group["lr"] = schedule.rate(n)
    network.train()
    optimiser.zero_grad(set_to_none=True)
    loss = step(network, n)
    loss.backward()  # type: ignore[no-untyped-call]
    if schedule.clip > 0:
        nn.utils.clip_grad_norm_(network.parameters(), schedule.clip)
    optimiser.step()
    return float(loss.detach())


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
    if math.isnan(dice) or dice >= state.best_dice - NOISE:
        state.best_step, state.best_dice = state.step, max(state.best_dice, dice)


def _collapsed(state: State, scores: Mapping[str, Score], schedule: Schedule) -> list[str]:
    """Return the classes of which next to nothing has been predicted for too long, and note the alarm."""
    found = []
    for name, score in scores.items():
        dead = score.area_ratio < 0.02 and state.step > GRACE * schedule.updates
        state.collapsed[name] = state.collapsed.get(name, 0) + 1 if dead else 0
        if state.collapsed[name] >= PATIENCE and state.step < schedule.updates:
            state.collapsed[name] = 0
            message = (
                f"class {name!r} collapsed to background at update {state.step}; went back to the best weights, "
                "reset its output and will show more of it"
            )
            state.alarms.append({"step": state.step, "class": name, "message": message})
            found.append(name)
    return found


@torch.no_grad()
def _recover(
    name: str, classes: Sequence[str], network: nn.Module, best: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Go back to the best weights so far, make the output of one class undecided, and forget all momentum."""
    network.load_state_dict(best.state_dict())
    optimiser.state.clear()
    for head in [module for module in network.modules() if isinstance(module, nn.Conv2d)]:
        if head.out_channels == len(classes) and head.kernel_size == (1, 1) and head.bias is not None:
            index = list(classes).index(name)
            nn.init.normal_(head.weight[index], std=0.01)
            head.bias[index] = 0.0


def _tensors(
    network: nn.Module, average: nn.Module, best: nn.Module, optimiser: torch.optim.Optimizer
) -> dict[str, Tensor]:
    named = {"network": network, "average": average, "best": best}
    tensors = {f"{part}.{key}": value for part, one in named.items() for key, value in one.state_dict().items()}
    for i, entries in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{key}": value for key, value in entries.items()}
    return tensors


def _restore(
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    average: nn.Module,
    best: nn.Module,
    optimiser: torch.optim.Optimizer,
) -> None:
    for part, one in (("network", network), ("average", average), ("best", best)):
        start = f"{part}."
        one.load_state_dict({key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)})
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            entries.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": entries, "param_groups": optimiser.state_dict()["param_groups"]})
