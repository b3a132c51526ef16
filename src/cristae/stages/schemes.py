"""What is trained, and by which step: one network from labels, or two that teach each other."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cristae.errors import DataError, ResourceError, UsageError
from cristae.learn.checkpoint import Model
from cristae.learn.cross import Crossing, CrossPseudoStep
from cristae.learn.histogram import UNCHANGED, Curve
from cristae.learn.patches import LabelledSlice, PatchSampler, Sampling, View, load_unlabelled
from cristae.learn.supervised import SupervisedStep
from cristae.nets.contract import Build
from cristae.nets.pair import Pair
from cristae.nets.registry import build_network
from cristae.project import Project
from cristae.stages.train_settings import TrainSettings

_SECOND = 1_000_003
"""Added to the seed for the weights of the second network."""
_BOXES = 2_000_003
"""Between the seeds of the boxes of two processes."""


class Step(Protocol):
    """A step function for `cristae.learn.fit.fit`."""

    def __call__(self, network: nn.Module, step: int) -> Tensor:
        """Return the loss of update `step`."""
        ...

    def rescue(self, name: str) -> None:
        """Show more of one class from the next update on."""
        ...

    def close(self) -> None:
        """End what was begun."""
        ...


def build_of(settings: TrainSettings, n_maps: int) -> Build:
    """Return what a network for so many output maps is built for."""
    return Build(2 * settings.neighbours + 1, n_maps, settings.size, settings.base_width, settings.tile_px)


def build(settings: TrainSettings, wanted: Build) -> nn.Module:
    """Return the network, or the pair of networks, that a scheme trains; the first is the same in every scheme."""
    torch.manual_seed(settings.seed)
    network = build_network(settings.network, wanted)
    if settings.scheme == "supervised":
        return network
    torch.manual_seed(settings.seed + _SECOND)
    return Pair([network, build_network(settings.network, wanted)])


def step_of(
    project: Project,
    settings: TrainSettings,
    slices: Sequence[LabelledSlice],
    names: Sequence[str],
    patches: Sampling,
    view: View,
) -> Step:
    """Return the step function of a scheme.

    Parameters
    ----------
    project
        Where unlabelled slices are.
    settings
        What scheme.
    slices
        Labelled slices to learn from.
    names
        Of the output maps.
    patches
        How they are chosen, and which share of them.
    view
        How unlabelled slices are seen: as the labelled ones are.

    Raises
    ------
    DataError
        If a scheme learns from unlabelled slices and there are none.
    UsageError
        If a batch is too small to be mixed.
    """
    device = choose_device(settings.device)
    sampler = PatchSampler(slices, patches, settings.seed)
    free = slices_beside(project, settings, {one.z for one in slices})
    if settings.scheme == "supervised":
        return SupervisedStep(sampler, names, settings.cross_entropy, device)
    others = load_unlabelled(project.image, len(names), view, free)
    unlabelled = PatchSampler(others, replace(patches, rare_share=0.0), settings.seed + _SECOND)
    weights = settings.cps_weight, settings.cross_entropy
    # Each process mixes the patches of its share by other boxes.
    mix = settings.scheme == "cps_cutmix"
    crossing = Crossing(*weights, settings.updates, mix, settings.seed + _BOXES * patches.rank, settings.cps_alone)
    return CrossPseudoStep(sampler, unlabelled, names, crossing, device)


def slices_beside(project: Project, settings: TrainSettings, known: Set[int]) -> tuple[int, ...]:
    """Return the slices beside the `known` ones that a scheme learns from: none if it learns from labels alone.

    Raises
    ------
    DataError
        If a scheme learns from unlabelled slices and there are none.
    UsageError
        If a batch is too small to be mixed.
    """
    if settings.scheme == "supervised":
        return ()
    if settings.scheme == "cps_cutmix" and settings.batch < 2:
        raise UsageError("cps_cutmix mixes one patch of a batch into another; set train.batch to 2 or more")
    return unlabelled_slices(project, settings, known)


def unlabelled_slices(project: Project, settings: TrainSettings, known: Set[int]) -> tuple[int, ...]:
    """Return the slices beside the `known` ones that a scheme learns from, evenly spread.

    Raises
    ------
    DataError
        If every slice that is fit to learn from has labels.
    """
    lost = set(project.lost_slices)
    free = [z for z in range(project.image.shape[0]) if z not in lost and z not in known]
    if not free:
        raise DataError(
            f"{settings.scheme} learns from unlabelled slices, and all good ones of {project.path} are labelled; "
            "train with: --set train.scheme=supervised"
        )
    chosen = np.linspace(0, len(free) - 1, min(settings.unlabelled, len(free)))
    return tuple(free[round(i)] for i in chosen)


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


def view_for(project: Project, model: Model) -> View:
    """Return how a trained network sees the image of a project."""
    return view_of(project, model.reduction, model.neighbours, model.curve)


def view_of(project: Project, factor: int, neighbours: int, curve: Curve = UNCHANGED) -> View:
    """Return how networks see the image of a project."""
    facts = project.image_facts
    mean, deviation = (np.array(facts[key], np.float64) for key in ("slice_mean", "slice_std"))
    return View(factor, neighbours, mean, deviation, project.lost_slices, curve)
