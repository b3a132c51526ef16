from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from cristae.allocation import keep_freed_memory

FAULTS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from cristae.allocation import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def work():
    np.ones(10_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(work() if sys.argv[2] == "main" else ThreadPoolExecutor(1).submit(work).result())
"""


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.libc_ver()[0] != "glibc", reason="the allocator is that of Linux and glibc"
)
@pytest.mark.parametrize("thread", ["main", "other"])
def test_freed_memory_is_used_again_without_asking_the_kernel(thread):
    def run(how):
        command = [sys.executable, "-c", FAULTS, how, thread]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    faults = {how: run(how) for how in ("kept", "given back")}
    assert faults["given back"] > 300  # at least one per huge page of 2 MB, fifteen thousand without such pages
    assert faults["kept"] < faults["given back"] / 10


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert keep_freed_memory() is False
