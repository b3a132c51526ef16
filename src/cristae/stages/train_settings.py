"""Settings of `cristae train`, and the named starting points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from cristae.errors import UsageError
from cristae.learn.augment import Augmentation
from cristae.learn.fit import Schedule
from cristae.learn.patches import Sampling
from cristae.nets.contract import Size
from cristae.nets.registry import network_names
from cristae.project import Project
from cristae.settings import resolve_settings

Preset = Literal["default", "machireddy2023", "pagano2023", "fast"]
Scheme = Literal["supervised", "cps", "cps_cutmix"]


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
    size: Size = Field("small", description="full is the published size; small learns on two cores of a CPU")
    base_width: int = Field(0, ge=0, le=256, description="channels at the widest resolution; 0 means those of the size")
    start: str = Field(
        "", description="folder of another project, or of a train run, whose weights are taken up; empty: none"
    )
    encoder: str = Field(
        "", description="safetensors file of a pretrained encoder, for networks that take one; empty: none"
    )
    scheme: Scheme = Field(
        "supervised",
        description="learning from labelled slices alone, or also from others by cross pseudo supervision (cps), with "
        "boxes of one image mixed into another (cps_cutmix)",
    )
    cps_weight: float = Field(1.0, ge=0, le=100, description="weight of what two networks teach each other")
    cps_alone: float = Field(
        0.4, ge=0, lt=1, description="part of the training before that, in which each learns from labels alone"
    )
    unlabelled: int = Field(24, ge=1, le=1000, description="unlabelled slices that cps learns from, evenly spread")
    neighbours: int = Field(1, ge=0, le=8, description="slices on either side shown as further channels")
    tile_px: int = Field(192, ge=16, le=4096, description="side of a training patch in px")
    context_nm: float = Field(3072.0, gt=0, description="what a tile spans in nm, by which slices are reduced")
    batch: int = Field(4, ge=1, le=256, description="patches per update")
    updates: int = Field(500, ge=1, description="number of updates")
    learning_rate: float = Field(1e-3, gt=0, lt=1, description="largest learning rate")
    optimiser: Literal["adam", "adamw"] = Field("adamw", description="optimiser")
    decay: Literal["constant", "cosine", "linear"] = Field("cosine", description="course of the learning rate")
    weight_decay: float = Field(1e-3, ge=0, description="weight decay")
    epsilon: float = Field(1e-8, gt=0, description="epsilon of the optimiser")
    averaging: float = Field(0.98, ge=0, lt=1, description="decay per update of the average of weights that is kept")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 means none")
    cross_entropy: float = Field(
        1.0,
        ge=0,
        description="weight of the cross-entropy beside the Dice loss; no say in the losses of their own that "
        "senformer, fractalresnet and ceecnet have",
    )
    loss_depth: tuple[Annotated[int, Field(ge=0, le=30)], ...] = Field(
        (0,),
        min_length=1,
        exclude_if=lambda depths: depths == (0,),  # as with devices: runs that ended before stay valid
        description="depth of the fractal loss of fractalresnet and ceecnet, one for each equal part of the training; "
        "[0, 10, 20] is the papers' course",
    )
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
    devices: int = Field(
        1,
        ge=0,
        le=64,
        exclude_if=lambda devices: devices == 1,  # left out of the ids of runs: those that ended before stay valid
        description="processes that share each batch, on CUDA one per device (an extra, multi); 0 is one for each "
        "CUDA device of this machine that there are patches for",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="whether PyTorch compiles the network, which takes a minute; auto does so on CUDA, for long "
        "trainings of networks of published size",
    )
    deterministic: bool = Field(False, description="refuse operations that differ from run to run (slower on CUDA)")


_PAPERS: Mapping[str, Any] = {
    "size": "full",
    "neighbours": 0,
    "tile_px": 512,
    "context_nm": 8192.0,
    "optimiser": "adam",
    "weight_decay": 0.0,
    "averaging": 0.0,
    "cross_entropy": 0.0,
    "quarter_turns": False,
    "rotation_deg": 0.0,
    "scale": 0.0,
    "contrast": 0.0,
    "brightness": 0.0,
    "gamma": 0.0,
    "noise": 0.0,
    "blur": 0.0,
}
"""What both papers have in common: of all augmentation, they mirror patches alone."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "machireddy2023": {
        **_PAPERS,
        "batch": 5,
        "updates": 5000,
        "learning_rate": 1e-4,
        "decay": "constant",
        "epsilon": 1e-7,
        "clip": 0.0,
        "rare_sampler": "machireddy2023",
    },
    "pagano2023": {
        **_PAPERS,
        "network": "unetplusplus_pagano",
        "scheme": "cps_cutmix",
        "cps_alone": 0.0,
        "batch": 10,
        "updates": 22400,
        "learning_rate": 1e-3,
        "decay": "linear",
        "clip": 1.0,
        "rare_sampler": "pagano2023",
    },
    "fast": {"base_width": 8, "updates": 250, "tile_px": 128, "context_nm": 2048.0},
}
"""Named starting points: those named after the papers have their values (`pagano2023`: of the variant that did best
there, 500 epochs of 7 slices), `fast` is a first look in about a minute."""

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


def sampling(settings: TrainSettings, tile_px: int) -> Sampling:
    """Return how patches are chosen; `tile_px` is the side that the network takes."""
    augmentation = Augmentation(**{name: getattr(settings, name) for name in Augmentation.__dataclass_fields__})
    share, pixels = RARE_SAMPLERS.get(settings.rare_sampler, (settings.rare_share, settings.rare_pixels))
    return Sampling(tile_px, settings.batch, share, pixels, augmentation)


def schedule(settings: TrainSettings) -> Schedule:
    """Return optimiser and pace."""
    return Schedule(**{name: getattr(settings, name) for name in Schedule.__dataclass_fields__})
