"""`cristae train`: learn the classes of a project from its labelled slices."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from cristae.allocation import keep_freed_memory
from cristae.errors import DataError, UsageError
from cristae.learn.checkpoint import Model, save_model
from cristae.learn.cross import of_first
from cristae.learn.fit import Judge, State, Watch, fit
from cristae.learn.histogram import UNCHANGED
from cristae.learn.objective import compile_parts
from cristae.learn.patches import LabelledSlice, View, grey_values, hold_out, load_slices
from cristae.learn.processes import ALONE, Processes
from cristae.learn.supervised import HeldOutJudge
from cristae.learn.targets import Target, targets_of
from cristae.nets.contract import Deepening, OwnLoss
from cristae.nets.pair import parts_of
from cristae.project import Project, Run
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import keep_memory
from cristae.stages.options import Options
from cristae.stages.schemes import build, build_of, choose_device, step_of, view_of
from cristae.stages.several import by_several, n_processes
from cristae.stages.start import beginning, origin_of, reduction_of, start
from cristae.stages.train_settings import TrainSettings, sampling, schedule, train_settings
from cristae.wording import number_ranges

LONG = 1000
"""Updates from which on compiling a network of published size is earned back."""


def train(project: Project, settings: TrainSettings | None = None, options: Options | None = None) -> Run:
    """Train on the labelled slices of a project; a finished run with the same settings and labels is returned as is.

    Raises
    ------
    DataError
        If there is no image, no label, or a class without labelled pixels, or weights to start from do not fit.
    UsageError
        If there is nothing to start from where that is looked for, or it is another network, or a batch cannot be
        shared among the devices.
    ResourceError
        If CUDA or several devices are asked for and absent, or the project is in use.
    """
    settings, options = settings or train_settings(project, {}), options or Options()
    n_processes(settings)
    classes = classes_to_learn(project, settings)
    begun = beginning(project, settings)
    inputs = {"image": project.image_fingerprint, "labels": project.annotations.fingerprint(classes)}
    inputs |= begun.inputs
    run = project.run("train", begun.anonymous, inputs)
    if nothing_to_do(project, run, options):
        return run
    keep_memory("train", project, settings, options)
    keep_freed_memory()
    torch.use_deterministic_algorithms(settings.deterministic)
    with project.lock(), project.record(run, begun.named, inputs):
        if options.force:
            remove_checkpoints(run.path)
        facts = learn(project, run.path, begun.settings, classes, options)
        run.update(**facts, **begun.facts)
    # Only now: until the run is finished, a checkpoint of a network that is ready keeps it from being trained again.
    remove_checkpoints(run.path)
    return run


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of all networks of a run."""
    for checkpoint in folder.glob("*/checkpoint.safetensors"):
        checkpoint.unlink()


def learn(
    project: Project, folder: Path, settings: TrainSettings, classes: tuple[str, ...], options: Options
) -> dict[str, Any]:
    """Train the networks of one run into `folder` and return the facts for its manifest.

    One subfolder per network with weights and history; ``history.csv`` of all beside them.
    """
    groups, n = groups_of(project, settings, classes), n_processes(settings)
    job = partial(_train_groups, project, folder, settings, groups)
    facts = job(options, ALONE) if n == 1 else by_several(job, n, settings, options)
    names = list(groups)
    merge_histories(folder, names)
    return {
        "learnt": list(classes),
        "classes": [name for one in facts for name in one["labelled_slices"]],
        "groups": names,
        "weights": digest([folder / name / "weights.safetensors" for name in names]),
        "device": str(choose_device(settings.device)),
        "n_processes": n,
        "labelled_slices": {name: slices for one in facts for name, slices in one["labelled_slices"].items()},
        "alarms": [alarm for one in facts for alarm in one["alarms"]],
        "n_parameters": sum(one["n_parameters"] for one in facts),
        "own_loss": any(one["own_loss"] for one in facts),
        "updates": settings.updates,
        "best_step": max(one["best_step"] for one in facts),
        "training_seconds": round(sum(one["seconds"] for one in facts), 3),
    }


def classes_to_learn(project: Project, settings: TrainSettings) -> tuple[str, ...]:
    """Return the classes to train, or raise DataError where there are no labels."""
    labelled = project.annotations.classes
    wanted = settings.classes or tuple(name for name in project.classes if name in labelled)
    unknown = [name for name in wanted if name not in labelled]
    if unknown or not wanted:
        raise DataError(
            f"no labels of {', '.join(unknown) or 'any class'} yet; import some with: "
            f"cristae import labels {project.path} SOURCE --class {unknown[0] if unknown else 'NAME'}"
        )
    return wanted


def _train_groups(
    project: Project,
    folder: Path,
    settings: TrainSettings,
    groups: Mapping[str, tuple[str, ...]],
    options: Options,
    processes: Processes,
) -> list[dict[str, Any]]:
    """Train the networks one after the other."""
    if processes.size > 1:
        options.notify(
            f"train: {processes.size} processes on {choose_device(settings.device)}, which share batches of "
            f"{settings.batch} patches"
        )
    return [_train_group(project, folder / name, settings, group, options, processes) for name, group in groups.items()]


def _train_group(
    project: Project,
    folder: Path,
    settings: TrainSettings,
    classes: tuple[str, ...],
    options: Options,
    processes: Processes,
) -> dict[str, Any]:
    """Train one network and return the facts for the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(settings.device)
    grid = project.image.grid
    targets = targets_of(project.annotations, classes, settings.boundary_nm)
    names = tuple(target.name for target in targets)
    origin = origin_of(project, settings, names)
    factor = reduction_of(project, settings, origin, options)
    spans = settings.tile_px * factor * min(grid.voxel_size[1:])
    options.notify(
        f"train: {', '.join(classes)}; voxels of {' × '.join(f'{size:g}' for size in grid.voxel_size)} nm (z, y, x), "
        f"slices reduced by {factor}, tiles of {settings.tile_px} px span {spans:g} nm"
        + (f" (asked for {settings.context_nm:g} nm)" if not origin and abs(spans - settings.context_nm) > 1 else "")
    )
    view = view_of(project, factor, settings.neighbours, origin.curve if origin else UNCHANGED)
    slices, labelled = _load(project, settings, targets, view)
    grey = grey_values(slices, view, project.image.shape[0])
    learn, judged = hold_out(slices, settings.seed, settings.holdout_share or 0.0625)
    network = build(settings, build_of(settings, len(names)))
    start(network, settings, origin, names)
    # Not channels last, as for prediction on a CPU: PyTorch 2.13 crashes when it learns so with few channels.
    network = network.to(device)
    if wants_compiling(settings, device):
        compile_parts(network)
    tile_px, multiple = tile_of(network, settings)
    if tile_px != settings.tile_px:
        options.notify(f"train: {settings.network} takes multiples of {multiple} px; tiles are {tile_px} px")
    _tell_of_unheard(parts_of(network)[0], settings, options)
    if settings.holdout_share:
        slices = learn
    patches = replace(sampling(settings, tile_px), rank=processes.rank, size=processes.size)
    step = step_of(project, settings, slices, names, patches, view)
    watch = Watch(options.progress(f"train {folder.name}"), options.notify, step.rescue, processes)
    judge: Judge = HeldOutJudge(judged, names, slices)
    if settings.scheme != "supervised" and settings.cps_weight == 0:
        judge = of_first(judge)
    checkpoint = folder / "checkpoint.safetensors"
    try:
        best, state = fit(network, step, judge, schedule(settings), checkpoint, watch)
    finally:
        step.close()
    network_facts = (settings.network, settings.size, settings.base_width, settings.tile_px)
    seen = (factor, settings.neighbours, grid.voxel_size)
    if processes.rank == 0:
        save_model(folder, Model(*network_facts, names, *seen, len(parts_of(best)), grey, view.curve), best)
        _write_history(folder, state)
    return {
        "labelled_slices": labelled,
        "alarms": [alarm["message"] for alarm in state.alarms],
        "n_parameters": sum(value.numel() for value in best.parameters()),
        "own_loss": isinstance(parts_of(best)[0], OwnLoss),
        "best_step": state.best_step,
        "seconds": state.seconds,
    }


def wants_compiling(settings: TrainSettings, device: torch.device) -> bool:
    """Say whether the network is to be compiled: left to us, where the minute that it takes is earned back."""
    if settings.compile == "auto":
        return device.type == "cuda" and settings.size == "full" and settings.updates >= LONG
    return settings.compile == "on"


def tile_of(network: nn.Module, settings: TrainSettings) -> tuple[int, int]:
    """Return the side of patches, which the network can take, and of what it is a multiple.

    Raises
    ------
    UsageError
        If tiles are smaller than the smallest that it takes.
    """
    multiple = int(getattr(network, "multiple", 1))
    if settings.tile_px < multiple:
        raise UsageError(f"{settings.network} needs tiles of at least {multiple} px, got tile_px {settings.tile_px}")
    return -(-settings.tile_px // multiple) * multiple, multiple


def _tell_of_unheard(network: nn.Module, settings: TrainSettings, options: Options) -> None:
    """Tell of settings of the loss that were made and in which the network gives them no say."""
    unheard = {"cross_entropy": isinstance(network, OwnLoss), "loss_depth": not isinstance(network, Deepening)}
    for name, is_unheard in unheard.items():
        if is_unheard and name in settings.model_fields_set:
            options.notify(f"train: train.{name} has no say in the loss of {settings.network}")


def _load(
    project: Project, settings: TrainSettings, targets: Sequence[Target], view: View
) -> tuple[list[LabelledSlice], dict[str, list[int]]]:
    """Read the slices to learn from; also return which slices teach which output map."""
    annotations, image = project.annotations, project.image
    classes = sorted({target.layer for target in targets})
    available = {z for name in classes for z in annotations.labelled_slices(name)}
    absent = sorted(set(settings.slices) - available)
    if absent:
        raise UsageError(
            f"slices {', '.join(map(str, absent))} have no labels of {', '.join(classes)}; "
            f"labelled are {', '.join(map(str, sorted(available))) or 'none'}"
        )
    wanted = (set(settings.slices) or available) - set(settings.exclude_slices)
    chosen = sorted(wanted - set(project.lost_slices))
    if wanted and not chosen:
        raise DataError(
            f"all labelled slices ({number_ranges(wanted)}) are missing in the image or noted as bad; label another "
            f"slice, or take some out of bad_slices in {project.path / 'project.toml'}"
        )
    labelled = {one.name: [z for z in annotations.labelled_slices(one.layer) if z in chosen] for one in targets}
    slices = load_slices(image, annotations, targets, view, chosen)
    return slices, labelled


def groups_of(project: Project, settings: TrainSettings, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the classes of each network by its name: one for all masks, and one for each class of instances."""
    alone = {name: (name,) for name in classes if settings.separate or project.annotations.has_instances(name)}
    together = tuple(name for name in classes if name not in alone)
    return ({"all": together} if together else {}) | alone


def _write_history(folder: Path, state: State) -> None:
    pd.DataFrame(state.history).to_csv(folder / "history.csv", index=False)


def digest(paths: Sequence[Path]) -> str:
    """Return a hash of files: the same weights, the same text."""
    total = hashlib.blake2b(digest_size=16)
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def merge_histories(folder: Path, groups: Sequence[str]) -> None:
    """Write one history of the whole run: losses are averaged over networks, times added."""
    tables = [pd.read_csv(folder / group / "history.csv").set_index("step") for group in groups]
    merged = pd.concat(tables, axis=1)
    loss = pd.concat([table["loss"] for table in tables], axis=1).mean(axis=1)
    seconds = pd.concat([table["seconds"] for table in tables], axis=1).sum(axis=1)
    dices = merged[[column for column in dict.fromkeys(merged.columns) if column.startswith("dice_")]]
    table = pd.DataFrame({"loss": loss, "learning_rate": tables[0]["learning_rate"], "seconds": seconds})
    table.join(dices).to_csv(folder / "history.csv", na_rep="")
