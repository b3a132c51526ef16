"""A stack as its slices were measured, one number or row per slice, and what a finding is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cristae.preprocess.inspect import Fit, Look

KINDS = (
    "missing",
    "duplicated",
    "shuffled",
    "gap",
    "out_of_focus",
    "charging",
    "curtaining",
    "saturated",
    "padding",
    "brightness",
    "contrast",
    "shift",
    "drift",
    "voxel_size",
)
"""What can be wrong, the worst first."""
NUMBERS = ("brightness", "contrast", "dark", "bright", "padding", "stripes", "rows", "sharpness", "noise")
"""Measures that are one number per slice."""
SEVERE = frozenset({"missing", "duplicated", "shuffled", "out_of_focus", "charging"})
"""Kinds that make a slice unfit to learn or measure from; the others can be mended or lived with."""
_FARTHEST = 6e4
"""Largest number of the grid, in contrasts."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Measures of all slices of a stack; see `cristae.preprocess.inspect` for each.

    Parameters
    ----------
    blank
        bool ``(n,)``.
    brightness, contrast, dark, bright, padding, stripes, rows, sharpness, noise
        float64 ``(n,)``.
    grid
        float32 ``(n, y, x)``.
    likeness
        float64 ``(n, lags)``: to the slices before.
    shift
        float64 ``(n, 2)``: along y and x in pixels, from the slice before.
    copy, copy_lag
        float64 and int64 ``(n,)``.
    same
        int64 ``(n,)``: first slice with the same pixels, -1 where there is none before.
    own
        float64 ``(distances,)``: likeness of a slice to itself moved by so many reduced pixels, the median of all.
    factor
        Pixels per reduced pixel.
    chance
        Likeness of slices that have nothing to do with each other.
    """

    blank: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    dark: np.ndarray
    bright: np.ndarray
    padding: np.ndarray
    stripes: np.ndarray
    rows: np.ndarray
    sharpness: np.ndarray
    noise: np.ndarray
    grid: np.ndarray
    likeness: np.ndarray
    shift: np.ndarray
    copy: np.ndarray
    copy_lag: np.ndarray
    same: np.ndarray
    own: np.ndarray
    factor: int
    chance: float

    def __len__(self) -> int:
        return len(self.blank)

    @property
    def usable(self) -> np.ndarray:
        """Slices that others can be set against, bool ``(n,)``: imaged, and not mostly padding."""
        return ~self.blank & (self.padding < 0.5)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Parameters
    ----------
    kind
        One of `KINDS`.
    slices
        Where, ascending; empty for the volume as a whole.
    score
        How bad, in multiples of what would just be reported: 1 and above.
    words
        What is wrong, as a sentence without the slices.
    advice
        What to do about it.
    """

    kind: str
    slices: tuple[int, ...]
    score: float
    words: str
    advice: str

    @property
    def severe(self) -> bool:
        """Whether such slices had better be excluded."""
        return self.kind in SEVERE

    @property
    def how_bad(self) -> str:
        """The score in a word."""
        if self.severe and self.score >= 2:
            return "severe"
        return "clear" if self.score >= 2 else "mild"


def table_of(looks: Sequence[Look], fits: Sequence[Fit]) -> dict[str, np.ndarray]:
    """Return the measures of some slices as arrays, one row per slice: what is kept of each."""
    names = ("blank", *NUMBERS)
    return {
        **{name: np.array([getattr(one, name) for one in looks]) for name in names},
        "digest": np.stack([np.frombuffer(one.digest, np.uint8) for one in looks]),
        # Bright specks on nothing lie so many contrasts away that half precision has no number for it.
        "grid": np.stack([one.grid for one in looks]).clip(-_FARTHEST, _FARTHEST).astype(np.float16),
        "own": np.stack([one.likeness for one in looks]).astype(np.float32),
        "factor": np.array([one.factor for one in looks]),
        "chance": np.array([one.chance for one in looks]),
        "likeness": np.stack([one.likeness for one in fits]),
        "shift": np.array([(one.shift_y, one.shift_x) for one in fits], np.float64),
        "copy": np.array([one.copy for one in fits], np.float64),
        "copy_lag": np.array([one.copy_lag for one in fits], np.int64),
    }


def stack_of(parts: Sequence[Mapping[str, np.ndarray]]) -> Stack:
    """Return the stack whose slices were measured in parts, each as `table_of` returns it, in the order of z."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    first: dict[bytes, int] = {}
    same = np.array([first.setdefault(one.tobytes(), z) for z, one in enumerate(joined["digest"])])
    imaged, own = ~joined["blank"].astype(np.bool_), joined["own"].astype(np.float64)
    return Stack(
        blank=~imaged,
        **{name: joined[name].astype(np.float64) for name in NUMBERS},
        grid=joined["grid"].astype(np.float32),
        likeness=joined["likeness"],
        shift=joined["shift"],
        copy=joined["copy"],
        copy_lag=joined["copy_lag"],
        same=np.where(same < np.arange(len(same)), same, -1),
        own=np.median(own[imaged], axis=0) if imaged.any() else np.full(own.shape[1], np.nan),
        factor=int(joined["factor"][0]),
        chance=float(joined["chance"].min()),
    )
