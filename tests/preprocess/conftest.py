"""A clean phantom, and a quick way to judge stacks that differ from it in a slice or two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from faulty_stacks import CLEAN, Inspector, render

from cristae.preprocess.verdicts import Verdict, judge


@pytest.fixture(scope="session")
def clean() -> np.ndarray:
    found = render((36, 256, 256), seed=0, **CLEAN)
    found.flags.writeable = False
    return found


@pytest.fixture(scope="session")
def inspect() -> Inspector:
    return Inspector()


@pytest.fixture(scope="session")
def verdict(inspect) -> Callable[..., Verdict]:
    """Judge a stack of cubic voxels, or of another anisotropy."""
    return lambda stack, anisotropy=1.0, **rules: judge(inspect(stack), anisotropy, **rules)
