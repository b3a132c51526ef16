"""Damaged files of every importer: a sentence or a volume, never a traceback, a hang or a huge allocation.

Files are cut short and have bits flipped, by a seed that the number of the case is. A short run is made each time, a
thousand cases of each importer where slow tests run. Where a checksum covers the damage, what is read must be what was
written.
"""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import tracemalloc
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from format_files import FOLDERS, IMAGES, LABELS, SHAPE, SIZE

from cristae.errors import CristaeError
from cristae.geometry import Box
from cristae.io.images import open_images
from cristae.io.label_rules import LabelRules
from cristae.io.labels import open_labels

MOST_BYTES = 64 * 2**20
MOST_MAPPED = 2**31
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


def read_some(path: Path, labels: bool) -> list[np.ndarray]:
    """Return what was read: all labels, or images as far as they reach in memory that a test may take."""
    if labels:
        source = open_labels(path, SHAPE, LabelRules({"nucleus": None}))
        assert len(source.pages) == SHAPE[0]
        source.check()
        return [found.layers["nucleus"] for found in source.slices()]
    volume = open_images(path, SIZE).volume
    depth, height, width = volume.shape
    shape = (min(SHAPE[0], depth), min(64, height), min(64, width))
    first = volume.read(Box((0, 0, 0), shape))
    assert first.shape == shape
    assert first.dtype in (np.uint8, np.uint16)
    return [first]


def same(some: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return len(some) == len(others) and all(map(np.array_equal, some, others))


UNPROTECTED = {
    "nifti.gz": lambda raw: 0,
    "nrrd gzip": lambda raw: raw.index(b"\n\n") + 2,
    "nrrd bzip2": lambda raw: raw.index(b"\n\n") + 2,
}
"""How many bytes at the beginning of a file its checksum does not cover."""


def protected_from(name: str, file: Path, raw: bytes) -> int | None:
    """Return from where on in a file no damage may be read as other voxels; None where there is no checksum."""
    if name in UNPROTECTED:
        return UNPROTECTED[name](raw)
    return 0 if "c" in file.parts[-6:] else None  # chunks of Zarr


def refused_or_read(name: str, path: Path, seeds: range, labels: bool) -> int:
    """Return how many of the spoilt files were refused."""
    n_refused = 0
    target = path.with_name(f"spoilt-{path.name}")
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)
    files = sorted(file for file in target.rglob("*") if file.is_file()) or [target]
    contents = [file.read_bytes() for file in files]
    whole = read_some(path, labels)
    tracemalloc.start()
    try:
        for seed in seeds:
            file, raw = files[seed % len(files)], contents[seed % len(files)]
            content = spoilt(raw, seed)
            file.write_bytes(content)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            print(f"case {seed} of {file}", flush=True)  # to be seen where the process does not come back
            try:
                with at_most(MOST_SECONDS), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = read_some(target, labels)
                start = protected_from(name, file, raw)
                if start is not None and content[:start] == raw[:start] and len(content) >= start:
                    assert same(found, whole), f"case {seed} of {file} is read as other voxels"
            except CristaeError as error:
                assert target.name in str(error), f"case {seed}: {error}"
                assert "\n" not in str(error)
                n_refused += 1
            except AssertionError:
                raise
            except Exception as error:
                raise AssertionError(f"case {seed} of {file} ended with {error!r}") from error
            used = tracemalloc.get_traced_memory()[1] - before
            assert used < MOST_BYTES, f"case {seed} of {file} took {used} bytes"
            file.write_bytes(raw)
    finally:
        tracemalloc.stop()
    return n_refused


CASES = [(name, False) for name in IMAGES] + [(name, True) for name in LABELS]


@pytest.mark.parametrize(("name", "labels"), CASES)
def test_damaged_files_are_refused_or_read(tmp_path, name, labels):
    path = (LABELS if labels else IMAGES)[name](tmp_path)
    assert refused_or_read(name, path, range(N_QUICK), labels) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "labels"), CASES)
def test_a_thousand_damaged_files_are_refused_or_read(tmp_path, name, labels):
    path = (LABELS if labels else IMAGES)[name](tmp_path)
    assert refused_or_read(name, path, range(N_QUICK, N_QUICK + N_SLOW), labels) > N_SLOW // 20


def spoil_folders(folder: Path, names: list[str], seeds: range) -> None:
    """Spoil files of folders in a process with little memory: compiled codecs end it where they cannot have more."""
    for name in names:
        make, labels = FOLDERS[name]
        path = make(folder)
        read_some(path, labels)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_MAPPED, resource.RLIM_INFINITY))
        assert refused_or_read(name, path, seeds, labels) > len(seeds) // 20


def in_little_memory(folder: Path, names: list[str], seeds: range, seconds: int) -> None:
    script = (
        "from pathlib import Path; from test_damaged_files import spoil_folders; "
        f"spoil_folders(Path({str(folder)!r}), {names!r}, {seeds!r})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        timeout=seconds,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-200:] + ended.stderr[-3000:]


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much memory is mapped is not known")


@needs_proc
def test_folders_with_a_damaged_file_are_refused_or_read(tmp_path):
    in_little_memory(tmp_path, list(FOLDERS), range(N_QUICK), 120)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_a_thousand_folders_with_a_damaged_file_are_refused_or_read(tmp_path, name):
    in_little_memory(tmp_path, [name], range(N_QUICK, N_QUICK + N_SLOW), 900)
