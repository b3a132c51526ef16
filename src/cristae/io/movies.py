"""Movies from frames: MP4 through the ffmpeg that is on this machine, GIF without any.

cristae ships no ffmpeg: builds that make H.264, which all programs play, are under the GPL. One that is on the PATH is
used, or that of the package imageio-ffmpeg where it is installed.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from cristae.errors import DataError, ResourceError


def find_ffmpeg() -> str | None:
    """Return the path of an ffmpeg, or None."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        return str(import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError, AttributeError):
        return None


def write_mp4(path: Path, frames: Iterable[np.ndarray], frames_per_second: float, ffmpeg: str) -> None:
    """Write frames uint8 ``(h, w, 3)`` as H.264 that browsers and slides play.

    Raises
    ------
    DataError
        If there are no frames.
    ResourceError
        If ffmpeg fails; what it says is passed on.
    """
    first, frames = _peek(frames)
    height, width = first.shape[:2]
    partial = path.with_name(f".{path.stem}.partial.mp4")
    command = [ffmpeg, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", f"{frames_per_second:g}", "-i", "-", "-an", "-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2"]
    command += ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(partial)]
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, stdout=words, stderr=words)
        except OSError as error:
            hint = "write a GIF instead: --set render.movie_format=gif"
            raise ResourceError(f"{ffmpeg} cannot be run ({error}); {hint}") from error
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # it says below why it stopped
                for frame in frames:
                    pipe.write(np.ascontiguousarray(frame).tobytes())
        except BaseException:
            process.kill()
            process.wait()
            partial.unlink(missing_ok=True)
            raise
        code = process.wait()
        words.seek(0)
        said = words.read().decode(errors="replace").strip()
    if code or not partial.is_file():
        partial.unlink(missing_ok=True)
        raise ResourceError(
            f"{ffmpeg} failed with code {code}: {said[-300:] or 'it said nothing'}; write a GIF instead: "
            "--set render.movie_format=gif"
        )
    partial.replace(path)


def write_gif(path: Path, frames: Iterable[np.ndarray], frames_per_second: float) -> None:
    """Write frames uint8 ``(h, w, 3)`` as a GIF that plays for ever, with 256 colours chosen for each frame.

    Raises
    ------
    DataError
        If there are no frames.
    """
    _, frames = _peek(frames)
    pages = (Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in frames)
    partial = path.with_name(f".{path.stem}.partial.gif")
    # Times of a GIF are hundredths of a second; programs show anything below two of them slowly.
    pause = max(20, round(100 / frames_per_second) * 10)
    next(pages).save(partial, "GIF", save_all=True, append_images=pages, duration=pause, loop=0)
    partial.replace(path)


def _peek(frames: Iterable[np.ndarray]) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    later = iter(frames)
    first = next(later, None)
    if first is None:
        raise DataError("a movie needs at least one frame")
    return first, chain([first], later)
