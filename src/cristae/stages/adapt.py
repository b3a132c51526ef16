"""`cristae adapt`: bring the networks of another project to a volume that has no labels."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from cristae.allocation import keep_freed_memory
from cristae.costs.steps import Memory
from cristae.costs.trials import MEASURED_AT_ONCE, adapt_memory
from cristae.costs.work import Network, Prediction, Training, Work
from cristae.errors import DataError
from cristae.learn.augment import Augmentation
from cristae.learn.checkpoint import Model, load_model, read_model, save_model
from cristae.learn.cross import Crossing, CrossPseudoStep
from cristae.learn.fit import Score, Watch, fit
from cristae.learn.footprint import footprint
from cristae.learn.histogram import UNCHANGED, matching_curve
from cristae.learn.infer import Inference, SlabPredictor
from cristae.learn.patches import LabelledSlice, PatchSampler, Sampling, View, grey_values, load_unlabelled
from cristae.learn.pseudo import label_surely
from cristae.learn.scale import like_reduction
from cristae.learn.statistics import estimate_statistics
from cristae.learn.supervised import SupervisedStep
from cristae.nets.pair import Pair, parts_of
from cristae.nets.registry import build_network
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import within
from cristae.stages.options import Options
from cristae.stages.schemes import Step, choose_device, unlabelled_slices, view_of
from cristae.stages.start import Source, alike, boundary_nm, find_source, jittered
from cristae.stages.train import digest, merge_histories, remove_checkpoints
from cristae.stages.train_settings import TrainSettings, sampling, schedule

LABELLED_PX = 1152
"""Side of the tiles in which a network labels slices."""
_FOLLOWED_PX = 192
VANISHED = 0.1
"""A class of which less than this share is found after learning without labels may have been unlearnt."""


class AdaptSettings(BaseModel):
    """Settings of `cristae adapt`. Lengths in network pixels (px) are counted after reduction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statistics: float = Field(
        1.0, ge=0, le=1, description="share of this volume in the statistics of batch normalisation; 0 leaves them"
    )
    histogram: bool = Field(
        False, description="map grey values so that they are distributed as those that the network learnt from"
    )
    learning: Literal["none", "self_training", "cps", "cps_cutmix"] = Field(
        "none",
        description="learn on without labels: from what the network is sure of (self_training), or two networks "
        "from each other (cps, cps_cutmix)",
    )
    updates: int = Field(200, ge=1, description="number of updates of the learning")
    learning_rate: float = Field(3e-4, gt=0, lt=1, description="largest learning rate")
    batch: int = Field(4, ge=2, le=256, description="patches per update")
    confidence: float = Field(0.9, gt=0.5, lt=1, description="probability from which on self_training believes itself")
    slices: int = Field(32, ge=1, le=1000, description="slices that are looked at, evenly spread")
    tiles: int = Field(128, ge=1, le=100_000, description="tiles by which statistics are measured, of all these slices")
    seed: int = Field(0, ge=0, description="seed of tiles and patches")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes CUDA where there is some")
    deterministic: bool = Field(False, description="refuse operations that differ from run to run (slower on CUDA)")


def adapt_settings(project: Project, changes: Mapping[str, Any]) -> AdaptSettings:
    """Return the settings of an adaptation: defaults, then project file, then `changes`."""
    return resolve_settings(AdaptSettings, project.stage_settings("adapt"), changes)


def adapt(
    project: Project, source: Path | str, settings: AdaptSettings | None = None, options: Options | None = None
) -> Run:
    """Adapt the networks of `source` to the image of `project`, of which no slice need be labelled.

    What comes out is a run of the stage train, from which prediction goes on as from a training, and from which a
    training can start (``train.start``) once some slices are labelled.

    Parameters
    ----------
    project
        With an image.
    source
        Folder of another project, whose latest training is taken, or of a train run.
    settings, options
        How.

    Raises
    ------
    UsageError
        If there is no project or train run at `source`.
    DataError
        If there is no image, nothing has been trained there, or files are damaged.
    ResourceError
        If CUDA is asked for and absent, the project is in use, or more memory is needed than allowed.
    """
    settings, options = settings or adapt_settings(project, {}), options or Options()
    choose_device(settings.device)
    project.image  # noqa: B018  refused before anything is written
    found = find_source(str(source), project)
    inputs = {"image": project.image_fingerprint, "start": found.digest}
    run = project.run("train", settings, inputs)
    if nothing_to_do(project, run, options, "adapt"):
        return run
    if options.max_ram_gb is not None:
        within("adapt", needs(project, found, settings), (0.0, 1), options)
    keep_freed_memory()
    torch.use_deterministic_algorithms(settings.deterministic)
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            remove_checkpoints(run.path)
        groups = list(found.folders)
        facts = [_adapt_network(project, found, run.path / name, settings, options) for name in groups]
        if settings.learning != "none":
            merge_histories(run.path, groups)
        run.update(
            learnt=list(found.run.manifest["learnt"]),
            classes=[name for one in facts for name in one["classes"]],
            groups=groups,
            weights=digest([run.path / name / "weights.safetensors" for name in groups]),
            device=str(choose_device(settings.device)),
            labelled_slices={name: [] for one in facts for name in one["classes"]},
            alarms=[alarm for one in facts for alarm in one["alarms"]],
            n_parameters=sum(one["n_parameters"] for one in facts),
            updates=settings.updates if settings.learning != "none" else 0,
            training_seconds=round(sum(one["seconds"] for one in facts), 3),
            start=found.facts,
            boundary_nm=boundary_nm(found.run),
            measured=any(one["measured"] for one in facts),
            adapted=settings.model_dump(mode="json", include={"statistics", "histogram", "learning"}),
        )
    remove_checkpoints(run.path)
    return run


def needs(project: Project, source: Source, settings: AdaptSettings) -> Memory:
    """Return what an adaptation needs, its networks followed without their weights."""
    works = [_work(project, read_model(folder), settings) for folder in source.folders.values()]
    learns = settings.learning != "none"
    return Memory(tuple(step for work in works for step in adapt_memory(work, learns=learns).steps))


def _work(project: Project, model: Model, settings: AdaptSettings) -> Work:
    image = project.image
    seen = footprint(model.network, model.build, min(_FOLLOWED_PX, model.tile_px))
    network = Network(
        n_maps=len(model.classes),
        n_channels=model.build.n_channels,
        n_parameters=seen.n_parameters,
        reduction=like_reduction(image.grid, model.pixel_nm),
        forward_bytes=seen.forward_bytes,
        training_bytes=seen.training_bytes,
    )
    training = replace(
        Training(),
        batch=settings.batch,
        tile_px=model.tile_px,
        n_unlabelled=min(settings.slices, image.shape[0]),
        twins=model.n_networks > 1 or settings.learning in ("cps", "cps_cutmix"),
    )
    return Work(
        image.shape,
        image.dtype.itemsize,
        networks=(network,),
        training=training,
        prediction=replace(Prediction(), tile_px=LABELLED_PX),
        gpu=choose_device(settings.device).type != "cpu",
    )


@dataclass(frozen=True)
class _Target:
    """What a network is adapted to: how it sees the volume, and some slices seen so."""

    project: Project
    model: Model
    view: View
    slices: list[LabelledSlice]
    tile_px: int


def _adapt_network(
    project: Project, source: Source, folder: Path, settings: AdaptSettings, options: Options
) -> dict[str, Any]:
    """Adapt one network and return the facts for the manifest."""
    begun, device = time.monotonic(), choose_device(settings.device)
    model, network = load_model(source.run.path / folder.name, device)
    target = _look(project, source, model, network, settings, options)
    sampler = PatchSampler(
        target.slices, Sampling(target.tile_px, MEASURED_AT_ONCE, 0.0, 1, Augmentation(False, False)), settings.seed
    )
    tiles = (torch.from_numpy(images).to(device) for images in sampler.in_turn(settings.tiles))
    measured = estimate_statistics(network, tiles, settings.statistics)
    if settings.statistics > 0 and not measured:
        options.notify(f"adapt: {model.network} has no batch normalisation, so that there is nothing to measure anew")
    folder.mkdir(parents=True, exist_ok=True)
    alarms: list[str] = []
    if settings.learning != "none":
        network, alarms = _learn(network, target, folder, settings, options)
    adapted = replace(
        model,
        reduction=target.view.reduction,
        voxel_size_nm=project.image.grid.voxel_size,
        n_networks=len(parts_of(network)),
        curve=target.view.curve,
    )
    save_model(folder, adapted, network)
    return {
        "classes": model.classes,
        "measured": bool(measured),
        "alarms": alarms,
        "n_parameters": sum(value.numel() for value in network.parameters()),
        "seconds": time.monotonic() - begun,
    }


def _look(
    project: Project, source: Source, model: Model, network: nn.Module, settings: AdaptSettings, options: Options
) -> _Target:
    """Read slices as the network is to see them; grey values are matched here."""
    factor = alike(project, model, options)
    kept = UNCHANGED if settings.histogram else source.curve_for(project, model)
    view = view_of(project, factor, model.neighbours, kept)
    chosen = unlabelled_slices(project, TrainSettings(unlabelled=settings.slices), set())
    slices = load_unlabelled(project.image, len(model.classes), view, chosen)
    if settings.histogram:
        if not model.grey:
            raise DataError(
                f"{source.name} does not say what grey values it learnt from, for it was trained by an older cristae; "
                "train it again, or adapt with --set adapt.histogram=false"
            )
        curve = matching_curve(grey_values(slices, view, project.image.shape[0]), model.grey)
        view = replace(view, curve=curve)
        slices = [replace(one, image=curve(one.image)) for one in slices]
    multiple = int(getattr(network, "multiple", 1))
    return _Target(project, model, view, slices, -(-model.tile_px // multiple) * multiple)


def _learn(
    network: nn.Module, target: _Target, folder: Path, settings: AdaptSettings, options: Options
) -> tuple[nn.Module, list[str]]:
    """Let a network learn from the slices without labels; also return alarms."""
    device, names = choose_device(settings.device), target.model.classes
    labelled, before = label_surely(target.slices, _predictor(network, target, device), settings.confidence)
    if settings.learning != "self_training":
        network = _paired(network, target.model, settings.seed).to(device)
    how = TrainSettings(
        batch=settings.batch, updates=settings.updates, learning_rate=settings.learning_rate, seed=settings.seed
    )
    step = _step(labelled, target, how, settings)
    pace = replace(schedule(how), check_every=max(1, settings.updates // 10))
    watch = Watch(options.progress(f"adapt {folder.name}"), options.notify, step.rescue)
    # There is nothing to judge by: the last weights are kept, and no class is taken for collapsed.
    unknown = {name: Score(math.nan, math.nan) for name in names}
    try:
        learnt, state = fit(network, step, lambda _: unknown, pace, folder / "checkpoint.safetensors", watch)
    finally:
        step.close()
    pd.DataFrame(state.history).to_csv(folder / "history.csv", index=False)
    _, after = label_surely(target.slices, _predictor(learnt, target, device), settings.confidence)
    alarms = [
        f"class {name!r} covers {now:.2%} of the slices after learning without labels, {then:.2%} before: it may have "
        "been unlearnt; adapt with --set adapt.learning=none"
        for name, then, now in zip(names, before, after, strict=True)
        if now < VANISHED * then
    ]
    for alarm in alarms:
        options.notify(f"adapt: {alarm}")
    return learnt, alarms


def _step(labelled: Sequence[LabelledSlice], target: _Target, how: TrainSettings, settings: AdaptSettings) -> Step:
    device, names = choose_device(settings.device), target.model.classes
    patches = replace(sampling(how, target.tile_px), rare_share=0.0)
    if settings.learning == "self_training":
        return SupervisedStep(PatchSampler(labelled, patches, how.seed), names, how.cross_entropy, device)
    # With no pixel looked at, the share of the labels in the loss is constant: they learn from each other alone.
    blank = [replace(one, weight=np.zeros_like(one.weight)) for one in target.slices]
    silent, seen = (PatchSampler(slices, patches, how.seed + i) for i, slices in enumerate((blank, target.slices)))
    mix = settings.learning == "cps_cutmix"
    return CrossPseudoStep(silent, seen, names, Crossing(1.0, how.cross_entropy, how.updates, mix, how.seed), device)


def _paired(network: nn.Module, model: Model, seed: int) -> nn.Module:
    """Return a pair that starts from a network, the second with a little noise; a pair is returned as it is."""
    if isinstance(network, Pair):
        return network
    with torch.random.fork_rng(devices=[]):
        second = build_network(model.network, model.build)
    second.load_state_dict(jittered(network.state_dict(), seed))
    return Pair([network, second])


def _predictor(network: nn.Module, target: _Target, device: torch.device) -> SlabPredictor:
    how = Inference.of(network, LABELLED_PX, 64, 4)
    return SlabPredictor(network.eval(), target.view, target.project.image.shape, how, device)
