"""Whether every training of a study can begin: found out before the first one does."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cristae.learn.targets import targets_of
from cristae.nets.registry import build_network
from cristae.stages.schemes import build_of, slices_beside
from cristae.stages.several import n_processes
from cristae.stages.start import encoder_of, origin_of
from cristae.stages.study_grid import Trial
from cristae.stages.study_trial import Bench
from cristae.stages.train import groups_of, tile_of


def check_trials(bench: Bench, trials: Sequence[Trial]) -> None:
    """Refuse a study of which a training could not begin; nothing is begun.

    Networks are made without their weights, which takes a fraction of a second for any size.

    Raises
    ------
    UsageError
        If tiles, batches or widths are too small for a network or a scheme, or what is started from does not suit it.
    DataError
        If there are no unlabelled slices for a scheme, or weights to start from are of other classes.
    ResourceError
        If there are fewer devices than asked for.
    """
    seen = set()
    for trial in trials:
        settings = bench.settings(trial)
        slices_beside(bench.project, settings, set(trial.slices))
        if (trial.network, trial.scheme) in seen:
            continue
        seen.add((trial.network, trial.scheme))
        n_processes(settings)
        for classes in groups_of(bench.project, settings, bench.classes).values():
            names = [one.name for one in targets_of(bench.project.annotations, classes, settings.boundary_nm)]
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                network = build_network(settings.network, build_of(settings, len(names)))
            tile_of(network, settings)
            origin_of(bench.project, settings, names)
            if settings.encoder:
                encoder_of(network, settings)
