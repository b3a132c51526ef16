"""Labelled slices with a disc, and a network small enough to learn it in a moment."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cristae.learn.patches import LabelledSlice
from cristae.nets.resunet import ResUNet


def disc_slice(z: int = 0) -> LabelledSlice:
    y, x = np.mgrid[:64, :64]
    target = (((y - 30 - z) ** 2 + (x - 30) ** 2) < 200).astype(np.float32)[None]
    image = target + 0.2 * np.random.default_rng(z).standard_normal((1, 64, 64), np.float32)
    return LabelledSlice(z, image.astype(np.float32), target, np.ones_like(target))


def small_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return ResUNet(1, 1, 4)
