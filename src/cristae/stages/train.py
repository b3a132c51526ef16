"""`cristae train`: learn the classes of a project from its labelled slices."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field

from cristae.allocation import keep_freed_memory
from cristae.errors import DataError, ResourceError, UsageError
from cristae.learn.augment import Augmentation
from cristae.learn.checkpoint import Model, save_model
from cristae.learn.fit import Schedule, State, Watch, fit
from cristae.learn.patches import LabelledSlice, PatchSampler, Sampling, View, hold_out, load_slices
from cristae.learn.scale import reduction
from cristae.learn.supervised import HeldOutJudge, SupervisedStep
from cristae.learn.targets import Target, targets_of
from cristae.nets.registry import build_network, network_names
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.options import Options

Preset = Literal["default", "machireddy2023", "fast"]


class TrainSettings(BaseModel):
    """Settings of `cristae train`. Lengths in network pixels (px) are counted after reduction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = Field("default", description="where the other settings start from; explicit ones win")
    classes: tuple[str, ...] = Field((), description="classes to learn; empty means all of the project")
    slices: tuple[int, ...] = Field((), description="labelled slices to learn from; empty means all")
    exclude_slices: tuple[int, ...] = Field((), description="labelled slices not to learn from")
    separate: bool = Field(False, description="one network per class, as the papers did, instead of one for all")
    boundary_nm: float = Field(40.0, gt=0, description="width of the boundary between cells, of classes of instances")
    network: str = Field("resunet", description="name of the network")
    base_width: int = Field(16, ge=1, le=256, description="channels at full resolution; the paper's ResUNet has 64")
    neighbours: int = Field(1, ge=0, le=8, description="slices on either side shown as further channels")
    tile_px: int = Field(192, ge=16, le=4096, description="side of a training patch in px")
    context_nm: float = Field(3072.0, gt=0, description="what a tile spans in nm, by which slices are reduced")
    batch: int = Field(4, ge=1, le=256, description="patches per update")
    updates: int = Field(500, ge=1, description="number of updates")
    learning_rate: float = Field(3e-3, gt=0, lt=1, description="largest learning rate")
    optimiser: Literal["adam", "adamw"] = Field("adamw", description="optimiser")
    decay: Literal["constant", "cosine"] = Field("cosine", description="course of the learning rate")
    weight_decay: float = Field(1e-3, ge=0, description="weight decay")
    epsilon: float = Field(1e-8, gt=0, description="epsilon of the optimiser")
    averaging: float = Field(0.98, ge=0, lt=1, description="decay per update of the average of weights that is kept")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 means none")
    cross_entropy: float = Field(1.0, ge=0, description="weight of the cross-entropy beside the Dice loss")
    rare_sampler: Literal["own", "machireddy2023", "pagano2023"] = Field(
        "own", description="how rare classes are shown: by the next two settings, or as one of the papers did"
    )
    rare_share: float = Field(0.5, ge=0, le=1, description="share of patches that must hold a rare class")
    rare_pixels: int = Field(50, ge=1, description="pixels of the rare class that such a patch must hold")
    flips: bool = Field(True, description="mirror patches")
    quarter_turns: bool = Field(True, description="turn patches by multiples of 90°")
    rotation_deg: float = Field(0.0, ge=0, le=180, description="largest free rotation in degrees")
    scale: float = Field(0.0, ge=0, le=2, description="largest relative change of size")
    contrast: float = Field(0.15, ge=0, le=2, description="largest relative change of contrast")
    brightness: float = Field(0.25, ge=0, le=4, description="largest shift in standard deviations of a slice")
    gamma: float = Field(0.1, ge=0, le=2, description="largest relative change of the grey-value exponent")
    noise: float = Field(0.1, ge=0, le=4, description="largest added noise in standard deviations of a slice")
    blur: float = Field(0.5, ge=0, le=10, description="largest Gaussian blur in px")
    holdout_share: float = Field(0.0625, ge=0, le=0.5, description="share of each labelled slice held out to judge by")
    check_every: int = Field(50, ge=1, description="updates between two judgements")
    seed: int = Field(0, ge=0, description="seed of weights and patches")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA where there is some")
    deterministic: bool = Field(False, description="refuse operations that differ from run to run (slower on CUDA)")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "machireddy2023": {
        "base_width": 64,
        "neighbours": 0,
        "tile_px": 512,
        "context_nm": 8192.0,
        "batch": 5,
        "updates": 5000,
        "learning_rate": 1e-4,
        "optimiser": "adam",
        "decay": "constant",
        "weight_decay": 0.0,
        "epsilon": 1e-7,
        "averaging": 0.0,
        "clip": 0.0,
        "cross_entropy": 0.0,
        "rare_sampler": "machireddy2023",
        "quarter_turns": False,
        "rotation_deg": 0.0,
        "scale": 0.0,
        "contrast": 0.0,
        "brightness": 0.0,
        "gamma": 0.0,
        "noise": 0.0,
        "blur": 0.0,
    },
    "fast": {"base_width": 8, "updates": 250, "tile_px": 128, "context_nm": 2048.0},
}
"""Named starting points: `machireddy2023` are the values of that paper, `fast` a first look in about a minute."""

RARE_SAMPLERS: Mapping[str, tuple[float, int]] = {
    "machireddy2023": (0.8, 100),
    "pagano2023": (0.999, 1),
}
"""The papers' ways to show rare classes: 4 of 5 tiles with 100 pixels of one; all but 1 in 1000 tiles with any."""


def train_settings(project: Project, changes: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of a training: preset, then project file, then `changes`."""
    stored = project.stage_settings("train")
    preset = changes.get("preset", stored.get("preset", "default"))
    if preset not in get_args(Preset):
        raise UsageError(f"unknown preset {preset!r}; there are {', '.join(get_args(Preset))}")
    settings = resolve_settings(TrainSettings, PRESETS[preset], stored, changes)
    if settings.network not in network_names():
        raise UsageError(f"unknown network {settings.network!r}; there are {', '.join(network_names())}")
    return settings


def train(project: Project, settings: TrainSettings | None = None, options: Options | None = None) -> Run:
    """Train on the labelled slices of a project; a finished run with the same settings and labels is returned as is.

    Raises
    ------
    DataError
        If there is no image, no label, or a class without labelled pixels.
    ResourceError
        If CUDA is asked for and absent, or the project is in use.
    """
    settings, options = settings or train_settings(project, {}), options or Options()
    choose_device(settings.device)
    classes = classes_to_learn(project, settings)
    inputs = {"image": str(project.image_facts.get("digest")), "labels": project.annotations.fingerprint(classes)}
    run = project.run("train", settings, inputs)
    if run.finished and not options.force:
        project.ask_again(run)
        options.notify(f"train: nothing to do, {run.path.name} is finished (do it again with --force)")
        return run
    keep_freed_memory()
    torch.use_deterministic_algorithms(settings.deterministic)
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            remove_checkpoints(run.path)
        facts = learn(project, run.path, settings, classes, options)
        run.update(**facts)
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
    groups = _groups(project, settings, classes)
    facts = [_train_group(project, folder / name, settings, group, options) for name, group in groups.items()]
    names = list(groups)
    _merge_histories(folder, names)
    return {
        "learnt": list(classes),
        "classes": [name for one in facts for name in one["labelled_slices"]],
        "groups": names,
        "weights": _digest([folder / name / "weights.safetensors" for name in names]),
        "device": str(choose_device(settings.device)),
        "labelled_slices": {name: slices for one in facts for name, slices in one["labelled_slices"].items()},
        "alarms": [alarm for one in facts for alarm in one["alarms"]],
        "n_parameters": sum(one["n_parameters"] for one in facts),
        "updates": settings.updates,
        "best_step": max(one["best_step"] for one in facts),
        "training_seconds": round(sum(one["seconds"] for one in facts), 3),
    }


def choose_device(wish: str) -> torch.device:
    """Return the device: CUDA where there is some and it is not forbidden.

    Raises
    ------
    ResourceError
        If CUDA is asked for and absent.
    """
    available = torch.cuda.is_available()
    if wish == "cuda" and not available:
        raise ResourceError(
            "CUDA was asked for but this machine has no usable NVIDIA GPU (or PyTorch was installed without CUDA); "
            "use --set train.device=auto, or install a CUDA build of PyTorch"
        )
    return torch.device("cuda" if available and wish != "cpu" else "cpu")


def view_of(project: Project, factor: int, neighbours: int) -> View:
    """Return how networks see the image of a project."""
    facts = project.image_facts
    mean, deviation = (np.array(facts[key], np.float64) for key in ("slice_mean", "slice_std"))
    return View(factor, neighbours, mean, deviation, tuple(facts.get("missing", ())))


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


def _train_group(
    project: Project, folder: Path, settings: TrainSettings, classes: tuple[str, ...], options: Options
) -> dict[str, Any]:
    """Train one network and return the facts for the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(settings.device)
    grid = project.image.grid
    factor = reduction(grid, settings.tile_px, settings.context_nm)
    spans = settings.tile_px * factor * min(grid.voxel_size[1:])
    options.notify(
        f"train: {', '.join(classes)}; voxels of {' × '.join(f'{size:g}' for size in grid.voxel_size)} nm (z, y, x), "
        f"slices reduced by {factor}, tiles of {settings.tile_px} px span {spans:g} nm"
        + (f" (asked for {settings.context_nm:g} nm)" if abs(spans - settings.context_nm) > 1 else "")
    )
    targets = targets_of(project.annotations, classes, settings.boundary_nm)
    names = tuple(target.name for target in targets)
    slices, labelled = _load(project, settings, targets, factor)
    learn, judged = hold_out(slices, settings.seed, settings.holdout_share or 0.0625)
    sampler = PatchSampler(learn if settings.holdout_share else slices, _sampling(settings), settings.seed)
    step = SupervisedStep(sampler, names, settings.cross_entropy, device)
    torch.manual_seed(settings.seed)
    network = build_network(settings.network, 2 * settings.neighbours + 1, len(names), settings.base_width)
    multiple = int(getattr(network, "multiple", 1))
    if settings.tile_px % multiple:
        raise UsageError(f"tile_px must be a multiple of {multiple} for {settings.network}, got {settings.tile_px}")
    watch = Watch(options.progress(f"train {folder.name}"), options.notify, step.rescue)
    judge = HeldOutJudge(judged, names, multiple)
    checkpoint = folder / "checkpoint.safetensors"
    try:
        best, state = fit(network.to(device), step, judge, _schedule(settings), checkpoint, watch)
    finally:
        step.close()
    save_model(
        folder,
        Model(settings.network, settings.base_width, names, factor, settings.neighbours, grid.voxel_size),
        best,
    )
    _write_history(folder, state)
    return {
        "labelled_slices": labelled,
        "alarms": [alarm["message"] for alarm in state.alarms],
        "n_parameters": sum(value.numel() for value in best.parameters()),
        "best_step": state.best_step,
        "seconds": state.seconds,
    }


def _load(
    project: Project, settings: TrainSettings, targets: Sequence[Target], factor: int
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
    chosen = sorted((set(settings.slices) or available) - set(settings.exclude_slices))
    labelled = {one.name: [z for z in annotations.labelled_slices(one.layer) if z in chosen] for one in targets}
    slices = load_slices(image, annotations, targets, view_of(project, factor, settings.neighbours), chosen)
    return slices, labelled


def _sampling(settings: TrainSettings) -> Sampling:
    augmentation = Augmentation(**{name: getattr(settings, name) for name in Augmentation.__dataclass_fields__})
    share, pixels = RARE_SAMPLERS.get(settings.rare_sampler, (settings.rare_share, settings.rare_pixels))
    return Sampling(settings.tile_px, settings.batch, share, pixels, augmentation)


def _schedule(settings: TrainSettings) -> Schedule:
    return Schedule(**{name: getattr(settings, name) for name in Schedule.__dataclass_fields__})


def _groups(project: Project, settings: TrainSettings, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the classes of each network by its name: one for all masks, and one for each class of instances."""
    alone = {name: (name,) for name in classes if settings.separate or project.annotations.has_instances(name)}
    together = tuple(name for name in classes if name not in alone)
    return ({"all": together} if together else {}) | alone


def _write_history(folder: Path, state: State) -> None:
    pd.DataFrame(state.history).to_csv(folder / "history.csv", index=False)


def _digest(paths: Sequence[Path]) -> str:
    """Return a hash of files: the same weights, the same text."""
    total = hashlib.blake2b(digest_size=16)
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def _merge_histories(folder: Path, groups: Sequence[str]) -> None:
    """Write one history of the whole run: losses are averaged over networks, times added."""
    tables = [pd.read_csv(folder / group / "history.csv").set_index("step") for group in groups]
    merged = pd.concat(tables, axis=1)
    loss = pd.concat([table["loss"] for table in tables], axis=1).mean(axis=1)
    seconds = pd.concat([table["seconds"] for table in tables], axis=1).sum(axis=1)
    dices = merged[[column for column in dict.fromkeys(merged.columns) if column.startswith("dice_")]]
    table = pd.DataFrame({"loss": loss, "learning_rate": tables[0]["learning_rate"], "seconds": seconds})
    table.join(dices).to_csv(folder / "history.csv", na_rep="")
