"""What sections of the report are made of: pictures with their words, legends, and the writer that keeps the files."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cristae.geometry import Box
from cristae.volume import Volume


@dataclass(frozen=True)
class Picture:
    """A file of the report with the words that belong to it; a page shows `source` in its place, if any."""

    file: str
    alt: str
    caption: str
    source: str = ""


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
    """Numbers the files of a report; names of classes never become names of files.

    With `embed`, pages hold the pictures themselves, so that a page can be handed on without its folder.
    """

    def __init__(self, folder: Path, embed: bool = False) -> None:
        self._folder, self._embed, self._n = folder, embed, 0

    def figure(self, svg: str, alt: str, caption: str) -> Picture:
        """Keep a diagram."""
        name = self._next("figure", "svg")
        content = svg.encode("utf-8")
        (self._folder / name).write_bytes(content)
        return Picture(name, alt, caption, self._source(name, "svg+xml", content))

    def slice(self, jpeg: bytes, alt: str, caption: str) -> Picture:
        """Keep a picture of a slice."""
        name = self._next("slice", "jpg")
        (self._folder / name).write_bytes(jpeg)
        return Picture(name, alt, caption, self._source(name, "jpeg", jpeg))

    def _source(self, name: str, kind: str, content: bytes) -> str:
        if not self._embed:
            return ""
        return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"

    def _next(self, kind: str, ending: str) -> str:
        self._n += 1
        return f"{kind}-{self._n:02d}.{ending}"


def read_slice(volume: Volume, z: int) -> np.ndarray:
    """Return slice `z` of a volume, ``(y, x)``."""
    _, height, width = volume.shape
    return volume.read(Box((z, 0, 0), (z + 1, height, width)))[0]
