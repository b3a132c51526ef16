"""Findings in plain words: what each fault is called, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from cristae.preprocess.stack import Stack

TITLES: Final[Mapping[str, str]] = {
    "missing": "missing",
    "duplicated": "duplicated",
    "shuffled": "out of order",
    "gap": "slices lacking",
    "out_of_focus": "out of focus",
    "charging": "charging",
    "curtaining": "curtaining",
    "saturated": "saturated",
    "padding": "padding",
    "brightness": "brightness",
    "contrast": "contrast",
    "shift": "shifted",
    "drift": "drift",
    "voxel_size": "voxel size",
}
"""Names of the kinds of fault."""
ADVICE: Final[Mapping[str, str]] = {
    "missing": "nothing to do: missing slices are bridged",
    "duplicated": "look for the slice that was to stand here; else exclude the copy",
    "shuffled": "put the files in order and import again; else exclude these slices",
    "gap": "look for the lost slices; if they are gone, put empty ones in their place, so that distances are right",
    "strangers": "if these are selected slices, expect little of what compares neighbours (cells, track); else look at "
    "the order of the files",
    "out_of_focus": "exclude them from learning and measuring",
    "charging": "exclude them, or live with it if the halo lies outside of what you measure",
    "curtaining": "mild stripes do no harm; exclude slices in which they cross what you measure",
    "saturated": "image with a wider range if you can; texture of clipped pixels is lost",
    "padding": "nothing to do: padding is left out of statistics; crop it to save space",
    "brightness": "nothing to do for segmentation, which evens it out; equalise before texture is measured",
    "contrast": "nothing to do for segmentation, which evens it out; equalise before texture is measured",
    "shift": "align the stack",
    "drift": "align the stack",
    "voxel_size": "compare with the microscope's settings; if it is wrong, correct voxel_size_nm in project.toml and "
    "import again",
}
"""What to do, by kind of fault."""


def _worst(values: np.ndarray, slices: Sequence[int]) -> float:
    return float(np.nanmax(values[list(slices)]))


def _missing(stack: Stack, slices: Sequence[int]) -> str:
    return "nothing was imaged: one grey value throughout"


def _duplicated(stack: Stack, slices: Sequence[int]) -> str:
    of = [int(stack.same[z]) if stack.same[z] >= 0 else int(z - stack.copy_lag[z]) for z in slices]
    return f"the same exposure as slice {', '.join(map(str, of[:6]))}{', ...' * (len(of) > 6)}"


def _out_of_focus(stack: Stack, slices: Sequence[int]) -> str:
    return "fine structures are blurred"


def _charging(stack: Stack, slices: Sequence[int]) -> str:
    return "a halo of charge, blown out against the slices around it"


def _curtaining(stack: Stack, slices: Sequence[int]) -> str:
    chosen = list(slices)
    vertical = stack.stripes[chosen].max() >= stack.rows[chosen].max()
    strength = max(_worst(stack.stripes, slices), _worst(stack.rows, slices))
    return f"{'vertical' if vertical else 'horizontal'} stripes, up to {strength:.2f} of the contrast"


def _saturated(stack: Stack, slices: Sequence[int]) -> str:
    dark, bright = _worst(stack.dark, slices), _worst(stack.bright, slices)
    end = "brightest" if bright >= dark else "darkest"
    return f"grey values are clipped: up to {100 * max(dark, bright):.1f} % of pixels have the {end} value"


def _padding(stack: Stack, slices: Sequence[int]) -> str:
    return f"padded with zeros, up to {100 * _worst(stack.padding, slices):.1f} % of a slice"


def _brightness(stack: Stack, slices: Sequence[int]) -> str:
    return "brighter or darker than the slices around"


def _contrast(stack: Stack, slices: Sequence[int]) -> str:
    return "more or less contrast than the slices around"


WORDS: Final[Mapping[str, Callable[[Stack, Sequence[int]], str]]] = {
    "missing": _missing,
    "duplicated": _duplicated,
    "out_of_focus": _out_of_focus,
    "charging": _charging,
    "curtaining": _curtaining,
    "saturated": _saturated,
    "padding": _padding,
    "brightness": _brightness,
    "contrast": _contrast,
}
"""What is wrong with slices, by kind of fault, where one sentence does for all of them."""
