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


def mixed(one: Tensor, other: Tensor, masks: Tensor) -> Tensor:
    """Return `other` inside the masks and `one` outside; images or maps ``(n, channels, y, x)``."""
    return torch.where(masks > 0, other, one)
