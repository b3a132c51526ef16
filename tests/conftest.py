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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: of processes that share files, one that began a long file last works alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
