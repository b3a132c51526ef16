"""CutMix: boxes of one image in another, and what is known of both along with them.

Papers: S. Yun et al. (2019), ICCV; G. French et al. (2020), BMVC (boxes of a drawn area, several of them).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

AREA = (0.25, 0.5)
"""Share of an image that its box covers, drawn evenly."""
DRAWS = 8
"""How often a box is drawn at most, until a rare class is kept."""


def box_masks(n: int, side: tuple[int, int], rng: Generator, n_boxes: int = 1) -> np.ndarray:
    """Draw one mask per image: 1 inside a box of a drawn area, shape and place, 0 outside.

    Parameters
    ----------
    n
        Masks.
    side
        Size of each ``(y, x)`` in pixels.
    rng
        What is drawn depends on nothing else.
    n_boxes
        Boxes of each mask, smaller in proportion; where two lie over each other there is none.

    Returns
    -------
    float32 ``(n, 1, y, x)`` of 0 and 1.
    """
    masks = np.zeros((n, *side), np.bool_)
    for mask in masks:
        for _ in range(n_boxes):
            area = rng.uniform(*AREA)
            # Evenly in the logarithm, between a box as high as the image and one as wide.
            height = np.exp(rng.uniform(0, 1) * np.log(area))
            shares = np.array([height, area / height]) * np.sqrt(1 / n_boxes)
            size = np.round(shares * side).astype(int)
            low = np.round((np.array(side) - size) * rng.uniform(0, 1, 2)).astype(int)
            box = tuple(slice(start, start + length) for start, length in zip(low, size, strict=True))
            mask[box] ^= True
    return masks[:, None].astype(np.float32)


def keeping_masks(one: np.ndarray, other: np.ndarray, least: int, rng: Generator) -> np.ndarray:
    """Draw a mask of one box per pair of images, anew where its mixture loses a rare class.

    Parameters
    ----------
    one, other
        Where rare classes are in the images of a pair, float32 ``(n, classes, y, x)``, 0–1. Of each class that has
        `least` pixels or more in either, the mixture is to have as many, too. Of `DRAWS` boxes the first is taken that
        keeps all such classes, or that which keeps most of them.
    least
        Pixels.
    rng
        What is drawn depends on nothing else than this and the images.

    Returns
    -------
    float32 ``(n, 1, y, x)`` of 0 and 1, as of `box_masks`.
    """
    side = (one.shape[2], one.shape[3])
    chosen = []
    for first, second in zip(one, other, strict=True):
        wanted = np.maximum(first.sum((1, 2)), second.sum((1, 2))) >= least
        kept: list[tuple[int, np.ndarray]] = []
        while len(kept) < DRAWS and not (kept and kept[-1][0] == wanted.sum()):
            mask = box_masks(1, side, rng)[0]
            there = (first * (1 - mask) + second * mask).sum((1, 2)) >= least
            kept.append((int(there[wanted].sum()), mask))
        chosen.append(max(kept, key=lambda found: found[0])[1])
    return np.stack(chosen)


def mixed(one: Tensor, other: Tensor, masks: Tensor) -> Tensor:
    """Return `other` inside the masks and `one` outside; images or maps ``(n, channels, y, x)``."""
    return torch.where(masks > 0, other, one)
