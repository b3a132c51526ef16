"""Damaged files of every importer: a sentence or a volume, never a traceback, a hang or a huge allocation.

Files are cut short and have bits flipped, by a seed that the number of the case is. A short run is made each time, a
thousand cases of each importer where slow tests run.
"""

from __future__ import annotations

import signal
import tracemalloc
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from format_files import IMAGES, LABELS, SHAPE, SIZE

from cristae.errors import CristaeError
from cristae.geometry import Box
from cristae.io.images import open_images
from cristae.io.label_rules import LabelRules
from cristae.io.labels import open_labels

MOST_BYTES = 64 * 2**20
MOST_SECONDS = 10
N_QUICK, N_SLOW = 40, 1000


def spoilt(raw: bytes, seed: int) -> bytes:
    """Return a file that is cut, or has bits flipped or spans overwritten, most often in its header."""
    random = np.random.default_rng(seed)
    values = np.frombuffer(raw, np.uint8).copy()
    kind = random.integers(5)
    if kind == 0:
        return raw[: int(random.integers(len(raw)))]
    reach = len(values) if kind in (1, 3) else min(len(values), 1200)
    if kind in (1, 2):
        for place in random.integers(0, reach, int(random.integers(1, 9))):
            values[place] ^= 1 << int(random.integers(8))
    else:
        start = int(random.integers(reach))
        values[start : start + int(random.integers(1, 9))] = random.choice([0, 255, 127, int(random.integers(256))])
    return values.tobytes()


@contextmanager
def at_most(seconds: int):
    def stop(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_some(path: Path, labels: bool) -> None:
    if labels:
        source = open_labels(path, SHAPE, LabelRules({"nucleus": None}))
        assert len(source.pages) == SHAPE[0]
        source.check()
        return
    volume = open_images(path, SIZE).volume
    depth, height, width = volume.shape
    first = volume.read(Box((0, 0, 0), (min(2, depth), min(64, height), min(64, width))))
    assert first.shape == (min(2, depth), min(64, height), min(64, width))
    assert first.dtype in (np.uint8, np.uint16)


def refused_or_read(path: Path, seeds: range, labels: bool) -> int:
    """Return how many of the spoilt files were refused."""
    raw, n_refused = path.read_bytes(), 0
    target = path.with_name(f"spoilt-{path.name}")
    tracemalloc.start()
    try:
        for seed in seeds:
            target.write_bytes(spoilt(raw, seed))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                with at_most(MOST_SECONDS), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read_some(target, labels)
            except CristaeError as error:
                assert target.name in str(error), f"case {seed}: {error}"
                assert "\n" not in str(error)
                n_refused += 1
            except Exception as error:
                raise AssertionError(f"case {seed} of {path.name} ended with {error!r}") from error
            used = tracemalloc.get_traced_memory()[1] - before
            assert used < MOST_BYTES, f"case {seed} of {path.name} took {used} bytes"
    finally:
        tracemalloc.stop()
    return n_refused


CASES = [(name, False) for name in IMAGES] + [(name, True) for name in LABELS]


@pytest.mark.parametrize(("name", "labels"), CASES)
def test_damaged_files_are_refused_or_read(tmp_path, name, labels):
    path = (LABELS if labels else IMAGES)[name](tmp_path)
    read_some(path, labels)
    assert refused_or_read(path, range(N_QUICK), labels) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "labels"), CASES)
def test_a_thousand_damaged_files_are_refused_or_read(tmp_path, name, labels):
    path = (LABELS if labels else IMAGES)[name](tmp_path)
    assert refused_or_read(path, range(N_QUICK, N_QUICK + N_SLOW), labels) > N_SLOW // 20
