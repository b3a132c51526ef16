"""Movies: with an ffmpeg, with one that fails, and with none."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cristae.errors import DataError, ResourceError
from cristae.io.movies import find_ffmpeg, write_gif, write_mp4

FRAMES = [np.full((33, 40, 3), (60 * i, 0, 200), np.uint8) for i in range(4)]


def program(folder: Path, body: str) -> str:
    path = folder / "ffmpeg"
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_gif_has_all_frames_and_plays_for_ever(tmp_path) -> None:
    write_gif(tmp_path / "movie.gif", iter(FRAMES), 20)
    with Image.open(tmp_path / "movie.gif") as movie:
        assert movie.n_frames == len(FRAMES)
        assert movie.info["loop"] == 0
        assert movie.info["duration"] == 50
    assert [path.name for path in tmp_path.iterdir()] == ["movie.gif"]


def test_frames_reach_ffmpeg_as_they_are(tmp_path) -> None:
    keep = "Path(sys.argv[-1]).write_bytes(' '.join(sys.argv).encode() + b'|' + sys.stdin.buffer.read())"
    write_mp4(tmp_path / "movie.mp4", iter(FRAMES), 12.5, program(tmp_path, keep))
    words, _, content = (tmp_path / "movie.mp4").read_bytes().partition(b"|")
    assert b"-s 40x33 -r 12.5" in words
    assert content == b"".join(frame.tobytes() for frame in FRAMES)


def test_what_ffmpeg_says_is_passed_on_and_no_half_movie_is_left(tmp_path) -> None:
    failing = program(tmp_path, "Path(sys.argv[-1]).write_text('half'); sys.exit('Unknown encoder libx264')")
    with pytest.raises(ResourceError, match=r"Unknown encoder libx264.*movie_format=gif"):
        write_mp4(tmp_path / "movie.mp4", FRAMES * 2000, 20, failing)
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_a_program_that_cannot_be_run_is_named(tmp_path) -> None:
    with pytest.raises(ResourceError, match=r"nowhere cannot be run"):
        write_mp4(tmp_path / "movie.mp4", FRAMES, 20, str(tmp_path / "nowhere"))


def test_a_movie_needs_a_frame(tmp_path) -> None:
    for write in (lambda: write_gif(tmp_path / "m.gif", [], 20), lambda: write_mp4(tmp_path / "m.mp4", [], 20, "x")):
        with pytest.raises(DataError, match="at least one frame"):
            write()


def test_ffmpeg_is_looked_for_on_the_path_and_beside(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert find_ffmpeg() is None
    here = program(tmp_path, "")
    assert find_ffmpeg() == here


@pytest.mark.skipif(find_ffmpeg() is None, reason="no ffmpeg on the PATH, and no imageio-ffmpeg")
def test_a_real_movie_is_read_back(tmp_path) -> None:
    write_mp4(tmp_path / "movie.mp4", FRAMES, 20, str(find_ffmpeg()))
    movie = cv2.VideoCapture(str(tmp_path / "movie.mp4"))
    assert movie.get(cv2.CAP_PROP_FRAME_COUNT) == len(FRAMES)
    assert (movie.get(cv2.CAP_PROP_FRAME_WIDTH), movie.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (40, 32)
