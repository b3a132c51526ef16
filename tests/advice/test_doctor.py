"""The label doctor finds the label that was spoilt."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from cristae.advice.doctor import sure_disagreement, suspicion
from cristae.advice.expected import LEVELS, expected_dice, true_shares


def _discs(z: int) -> np.ndarray:
    y, x = np.ogrid[:96, :96]
    return ((y - 30 - z) ** 2 + (x - 30) ** 2 < 12**2) | ((y - 66) ** 2 + (x - 60 + z) ** 2 < 15**2)


def _squares(z: int) -> np.ndarray:
    plane = np.zeros((96, 96), bool)
    plane[10:26, 60 - z : 80 - z] = True
    return plane


def _network(truth: np.ndarray, seed: int) -> np.ndarray:
    """Return what a good network says: sure inside and outside, blurred and shifted a little at the outline."""
    generator = np.random.default_rng(seed)
    shifted = np.roll(truth.astype(float), generator.integers(-1, 2, 2), (0, 1))
    return np.clip(255 * gaussian_filter(shifted, 1.2) + generator.normal(0, 4, truth.shape), 0, 255).astype(np.uint8)


SLICES = (0, 4, 8, 12, 16)
BAD = 8


def _spoil(kind: str, labels: dict[str, dict[int, np.ndarray]]) -> None:
    disc, square = labels["disc"], labels["square"]
    if kind == "object dropped":
        disc[BAD][:48] = 0
    elif kind == "of other slices":
        disc[BAD], square[BAD] = _discs(BAD + 9).astype(np.uint8), _squares(BAD + 9).astype(np.uint8)
    elif kind == "classes swapped":
        disc[BAD], square[BAD] = square[BAD], disc[BAD]
    else:
        disc[BAD][70:90, 5:25] = 1


def _left_out(labels: dict[str, dict[int, np.ndarray]]) -> pd.DataFrame:
    rows = []
    for name, of_class in labels.items():
        truth = _discs if name == "disc" else _squares
        levels = {z: _network(truth(z), z) for z in SLICES}
        voxels = {z: np.bincount(levels[z].ravel(), minlength=LEVELS) for z in SLICES}
        true = {z: np.bincount(levels[z].ravel(), of_class[z].ravel(), minlength=LEVELS) for z in SLICES}
        for z in SLICES:
            others = [one for one in SLICES if one != z]
            shares = true_shares(np.stack([voxels[one] for one in others]), np.stack([true[one] for one in others]))
            mask, label = levels[z] >= 128, of_class[z] == 1
            rows.append(
                {
                    "class": name,
                    "z": z,
                    "dice": 2 * (mask & label).sum() / (mask.sum() + label.sum()),
                    "expected_dice": float(expected_dice(voxels[z], shares, 128)),
                    "n_sure_wrong": int(sure_disagreement(levels[z], of_class[z])["n_pixels"].sum()),
                    "n_truth": label.sum(),
                    "n_predicted": mask.sum(),
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("kind", ["object dropped", "of other slices", "classes swapped", "object invented"])
def test_the_spoilt_slice_is_first(kind):
    labels = {
        name: {z: truth(z).astype(np.uint8) for z in SLICES} for name, truth in (("disc", _discs), ("square", _squares))
    }
    before = suspicion(_left_out(labels))
    assert before["suspicion"].max() < 3
    _spoil(kind, labels)
    ranked = suspicion(_left_out(labels))
    assert ranked.iloc[0]["z"] == BAD and ranked.iloc[0]["suspicion"] > 4
    others = ranked[ranked["z"] != BAD]["suspicion"].max()
    assert ranked.iloc[0]["suspicion"] > 2 * others
    assert suspicion(_left_out(labels).sample(frac=1, random_state=3)).equals(ranked)


def test_places_are_named():
    label, probability = _discs(0).astype(np.uint8), _network(_discs(0), 1)
    assert sure_disagreement(probability, label).empty  # outlines do not count
    forgotten = label.copy()
    forgotten[:45] = 0
    found = sure_disagreement(probability, forgotten)
    assert found["kind"].tolist() == ["forgotten"] and found.iloc[0]["probability"] > 0.9
    box = found.iloc[0]
    assert box["y_start"] >= 17 and box["y_stop"] <= 44 and box["x_start"] >= 17 and box["x_stop"] <= 44
    invented = label.copy()
    invented[5:15, 70:90] = 1
    assert sure_disagreement(probability, invented)["kind"].tolist() == ["invented"]
    ignored = np.where(forgotten == 0, np.uint8(255), forgotten)
    assert sure_disagreement(probability, ignored).empty  # nobody looked there


def test_other_input_is_refused():
    plane = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="uint8 of one shape"):
        sure_disagreement(plane, plane[:3])
    with pytest.raises(ValueError, match="sureness"):
        sure_disagreement(plane, plane, sure=0.4)
