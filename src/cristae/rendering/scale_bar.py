"""A scale bar of a round length, with its unit, in the corner of a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_FONT = "fonts/ttf/DejaVuSans.ttf"


def round_length(most_nm: float) -> tuple[float, str]:
    """Return the longest of 1, 2 or 5 times a power of ten up to `most_nm`, in nm and in words (µm from 1000 nm).

    Raises
    ------
    ValueError
        If there is none, as `most_nm` is not above 0.
    """
    if not 0 < most_nm < float("inf"):
        raise ValueError(f"expected a length above 0 nm, got {most_nm}")
    power = 10.0 ** np.floor(np.log10(most_nm) + 1e-9)
    length = float(max(step * power for step in (1, 2, 5) if step * power <= most_nm * (1 + 1e-9)))
    return length, f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"


def add_scale_bar(picture: np.ndarray, nm_per_px: float) -> np.ndarray:
    """Return a picture uint8 ``(h, w, 3)`` with a scale bar at the lower right, about a fifth of it long at most.

    It is black on bright ground, white on dark.
    """
    height, width = picture.shape[:2]
    length, words = round_length(nm_per_px * width / 5)
    n_px = max(1, round(length / nm_per_px))
    size = max(10, height // 32)
    ink = (20, 20, 20) if picture[-size:, -size:].mean() > 110 else (240, 240, 240)
    drawn = Image.fromarray(picture)
    pen = ImageDraw.Draw(drawn)
    right, bottom = width - size, height - size
    thick = max(2, height // 200)
    pen.rectangle((right - n_px, bottom - thick, right - 1, bottom - 1), fill=ink)
    font = ImageFont.truetype(Path(mpl.get_data_path()) / _FONT, size)
    pen.text((right - n_px / 2, bottom - 2 * thick), words, fill=ink, font=font, anchor="ms")
    return np.asarray(drawn)
