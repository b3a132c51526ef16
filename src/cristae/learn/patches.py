"""Patches: what a network is shown, cut from the labelled slices.

Only labelled slices (and the neighbours a network is given as further channels) are held in memory, at the
resolution the network sees, so memory depends on the number of labelled slices alone. Patch number *i* of a
training is a function of the seed and *i*: a resumed training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from cristae.annotations import IGNORE, Annotations
from cristae.errors import DataError
from cristae.geometry import Box
from cristae.learn.augment import Augmentation, augment
from cristae.learn.histogram import UNCHANGED, Curve, quantiles
from cristae.learn.scale import normalise, reduce_slices
from cristae.learn.targets import Target
from cristae.volume import Volume

JUDGED_MARGIN = 64
"""Pixels around a held-out rectangle that the network is shown as context but not judged by."""
RARE_COVERAGE = 0.02
"""A class that covers less of the labelled area than this is rare."""
RESCUED_SHARE = 0.5
"""Share of the patches that must hold a class that collapsed, where rare classes had none."""


@dataclass(frozen=True)
class LabelledSlice:
    """One labelled slice at the network's resolution.

    Parameters
    ----------
    z
        Slice index in the volume.
    image
        float32 ``(channels, y, x)``, mean 0 and deviation 1 per slice; the middle channel is the slice itself.
    target
        float32 ``(classes, y, x)``: share of each pixel that is the class, 0–1.
    weight
        float32 ``(classes, y, x)``: 1 where the class was looked at, 0 where ignored.
    """

    z: int
    image: np.ndarray
    target: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class View:
    """How a network sees a volume: what is done to slices before it, in training and prediction alike.

    Parameters
    ----------
    reduction
        Slices are reduced by this factor along y and x.
    neighbours
        Number of slices on either side given as further channels.
    mean, deviation
        Per slice of the volume ``(z,)``, taken out before the network.
    missing
        Slices that were never imaged; the nearest other slice stands in for them.
    curve
        What grey values become last, of a network that learnt from another volume.
    """

    reduction: int
    neighbours: int
    mean: np.ndarray
    deviation: np.ndarray
    missing: tuple[int, ...] = ()
    curve: Curve = UNCHANGED

    @property
    def n_channels(self) -> int:
        """Input channels of the network."""
        return 2 * self.neighbours + 1

    @property
    def reach(self) -> int:
        """How many slices away the input for a slice may lie."""
        return self.neighbours + _longest_gap(self.missing)

    def channels(self, z: int, n_slices: int) -> list[int]:
        """Return the slices that make up the input for slice z; beyond the volume they are mirrored."""
        if n_slices == 1:
            return [0] * self.n_channels
        period = 2 * (n_slices - 1)
        folded = [abs(k) % period for k in range(z - self.neighbours, z + self.neighbours + 1)]
        return [self.standing_in(min(k, period - k), n_slices) for k in folded]

    def standing_in(self, z: int, n_slices: int) -> int:
        """Return slice z, or the nearest one that was imaged."""
        if z not in self.missing or len(self.missing) >= n_slices:
            return z
        return min((k for k in range(n_slices) if k not in self.missing), key=lambda k: (abs(k - z), k))

    def prepare(self, slices: np.ndarray, z: int) -> np.ndarray:
        """Return slices ``(n, y, x)``, the first of which is z, as the network sees them: float32, reduced.

        Training and prediction both come through here. The curve is last, for it was measured on pixels like these.
        """
        chosen = slice(z, z + len(slices))
        return self.curve(reduce_slices(normalise(slices, self.mean[chosen], self.deviation[chosen]), self.reduction))

    def padding(self, z: int) -> float:
        """Return the grey value that the network sees where slice z is padding."""
        return float(self.prepare(np.zeros((1, 1, 1), np.uint8), z)[0, 0, 0])


def load_slices(
    image: Volume, annotations: Annotations, targets: Sequence[Target], view: View, slices: Sequence[int]
) -> list[LabelledSlice]:
    """Read the named labelled slices of a project into memory.

    Raises
    ------
    DataError
        If a target has no labelled pixel on these slices.
    """
    found = [_load_slice(image, annotations, targets, view, z) for z in slices]
    for i, target in enumerate(targets):
        if not any(one.target[i].any() for one in found):
            raise DataError(
                f"class {target.name!r} has no labelled pixel on the training slices "
                f"{', '.join(map(str, slices)) or '(none)'}; import some, or leave it out by --set train.classes=..."
            )
    return found


def load_unlabelled(image: Volume, n_classes: int, view: View, slices: Sequence[int]) -> list[LabelledSlice]:
    """Read the named slices of a volume into memory, as slices of which nothing is known.

    Their targets are 0, and weights are 1 all over: what is inside of the slice.
    """
    found = []
    for z in slices:
        seen = _look(image, view, z)
        empty = np.zeros((n_classes, *seen.shape[1:]), np.float32)
        found.append(LabelledSlice(z, seen, empty, empty + 1))
    return found


def _look(image: Volume, view: View, z: int) -> np.ndarray:
    """Return slice z as the network sees it, float32 ``(channels, y, x)``."""
    depth, height, width = image.shape
    boxes = ((k, Box((k, 0, 0), (k + 1, height, width))) for k in view.channels(z, depth))
    return np.concatenate([view.prepare(image.read(box), k) for k, box in boxes])


def grey_values(slices: Sequence[LabelledSlice], view: View, n_slices: int) -> tuple[float, ...]:
    """Return how the grey values of some slices of a volume of `n_slices` are distributed, without padding.

    See `cristae.learn.histogram.quantiles`.
    """
    middle = view.neighbours
    return quantiles((one.image[middle], view.padding(view.standing_in(one.z, n_slices))) for one in slices)


def _load_slice(
    image: Volume, annotations: Annotations, targets: Sequence[Target], view: View, z: int
) -> LabelledSlice:
    labels = np.stack([target.read(annotations, z) for target in targets])
    seen = reduce_slices((labels != IGNORE).astype(np.float32), view.reduction)
    share = reduce_slices((labels == 1).astype(np.float32), view.reduction)
    # A pixel made of seen and unseen voxels counts as seen when at least half of it was.
    weight = (seen >= 0.5).astype(np.float32)
    target = np.where(weight > 0, share / np.maximum(seen, 1e-6), 0).astype(np.float32)
    return LabelledSlice(z, _look(image, view, z), target, weight)


def hold_out(
    slices: Sequence[LabelledSlice], seed: int, share: float
) -> tuple[list[LabelledSlice], list[LabelledSlice]]:
    """Split every labelled slice in a part to learn from and a rectangle to judge by.

    The rectangle covers `share` of the slice; of eight random ones that is taken in which the classes stand most like
    in the whole slice, and that leaves at least half of every class. It is ignored in the first list, and all that
    counts in the second, where `JUDGED_MARGIN` pixels of surroundings are kept as context with weight 0. A share of 0
    holds out nothing.
    """
    if share <= 0:
        return list(slices), []
    learn, judge = [], []
    for one in slices:
        height, width = one.image.shape[1:]
        size = (max(1, round(height * share**0.5)), max(1, round(width * share**0.5)))
        rng = np.random.default_rng([seed, one.z, 17])
        spots = [(int(rng.integers(height - size[0] + 1)), int(rng.integers(width - size[1] + 1))) for _ in range(8)]
        boxes = [(slice(y, y + size[0]), slice(x, x + size[1])) for y, x in spots]
        boxes = [box for box in boxes if _leaves_most(one, box)]
        if not boxes:  # a few objects that any rectangle would take away: all of them are needed to learn from
            learn.append(one)
            continue
        typical = one.target.mean((1, 2))
        # In ratios, so that a rare class counts as much as a common one.
        box = min(boxes, key=lambda b: _unlikeness(one.target[:, b[0], b[1]].mean((1, 2)), typical))
        inside = np.zeros((height, width), np.float32)
        inside[box] = 1
        learn.append(LabelledSlice(one.z, one.image, one.target, one.weight * (1 - inside)))
        wide = (slice(max(0, side.start - JUDGED_MARGIN), side.stop + JUDGED_MARGIN) for side in box)
        part = (slice(None), *wide)
        judge.append(LabelledSlice(one.z, one.image[part], one.target[part], (one.weight * inside)[part]))
    return learn, judge


def _leaves_most(one: LabelledSlice, box: tuple[slice, slice]) -> bool:
    """Say whether at least half of the pixels of every class lie outside a rectangle."""
    painted = one.target * one.weight
    return bool((painted[:, box[0], box[1]].sum((1, 2)) <= 0.5 * painted.sum((1, 2))).all())


def _unlikeness(found: np.ndarray, typical: np.ndarray) -> float:
    return float(np.abs(np.log((found + 1e-4) / (typical + 1e-4))).sum())


@dataclass(frozen=True)
class Sampling:
    """How patches are chosen.

    Parameters
    ----------
    tile_px
        Side of a patch in network pixels.
    batch
        Patches per update.
    rare_share
        Share of the patches of a batch that must hold a rare class (0 switches the sampler off).
    rare_pixels
        How many of its pixels such a patch must hold.
    augmentation
        What is done to each patch.
    rank, size
        Of the patches of a batch, number `rank` and each `size`-th after it are cut here, as they are for whoever cuts
        all of them. Rare classes come first in a batch, so that every such share has some.
    """

    tile_px: int
    batch: int
    rare_share: float
    rare_pixels: int
    augmentation: Augmentation
    rank: int = 0
    size: int = 1


class PatchSampler:
    """Draws batches of patches from labelled slices.

    Rare classes (below `RARE_COVERAGE` of the labelled area, or named by `insist`) take turns in being required, so
    that a class of a few hundred pixels is seen in every few patches whatever the size of the volume.
    """

    def __init__(self, slices: Sequence[LabelledSlice], sampling: Sampling, seed: int) -> None:
        self.slices, self.sampling, self.seed = list(slices), sampling, seed
        self.share = sampling.rare_share
        self.coverage = _coverage(self.slices)
        self._pixels: Mapping[int, list[tuple[int, np.ndarray]]] = {
            i: _pixels_of(self.slices, i) for i in range(len(self.coverage))
        }
        self.rare = [i for i, share in enumerate(self.coverage) if share < RARE_COVERAGE and self._pixels[i]]

    def insist(self, index: int) -> None:
        """Treat a class as rare from now on, and give it one more turn than the others.

        Where rare classes had no share of the patches, they get `RESCUED_SHARE`.
        """
        if self._pixels[index]:
            # With no share, others that are rare were not to be shown more often.
            self.rare = [*(self.rare if self.share else []), index]
            self.share = self.share or RESCUED_SHARE

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return image ``(n, channels, t, t)``, target and weight ``(n, classes, t, t)`` of update `step`, float32."""
        patches = [
            self._patch(np.random.default_rng([self.seed, step, i]), step * self.sampling.batch + i, i)
            for i in range(self.sampling.rank, self.sampling.batch, self.sampling.size)
        ]
        image, target, weight = (np.stack(parts) for parts in zip(*patches, strict=True))
        return image, target, weight

    def in_turn(self, n: int) -> Iterator[np.ndarray]:
        """Yield the images ``(batch, channels, t, t)`` of `n` patches in all, of every slice in turn."""
        for first in range(0, n, self.sampling.batch):
            images = []
            for i in range(first, min(first + self.sampling.batch, n)):
                one, rng = self.slices[i % len(self.slices)], np.random.default_rng([self.seed, i, 43])
                images.append(self._cut(one, rng.uniform(0, 1, 2) * np.array(one.image.shape[1:]), rng)[0])
            yield np.stack(images)

    def _patch(self, rng: Generator, turn: int, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sampling = self.sampling
        # A share of 0.999 of 4 patches: three for sure, the fourth nearly always.
        wanted_share = self.share * sampling.batch - i
        if not self.rare or rng.random() >= wanted_share:
            one = self.slices[int(rng.integers(len(self.slices)))]
            centre = rng.uniform(0, 1, 2) * np.array(one.image.shape[1:])
            return self._cut(one, centre, rng)
        wanted = self.rare[turn % len(self.rare)]
        best, most = None, -1.0
        for _ in range(4):
            spots = self._pixels[wanted]
            where, pixels = spots[int(rng.integers(len(spots)))]
            centre = pixels[int(rng.integers(len(pixels)))] + rng.uniform(-0.35, 0.35, 2) * sampling.tile_px
            patch = self._cut(self.slices[where], centre, rng)
            found = float((patch[1][wanted] * patch[2][wanted]).sum())
            if found > most:
                best, most = patch, found
            if most >= sampling.rare_pixels:
                break
        assert best is not None
        return best

    def _cut(self, one: LabelledSlice, centre: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        half = self.sampling.tile_px / 2
        extent = np.array(one.image.shape[1:], float)
        # Patches stay inside the slice where it is large enough, and are centred on it where it is not.
        low, high = np.minimum(half, extent / 2), np.maximum(extent - half, extent / 2)
        centre = np.clip(centre, low, high)
        return augment(
            one.image, one.target, one.weight, centre, self.sampling.tile_px, self.sampling.augmentation, rng
        )


def _longest_gap(missing: Sequence[int]) -> int:
    """Length of the longest row of consecutive slices among `missing`."""
    longest = run = 0
    for i, z in enumerate(sorted(missing)):
        run = run + 1 if i and z == sorted(missing)[i - 1] + 1 else 1
        longest = max(longest, run)
    return longest


def _coverage(slices: Sequence[LabelledSlice]) -> list[float]:
    """Share of the labelled area that each class covers."""
    found = sum((one.target * one.weight).sum((1, 2)) for one in slices)
    seen = sum(one.weight.sum((1, 2)) for one in slices)
    return [float(a / b) if b else 0.0 for a, b in zip(np.atleast_1d(found), np.atleast_1d(seen), strict=True)]


def _pixels_of(slices: Sequence[LabelledSlice], index: int) -> list[tuple[int, np.ndarray]]:
    spots = []
    for where, one in enumerate(slices):
        pixels = np.argwhere((one.target[index] >= 0.5) & (one.weight[index] > 0))
        if len(pixels):
            spots.append((where, pixels))
    return spots
