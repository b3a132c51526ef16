"""What one process of a study needs: the training and the scoring of whichever network of its grid needs most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cristae.costs.steps import Memory, Step
from cristae.costs.trials import trial_memory
from cristae.stages.options import Options
from cristae.stages.study_grid import Trial
from cristae.stages.study_trial import Bench
from cristae.stages.workload import PlanSettings, planned, subject_of, work_of


def trials_need(bench: Bench, trials: Sequence[Trial]) -> Memory:
    """Return what the trials of a study need, each by itself; of one kind, the one that is shown most slices."""
    most: dict[tuple[str, str, float], Trial] = {}
    for trial in sorted(trials, key=lambda one: len(one.slices)):
        most[trial.network, trial.scheme, trial.context_nm] = trial
    how = planned(bench.project, {})
    steps: list[Step] = []
    for trial in most.values():
        training = bench.settings(trial)
        subject = subject_of(bench.project, PlanSettings(), training)
        work = work_of(subject, replace(how, train=training, predict=bench.prediction), Options())
        steps += trial_memory(work).steps
    return Memory(tuple(steps))
