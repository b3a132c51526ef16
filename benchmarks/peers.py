"""Peers, run in the same process on the same slices: MONAI networks trained by a short script of ours."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from skimage.transform import downscale_local_mean, resize


def monai_unet(
    image: np.ndarray, truth: np.ndarray, labelled: Sequence[int], core_seconds: float, seed: int
) -> np.ndarray:
    """Train MONAI's BasicUNet at half resolution for a budget of CPU time and return masks of all slices.

    Dice and cross-entropy, AdamW with a falling rate, mirrored and turned patches: what a practised user would do.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    small = np.stack([downscale_local_mean(plane, (2, 2)) for plane in image]).astype(np.float32)
    small = (small - small.mean((1, 2), keepdims=True)) / small.std((1, 2), keepdims=True)
    target = np.stack([downscale_local_mean(plane, (2, 2)) >= 0.5 for plane in truth.astype(np.float32)])
    network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=1)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    loss_of = DiceCELoss(sigmoid=True)
    begun = time.process_time()
    while (spent := (time.process_time() - begun) / core_seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * spent))
        patches = []
        for _ in range(2):
            z, (y, x) = rng.choice(labelled), rng.integers(0, np.array(small.shape[1:]) - 256)
            pair = np.stack([small[z], target[z]])[:, y : y + 256, x : x + 256]
            pair = np.rot90(pair[:, :: rng.choice((1, -1))], rng.integers(4), (1, 2))
            pair = pair.astype(np.float32)
            pair[0] = pair[0] * rng.uniform(0.8, 1.25) + rng.uniform(-0.2, 0.2)
            patches.append(pair)
        batch = torch.from_numpy(np.ascontiguousarray(np.stack(patches)))
        optimiser.zero_grad()
        loss_of(network(batch[:, :1]), batch[:, 1:]).backward()
        optimiser.step()
    network.eval()
    masks = np.zeros(truth.shape, bool)
    with torch.inference_mode():
        for z, plane in enumerate(small):
            probability = torch.sigmoid(network(torch.from_numpy(plane)[None, None]))[0, 0].numpy()
            masks[z] = resize(probability, truth.shape[1:], order=1) >= 0.5
    return masks
