"""What sections of the report are made of: pictures with their words, legends, and the writer that keeps the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cristae.geometry import Box
from cristae.volume import Volume


@dataclass(frozen=True)
class Picture:
    """A file of the report with the words that belong to it."""

    file: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Key:
    """One entry of a legend; `style` is ``fill`` or ``outline``."""

    colour: str
    style: str
    text: str


@dataclass(frozen=True)
class Section:
    """Pictures of one subject with their legend."""

    title: str
    legend: tuple[Key, ...]
    pictures: tuple[Picture, ...]


class Writer:
    """Numbers the files of a report; names of classes never become names of files."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._n = folder, 0

    def figure(self, svg: str, alt: str, caption: str) -> Picture:
        """Keep a diagram."""
        name = self._next("figure", "svg")
        (self._folder / name).write_text(svg, encoding="utf-8")
        return Picture(name, alt, caption)

    def slice(self, jpeg: bytes, alt: str, caption: str) -> Picture:
        """Keep a picture of a slice."""
        name = self._next("slice", "jpg")
        (self._folder / name).write_bytes(jpeg)
        return Picture(name, alt, caption)

    def _next(self, kind: str, ending: str) -> str:
        self._n += 1
        return f"{kind}-{self._n:02d}.{ending}"


def read_slice(volume: Volume, z: int) -> np.ndarray:
    """Return slice `z` of a volume, ``(y, x)``."""
    _, height, width = volume.shape
    return volume.read(Box((z, 0, 0), (z + 1, height, width)))[0]
