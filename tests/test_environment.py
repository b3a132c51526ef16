"""What is said of the machine, and of this process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cristae.environment import peak_memory_mb

TELL = "from cristae.environment import peak_memory_mb; print(peak_memory_mb())"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system counts otherwise")
def test_a_process_does_not_inherit_the_peak_of_the_one_that_started_it() -> None:
    before = peak_memory_mb()
    assert np.ones(60_000_000).sum() > 0
    peak = peak_memory_mb()
    assert peak >= before and peak > 450
    told = subprocess.run([sys.executable, "-c", TELL], capture_output=True, text=True, check=True)
    assert 10 < float(told.stdout) < 300
