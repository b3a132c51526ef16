"""Which networks the benchmarks of real data compare."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

Compare = Callable[[Path], tuple[tuple[str, ...], str]]


@pytest.fixture
def to_compare(monkeypatch) -> Compare:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return importlib.import_module("benchmarks.studies").networks_to_compare


def dices(**means: tuple[float, float]) -> dict[str, dict[str, dict[str, float]]]:
    """Means of two classes by network, the same for each scheme; cps alone does not count."""
    found = {}
    for network, (one, other) in means.items():
        for scheme in ("supervised", "cps_cutmix"):
            found[f"{network} {scheme}"] = {"a": {"mean": one}, "b": {"mean": other}}
        found[f"{network} cps"] = {"a": {"mean": 1 - one}, "b": {"mean": 1 - other}}
    return {"details": {"dice_3d": found}}


def test_the_two_best_others_are_those_of_the_committed_study(to_compare: Compare, tmp_path: Path) -> None:
    row = dices(
        resunet=(0.9, 0.9),
        unetplusplus=(0.5, 0.5),
        unetplusplus_plain=(0.95, 0.95),
        setr_pup=(0.8, 0.6),
        setr_mla=(0.9, 0.6),
        senformer=(0.6, 0.6),
        ceecnet_v1=(0.5, 0.8),
        ceecnet_v2=(0.2, 0.2),
    )
    path = tmp_path / "study_phantom.json"
    path.write_text(json.dumps(row))
    networks, words = to_compare(path)
    assert networks == ("resunet", "unetplusplus", "setr_mla", "ceecnet_v1")
    assert words.endswith("the two best others of study_phantom: setr_mla (0.750), ceecnet_v1 (0.650)")


def test_without_that_study_the_quickest_stand_in_and_the_row_says_so(to_compare: Compare, tmp_path: Path) -> None:
    networks, words = to_compare(tmp_path / "study_phantom.json")
    assert networks == ("resunet", "unetplusplus", "transunet", "senformer")
    assert "quickest, for study_phantom has not been measured" in words
