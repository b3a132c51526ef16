"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machine that runs the tests may be slow or busy; a deadline would fail tests at random.
settings.register_profile("cristae", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cristae")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real data: ``$CRISTAE_DATA`` or ``../shared/data`` beside the repository; the test skips without."""
    stated = os.environ.get("CRISTAE_DATA")
    folder = Path(stated) if stated else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set CRISTAE_DATA")
    return folder
