"""Pictures of slices for the report: the micrograph with truth, prediction or labels drawn over it.

::

    prediction and truth    sky blue              right
    prediction only         vermillion            invented
    truth only              bare, inside the      missed
                            yellow outline
    doubt               vermillion to yellow  two networks differ

Pictures go out as JPEG: a micrograph is mostly noise, which PNG stores at five times the size.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from cristae.palette import ORANGE, SKY, VERMILLION, YELLOW, rgb

LONGEST = 1024
"""Pixels of the longer side of a picture, at most."""
SHORTEST = 480
"""A picture whose longer side is less than this is enlarged to it."""
HEAT = (VERMILLION, ORANGE, YELLOW)
"""Colours of little, of middling and of much doubt: ever lighter, so that they are in order without hues too."""
HEAT_END = 0.6
"""Doubt (0–1) from which on there is no lighter colour; the middle one is half way."""
_IGNORE = 255
FONT = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # Pillow's own has no µ
"""Letters of all pictures."""
_BAR_NM = tuple(digit * 10.0**power for power in range(0, 8) for digit in (1, 2, 5))


@dataclass(frozen=True)
class Slice:
    """One slice of the image with what is known of it.

    Parameters
    ----------
    image
        ``(y, x)`` grey values of any type.
    pixel_nm
        Pixel size along y and x in nm.
    truth
        uint8 ``(y, x)``: 1 the class, 0 not, 255 nobody looked; None without truth.
    predicted
        bool ``(y, x)``; None without prediction.
    labels
        Per colour (``#rrggbb``), labels of one class as in `truth`, for pictures of the annotations.
    """

    image: np.ndarray
    pixel_nm: tuple[float, float]
    truth: np.ndarray | None = None
    predicted: np.ndarray | None = None
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)


def draw(content: Slice) -> bytes:
    """Return a slice and all that lies over it as a JPEG with a scale bar, at most `LONGEST` pixels long."""
    size = picture_size(content.image.shape, content.pixel_nm)
    grey = grey_picture(content.image, size)
    canvas = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    truth = None if content.truth is None else _resize_mask(content.truth == 1, size)
    if content.predicted is not None:
        predicted = _resize_mask(content.predicted, size)
        right = predicted if truth is None else predicted & truth
        _tint(canvas, right, SKY, 0.38)
        _tint(canvas, predicted & ~right, VERMILLION, 0.6)
        if truth is None:
            _tint(canvas, outline(predicted), SKY, 1.0)
    if truth is not None:
        _tint(canvas, outline(truth), YELLOW, 1.0)
    for colour, labels in content.labels.items():
        mask = _resize_mask(labels == 1, size)
        _tint(canvas, mask, colour, 0.3)
        _tint(canvas, outline(mask), colour, 1.0)
    layers = [content.truth] if content.truth is not None else list(content.labels.values())
    if layers:
        unseen = np.logical_and.reduce([layer == _IGNORE for layer in layers])
        canvas[_resize_mask(unseen, size)] *= 0.5
    return _finished(canvas, content)


def draw_doubt(content: Slice, doubt: np.ndarray) -> bytes:
    """Return a slice with the outline of the prediction and a heat of doubt over it, as a JPEG with a scale bar.

    Parameters
    ----------
    content
        The slice; of what lies over it only `Slice.predicted` is drawn.
    doubt
        uint8 ``(y, x)``: 0 bare, higher the more of `HEAT` covers the micrograph.
    """
    size = picture_size(content.image.shape, content.pixel_nm)
    canvas = np.repeat(grey_picture(content.image, size)[..., None], 3, axis=2).astype(np.float32) * 0.8
    share = _resize(doubt, size).astype(np.float32)[..., None] / 255
    place = 2 * np.minimum(1, share / HEAT_END)
    low, middle, high = (np.array(rgb(colour), np.float32) for colour in HEAT)
    heat = np.where(place < 1, low + (middle - low) * place, middle + (high - middle) * (place - 1))
    cover = np.minimum(1, 1.25 * np.sqrt(share))  # little doubt is to be seen, too
    canvas = (1 - cover) * canvas + cover * heat
    if content.predicted is not None:
        _tint(canvas, outline(_resize_mask(content.predicted, size), 1), SKY, 1.0)
    return _finished(canvas, content)


def grey_picture(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a slice as uint8 of `size` (width and height), the darkest and brightest 0.3 % cut off."""
    return _resize(_stretch(image), size)


def picture_size(shape: Sequence[int], pixel_nm: tuple[float, float]) -> tuple[int, int]:
    """Return width and height in pixels of the picture of a slice ``(y, x)``, in true proportions."""
    width, height = _in_proportion(shape, pixel_nm)
    longest = max(height, width)
    scale = min(LONGEST, max(SHORTEST, longest)) / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def true_size(shape: Sequence[int], pixel_nm: tuple[float, float], longest: int) -> tuple[int, int]:
    """Return width and height of a slice ``(y, x)`` in true proportions, reduced to `longest` pixels if it has more."""
    width, height = _in_proportion(shape, pixel_nm)
    scale = min(1.0, longest / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _in_proportion(shape: Sequence[int], pixel_nm: tuple[float, float]) -> tuple[float, float]:
    """Return width and height in pixels as wide and high as the finer of the two sides of a pixel."""
    finest = min(pixel_nm)
    return shape[1] * pixel_nm[1] / finest, shape[0] * pixel_nm[0] / finest


def outline(mask: np.ndarray, thickness: int = 2) -> np.ndarray:
    """Return the outermost pixels of a bool mask ``(y, x)``; the edge of the picture is no outline."""
    return np.asarray(mask & ~binary_erosion(mask, iterations=thickness, border_value=1))


def bar_length_nm(width_nm: float) -> float:
    """Return the length of a scale bar: 1, 2 or 5 times a power of ten, at most a quarter of the width."""
    return max((length for length in _BAR_NM if length <= width_nm / 4), default=_BAR_NM[0])


def length_in_words(*lengths_nm: float) -> str:
    """Return lengths in the unit that suits the longest, such as ``500 nm`` or ``0.8 × 2 µm``."""
    longest = max(lengths_nm)
    factor, unit = (1e6, "mm") if longest >= 1e6 else (1e3, "µm") if longest >= 1e3 else (1.0, "nm")
    return " × ".join(f"{length / factor:.4g}" for length in lengths_nm) + f" {unit}"


def choose_slices(rows: pd.DataFrame, n: int) -> dict[int, str]:
    """Choose the slices of one class that a reader should see.

    Parameters
    ----------
    rows
        Per-slice scores of slices not used for training: ``z``, ``dice``, ``n_truth``, ``n_predicted``.
    n
        How many at most.

    Returns
    -------
    dict
        Ascending z with the reason: the worst by Dice, the best, and others evenly spread between the ends.
        Slices on which there is nothing and nothing was predicted are left out.
    """
    rows = rows[(rows["n_truth"] > 0) | (rows["n_predicted"] > 0)]
    if not len(rows) or n < 1:
        return {}
    # of equal Dice, the slice with more to see
    ranked = rows.assign(size=rows["n_truth"] + rows["n_predicted"]).sort_values(["dice", "size"])
    worst, best = int(ranked["z"].iloc[0]), int(ranked["z"].iloc[-1])
    chosen = dict([(worst, "worst of the scored slices"), (best, "best of the scored slices")][: min(n, len(rows))])
    rest = [int(z) for z in sorted(rows["z"]) if int(z) not in chosen]
    chosen |= dict.fromkeys(spread(rest, n - len(chosen)), "one of several evenly spread slices")
    return dict(sorted(chosen.items()))


def spread(values: Sequence[int], n: int) -> list[int]:
    """Return at most `n` of the values, evenly spread, the middles of n equal parts."""
    n = min(n, len(values))
    return [values[int((i + 0.5) * len(values) / n)] for i in range(n)]


def _stretch(image: np.ndarray) -> np.ndarray:
    """Return grey values as uint8, the darkest and brightest 0.3 % cut off."""
    values = image.astype(np.float32)
    low, high = np.percentile(values, (0.3, 99.7))
    return np.rint(np.clip((values - low) / max(float(high - low), 1e-6), 0, 1) * 255).astype(np.uint8)


def _resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    enlarges = size[0] > values.shape[1]
    method = Image.Resampling.BICUBIC if enlarges else Image.Resampling.BOX
    return np.asarray(Image.fromarray(values).resize(size, method))


def _resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    enlarges = size[0] > mask.shape[1]
    method = Image.Resampling.NEAREST if enlarges else Image.Resampling.BOX
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, method)) >= 128


def _tint(canvas: np.ndarray, mask: np.ndarray, colour: str, strength: float) -> None:
    canvas[mask] = (1 - strength) * canvas[mask] + strength * np.array(rgb(colour), np.float32)


def _finished(canvas: np.ndarray, content: Slice) -> bytes:
    picture = Image.fromarray(np.rint(canvas).astype(np.uint8))
    add_scale_bar(picture, content.pixel_nm[1] * content.image.shape[1] / picture.size[0])
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=86, subsampling=0, optimize=True)
    return buffer.getvalue()


def add_scale_bar(picture: Image.Image, nm_per_pixel: float) -> None:
    """Draw a scale bar into the lower right corner of a picture."""
    width, height = picture.size
    length_nm = bar_length_nm(width * nm_per_pixel)
    length = round(length_nm / nm_per_pixel)
    unit = max(5, round(math.sqrt(width * height) / 100))
    words, font = length_in_words(length_nm), ImageFont.truetype(str(FONT), 3 * unit)
    pen = ImageDraw.Draw(picture)
    half = max(length, round(pen.textlength(words, font=font))) / 2 + unit
    middle, top = width - unit - half, height - 7 * unit
    pen.rectangle((middle - half, top, middle + half, height - unit), fill="black")
    pen.text((middle, top + 2 * unit), words, fill="white", anchor="mm", font=font)
    pen.rectangle((middle - length / 2, top + 4 * unit, middle + length / 2, top + 5 * unit - 1), fill="white")
